"""Batches of patches for any Keras backend, in an order that a seed and an epoch decide.

Knows arrays and Keras's PyDataset; no tf.data.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from scalelib.backend import keras


class Batches(keras.utils.PyDataset):
    """Preprocessed batches with their targets. A class because Keras feeds from one.

    Parameters
    ----------
    images : sequence of ndarray, each of shape (height, width, 3), uint8
        An array, or anything with ``batch(indices)``, such as cached patches.
    targets : ndarray of shape (n,), float32
    order : ndarray of int
        Rows to visit, in this order.
    preprocess : callable
        From float32 RGB, 0–255, to what the network reads.
    batch_size : int, default=32
        The last batch may be smaller.
    turns : ndarray of int, optional
        For each entry of `order` one of the eight flips and rotations, 0 to 7 (0: as it is).
    workers : int, default=1
        Above one: threads that prepare batches while the network works.

    Examples
    --------
    >>> images = np.zeros((5, 8, 8, 3), np.uint8)
    >>> data = Batches(images, np.arange(5.0), np.array([4, 0, 1]), lambda x: x, batch_size=2)
    >>> len(data), data[0][1].ravel().tolist()
    (2, [4.0, 0.0])
    """

    def __init__(
        self,
        images: Sequence[np.ndarray] | np.ndarray,
        targets: np.ndarray,
        order: np.ndarray,
        preprocess: Callable[[np.ndarray], Any],
        *,
        batch_size: int = 32,
        turns: np.ndarray | None = None,
        workers: int = 1,
    ) -> None:
        super().__init__(workers=workers, use_multiprocessing=False, max_queue_size=8)
        self.images, self.targets, self.order = images, np.asarray(targets, np.float32), np.asarray(order)
        self.preprocess, self.batch_size, self.turns = preprocess, batch_size, turns

    def __len__(self) -> int:
        return math.ceil(len(self.order) / self.batch_size)

    def __getitem__(self, index: int) -> tuple[Any, np.ndarray]:
        part = slice(index * self.batch_size, (index + 1) * self.batch_size)
        rows = self.order[part]
        if isinstance(self.images, np.ndarray):
            pixels = self.images[rows]
        elif hasattr(self.images, "batch"):
            pixels = self.images.batch(rows)
        else:
            pixels = np.stack([self.images[int(row)] for row in rows])
        if self.turns is not None:
            pixels = np.stack([turned(p, int(t)) for p, t in zip(pixels, self.turns[part], strict=True)])
        return self.preprocess(pixels.astype(np.float32)), self.targets[rows][:, None]


def turned(patch: np.ndarray, turn: int) -> np.ndarray:
    """One of the eight flips and rotations of a square patch; none changes its scale.

    Parameters
    ----------
    patch : ndarray of shape (side, side, channels)
    turn : int
        0 to 7: quarter turns, and from 4 on a flip first.

    Returns
    -------
    ndarray of the same shape

    Examples
    --------
    >>> turned(np.arange(4).reshape(2, 2, 1), 1)[..., 0].tolist()
    [[1, 3], [0, 2]]
    """
    return np.rot90(patch[:, ::-1] if turn >= 4 else patch, turn % 4)


def epoch_order(rows: np.ndarray, *, seed: int, epoch: int) -> tuple[np.ndarray, np.ndarray]:
    """Order and turns of one epoch, the same whenever it is run.

    Parameters
    ----------
    rows : ndarray of int
        Training rows.
    seed, epoch : int
        Not negative.

    Returns
    -------
    tuple of ndarray
        The rows shuffled, and for each a turn from 0 to 7.

    Examples
    --------
    >>> order, turns = epoch_order(np.arange(4), seed=1001, epoch=1)
    >>> sorted(order.tolist()), len(turns)
    ([0, 1, 2, 3], 4)
    """
    rng = np.random.default_rng([seed, epoch])
    return rng.permutation(rows), rng.integers(0, 8, len(rows))
