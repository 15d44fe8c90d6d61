"""What must hold for a claim of the layer-wise analysis to count as reproduced: named tests on tables.

Each takes one network's rows of a results table and returns a verdict. Knows tables only; thresholds come from
``paper/claims.yaml``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from scalelib.errors import ResultsError
from scalelib.statistics import compare_taps, summarize
from scalelib.tap_choice import OUTPUT_TAPS
from scalelib.verdicts import HOLDS, REFUTED, UNDECIDED, Evidence, MissingRows, Verdict, number, only, span

DIFFERENCE = "difference in held-out R²"


def interior_peak(evidence: Evidence, *, significant_below_peak: Sequence[str]) -> Verdict:
    """The best tap is neither the first nor the last, and the named ones lie significantly below it.

    A named tap at which the network was not read leaves the claim not run.
    """
    rows = evidence.select()
    means = rows.groupby("tap", sort=False).r2_test.mean()
    taps, peak = list(means.index), str(means.idxmax())
    if peak == taps[0] or peak in OUTPUT_TAPS:
        inside = str(means.drop([taps[0], *OUTPUT_TAPS], errors="ignore").idxmax())
        row = _difference(rows, inside, peak)
        words = f"The best tap is {peak}, an end of the network; the best inside, {inside}, differs by {_span(row)}."
        return _verdict(REFUTED, words, row)
    ends = [taps[0] if name == "first" else name for name in significant_below_peak]
    found = [_difference(rows, peak, end) for end in ends if end in taps and end != peak]
    worst = min(found, key=lambda row: row.low)
    words = "; ".join(f"{peak} above {row.b} by {_span(row)}" for row in found)
    unread = [end for end in ends if end not in taps]
    if unread:
        raise MissingRows(f"{words}; but the network was not read at {', '.join(unread)}.")
    return _verdict(HOLDS if worst.low > 0 else UNDECIDED, f"{words}.", worst)


def drop(
    evidence: Evidence, *, start: str, end: str, estimator: str = "ridge", equal_width: bool = False
) -> Verdict:
    """R² falls from the peak of the feature taps to another tap, by the corrected paired t interval.

    With ``equal_width`` only taps that reach the common width are compared, each projected to it.
    """
    if start != "peak":
        raise ResultsError(f"drop: a drop starts at the peak.\nReceived: start={start!r}.")
    wide = ""
    if equal_width:
        every = only(evidence.tables.get("equal_width", pd.DataFrame()), weights=evidence.trained)
        width = int(every.width.max())
        rows, wide = every[every.width == width], f" at {width} dimensions each"
    else:
        every = rows = evidence.select(estimator=estimator)
    features = [tap for tap in dict.fromkeys(rows.tap) if tap not in OUTPUT_TAPS]
    target = {"first": features[0], "last_feature": features[-1]}.get(end, end)
    if target not in set(every.tap):
        raise MissingRows(f"The network was not read at {target}.")
    if target not in set(rows.tap):
        own = int(every.width[every.tap == target].iloc[0])
        raise MissingRows(f"{target} has {own} dimensions, fewer than the common width of {width}.")
    means = rows.groupby("tap", sort=False).r2_test.mean()
    peak = str(means[features].idxmax())
    if peak == target:
        return Verdict(REFUTED, f"{target} is itself the peak, {number(means[peak])}{wide}.")
    row = _difference(rows, peak, target)
    status = HOLDS if row.low > 0 else REFUTED if row.high < 0 else UNDECIDED
    words = f"{peak} {number(means[peak])}, {target} {number(means[target])}{wide}: a drop of {_span(row)}."
    return _verdict(status, words, row)


def at_most(evidence: Evidence, *, tap: str, value: float, estimator: str = "ridge") -> Verdict:
    """The mean R² of one tap is not above a value; refuted if it is significantly above."""
    rows = evidence.select(estimator=estimator)
    taps = list(dict.fromkeys(rows.tap))
    tap = taps[0] if tap == "first" else tap
    if tap not in taps:
        raise MissingRows(f"The network was not read at {tap}.")
    row = summarize(rows[rows.tap == tap], by=["tap"]).iloc[0]
    status = HOLDS if row["mean"] <= value else REFUTED if row.low > value else UNDECIDED
    words = f"{tap}: mean R² {span(row['mean'], row.low, row.high)} by {estimator}."
    return Verdict(status, words, row["mean"], row.low, row.high, "held-out R²", value)


def at_most_everywhere(evidence: Evidence, *, value: float, condition: str = "true") -> Verdict:
    """No tap's mean R² is above a value; refuted if one is significantly above.

    With ``condition="true"`` the rows are those of random weights, with the weight seed as the unit.
    """
    weights = None if condition == "shuffled" else "random"
    rows = evidence.select(weights=weights, condition=condition)
    summary = summarize(rows, by=["tap"], unit="repeat" if condition == "shuffled" else "weights_seed")
    above = summary[summary.low > value]
    row = summary.loc[above["mean"].idxmax() if len(above) else summary["mean"].idxmax()]
    status = REFUTED if len(above) else HOLDS if row["mean"] <= value else UNDECIDED
    words = f"Highest at {row.tap}: {span(row['mean'], row.low, row.high)}"
    words += f"; significantly above {value:g} at {len(above)} of {len(summary)} taps." if len(above) else "."
    return Verdict(status, words, row["mean"], row.low, row.high, "held-out R²", value)


def beats(
    evidence: Evidence, *, other: str, from_depth: float, exclude: Sequence[str] = (), level: float = 0.95
) -> Verdict:
    """Trained weights read scale better than random ones at every tap from a relative depth on.

    The interval of a difference adds the corrected variance over repeats and that over weight seeds; degrees of freedom
    are those of the smaller sample.
    """
    trained = summarize(evidence.select(), by=["tap"], level=level).set_index("tap")
    untrained = summarize(
        evidence.select(weights=other), by=["tap"], unit="weights_seed", level=level
    ).set_index("tap")
    taps = list(trained.index)
    late = [tap for i, tap in enumerate(taps) if i >= from_depth * (len(taps) - 1) and tap not in exclude]
    if unread := [tap for tap in late if tap not in untrained.index]:
        raise MissingRows(f"With {other} weights the network was not read at {', '.join(unread)}.")
    error = np.hypot(*(_standard_error(table.loc[late], level) for table in (trained, untrained)))
    difference = (trained.loc[late, "mean"] - untrained.loc[late, "mean"]).to_numpy()
    half = error * stats.t.ppf((1 + level) / 2, int(min(trained.units.min(), untrained.units.min())) - 1)
    low, high = difference - half, difference + half
    status = HOLDS if (low > 0).all() else REFUTED if (high < 0).any() else UNDECIDED
    worst = int(np.argmin(high if status == REFUTED else low))
    words = f"Significantly better at {int((low > 0).sum())} of {len(late)} taps; least at {late[worst]}, by "
    words += f"{span(difference[worst], low[worst], high[worst])}."
    return Verdict(
        status, words, float(difference[worst]), float(low[worst]), float(high[worst]), DIFFERENCE, 0.0
    )


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
        f"{_words(name)} {number(value)} at {peak.tap}"
        for name, value, peak in zip(order, values, peaks, strict=True)
    )
    steps = -np.diff(values)
    status = HOLDS if (steps > 0).all() else REFUTED
    quantity = "smallest step between the three labels"
    return Verdict(status, f"{words}.", float(steps.min()), quantity=quantity, threshold=0.0)


def chosen_inside(evidence: Evidence, *, after_depth: float) -> Verdict:
    """The rule cuts behind the middle and before the last feature tap, on both halves of the images."""
    chosen = only(evidence.rows, weights=evidence.trained)
    inside = (chosen.depth > after_depth) & (chosen.depth < 1)
    words = "; ".join(f"half {row.half}: {row.tap}, depth {row.depth:.2f}" for row in chosen.itertuples())
    status = HOLDS if inside.all() else UNDECIDED if inside.any() else REFUTED
    return Verdict(status, f"{words}.")


LAYERWISE: dict[str, Callable[..., Verdict]] = {
    function.__name__: function
    for function in (interior_peak, drop, at_most, at_most_everywhere, beats, peak_order, chosen_inside)
}


def _difference(rows: pd.DataFrame, first: str, second: str) -> Any:
    return compare_taps(rows, first, second, by=[]).iloc[0]


def _span(row: Any) -> str:
    return span(row.mean_difference, row.low, row.high)


def _verdict(status: str, words: str, row: Any) -> Verdict:
    return Verdict(status, words, row.mean_difference, row.low, row.high, DIFFERENCE, 0.0)


def _words(name: str) -> str:
    return {"imagenet": "trained weights", "random": "random weights", "shuffled": "shuffled measures"}[name]


def _standard_error(table: pd.DataFrame, level: float) -> np.ndarray:
    quantile = stats.t.ppf((1 + level) / 2, table.units - 1)
    return ((table.high - table["mean"]) / quantile).to_numpy()
