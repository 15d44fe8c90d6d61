"""What must hold for a claim to count as holding: named tests on one network's tables. Knows tables only."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import permutations
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from scalebook.claims import HOLDS, REFUTED, UNCONTRADICTED, UNDECIDED
from scalebook.exact_tests import compare_rows, holm, sign_flip_test, wilson
from scalelib.errors import ResultsError, require
from scalelib.pruning import OUTPUT_TAPS
from scalelib.statistics import compare_taps, interval, summarize

R2, DIFFERENCE = "held-out R²", "difference in held-out R²"
# The paper's three curves: in words, what the rows of each have in common, and the unit of its interval.
CURVES: dict[str, tuple[str, dict[str, str], str]] = {
    "imagenet": ("ImageNet weights", {}, "repeat"),
    "random": ("random weights", {"weights": "random"}, "weights_seed"),
    "shuffled": ("shuffled measures", {"condition": "shuffled"}, "repeat"),
}
# The paper's target of the transfer: mean nucleus area, from which the magnification is named.
TARGET = "area"
MOST_KEPT = 0.95  # of a network's parameters: a cut that leaves more is no test of pruning
NO_TEST = "no test of pruning"
# The sign of a difference that is an improvement.
BETTER = {"mae_px": -1, "kappa": 1}
UNITS = {"mae_px": "difference in mean absolute error (px)", "kappa": "difference in Cohen's kappa"}


class MissingRows(ResultsError):
    """The results do not hold what a test needs: its claim is not run, rather than decided."""


@dataclass(frozen=True)
class Verdict:
    """What a test says of one network: a sentence with the numbers, the effect that decided with its 95 % interval and
    what it is, the value of it at which the claim turns, NaN where there is none, and the side that speaks for the claim
    (1: above). ``note`` is what a sentence over several networks says of this one."""

    status: str
    evidence: str
    effect: float = math.nan
    low: float = math.nan
    high: float = math.nan
    quantity: str = ""
    threshold: float = math.nan
    side: int = 1
    note: str = ""


@dataclass(frozen=True)
class Evidence:
    """One network's rows of the deciding table and of further ones by name; and the table with all networks, for
    corrections over all of them."""

    trained: str
    rows: pd.DataFrame
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    network: str = ""
    everything: pd.DataFrame = field(default_factory=pd.DataFrame)

    def select(self, *, weights: str = "", **labels: str) -> pd.DataFrame:
        """Rows of one set of weights (default: the trained ones), condition, estimator and measure."""
        usual = {"condition": "true", "estimator": "ridge", "measure": "sqrt_area_ratio"}
        return only(self.rows, weights=weights or self.trained, **usual | labels)

    def curve(self, name: str, **labels: str) -> pd.DataFrame:
        """One of `CURVES`: mean and interval by tap."""
        _, own, unit = CURVES[name]
        return summarize(self.select(**own, **labels), by=["tap"], unit=unit)


def only(table: pd.DataFrame, **values: str) -> pd.DataFrame:
    """Rows with the given values in the named columns; never none."""
    rows = table
    for column, value in values.items():
        rows = rows[rows[column] == value] if column in rows else rows.iloc[:0]
    if rows.empty:
        described = ", ".join(f"{column} {value!r}" for column, value in values.items())
        raise MissingRows(f"The results hold no rows with {described}.")
    return rows


def number(value: float, digits: int = 2) -> str:
    """A number in a sentence: two decimals, or none where it is large, or a power of ten where it is vast."""
    if abs(value) >= 1e6 and math.isfinite(value):
        mantissa, power = f"{value:.1e}".split("e+")
        text = f"{mantissa}×10{str(int(power)).translate(str.maketrans('0123456789', '⁰¹²³⁴⁵⁶⁷⁸⁹'))}"
    else:
        text = f"{value:,.{digits if abs(value) < 100 else 0}f}"
    return text.replace("-", "−")


def span(effect: float, low: float, high: float) -> str:
    """An effect with its interval, for a sentence: ``0.10 (−0.05 to 0.25)``."""
    return f"{number(effect)} ({number(low)} to {number(high)})"


def interior_peak(evidence: Evidence, *, significant_below_peak: Sequence[str]) -> Verdict:
    """The best tap is neither the first nor the last, and the named ones lie significantly below it.

    A named tap at which the network was not read leaves the claim not run.
    """
    rows = evidence.select()
    means = _means(rows)
    taps, peak = list(means.index), str(means.idxmax())
    if peak == taps[0] or peak in OUTPUT_TAPS:
        inside = str(means.drop([taps[0], *OUTPUT_TAPS], errors="ignore").idxmax())
        row = _difference(rows, inside, peak)
        words = f"The best tap is {peak}, an end of the network; the best inside, {inside}, differs by {_span(row)}."
        return _verdict(REFUTED, words, row, note=peak)
    ends = [taps[0] if name == "first" else name for name in significant_below_peak]
    found = [_difference(rows, peak, end) for end in ends if end in taps and end != peak]
    worst = min(found, key=lambda row: row.low)
    words = "; ".join(f"{peak} above {row.b} by {_span(row)}" for row in found)
    if unread := [end for end in ends if end not in taps]:
        raise MissingRows(f"{words}; but the network was not read at {', '.join(unread)}.")
    return _verdict(HOLDS if worst.low > 0 else UNDECIDED, f"{words}.", worst, note=peak)


def drop(
    evidence: Evidence, *, start: str, end: str, estimator: str = "ridge", equal_width: bool = False
) -> Verdict:
    """R² falls from the peak of the feature taps to another tap, by the corrected paired t interval.

    With ``equal_width`` only taps that reach the common width are compared, each projected to it.
    """
    require(start == "peak", "drop", "a drop starts at the peak", f"start={start!r}", error=ResultsError)
    _whole(evidence, end)
    wide = ""
    if equal_width:
        every = only(evidence.tables.get("equal_width", pd.DataFrame()), weights=evidence.trained)
        width = int(every.width.max())
        rows, wide = every[every.width == width], f" at {width} dimensions each"
    else:
        every = rows = evidence.select(estimator=estimator)
    features = [tap for tap in rows.tap.unique() if tap not in OUTPUT_TAPS]
    target = {"first": features[0], "last_feature": features[-1]}.get(end, end)
    _read_at(every, target)
    if target not in set(rows.tap):
        own = int(every.width[every.tap == target].iloc[0])
        raise MissingRows(f"{target} has {own} dimensions, fewer than the common width of {width}.")
    means = _means(rows)
    peak = str(means[features].idxmax())
    if peak == target:
        words = f"{target} is itself the peak, {number(means[peak])}{wide}."
        return Verdict(REFUTED, words, 0.0, quantity=DIFFERENCE, threshold=0.0)
    row = _difference(rows, peak, target)
    status = HOLDS if row.low > 0 else REFUTED if row.high < 0 else UNDECIDED
    words = f"{peak} {number(means[peak])}, {target} {number(means[target])}{wide}: a drop of {_span(row)}."
    return _verdict(status, words, row)


def at_most(evidence: Evidence, *, tap: str, value: float, estimator: str = "ridge") -> Verdict:
    """The mean R² of one tap is not above a value; refuted if it is significantly above."""
    rows = evidence.select(estimator=estimator)
    tap = rows.tap.iloc[0] if tap == "first" else tap
    _read_at(rows, tap)
    row = summarize(rows[rows.tap == tap], by=["tap"]).iloc[0]
    status = UNCONTRADICTED if row["mean"] <= value else REFUTED if row.low > value else UNDECIDED
    words = f"{tap}: mean R² {_span(row)} by {estimator}."
    return _verdict(status, words, row, R2, value, side=-1)


def at_most_everywhere(evidence: Evidence, *, value: float, condition: str = "true") -> Verdict:
    """No tap's mean R² is above a value; refuted if one is significantly above.

    With ``condition="true"`` the rows are those of random weights, with the weight seed as the unit.
    """
    summary = evidence.curve("shuffled" if condition == "shuffled" else "random")
    above = summary[summary.low > value]
    row = summary.loc[(above if len(above) else summary)["mean"].idxmax()]
    status = REFUTED if len(above) else UNCONTRADICTED if row["mean"] <= value else UNDECIDED
    words = f"Highest at {row.tap}: {_span(row)}"
    words += f"; significantly above {value:g} at {len(above)} of {len(summary)} taps." if len(above) else "."
    return _verdict(status, words, row, R2, value, side=-1)


def beats(evidence: Evidence, *, other: str, from_depth: float, exclude: Sequence[str] = ()) -> Verdict:
    """Trained weights read scale better than random ones at every tap from a relative depth on.

    The interval of a difference adds the corrected variance over repeats and that over weight seeds; degrees of freedom
    are those of the smaller sample.
    """
    trained, untrained = (evidence.curve(name).set_index("tap") for name in ("imagenet", other))
    taps = list(trained.index)
    late = [tap for i, tap in enumerate(taps) if i >= from_depth * (len(taps) - 1) and tap not in exclude]
    if unread := [tap for tap in late if tap not in untrained.index or untrained.units[tap] < 2]:
        raise MissingRows(f"With two {other} seeds the network was not read at {', '.join(unread)}.")
    upper = 0.975
    both = [(t.high - t["mean"])[late] / stats.t.ppf(upper, t.units[late] - 1) for t in (trained, untrained)]
    error = np.hypot(*both)
    difference = trained["mean"][late] - untrained["mean"][late]
    half = error * stats.t.ppf(upper, int(min(trained.units.min(), untrained.units.min())) - 1)
    low, high = difference - half, difference + half
    status = HOLDS if (low > 0).all() else REFUTED if (high < 0).any() else UNDECIDED
    worst = (high if status == REFUTED else low).idxmin()
    words = f"Significantly better at {(low > 0).sum()} of {len(late)} taps; least at {worst}, by "
    found = float(difference[worst]), float(low[worst]), float(high[worst])
    return Verdict(status, f"{words}{span(*found)}.", *found, DIFFERENCE, 0.0)


def peak_order(evidence: Evidence, *, order: Sequence[str], estimator: str, statistic: str) -> Verdict:
    """The best taps of three curves stand in an order, in the published figure's units."""
    values, found = [], []
    for name in order:
        summary = evidence.curve(name, estimator=estimator)
        peak = summary.loc[summary[statistic].idxmax()]
        values.append(float(peak[statistic]))
        found.append(f"{CURVES[name][0]} {number(values[-1])} at {peak.tap}")
    step = float(-np.diff(values).max())
    quantity = "smallest step between the three labels"
    status = HOLDS if step > 0 else REFUTED
    return Verdict(status, f"{', '.join(found)}.", step, quantity=quantity, threshold=0.0)


