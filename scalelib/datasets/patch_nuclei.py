"""The nuclei of a patch as outlines, to be drawn over it and measured anew.

Knows slides, outlines and masks; reads a slide only for the patches that it is asked to show.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from contourpy import contour_generator

from scalelib.datasets.annotations import Outlines, outlines, read_outlines
from scalelib.datasets.nuclei_masks import MIN_AREA, otsu_threshold
from scalelib.datasets.patch_images import PatchImages
from scalelib.datasets.slide_files import from_file
from scalelib.datasets.slides import Slide
from scalelib.errors import DataError

COUNTED, CUT, SMALL = "counted", "cut by the border", "too small"
"""States of a nucleus in a patch by the paper's rule."""


@dataclass(frozen=True)
class Region:
    """A patch with the nuclei that it shows.

    Parameters
    ----------
    image : ndarray of shape (size, size, 3), uint8
    magnification : float
    mpp : float
        Micrometres per pixel of the patch.
    nuclei : list of ndarray, each of shape (n_vertices, 2)
        In pixels of the patch, 0 at its upper left corner; they may reach beyond it.
    states : list of str
        One of ``"counted"``, ``"cut by the border"`` and ``"too small"`` for each nucleus.
    centred : bool
        Whether the patch lies about the centre that the whole series shares.
    """

    image: np.ndarray
    magnification: float
    mpp: float
    nuclei: list[np.ndarray]
    states: list[str]
    centred: bool = True


def slide_nuclei(nuclei: Path | Outlines) -> Outlines:
    """The nuclei of a whole slide as outlines, whatever they are stored as.

    Parameters
    ----------
    nuclei : path or Outlines
        Outlines, a file of outlines, or an image of a mask, whose components are traced.

    Returns
    -------
    Outlines
        In level-0 pixels. Traced outlines run half-way between pixels inside and outside, so their area is
        slightly below the number of pixels; components under 3 px are left out.

    Examples
    --------
    >>> import tempfile
    >>> from PIL import Image
    >>> mask = np.zeros((20, 20), np.uint8)
    >>> mask[4:14, 5:15] = 255
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.fromarray(mask).save(Path(folder) / "mask.png")
    ...     slide_nuclei(Path(folder) / "mask.png").boxes.tolist()
    [[5.0, 4.0, 15.0, 14.0]]
    """
    if isinstance(nuclei, Outlines):
        return nuclei
    if nuclei.suffix.lower() in {".xml", ".json", ".geojson"}:
        return read_outlines(nuclei)
    file = from_file(nuclei)
    try:
        grey = file.read(0, 0, 0, *file.level_sizes[0])[..., 0]
    finally:
        file.close()
    inside = np.pad(grey > otsu_threshold(grey), 1) if grey.any() else np.zeros((3, 3), bool)
    lines = contour_generator(z=inside.astype(float)).lines(0.5)
    found = outlines([np.asarray(line)[:-1] - 0.5 for line in lines if len(line) > 3])
    kept = np.flatnonzero(found.areas >= MIN_AREA)
    return Outlines([found.polygons[i] for i in kept], found.areas[kept], found.boxes[kept])


def nuclei_in_patch(
    nuclei: Outlines, x: float, y: float, size: int, *, factor: float, min_area: float = MIN_AREA
) -> tuple[list[np.ndarray], list[str]]:
    """Outlines that a patch shows, in its pixels, and what the paper's rule makes of each.

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
    min_area : float, default=3
        Smaller nuclei do not count, in pixels of the patch.

    Returns
    -------
    polygons : list of ndarray, each of shape (n_vertices, 2)
    states : list of str
        Those ``"counted"`` are the ones whose areas
        :func:`~scalelib.datasets.patch_labels.areas_in_patch` gives with the rule ``"clear"``.

    Examples
    --------
    >>> two = outlines([[(2, 2), (6, 2), (6, 6), (2, 6)], [(12, 2), (20, 2), (20, 6), (12, 6)]])
    >>> nuclei_in_patch(two, 0, 0, 8, factor=2.0)[1]
    ['counted', 'cut by the border']
    """
    corner, end = np.array([x, y]), np.array([x, y]) + size * factor
    whole, reaching = nuclei.against_box(corner, end)
    large = nuclei.areas / factor**2 >= min_area
    seen = np.flatnonzero(reaching)
    states = [CUT if not whole[i] else COUNTED if large[i] else SMALL for i in seen]
    return [(nuclei.polygons[i] - corner) / factor for i in seen], states


def zoom_series(images: PatchImages, table: pd.DataFrame) -> list[Region]:
    """One place of one slide at every magnification of a dataset.

    Parameters
    ----------
    images : PatchImages
        Of a histology dataset.
    table : pandas.DataFrame
        Its table.

    Returns
    -------
    list of Region
        By ascending magnification, all about one centre: that of the training patch of the highest magnification
        with most nuclei, among those about which the largest field fits on the slide. Where it fits about none,
        the larger fields are moved inwards and are not `centred`.

    Raises
    ------
    DataError
        If the dataset has no training patches, or does not know where its nuclei came from.
    """
    train = table[table["split"] == "train"]
    if train.empty or not images.nuclei:
        raise DataError(
            "zoom_series: needs training patches and their nuclei.\n"
            f"Received: {len(train)} training patches, nuclei of {len(images.nuclei)} slides."
        )
    magnifications = sorted(table["magnification"].unique())
    close = train[train["magnification"] == magnifications[-1]].sort_values(
        ["n_nuclei", "image"], ascending=[False, True], kind="stable"
    )
    name, centre = _place(images, close, magnifications)
    with images.openers[name]() as slide:
        nuclei = slide_nuclei(images.nuclei[name])
        mpp = table[table["slide"] == name].groupby("magnification")["mpp"].first()
        return [_region(slide, nuclei, centre, images.size, m, mpp.loc[m]) for m in magnifications]


def _place(
    images: PatchImages, close: pd.DataFrame, magnifications: list[float]
) -> tuple[str, tuple[float, float]]:
    """Slide and centre of the first patch about which the largest field fits, else of the first patch."""
    geometry = {}
    for name in close["slide"].unique():
        with images.openers[name]() as slide:
            halves = [images.size * slide.downsample(m) / 2 for m in magnifications]
            geometry[name] = (slide.size, halves[0], halves[-1])
    places = []
    for row in close.itertuples():
        size, largest, smallest = geometry[row.slide]
        centre = (row.x + smallest, row.y + smallest)
        if all(largest <= c <= side - largest for c, side in zip(centre, size, strict=True)):
            return str(row.slide), centre
        places.append((str(row.slide), centre))
    return places[0]


def _region(
    slide: Slide, nuclei: Outlines, centre: tuple[float, float], size: int, magnification: float, mpp: float
) -> Region:
    factor = slide.downsample(magnification)
    wanted = [round(c - size * factor / 2) for c in centre]
    room = [int(side - size * factor) for side in slide.size]
    x, y = (min(max(w, 0), r) for w, r in zip(wanted, room, strict=True))
    polygons, states = nuclei_in_patch(nuclei, x, y, size, factor=factor)
    centred = max(abs(x - wanted[0]), abs(y - wanted[1])) <= 1
    pixels = slide.read(x, y, size, magnification=magnification)
    return Region(pixels, float(magnification), float(mpp), polygons, states, centred)
