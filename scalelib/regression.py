"""How well a linear regression reads a measure from each tap, on images that it was not fitted to.

Splits, scores, learning curves, and projections that make taps of different width comparable. Knows arrays and tables only.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from scalelib.errors import require, track
from scalelib.linear import ESTIMATORS, PRECISION, centred, fit_all, in_threads, standardise
from scalelib.validation import check_activations, check_choice, check_count, check_problem, is_constant

MINIMUM_TRAIN, MINIMUM_TEST = 3, 2


def train_test_splits(
    n_images: int,
    repeats: int = 10,
    test_size: float = 0.3,
    groups: Any = None,
    random_state: int = 0,
    operation: str = "train_test_splits",
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Sorted rows to fit on and to score on, once per repeat (section 3.5: ten repeats, 30 % held out, rounded up).

    Rows of one group never stand on both sides; the first splits do not depend on how many there are.
    """
    repeats = check_count(repeats, name="repeats", operation=operation)
    seed = check_count(random_state, name="random_state", operation=operation, minimum=0)
    share = isinstance(test_size, int | float) and 0 < test_size < 1
    require(share, operation, "test_size must be a share between 0 and 1", repr(test_size))
    units = np.arange(n_images) if groups is None else np.unique(groups, return_inverse=True)[1]
    n_units = int(units.max()) + 1
    n_held_out = math.ceil(test_size * n_units - 1e-9)
    splits = []
    for repeat in range(repeats):
        held_out = np.isin(units, np.random.default_rng([seed, repeat]).permutation(n_units)[:n_held_out])
        train, test = np.flatnonzero(~held_out), np.flatnonzero(held_out)
        rule = f"a split needs at least {MINIMUM_TRAIN} training and {MINIMUM_TEST} test images"
        received = (
            f"{len(train)} and {len(test)} in repeat {repeat}, of {n_units} groups of {n_images} images"
        )
        advice = "Use more images, more even groups, or another test_size."
        require(len(train) >= MINIMUM_TRAIN and len(test) >= MINIMUM_TEST, operation, rule, received, advice)
        splits.append((train, test))
    return splits


COLUMNS = ["measure", "tap", "channels", "n_train", "n_test", "estimator", "condition", "repeat"]
COLUMNS += ["alpha", "alpha_at_edge", "dof", "r2_train", "r2_test", "mae_test"]