def chosen_inside(evidence: Evidence, *, after_depth: float) -> Verdict:
    """The rule cuts behind the middle and before the last feature tap, on both halves of the images."""
    _whole(evidence)
    chosen = only(evidence.rows, weights=evidence.trained)
    inside = (chosen.depth > after_depth) & (chosen.depth < 1)
    words = "; ".join(f"half {row.half}: {row.tap}, depth {row.depth:.2f}" for row in chosen.itertuples())
    status = HOLDS if inside.all() else UNDECIDED if inside.any() else REFUTED
    return Verdict(status, f"{words}.", note=" and ".join(chosen.tap.unique()))


def agreement(evidence: Evidence, *, within: tuple[float, float], at_least: float) -> Verdict:
    """Enough images keep their top-1 label at every size of a range; refuted if significantly fewer do, and not
    contradicted rather than shown if not significantly more do.

    Of ``pictures, manipulation, factor, n, agreement`` the rows ``resize`` count; all pictures together, with Wilson's
    95 % interval at the size where agreement is lowest.
    """
    rows = only(evidence.rows, weights=evidence.trained, manipulation="resize")
    rows = rows[rows.factor.between(*within) & (rows.factor != 1)]
    kept = (rows.agreement * rows.n).groupby(rows.factor).sum()
    counts = rows.n.groupby(rows.factor).sum()
    factor = float((kept / counts).idxmin())
    share, n = float(kept[factor] / counts[factor]), int(counts[factor])
    low, high = wilson(round(share * n), n)
    status = _at_least(share, low, high, at_least)
    words = f"Lowest at {factor:g} times the size: {share:.0%} of {n} images keep their label ({low:.0%} to {high:.0%})."
    return Verdict(status, words, share, low, high, "share of images that keep their label", at_least)


