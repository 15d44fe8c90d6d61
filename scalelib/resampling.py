"""Units, mixtures and corrected intervals of scores over repeats that share most of their images.

Knows tables only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from scalelib.errors import DataError, did_you_mean

UNITS = ("repeat", "weights_seed")
SCORES = frozenset(
    {
        *("channels", "n_train", "n_test", "alpha", "alpha_at_edge", "dof"),
        *("r2_train", "r2_test", "mae_test"),
    }
)
NEVER_MIXED = ("tap", "estimator", "condition", "measure", "network", "weights", "width")


def corrected_variance(values: np.ndarray, test_share: float) -> float:
    """Variance of the mean of resampled values, corrected for the images that repeats share.

    Parameters
    ----------
    values : ndarray of float64, shape (n_repeats,)
        One value per repeat, at least two.
    test_share : float
        n_test / n_train; 0 for values that are independent of each other.

    Returns
    -------
    float
        (1/J + n_test/n_train) s², with s² the sample variance and J repeats.

    Notes
    -----
    Nadeau and Bengio 2003, "Inference for the generalization error", section 4.1 (corrected
    resampled t). Without the second term the interval is several times too narrow.

    Examples
    --------
    >>> float(corrected_variance(np.array([0.0, 1.0, 2.0, 3.0, 4.0]), 0.3))
    1.25
    """
    return (1 / len(values) + test_share) * np.var(values, ddof=1)


def interval(units: np.ndarray, share: float, level: float) -> tuple[float, float, float]:
    """Half width of the t interval, standard error and standard deviation; NaN for a single unit.

    Parameters
    ----------
    units : ndarray of float64, shape (n_units,)
        One value per unit.
    share : float
        As for `corrected_variance`.
    level : float
        Probability that the interval is to cover.

    Returns
    -------
    tuple of float

    Examples
    --------
    >>> half, error, sd = interval(np.array([0.0, 2.0]), 0.5, 0.5)  # t of one degree of freedom: 1.0
    >>> round(half, 3), round(error, 3), round(sd, 3)
    (1.414, 1.414, 1.414)
    """
    if len(units) < 2:
        return np.nan, np.nan, np.nan
    error = float(np.sqrt(corrected_variance(units, share)))
    return float(stats.t.ppf((1 + level) / 2, len(units) - 1)) * error, error, float(units.std(ddof=1))


def groups_of(table: pd.DataFrame, by: Sequence[str]) -> Iterable[tuple[Any, pd.DataFrame]]:
    """Key and rows per combination of columns, in order of appearance; all rows where there are none.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows.
    by : sequence of str
        Columns.

    Returns
    -------
    iterable of tuple of key and pandas.DataFrame
    """
    return table.groupby(list(by), sort=False, dropna=False) if by else [((), table)]


def labels_of(table: pd.DataFrame) -> list[str]:
    """The columns that say what a row is, not how it scored.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows of `layerwise_r2`, perhaps with further labels.

    Returns
    -------
    list of str
    """
    return [column for column in table if column not in SCORES and not column.endswith("_of_b")]


def check_table(
    table: pd.DataFrame, needed: Sequence[str], value: str, unit: str, level: float, operation: str
) -> None:
    """Refuse a table that lacks a column or a value, an unknown unit, and a level outside (0, 1).

    Parameters
    ----------
    table : pandas.DataFrame
        Rows of `layerwise_r2`.
    needed : sequence of str
        Columns that there must be.
    value : str
        The column whose every value is needed.
    unit : str
        One of `UNITS`.
    level : float
        Probability that an interval is to cover.
    operation : str
        Whose name the error carries.

    Raises
    ------
    DataError
        If a rule is broken.
    """
    if unit not in UNITS:
        hint = did_you_mean(str(unit), UNITS)
        raise DataError(
            f"{operation}: unknown unit.\nReceived: {unit!r}.\n{hint} There are {', '.join(UNITS)}.".strip()
        )
    for column in needed:
        if column not in table:
            raise DataError(
                f"{operation}: the table needs a column {column!r}.\nReceived: {', '.join(map(str, table))}.\n"
                f"{did_you_mean(column, map(str, table))}".rstrip()
            )
    if table.empty or table[value].isna().any():
        raise DataError(
            f"{operation}: every row needs a value of {value!r}, and there must be rows.\n"
            f"Received: {len(table)} rows, {int(table[value].isna().sum())} without a value."
        )
    if not 0 < level < 1:
        raise DataError(f"{operation}: level must lie between 0 and 1.\nReceived: {level!r}.")


def units_of(
    group: pd.DataFrame, by: Sequence[str], value: str, unit: str, operation: str
) -> tuple[np.ndarray, float]:
    """One value per unit, and the share that corrects their variance.

    Parameters
    ----------
    group : pandas.DataFrame
        Rows that are summarised together.
    by : sequence of str
        The columns that made the group.
    value : str
        The column that is averaged within each unit.
    unit : {"repeat", "weights_seed"}
        What was sampled.
    operation : str
        Whose name the error carries.

    Returns
    -------
    tuple of ndarray of float64, shape (n_units,), and float
        Values, and n_test / n_train (0 where units are independent).

    Raises
    ------
    DataError
        If the group mixes what must not be mixed, or is not balanced.
    """
    _refuse_mixture(group, by, unit, operation)
    per_unit = group.groupby(unit, sort=True, dropna=False)[value].agg(["mean", "size"])
    if per_unit["size"].nunique() > 1:
        raise DataError(
            f"{operation}: each {unit} must have as many rows as the others of its group.\n"
            f"Received: from {per_unit['size'].min()} to {per_unit['size'].max()}.\n"
            "A part of the table is missing, or by= leaves out a column."
        )
    share = float((group.n_test / group.n_train).mean()) if unit == "repeat" else 0.0
    return per_unit["mean"].to_numpy(), share


def _refuse_mixture(group: pd.DataFrame, by: Sequence[str], unit: str, operation: str) -> None:
    never = [column for column in NEVER_MIXED if column not in by]
    if unit == "repeat" and "weights_seed" not in by:
        never.append("weights_seed")  # several networks are no repeats of one
    for column in never:
        if column in group and group[column].nunique(dropna=False) > 1:
            what = ", ".join(map(repr, list(group[column].unique())[:4]))
            advice = f"Add {column!r} to by=, or select one of them first."
            if column == "weights_seed":
                advice += " For random weights unit='weights_seed' takes the seed as what was sampled."
            raise DataError(
                f"{operation}: one group must not mix different values of {column!r}.\n"
                f"Received: {what}.\n{advice}"
            )
    twice = group.duplicated(labels_of(group))
    if twice.any():
        raise DataError(
            f"{operation}: one group must not hold several rows with the same labels.\n"
            f"Received: {int(twice.sum())} such rows, the first of repeat {group[twice].repeat.iloc[0]}.\n"
            "Perhaps by= leaves out a column, such as 'n_train' of a learning curve, or a table was added twice."
        )
