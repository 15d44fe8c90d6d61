"""Taps of different width made comparable: random projections, and how many directions a tap really uses.

Knows arrays only.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from scalelib.errors import DataError
from scalelib.spectrum import feature_scale
from scalelib.validation import check_activations, check_choice, check_count


def random_projection(
    acts: Mapping[str, Any], width: int, *, random_state: int = 0, narrow: str = "refuse"
) -> dict[str, np.ndarray]:
    """Every tap's standardised features projected at random to one common width.

    Parameters
    ----------
    acts : mapping of str to array_like, shape (n_images, channels)
        Pooled activations per tap, finite.
    width : int
        Number of features after the projection, at least 1: that of the narrowest tap, or of the
        tap (such as the logits) that a wider one is to be compared with.
    random_state : int, default=0
        Seed. A tap's projection depends on it, the tap's name, its channels and `width` alone.
    narrow : {"refuse", "keep"}, default="refuse"
        What becomes of taps with fewer than `width` channels: an error, or the tap as it is. One
        with exactly `width` channels is projected like the others.

    Returns
    -------
    dict of str to ndarray of float64, shape (n_images, width)

    Raises
    ------
    DataError
        If a tap is narrower than `width` and `narrow` is "refuse".

    Notes
    -----
    Z R / √width with standard normal R (Johnson and Lindenstrauss 1984). Features are standardised
    over all images first, as ridge regression would weigh them; measures are not looked at.

    Examples
    --------
    >>> acts = {"wide": np.random.default_rng(0).normal(size=(20, 64))}
    >>> random_projection(acts, 10)["wide"].shape
    (20, 10)
    """
    operation = "random_projection"
    width = check_count(width, name="width", operation=operation)
    seed = check_count(random_state, name="random_state", operation=operation, minimum=0)
    check_choice(narrow, ("refuse", "keep"), name="way with narrow taps", operation=operation)
    arrays = check_activations(acts, _rows(acts), operation=operation)
    too_narrow = {tap: X.shape[1] for tap, X in arrays.items() if X.shape[1] < width}
    if too_narrow and narrow == "refuse":
        tap, channels = next(iter(too_narrow.items()))
        raise DataError(
            f"{operation}: a projection cannot widen a tap.\n"
            f"Received: width {width}, and {channels} channels at {tap!r} ({len(too_narrow)} such taps).\n"
            f"width={min(too_narrow.values())} suits all taps; narrow='keep' leaves narrow ones as they are."
        )
    return {
        tap: X.astype(np.float64) if tap in too_narrow else _project(tap, X, width, seed)
        for tap, X in arrays.items()
    }


def effective_rank(features: Any, *, kind: str = "entropy") -> float:
    """How many directions the variation of a tap's features really uses.

    Parameters
    ----------
    features : array_like, shape (n_images, channels)
        Pooled activations of one tap, finite; centred here, not scaled.
    kind : {"entropy", "participation"}, default="entropy"
        ``entropy``: exp of the entropy of the singular values' shares (Roy and Vetterli 2007).
        ``participation``: (Σλ)² / Σλ² of the covariance's eigenvalues λ, which heeds only the
        largest.

    Returns
    -------
    float
        From 1 to min(n_images − 1, channels); 0 where nothing varies.

    Raises
    ------
    DataError
        If the features are no finite matrix, or the kind is unknown.

    Examples
    --------
    >>> round(effective_rank(np.vstack([np.eye(8), -np.eye(8)])), 6)
    8.0
    """
    operation = "effective_rank"
    check_choice(kind, ("entropy", "participation"), name="kind", operation=operation)
    X = check_activations({"features": features}, _rows({"features": features}), operation=operation)
    centred = X["features"].astype(np.float64)
    centred = centred - centred.mean(axis=0)
    singular = np.linalg.svd(centred, compute_uv=False)
    if singular[0] <= len(centred) * np.finfo(np.float64).eps * np.abs(X["features"]).max():
        return 0.0
    share = singular / singular.sum()
    if kind == "entropy":
        share = share[share > 0]
        return float(np.exp(-(share * np.log(share)).sum()))
    return float((share**2).sum() ** 2 / (share**4).sum())


def _rows(acts: Any) -> int:
    first = next(iter(acts.values()), ()) if isinstance(acts, Mapping) else ()
    return len(np.atleast_1d(np.asarray(first)))


def _project(tap: str, X: np.ndarray, width: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng([seed, zlib.crc32(tap.encode()), X.shape[1], width])
    features = X.astype(np.float64)
    standardised = (features - features.mean(axis=0)) / feature_scale(X)
    return standardised @ rng.normal(size=(X.shape[1], width)) / np.sqrt(width)