def pattern_read_without_object(evidence: Evidence, *, at_least: float) -> Verdict:
    """Some tap reads the correlation length of noise well enough; refuted if the best is significantly below, and not
    contradicted rather than shown if it is not significantly above.

    Of ``layerwise_r2`` with ``kind, measure, region`` the rows of blob noise, whole map and ridge count.
    """
    rows = only(evidence.rows, condition="true", estimator="ridge", kind="blob", region="whole map")
    best = []
    for measure in ("correlation_length", "canvas_size"):
        summary = summarize(only(rows, weights=evidence.trained, measure=measure), by=["tap"])
        best.append(summary.loc[summary["mean"].idxmax()])
    pattern, canvas = best
    untrained = rows[(rows.weights == "random") & (rows.measure == "correlation_length")]
    note = f"random weights {number(_means(untrained).max())}" if len(untrained) else ""
    status = _at_least(pattern["mean"], pattern.low, pattern.high, at_least)
    words = f"Correlation length is read best at {pattern.tap}, R² {_span(pattern)}; "
    words += f"canvas size at {canvas.tap}, {_span(canvas)}."
    return _verdict(status, words, pattern, R2, at_least, note=note)


def sums_agree(evidence: Evidence) -> Verdict:
    """Every row and column of a printed table sums to its printed total. Rows: ``line, name, printed, sum, difference``."""
    wrong = evidence.rows[evidence.rows.difference != 0]
    if wrong.empty:
        return Verdict(HOLDS, f"All {len(evidence.rows)} rows and columns add up.")
    lines = wrong[["line", "name", "sum", "printed"]].itertuples(index=False, name=None)
    words = "; ".join(f"{line} {name} sums to {ours}, printed {theirs}" for line, name, ours, theirs in lines)
    note = f"{len(wrong)} of {len(evidence.rows)}"
    return Verdict(REFUTED, f"{note} rows and columns do not add up: {words}.", note=note)


