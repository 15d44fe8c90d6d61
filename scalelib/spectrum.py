"""Centred, scaled features and their singular value decomposition.

Knows arrays only: neither targets nor taps.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
from scipy import linalg
from threadpoolctl import threadpool_limits

SMALLEST_SCALE = 1e-2


@dataclass(frozen=True)
class Spectrum:
    """Z = U diag(s) Vᵀ: centred (and perhaps standardised) features of rank r.

    Parameters
    ----------
    centre : ndarray of float64, shape (d,)
        What was subtracted from the features.
    scale : ndarray of float64, shape (d,)
        What they were then divided by.
    left : ndarray of float64, shape (n, r)
        U.
    singular : ndarray of float64, shape (r,)
        s, in falling order, all of them above rounding.
    right : ndarray of float64, shape (r, d)
        Vᵀ.
    """

    centre: np.ndarray
    scale: np.ndarray
    left: np.ndarray
    singular: np.ndarray
    right: np.ndarray


def decompose(features: np.ndarray, *, standardise: bool) -> Spectrum:
    """Singular value decomposition of centred features.

    Parameters
    ----------
    features : ndarray, shape (n, d)
        Training rows.
    standardise : bool
        Divide by `feature_scale` first.

    Returns
    -------
    Spectrum

    Examples
    --------
    >>> decompose(np.array([[0.0, 5.0], [2.0, 5.0]]), standardise=False).singular.round(6)
    array([1.414214])
    """
    scale = feature_scale(features) if standardise else np.ones(features.shape[1])
    features = np.asarray(features, np.float64)
    varies = np.ptp(features, axis=0) > 0
    centre = np.where(varies, features.mean(axis=0), features[0])  # a constant leaves exact zeros
    left, singular, right = linalg.svd((features - centre) / scale, full_matrices=False)
    # Rank as numpy.linalg.matrix_rank has it; centring alone costs a wide problem one dimension.
    rank = int((singular > singular.max() * max(features.shape) * np.finfo(np.float64).eps).sum())
    return Spectrum(centre, scale, left[:, :rank], singular[:rank], right[:rank])


def feature_scale(features: np.ndarray) -> np.ndarray:
    """What each feature is divided by when features are standardised; infinite for one that is constant.

    Parameters
    ----------
    features : ndarray, shape (n, d)
        Training rows, in the dtype in which they were computed.

    Returns
    -------
    ndarray of float64, shape (d,)
        Standard deviation (divisor n), at least `SMALLEST_SCALE` of the largest of them.

    Examples
    --------
    >>> X = np.array([[1.0, 7.0, 1e-9], [3.0, 7.0, 3e-9]])
    >>> feature_scale(X)
    array([1.  ,  inf, 0.01])
    """
    precision = np.finfo(features.dtype).eps
    features = np.asarray(features, np.float64)
    largest = np.abs(features).max(axis=0)
    unit = np.where(largest > 0, largest, 1.0)
    relative = (features / unit).std(axis=0)  # of order one, so that 1e-200 squared does not vanish
    constant = relative <= 8 * precision
    deviation = np.where(constant, 0.0, relative * unit)
    scale = np.maximum(deviation, SMALLEST_SCALE * deviation.max())
    return np.where(constant, np.inf, scale)


def one_thread() -> AbstractContextManager[object]:
    """Linear algebra on a single thread while the block runs.

    Returns
    -------
    context manager

    Notes
    -----
    The matrices here are small: threads cost more than they gain, ten times as much where cores
    are shared, and the last bits of a product would depend on their number.

    Examples
    --------
    >>> with one_thread():
    ...     gram = np.eye(3) @ np.eye(3)
    """
    return threadpool_limits(1, user_api="blas")
