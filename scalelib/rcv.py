"""Regression concept vectors: the direction of a tap along which a measure grows.

Fitting and the relevance score; knows arrays only. The sensitivity of a network along the direction
is `scalelib.concept_sensitivity`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from scalelib.concept_vectors import RCV, load_rcv
from scalelib.errors import DataError
from scalelib.scores import r2, refuse_constant_folds
from scalelib.solvers import ESTIMATORS, fit_linear
from scalelib.spectrum import one_thread
from scalelib.splits import train_test_splits
from scalelib.validation import check_choice, check_problem

__all__ = ["RCV", "bidirectional_relevance", "fit_rcv", "load_rcv"]


def fit_rcv(
    activations: Any,
    measures: Any,
    *,
    tap: str = "",
    estimator: str = "ridge",
    repeats: int = 10,
    test_size: float = 0.3,
    groups: Any = None,
    random_state: int = 0,
) -> RCV:
    """Fit a regression concept vector to one tap.

    Parameters
    ----------
    activations : array_like, shape (n_images, channels)
        Pooled activations, finite.
    measures : array_like, shape (n_images,)
        One concept measure per image.
    tap : str, default=""
        Name of the tap, kept with the vector.
    estimator : {"ridge", "ols", "pcr"}, default="ridge"
        See `scalelib.solvers.fit_linear`.
    repeats : int, default=10
        Number of random splits, the same as those of `layerwise_r2`, for R² and stability.
    test_size : float, default=0.3
        Share held out, in (0, 1).
    groups : array_like, shape (n_images,), optional
        Rows of one group stay on one side of every split.
    random_state : int, default=0
        Seed.

    Returns
    -------
    RCV
        Direction, slope and intercept are fitted to all images; R² and angle come from the repeats.

    Raises
    ------
    DataError
        As `layerwise_r2`, and if no direction is found: the training mean predicts best.

    Notes
    -----
    Graziani, Andrearczyk and Müller 2018, "Regression concept vectors for bidirectional
    explanations in histopathology", section 2.2: the direction is the normalised vector of
    regression coefficients, here in activation space (not that of standardised features), so that
    moving an activation along it is what it says. A repeat in which the mean predicts best has no
    direction and counts as being at 90° to the others.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(50, 3))
    >>> rcv = fit_rcv(X, 5 * X[:, 1] + 2, estimator="ols")
    >>> rcv.direction.round(6) + 0.0, round(rcv.slope, 6), round(rcv.intercept, 6)
    (array([0., 1., 0.]), 5.0, 2.0)
    """
    operation = "fit_rcv"
    [estimator] = check_choice((estimator,), ESTIMATORS, name="estimator", operation=operation)
    name = tap or "tap"
    arrays, y, labels = check_problem({name: activations}, measures, groups=groups, operation=operation)
    X, target = arrays[name], y[:, None]
    splits = train_test_splits(
        len(y),
        repeats=repeats,
        test_size=test_size,
        groups=labels,
        random_state=random_state,
        operation=operation,
    )
    scores, vectors = [], []
    with one_thread():
        for repeat, (train, test) in enumerate(splits):
            refuse_constant_folds(target, train, test, operation=operation, where=f"repeat {repeat}")
            part = fit_linear(X[train], target[train], estimator)
            scores.append(r2(target[test], part.predict(X[test])).item())
            vectors.append(part.coefficients[:, 0])
        fit = fit_linear(X, target, estimator)
    coefficients = fit.coefficients[:, 0]
    slope = float(np.linalg.norm(coefficients))
    if slope == 0:
        raise DataError(
            f"{operation}: the activations must tell something about the measure.\n"
            f"Received: {X.shape[1]} channels of {name!r}; the mean of the {len(y)} measures is the best "
            "prediction."
        )
    return RCV(
        direction=coefficients / slope,
        intercept=float(fit.offsets[0] - fit.centre @ coefficients),
        slope=slope,
        r2=float(np.mean(scores)),
        angle=_mean_angle(np.array(vectors)),
        tap=tap,
        estimator=estimator,
        alpha=float(fit.alpha[0]),
        n_images=len(y),
        repeats=len(splits),
    )


def bidirectional_relevance(sensitivities: Any, r2: float) -> float:
    """Relevance of a concept for an output over a set of images.

    Parameters
    ----------
    sensitivities : array_like, shape (n_images,)
        Of the output along the concept's direction, for at least two images.
    r2 : float
        How well the concept is read: held-out R² of the regression concept vector.

    Returns
    -------
    float
        Br = R² · mean / standard deviation of the sensitivities; positive where the output grows
        with the concept, infinite where all images agree exactly.

    Raises
    ------
    DataError
        If there are fewer than two sensitivities, or one is not finite.

    Notes
    -----
    Graziani, Andrearczyk and Müller 2018, section 2.3; Graziani et al. 2020, "Concept attribution",
    eq. 6: R² over the coefficient of variation. The standard deviation has divisor n.

    Examples
    --------
    >>> bidirectional_relevance([1.0, 3.0], r2=0.5)
    1.0
    """
    values = np.asarray(sensitivities, np.float64)
    if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all():
        raise DataError(
            "bidirectional_relevance: sensitivities must be a vector of at least two finite numbers.\n"
            f"Received: shape {values.shape}, {int((~np.isfinite(values)).sum())} not finite."
        )
    mean, deviation = values.mean(), values.std()
    if deviation == 0:
        return float(np.copysign(np.inf, r2 * mean)) if r2 * mean else 0.0
    return float(r2 * mean / deviation)


def _mean_angle(vectors: np.ndarray) -> float:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    units = vectors / np.where(norms > 0, norms, 1)
    cosines = np.clip(units @ units.T, -1, 1)[np.triu_indices(len(units), 1)]
    return float(np.degrees(np.arccos(cosines)).mean()) if len(cosines) else float("nan")