def row_beats(evidence: Evidence, *, row: str, other: str, score: str, level: float = 0.05) -> Verdict:
    """One row of Table 2 is better than another, by the exact sign-flip test over test slides.

    ``converged`` says whether the run's best epoch is not its last; a row that has not converged decides nothing. Holm's
    correction runs over all comparisons of Table 2 that its networks allow. What is kept of a network is said beside.
    """
    mine = only(evidence.rows, target=TARGET)
    for name in (row, other):
        only(mine, row=name)
    compared = compare_rows(only(evidence.everything, target=TARGET))
    found = only(compared, network=evidence.network, score=score, first=row, second=other).iloc[0]
    effect = found.difference, found.low, found.high
    words = f"{row} minus {other}: {span(*effect)} over {found.n_slides} slides, {found.seeds} seeds"
    words += f", p {found.p_holm:.3f} after Holm's correction"
    status, notes = UNDECIDED, []
    if "runs" in evidence.tables:
        size = evidence.tables["runs"].groupby("row").parameters.first()
        kept = size[row] / size["pretrained"]
        notes = [f"{100 * kept:.0f} % of parameters kept" + f", {NO_TEST}" * bool(kept >= MOST_KEPT)]
    if found.p_holm < level:
        status = HOLDS if found.difference * BETTER[score] > 0 else REFUTED
    if late := [name for name in (row, other) if not mine.converged[mine.row == name].all()]:
        status = UNDECIDED
        words += f"; not converged: {' and '.join(late)}"
    words, note = "; ".join([words, *notes]), "; ".join(notes + ["not significant"] * (status == UNDECIDED))
    return Verdict(status, f"{words}.", *effect, UNITS[score], 0.0, BETTER[score], note)


