"""The ten object classes of the rendered scenes, as signed distances with exact bounding boxes.

Plain geometry in NumPy: nothing here knows of images, textures, datasets or networks. The y axis
points down, as in images; a shape is upright at rotation 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

__all__ = ["CLASSES", "SHAPES", "Shape", "coverage", "half_extents"]


@dataclass(frozen=True)
class Shape:
    """A silhouette in its own units.

    Parameters
    ----------
    distance : callable
        (x, y) arrays to signed distance: negative inside, zero on the outline, slope one near it.
    outline : ndarray of float64, shape (n_points, 2)
        Points that hold every extreme of the outline: the corners, and curves sampled densely.
    """

    distance: Callable[[np.ndarray, np.ndarray], np.ndarray]
    outline: np.ndarray


def half_extents(name: str, rotation: float) -> tuple[np.ndarray, np.ndarray]:
    """Centre and half sides of a rotated shape's bounding box, in the shape's own units.

    Parameters
    ----------
    name : str
        One of ``CLASSES``.
    rotation : float
        Degrees, clockwise as seen on the screen.

    Returns
    -------
    centre, half : ndarray of float64, shape (2,)
        Box centre relative to the shape's origin, and half width and half height.

    Examples
    --------
    >>> _, half = half_extents("square", 45.0)
    >>> bool(np.allclose(half, np.sqrt(2)))
    True
    """
    points = SHAPES[name].outline @ _rotation(rotation).T
    low, high = points.min(axis=0), points.max(axis=0)
    return (low + high) / 2, (high - low) / 2


def coverage(name: str, rotation: float, box: tuple[float, float, float, float], size: int) -> np.ndarray:
    """Share of each pixel that a shape covers, given the box that encloses it.

    Parameters
    ----------
    name : str
        One of ``CLASSES``.
    rotation : float
        Degrees, clockwise as seen on the screen.
    box : tuple of four float
        x0, y0, x1, y1 in pixels; pixel (row, column) spans [column, column + 1] × [row, row + 1].
    size : int
        Side of the square image in pixels.

    Returns
    -------
    ndarray of float64, shape (size, size)
        0 outside, 1 inside, in between where the outline crosses a pixel (a ramp one pixel wide).

    Examples
    --------
    >>> coverage("square", 0.0, (2.0, 2.0, 6.0, 6.0), 8).sum().item()
    16.0
    """
    centre, half = half_extents(name, rotation)
    x0, y0, x1, y1 = box
    unit = np.sqrt((x1 - x0) * (y1 - y0) / (4 * half[0] * half[1]))  # pixels per unit of the shape
    grid = np.arange(size) + 0.5
    x = ((grid - (x0 + x1) / 2) / unit + centre[0])[None, :]
    y = ((grid - (y0 + y1) / 2) / unit + centre[1])[:, None]
    turn = _rotation(rotation)  # its transpose turns back
    u = turn[0, 0] * x + turn[1, 0] * y
    v = turn[0, 1] * x + turn[1, 1] * y
    return np.clip(0.5 - unit * SHAPES[name].distance(u, v), 0.0, 1.0)


def _rotation(degrees: float) -> np.ndarray:
    a = np.deg2rad(degrees)
    return np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])


def _arc(radius: float, start: float, stop: float, centre: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
    angles = np.linspace(start, stop, 721)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1) * radius + np.asarray(centre)


def _half_planes(x: np.ndarray, y: np.ndarray, count: int, apothem: float) -> np.ndarray:
    """Distances to the sides of an upright regular polygon (corner on top), one leading row per side."""
    angles = np.pi / 2 + 2 * np.pi * np.arange(count) / count
    return np.stack([np.cos(a) * x + np.sin(a) * y - apothem for a in angles])


def _disc(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.sqrt(x * x + y * y) - 1


def _ring(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.abs(np.sqrt(x * x + y * y) - 0.75) - 0.25


def _rectangle(x: np.ndarray, y: np.ndarray, half_width: float, half_height: float) -> np.ndarray:
    return np.maximum(np.abs(x) - half_width, np.abs(y) - half_height)


def _square(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return _rectangle(x, y, 1.0, 1.0)


def _triangle(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return _half_planes(x, y, 3, 0.5).max(axis=0)


def _star(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A pentagram: every point of it lies on the inner side of at least four of the five lines."""
    return np.partition(_half_planes(x, -y, 5, _INNER), 3, axis=0)[3]


def _cross(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.minimum(_rectangle(x, y, 1.0, 0.32), _rectangle(x, y, 0.32, 1.0))


def _crescent(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    bite = np.sqrt((x - 0.5) ** 2 + y * y) - 0.8
    return np.maximum(_disc(x, y), -bite)


def _heart(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A square on its corner with a disc on each of its two upper sides."""
    x = np.abs(x)
    square = (x + np.abs(y)) * _ROOT - 1
    lobe = np.sqrt((x - _ROOT) ** 2 + (y + _ROOT) ** 2) - 1
    return np.minimum(square, lobe)


def _arrow(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    head = np.maximum(y, (np.abs(x) - (y + 1) * 0.9) / np.hypot(1.0, 0.9))
    shaft = np.maximum(np.abs(x) - 0.28, np.abs(y - 0.5) - 0.5)
    return np.minimum(head, shaft)


def _hourglass(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    y = np.abs(y)
    return np.maximum(y - 1, (np.abs(x) - 0.1 - 0.8 * y) / np.hypot(1.0, 0.8))


_INNER = float(np.cos(2 * np.pi / 5))  # a pentagram's lines pass this far from its centre
_ROOT = float(np.sqrt(0.5))
_HORN = (0.61, float(np.sqrt(1 - 0.61**2)))  # where the crescent's two circles meet


def _corners(count: int) -> np.ndarray:
    angles = -np.pi / 2 + 2 * np.pi * np.arange(count) / count
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _both_sides(*points: tuple[float, float]) -> np.ndarray:
    return np.array([(sign * x, y) for x, y in points for sign in (-1.0, 1.0)])


_TAU = 2 * np.pi
_HORN_ANGLE = float(np.arctan2(_HORN[1], _HORN[0]))
_LOBE = _arc(1.0, -1.25 * np.pi, 0.25 * np.pi, (_ROOT, -_ROOT))[240:]
SHAPES: dict[str, Shape] = {
    "disc": Shape(_disc, _arc(1.0, 0.0, _TAU)),
    "ring": Shape(_ring, _arc(1.0, 0.0, _TAU)),
    "square": Shape(_square, _both_sides((1.0, -1.0), (1.0, 1.0))),
    "triangle": Shape(_triangle, _corners(3)),
    "star": Shape(_star, _corners(5)),
    "cross": Shape(_cross, _both_sides((1.0, -0.32), (1.0, 0.32), (0.32, -1.0), (0.32, 1.0))),
    "crescent": Shape(_crescent, _arc(1.0, _HORN_ANGLE, _TAU - _HORN_ANGLE)),
    "heart": Shape(_heart, np.concatenate([_LOBE, _LOBE * (-1.0, 1.0), [(0.0, 2 * _ROOT)]])),
    "arrow": Shape(_arrow, _both_sides((0.0, -1.0), (0.9, 0.0), (0.28, 1.0))),
    "hourglass": Shape(_hourglass, _both_sides((0.9, -1.0), (0.9, 1.0))),
}
CLASSES: tuple[str, ...] = tuple(SHAPES)
