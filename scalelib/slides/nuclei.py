"""Nuclei as annotations give them: outlines from Aperio XML and GeoJSON, and masks. Knows vertices and pixels, no slide."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from defusedxml import ElementTree
from skimage import filters, measure, morphology, segmentation

from scalelib.errors import refusing, require
from scalelib.results import read_bytes

# A self-crossing outline is kept while its crossing changes the area by at most this share.
MOST_CHANGE = 0.05
# Smallest component that counts as a nucleus, in pixels of the patch (the paper's).
MIN_AREA = 3.0
# Coordinates of an outline lie below it; what is larger, or infinite, is no pixel.
FARTHEST = 1e12


@dataclass(frozen=True)
class Outlines:
    """Polygons of one slide, and what was left out on the way, by reason.

    `polygons` holds vertices (x, y) in level-0 pixels, the first not repeated; `mpp` is what the file states.
    """

    polygons: list[np.ndarray]
    mpp: float | None = None
    excluded: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.polygons)

    @cached_property
    def areas(self) -> np.ndarray:
        """Area of each polygon in square level-0 pixels."""
        return np.array([polygon_area(vertices) for vertices in self.polygons], np.float64)

    @cached_property
    def boxes(self) -> np.ndarray:
        """``x_min, y_min, x_max, y_max`` of each polygon."""
        ends = [(*vertices.min(axis=0), *vertices.max(axis=0)) for vertices in self.polygons]
        return np.array(ends, np.float64).reshape(-1, 4)

    def against_box(self, corner: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which polygons lie wholly inside a box without touching its border, and which reach into it at all."""
        low, high = self.boxes[:, :2], self.boxes[:, 2:]
        whole = np.asarray(((low > corner) & (high < end)).all(axis=1))
        return whole, np.asarray(((low < end) & (high > corner)).all(axis=1))


def outlines(
    polygons: Iterable[Any], *, mpp: float | None = None, excluded: Mapping[str, int] | None = None
) -> Outlines:
    """Polygons of vertices (x, y), open or closed; those without an inside, or with an unclear one, are counted."""
    require(mpp is None or 0 < mpp < np.inf, "outlines", "microns per pixel are positive", mpp)
    counts = Counter(excluded or {})
    kept = []
    for given in polygons:
        vertices = np.asarray(given, np.float64) if len(given) else np.empty((0, 2))
        largest = np.abs(vertices).max(initial=0.0)
        rule = "a polygon is a finite array of shape (n_vertices, 2), in pixels"
        received = f"shape {vertices.shape}, largest coordinate {largest:g}"
        require(vertices.shape[1:] == (2,) and largest < FARTHEST, "outlines", rule, received)
        vertices = vertices[(vertices != np.roll(vertices, 1, axis=0)).any(axis=1)]
        area = polygon_area(vertices)
        if area == 0:
            counts["degenerate"] += 1
        elif not shapely.LinearRing(vertices).is_simple and _change_by_crossing(vertices) > MOST_CHANGE:
            counts["self_crossing"] += 1
        else:
            kept.append(vertices)
    return Outlines(kept, mpp, dict(counts))


def polygon_area(vertices: np.ndarray) -> float:
    """Area by the shoelace formula, in doubles; shapely's differs in the last digits, and with them a dataset's digest."""
    if len(vertices) < 3:
        return 0.0
    x, y = (vertices - vertices[0]).T  # near the origin: fewer digits are lost
    return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2)


def clip_to_box(vertices: np.ndarray, box: Sequence[float]) -> np.ndarray:
    """Cut a polygon to a box ``x_min, y_min, x_max, y_max``, one side at a time (Sutherland & Hodgman 1974).

    The area is exact where pieces fall apart, the edges that join them enclose nothing, and, unlike that of shapely's
    intersection, for outlines that cross themselves a little, as many drawn by hand do.
    """
    for axis, bound, sign in ((0, box[0], 1), (1, box[1], 1), (0, box[2], -1), (1, box[3], -1)):
        height = sign * (vertices[:, axis] - bound)  # ≥ 0 inside
        crosses = (height >= 0) != (np.roll(height, -1) >= 0)
        share = np.divide(height, height - np.roll(height, -1), out=np.zeros_like(height), where=crosses)
        meeting = vertices + share[:, None] * (np.roll(vertices, -1, axis=0) - vertices)
        vertices = np.stack([vertices, meeting], axis=1)[np.stack([height >= 0, crosses], axis=1)]
    return vertices


