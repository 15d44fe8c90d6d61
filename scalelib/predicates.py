"""What must hold for a claim of the layer-wise analysis to count as reproduced: named tests on tables.

Each takes one network's rows of a results table and returns a verdict. Knows tables only; thresholds come from
``paper/claims.yaml``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from scalelib.statistics import compare_taps, summarize
from scalelib.tap_choice import OUTPUT_TAPS

HOLDS, REFUTED, UNDECIDED = "reproduced", "not reproduced", "inconclusive"
MEASURE = "sqrt_area_ratio"


@dataclass(frozen=True)
class Verdict:
    """What a test says of one network.

    Parameters
    ----------
    status : {"reproduced", "not reproduced", "inconclusive"}
    evidence : str
        One sentence with the numbers.
    effect, low, high : float
        The effect that decided, and its 95 % interval; NaN where there is none.
    """

    status: str
    evidence: str
    effect: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")


@dataclass(frozen=True)
class Evidence:
    """One network's tables, as a test gets them.

    Parameters
    ----------
    trained : str
        Label of the trained weights.
    rows : pandas.DataFrame
        The network's rows of the layer-wise table.
    tables : mapping of str to pandas.DataFrame
        The network's rows of the other tables of the same results, by file name without ending.
    """

    trained: str
    rows: pd.DataFrame
    tables: Mapping[str, pd.DataFrame]

    def select(
        self,
        *,
        weights: str | None = None,
        condition: str = "true",
        estimator: str = "ridge",
        measure: str = MEASURE,
    ) -> pd.DataFrame:
        """Rows of one set of weights (default: the trained ones), condition, estimator and measure."""
        rows = self.rows
        return rows[
            (rows.weights == (weights or self.trained))
            & (rows.condition == condition)
            & (rows.estimator == estimator)
            & (rows.measure == measure)
        ]


def interior_peak(evidence: Evidence, *, significant_below_peak: Sequence[str]) -> Verdict:
    """The best tap is neither the first nor the last, and the named ones lie significantly below it."""
    rows = evidence.select()
    means = rows.groupby("tap", sort=False).r2_test.mean()
    taps, peak = list(means.index), str(means.idxmax())
    whole = taps[-1] in OUTPUT_TAPS
    if peak == taps[0] or (peak == taps[-1] and whole) or peak == "pre_softmax":
        return Verdict(REFUTED, f"The best tap is {peak}, an end of the network.", float(means[peak]))
    if peak == taps[-1]:
        return Verdict(
            UNDECIDED,
            f"The best tap is {peak}, the last at hand: this network was read without its classification layers.",
        )
    ends = [taps[0] if name == "first" else name for name in significant_below_peak]
    verdicts = [_difference(rows, peak, end) for end in ends if end in taps]
    smallest = min(verdicts, key=lambda row: row.low)
    words = "; ".join(f"{peak} above {row.b} by {_interval(row)}" for row in verdicts)
    missing = [end for end in ends if end not in taps]
    if missing:
        words += f"; no {', '.join(missing)} to compare with"
    status = HOLDS if smallest.low > 0 else UNDECIDED
    return Verdict(status, f"{words}.", smallest.mean_difference, smallest.low, smallest.high)


def drop(
    evidence: Evidence, *, start: str, end: str, estimator: str = "ridge", equal_width: bool = False
) -> Verdict:
    """R² falls from the peak of the feature taps to another tap, by the corrected paired t interval."""
    rows = evidence.tables["equal_width"] if equal_width else evidence.select(estimator=estimator)
    if equal_width:
        rows = rows[rows.weights == evidence.trained]
        narrow = rows.groupby("tap", sort=False).width.first()
        rows = rows[rows.tap.map(narrow) == narrow.max()]
    taps = list(dict.fromkeys(rows.tap))
    features = [tap for tap in taps if tap not in OUTPUT_TAPS]
    target = {"first": features[0], "last_feature": features[-1]}.get(end, end)
    if target not in taps:
        return Verdict(
            UNDECIDED,
            f"There is no {target} at hand: this network was read without its classification layers.",
        )
    means = rows.groupby("tap", sort=False).r2_test.mean()
    peak = str(means[features].idxmax())
    if peak == target:
        return Verdict(REFUTED, f"{target} is itself the peak.", 0.0)
    row = _difference(rows, peak, target)
    status = HOLDS if row.low > 0 else REFUTED if row.high < 0 else UNDECIDED
    wide = f" at {int(rows.width.max())} dimensions each" if equal_width else ""
    words = f"{peak} {means[peak]:.2f}, {target} {means[target]:.2f}{wide}: a drop of {_interval(row)}."
    return Verdict(status, words, row.mean_difference, row.low, row.high)


def at_most(evidence: Evidence, *, tap: str, value: float, estimator: str = "ridge") -> Verdict:
    """The mean R² of one tap is not above a value; refuted if it is significantly above."""
    rows = evidence.select(estimator=estimator)
    taps = list(dict.fromkeys(rows.tap))
    tap = taps[0] if tap == "first" else tap
    if tap not in taps:
        return Verdict(
            UNDECIDED, f"There is no {tap} at hand: this network was read without its classification layers."
        )
    row = summarize(rows[rows.tap == tap], by=["tap"]).iloc[0]
    status = HOLDS if row["mean"] <= value else REFUTED if row.low > value else UNDECIDED
    return Verdict(
        status, f"{tap}: mean R² {_number(row['mean'])} by {estimator}.", row["mean"], row.low, row.high
    )


def at_most_everywhere(evidence: Evidence, *, value: float, condition: str = "true") -> Verdict:
    """No tap's mean R² is above a value; refuted if one is significantly above.

    With ``condition="true"`` the rows are those of random weights, with the weight seed as the unit.
    """
    weights = None if condition == "shuffled" else "random"
    rows = evidence.select(weights=weights, condition=condition)
    summary = summarize(rows, by=["tap"], unit="repeat" if condition == "shuffled" else "weights_seed")
    row = summary.loc[summary["mean"].idxmax()]
    above = summary[summary.low > value]
    status = REFUTED if len(above) else HOLDS if row["mean"] <= value else UNDECIDED
    words = f"Highest at {row.tap}: {_number(row['mean'])}"
    words += f"; significantly above {value:g} at {len(above)} of {len(summary)} taps." if len(above) else "."
    return Verdict(status, words, row["mean"], row.low, row.high)


def beats(
    evidence: Evidence, *, other: str, from_depth: float, exclude: Sequence[str] = (), level: float = 0.95
) -> Verdict:
    """Trained weights read scale better than random ones at every tap from a relative depth on.

    The interval of a difference adds the corrected variance over repeats and that over weight seeds; degrees of freedom
    are those of the smaller sample.
    """
    trained = summarize(evidence.select(), by=["tap"]).set_index("tap")
    untrained = summarize(evidence.select(weights=other), by=["tap"], unit="weights_seed").set_index("tap")
    taps = list(trained.index)
    late = [tap for i, tap in enumerate(taps) if i >= from_depth * (len(taps) - 1) and tap not in exclude]
    error = np.hypot(*(_standard_error(table.loc[late], level) for table in (trained, untrained)))
    difference = (trained.loc[late, "mean"] - untrained.loc[late, "mean"]).to_numpy()
    half = error * stats.t.ppf((1 + level) / 2, int(min(trained.units.min(), untrained.units.min())) - 1)
    low, high = difference - half, difference + half
    status = HOLDS if (low > 0).all() else REFUTED if (high < 0).any() else UNDECIDED
    worst = int(np.argmin(low))
    words = f"Significantly better at {int((low > 0).sum())} of {len(late)} taps; least at {late[worst]}, by "
    words += f"{difference[worst]:.2f} ({low[worst]:.2f} to {high[worst]:.2f})."
    return Verdict(status, words, float(difference[worst]), float(low[worst]), float(high[worst]))


def peak_order(evidence: Evidence, *, order: Sequence[str], estimator: str, statistic: str) -> Verdict:
    """The best taps of three curves stand in an order, in the published figure's units."""
    choices = {
        "imagenet": {},
        "random": {"weights": "random"},
        "shuffled": {"condition": "shuffled"},
    }
    peaks = []
    for name in order:
        rows = evidence.select(estimator=estimator, **choices[name])
        unit = "weights_seed" if name == "random" else "repeat"
        summary = summarize(rows, by=["tap"], unit=unit)
        peaks.append(summary.loc[summary[statistic].idxmax()])
    values = [float(peak[statistic]) for peak in peaks]
    words = ", ".join(
        f"{name} {value:.2f} at {peak.tap}" for name, value, peak in zip(order, values, peaks, strict=True)
    )
    steps = -np.diff(values)
    return Verdict(HOLDS if (steps > 0).all() else REFUTED, f"{words}.", float(steps.min()))