def chosen_tap_near_best(evidence: Evidence, *, taps_apart: int, level: float = 0.05) -> Verdict:
    """The tap chosen by scale R² (``scale_chosen``) lies near the best tap for transfer, for error and kappa alike.

    Taps stand in the network's order. The best tap is that of all validation patches; refuted if it lies further away
    and is significantly better on test slides, by either score.
    """
    _whole(evidence)
    rows = only(evidence.rows, target=TARGET).query("tap != 'mean'")
    taps, chosen = list(rows.tap.unique()), list(rows.tap[rows.scale_chosen.astype(bool)].unique())
    if len(chosen) != 1:
        raise MissingRows(f"One tap must be marked as chosen by scale R²; there are {len(chosen)}.")
    validation = only(rows, split="validation", slide="all")
    test = only(rows[rows.slide != "all"], split="test")
    words, distances, gains, p = [], [], [], []
    for score, sign in BETTER.items():
        best = str(validation.tap.loc[(validation[score] * sign).idxmax()])
        wide = test.pivot(index="slide", columns="tap", values=score)
        gain = ((wide[best] - wide[chosen[0]]) * sign).dropna().to_numpy()
        distances.append(abs(taps.index(best) - taps.index(chosen[0])))
        gains.append(float(gain.mean()))
        p.append(sign_flip_test(gain))
        words.append(
            f"by {score} {best}, {distances[-1]} away from {chosen[0]} and by {number(gains[-1])} better on test slides"
        )
    far = np.array(distances) > taps_apart
    refuted = far & (np.array(gains) > 0) & (holm(np.array(p)) < level)
    status = REFUTED if refuted.any() else HOLDS if not far.any() else UNDECIDED
    text = f"Best {'; '.join(words)}."
    return Verdict(status, text, max(distances), quantity="layers apart", threshold=taps_apart, side=-1)


def erased(evidence: Evidence, *, end: str) -> Verdict:
    """Where R² falls from its peak, a reading that does not depend on channels' units falls too; refuted where only that of
    features as the network has them falls: scale is then turned down, not gone."""
    free = drop(evidence, start="peak", end=end)
    unscaled = drop(evidence, start="peak", end=end, estimator="ridge_unscaled")
    status = HOLDS if free.status == HOLDS else REFUTED if unscaled.status == HOLDS else UNDECIDED
    words = f"Free of units: {free.evidence} As the network has it: {unscaled.evidence}"
    if free.status == unscaled.status == REFUTED:
        raise MissingRows(f"Nothing falls that could be erased. {words}")
    return replace(free, status=status, evidence=words)


def fall_grows(evidence: Evidence, *, top1: Mapping[str, float], end: str, level: float = 0.05) -> Verdict:
    """R² falls further from its peak the better a network is, by the exact one-sided test of the rank correlation with its
    published accuracy; refuted where that is not positive. A network whose peak is the end falls by 0."""
    falls = {}
    for name in top1:
        rows = only(evidence.everything, network=name)
        label = next((label for label in rows.weights if label.startswith(evidence.trained)), "none")
        falls[name] = drop(Evidence(label, rows), start="peak", end=end).effect
    ours, published = (stats.rankdata(list(values.values())) for values in (falls, top1))
    rho = float(np.corrcoef(ours, published)[0, 1])
    p = float((np.array(list(permutations(ours))) @ published >= ours @ published - 1e-9).mean())
    status = HOLDS if p < level else REFUTED if rho <= 0 else UNDECIDED
    words = "; ".join(f"{name} ({top1[name]:.1f} %) {number(fall)}" for name, fall in falls.items())
    note = f"{len(falls)} networks, exact p {p:.3f}"
    words = f"Rank correlation {number(rho)} over {note}. Falls: {words}."
    quantity = "rank correlation of fall and accuracy"
    return Verdict(status, words, rho, quantity=quantity, threshold=0.0, note=note)


