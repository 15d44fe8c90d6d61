"""Held-out R² as the training set grows: where least squares interpolates, and what ridge does there.

Knows arrays and tables only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from scalelib.errors import DataError
from scalelib.scores import refuse_constant_folds, score_rows, tidy
from scalelib.solvers import ESTIMATORS, fit_all
from scalelib.spectrum import one_thread
from scalelib.splits import MINIMUM_TRAIN, train_test_splits
from scalelib.validation import check_choice, check_count, check_problem


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
        See `scalelib.solvers.fit_linear`.
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
