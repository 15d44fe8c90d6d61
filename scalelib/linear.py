"""Linear read-outs from one singular value decomposition: least squares, ridge, principal components.

Knows arrays only. Exact where libraries are not: a penalty of infinity, degrees of freedom, an edge flag, and 200 permuted
targets in one decomposition.
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
    """Z = U diag(s) Vᵀ: centred (and perhaps standardised) features of rank r."""

    centre: np.ndarray
    scale: np.ndarray
    left: np.ndarray
    singular: np.ndarray
    right: np.ndarray


def decompose(features: np.ndarray, *, standardise: bool) -> Spectrum:
    """Singular value decomposition of centred features."""
    scale = feature_scale(features) if standardise else np.ones(features.shape[1])
    features = np.asarray(features, np.float64)
    varies = np.ptp(features, axis=0) > 0
    centre = np.where(varies, features.mean(axis=0), features[0])  # a constant leaves exact zeros
    left, singular, right = linalg.svd((features - centre) / scale, full_matrices=False)
    # Rank as numpy.linalg.matrix_rank has it; centring alone costs a wide problem one dimension.
    rank = int((singular > singular.max() * max(features.shape) * np.finfo(np.float64).eps).sum())
    return Spectrum(centre, scale, left[:, :rank], singular[:rank], right[:rank])


def feature_scale(features: np.ndarray) -> np.ndarray:
    """What each feature is divided by when features are standardised; infinite for one that is constant."""
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

    The matrices here are small: threads cost more than they gain, ten times as much where cores are shared, and the last
    bits of a product would depend on their number.
    """
    return threadpool_limits(1, user_api="blas")


ESTIMATORS = ("ols", "ridge", "pcr")
ALPHAS = np.append(10.0 ** np.arange(-1, 9.5, 0.5), np.inf)
UNSHRUNK = 0.99
RESOLVED = 1e-12
TIE = 1 + 1e-9


