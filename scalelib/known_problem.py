"""A regression problem whose answer is known: Gaussian features, a linear measure, noise.

Knows arrays only.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def gaussian_problem(
    n: int, d: int, *, noise: float = 1.0, decay: float = 0.0, random_state: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian features of which a known linear function, of variance 1, is seen through noise.

    Parameters
    ----------
    n, d : int
        Number of rows and of features.
    noise : float, default=1.0
        Standard deviation of what the features do not tell.
    decay : float, default=0.0
        Feature j has the standard deviation j^-decay: 0 uses all directions alike, more lowers the
        effective rank at the same width.
    random_state : int, default=0
        Seed.

    Returns
    -------
    features : ndarray of float64, shape (n, d)
    measure : ndarray of float64, shape (n,)

    Examples
    --------
    >>> X, y = gaussian_problem(500, 3, noise=0.0)
    >>> X.shape, bool(0.8 < y.var() < 1.2)
    ((500, 3), True)
    """
    rng = np.random.default_rng(random_state)
    features = rng.normal(size=(n, d))
    direction = rng.normal(size=d)
    measure = features @ direction / np.linalg.norm(direction) + noise * rng.normal(size=n)
    return features * np.arange(1, d + 1) ** -float(decay), measure


def expected_ols_r2(n_train: Any, d: int, *, noise: float = 1.0) -> np.ndarray:
    r"""What least squares scores on new rows of :func:`gaussian_problem` without decay.

    Parameters
    ----------
    n_train : array_like of int
        Training rows.
    d : int
        Features.
    noise : float, default=1.0
        As in :func:`gaussian_problem`.

    Returns
    -------
    ndarray of float64
        1 − (expected squared error) / (variance of the measure); minus infinity within one row of
        the peak, where the expectation does not exist.

    Notes
    -----
    Hastie et al. 2022, "Surprises in high-dimensional ridgeless least squares interpolation", for
    isotropic Gaussian features, with m = n − 1 for the intercept: the error is
    :math:`\sigma^2 (1 + d/(m-d-1))` for m > d + 1 and
    :math:`\sigma^2 (1 + m/(d-m-1)) + 1 - m/d` for m < d − 1, times 1 + 1/n.

    Examples
    --------
    >>> expected_ols_r2([10, 101, 10_000], 100, noise=1.0).round(2).tolist()
    [-0.11, -inf, 0.49]
    """
    n = np.asarray(n_train, float)
    m, variance = n - 1, noise**2
    with np.errstate(divide="ignore", invalid="ignore"):
        tall = variance * (1 + d / (m - d - 1))
        wide = variance * (1 + m / (d - m - 1)) + 1 - m / d
    error = np.where(m > d + 1, tall, np.where(m < d - 1, wide, np.inf)) * (1 + 1 / n)
    return 1 - error / (1 + variance)
