"""The pixels of patches: read from slides one at a time, or from a cache on disk.

Knows where patches lie, not what they are for.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import RLock
from typing import overload

import numpy as np
import pandas as pd

from scalelib.datasets.annotations import Outlines
from scalelib.datasets.slides import Slide
from scalelib.errors import DataError
from scalelib.progress import track

_OPEN_SLIDES = 4


class PatchImages(Sequence[np.ndarray]):
    """Patches that are read from their slides when they are asked for.

    A class because it is a sequence that holds a few open files. Safe to index from several threads.

    Parameters
    ----------
    openers : dict of str to callable
        Opens each slide by name.
    table : pandas.DataFrame
        Columns ``slide, x, y, magnification``, one row per patch.
    size : int
        Side of a patch in pixels.
    nuclei : dict of str to path or Outlines, optional
        What each slide's nuclei are read from; kept, not looked at.

    Examples
    --------
    >>> from functools import partial
    >>> from scalelib.datasets.slides import open_slide
    >>> opener = partial(open_slide, np.full((64, 64, 3), 7, np.uint8), power=40)
    >>> table = pd.DataFrame({"slide": ["a"], "x": [0], "y": [0], "magnification": [20.0]})
    >>> PatchImages({"a": opener}, table, 32)[0].shape
    (32, 32, 3)
    """

    def __init__(
        self,
        openers: dict[str, Callable[[], Slide]],
        table: pd.DataFrame,
        size: int,
        *,
        nuclei: dict[str, Path | Outlines] | None = None,
    ) -> None:
        self.openers = openers
        self.nuclei = nuclei or {}
        self.table = table[["slide", "x", "y", "magnification"]].reset_index(drop=True)
        self.size = size
        self._rows = list(self.table.itertuples(index=False))
        self._open: OrderedDict[str, Slide] = OrderedDict()
        self._lock = RLock()

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, index: slice) -> list[np.ndarray]: ...
    def __getitem__(self, index: int | slice) -> np.ndarray | list[np.ndarray]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        row = self._rows[index]
        with self._lock:
            return self._slide(row.slide).read(
                int(row.x), int(row.y), self.size, magnification=row.magnification
            )

    def _slide(self, name: str) -> Slide:
        if name not in self._open:
            if len(self._open) >= _OPEN_SLIDES:
                self._open.popitem(last=False)[1].close()
            self._open[name] = self.openers[name]()
        self._open.move_to_end(name)
        return self._open[name]


class CachedPatches(Sequence[np.ndarray]):
    """Patches in uint8 shards on disk, memory-mapped: nothing is loaded until it is asked for.

    Parameters
    ----------
    shards : list of pathlib.Path
        ``.npy`` files of shape (n, size, size, 3).
    places : ndarray of shape (n_patches, 2), int
        Shard and row of each patch.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(Path(folder) / "a.npy", np.full((2, 4, 4, 3), 9, np.uint8))
    ...     CachedPatches([Path(folder) / "a.npy"], np.array([[0, 1]])).batch([0]).mean().item()
    9.0
    """

    def __init__(self, shards: list[Path], places: np.ndarray) -> None:
        self.shards = [np.load(path, mmap_mode="r") for path in shards]
        self.places = places

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, index: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, index: slice) -> list[np.ndarray]: ...
    def __getitem__(self, index: int | slice) -> np.ndarray | list[np.ndarray]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        shard, row = self.places[index]
        return np.asarray(self.shards[shard][row])

    def batch(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Several patches at once, of shape (n, size, size, 3), uint8."""
        return np.stack([self[int(i)] for i in indices])


def cache_patches(images: PatchImages, folder: str | os.PathLike[str]) -> CachedPatches:
    """Decode patches once and keep them on disk, one shard per slide.

    Parameters
    ----------
    images : PatchImages
    folder : path-like
        Parent of the cache; the shards of other patches may lie there too.

    Returns
    -------
    CachedPatches
        In the order of `images`.

    Raises
    ------
    DataError
        If a shard on disk has another shape than its patches: it was not written by this function.

    Notes
    -----
    A shard is named after all that decides its pixels (slide, its size and magnification, places,
    patch size), is written to a file of its own and renamed when complete, so a run that was killed
    leaves whole shards only, and the next one continues.

    Examples
    --------
    >>> import tempfile
    >>> from functools import partial
    >>> from scalelib.datasets.slides import open_slide
    >>> opener = partial(open_slide, np.full((64, 64, 3), 7, np.uint8), power=40)
    >>> table = pd.DataFrame({"slide": ["a", "a"], "x": [0, 32], "y": [0, 0], "magnification": [40.0] * 2})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     len(cache_patches(PatchImages({"a": opener}, table, 32), folder))
    2
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    names = list(dict.fromkeys(images.table["slide"]))
    places = np.zeros((len(images), 2), np.int64)
    shards = []
    for number, name in enumerate(track(names, label="decoding", unit="slide")):
        rows = np.flatnonzero(images.table["slide"] == name)
        places[rows] = np.stack([np.full(len(rows), number), np.arange(len(rows))], axis=1)
        shards.append(_shard(images, name, rows, folder))
    return CachedPatches(shards, places)


def _shard(images: PatchImages, name: str, rows: np.ndarray, folder: Path) -> Path:
    with images.openers[name]() as slide:
        identity = [name, slide.level_sizes, slide.power, images.size, _first_pixels(slide)]
    where = images.table.iloc[rows][["x", "y", "magnification"]].to_numpy(float).tolist()
    digest = hashlib.sha256(json.dumps([identity, where]).encode()).hexdigest()[:16]
    path = folder / f"{digest}.npy"
    shape = (len(rows), images.size, images.size, 3)
    if path.exists():
        if np.load(path, mmap_mode="r").shape == shape:
            return path
        raise DataError(f"cache_patches: {path} is not of shape {shape}.\nRemove it and run again.")
    unfinished = path.with_name(f"{digest}.{os.getpid()}.unfinished")
    shard = np.lib.format.open_memmap(unfinished, mode="w+", dtype=np.uint8, shape=shape)
    for place, row in enumerate(rows):
        shard[place] = images[int(row)]
    shard.flush()
    unfinished.replace(path)
    return path


def _first_pixels(slide: Slide) -> str:
    """A digest of a corner and the middle of a slide: tells slides of one name and size apart."""
    side = min(64, *slide.size)
    corners = [(0, 0), ((slide.size[0] - side) // 2, (slide.size[1] - side) // 2)]
    pixels = [slide.read(x, y, side, magnification=slide.power).tobytes() for x, y in corners]
    return hashlib.sha256(b"".join(pixels)).hexdigest()


def batches(images: Sequence[np.ndarray], size: int = 64) -> Iterator[np.ndarray]:
    """Stream patches in order, so that never more than one batch is in memory.

    Parameters
    ----------
    images : sequence of ndarray, all of one shape
    size : int, default=64
        Patches per batch.

    Yields
    ------
    ndarray of shape (≤ size, height, width, 3), uint8

    Examples
    --------
    >>> [b.shape[0] for b in batches(np.zeros((5, 2, 2, 3), np.uint8), size=2)]
    [2, 2, 1]
    """
    for start in range(0, len(images), size):
        yield np.stack([images[i] for i in range(start, min(start + size, len(images)))])
