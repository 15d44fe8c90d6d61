"""Repeated train/test splits: the same for every tap, condition and estimator of one call. R² and mean absolute error of fitted read-outs, as rows of one tidy table. Taps of different width made comparable: random projections, and how many directions a tap really uses. How well a linear regression reads a measure from each tap, on images it was not fitted to. Held-out R² as the training set grows: where least squares interpolates, and what ridge does there."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from scalelib.errors import DataError
from scalelib.linear import ESTIMATORS, LinearFit, feature_scale, fit_all, one_thread
from scalelib.validation import (
    check_activations,
    check_choice,
    check_count,
    check_labels,
    check_problem,
    is_constant,
)

MINIMUM_TRAIN = 3
MINIMUM_TEST = 2


def train_test_splits(
    n_images: int,
    *,
    repeats: int = 10,
    test_size: float = 0.3,
    groups: Any = None,
    random_state: int = 0,
    operation: str = "train_test_splits",
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows to fit on and rows to score on, once per repeat.

    Parameters
    ----------
    n_images : int
        Number of rows.
    repeats : int, default=10
        Number of splits. The first splits do not depend on how many there are.
    test_size : float, default=0.3
        Share of the images held out, in (0, 1), rounded up; with `groups`, the share of the groups.
    groups : array_like, shape (n_images,), optional
        Rows of one group (patient, slide, source image) never stand on both sides.
    random_state : int, default=0
        Seed, at least 0: the same call gives the same splits.
    operation : str
        Whose name an error carries.

    Returns
    -------
    list of tuple of ndarray of int
        Training and test rows, each sorted.

    Raises
    ------
    DataError
        If a fold would hold fewer than three training or two test images, or no group is left.

    Notes
    -----
    Graziani et al. 2021, section 3.5: ten repetitions, 30 % held out.

    Examples
    --------
    >>> [(train, test)] = train_test_splits(10, repeats=1)
    >>> len(train), len(test)
    (7, 3)
    """
    repeats = check_count(repeats, name="repeats", operation=operation)
    seed = check_count(random_state, name="random_state", operation=operation, minimum=0)
    if isinstance(test_size, bool) or not isinstance(test_size, int | float) or not 0 < test_size < 1:
        raise DataError(f"{operation}: test_size must be a share between 0 and 1.\nReceived: {test_size!r}.")
    labels = check_labels(groups, n_images, name="groups", operation=operation)
    units = np.arange(n_images) if labels is None else labels
    n_units = int(units.max()) + 1
    n_held_out = math.ceil(test_size * n_units - 1e-9)
    if labels is not None and n_held_out >= n_units:
        raise DataError(
            f"{operation}: groups must be enough to leave some on each side of a split.\n"
            f"Received: {n_units} group(s), of which test_size={test_size} holds out {n_held_out}."
        )
    return [
        _split(units, n_units, n_held_out, np.random.default_rng([seed, repeat]), operation, repeat)
        for repeat in range(repeats)
    ]


def _split(
    units: np.ndarray, n_units: int, n_held_out: int, rng: np.random.Generator, operation: str, repeat: int
) -> tuple[np.ndarray, np.ndarray]:
    held_out = np.isin(units, rng.permutation(n_units)[:n_held_out])
    train, test = np.flatnonzero(~held_out), np.flatnonzero(held_out)
    if len(train) < MINIMUM_TRAIN or len(test) < MINIMUM_TEST:
        raise DataError(
            f"{operation}: a split needs at least {MINIMUM_TRAIN} training and {MINIMUM_TEST} test images.\n"
            f"Received: {len(train)} and {len(test)} in repeat {repeat} (from {len(units)} images in "
            f"{n_units} groups).\nUse more images, more even groups, or another test_size."
        )
    return train, test


COLUMNS = (
    *("tap", "channels", "n_train", "n_test", "estimator", "condition", "repeat"),
    *("alpha", "alpha_at_edge", "dof", "r2_train", "r2_test", "mae_test"),
)


