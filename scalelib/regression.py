"""How well a linear regression reads a measure from each tap, on images it was not fitted to.

Knows arrays and tables only: neither Keras nor where activations come from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from scalelib.learning import learning_curve
from scalelib.permutation import permutation_test
from scalelib.projection import effective_rank, random_projection
from scalelib.scores import refuse_constant_folds, score_rows, tidy
from scalelib.solvers import ESTIMATORS, fit_all
from scalelib.spectrum import one_thread
from scalelib.splits import train_test_splits
from scalelib.statistics import compare_taps, summarize
from scalelib.validation import check_choice, check_count, check_problem

__all__ = [
    "CONDITIONS",
    "compare_taps",
    "effective_rank",
    "layerwise_r2",
    "learning_curve",
    "permutation_test",
    "projected_r2",
    "random_projection",
    "summarize",
]

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
        See `scalelib.solvers.fit_linear`. ``ols`` is the paper's.
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