def areas_in_patch(
    nuclei: Outlines,
    x: float,
    y: float,
    size: int,
    *,
    factor: float,
    border: str = "clear",
    min_area: float = MIN_AREA,
) -> np.ndarray:
    """Exact areas of the outlined nuclei in a patch, in its pixels; `factor` is level-0 pixels per pixel of the patch.

    ``"clear"``: only nuclei that lie wholly inside and do not touch the border; ``"clip"``: the part inside of those
    that the border cuts counts too.
    """
    corner, end = np.array([x, y]), np.array([x, y]) + size * factor
    whole, reaching = nuclei.against_box(corner, end)
    areas = nuclei.areas[whole]
    if border == "clip":
        cut = [clip_to_box(nuclei.polygons[i], (*corner, *end)) for i in np.flatnonzero(reaching & ~whole)]
        areas = np.append(areas, [polygon_area(vertices) for vertices in cut])
    areas = areas / factor**2
    return np.asarray(areas[areas >= min_area])


def covered(vertices: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Which points of a grid of ascending `x` and any `y` lie inside a polygon by the non-zero rule: shape (rows, columns)."""
    start, end = vertices, np.roll(vertices, -1, axis=0)
    edges, rows = np.nonzero((start[:, 1:] <= y) != (end[:, 1:] <= y))
    (ax, ay), (bx, by) = start[edges].T, end[edges].T
    meets = ax + (y[rows] - ay) / (by - ay) * (bx - ax)
    winding = np.zeros((len(y), len(x) + 1), np.int32)
    np.add.at(winding, (rows, np.searchsorted(x, meets)), np.where(by > ay, 1, -1))
    return winding.cumsum(axis=1)[:, : len(x)] != 0


def _change_by_crossing(vertices: np.ndarray) -> float:
    """Share by which the area differs from that inside, on 200 × 200 points: noding hostile crossings would take hours."""
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    step = (high - low) / 200
    x, y = (low[:, None] + step[:, None] * (np.arange(200) + 0.5)).reshape(2, 200)
    return float(abs(covered(vertices, x, y).sum() * step.prod() / polygon_area(vertices) - 1))


def read_outlines(path: str | os.PathLike[str]) -> Outlines:
    """Polygons of Aperio XML or of GeoJSON as QuPath writes it: the outer ring, of a cell's nucleus where it has one."""
    path = Path(path)
    advice = "It must be well-formed Aperio XML (.xml) or GeoJSON (.json, .geojson) with finite coordinates"
    with refusing("read_outlines", f"cannot read {path.name}", path, advice):
        return READERS[path.suffix.lower()](read_bytes(path, most=2**28))


def _from_aperio(content: bytes) -> Outlines:
    root = ElementTree.fromstring(content)
    require(root.tag == "Annotations", "Aperio ImageScope", "writes <Annotations>", f"<{root.tag}>")
    stated = root.get("MicronsPerPixel")
    counts: Counter[str] = Counter()
    polygons = []
    for region in root.iter("Region"):
        if region.get("NegativeROA") == "1":
            counts["negative_region"] += 1
        elif region.get("Type", "0") not in {"0", "1"}:  # 0 freehand, 1 rectangle; ellipses, rulers: 2 to 5
            counts["not_an_outline"] += 1
        else:
            polygons.append([(float(v.get("X")), float(v.get("Y"))) for v in region.iter("Vertex")])
    return outlines(polygons, mpp=float(stated) if stated else None, excluded=counts)


def _from_geojson(content: bytes) -> Outlines:
    found = json.loads(content)
    if isinstance(found, dict):
        found = found["features"] if found.get("type") == "FeatureCollection" else [found]
    counts: Counter[str] = Counter()
    polygons: list[Any] = []
    for item in found:
        geometry = item.get("nucleusGeometry") or item.get("geometry") or item
        if geometry["type"] in {"Polygon", "MultiPolygon"}:
            parts = geometry["coordinates"]
            polygons += [rings[0] for rings in (parts if geometry["type"] == "MultiPolygon" else [parts])]
        else:
            counts["not_an_outline"] += 1
    return outlines(polygons, excluded=counts)


READERS = {".xml": _from_aperio, ".json": _from_geojson, ".geojson": _from_geojson}


def foreground(mask: np.ndarray) -> np.ndarray:
    """Nuclei of a mask (uint8 or bool): what is brighter than Otsu's threshold, or all of one value that is not 0."""
    grey = mask.astype(np.uint8)
    return np.asarray(grey > filters.threshold_otsu(grey) if np.ptp(grey) else grey > 0)


def areas_in_mask(mask: np.ndarray, *, border: str = "clear", min_area: float = MIN_AREA) -> np.ndarray:
    """Areas in pixels of the nuclei in a mask, by the protocol of Graziani et al. 2021 and their notebooks.

    Otsu's threshold, closing with a 2×2 square, clearing of the border (or not, with ``border="clip"``), 8-connected
    components of at least 3 px. Nuclei that touch count as one, as in any mask without instance labels.
    """
    nuclei = morphology.closing(foreground(mask), np.ones((2, 2)))
    if border == "clear":
        nuclei = segmentation.clear_border(nuclei)
    areas = np.array([region.area for region in measure.regionprops(measure.label(nuclei))], np.float64)
    return areas[areas >= min_area]
