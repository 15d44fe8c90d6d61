"""Splits of slides by patient, and the counts of patches that make the paper's Table 1. What a patch shows: its place on the slide, the tissue in it, and the areas of its nuclei. The pixels of patches: read from slides one at a time, or from a cache on disk. Labelled patches of slides at several magnifications."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from threading import RLock
from typing import Any, overload

import numpy as np
import pandas as pd

from scalelib.datasets import Dataset
from scalelib.errors import DataError, track
from scalelib.slides.nuclei import (
    MIN_AREA,
    Outlines,
    areas_in_mask,
    check_border_rule,
    clip_to_box,
    polygon_area,
    read_outlines,
)
from scalelib.slides.slide import Slide, open_slide

SPLITS = ("train", "validation", "test")


def draw_groups(groups: Sequence[str], n: int, *, random_state: int = 0) -> set[str]:
    """Draw some groups, for a validation or test part.

    Parameters
    ----------
    groups : sequence of str
        The group (patient or slide) of each slide.
    n : int
        How many groups to draw; at least one must remain.
    random_state : int, default=0

    Returns
    -------
    set of str

    Raises
    ------
    DataError
        If fewer than `n` + 1 different groups are there: a split with one slide cannot be divided.

    Examples
    --------
    >>> len(draw_groups(["a", "b", "c", "c"], 2))
    2
    """
    different = sorted(set(groups))
    if not 1 <= n < len(different):
        raise DataError(
            "draw_groups: a part is drawn from more groups than it has.\n"
            f"Received: n={n} of {len(different)} different groups.\n"
            "Split by patient or slide needs at least two of them; patches of one slide are never divided."
        )
    return set(np.random.default_rng(random_state).permutation(different)[:n].tolist())


def check_splits(slides: Sequence[str], groups: Sequence[str], splits: Sequence[str]) -> None:
    """Refuse slides that occur twice, unknown split names, and groups that lie in two splits.

    Parameters
    ----------
    slides, groups, splits : sequences of str, one entry per slide

    Raises
    ------
    DataError

    Examples
    --------
    >>> check_splits(["s1", "s2"], ["p1", "p2"], ["train", "test"])
    """
    table = pd.DataFrame({"slide": slides, "group": groups, "split": splits}, dtype=str)
    twice = table.slide[table.slide.duplicated()].tolist()
    if twice:
        raise DataError(f"slides: each name occurs once.\nReceived twice: {twice}.")
    unknown = sorted(set(table.split) - set(SPLITS))
    if unknown:
        raise DataError(f"slides: a split is one of {', '.join(SPLITS)}.\nReceived: {unknown}.")
    count = table.groupby("group").split.nunique()
    if (count > 1).any():
        raise DataError(
            "slides: all slides of a patient lie in one split.\n"
            f"Received: {sorted(count.index[count > 1])} in several.\nSplit by group, never by slide or patch."
        )


def count_table(table: pd.DataFrame) -> pd.DataFrame:
    """Patches per split and magnification, with totals, in the form of the paper's Table 1.

    Parameters
    ----------
    table : pandas.DataFrame
        Columns ``split`` and ``magnification``.

    Returns
    -------
    pandas.DataFrame
        Index ``train, validation, test, total`` (those that occur); columns ``5X`` … and ``total``.

    Examples
    --------
    >>> counts = count_table(pd.DataFrame({"split": ["train", "test"], "magnification": [5.0, 40.0]}))
    >>> counts.loc["total"].tolist()
    [1, 1, 2]
    """
    order: list[Any] = [split for split in SPLITS if split in set(table["split"])]
    counts = pd.crosstab(table["split"], table["magnification"]).loc[order]
    counts.columns = pd.Index([f"{m:g}X" for m in counts.columns])
    counts["total"] = counts.sum(axis=1)
    counts.loc["total"] = counts.sum()
    counts.index.name = "split"
    return counts


def patch_positions(
    slide: Slide, size: int, magnification: float, *, layout: str = "grid"
) -> list[tuple[int, int]]:
    """Upper left corners of the patches of a slide at one magnification.

    Parameters
    ----------
    slide : Slide
    size : int
        Side of a patch in its own pixels.
    magnification : float
    layout : {"grid", "cover"}, default="grid"
        ``"grid"``: side by side from the upper left corner, the rest of the slide unused.
        ``"cover"``: as few as cover the slide, evenly spaced, overlapping where they must.

    Returns
    -------
    list of (int, int)
        Level-0 pixels (x, y), row by row.

    Raises
    ------
    DataError
        If the patch is larger than the slide, the magnification above the slide's own, or the layout
        unknown.

    Examples
    --------
    >>> from scalelib.slides.slide import open_slide
    >>> slide = open_slide(np.zeros((100, 100, 3), np.uint8), power=40)
    >>> patch_positions(slide, 40, 20)
    [(0, 0)]
    >>> patch_positions(slide, 40, 20, layout="cover")
    [(0, 0), (20, 0), (0, 20), (20, 20)]
    """
    if layout not in {"grid", "cover"}:
        raise DataError(f"patch_positions: layout is 'grid' or 'cover'.\nReceived: {layout!r}.")
    extent = size * slide.downsample(magnification)
    if extent > min(slide.size) + 1e-6 * min(slide.size):
        largest = math.floor(min(slide.size) / slide.downsample(magnification))
        raise DataError(
            f"slide {slide.name}: a patch is no larger than the slide.\n"
            f"Received: {size} px at {magnification:g}X, which is {extent:.0f} level-0 px of "
            f"{slide.size[0]}×{slide.size[1]}.\n"
            f"At {magnification:g}X patches of up to {largest} px fit."
        )
    corners = []
    for side in slide.size:
        room = max(side - extent, 0.0)
        if layout == "cover":
            count = math.ceil(side / extent - 1e-6)
            corners.append([int(room * i / max(count - 1, 1)) for i in range(count)])
        else:
            corners.append([math.floor(i * extent) for i in range(math.floor(side / extent + 1e-6))])
    return [(x, y) for y in corners[1] for x in corners[0]]


def areas_in_patch(
    nuclei: Outlines,
    x: float,
    y: float,
    size: int,
    *,
    factor: float,
    border: str = "clear",
    min_area: float = 3.0,
) -> np.ndarray:
    """Exact areas of the outlined nuclei in a patch, in pixels of the patch.

    Parameters
    ----------
    nuclei : Outlines
        In level-0 pixels.
    x, y : float
        Upper left corner of the patch, level-0 pixels.
    size : int
        Side of the patch in its own pixels.
    factor : float
        Level-0 pixels per pixel of the patch.
    border : {"clear", "clip"}, default="clear"
        ``"clear"``: only nuclei that lie wholly inside and do not touch the border. ``"clip"``: the
        part inside of those that the border cuts counts too.
    min_area : float, default=3
        Smaller nuclei (or parts) are left out, in pixels of the patch.

    Returns
    -------
    ndarray of shape (n_nuclei,), float64

    Examples
    --------
    >>> from scalelib.slides.nuclei import outlines
    >>> nuclei = outlines([[(2, 2), (6, 2), (6, 6), (2, 6)], [(12, 2), (20, 2), (20, 6), (12, 6)]])
    >>> areas_in_patch(nuclei, 0, 0, 8, factor=2.0, min_area=1).tolist()
    [4.0]
    >>> areas_in_patch(nuclei, 0, 0, 8, factor=2.0, min_area=1, border="clip").tolist()
    [4.0, 4.0]
    """
    box = (x, y, x + size * factor, y + size * factor)
    whole, reaching = nuclei.against_box(np.array(box[:2]), np.array(box[2:]))
    areas = list(nuclei.areas[whole])
    if border == "clip":
        areas += [
            polygon_area(clip_to_box(nuclei.polygons[i], box)) for i in np.flatnonzero(reaching & ~whole)
        ]
    in_patch = np.asarray(areas, np.float64) / factor**2
    return in_patch[in_patch >= min_area]


def tissue_mask(image: np.ndarray) -> np.ndarray:
    """Where an overview of a slide shows stained tissue.

    Parameters
    ----------
    image : ndarray of shape (height, width, 3), uint8

    Returns
    -------
    ndarray of shape (height, width), bool
        True where the colour is saturated (chroma at least 15 of 255 and 7 % of its brightest
        channel): glass, pen marks in grey and black padding are not.

    Examples
    --------
    >>> tissue_mask(np.array([[[240, 240, 242], [200, 120, 180], [0, 0, 0]]], np.uint8)).tolist()
    [[False, True, False]]
    """
    high, low = image.max(axis=2).astype(np.int16), image.min(axis=2).astype(np.int16)
    return (high - low >= 15) & (high - low >= 0.07 * high)


def tissue_share(
    mask: np.ndarray, slide_size: tuple[int, int], box: tuple[float, float, float, float]
) -> float:
    """Share of a region that is tissue, read off the overview's mask.

    Parameters
    ----------
    mask : ndarray of shape (height, width), bool
        Tissue on the whole slide; see :func:`tissue_mask`.
    slide_size : tuple of int
        Width and height of level 0.
    box : tuple of float
        ``x_min, y_min, x_max, y_max`` in level-0 pixels.

    Returns
    -------
    float
        In [0, 1]; at least one pixel of the mask is looked at.

    Examples
    --------
    >>> tissue_share(np.array([[True, False]]), (80, 40), (0, 0, 80, 40))
    0.5
    """
    scale = np.array([mask.shape[1] / slide_size[0], mask.shape[0] / slide_size[1]])
    left, top = np.minimum(np.rint(box[:2] * scale).astype(int), np.array(mask.shape[::-1]) - 1)
    right, bottom = np.maximum(np.rint(box[2:] * scale).astype(int), (left + 1, top + 1))
    return float(mask[top:bottom, left:right].mean())


def tissue_positions(
    slide: Slide,
    tissue: np.ndarray,
    size: int,
    magnification: float,
    *,
    layout: str = "grid",
    min_tissue: float = 0.5,
    at_most: int | None = None,
    random_state: int | np.random.Generator = 0,
) -> list[tuple[int, int, float]]:
    """Places of patches with enough tissue, drawn at random where there are more than wanted.

    Parameters
    ----------
    slide : Slide
    tissue : ndarray of shape (height, width), bool
        Tissue on its overview; see :func:`tissue_mask`.
    size : int
        Side of a patch in its own pixels.
    magnification : float
    layout : {"grid", "cover"}, default="grid"
        See :func:`patch_positions`.
    min_tissue : float, default=0.5
        Smallest share of tissue; where no patch has enough, those with the most are given.
    at_most : int, optional
        How many places are wanted. A large slide is not looked through once they are found.
    random_state : int or numpy.random.Generator, default=0

    Returns
    -------
    list of (int, int, float)
        Level-0 pixels (x, y) and the share of tissue there, row by row.

    Raises
    ------
    DataError
        As :func:`patch_positions`.

    Examples
    --------
    >>> from scalelib.slides.slide import open_slide
    >>> pixels = np.full((64, 128, 3), 245, np.uint8)
    >>> pixels[:, :64] = (220, 140, 190)
    >>> tissue_positions(open_slide(pixels, power=40), tissue_mask(pixels), 64, 40)
    [(0, 0, 1.0)]
    """
    places = patch_positions(slide, size, magnification, layout=layout)
    extent = size * slide.downsample(magnification)
    shares: dict[int, float] = {}
    enough: list[int] = []
    for i in np.random.default_rng(random_state).permutation(len(places)).tolist():
        if len(enough) == at_most:
            break
        x, y = places[i]
        shares[i] = tissue_share(tissue, slide.size, (x, y, x + extent, y + extent))
        if shares[i] >= min_tissue:
            enough.append(i)
    most = max(shares.values())
    chosen = enough or [i for i, share in shares.items() if share == most][:at_most]
    return [(*places[i], shares[i]) for i in sorted(chosen)]


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
    >>> from scalelib.slides.slide import open_slide
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
    >>> from scalelib.slides.slide import open_slide
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


MAGNIFICATIONS = (5.0, 8.0, 10.0, 15.0, 20.0, 30.0, 40.0)
"""The seven magnifications of the paper's Table 1."""


