"""Labelled patches of slides at several magnifications: places, tissue, nuclei, splits, and the pixels, from slides or a cache.

Knows slides and annotations; no collection, no network.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scalelib.datasets import Dataset
from scalelib.errors import require, track
from scalelib.results import write_atomic
from scalelib.slides.nuclei import MIN_AREA, READERS, Outlines, areas_in_mask, areas_in_patch, read_outlines
from scalelib.slides.slide import Slide, open_slide

SPLITS = ("train", "validation", "test")
MAGNIFICATIONS = (5.0, 8.0, 10.0, 15.0, 20.0, 30.0, 40.0)  # the seven of the paper's Table 1
OPEN_SLIDES = 4
MIN_TISSUE = 0.5  # share of a patch that tissue covers, where no nucleus says that it shows some


def draw_groups(groups: Sequence[str], n: int, *, random_state: int = 0) -> set[str]:
    """Draw `n` different groups (patients or slides) for a validation or test part; at least one remains."""
    different = sorted(set(groups))
    received = f"n={n} of {len(different)} different groups"
    advice = "Split by patient or slide needs at least two of them; patches of one slide are never divided."
    enough = 1 <= n < len(different)
    require(enough, "draw_groups", "a part is drawn from more groups than it has", received, advice)
    return set(np.random.default_rng(random_state).permutation(different)[:n].tolist())


def check_splits(slides: Sequence[str], groups: Sequence[str], splits: Sequence[str]) -> None:
    """Refuse slides that occur twice, and groups that lie in two splits."""
    table = pd.DataFrame({"slide": slides, "group": groups, "split": splits}, dtype=str)
    twice = table.slide[table.slide.duplicated()].tolist()
    require(not twice, "slides", "each name occurs once", f"{twice} twice")
    count = table.groupby("group").split.nunique()
    torn = sorted(count.index[count > 1])
    advice = "Split by group, never by slide or patch."
    require(not torn, "slides", "all slides of a patient lie in one split", f"{torn} in several", advice)


def count_table(table: pd.DataFrame) -> pd.DataFrame:
    """Patches per split and magnification, with totals, in the form of the paper's Table 1."""
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
    """Upper left corners (x, y) in level-0 pixels of the patches of a slide at one magnification, row by row.

    ``"grid"``: side by side from the upper left corner, the rest of the slide unused; ``"cover"``: as few as cover the
    slide, evenly spaced, overlapping where they must.
    """
    extent, (width, height) = size * slide.downsample(magnification), slide.size
    largest = math.floor(min(slide.size) / slide.downsample(magnification))
    received = f"{size} px at {magnification:g}X, which is {extent:.0f} level-0 px of {width}×{height}"
    advice = f"At {magnification:g}X patches of up to {largest} px fit."
    fits = extent <= min(slide.size) * (1 + 1e-6)
    require(fits, f"slide {slide.name}", "a patch is no larger than the slide", received, advice)
    corners = []
    for side in slide.size:
        room = max(side - extent, 0.0)
        if layout == "cover":
            count = math.ceil(side / extent - 1e-6)
            corners.append([int(room * i / max(count - 1, 1)) for i in range(count)])
        else:
            corners.append([math.floor(i * extent) for i in range(math.floor(side / extent + 1e-6))])
    return [(x, y) for y in corners[1] for x in corners[0]]


def tissue_mask(image: np.ndarray) -> np.ndarray:
    """Where an overview shows stained tissue: chroma of at least 15 and 7 % of the brightest channel.

    Glass, pen marks in grey and black padding are none.
    """
    high, low = image.max(axis=2).astype(np.int16), image.min(axis=2).astype(np.int16)
    return (high - low >= 15) & (high - low >= 0.07 * high)


def tissue_share(mask: np.ndarray, slide: Slide, corner: tuple[int, int], extent: float) -> float:
    """Share of a square of level-0 pixels that is tissue on the overview's mask; at least one of its pixels counts."""
    scale = np.array([mask.shape[1] / slide.size[0], mask.shape[0] / slide.size[1]])
    left, top = np.minimum(np.rint(corner * scale).astype(int), np.array(mask.shape[::-1]) - 1)
    right, bottom = np.maximum(np.rint(np.add(corner, extent) * scale).astype(int), (left + 1, top + 1))
    return float(mask[top:bottom, left:right].mean())


def tissue_positions(
    slide: Slide,
    tissue: np.ndarray,
    size: int,
    magnification: float,
    rng: np.random.Generator,
    *,
    at_most: int,
    layout: str = "grid",
) -> list[tuple[int, int, float]]:
    """At most so many places (x, y) with enough tissue and its share, drawn at random, given row by row.

    A large slide is not looked through once they are found. Where no patch has enough tissue, those with the most are
    given.
    """
    places = patch_positions(slide, size, magnification, layout=layout)
    extent = size * slide.downsample(magnification)
    shares: dict[int, float] = {}
    enough: list[int] = []
    for i in rng.permutation(len(places)).tolist():
        if len(enough) == at_most:
            break
        shares[i] = tissue_share(tissue, slide, places[i], extent)
        if shares[i] >= MIN_TISSUE:
            enough.append(i)
    most = max(shares.values())
    chosen = enough or [i for i, share in shares.items() if share == most][:at_most]
    return [(*places[i], shares[i]) for i in sorted(chosen)]


