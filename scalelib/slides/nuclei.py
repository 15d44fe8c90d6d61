"""Plane geometry of polygons: exact areas, exact clipping, self-crossing. Knows vertices only. Outlines of nuclei: polygons from Aperio XML and GeoJSON, and their exact areas. Areas of nuclei in a mask, by the paper's label protocol. Knows one mask at a time."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError

import numpy as np
from defusedxml import ElementTree
from scipy import ndimage

from scalelib.errors import DataError


def polygon_area(vertices: np.ndarray) -> float:
    """Area of a polygon by the shoelace formula, whatever its direction.

    Parameters
    ----------
    vertices : ndarray of shape (n_vertices, 2)

    Returns
    -------
    float
        In squared units of the vertices; 0 for fewer than three vertices.

    Examples
    --------
    >>> polygon_area(np.array([[0, 0], [0, 3], [4, 0]]))
    6.0
    """
    if len(vertices) < 3:
        return 0.0
    x, y = (np.asarray(vertices, np.float64) - vertices[0]).T  # near the origin: fewer digits are lost
    return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2)


def clip_to_box(vertices: np.ndarray, box: tuple[float, float, float, float]) -> np.ndarray:
    """Cut a polygon to an axis-parallel box.

    Parameters
    ----------
    vertices : ndarray of shape (n_vertices, 2)
    box : tuple of float
        ``x_min, y_min, x_max, y_max``.

    Returns
    -------
    ndarray of shape (m_vertices, 2)
        Possibly empty. Its :func:`polygon_area` is exact also where the cut falls into several
        pieces: the edges that join these run along the box and enclose nothing.

    Notes
    -----
    Sutherland & Hodgman 1974, "Reentrant polygon clipping", one side of the box at a time.

    Examples
    --------
    >>> square = np.array([[0.0, 0], [4, 0], [4, 4], [0, 4]])
    >>> polygon_area(clip_to_box(square, (3, 1, 9, 9)))
    3.0
    """
    for axis, bound, sign in ((0, box[0], 1), (1, box[1], 1), (0, box[2], -1), (1, box[3], -1)):
        if len(vertices) == 0:
            break
        height = sign * (vertices[:, axis] - bound)  # ≥ 0 inside
        following, next_height = np.roll(vertices, -1, axis=0), np.roll(height, -1)
        crosses = (height >= 0) != (next_height >= 0)
        share = np.divide(height, height - next_height, out=np.zeros_like(height), where=crosses)
        meeting = vertices + share[:, None] * (following - vertices)
        both = np.stack([vertices, meeting], axis=1)
        vertices = both[np.stack([height >= 0, crosses], axis=1)]
    return vertices


def crosses_itself(vertices: np.ndarray) -> bool:
    """Whether two edges of a polygon properly cross.

    Parameters
    ----------
    vertices : ndarray of shape (n_vertices, 2)

    Returns
    -------
    bool

    Examples
    --------
    >>> crosses_itself(np.array([[0, 0], [2, 2], [2, 0], [0, 2]]))
    True
    """
    start, end = vertices, np.roll(vertices, -1, axis=0)
    low, high = np.minimum(start, end), np.maximum(start, end)
    near = (low[:, None] <= high[None]).all(axis=-1)
    i, j = np.nonzero(np.triu(near & near.T, k=2))
    side = _turn(start[i], end[i], start[j]) * _turn(start[i], end[i], end[j])
    other = _turn(start[j], end[j], start[i]) * _turn(start[j], end[j], end[i])
    return bool(((side < 0) & (other < 0)).any())


def _turn(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    return np.sign((b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0]))


def covered(vertices: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Which points of a grid lie inside a polygon, by the non-zero rule.

    Parameters
    ----------
    vertices : ndarray of shape (n_vertices, 2)
    x : ndarray of shape (columns,)
        Ascending.
    y : ndarray of shape (rows,)

    Returns
    -------
    ndarray of shape (rows, columns), bool

    Examples
    --------
    >>> covered(np.array([[0, 0], [4, 0], [0, 4]]), np.array([0.5, 3.0]), np.array([0.5, 3.0])).tolist()
    [[True, True], [True, False]]
    """
    start, end = vertices, np.roll(vertices, -1, axis=0)
    edges, rows = np.nonzero((start[:, 1:] <= y) != (end[:, 1:] <= y))
    (ax, ay), (bx, by) = start[edges].T, end[edges].T
    meets = ax + (y[rows] - ay) / (by - ay) * (bx - ax)
    winding = np.zeros((len(y), len(x) + 1), np.int32)
    np.add.at(winding, (rows, np.searchsorted(x, meets)), np.where(by > ay, 1, -1))
    return winding.cumsum(axis=1)[:, : len(x)] != 0


