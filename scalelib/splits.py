"""Repeated train/test splits: the same for every tap, condition and estimator of one call.

Knows row numbers only.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from scalelib.errors import DataError
from scalelib.validation import check_count, check_labels

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
