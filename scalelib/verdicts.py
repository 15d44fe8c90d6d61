"""What a claim's test gets to see, and what it answers. Knows tables only."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd

from scalelib.errors import ResultsError

HOLDS, PARTLY, REFUTED = "reproduced", "partly", "not reproduced"
UNDECIDED, NOT_RUN = "inconclusive", "not run"
STATUSES = (HOLDS, PARTLY, REFUTED, UNDECIDED, NOT_RUN)
MEASURE = "sqrt_area_ratio"


class MissingRows(ResultsError):
    """The results do not hold what a test needs: its claim is not run, rather than decided."""


@dataclass(frozen=True)
class Verdict:
    """What a test says of one network.

    Parameters
    ----------
    status : {"reproduced", "not reproduced", "inconclusive", "not run"}
    evidence : str
        One sentence with the numbers.
    effect, low, high : float
        The effect that decided, and its 95 % interval; NaN where there is none.
    quantity : str
        What the effect is, with its unit.
    threshold : float
        The value of the effect at which the claim turns; NaN where there is none.
    """

    status: str
    evidence: str
    effect: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")
    quantity: str = ""
    threshold: float = float("nan")


@dataclass(frozen=True)
class Evidence:
    """One network's tables, as a test gets them.

    Parameters
    ----------
    trained : str
        Label of the trained weights.
    rows : pandas.DataFrame
        The network's rows of the deciding table.
    tables : mapping of str to pandas.DataFrame
        The network's rows of every table of the same results, by file name without ending.
    network : str
        Its label; empty where a claim is about no network.
    everything : pandas.DataFrame, optional
        The deciding table with all networks, for corrections over all of them.
    """

    trained: str
    rows: pd.DataFrame
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    network: str = ""
    everything: pd.DataFrame | None = None

    def select(
        self,
        *,
        weights: str | None = None,
        condition: str = "true",
        estimator: str = "ridge",
        measure: str = MEASURE,
    ) -> pd.DataFrame:
        """Rows of one set of weights (default: the trained ones), condition, estimator and measure.

        Raises
        ------
        MissingRows
            If there are none.
        """
        wanted = {
            "weights": weights or self.trained,
            "condition": condition,
            "estimator": estimator,
            "measure": measure,
        }
        return only(self.rows, **wanted)


def only(table: pd.DataFrame, **values: str) -> pd.DataFrame:
    """Rows with the given values in the named columns; never none.

    Parameters
    ----------
    table : pandas.DataFrame
    **values : str
        Wanted value by column.

    Returns
    -------
    pandas.DataFrame

    Raises
    ------
    MissingRows
        If a column is missing or no row has these values.

    Examples
    --------
    >>> len(only(pd.DataFrame({"tap": ["a", "b"]}), tap="b"))
    1
    """
    rows = table
    for column, value in values.items():
        rows = rows[rows[column] == value] if column in rows else rows.iloc[:0]
    if rows.empty:
        described = ", ".join(f"{column} {value!r}" for column, value in values.items())
        raise MissingRows(f"The results hold no rows with {described}.")
    return rows


def number(value: float) -> str:
    """A number in a sentence: two decimals, or none where it is large, or a power of ten where it is vast.

    Examples
    --------
    >>> number(0.514), number(-11077.3), number(-8.17e12)
    ('0.51', '−11,077', '−8.2×10¹²')
    """
    if abs(value) >= 1e6 and math.isfinite(value):
        mantissa, power = f"{value:.1e}".split("e+")
        text = f"{mantissa}×10{str(int(power)).translate(_SUPERSCRIPT)}"
    else:
        text = f"{value:.2f}" if abs(value) < 100 else f"{value:,.0f}"
    return text.replace("-", "−")


_SUPERSCRIPT = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def span(effect: float, low: float, high: float) -> str:
    """An effect with its interval, for a sentence.

    Examples
    --------
    >>> span(0.1, -0.05, 0.25)
    '0.10 (−0.05 to 0.25)'
    """
    return f"{number(effect)} ({number(low)} to {number(high)})"