def filled_area(vertices: np.ndarray) -> float:
    """Area inside a polygon by the non-zero rule, whatever its crossings.

    Parameters
    ----------
    vertices : ndarray of shape (n_vertices, 2)

    Returns
    -------
    float
        Counted on 200 × 200 sample points of the bounding box: within about 1 %.

    Examples
    --------
    >>> bow_tie = np.array([[0.0, 0], [2, 2], [2, 0], [0, 2]])
    >>> round(filled_area(bow_tie), 1), polygon_area(bow_tie)
    (2.0, 0.0)
    """
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    step = (high - low) / 200
    x, y = (low[:, None] + step[:, None] * (np.arange(200) + 0.5)).reshape(2, 200)
    return float(covered(vertices, x, y).sum() * step.prod())


CROSSING_TOLERANCE = 0.05
"""A self-crossing outline is kept while its crossing changes the area by at most this share."""


@dataclass(frozen=True)
class Outlines:
    """Polygons of one slide, and what was left out on the way.

    Parameters
    ----------
    polygons : list of ndarray, each of shape (n_vertices, 2)
        ``float64`` vertices (x, y) in level-0 pixels, not closed (the first is not repeated).
    areas : ndarray of shape (n_polygons,)
        Area of each polygon in square level-0 pixels.
    boxes : ndarray of shape (n_polygons, 4)
        ``x_min, y_min, x_max, y_max`` of each polygon.
    mpp : float or None
        Micrometres per pixel, where the annotation file states them.
    excluded : dict of str to int
        Regions left out, by reason: ``degenerate`` (fewer than three different vertices, or no
        area), ``self_crossing``, ``negative_region`` (Aperio's holes), ``not_an_outline`` (points,
        rulers and other shapes without an inside).
    """

    polygons: list[np.ndarray]
    areas: np.ndarray
    boxes: np.ndarray
    mpp: float | None = None
    excluded: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.polygons)

    def against_box(self, corner: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which polygons lie wholly inside a box without touching its border, and which reach into it at all.

        Parameters
        ----------
        corner, end : ndarray of shape (2,)
            Upper left and lower right corner (x, y), level-0 pixels.

        Returns
        -------
        whole, reaching : ndarray of bool, each of shape (n_polygons,)
            By their boxes.

        Examples
        --------
        >>> three = outlines([[(1, 1), (2, 1), (2, 2)], [(0, 0), (2, 0), (2, 2)], [(8, 8), (9, 8), (9, 9)]])
        >>> [found.tolist() for found in three.against_box(np.zeros(2), np.full(2, 4))]
        [[True, False, False], [True, True, False]]
        """
        low, high = self.boxes[:, :2], self.boxes[:, 2:]
        whole = np.asarray(((low > corner) & (high < end)).all(axis=1))
        return whole, np.asarray(((low < end) & (high > corner)).all(axis=1))


def read_outlines(path: str | os.PathLike[str]) -> Outlines:
    """Read the polygons of an Aperio XML or a GeoJSON file (QuPath's export).

    Parameters
    ----------
    path : path-like
        ``.xml`` as Aperio ImageScope writes it (``Region``/``Vertex``), or ``.json``/``.geojson`` with
        a FeatureCollection, a list of features, one feature or one geometry. Polygons with holes
        count with their outer ring; the nucleus geometry of a QuPath cell (``nucleusGeometry``) is
        taken where there is one.

    Returns
    -------
    Outlines

    Raises
    ------
    DataError
        If the file is missing, malformed, or of neither kind.

    Examples
    --------
    >>> import tempfile
    >>> ring = [[0, 0], [4, 0], [4, 3], [0, 3], [0, 0]]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "one.geojson"
    ...     _ = file.write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}))
    ...     read_outlines(file).areas.tolist()
    [12.0]
    """
    path = Path(path)
    try:
        content = path.read_bytes()
        if path.suffix.lower() == ".xml":
            return _from_aperio(content)
        if path.suffix.lower() in {".json", ".geojson"}:
            return _from_geojson(json.loads(content))
    except (
        OSError,
        ParseError,
        json.JSONDecodeError,
        UnicodeDecodeError,
        KeyError,
        TypeError,
        AttributeError,
    ) as error:
        raise DataError(
            f"read_outlines: cannot read {path.name}.\n"
            f"Received: {path} ({type(error).__name__}: {error}).\n"
            "It must be well-formed Aperio XML or GeoJSON."
        ) from error
    except ValueError as error:
        raise DataError(
            f"read_outlines: a coordinate of {path.name} is not a number.\nReceived: {error}."
        ) from error
    raise DataError(
        f"read_outlines: {path.name} is of no known kind.\nReceived: suffix {path.suffix!r}.\n"
        "Known are .xml (Aperio), .json and .geojson."
    )


def outlines(
    polygons: Iterable[Any], *, mpp: float | None = None, excluded: dict[str, int] | None = None
) -> Outlines:
    """Check polygons and measure them.

    Parameters
    ----------
    polygons : iterable of array-like, each of shape (n_vertices, 2)
        Vertices (x, y), open or closed, in either direction. A closed one loses its repeated last
        vertex; an open one is closed by its last edge, as Aperio and GeoJSON readers do.
    mpp : float, optional
        Micrometres per pixel.
    excluded : dict of str to int, optional
        Counts to add to.

    Returns
    -------
    Outlines
        Polygons with fewer than three different vertices, without area, or whose self-crossing
        changes the area by more than `CROSSING_TOLERANCE` are left out and counted.

    Raises
    ------
    DataError
        If a polygon is not of shape (n, 2) or not finite.

    Examples
    --------
    >>> kept = outlines([[(0, 0), (2, 0), (2, 2), (0, 2)], [(0, 0), (1, 1)]])
    >>> kept.areas.tolist(), kept.excluded
    ([4.0], {'degenerate': 1})
    """
    counts = Counter(excluded or {})
    kept, areas = [], []
    for given in polygons:
        vertices = np.asarray(given, dtype=np.float64) if len(given) else np.empty((0, 2))
        if vertices.shape[1:] != (2,) or not np.isfinite(vertices).all():
            raise DataError(
                "outlines: a polygon is a finite array of shape (n_vertices, 2).\n"
                f"Received: shape {np.shape(given)}, finite={bool(np.isfinite(vertices).all())}."
            )
        vertices = _without_repeats(vertices)
        area = polygon_area(vertices)
        if len(vertices) < 3 or area == 0.0:
            counts["degenerate"] += 1
        elif crosses_itself(vertices) and abs(filled_area(vertices) / area - 1) > CROSSING_TOLERANCE:
            counts["self_crossing"] += 1
        else:
            kept.append(vertices)
            areas.append(area)
    boxes = [np.concatenate([v.min(axis=0), v.max(axis=0)]) for v in kept]
    return Outlines(
        kept, np.asarray(areas, np.float64), np.asarray(boxes, np.float64).reshape(-1, 4), mpp, dict(counts)
    )


def _from_aperio(content: bytes) -> Outlines:
    root = ElementTree.fromstring(content)
    if root.tag != "Annotations":
        raise DataError(
            f"read_outlines: not an Aperio annotation file.\nReceived: root element {root.tag!r}.\n"
            "Aperio ImageScope writes <Annotations>."
        )
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


def _from_geojson(content: Any) -> Outlines:
    if isinstance(content, dict) and content.get("type") == "FeatureCollection":
        content = content["features"]
    counts: Counter[str] = Counter()
    polygons: list[Any] = []
    for item in content if isinstance(content, list) else [content]:
        geometry = item.get("nucleusGeometry") or item.get("geometry") or item
        if geometry["type"] == "Polygon":
            polygons.append(geometry["coordinates"][0] if geometry["coordinates"] else [])
        elif geometry["type"] == "MultiPolygon":
            polygons.extend(part[0] for part in geometry["coordinates"])
        else:
            counts["not_an_outline"] += 1
    return outlines(polygons, excluded=counts)


def _without_repeats(vertices: np.ndarray) -> np.ndarray:
    """Drop vertices that repeat their predecessor, and a last one that repeats the first."""
    if len(vertices) < 2:
        return vertices.reshape(-1, 2)
    return vertices[(vertices != np.roll(vertices, 1, axis=0)).any(axis=1)]


BORDER_RULES = ("clear", "clip")
"""``clear`` (the paper's): nuclei that touch the patch border are left out; ``clip``: they count with
the part inside."""

MIN_AREA = 3.0
"""Smallest component that counts as a nucleus, in pixels of the patch (the paper's)."""

_EIGHT = np.ones((3, 3), bool)


def areas_in_mask(mask: np.ndarray, *, border: str = "clear", min_area: float = MIN_AREA) -> np.ndarray:
    """Areas of the nuclei in a mask.

    Parameters
    ----------
    mask : ndarray of shape (height, width), uint8 or bool
        Bright where there are nuclei; grey values stem from area-resampling and are thresholded.
    border : {"clear", "clip"}, default="clear"
        ``"clear"``, the paper's rule: components that touch the border are left out. ``"clip"``: they
        count with the part inside.
    min_area : float, default=3
        Smaller components are left out, in pixels.

    Returns
    -------
    ndarray of shape (n_nuclei,), float64
        Areas in pixels.

    Raises
    ------
    DataError
        If the mask is not two-dimensional or the rule is unknown.

    Notes
    -----
    Graziani et al. 2021 and their notebooks: Otsu's threshold, closing with a 2×2 square, clear the
    border, 8-connected components, at least 3 px. Nuclei that touch each other count as one, as in
    any mask without instance labels.

    Examples
    --------
    >>> mask = np.zeros((10, 10), np.uint8)
    >>> mask[2:5, 2:6] = 255
    >>> mask[8:, 8:] = 255
    >>> areas_in_mask(mask).tolist(), areas_in_mask(mask, border="clip").tolist()
    ([12.0], [12.0, 4.0])
    """
    check_border_rule(border)
    mask = np.asarray(mask)
    if mask.ndim != 2:
        raise DataError(
            f"areas_in_mask: a mask is two-dimensional.\nReceived: shape {mask.shape}.\nTake one channel."
        )
    if mask.size == 0 or mask.min() == mask.max() == 0:
        return np.empty(0)
    grey = mask.astype(np.uint8) * 255 if mask.dtype == bool else mask
    nuclei = grey > otsu_threshold(grey)
    square = np.ones((2, 2), bool)
    nuclei = ndimage.binary_erosion(ndimage.binary_dilation(nuclei, square), square, border_value=1)
    labels, count = ndimage.label(nuclei, structure=_EIGHT)
    areas = np.bincount(labels.ravel(), minlength=count + 1).astype(np.float64)
    areas[0] = 0
    if border == "clear":
        for edge in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
            areas[edge] = 0
    return areas[areas >= max(min_area, 1)]


def otsu_threshold(grey: np.ndarray) -> float:
    """Threshold that separates the two classes of grey values best; above it is foreground.

    Parameters
    ----------
    grey : ndarray of uint8

    Returns
    -------
    float
        Where several thresholds are equally good, the middle of them: 127 for a mask of 0 and 255.
        For an image of one value that value less 0.5, so that all of it is foreground.

    Notes
    -----
    Otsu 1979: the threshold that maximises the variance between the classes.

    Examples
    --------
    >>> otsu_threshold(np.array([0, 0, 255], np.uint8))
    127.0
    """
    counts = np.bincount(np.asarray(grey, np.uint8).ravel(), minlength=256).astype(np.float64)
    values = np.arange(256.0)
    below, above = counts.cumsum(), counts.sum() - counts.cumsum()
    split = (below > 0) & (above > 0)
    if not split.any():
        return float(np.argmax(counts)) - 0.5
    sums = (counts * values).cumsum()
    difference = sums[split] / below[split] - (sums[-1] - sums[split]) / above[split]
    between = np.zeros(256)
    between[split] = below[split] * above[split] * difference**2
    best = np.flatnonzero(between >= between.max() * (1 - 1e-12))
    return float(best.mean() // 1)


def check_border_rule(border: str) -> None:
    """Refuse an unknown rule for nuclei that the patch border cuts.

    Raises
    ------
    DataError
        If `border` is not one of `BORDER_RULES`.

    Examples
    --------
    >>> check_border_rule("clip")
    """
    if border not in BORDER_RULES:
        raise DataError(
            f"border rule: one of {', '.join(map(repr, BORDER_RULES))}.\nReceived: {border!r}.\n"
            "'clear' leaves out nuclei that touch the patch border (the paper's), 'clip' keeps their part."
        )
