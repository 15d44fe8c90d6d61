"""Paired comparisons whose unit is the test slide: exact sign flips, exact intervals, Holm's correction.

Knows tables of scores only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from scalelib.channel_relation import holm
from scalelib.errors import ResultsError

MOST_EXACT = 20
"""Slides up to which all sign patterns are gone through; beyond, some are drawn."""
DRAWN = 2**17 - 1


def sign_flip_test(differences: ArrayLike) -> float:
    """Exact two-sided p-value that paired differences are symmetric about zero.

    Parameters
    ----------
    differences : array-like of float, shape (n,)
        One per slide, n ≥ 2, finite.

    Returns
    -------
    float
        Share of the 2ⁿ sign patterns whose mean is at least as far from zero as the observed one; with more than
        20 slides, of the observed pattern and 131,071 drawn ones.

    Raises
    ------
    ResultsError
        If there are fewer than two differences, or one is not finite.

    Notes
    -----
    Fisher 1935, randomisation test for paired samples. With n slides p is at least 2 / 2ⁿ: six slides
    are the fewest that can give p < 0.05.

    Examples
    --------
    >>> sign_flip_test([1.0, 2.0, 3.0])
    0.25
    """
    values = _checked(differences, "sign_flip_test")
    means = _patterns(len(values)) @ values
    observed = abs(values.sum())
    return float((np.abs(means) >= observed - 1e-12 * np.abs(values).sum()).mean())


def subset_interval(differences: ArrayLike, *, level: float = 0.95) -> tuple[float, float]:
    """Exact interval for the centre of symmetric differences, which inverts the sign-flip test.

    Parameters
    ----------
    differences : array-like of float, shape (n,)
        One per slide, n ≥ 2, finite.
    level : float, default=0.95
        At least so much is covered; infinite where n is too small for it (fewer than six for 0.95).

    Returns
    -------
    tuple of float

    Notes
    -----
    Hartigan 1969: the means of the 2ⁿ − 1 non-empty subsets cut the line into 2ⁿ intervals of equal
    probability. With more than 20 slides the subsets are drawn.

    Examples
    --------
    >>> subset_interval(np.arange(1.0, 7.0))
    (1.0, 6.0)
    """
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
    """Compare rows of Table 2 over test slides, with seeds averaged within each slide.

    Parameters
    ----------
    scores : pandas.DataFrame
        From :func:`~scalelib.transfer_scores.score_predictions`.
    pairs : iterable of (str, str)
        Rows to compare: first minus second.
    values : sequence of str, default=("mae_px", "kappa")
    level : float, default=0.95

    Returns
    -------
    pandas.DataFrame
        One row per network, target, score and pair: ``n_slides``, ``seeds`` (of either row),
        ``difference`` (mean over slides), ``low``, ``high``, ``slides_above_zero``, ``p`` (exact sign
        flip) and ``p_holm``, corrected over all rows of the table.

    Raises
    ------
    ResultsError
        If a network lacks one of the rows, or the rows were scored on different slides.

    Notes
    -----
    Kappa of a single slide may be undefined (one class named throughout); such slides are left out of
    that comparison, and `n_slides` says how many remain.

    Examples
    --------
    >>> scores = pd.DataFrame({"network": "n", "target": "area", "seed": 1, "slide": list("abcabc"),
    ...                        "row": ["pruned"] * 3 + ["pretrained"] * 3, "mae_px": [1, 2, 3, 2, 4, 6]})
    >>> compare_rows(scores, pairs=[("pruned", "pretrained")], values=["mae_px"]).p.item()
    0.25
    """
    by_slide = scores[scores["slide"] != "all"]
    records = []
    for (network, target), part in by_slide.groupby(["network", "target"], sort=False):
        for value in values:
            if part[value].isna().all():
                continue
            mean = part.pivot_table(index="slide", columns="row", values=value, aggfunc="mean")
            for first, second in pairs:
                if not {first, second} <= set(part["row"]):
                    raise ResultsError(
                        f"compare_rows: {network} needs the rows {first!r} and {second!r}.\n"
                        f"Received: {sorted(set(part['row']))}."
                    )
                slides = [set(part.loc[part["row"] == row, "slide"]) for row in (first, second)]
                if slides[0] != slides[1]:
                    raise ResultsError(
                        f"compare_rows: rows of {network} are scored on the same slides.\n"
                        f"Received: {len(slides[0])} and {len(slides[1])}, of which {len(slides[0] & slides[1])} common."
                    )
                difference = (mean[first] - mean[second]).dropna().to_numpy()
                low, high = subset_interval(difference, level=level)
                records.append(
                    {
                        "network": network,
                        "target": target,
                        "score": value,
                        "first": first,
                        "second": second,
                        "n_slides": len(difference),
                        "seeds": min(
                            part.loc[part["row"] == row, "seed"].nunique() for row in (first, second)
                        ),
                        "difference": float(difference.mean()),
                        "low": low,
                        "high": high,
                        "slides_above_zero": int((difference > 0).sum()),
                        "p": sign_flip_test(difference),
                    }
                )
    table = pd.DataFrame(records)
    return table.assign(p_holm=holm(table["p"].to_numpy()))


def _checked(differences: ArrayLike, operation: str) -> np.ndarray:
    values = np.asarray(differences, np.float64)
    if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all():
        raise ResultsError(
            f"{operation}: at least two finite differences, one per slide.\n"
            f"Received: shape {values.shape}, finite={bool(np.isfinite(values).all())}."
        )
    return values


def _patterns(n: int) -> np.ndarray:
    """All 2ⁿ sign patterns, of shape (2ⁿ, n); with many slides the observed one and as many drawn as are enough."""
    if n > MOST_EXACT:
        drawn = np.random.default_rng(0).integers(0, 2, (DRAWN, n), dtype=np.int8)
        return np.vstack([np.ones((1, n)), 1.0 - 2.0 * drawn])
    return 1.0 - 2.0 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
