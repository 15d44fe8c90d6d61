"""Permutation test of held-out R², over many taps at once.

Knows arrays and tables only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from scalelib.errors import require, track
from scalelib.linear import ESTIMATORS, fit_linear, in_threads
from scalelib.regression import r2, refuse_constant_folds, train_test_splits
from scalelib.validation import check_choice, check_count, check_labels, check_problem


def permutation_test(
    acts: Mapping[str, Any],
    measures: Any,
    *,
    strata: Any = None,
    per_stratum: bool = False,
    groups: Any = None,
    permutations: int = 199,
    estimator: str = "ridge",
    repeats: int = 10,
    test_size: float = 0.3,
    random_state: int = 0,
    n_jobs: int | None = None,
) -> pd.DataFrame:
    """Whether held-out R² exceeds what measures without any tie to the images would give.

    Parameters
    ----------
    acts : mapping of str to array_like, shape (n_images, channels)
        Pooled activations per tap, finite.
    measures : array_like, shape (n_images,)
        One concept measure per image.
    strata : array_like, shape (n_images,), optional
        Labels, such as object classes, within which the measure is permuted.
    per_stratum : bool, default=False
        Regress each stratum apart, as `layerwise_r2` on its rows would, and take the mean over
        strata; otherwise one regression over all rows.
    groups : array_like, shape (n_images,), optional
        Rows of one group stay on one side of every split, and the measure is permuted within it.
    permutations : int, default=199
        Number of permutations B.
    estimator : {"ridge", "ols", "ridge_unscaled", "pcr"}, default="ridge"
        Tuned anew for every permutation.
    repeats : int, default=10
        Number of random splits, the same for every permutation and tap.
    test_size : float, default=0.3
        Share held out, in (0, 1).
    random_state : int, default=0
        Seed.
    n_jobs : int, optional
        Threads over taps and splits, as in `layerwise_r2`.

    Returns
    -------
    pandas.DataFrame
        One row per tap: ``tap``, ``channels``, ``estimator``, ``permutations``, ``r2_test`` (mean
        over repeats, and strata), ``null_mean`` and ``null_q95`` (mean and 95 % quantile of the
        permuted), ``p`` of the tap alone and ``p_max``, corrected for the number of taps.

    Raises
    ------
    DataError
        As `layerwise_r2`, and if fewer than B different permutations are possible.

    Notes
    -----
    p = (b + 1) / (B + 1), b the number of permutations that reach the observed statistic
    (Phipson and Smyth 2010). The same permutations serve all taps; ``p_max`` compares each tap with
    the largest permuted statistic over taps (Westfall and Young 1993, single step), which keeps the
    probability of any false finding below the level. Within a split all permutations are columns
    of one regression.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> size = rng.uniform(size=40)
    >>> acts = {"noise": rng.normal(size=(40, 5))}
    >>> acts["size"] = size[:, None] + rng.normal(size=(40, 5)) / 9
    >>> test = permutation_test(acts, size, permutations=19, repeats=2)
    >>> dict(zip(test.tap, test.p_max.round(2) <= 0.05))
    {'noise': False, 'size': True}
    """
    operation = "permutation_test"
    [estimator] = check_choice((estimator,), ESTIMATORS, name="estimator", operation=operation)
    permutations = check_count(permutations, name="permutations", operation=operation)
    seed = check_count(random_state, name="random_state", operation=operation, minimum=0)
    arrays, y, labels = check_problem(acts, measures, groups=groups, operation=operation)
    stratum = check_labels(strata, len(y), name="strata", operation=operation)
    require(stratum is not None or not per_stratum, operation, "per_stratum needs strata", "strata=None")
    targets = np.column_stack([y, _permuted(y, [stratum, labels], permutations, seed, operation)])

    apart = stratum if per_stratum and stratum is not None else np.zeros(len(y))
    tasks = []
    for part in (np.flatnonzero(apart == code) for code in np.unique(apart)):
        of_part = None if labels is None else labels[part]
        splits = train_test_splits(len(part), repeats, test_size, of_part, seed, operation)
        for repeat, (train, test) in enumerate(splits):
            train, test = part[train], part[test]
            refuse_constant_folds(targets, train, test, operation=operation, where=f"repeat {repeat}")
            tasks += [(X, train, test) for X in arrays.values()]

    def held_out(X: np.ndarray, train: np.ndarray, test: np.ndarray) -> np.ndarray:
        return r2(targets[test], fit_linear(X[train], targets[train], estimator).predict(X[test]))

    scores = track(in_threads(held_out, tasks, n_jobs), total=len(tasks), label="permutations")
    statistic = np.reshape(list(scores), (-1, len(arrays), permutations + 1)).mean(axis=0)
    return _table(arrays, statistic, estimator)


def _table(arrays: dict[str, np.ndarray], statistic: np.ndarray, estimator: str) -> pd.DataFrame:
    observed, null = statistic[:, 0], statistic[:, 1:]
    reached = observed[:, None] - 1e-9  # an order that equals the observed one is a tie, rounding aside
    p, p_max = (((some >= reached).sum(axis=1) + 1) / statistic.shape[1] for some in (null, null.max(axis=0)))
    table = pd.DataFrame({"tap": list(arrays), "channels": [X.shape[1] for X in arrays.values()]})
    table = table.assign(estimator=estimator, permutations=null.shape[1], r2_test=observed)
    spread = {"null_mean": null.mean(axis=1), "null_q95": np.quantile(null, 0.95, axis=1)}
    return table.assign(**spread, p=p, p_max=p_max)


def _permuted(
    y: np.ndarray, labels: list[np.ndarray | None], permutations: int, seed: int, operation: str
) -> np.ndarray:
    """Measures permuted within cells of one stratum and one group, a permutation per column."""
    levels = [codes for codes in labels if codes is not None]
    cells = [rows.to_numpy() for _, rows in pd.Series(np.arange(len(y))).groupby(levels or [0 * y])]
    counts = [np.unique(y[rows], return_counts=True)[1] for rows in cells]
    possible = sum(special.gammaln(same.sum() + 1) - special.gammaln(same + 1).sum() for same in counts)
    wanted = np.log(permutations + 1)
    rule = f"at least {permutations + 1} different orders of the measures must be possible"
    received = f"{np.exp(min(possible, wanted)):.0f}, within {len(cells)} cells of the same stratum and group"
    advice = "Where a measure belongs to the group as a whole, pass one row per group instead of groups=."
    require(possible >= wanted - 1e-9, operation, rule, received, advice)
    columns = np.empty((len(y), permutations))
    rng = np.random.default_rng([seed, 3])
    for column in range(permutations):
        for rows in cells:
            columns[rows, column] = y[rng.permutation(rows)]
    return columns