Openers = Mapping[str, Callable[[], Slide]]
Nuclei = Path | Outlines


class PatchImages(Sequence[np.ndarray]):
    """Patches that are read from their slides when they are asked for; safe to index from several threads.

    `openers` opens each slide by name; `table` has ``slide, x, y, magnification``, one row per patch; `nuclei` says what
    each slide's are read from: kept for others, not looked at.
    """

    def __init__(
        self, openers: Openers, table: pd.DataFrame, size: int, *, nuclei: Mapping[str, Nuclei] | None = None
    ) -> None:
        self.openers, self.size, self.nuclei = openers, size, nuclei or {}
        self.table = table[["slide", "x", "y", "magnification"]].reset_index(drop=True)
        self._rows = list(self.table.itertuples(index=False))
        self._slide = lru_cache(OPEN_SLIDES)(lambda name: openers[name]())  # a slide let go closes its file

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        name, x, y, magnification = self._rows[index]
        return self._slide(name).read(int(x), int(y), self.size, magnification=magnification)


class CachedPatches(Sequence[np.ndarray]):
    """Patches in ``.npy`` shards on disk, memory-mapped; `places` has the shard and the row of each patch."""

    def __init__(self, shards: Sequence[Path], places: np.ndarray) -> None:
        self.shards = [np.load(path, mmap_mode="r") for path in shards]
        self.places = places

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        shard, row = self.places[index]
        return np.asarray(self.shards[shard][row])

    def batch(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Several patches at once, of shape (n, size, size, 3), uint8."""
        return np.stack([self[int(i)] for i in indices])


def cache_patches(images: PatchImages, folder: str | os.PathLike[str]) -> CachedPatches:
    """Decode patches once and keep them on disk, one shard per slide, named after all that decides its pixels.

    A shard is written beside its place and renamed when complete: a run that was killed leaves whole shards only, and
    the next one continues. The shards of other patches may lie in the same folder.
    """
    numbers, names = pd.factorize(images.table["slide"])
    slides = enumerate(track(names, label="decoding", unit="slide"))
    shards = [_shard(images, name, np.flatnonzero(numbers == i), Path(folder)) for i, name in slides]
    return CachedPatches(shards, np.stack([numbers, images.table.groupby("slide").cumcount()], axis=1))


def _shard(images: PatchImages, name: str, rows: np.ndarray, folder: Path) -> Path:
    with images.openers[name]() as slide:
        # A corner and the middle tell slides of one name and size apart.
        side = min(64, *slide.size)
        corners = [(0, 0), ((slide.size[0] - side) // 2, (slide.size[1] - side) // 2)]
        pixels = b"".join(slide.read(*c, side, magnification=slide.power).tobytes() for c in corners)
        identity = [name, slide.level_sizes, slide.power, images.size, hashlib.sha256(pixels).hexdigest()]
    where = images.table.iloc[rows][["x", "y", "magnification"]].to_numpy(float).tolist()
    path = folder / f"{hashlib.sha256(json.dumps([identity, where]).encode()).hexdigest()[:16]}.npy"
    shape = (len(rows), images.size, images.size, 3)

    def write(stream: io.BufferedIOBase) -> None:
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(stream, header)
        for row in rows:
            stream.write(images[int(row)].tobytes())

    if not path.exists():
        write_atomic(path, write)
    found = np.load(path, mmap_mode="r").shape
    advice = "Remove it and run again."
    require(found == shape, "cache_patches", f"{path} holds this slide's patches", f"shape {found}", advice)
    return path


@dataclass(frozen=True)
class SlideSource:
    """One slide of a collection and what is known about it; nothing is open.

    `slide` is its name, unique in the collection; `nuclei` are outlines, read or in a file, else the image of a mask
    with the slide's width and height; everything of a `group` (patient or slide) lies in one split; `power` overrides
    what the file states.
    """

    slide: str
    image: Path | np.ndarray
    nuclei: Nuclei
    group: str
    split: str
    power: float | None = None

    def open(self) -> Slide:
        """Open the slide at its own or the given magnification."""
        return open_slide(self.image, power=self.power)


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
        Side by side, or as few as cover the slide, which on small images gives low magnifications
        several patches where a grid gives one.
    max_per_slide : int, optional
        At most so many patches per slide and magnification, drawn at random.
    random_state : int, default=0
        Seed of that draw.
    source : str, default=""
        Citation and licence.

    Returns
    -------
    Dataset
        `images` is a :class:`PatchImages`, which reads a patch when it is asked for. `table` has ``image,
        object_class, area_ratio, sqrt_area_ratio, slide, group, split, x, y, magnification, mpp, mpp_stated,
        n_nuclei, mean_area_px, mean_area_um2, tissue``; x and y are level-0 pixels, areas are in pixels of
        the patch and in µm², ratios are those of the mean nucleus to the patch. `excluded` counts patches
        without tissue (``background``) or nuclei (``no_nuclei``), slides without nuclei, and what the
        outlines left out.

    Raises
    ------
    DataError
        If no patch is left, a slide's name occurs twice, a group lies in two splits, a magnification
        is above a slide's own, or a patch is larger than a slide.
    """
    keeps = "'clear' leaves out nuclei that touch the patch border (the paper's), 'clip' keeps their part."
    require(border in ("clear", "clip"), "border rule", "one of 'clear', 'clip'", repr(border), keeps)
    require(layout in ("grid", "cover"), "slide_patches", "layout is 'grid' or 'cover'", repr(layout))
    check_splits([s.slide for s in sources], [s.group for s in sources], [s.split for s in sources])
    rng, magnifications = np.random.default_rng(random_state), list(magnifications)
    counts: Counter[str] = Counter()
    rows: list[dict[str, object]] = []
    for one in track(sources, label="slides", unit="slide"):
        before = len(rows)
        with one.open() as slide:
            areas, mpp = _nuclei(one, slide, counts, size, border=border, min_area=min_area)
            tissue = tissue_mask(slide.overview())
            for magnification in magnifications:
                factor = slide.downsample(magnification)
                found = []
                for place in patch_positions(slide, size, magnification, layout=layout):
                    share = tissue_share(tissue, slide, place, size * factor)
                    measured = areas(*place, magnification) if share >= min_tissue else None
                    if measured is None or not len(measured):
                        counts["background" if measured is None else "no_nuclei"] += 1
                    else:
                        found.append((*place, len(measured), float(measured.mean()), share))
                if max_per_slide is not None and len(found) > max_per_slide:
                    counts["beyond_max_per_slide"] += len(found) - max_per_slide
                    found = [found[i] for i in np.sort(rng.permutation(len(found))[:max_per_slide])]
                spacing = (mpp or slide.mpp) * factor
                for x, y, number, area, share in found:
                    rows.append(
                        {
                            "image": f"{one.slide}:{magnification:g}X:{x},{y}",
                            "object_class": "nucleus",
                            "area_ratio": area / size**2,
                            "sqrt_area_ratio": math.sqrt(area) / size,
                            **{key: getattr(one, key) for key in ("slide", "group", "split")},
                            "magnification": float(magnification),
                            "mpp": spacing,
                            "mpp_stated": mpp is not None or slide.mpp_stated,
                            "x": x,
                            "y": y,
                            "n_nuclei": number,
                            "mean_area_px": area,
                            "tissue": share,
                            "mean_area_um2": area * spacing**2,
                        }
                    )
        counts["slides_without_nuclei"] += len(rows) == before
    received = f"{len(sources)} slides; left out: {dict(counts)}"
    advice = "Look at the annotations and min_tissue."
    require(rows, "slide_patches", f"no patch of {name} has tissue and nuclei", received, advice)
    table = pd.DataFrame(rows)
    openers, nuclei = {s.slide: s.open for s in sources}, {s.slide: s.nuclei for s in sources}
    images = PatchImages(openers, table, size, nuclei=nuclei)
    return patch_dataset(name, images, table, counts, source)


def patch_dataset(
    name: str, images: PatchImages, table: pd.DataFrame, excluded: Mapping[str, int], source: str = ""
) -> Dataset:
    """A dataset of patches, its digest that of the table to nine digits."""
    digest = hashlib.sha256(table.to_csv(index=False, float_format="%.9g").encode()).hexdigest()
    return Dataset(name, images, table, {k: int(v) for k, v in excluded.items() if v}, source, digest)


Areas = Callable[[int, int, float], np.ndarray]  # of the nuclei in the patch at x, y and a magnification


def _nuclei(
    one: SlideSource, slide: Slide, counts: Counter[str], size: int, **rules: Any
) -> tuple[Areas, float | None]:
    """How the nuclei of a patch are measured, and the annotation's own mpp."""
    nuclei = one.nuclei
    if isinstance(nuclei, Path) and nuclei.suffix.lower() in READERS:
        nuclei = read_outlines(nuclei)
    if isinstance(nuclei, Outlines):
        outlined = nuclei
        counts.update(outlined.excluded)
        low, high = outlined.boxes[:, :2], outlined.boxes[:, 2:]
        counts["outside_slide"] += int(((low >= slide.size) | (high <= 0)).any(axis=1).sum())

        def inside(x: int, y: int, magnification: float) -> np.ndarray:
            return areas_in_patch(outlined, x, y, size, factor=slide.downsample(magnification), **rules)

        return inside, outlined.mpp
    mask = open_slide(nuclei, power=slide.power, mpp=slide.mpp)
    sizes = " for ".join(f"{width}×{height}" for width, height in (mask.size, slide.size))
    require(mask.size == slide.size, f"slide {one.slide}", "a mask has its slide's width and height", sizes)
    return lambda x, y, m: areas_in_mask(mask.read(x, y, size, magnification=m)[..., 0], **rules), None
