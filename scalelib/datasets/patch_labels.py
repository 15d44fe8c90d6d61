"""What a patch shows: its place on the slide, the tissue in it, and the areas of its nuclei.

Knows slides and outlines; reads no patch.
"""

from __future__ import annotations

import math

import numpy as np

from scalelib.datasets.annotations import Outlines
from scalelib.datasets.polygons import clip_to_box, polygon_area
from scalelib.datasets.slides import Slide
from scalelib.errors import DataError


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
    >>> from scalelib.datasets.slides import open_slide
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
    >>> from scalelib.datasets.annotations import outlines
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
    >>> from scalelib.datasets.slides import open_slide
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
