"""Outlines of nuclei: polygons from Aperio XML and GeoJSON, and their exact areas.

Knows polygons in level-0 pixels of a slide; knows neither slides, patches nor networks.
"""

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

from scalelib.datasets.polygons import crosses_itself, filled_area, polygon_area
from scalelib.errors import DataError

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