def r2(observed: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Share of variance about the mean that predictions account for, per column."""
    residual = ((observed - predicted) ** 2).sum(axis=0)
    return 1 - residual / ((observed - observed.mean(axis=0)) ** 2).sum(axis=0)


def refuse_constant_folds(
    columns: np.ndarray, train: np.ndarray, test: np.ndarray, *, operation: str, where: str
) -> None:
    """Refuse a split that leaves a target without variance on one side, where R² is undefined."""
    for side, rows in (("training", train), ("held-out", test)):
        constant = is_constant(columns[rows])
        rule = "measures must vary within each fold, R² is undefined without variance"
        value = columns[rows[0], constant.argmax()]
        received = f"{len(rows)} {side} images of {where}, all with the measure {value:g}"
        advice = "Use more images, measures with fewer ties, or another random_state."
        require(not constant.any(), operation, rule, received, advice)


def _table(tasks: list[Any], n_jobs: int | None = None) -> pd.DataFrame:
    """The rows of all tasks of `_fold_rows`, one measure after the other."""
    rows = track(in_threads(_fold_rows, tasks, n_jobs), total=len(tasks), label="regression")
    table = pd.DataFrame(chain.from_iterable(rows), columns=COLUMNS)
    named = [part for _, part in table.groupby("measure", sort=False)]
    return pd.concat(named, ignore_index=True) if named else table.drop(columns="measure")


def _fold_rows(tap: str, X: np.ndarray, names: Sequence[str], kinds: list[Any], fold: Any) -> list[Any]:
    """A row of `COLUMNS` per estimator and kind (measure, condition), fitted on one side of a fold and scored on the other."""
    repeat, columns, train, test = fold
    rows, sizes = [], (X.shape[1], len(train), len(test))
    for name, fit in fit_all(X[train], columns[train], names).items():
        predicted = fit.predict(X[test])
        errors = np.abs(columns[test] - predicted).mean(axis=0)
        scores = r2(columns[train], fit.fitted), r2(columns[test], predicted), errors
        about = fit.alpha, fit.at_edge, fit.dof
        for (measure, condition), *values in zip(kinds, *about, *scores, strict=True):
            rows.append((measure, tap, *sizes, name, condition, repeat, *values))
    return rows


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
    arrays = check_activations(acts, None, operation=operation)
    too_narrow = {tap: X.shape[1] for tap, X in arrays.items() if X.shape[1] < width}
    received = f"width {width}, and {len(too_narrow)} narrower taps: {too_narrow}"
    advice = f"width={min(too_narrow.values(), default=width)} suits all; narrow='keep' leaves narrow ones as they are"
    fits = narrow == "keep" or not too_narrow
    require(fits, operation, "a projection cannot widen a tap", received, advice)
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
    X = check_activations({"features": features}, None, operation=operation)
    singular = np.linalg.svd(centred(X["features"])[1], compute_uv=False)
    if singular[0] <= len(X["features"]) * PRECISION * np.abs(X["features"]).max():
        return 0.0
    share = singular / singular.sum()
    if kind == "entropy":
        return float(np.exp(special.entr(share).sum()))
    return float((share**2).sum() ** 2 / (share**4).sum())


def _project(tap: str, X: np.ndarray, width: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng([seed, zlib.crc32(tap.encode()), X.shape[1], width])
    return standardise(X)[2] @ rng.normal(size=(X.shape[1], width)) / np.sqrt(width)


CONDITIONS = ("true", "shuffled")


def layerwise_r2(
    acts: Mapping[str, Any],
    measures: Any,
    *,
    estimator: str | Sequence[str] = "ridge",
    repeats: int = 10,
    test_size: float = 0.3,
    groups: Any = None,
    conditions: str | Sequence[str] = CONDITIONS,
    random_state: int = 0,
    n_jobs: int | None = None,
) -> pd.DataFrame:
    """Held-out R² of one or several measures per tap, repeat and condition.

    Parameters
    ----------
    acts : mapping of str to array_like, shape (n_images, channels)
        Pooled activations per tap, finite. Fitted in float64.
    measures : array_like, shape (n_images,), or ndarray or DataFrame, shape (n_images, n_measures)
        One concept measure per image, finite and not constant; or several with names of their own,
        which share the decompositions and cost little more than one.
    estimator : {"ridge", "ols", "ridge_unscaled", "pcr"} or sequence of these, default="ridge"
        See `scalelib.linear.fit_linear`. ``ols`` is the paper's.
    repeats : int, default=10
        Number of random splits.
    test_size : float, default=0.3
        Share held out, in (0, 1).
    groups : array_like, shape (n_images,), optional
        Rows of one group (patient, slide, source image) stay on one side of every split.
    conditions : {"true", "shuffled"} or sequence of these, default=("true", "shuffled")
        ``shuffled``: the measures in a random order, another one per repeat.
    random_state : int, default=0
        Seed. Splits and orders depend on it, the number of images and `groups` alone, so that
        taps, measures, conditions, estimators and calls can be compared split by split.
    n_jobs : int, optional
        Threads over taps and repeats, as in scikit-learn: None is 1 unless a
        `joblib.parallel_config` says otherwise, -1 all cores. No bit depends on it.

    Returns
    -------
    pandas.DataFrame
        One row per tap × estimator × condition × repeat with the columns ``tap``, ``channels``,
        ``n_train``, ``n_test``, ``estimator``, ``condition``, ``repeat``, ``alpha`` (ridge penalty, on standardised features;
        infinite where the training mean predicts best; NaN for others), ``alpha_at_edge`` (penalty
        or number of components at the end of the search), ``dof`` (effective degrees of freedom),
        ``r2_train``, ``r2_test``, ``mae_test`` (in the unit of the measure). With several measures
        their rows follow one another, named in a first column ``measure`` (by position for a matrix).

    Raises
    ------
    DataError
        If the measures are constant (altogether or in a fold), fewer than five, or of another
        length than the activations; if anything is NaN or infinite; if a split is too small; if a
        name is unknown.

    Notes
    -----
    Graziani et al. 2021, sections 3.4 to 3.5: R² = 1 − Σ(y − ŷ)² / Σ(y − ȳ)² over the held-out
    images, ȳ their mean. It has no lower bound, and is negative where the mean does better.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> size = rng.uniform(size=60)
    >>> acts = {"early": rng.normal(size=(60, 8))}
    >>> acts["late"] = size[:, None] + rng.normal(size=(60, 8)) / 9
    >>> table = layerwise_r2(acts, size, repeats=3)
    >>> means = table.groupby(["tap", "condition"]).r2_test.mean()
    >>> bool(means["late", "true"] > 0.9), bool(means["early", "true"] < 0.2)
    (True, True)
    """
    operation = "layerwise_r2"
    estimators = check_choice(estimator, ESTIMATORS, name="estimator", operation=operation)
    conditions = check_choice(conditions, CONDITIONS, name="condition", operation=operation)
    arrays, named, labels = check_problem(acts, measures, groups=groups, several=True, operation=operation)
    columns = np.stack(list(named.values()), axis=1)
    splits = train_test_splits(len(columns), repeats, test_size, labels, random_state, operation)
    folds = []
    for repeat, split in enumerate(splits):
        targets = _targets(columns, conditions, random_state, repeat)
        refuse_constant_folds(targets, *split, operation=operation, where=f"repeat {repeat}")
        folds.append((repeat, targets, *split))
    kinds = [(name, condition) for name in named for condition in conditions]
    return _table([(tap, X, estimators, kinds, fold) for tap, X in arrays.items() for fold in folds], n_jobs)


def _targets(columns: np.ndarray, conditions: tuple[str, ...], random_state: int, repeat: int) -> np.ndarray:
    order = np.random.default_rng([random_state, repeat, 1]).permutation(len(columns))
    both = {"true": columns, "shuffled": columns[order]}
    return np.stack([both[kind][:, k] for k in range(columns.shape[1]) for kind in conditions], axis=1)


def learning_curve(
    acts: Mapping[str, Any],
    measures: Any,
    *,
    train_sizes: Sequence[int],
    estimators: str | Sequence[str] = ("ols", "ridge"),
    repeats: int = 10,
    test_size: float = 0.3,
    groups: Any = None,
    random_state: int = 0,
) -> pd.DataFrame:
    """Held-out R² against the number of training images, the held-out images fixed per repeat.

    Parameters
    ----------
    acts : mapping of str to array_like, shape (n_images, channels)
        Pooled activations per tap, finite.
    measures : array_like, shape (n_images,)
        One concept measure per image.
    train_sizes : sequence of int
        Numbers of training images, each at least 3. Smaller training sets are parts of larger ones.
    estimators : str or sequence of str, default=("ols", "ridge")
        See `scalelib.linear.fit_linear`.
    repeats : int, default=10
        Number of random splits, the same as those of `layerwise_r2`.
    test_size : float, default=0.3
        Share held out, in (0, 1).
    groups : array_like, shape (n_images,), optional
        Rows of one group stay on one side of every split.
    random_state : int, default=0
        Seed.

    Returns
    -------
    pandas.DataFrame
        One row per tap × estimator × training size × repeat, with the columns of `layerwise_r2`;
        the condition is ``true`` throughout.

    Raises
    ------
    DataError
        As `layerwise_r2`, and if a training size exceeds what a split leaves.

    Notes
    -----
    Least squares peaks in error where the number of training images nears that of the channels:
    for Gaussian features the expected excess risk is σ² d / (n − d − 2), the intercept counted
    (Hastie et al. 2022, "Surprises in high-dimensional ridgeless least squares interpolation").

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 30))
    >>> y = X.sum(axis=1) + 3 * rng.normal(size=200)
    >>> sizes = [10, 31, 140]
    >>> curve = learning_curve({"tap": X}, y, train_sizes=sizes, estimators="ols")
    >>> int(curve.groupby("n_train").r2_test.median().idxmin())
    31
    """
    operation = "learning_curve"
    names = check_choice(estimators, ESTIMATORS, name="estimator", operation=operation)
    name, least = "train_sizes", MINIMUM_TRAIN
    sizes = [check_count(size, name=name, operation=operation, minimum=least) for size in train_sizes]
    arrays, y, labels = check_problem(acts, measures, groups=groups, operation=operation)
    splits = train_test_splits(len(y), repeats, test_size, labels, random_state, operation)
    fewest = min(len(train) for train, _ in splits)
    rule = "training sizes must be given and fit into every split"
    received = f"{sizes}; the smallest training fold has {fewest} images"
    require(sizes and max(sizes) <= fewest, operation, rule, received)
    tasks, columns, kinds = [], y[:, None], [(None, "true")]
    for repeat, (train, test) in enumerate(splits):
        ordered = np.random.default_rng([random_state, repeat, 2]).permutation(train)
        for size in sizes:
            part = np.sort(ordered[:size])
            where = f"repeat {repeat} with {size} training images"
            refuse_constant_folds(columns, part, test, operation=operation, where=where)
            tasks += [(tap, X, names, kinds, (repeat, columns, part, test)) for tap, X in arrays.items()]
    return _table(tasks)