@dataclass(frozen=True)
class SlideSource:
    """One slide of a collection and what is known about it; nothing is open.

    Parameters
    ----------
    slide : str
        Name, unique in the collection.
    image : pathlib.Path or ndarray of shape (height, width, 3), uint8
        What :func:`~scalelib.slides.slide.open_slide` takes.
    nuclei : pathlib.Path or Outlines
        Outlines (``.xml``, ``.json``, ``.geojson``, or read already), else the image of a mask with
        the slide's width and height.
    group : str
        Patient or slide: everything of a group lies in one split.
    split : {"train", "validation", "test"}
    power, mpp : float, optional
        Override what the file states.
    """

    slide: str
    image: Path | np.ndarray
    nuclei: Path | Outlines
    group: str
    split: str
    power: float | None = None
    mpp: float | None = None

    def open(self) -> Slide:
        """Open the slide at its own or the given magnification."""
        return open_slide(self.image, power=self.power, mpp=self.mpp)


def slide_patches(
    sources: Sequence[SlideSource],
    *,
    name: str,
    size: int = 224,
    magnifications: Iterable[float] = MAGNIFICATIONS,
    border: str = "clear",
    min_area: float = MIN_AREA,
    min_tissue: float = 0.25,
    layout: str = "grid",
    max_per_slide: int | None = None,
    random_state: int = 0,
    source: str = "",
) -> Dataset:
    """Cut slides into labelled patches, without reading the patches' pixels.

    Parameters
    ----------
    sources : sequence of SlideSource
    name : str
        Name of the dataset.
    size : int, default=224
        Side of a patch in pixels, at every magnification.
    magnifications : iterable of float, default=(5, 8, 10, 15, 20, 30, 40)
    border : {"clear", "clip"}, default="clear"
        Nuclei cut by the patch border are left out (the paper's rule, which favours small nuclei), or
        count with the part inside.
    min_area : float, default=3
        Smallest area of a nucleus, in pixels of the patch.
    min_tissue : float, default=0.25
        Patches with a smaller share of tissue on the overview are left out.
    layout : {"grid", "cover"}, default="grid"
        See :func:`~scalelib.slides.patches.patch_positions`. On small images ``"cover"`` gives
        low magnifications several patches where a grid gives one.
    max_per_slide : int, optional
        At most so many patches per slide and magnification, drawn at random.
    random_state : int, default=0
        Seed of that draw.
    source : str, default=""
        Citation and licence.

    Returns
    -------
    Dataset
        `images` is a :class:`~scalelib.slides.patches.PatchImages`, which reads a patch when it
        is asked for. `table` has ``image, object_class, area_ratio, sqrt_area_ratio, slide, group,
        split, x, y, magnification, mpp, mpp_stated, n_nuclei, mean_area_px, mean_area_um2, tissue``;
        x and y are level-0 pixels, areas are in pixels of the patch and in µm², ratios are those of
        the mean nucleus to the patch. `excluded` counts patches without tissue (``background``) or
        nuclei (``no_nuclei``), slides without nuclei, and what the outlines left out.

    Raises
    ------
    DataError
        If no patch is left, a slide's name occurs twice, a group lies in two splits, a magnification
        is above a slide's own, or a patch is larger than a slide.

    Examples
    --------
    >>> from scalelib.slides.nuclei import outlines
    >>> pixels = np.full((128, 128, 3), (200, 120, 180), np.uint8)
    >>> nuclei = outlines([[(10, 10), (30, 10), (30, 30), (10, 30)]])
    >>> one = SlideSource("one", pixels, nuclei, "one", "train", power=40)
    >>> patches = slide_patches([one], name="one", size=32, magnifications=[10, 20])
    >>> patches.table[["magnification", "n_nuclei", "mean_area_px", "mean_area_um2"]].to_numpy().tolist()
    [[10.0, 1.0, 25.0, 25.0], [20.0, 1.0, 100.0, 25.0]]
    """
    check_border_rule(border)
    check_splits([s.slide for s in sources], [s.group for s in sources], [s.split for s in sources])
    rng = np.random.default_rng(random_state)
    counts: Counter[str] = Counter()
    rows: list[dict[str, object]] = []
    for one in track(sources, label="slides", unit="slide"):
        before = len(rows)
        with ExitStack() as files:
            slide = files.enter_context(one.open())
            areas, mpp = _nuclei(one, slide, files, counts, border=border, min_area=min_area)
            tissue = tissue_mask(slide.overview())
            for magnification in magnifications:
                found = list(_labelled(slide, tissue, areas, size, magnification, layout, min_tissue, counts))
                if max_per_slide is not None and len(found) > max_per_slide:
                    counts["beyond_max_per_slide"] += len(found) - max_per_slide
                    found = [found[i] for i in np.sort(rng.permutation(len(found))[:max_per_slide])]
                spacing = (mpp or slide.mpp) * slide.downsample(magnification)
                for patch in found:
                    area = patch["mean_area_px"]
                    rows.append(
                        {
                            "image": f"{one.slide}:{magnification:g}X:{patch['x']},{patch['y']}",
                            "object_class": "nucleus",
                            "area_ratio": area / size**2,
                            "sqrt_area_ratio": math.sqrt(area) / size,
                            "slide": one.slide,
                            "group": one.group,
                            "split": one.split,
                            "magnification": float(magnification),
                            "mpp": spacing,
                            "mpp_stated": mpp is not None or slide.mpp_stated,
                            **patch,
                            "mean_area_um2": area * spacing**2,
                        }
                    )
        counts["slides_without_nuclei"] += len(rows) == before
    if not rows:
        raise DataError(
            f"slide_patches: no patch of {name} has tissue and nuclei.\n"
            f"Received: {len(sources)} slides; left out: {dict(counts)}.\nLook at the annotations and min_tissue."
        )
    table = pd.DataFrame(rows).astype({"n_nuclei": int, "x": int, "y": int})
    digest = hashlib.sha256(table.to_csv(index=False, float_format="%.9g").encode()).hexdigest()
    images = PatchImages(
        {s.slide: s.open for s in sources}, table, size, nuclei={s.slide: s.nuclei for s in sources}
    )
    return Dataset(name, images, table, {k: int(v) for k, v in counts.items() if v}, source, digest)


