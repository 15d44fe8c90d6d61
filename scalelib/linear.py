"""Linear read-outs from one decomposition: least squares, ridge, principal components.

Knows arrays only. Exact where libraries are not: a penalty of infinity, degrees of freedom, an edge flag, and 200 permuted
targets in one decomposition.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from scipy import linalg
from threadpoolctl import threadpool_limits

PRECISION = np.finfo(np.float64).eps


@dataclass(frozen=True)
class Spectrum:
    """Z = U diag(s) Vᵀ of rank r: features centred and divided by their scales; diag(1/scale) V = axes · mix."""

    centre: np.ndarray
    left: np.ndarray
    singular: np.ndarray
    axes: np.ndarray
    mix: np.ndarray


def decompose(features: np.ndarray, unit_free: bool = True) -> Spectrum:
    """Singular value decomposition of standardised (or unscaled) features.

    By the Gram matrix Z Zᵀ = U diag(s²) Uᵀ where channels exceed rows: that is several times faster, and s² is right to the
    rounding of the largest one: nothing beside the least penalty.
    """
    centre, scale, Z = standardise(features, unit_free)
    if Z.shape[1] > Z.shape[0]:
        squares, left = np.linalg.eigh(Z @ Z.T)
        squares, left = squares[:0:-1], left[:, :0:-1]  # centring alone costs one dimension
        kept = squares > squares.max() * len(Z) * PRECISION
        singular, left = np.sqrt(squares[kept]), left[:, kept]
        return Spectrum(centre, left, singular, (Z * (1 / scale)).T, left / singular)
    left, singular, right = np.linalg.svd(Z, full_matrices=False)
    kept = singular > singular.max() * len(Z) * PRECISION  # as numpy.linalg.matrix_rank has it
    return Spectrum(centre, left[:, kept], singular[kept], (right[kept] / scale).T, np.eye(kept.sum()))


def centred(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means of features, and what is left without them; a constant leaves exact zeros."""
    values = np.asarray(features, np.float64)
    centre = np.where(np.ptp(features, axis=0) > 0, values.mean(axis=0), values[0])
    return centre, values - centre


def standardise(features: np.ndarray, unit_free: bool = True) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means, what each centred feature is divided by, and the quotients.

    The divisor is a feature's standard deviation, or the largest of all for each; infinity where a feature is constant.
    """
    centre, Z = centred(features)
    unit = np.maximum(np.abs(features).max(axis=0), np.finfo(np.float64).tiny)
    Z /= unit  # of order one, so that 1e-200 squared does not vanish
    relative = np.sqrt(np.einsum("ij,ij->j", Z, Z) / len(Z))
    deviation = np.where(relative > 8 * np.finfo(features.dtype).eps, relative * unit, 0.0)
    scale = np.where(deviation > 0, deviation if unit_free else deviation.max(), np.inf)
    Z *= unit / scale
    return centre, scale, Z


def one_thread() -> threadpool_limits:
    """Linear algebra on a single thread while the block runs.

    The matrices here are small: threads cost more than they gain, ten times as much where cores are shared, and the last
    bits of a product would depend on their number.
    """
    return threadpool_limits(1, user_api="blas")


def in_threads(
    function: Callable[..., Any], tasks: Iterable[Any], n_jobs: int | None = None
) -> Iterator[Any]:
    """Results of a function for each task, in order: tasks side by side, each of them with `one_thread`.

    Threads of this process start at once and copy nothing, and NumPy's linear algebra lets go of the interpreter.
    """
    with one_thread():
        jobs = Parallel(n_jobs=n_jobs, backend="threading", return_as="generator")
        yield from jobs(delayed(function)(*task) for task in tasks)


ESTIMATORS = ("ols", "ridge", "ridge_unscaled", "pcr")
ALPHAS = np.append(10.0 ** np.arange(-3, 4.0625, 0.125), np.inf)
UNSHRUNK = 0.99
RESOLVED = 1e-12
TIE, ALIKE = 1 + 1e-9, 1e-10
WELL_CONDITIONED = 1e-8
AT_ONCE = 200_000


@dataclass(frozen=True)
class LinearFit:
    """A linear read-out of k targets from d features: ŷ = (x − centre) · axes · weights + offsets."""

    centre: np.ndarray
    axes: np.ndarray
    weights: np.ndarray
    offsets: np.ndarray
    fitted: np.ndarray
    alpha: np.ndarray
    at_edge: np.ndarray
    dof: np.ndarray

    @property
    def coefficients(self) -> np.ndarray:
        """Of the features themselves, (d, k)."""
        return self.axes @ self.weights

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Predicted targets."""
        centred = np.asarray(features, np.float64) - self.centre
        return np.linalg.multi_dot([centred, self.axes, self.weights]) + self.offsets


