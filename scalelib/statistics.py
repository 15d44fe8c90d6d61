"""What can be said of scores over repeats that share most of their images.

Corrected intervals and paired tests. Knows tables only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import special, stats

from scalelib.errors import did_you_mean, require
from scalelib.validation import check_choice

SCORES = frozenset(
    ["channels", "n_train", "n_test", "alpha", "alpha_at_edge", "dof", "r2_train", "r2_test", "mae_test"]
)
WIDENED = 1.4
NEVER_MIXED = ("tap", "estimator", "condition", "measure", "network", "weights", "width")


def interval(units: np.ndarray, share: float, level: float) -> tuple[float, float, float]:
    """Half width of the t interval, standard error and standard deviation of the mean over units; NaN for a single one.

    `share` is n_test / n_train, 0 for independent units: the variance of the mean is (1/J + 1.4 n_test/n_train) s², with J
    repeats. Without the second term the interval is several times too narrow; with n_test/n_train alone (Nadeau and Bengio
    2003, section 4.1) it covers 89 to 95 % of what it should, as R² of repeats are correlated by more than the share held out.
    """
    if len(units) < 2:
        return np.nan, np.nan, np.nan
    error = float(np.sqrt((1 / len(units) + WIDENED * share) * np.var(units, ddof=1)))
    return float(stats.t.ppf((1 + level) / 2, len(units) - 1)) * error, error, float(units.std(ddof=1))


def _groups_of(table: pd.DataFrame, by: list[str]) -> Iterable[tuple[dict[str, Any], pd.DataFrame]]:
    """Labels and rows per combination of columns, in order of appearance; all rows where there are none."""
    groups: Iterable[Any] = table.groupby(by, sort=False, dropna=False) if by else [((), table)]
    return ((dict(zip(by, key, strict=True)), group) for key, group in groups)


def _labels_of(table: pd.DataFrame, value: str) -> list[str]:
    """The columns that say what a row is, not how it scored."""
    return [column for column in table if column not in {*SCORES, value} and not column.endswith("_of_b")]


def _check_table(
    table: pd.DataFrame, labels: list[str], value: str, unit: str, level: float, operation: str
) -> None:
    """Refuse a table that lacks a column or a value, an unknown unit, and a level outside (0, 1)."""
    check_choice((unit,), ("repeat", "weights_seed"), name="unit", operation=operation)
    there = ", ".join(map(str, table))
    for column in [*labels, "repeat", unit, value, "n_train", "n_test"]:
        rule = f"the table needs a column {column!r}"
        require(column in table, operation, rule, there, did_you_mean(column, map(str, table)))
    missing = int(table[value].isna().sum())
    rule = f"every row needs a value of {value!r}, and there must be rows"
    require(len(table) and not missing, operation, rule, f"{len(table)} rows, {missing} without a value")
    require(0 < level < 1, operation, "level must lie between 0 and 1", repr(level))


def _units_of(
    group: pd.DataFrame, by: Sequence[str], value: str, unit: str, operation: str
) -> tuple[np.ndarray, float]:
    """One value per unit, and the share that corrects their variance (0 where units are independent)."""
    seeds = ("weights_seed",) if unit == "repeat" else ()  # several networks are no repeats of one
    for column in (*NEVER_MIXED, *seeds):
        values = list(group[column].unique()) if column in group and column not in by else []
        advice = f"Add {column!r} to by=, or select one of them first."
        if column == "weights_seed":
            advice += " For random weights unit='weights_seed' takes the seed as what was sampled."
        rule = f"one group must not mix different values of {column!r}"
        require(len(values) <= 1, operation, rule, ", ".join(map(repr, values[:4])), advice)
    twice = int(group.duplicated(_labels_of(group, value)).sum())
    rule = "one group must not hold several rows with the same labels"
    advice = "Perhaps by= leaves out a column, such as a learning curve's 'n_train', or a table came twice."
    require(not twice, operation, rule, f"{twice} such rows", advice)
    per_unit = group.groupby(unit, sort=True, dropna=False)[value].agg(["mean", "size"])
    rows = per_unit["size"]
    rule = f"each {unit} must have as many rows as the others of its group"
    advice = "A part of the table is missing, or by= leaves out a column."
    require(rows.nunique() <= 1, operation, rule, f"from {rows.min()} to {rows.max()}", advice)
    share = float((group.n_test / group.n_train).mean()) if unit == "repeat" else 0.0
    return per_unit["mean"].to_numpy(), share


def summarize(
    table: pd.DataFrame,
    *,
    by: Sequence[str] = ("tap", "estimator", "condition"),
    value: str = "r2_test",
    unit: str = "repeat",
    level: float = 0.95,
) -> pd.DataFrame:
    """Mean, spread and interval of held-out scores, and the paper's exp(R²)/e beside them.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows of `layerwise_r2`, perhaps with further labels.
    by : sequence of str, default=("tap", "estimator", "condition")
        One summary per combination of these columns. Other labels, such as ``object_class``, are
        averaged over within each unit; but different taps, estimators, conditions, measures,
        networks, weights or widths are never mixed.
    value : str, default="r2_test"
        The column that is summarised.
    unit : {"repeat", "weights_seed"}, default="repeat"
        What was sampled. Repeats share images: corrected variance. Seeds of random weights are
        independent draws: plain variance.
    level : float, default=0.95
        Probability that the interval is to cover, in (0, 1).

    Returns
    -------
    pandas.DataFrame
        `by`, then ``rows``, ``units``, ``mean``, ``sd`` (over units), ``low`` and ``high`` (t
        interval with units − 1 degrees of freedom; NaN for one unit), ``median`` and ``min`` (over
        rows), and for an R² ``exp_r2_over_e``, the mean over rows of exp(R²)/e, and
        ``paper_label`` = 1 + log of it.

    Raises
    ------
    DataError
        If a column is missing, a value is NaN, a group mixes what must not be mixed, holds a
        repeat twice, or has units with differing numbers of rows.

    Notes
    -----
    Nadeau and Bengio 2003 for the interval, widened: variance (1/J + 1.4 n_test/n_train) s² of a
    mean over J repeats. Without the 1.4 it covers 91 % where 95 % are stated (150 images, ridge).
    ``exp_r2_over_e`` is the ordinate of the workshop version's figure (Graziani et al. 2020),
    ``paper_label`` how its peaks are labelled: at least the mean R², equal to it only where R²
    does not vary.

    Examples
    --------
    >>> columns = {"repeat": [0, 1], "n_train": 70, "n_test": 30, "r2_test": [0.5, 0.7]}
    >>> summary = summarize(pd.DataFrame({"tap": "late", **columns}), by=["tap"])
    >>> summary[["tap", "units", "mean", "sd", "paper_label"]].round(3)
        tap  units  mean     sd  paper_label
    0  late      2   0.6  0.141        0.605
    """
    operation = "summarize"
    by = [by] if isinstance(by, str) else list(by)
    _check_table(table, by, value, unit, level, operation)
    records = []
    for labels, group in _groups_of(table, by):
        units = _units_of(group, by, value, unit, operation)
        records.append({**labels, **_summary(group[value], *units, level)})
    summary = pd.DataFrame(records)
    return summary if value.startswith("r2") else summary.drop(columns=["exp_r2_over_e", "paper_label"])


def compare_taps(
    table: pd.DataFrame,
    a: str,
    b: str,
    *,
    by: Sequence[str] = ("estimator", "condition"),
    value: str = "r2_test",
    unit: str = "repeat",
    level: float = 0.95,
) -> pd.DataFrame:
    """Difference between two taps on common splits, with a corrected paired t test.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows of `layerwise_r2`, perhaps with further labels, both taps among them.
    a, b : str
        Taps; the difference is a − b.
    by : sequence of str, default=("estimator", "condition")
        One comparison per combination of these columns; other labels are averaged over as in
        `summarize`.
    value : str, default="r2_test"
        The column that is compared.
    unit : {"repeat", "weights_seed"}, default="repeat"
        As in `summarize`.
    level : float, default=0.95
        Probability that the interval is to cover, in (0, 1).

    Returns
    -------
    pandas.DataFrame
        `by`, then ``a``, ``b``, ``units``, ``mean_difference``, ``sd``, ``low``, ``high``, ``t``,
        ``p`` (two-sided).

    Raises
    ------
    DataError
        As `summarize`; if a tap is unknown, or the rows of the two do not pair.

    Notes
    -----
    Nadeau and Bengio 2003: t = mean difference / √((1/J + 1.4 n_test/n_train) s²), J − 1
    degrees of freedom, on differences from the same split; widened as in `summarize`.

    Examples
    --------
    >>> r2 = {"a": [0.5, 0.6, 0.7], "b": [0.3, 0.5, 0.5]}
    >>> table = pd.DataFrame(r2).melt(var_name="tap", value_name="r2_test")
    >>> table = table.assign(repeat=[0, 1, 2] * 2, n_train=70, n_test=30)
    >>> float(compare_taps(table, "a", "b", by=[]).mean_difference.iloc[0].round(3))
    0.167
    """
    operation = "compare_taps"
    by = [by] if isinstance(by, str) else list(by)
    _check_table(table, ["tap", *by], value, unit, level, operation)
    check_choice((a, b), list(dict.fromkeys(table.tap)), name="tap", operation=operation)
    require("tap" not in by, operation, "two taps are compared within a group", f"by={by}")
    records = []
    for labels, group in _groups_of(table[table.tap.isin([a, b])], by):
        pairs = _pair(group, a, b, value, operation)
        pairs[value] -= pairs[f"{value}_of_b"]
        units = _units_of(pairs, by, value, unit, operation)
        records.append({**labels, "a": a, "b": b, **_paired(*units, level)})
    return pd.DataFrame(records)


def _pair(group: pd.DataFrame, a: str, b: str, value: str, operation: str) -> pd.DataFrame:
    """Rows of `a` beside those of `b` with the same labels, as far as labels tell rows of one tap apart."""
    first, second = (group[group.tap == tap] for tap in (a, b))
    tell_apart = (first.nunique() > 1) | (second.nunique() > 1)
    labels = [column for column in _labels_of(group, value) if column == "repeat" or tell_apart[column]]
    pairs = first.merge(second, on=labels, suffixes=("", "_of_b"))
    paired = len(first) == len(second) == len(pairs) and (pairs.n_test == pairs.n_test_of_b).all()
    rule = "each row of one tap needs exactly one of the other, from the same split"
    rows = f"{len(first)} rows of {a!r} and {len(second)} of {b!r}"
    require(paired, operation, rule, f"{rows}, {len(pairs)} pairs by {', '.join(labels)}")
    return pairs[list(group.columns) + [f"{column}_of_b" for column in group if f"{column}_of_b" in pairs]]


def _summary(values: pd.Series, units: np.ndarray, share: float, level: float) -> dict[str, Any]:
    half, _, sd = interval(units, share, level)
    mean = float(units.mean())
    spread = {"mean": mean, "sd": sd, "low": mean - half, "high": mean + half}
    rows = {"median": float(values.median()), "min": float(values.min())}
    label = float(special.logsumexp(values.to_numpy()) - np.log(len(values)))  # log mean exp(R²)
    paper = {"exp_r2_over_e": float(np.exp(label - 1)), "paper_label": label}
    return {"rows": len(values), "units": len(units), **spread, **rows, **paper}


def _paired(differences: np.ndarray, share: float, level: float) -> dict[str, Any]:
    half, error, sd = interval(differences, share, level)
    mean = float(differences.mean())
    t = mean / error if error else (np.copysign(np.inf, mean) if mean else 0.0)  # error 0: all the same
    p = float(2 * stats.t.sf(abs(t), len(differences) - 1)) if len(differences) > 1 else np.nan
    spread = {"mean_difference": mean, "sd": sd, "low": mean - half, "high": mean + half}
    return {"units": len(differences), **spread, "t": float(t), "p": p}
