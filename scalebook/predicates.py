"""What a claim's test gets to see, and what it answers. Knows tables only. What must hold for a claim of the layer-wise analysis to count as reproduced: named tests on tables. Tests of the claims about images, noise and printed numbers (§3.2, §4.1, §4.2). Knows tables only. Tests of the claims about transfer to histopathology (§4.4): rows of Table 2, and where to cut."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from scalelib.errors import ResultsError, did_you_mean
from scalelib.pruning import OUTPUT_TAPS
from scalelib.statistics import compare_rows, compare_taps, holm, sign_flip_test, summarize

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


def agreement(evidence: Evidence, *, within: tuple[float, float], at_least: float) -> Verdict:
    """Enough images keep their top-1 label at every size of a range; refuted if significantly fewer do.

    Rows: ``pictures, manipulation, factor, n, agreement``, of which ``resize`` counts; all pictures together, with
    Wilson's 95 % interval at the size where agreement is lowest.
    """
    rows = only(evidence.rows, weights=evidence.trained, manipulation="resize")
    rows = rows[rows.factor.between(*within) & (rows.factor != 1)]
    kept = (rows.agreement * rows.n).groupby(rows.factor).sum()
    counts = rows.n.groupby(rows.factor).sum()
    factor = float((kept / counts).idxmin())
    share, n = float(kept[factor] / counts[factor]), int(counts[factor])
    low, high = stats.binomtest(round(share * n), n).proportion_ci(method="wilson")
    status = HOLDS if share >= at_least else REFUTED if high < at_least else UNDECIDED
    words = f"Lowest at {factor:g} times the size: {share:.0%} of {n} images keep their label ({low:.0%} to {high:.0%})."
    return Verdict(status, words, share, low, high, "share of images that keep their label", at_least)


def pattern_read_without_object(evidence: Evidence, *, at_least: float) -> Verdict:
    """Some tap reads the correlation length of noise well enough; refuted if the best is significantly below.

    Rows: those of ``layerwise_r2`` with ``kind, measure, region``; blob noise, whole map, ridge count.
    """
    rows = only(
        evidence.rows, weights=evidence.trained, condition="true", estimator="ridge", kind="blob", region="whole map"
    )  # fmt: skip
    pattern, canvas = (
        _best(only(rows, measure=measure)) for measure in ("correlation_length", "canvas_size")
    )
    status = HOLDS if pattern["mean"] >= at_least else REFUTED if pattern.high < at_least else UNDECIDED
    words = f"Correlation length is read best at {pattern.tap}, R² {_span_predicates_inputs(pattern)}; "
    words += f"canvas size at {canvas.tap}, {_span_predicates_inputs(canvas)}."
    return Verdict(status, words, pattern["mean"], pattern.low, pattern.high, "held-out R²", at_least)


def sums_agree(evidence: Evidence) -> Verdict:
    """Every row and column of a printed table sums to its printed total. Rows: ``line, name, printed, sum, difference``."""
    wrong = evidence.rows[evidence.rows.difference != 0]
    if wrong.empty:
        return Verdict(HOLDS, f"All {len(evidence.rows)} rows and columns add up.")
    lines = wrong[["line", "name", "sum", "printed"]].itertuples(index=False, name=None)
    words = "; ".join(
        f"{line} {name} sums to {total}, printed {printed}" for line, name, total, printed in lines
    )
    return Verdict(REFUTED, f"{len(wrong)} of {len(evidence.rows)} rows and columns do not add up: {words}.")


INPUTS: dict[str, Callable[..., Verdict]] = {
    function.__name__: function for function in (agreement, pattern_read_without_object, sums_agree)
}


def _best(rows: pd.DataFrame) -> pd.Series:
    summary = summarize(rows, by=["tap"])
    return summary.loc[summary["mean"].idxmax()]


def _span_predicates_inputs(row: pd.Series) -> str:
    return span(row["mean"], row.low, row.high)


TARGET = "area"
"""The paper's target: mean nucleus area, from which the magnification is named."""
PAIRS = (("pruned", "pretrained"), ("pruned", "scratch"))
BETTER = {"mae_px": -1, "kappa": 1}
"""The sign of a difference that is an improvement."""
UNITS = {"mae_px": "difference in mean absolute error (px)", "kappa": "difference in Cohen's kappa"}


