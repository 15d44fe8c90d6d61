"""What decides the companion's claims beside intervals: exact sign flips over test slides, for the rows of the paper's Table 2, Holm's correction, Wilson's interval. Knows tables only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from scalelib.errors import ResultsError, require

# Slides up to which all sign patterns are gone through; beyond, some are drawn.
MOST_EXACT = 20
DRAWN = 2**17 - 1
COLUMNS = ["network", "target", "score", "first", "second", "n_slides", "seeds", "difference", "low", "high"]
COLUMNS += ["slides_above_zero", "p"]


def sign_flip_test(differences: ArrayLike) -> float:
    """Exact two-sided p-value that paired differences are symmetric about zero."""
    values = _checked(differences, "sign_flip_test")
    means = _patterns(len(values)) @ values
    observed = abs(values.sum())
    return float((np.abs(means) >= observed - 1e-12 * np.abs(values).sum()).mean())


def subset_interval(differences: ArrayLike, *, level: float = 0.95) -> tuple[float, float]:
    """Exact interval for the centre of symmetric differences, which inverts the sign-flip test."""
    values = _checked(differences, "subset_interval")
    chosen = _patterns(len(values)) > 0
    chosen = chosen[chosen.any(axis=1)]
    means = np.sort((chosen @ values) / chosen.sum(axis=1))
    cut = int(np.floor((1 - level) / 2 * (len(means) + 1) + 1e-9))
    return (float(means[cut - 1]), float(means[-cut])) if cut else (-np.inf, np.inf)


def compare_rows(
    scores: pd.DataFrame,
    *,
    pairs: Iterable[tuple[str, str]] = (("pruned", "pretrained"), ("pruned", "scratch")),
    values: Sequence[str] = ("mae_px", "kappa"),
    level: float = 0.95,
) -> pd.DataFrame:
    """Compare rows of Table 2 over test slides, with seeds averaged within each slide, in each network that has both."""
    by_slide = scores[scores["slide"] != "all"]
    records = []
    for (network, target), part in by_slide.groupby(["network", "target"], sort=False):
        for value, (first, second) in product([v for v in values if part[v].notna().any()], pairs):
            mean = part.pivot_table(index="slide", columns="row", values=value, aggfunc="mean")
            slides = [set(part.loc[part["row"] == row, "slide"]) for row in (first, second)]
            if not all(slides):
                continue
            rule = f"{network} needs the rows {first!r} and {second!r} on the same slides"
            received = (
                f"{len(slides[0])} and {len(slides[1])} slides, {len(slides[0] & slides[1])} of them common"
            )
            require(slides[0] == slides[1], "compare_rows", rule, received, error=ResultsError)
            difference = (mean[first] - mean[second]).dropna().to_numpy()
            low, high = subset_interval(difference, level=level)
            seeds = min(part.loc[part["row"] == row, "seed"].nunique() for row in (first, second))
            found = len(difference), seeds, float(difference.mean()), low, high, int((difference > 0).sum())
            records.append((network, target, value, first, second, *found, sign_flip_test(difference)))
    require(records, "compare_rows", f"no network has both rows of any of {pairs}", error=ResultsError)
    table = pd.DataFrame(records, columns=COLUMNS)
    return table.assign(p_holm=holm(table["p"].to_numpy()))


def _checked(differences: ArrayLike, operation: str) -> np.ndarray:
    values = np.asarray(differences, np.float64)
    good = values.ndim == 1 and len(values) >= 2 and np.isfinite(values).all()
    rule = "at least two finite differences, one per slide"
    require(good, operation, rule, f"shape {values.shape}", error=ResultsError)
    return values


def _patterns(n: int) -> np.ndarray:
    """All 2ⁿ sign patterns, of shape (2ⁿ, n); with many slides the observed one and as many drawn as are enough."""
    if n > MOST_EXACT:
        drawn = np.random.default_rng(0).integers(0, 2, (DRAWN, n), dtype=np.int8)
        return np.vstack([np.ones((1, n)), 1.0 - 2.0 * drawn])
    return 1.0 - 2.0 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)


def holm(p: np.ndarray) -> np.ndarray:
    """p-values corrected for their number, step down (Holm 1979)."""
    order = np.argsort(p)
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(stepped, 1.0)
    return corrected


def wilson(count: int, n: int, *, level: float = 0.95) -> tuple[float, float]:
    """Wilson's interval of a share: `count` of `n`."""
    interval = stats.binomtest(int(count), int(n)).proportion_ci(level, method="wilson")
    return float(interval.low), float(interval.high)
