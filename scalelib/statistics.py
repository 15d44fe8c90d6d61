"""What can be said of held-out R² over repeats that share most of their images.

Knows tables only, those of `layerwise_r2` with whatever labels a study added.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import special, stats

from scalelib.errors import DataError, did_you_mean
from scalelib.resampling import check_table, groups_of, interval, labels_of, units_of


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
    Nadeau and Bengio 2003 for the interval (see `scalelib.resampling.corrected_variance`).
    ``exp_r2_over_e`` is the ordinate of the workshop version's figure (Graziani et al. 2020),
    ``paper_label`` how its peaks are labelled: at least the mean R², equal to it only where R²
    does not vary.

    Examples
    --------
    >>> table = pd.DataFrame({"tap": "late", "repeat": [0, 1], "n_train": 70, "n_test": 30,
    ...                       "r2_test": [0.5, 0.7]})
    >>> summarize(table, by=["tap"]).round(3)[["tap", "units", "mean", "sd", "paper_label"]]
        tap  units  mean     sd  paper_label
    0  late      2   0.6  0.141        0.605
    """
    operation = "summarize"
    by = [by] if isinstance(by, str) else list(by)
    check_table(table, [*by, "repeat", unit, value, "n_train", "n_test"], value, unit, level, operation)
    records = []
    for key, group in groups_of(table, by):
        units, share = units_of(group, by, value, unit, operation)
        records.append({**dict(zip(by, key, strict=True)), **_summary(group[value], units, share, level)})
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
    Nadeau and Bengio 2003: t = mean difference / √((1/J + n_test/n_train) s²), J − 1 degrees of
    freedom, on differences from the same split.

    Examples
    --------
    >>> table = pd.DataFrame({"tap": ["a"] * 3 + ["b"] * 3, "repeat": [0, 1, 2] * 2, "n_train": 70,
    ...                       "n_test": 30, "r2_test": [0.5, 0.6, 0.7, 0.3, 0.5, 0.5]})
    >>> float(compare_taps(table, "a", "b", by=[]).mean_difference.iloc[0].round(3))
    0.167
    """
    operation = "compare_taps"
    by = [by] if isinstance(by, str) else list(by)
    check_table(
        table, ["tap", *by, "repeat", unit, value, "n_train", "n_test"], value, unit, level, operation
    )
    known = list(dict.fromkeys(table.tap))
    for tap in (a, b):
        if tap not in known:
            raise DataError(
                f"{operation}: no tap {tap!r} in the table.\nReceived: taps {', '.join(map(str, known))}.\n"
                f"{did_you_mean(str(tap), map(str, known))}".rstrip()
            )
    if a == b or "tap" in by:
        raise DataError(f"{operation}: two different taps are compared.\nReceived: {a!r}, {b!r}, by={by}.")
    records = []
    both = table[table.tap.isin([a, b])]
    for key, group in groups_of(both, by):
        pairs = _pair(group, a, b, operation)
        differences = pairs.assign(**{value: pairs[value] - pairs[f"{value}_of_b"]})
        units, share = units_of(differences, by, value, unit, operation)
        records.append({**dict(zip(by, key, strict=True)), "a": a, "b": b, **_paired(units, share, level)})
    return pd.DataFrame(records)


def _pair(group: pd.DataFrame, a: str, b: str, operation: str) -> pd.DataFrame:
    """Rows of `a` beside those of `b` with the same labels, as far as labels tell rows of one tap apart."""
    first, second = (group[group.tap == tap] for tap in (a, b))
    labels = [
        column
        for column in labels_of(group)
        if column == "repeat" or max(first[column].nunique(), second[column].nunique()) > 1
    ]
    pairs = first.merge(second, on=labels, suffixes=("", "_of_b"))
    if not len(first) == len(second) == len(pairs) or (pairs.n_test != pairs.n_test_of_b).any():
        raise DataError(
            f"{operation}: each row of one tap needs exactly one of the other, from the same split.\n"
            f"Received: {len(first)} rows of {a!r} and {len(second)} of {b!r}, {len(pairs)} pairs by "
            f"{', '.join(labels)}."
        )
    return pairs[list(group.columns) + [f"{column}_of_b" for column in group if f"{column}_of_b" in pairs]]


def _summary(values: pd.Series, units: np.ndarray, share: float, level: float) -> dict[str, Any]:
    half, _, sd = interval(units, share, level)
    mean = float(units.mean())
    label = float(special.logsumexp(values.to_numpy()) - np.log(len(values)))  # log mean exp(R²)
    return {
        "rows": len(values),
        "units": len(units),
        "mean": mean,
        "sd": sd,
        "low": mean - half,
        "high": mean + half,
        "median": float(values.median()),
        "min": float(values.min()),
        "exp_r2_over_e": float(np.exp(label - 1)),
        "paper_label": label,
    }


def _paired(differences: np.ndarray, share: float, level: float) -> dict[str, Any]:
    half, error, sd = interval(differences, share, level)
    mean = float(differences.mean())
    t = mean / error if error else (np.copysign(np.inf, mean) if mean else 0.0)  # error 0: all the same
    p = float(2 * stats.t.sf(abs(t), len(differences) - 1)) if len(differences) > 1 else np.nan
    return {
        "units": len(differences),
        "mean_difference": mean,
        "sd": sd,
        "low": mean - half,
        "high": mean + half,
        "t": float(t),
        "p": p,
    }