@dataclass(frozen=True)
class LinearFit:
    """A linear read-out of k targets from d features."""

    centre: np.ndarray
    coefficients: np.ndarray
    offsets: np.ndarray
    alpha: np.ndarray
    at_edge: np.ndarray
    dof: np.ndarray

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Predicted targets."""
        return (np.asarray(features, np.float64) - self.centre) @ self.coefficients + self.offsets


def fit_linear(features: np.ndarray, targets: np.ndarray, estimator: str) -> LinearFit:
    """Fit one read-out per target column, with an intercept that is never penalised.

    Parameters
    ----------
    features : ndarray, shape (n, d)
        Training rows; tall, square and wide are all welcome. Computed in float64.
    targets : ndarray, shape (n, k)
        One target per column.
    estimator : {"ols", "ridge", "pcr"}
        ``ols``: least squares on the features as they are, of least norm where n ≤ d, as in the
        paper. ``ridge``: on standardised features, the penalty out of `ALPHAS` by exact
        leave-one-out. ``pcr``: least squares on the first principal components of standardised
        features, their number (at most n/2) by leave-one-out with the components held fixed.

    Returns
    -------
    LinearFit

    Notes
    -----
    Principal components rather than partial least squares stand for low rank: they do not look at
    the measure, so that one decomposition serves every permutation and leave-one-out has a closed
    form (Hastie, Tibshirani and Friedman 2009, sections 3.4 to 3.5).

    The penalties reach from 0.1 to 1e9 in half decades, and infinity. Smaller ones change nothing in
    wide problems, and where n is near d they are where leave-one-out goes wrong: without a row there
    is a direction less to fit, so that it does not see the peak at which the whole fold sits.

    Features are standardised by their training standard deviation. One that does not vary beyond
    the rounding of its own dtype has no part in the fit. One that varies less than a hundredth
    (`SMALLEST_SCALE`) as much as the tap's most variable feature is divided by that hundredth
    instead: a probability that is 1e-12 on every training image and 0.9 on a held-out one would
    otherwise be a trillion standard deviations away, and the held-out R² of a saturated softmax
    -1e30. Taps before a softmax rarely have such features; there the rule changes nothing.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(40, 100))
    >>> fit = fit_linear(X, X[:, :1] + 0.1, "ols")
    >>> fit.coefficients.shape, bool(fit.dof[0] == 39)
    ((100, 1), True)
    """
    return fit_all(features, targets, (estimator,))[estimator]


def fit_all(features: np.ndarray, targets: np.ndarray, estimators: tuple[str, ...]) -> dict[str, LinearFit]:
    """`fit_linear` for several estimators, with one decomposition for those on standardised features."""
    spectra: dict[bool, Spectrum] = {}
    fits = {}
    for estimator in estimators:
        standardise = estimator != "ols"
        if standardise not in spectra:
            spectra[standardise] = decompose(features, standardise=standardise)
        fits[estimator] = _SOLVERS[estimator](spectra[standardise], np.asarray(targets, np.float64))
    return fits


def _least_squares(spectrum: Spectrum, targets: np.ndarray) -> LinearFit:
    """β = V diag(1/s) Uᵀ (y − ȳ): the solution of least norm (Moore-Penrose)."""
    k = targets.shape[1]
    projected = spectrum.left.T @ (targets - targets.mean(axis=0))
    in_components = projected / spectrum.singular[:, None]
    dof = np.full(k, float(len(spectrum.singular)))
    return _read_out(spectrum, targets, in_components, np.full(k, np.nan), np.zeros(k, bool), dof)


def _ridge(spectrum: Spectrum, targets: np.ndarray) -> LinearFit:
    """β(α) = V diag(s / (s² + α)) Uᵀ (y − ȳ), α of least leave-one-out error.

    With the hat matrix H = 11ᵀ/n + U diag(s² / (s² + α)) Uᵀ the residual of a row that is left out
    is exactly eᵢ / (1 − Hᵢᵢ) (Allen 1974; Golub, Heath and Wahba 1979), the intercept refitted.
    """
    squares = spectrum.singular**2
    shrinkage = squares / (squares + ALPHAS[:, None])
    chosen = _least_left_out_error(spectrum.left, targets, shrinkage[::-1])
    chosen = len(ALPHAS) - 1 - chosen  # the largest penalty comes first, and wins a tie
    alpha = ALPHAS[chosen]
    projected = spectrum.left.T @ (targets - targets.mean(axis=0))
    in_components = projected * spectrum.singular[:, None] / (squares[:, None] + alpha)
    dof = shrinkage[chosen].sum(axis=1)
    at_edge = (chosen == 0) & (dof < UNSHRUNK * len(squares)) | (chosen == len(ALPHAS) - 2)
    return _read_out(spectrum, targets, in_components, alpha, at_edge, dof)


def _principal_components(spectrum: Spectrum, targets: np.ndarray) -> LinearFit:
    """β(k) = V diag(1/s₁ … 1/s_k, 0 …) Uᵀ (y − ȳ), k of least leave-one-out error."""
    rank, k = len(spectrum.singular), targets.shape[1]
    most = min(rank, len(targets) // 2)
    kept = (np.arange(rank) < np.arange(most + 1)[:, None]).astype(np.float64)
    components = _least_left_out_error(spectrum.left, targets, kept)
    projected = spectrum.left.T @ (targets - targets.mean(axis=0))
    in_components = projected * kept[components].T / spectrum.singular[:, None]
    at_edge = (components == most) & (most < rank)
    dof = components.astype(np.float64)
    return _read_out(spectrum, targets, in_components, np.full(k, np.nan), at_edge, dof)


_SOLVERS = {"ols": _least_squares, "ridge": _ridge, "pcr": _principal_components}


def _read_out(
    spectrum: Spectrum, targets: np.ndarray, in_components: np.ndarray, *about: np.ndarray
) -> LinearFit:
    """The coefficients of the features themselves; `about` are alpha, at_edge and dof."""
    coefficients = (spectrum.right.T @ in_components) / spectrum.scale[:, None]
    return LinearFit(spectrum.centre, coefficients, targets.mean(axis=0), *about)


def _least_left_out_error(left: np.ndarray, targets: np.ndarray, shrinkages: np.ndarray) -> np.ndarray:
    """For each target the first row of `shrinkages` whose squared leave-one-out error is least."""
    centred = targets - targets.mean(axis=0)
    projected, leverage = left.T @ centred, left**2
    errors = np.empty((len(shrinkages), targets.shape[1]))
    for row, shrinkage in enumerate(shrinkages):
        free = 1 - 1 / len(targets) - leverage @ shrinkage
        if free.min() <= RESOLVED:  # a row that nothing but itself predicts
            errors[row] = np.inf
            continue
        left_out = (centred - left @ (shrinkage[:, None] * projected)) / free[:, None]
        errors[row] = np.einsum("ij,ij->j", left_out, left_out)
    return (errors <= errors.min(axis=0) * TIE).argmax(axis=0)