def fit_linear(features: np.ndarray, targets: np.ndarray, estimator: str) -> LinearFit:
    """Fit one read-out per target column, with an intercept that is never penalised.

    Parameters
    ----------
    features : ndarray, shape (n, d)
        Training rows; tall, square and wide are all welcome. Computed in float64.
    targets : ndarray, shape (n, k)
        One target per column.
    estimator : {"ols", "ridge", "ridge_unscaled", "pcr"}
        ``ols``: least squares on the features as they are, of least norm where n ≤ d, as in the
        paper. ``ridge``: on standardised features Z, the penalty out of `ALPHAS` × tr(ZᵀZ)/n by
        exact leave-one-out. ``ridge_unscaled``: the same on features that are all divided by one
        number, so that each weighs as much as it varies: what the network has turned down counts
        for little. ``pcr``: least squares on the first principal components of standardised
        features, their number (at most n/2) by leave-one-out with the components held fixed.

    Returns
    -------
    LinearFit

    Notes
    -----
    Principal components rather than partial least squares stand for low rank: they do not look at
    the measure, so that one decomposition serves every permutation and leave-one-out has a closed
    form (Hastie, Tibshirani and Friedman 2009, sections 3.4 to 3.5).

    Penalties are shares of the features' total variance, from 1e-3 to 1e4 times it in eighths of a
    decade, and infinity; `LinearFit.alpha` is the product, the penalty itself. So R² stays what it is
    where every channel stands twice. Smaller ones change nothing in wide problems, and where n is near d
    they are where leave-one-out goes wrong: without a row there is a direction less to fit, so that it
    does not see the peak at which the whole fold sits.

    Features are standardised by their training standard deviation, however small it is, so that
    ``ridge`` and ``pcr`` do not depend on a channel's unit: an affine map of each channel, such as
    a batch norm behind average pooling, moves no R². Only a feature that does not vary beyond the
    rounding of its own dtype has no part in the fit. The price is paid at a saturated softmax: a
    probability that is 1e-12 on every training image and 0.9 on a held-out one lies a trillion
    standard deviations away, and held-out R² falls far below zero. ``ridge_unscaled`` has no such
    features, and logarithms of probabilities have none either.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(40, 100))
    >>> fit = fit_linear(X, X[:, :1] + 0.1, "ols")
    >>> fit.coefficients.shape, bool(fit.dof[0] == 39)
    ((100, 1), True)
    """
    return fit_all(features, targets, (estimator,))[estimator]


def fit_all(features: np.ndarray, targets: np.ndarray, estimators: Iterable[str]) -> dict[str, LinearFit]:
    """`fit_linear` for several estimators, with one decomposition for those on standardised features."""
    targets, spectrum = np.asarray(targets, np.float64), cache(partial(decompose, features))
    return {
        name: _least_squares(features, targets) if name == "ols" else _shrunk(spectrum, targets, name)
        for name in estimators
    }


def _least_squares(features: np.ndarray, targets: np.ndarray) -> LinearFit:
    """The solution of least norm: Xᵀ (X Xᵀ)⁻¹ (y − ȳ), or (Xᵀ X)⁻¹ Xᵀ (y − ȳ) where rows exceed channels.

    Corrected once by its own residual it is as exact as an orthogonal decomposition while the condition of X is below 1e4
    (Björck 1996, sections 2.9 and 6.6); beyond, and where directions are missing, LAPACK's gelsd decides on the rank.
    """
    centre, X = centred(features)
    (n, d), k, offsets = X.shape, targets.shape[1], targets.mean(axis=0)
    wide, rank, coefficients = d >= n, min(n - 1, d), np.zeros((d, k))
    gram = X @ X.T if wide else X.T @ X
    gram += np.trace(gram) / n**2 if wide else 0.0  # a direction for the mean, which centring took
    factor, failed = linalg.lapack.dpotrf(gram)
    if failed or linalg.lapack.dpocon(factor, np.abs(gram).sum(axis=0).max())[0] < WELL_CONDITIONED:
        X = X - X.mean(axis=0) if wide else X  # else the rounding of small features is one direction more
        coefficients, _, rank, _ = linalg.lstsq(X, targets - offsets, cond=max(X.shape) * PRECISION)
    else:
        for _ in range(2):
            left = targets - offsets - X @ coefficients
            step = linalg.cho_solve((factor, False), left if wide else X.T @ left)
            coefficients += X.T @ step if wide else step
    about = np.full(k, np.nan), np.zeros(k, bool), np.full(k, float(rank))
    return LinearFit(centre, coefficients, np.eye(k), offsets, offsets + X @ coefficients, *about)