def row_beats(evidence: Evidence, *, row: str, other: str, score: str, level: float = 0.05) -> Verdict:
    """One row of Table 2 is better than another, by the exact sign-flip test over test slides.

    Rows: those of :func:`studies.transfer_scores.score_predictions` with ``converged`` (bool): whether the run's best
    epoch is not its last. A row that has not converged decides nothing.
    """
    _need(evidence.rows, ["row", "target", "seed", "slide", "converged", score])
    everything = evidence.rows if evidence.everything is None else evidence.everything
    table = only(everything, target=TARGET)
    mine = only(evidence.rows, target=TARGET)
    for name in (row, other):
        only(mine, row=name)
    compared = compare_rows(table[table.network.isin(_complete(table))], pairs=PAIRS)
    found = only(compared, network=evidence.network, score=score, first=row, second=other).iloc[0]
    words = (
        f"{row} minus {other}: {span(found.difference, found.low, found.high)} over {found.n_slides} slides"
    )
    words += f", {found.seeds} seeds, p {found.p_holm:.3f} after Holm's correction"
    status = UNDECIDED
    if found.p_holm < level:
        status = HOLDS if found.difference * BETTER[score] > 0 else REFUTED
    if late := [name for name in (row, other) if not mine.converged[mine.row == name].all()]:
        status = UNDECIDED
        words += f"; not converged: {' and '.join(late)}"
    return Verdict(status, f"{words}.", found.difference, found.low, found.high, UNITS[score], 0.0)


def chosen_tap_near_best(evidence: Evidence, *, taps_apart: int, level: float = 0.05) -> Verdict:
    """The tap chosen by scale R² lies near the best tap for transfer, for error and kappa alike.

    Rows: those of :func:`studies.s05_runs.read_out_scores`, taps in the network's order, with ``scale_chosen`` (bool): the
    tap that the layer-wise result chose. The best tap is that of all validation patches; refuted if it lies further away
    and is significantly better on test slides, by either score.
    """
    _need(evidence.rows, ["tap", "target", "split", "slide", "scale_chosen", *BETTER])
    rows = only(evidence.rows, target=TARGET)
    rows = rows[rows.tap != "mean"]
    taps = list(dict.fromkeys(rows.tap))
    chosen = list(dict.fromkeys(rows.tap[rows.scale_chosen.astype(bool)]))
    if len(chosen) != 1:
        raise MissingRows(f"One tap must be marked as chosen by scale R²; there are {len(chosen)}.")
    validation = only(rows, split="validation", slide="all")
    test = only(rows, split="test")
    test = test[test.slide != "all"]
    words, distances, gains, p = [], [], [], []
    for score, sign in BETTER.items():
        best = str(validation.tap.loc[(validation[score] * sign).idxmax()])
        apart = abs(taps.index(best) - taps.index(chosen[0]))
        wide = test.pivot(index="slide", columns="tap", values=score)
        gain = ((wide[best] - wide[chosen[0]]) * sign).dropna().to_numpy()
        distances.append(apart)
        gains.append(float(gain.mean()))
        p.append(sign_flip_test(gain))
        words.append(
            f"by {score} {best}, {apart} taps from {chosen[0]} and better by {number(gains[-1])} on test slides"
        )
    far = np.array(distances) > taps_apart
    refuted = far & (np.array(gains) > 0) & (holm(np.array(p)) < level)
    status = REFUTED if refuted.any() else HOLDS if not far.any() else UNDECIDED
    return Verdict(
        status, f"Best {'; '.join(words)}.", max(distances), quantity="taps apart", threshold=taps_apart
    )


TRANSFER: dict[str, Callable[..., Verdict]] = {
    function.__name__: function for function in (row_beats, chosen_tap_near_best)
}


def _complete(table: pd.DataFrame) -> list[str]:
    """Networks with every row of Table 2: only they enter the correction."""
    needed = {name for pair in PAIRS for name in pair}
    return [network for network, part in table.groupby("network", sort=False) if needed <= set(part.row)]


def _need(table: pd.DataFrame, columns: list[str]) -> None:
    for column in columns:
        if column not in table:
            raise ResultsError(
                f"claims of transfer: the deciding table needs a column {column!r}.\n"
                f"Received: {', '.join(table)}.\n{did_you_mean(column, table.columns)}".rstrip()
            )