Areas = Callable[[int, int, int, float], np.ndarray]


def _nuclei(
    one: SlideSource, slide: Slide, files: ExitStack, counts: Counter[str], *, border: str, min_area: float
) -> tuple[Areas, float | None]:
    """A function from x, y, size and magnification to areas, and the annotation's own mpp."""
    nuclei = one.nuclei
    if isinstance(nuclei, Path) and nuclei.suffix.lower() in {".xml", ".json", ".geojson"}:
        nuclei = read_outlines(nuclei)
    if isinstance(nuclei, Outlines):
        outlined = nuclei
        counts.update(outlined.excluded)
        low, high = outlined.boxes[:, :2], outlined.boxes[:, 2:]
        counts["outside_slide"] += int(((low >= slide.size) | (high <= 0)).any(axis=1).sum())

        def from_outlines(x: int, y: int, size: int, magnification: float) -> np.ndarray:
            factor = slide.downsample(magnification)
            return areas_in_patch(outlined, x, y, size, factor=factor, border=border, min_area=min_area)

        return from_outlines, one.mpp or outlined.mpp
    mask = files.enter_context(open_slide(nuclei, power=slide.power, mpp=slide.mpp))
    if mask.size != slide.size:
        raise DataError(
            f"slide {one.slide}: a mask has its slide's width and height.\n"
            f"Received: {mask.size[0]}×{mask.size[1]} for {slide.size[0]}×{slide.size[1]}."
        )

    def from_mask(x: int, y: int, size: int, magnification: float) -> np.ndarray:
        patch = mask.read(x, y, size, magnification=magnification)[..., 0]
        return areas_in_mask(patch, border=border, min_area=min_area)

    return from_mask, one.mpp


def _labelled(
    slide: Slide,
    tissue: np.ndarray,
    areas: Areas,
    size: int,
    magnification: float,
    layout: str,
    min_tissue: float,
    counts: Counter[str],
) -> Iterator[dict[str, float]]:
    extent = size * slide.downsample(magnification)
    for x, y in patch_positions(slide, size, magnification, layout=layout):
        share = tissue_share(tissue, slide.size, (x, y, x + extent, y + extent))
        if share < min_tissue:
            counts["background"] += 1
            continue
        found = areas(x, y, size, magnification)
        if len(found) == 0:
            counts["no_nuclei"] += 1
            continue
        yield {"x": x, "y": y, "n_nuclei": len(found), "mean_area_px": float(found.mean()), "tissue": share}
