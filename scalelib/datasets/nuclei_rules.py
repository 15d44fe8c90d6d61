"""Mean nucleus area of a patch by several rules: which nuclei count, and how an area is measured.

Knows outlines in a patch; knows no networks and reads no pixels of tissue.
"""

from __future__ import annotations

import math
from contextlib import closing

import numpy as np
import pandas as pd

from scalelib.datasets.annotations import Outlines
from scalelib.datasets.nuclei_masks import MIN_AREA, areas_in_mask
from scalelib.datasets.patch_images import PatchImages
from scalelib.datasets.patch_labels import areas_in_patch
from scalelib.datasets.patch_nuclei import slide_nuclei
from scalelib.datasets.polygons import covered
from scalelib.datasets.resample import area_mean
from scalelib.errors import DataError

RULES = {
    "clear": "nuclei wholly inside (the paper's rule)",
    "clip": "also the parts of cut nuclei",
    "centre": "nuclei whose centre is inside, with their whole area",
    "mask": "nuclei wholly inside, in a mask (the paper's way)",
    "pixels": "nuclei wholly inside, pixels of each counted",
}
"""What each rule counts. ``centre`` prefers neither small nor large nuclei; the others are compared with it."""

_SAMPLES = 8


def areas_by_rule(
    nuclei: Outlines, x: float, y: float, size: int, *, factor: float, min_area: float = MIN_AREA
) -> dict[str, np.ndarray]:
    """Areas of the nuclei of one patch by each rule.

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
        Smaller nuclei are left out, in pixels of the patch; not by ``centre``.

    Returns
    -------
    dict of str to ndarray of shape (n_nuclei,), float64
        Keys of `RULES`; areas in pixels of the patch. ``mask``: all nuclei are drawn into one mask at level 0,
        which is area-resampled and measured as in section 3.2 of the paper, so that nuclei that touch count as
        one. ``pixels``: each nucleus by itself, the pixels of which it covers at least half.

    Examples
    --------
    >>> from scalelib.datasets.annotations import outlines
    >>> touching = outlines([[(2, 2), (6, 2), (6, 6), (2, 6)], [(6, 2), (10, 2), (10, 6), (6, 6)]])
    >>> found = areas_by_rule(touching, 0, 0, 12, factor=1.0)
    >>> found["clear"].tolist(), found["pixels"].tolist(), found["mask"].tolist()
    ([16.0, 16.0], [16.0, 16.0], [32.0])
    """
    corner, end = np.array([x, y]), np.array([x, y]) + size * factor
    middle = (nuclei.boxes[:, :2] + nuclei.boxes[:, 2:]) / 2
    centred = ((middle >= corner) & (middle < end)).all(axis=1)
    whole = np.flatnonzero(nuclei.against_box(corner, end)[0])
    counted = np.array([_pixels((nuclei.polygons[i] - corner) / factor) for i in whole], np.float64)
    return {
        **{
            border: areas_in_patch(nuclei, x, y, size, factor=factor, border=border, min_area=min_area)
            for border in ("clear", "clip")
        },
        "centre": nuclei.areas[centred] / factor**2,
        "mask": areas_in_mask(_mask(nuclei, corner, end, size), min_area=min_area),
        "pixels": counted[counted >= min_area],
    }


def _pixels(vertices: np.ndarray) -> int:
    """Pixels of which a polygon covers at least half, from 8 × 8 sample points in each."""
    first, last = np.floor(vertices.min(axis=0)), np.ceil(vertices.max(axis=0))
    width, height = (last - first).astype(int)
    x, y = (
        start + (np.arange(count * _SAMPLES) + 0.5) / _SAMPLES
        for start, count in zip(first, (width, height), strict=True)
    )
    inside = covered(vertices, x, y).reshape(height, _SAMPLES, width, _SAMPLES)
    return int((inside.mean(axis=(1, 3)) >= 0.5).sum())


def _mask(nuclei: Outlines, corner: np.ndarray, end: np.ndarray, size: int) -> np.ndarray:
    """The mask of a region at level 0, area-resampled to a patch: shape (size, size), uint8."""
    first, last = np.floor(corner).astype(int), np.ceil(end - 1e-6).astype(int)
    mask = np.zeros((last[1] - first[1], last[0] - first[0]), bool)
    low, high = nuclei.boxes[:, :2], nuclei.boxes[:, 2:]
    for i in np.flatnonzero(nuclei.against_box(first, last)[1]):
        left, top = np.maximum(np.floor(low[i]).astype(int), first)
        right, bottom = np.minimum(np.ceil(high[i]).astype(int), last)
        inside = covered(nuclei.polygons[i], np.arange(left, right) + 0.5, np.arange(top, bottom) + 0.5)
        mask[top - first[1] : bottom - first[1], left - first[0] : right - first[0]] |= inside
    grey = np.repeat(mask[..., None].astype(np.uint8) * 255, 3, axis=2)
    box = (*(corner - first), *(end - first))
    stop = [min(float(b), float(n)) for b, n in zip(box[2:], mask.shape[::-1], strict=True)]
    return area_mean(grey, (size, size), box=(float(box[0]), float(box[1]), stop[0], stop[1]))[..., 0]


def measure_by_rule(
    images: PatchImages, table: pd.DataFrame, *, per_slide: int = 3, random_state: int = 0
) -> pd.DataFrame:
    """Measure some patches of a dataset by every rule.

    Parameters
    ----------
    images : PatchImages
        Of a histology dataset.
    table : pandas.DataFrame
        Its table, in the order of `images`.
    per_slide : int, default=3
        Patches per slide and magnification, drawn at random; all where there are fewer.
    random_state : int, default=0

    Returns
    -------
    pandas.DataFrame
        One row per patch and rule: ``image, slide, split, magnification, rule, n_nuclei, mean_area_px,
        mean_area_um2``; the means are NaN where no nucleus counts.

    Raises
    ------
    DataError
        If the dataset does not know where its nuclei came from.
    """
    if missing := sorted(set(table["slide"]) - set(images.nuclei)):
        raise DataError(f"measure_by_rule: nuclei of every slide are needed.\nReceived: none of {missing}.")
    rng = np.random.default_rng(random_state)
    rows = []
    for name, patches in table.groupby("slide", sort=True):
        nuclei = slide_nuclei(images.nuclei[name])
        with closing(images.openers[name]()) as slide:
            factors = {m: slide.downsample(m) for m in patches["magnification"].unique()}
        for _, group in patches.groupby("magnification", sort=True):
            drawn = rng.permutation(len(group))[:per_slide]
            for row in group.iloc[np.sort(drawn)].itertuples():
                found = areas_by_rule(nuclei, row.x, row.y, images.size, factor=factors[row.magnification])
                for rule, areas in found.items():
                    mean = float(areas.mean()) if len(areas) else math.nan
                    rows.append(
                        {
                            "image": row.image,
                            "slide": name,
                            "split": row.split,
                            "magnification": row.magnification,
                            "rule": rule,
                            "n_nuclei": len(areas),
                            "mean_area_px": mean,
                            "mean_area_um2": mean * row.mpp**2,
                        }
                    )
    return pd.DataFrame(rows)
