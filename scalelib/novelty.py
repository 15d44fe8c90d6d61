"""How far features lie from those seen in training, and how far held-out errors reach. Knows arrays only."""

from __future__ import annotations

import math

import numpy as np

from scalelib.errors import ResultsError

NEIGHBOURS = 5
COMPONENTS = 32
SMALLEST_SCALE = 1e-2


def conformal_quantile(residuals: np.ndarray, level: float) -> float:
    """Reach of an interval that holds a new residual with at least a given probability.

    Parameters
    ----------
    residuals : ndarray of shape (n,)
        Absolute held-out errors.
    level : float
        In (0, 1).

    Returns
    -------
    float
        The ⌈(n + 1) · level⌉-th smallest; infinite where there are too few for the level.

    Raises
    ------
    ResultsError
        If the level is not in (0, 1).

    Notes
    -----
    Vovk et al. 2005; exact where residuals are exchangeable.

    Examples
    --------
    >>> conformal_quantile(np.arange(1.0, 10.0), 0.9), conformal_quantile(np.arange(1.0, 9.0), 0.9)
    (9.0, inf)
    """
    if not 0 < level < 1:
        raise ResultsError(f"conformal_quantile: a level lies in (0, 1).\nReceived: {level}.")
    rank = math.ceil((len(residuals) + 1) * level - 1e-9)
    return float(np.sort(residuals)[rank - 1]) if rank <= len(residuals) else math.inf


def whitened_axes(centred: np.ndarray) -> np.ndarray:
    """Principal axes of standardised features, scaled so that projections have variance 1.

    Parameters
    ----------
    centred : ndarray of shape (n, channels), float64
        Features less their means.

    Returns
    -------
    ndarray of shape (channels, n_components)
        At most 32 components. A feature that varies less than a hundredth as much as the most
        variable one is divided by that hundredth instead: noise is not blown up.

    Examples
    --------
    >>> values = np.random.default_rng(0).normal(size=(500, 4)) * [1, 10, 5, 2]
    >>> values -= values.mean(axis=0)
    >>> np.round(np.cov((values @ whitened_axes(values)).T), 1).diagonal().tolist()
    [1.0, 1.0, 1.0, 1.0]
    """
    spread = centred.std(axis=0)
    scale = np.maximum(spread, SMALLEST_SCALE * spread.max())
    scale[scale == 0] = 1.0
    _, singular, right = np.linalg.svd(centred / scale, full_matrices=False)
    kept = max(1, min(COMPONENTS, int((singular > 1e-6 * singular[0]).sum())))
    return right[:kept].T / scale[:, None] * (math.sqrt(len(centred)) / np.maximum(singular[:kept], 1e-300))


def distance_to_reference(places: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Euclidean distance of each place to its fifth nearest reference.

    Parameters
    ----------
    places : ndarray of shape (n, k)
    reference : ndarray of shape (m, k)
        With fewer than five, the farthest counts.

    Returns
    -------
    ndarray of shape (n,)

    Examples
    --------
    >>> distance_to_reference(np.zeros((1, 1)), np.arange(1.0, 8.0)[:, None]).tolist()
    [5.0]
    """
    distances = np.empty(len(places))
    squares = (reference**2).sum(axis=1)
    nth = min(NEIGHBOURS, len(reference)) - 1
    for start in range(0, len(places), 256):
        part = places[start : start + 256]
        gaps = (part**2).sum(axis=1)[:, None] - 2 * part @ reference.T + squares
        distances[start : start + 256] = np.sqrt(np.maximum(np.partition(gaps, nth, axis=1)[:, nth], 0))
    return distances