def chosen_inside(evidence: Evidence, *, after_depth: float) -> Verdict:
    """The rule cuts behind the middle and before the last feature tap, on both halves of the images."""
    chosen = evidence.tables["chosen_taps"]
    chosen = chosen[chosen.weights == evidence.trained]
    inside = (chosen.depth > after_depth) & (chosen.depth < 1)
    words = "; ".join(f"half {row.half}: {row.tap}, depth {row.depth:.2f}" for row in chosen.itertuples())
    status = HOLDS if inside.all() else UNDECIDED if inside.any() else REFUTED
    return Verdict(status, f"{words}.", float(chosen.depth.mean()))


PREDICATES: dict[str, Callable[..., Verdict]] = {
    function.__name__: function
    for function in (interior_peak, drop, at_most, at_most_everywhere, beats, peak_order, chosen_inside)
}


def _difference(rows: pd.DataFrame, first: str, second: str) -> Any:
    return compare_taps(rows, first, second, by=[]).iloc[0]


def _interval(row: Any) -> str:
    return f"{row.mean_difference:.2f} ({row.low:.2f} to {row.high:.2f})"


def _number(value: float) -> str:
    return f"{value:.2f}" if abs(value) < 100 else f"{value:,.0f}"


def _standard_error(table: pd.DataFrame, level: float) -> np.ndarray:
    quantile = stats.t.ppf((1 + level) / 2, table.units - 1)
    return ((table.high - table["mean"]) / quantile).to_numpy()