def r2(observed: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Share of variance about the mean that predictions account for, per column.

    Parameters
    ----------
    observed, predicted : ndarray of float64, shape (n, k)
        Columns of `observed` must vary.

    Returns
    -------
    ndarray of float64, shape (k,)
        1 − RSS / TSS, at most 1, without lower bound; TSS about the mean of `observed`.

    Examples
    --------
    >>> y = np.array([[1.0], [2.0], [3.0]])
    >>> r2(y, y), r2(y, y * 0 + 2), r2(y, 4 - y)
    (array([1.]), array([0.]), array([-3.]))
    """
    residual = ((observed - predicted) ** 2).sum(axis=0)
    return 1 - residual / ((observed - observed.mean(axis=0)) ** 2).sum(axis=0)


def refuse_constant_folds(
    columns: np.ndarray, train: np.ndarray, test: np.ndarray, *, operation: str, where: str
) -> None:
    """Refuse a split that leaves a target without variance on one side, where R² is undefined.

    Parameters
    ----------
    columns : ndarray of float64, shape (n_images, k)
        Targets.
    train, test : ndarray of int
        Rows.
    operation : str
        Whose name the error carries.
    where : str
        Which split it is.

    Raises
    ------
    DataError
        If a target is constant in a fold.
    """
    for side, rows in (("training", train), ("held-out", test)):
        for column in columns[rows].T:
            if is_constant(column):
                raise DataError(
                    f"{operation}: measures must vary within each fold, R² is undefined without variance.\n"
                    f"Received: {len(rows)} {side} images of {where}, all with the measure {column[0]:g}.\n"
                    "Use more images, measures with fewer ties, or another random_state."
                )


def score_rows(
    tap: str, X: np.ndarray, columns: np.ndarray, train: np.ndarray, test: np.ndarray, fit: LinearFit
) -> Iterator[dict[str, Any]]:
    fitted, predicted = fit.predict(X[train]), fit.predict(X[test])
    r2_train, r2_test = r2(columns[train], fitted), r2(columns[test], predicted)
    mae = np.abs(columns[test] - predicted).mean(axis=0)
    for k in range(columns.shape[1]):
        yield {
            "tap": tap,
            "channels": X.shape[1],
            "n_train": len(train),
            "n_test": len(test),
            "alpha": fit.alpha[k],
            "alpha_at_edge": bool(fit.at_edge[k]),
            "dof": fit.dof[k],
            "r2_train": r2_train[k],
            "r2_test": r2_test[k],
            "mae_test": mae[k],
        }


def tidy(records: list[dict[str, Any]]) -> pd.DataFrame:
    """Records as a table with the columns of `layerwise_r2`, in its order.

    Parameters
    ----------
    records : list of dict
        One per row.

    Returns
    -------
    pandas.DataFrame
    """
    return pd.DataFrame(records, columns=list(COLUMNS))


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
) -> pd.DataFrame:
    """Held-out R² of a measure per tap, repeat and condition.

    Parameters
    ----------
    acts : mapping of str to array_like, shape (n_images, channels)
        Pooled activations per tap, finite. Fitted in float64.
    measures : array_like, shape (n_images,)
        One concept measure per image, finite and not constant.
    estimator : {"ridge", "ols", "pcr"} or sequence of these, default="ridge"
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
        taps, conditions, estimators and calls can be compared split by split.

    Returns
    -------
    pandas.DataFrame
        One row per tap × estimator × condition × repeat with the columns ``tap``, ``channels``,
        ``n_train``, ``n_test``, ``estimator``, ``condition``, ``repeat``, ``alpha`` (ridge penalty;
        infinite where the training mean predicts best; NaN for others), ``alpha_at_edge`` (penalty
        or number of components at the end of the search), ``dof`` (effective degrees of freedom),
        ``r2_train``, ``r2_test``, ``mae_test`` (in the unit of the measure).

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
    >>> acts = {"early": rng.normal(size=(60, 8)), "late": size[:, None] + rng.normal(size=(60, 8)) / 9}
    >>> table = layerwise_r2(acts, size, repeats=3)
    >>> means = table.groupby(["tap", "condition"]).r2_test.mean()
    >>> bool(means["late", "true"] > 0.9), bool(means["early", "true"] < 0.2)
    (True, True)
    """
    operation = "layerwise_r2"
    estimators = check_choice(estimator, ESTIMATORS, name="estimator", operation=operation)
    conditions = check_choice(conditions, CONDITIONS, name="condition", operation=operation)
    arrays, y, labels = check_problem(acts, measures, groups=groups, operation=operation)
    splits = train_test_splits(
        len(y),
        repeats=repeats,
        test_size=test_size,
        groups=labels,
        random_state=random_state,
        operation=operation,
    )
    targets = [_targets(y, conditions, random_state, repeat) for repeat in range(repeats)]
    for repeat, (rows, columns) in enumerate(zip(splits, targets, strict=True)):
        refuse_constant_folds(columns, *rows, operation=operation, where=f"repeat {repeat}")
    with one_thread():
        records = [
            {"repeat": repeat, "estimator": name, "condition": condition, **scores}
            for tap, X in arrays.items()
            for repeat, ((train, test), columns) in enumerate(zip(splits, targets, strict=True))
            for name, fit in fit_all(X[train], columns[train], estimators).items()
            for condition, scores in zip(
                conditions, score_rows(tap, X, columns, train, test, fit), strict=True
            )
        ]
    return tidy(records)


def projected_r2(
    acts: Mapping[str, Any],
    measures: Any,
    *,
    width: int,
    draws: int = 5,
    narrow: str = "refuse",
    random_state: int = 0,
    **options: Any,
) -> pd.DataFrame:
    """`layerwise_r2` of random projections to one common width, for several draws of the projection.

    Parameters
    ----------
    acts : mapping of str to array_like, shape (n_images, channels)
        Pooled activations per tap, finite.
    measures : array_like, shape (n_images,)
        One concept measure per image.
    width : int
        Number of features after the projection.
    draws : int, default=5
        Number of projections.
    narrow : {"refuse", "keep"}, default="refuse"
        As in `random_projection`.
    random_state : int, default=0
        Seed of splits, the same for every draw, and of the projections.
    **options
        Further options of `layerwise_r2`.

    Returns
    -------
    pandas.DataFrame
        The columns of `layerwise_r2`, ``channels`` being those after the projection, with ``width``
        and ``draw``.

    Raises
    ------
    DataError
        As `random_projection` and `layerwise_r2`.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(40, 64))
    >>> table = projected_r2({"wide": X}, X[:, 0], width=4, draws=2, repeats=3)
    >>> len(table), table.width.unique().tolist(), table.draw.unique().tolist()
    (12, [4], [0, 1])
    """
    draws = check_count(draws, name="draws", operation="projected_r2")
    parts = []
    for draw in range(draws):
        projected = random_projection(
            acts, width, random_state=random_state + 1_000_003 * draw, narrow=narrow
        )
        part = layerwise_r2(projected, measures, random_state=random_state, **options)
        parts.append(part.assign(width=width, draw=draw))
    return pd.concat(parts, ignore_index=True)


def _targets(y: np.ndarray, conditions: tuple[str, ...], random_state: int, repeat: int) -> np.ndarray:
    order = np.random.default_rng([random_state, repeat, 1]).permutation(len(y))
    columns = {"true": y, "shuffled": y[order]}
    return np.stack([columns[condition] for condition in conditions], axis=1)


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
    >>> curve = learning_curve({"tap": X}, y, train_sizes=[10, 31, 140], estimators="ols")
    >>> int(curve.groupby("n_train").r2_test.median().idxmin())
    31
    """
    operation = "learning_curve"
    names = check_choice(estimators, ESTIMATORS, name="estimator", operation=operation)
    sizes = [
        check_count(size, name="train_sizes", operation=operation, minimum=MINIMUM_TRAIN)
        for size in train_sizes
    ]
    arrays, y, labels = check_problem(acts, measures, groups=groups, operation=operation)
    splits = train_test_splits(
        len(y),
        repeats=repeats,
        test_size=test_size,
        groups=labels,
        random_state=random_state,
        operation=operation,
    )
    fewest = min(len(train) for train, _ in splits)
    if not sizes or max(sizes) > fewest:
        raise DataError(
            f"{operation}: training sizes must be given and fit into every split.\n"
            f"Received: {sizes}; the smallest training fold has {fewest} images."
        )
    records: list[dict[str, Any]] = []
    columns = y[:, None]
    for repeat, (train, test) in enumerate(splits):
        ordered = np.random.default_rng([random_state, repeat, 2]).permutation(train)
        for size in sizes:
            part = np.sort(ordered[:size])
            where = f"repeat {repeat} with {size} training images"
            refuse_constant_folds(columns, part, test, operation=operation, where=where)
            with one_thread():
                records += [
                    {"repeat": repeat, "estimator": name, "condition": "true", **scores}
                    for tap, X in arrays.items()
                    for name, fit in fit_all(X[part], columns[part], names).items()
                    for scores in score_rows(tap, X, columns, part, test, fit)
                ]
    return tidy(records)