def falls_further(evidence: Evidence, *, than: str, end: str) -> Verdict:
    """R² falls further from its peak than with other weights of the same architecture, by the corrected interval of the
    difference of the two falls on common splits."""
    falls, words = [], []
    for weights in (evidence.trained, than):
        rows = evidence.select(weights=weights)
        _read_at(rows, end)
        by_tap = rows.groupby(["repeat", "tap"]).r2_test.mean().unstack()
        peak = by_tap.drop(columns=list(OUTPUT_TAPS), errors="ignore").mean().idxmax()
        falls.append((by_tap[peak] - by_tap[end]).to_numpy())
        words.append(f"trained at {weights} {number(falls[-1].mean())} from {peak}")
    half, _, _ = interval(falls[0] - falls[1], float((rows.n_test / rows.n_train).mean()), 0.95)
    mean = float((falls[0] - falls[1]).mean())
    status = HOLDS if mean > half else REFUTED if mean < -half else UNDECIDED
    found = mean, mean - half, mean + half
    text = f"Falls to {end}: {', '.join(words)}; {span(*found)} more."
    return Verdict(status, text, *found, "difference of falls of R²", 0.0)


def worst_where_foretold(evidence: Evidence, *, taps: Sequence[str], within: float) -> Verdict:
    """Least squares is worst where training images are as many as channels and one, up to a factor, and far below both sides.

    Of ``tap, channels, trough_n, trough_r2, covered, peaked`` the named taps count; a sweep that does not reach both sides
    of that number decides nothing.
    """
    rows = only(evidence.rows, weights=evidence.trained)
    rows = rows[rows.tap.isin(taps)]
    if rows.empty:
        raise MissingRows(f"The network was not read at {', '.join(taps)}.")
    ratio = rows.trough_n / (rows.channels + 1)
    right = rows.peaked & ratio.between(1 / within, within)
    words = "; ".join(
        f"{row.tap} foretold {row.channels + 1}, worst at {row.trough_n:.0f} with R² {number(row.trough_r2)}"
        for row in rows.itertuples()
    )
    status = HOLDS if right.all() else REFUTED if rows.covered.all() else UNDECIDED
    furthest = float(np.exp(np.abs(np.log(ratio)).max()))
    return Verdict(
        status, f"{words}.", furthest, quantity="factor between worst and foretold", threshold=within, side=-1
    )


# Every test that a claim can name.
PREDICATES: dict[str, Callable[..., Verdict]] = {
    test.__name__: test
    for test in (
        *(interior_peak, drop, at_most, at_most_everywhere, beats, peak_order, chosen_inside),
        *(agreement, pattern_read_without_object, sums_agree, row_beats, chosen_tap_near_best),
        *(erased, fall_grows, falls_further, worst_where_foretold),
    )
}


def _means(rows: pd.DataFrame) -> pd.Series:
    return rows.groupby("tap", sort=False).r2_test.mean()


def _read_at(rows: pd.DataFrame, tap: str) -> None:
    if tap not in set(rows.tap):
        raise MissingRows(f"The network was not read at {tap}.")


def _whole(evidence: Evidence, end: str = "last_feature") -> None:
    """Refuse to take the tap at which weights end, as their label says, for the network's last features."""
    if end == "last_feature" and ", to " in evidence.trained:
        raise MissingRows(f"The weights end early ({evidence.trained}): a later tap might win.")


def _difference(rows: pd.DataFrame, first: str, second: str) -> Any:
    return compare_taps(rows, first, second, by=[]).iloc[0].rename({"mean_difference": "mean"})


def _span(row: pd.Series) -> str:
    return span(row["mean"], row.low, row.high)


def _at_least(value: float, low: float, high: float, limit: float) -> str:
    if value >= limit:
        return HOLDS if low >= limit else UNCONTRADICTED
    return REFUTED if high < limit else UNDECIDED


def _verdict(
    status: str, text: str, row: Any, quantity: str = DIFFERENCE, threshold: float = 0.0, **further: Any
) -> Verdict:
    return Verdict(status, text, row["mean"], row.low, row.high, quantity, threshold, **further)
