"""Tests of the claims about images, noise and printed numbers (§3.2, §4.1, §4.2). Knows tables only."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
from scipy import stats

from scalelib.statistics import summarize
from scalelib.verdicts import HOLDS, REFUTED, UNDECIDED, Evidence, Verdict, only, span


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
    words = f"Correlation length is read best at {pattern.tap}, R² {_span(pattern)}; "
    words += f"canvas size at {canvas.tap}, {_span(canvas)}."
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


def _span(row: pd.Series) -> str:
    return span(row["mean"], row.low, row.high)