def _ridge(spectrum: Spectrum) -> tuple[np.ndarray, ...]:
    """Per penalty the shares s² / (s² + α) of components that are kept, those that are lost, α, and whether it is an edge."""
    squares = spectrum.singular**2
    # the largest comes first, and wins a tie
    alphas = ALPHAS[::-1] * (squares.sum() / len(spectrum.left) or 1)
    ratio = squares / alphas[:, None]
    kept, place = ratio / (1 + ratio), np.arange(len(alphas))
    unshrunk = kept[-1].sum() >= UNSHRUNK * len(spectrum.singular)
    return kept, 1 / (1 + ratio), alphas, (place == 1) | (place == place[-1]) & ~unshrunk


def _principal_components(spectrum: Spectrum) -> tuple[np.ndarray, ...]:
    """The same per number of components, the first of which are kept whole."""
    rank = len(spectrum.singular)
    counts = np.arange(min(rank, len(spectrum.left) // 2) + 1)
    kept = (np.arange(rank) < counts[:, None]).astype(np.float64)
    return kept, 1 - kept, np.full(len(counts), np.nan), (counts == counts[-1]) & (counts < rank)


_CANDIDATES = {"ridge": _ridge, "ridge_unscaled": _ridge, "pcr": _principal_components}


def _shrunk(decomposed: Callable[[bool], Spectrum], targets: np.ndarray, estimator: str) -> LinearFit:
    """β = V diag(kept / s) Uᵀ (y − ȳ), of the candidate whose leave-one-out error is least."""
    spectrum = decomposed(estimator != "ridge_unscaled")
    kept, lost, alphas, at_edge = _CANDIDATES[estimator](spectrum)
    offsets = targets.mean(axis=0)
    projected = spectrum.left.T @ (y := targets - offsets)
    chosen = _best_candidate(spectrum.left, y, projected, lost)
    of_components = kept[chosen].T * projected
    weights = spectrum.mix @ (of_components / spectrum.singular[:, None])
    about = alphas[chosen], at_edge[chosen], kept.sum(axis=1)[chosen]
    fitted = offsets + spectrum.left @ of_components
    return LinearFit(spectrum.centre, spectrum.axes, weights, offsets, fitted, *about)


def _best_candidate(left: np.ndarray, y: np.ndarray, projected: np.ndarray, lost: np.ndarray) -> np.ndarray:
    """For each centred target the first row of `lost` whose squared leave-one-out error is least.

    With the hat matrix H = 11ᵀ/n + U diag(kept) Uᵀ the residual of a row that is left out is exactly eᵢ / (1 − Hᵢᵢ)
    (Allen 1974; Golub, Heath and Wahba 1979), the intercept refitted.
    """
    n, leverage, mix = len(left), left**2, np.eye(len(lost))
    outside = None if left.shape[1] == n - 1 else y - left @ projected  # of all directions but the mean
    free = 1 - 1 / n - leverage.sum(axis=1, keepdims=True) + leverage @ lost.T
    # nan where there is a row that nothing but itself predicts
    weights = np.where(free.min(axis=0) > RESOLVED, free, np.nan).T[:, None] ** -2
    if y.shape[1] > len(lost):  # what neighbouring penalties lose is nearly alike: fewer products serve all
        top = lost.max(axis=1, keepdims=True, initial=PRECISION)
        mix, size, lost = np.linalg.svd(lost / top, full_matrices=False)
        mix, lost = (top * mix * size)[:, used := size > ALIKE * size.max(initial=0)], lost[used]
    errors, step = np.empty((len(mix), y.shape[1])), max(1, AT_ONCE // (len(mix) * n))
    for some in (slice(start, start + step) for start in range(0, y.shape[1], step)):
        left_out = np.tensordot(mix, left @ (lost[:, :, None] * projected[:, some]), 1)
        if outside is not None:
            left_out += outside[:, some]
        errors[:, some] = (weights @ np.square(left_out, left_out))[:, 0]
    return (errors <= np.nanmin(errors, axis=0) * TIE).argmax(axis=0)
