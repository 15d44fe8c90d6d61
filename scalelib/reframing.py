"""Image size against object scale: ways to change one of them without the other.

Section 4.1 of the paper is at hand by its title only; the protocol is ours. Knows images and boxes;
knows nothing of networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from scalelib.errors import DataError, did_you_mean
from scalelib.images import read_image, resize_image

MANIPULATIONS: dict[str, str] = {
    "resize": "whole image resized",
    "detail": "whole image shrunk, then stretched back",
    "zoom": "window around the object resized",
    "share": "object's share changed, image size kept",
    "canvas": "canvas changed, object kept in px",
}
"""What each manipulation does to a picture, in words for a legend."""

Box = tuple[float, float, float, float]


def reframe(
    image: Any,
    box: Box | None = None,
    *,
    size: int,
    share: float = 0.4,
    interpolation: str = "bilinear",
    antialias: bool = True,
) -> tuple[np.ndarray, float]:
    """A square picture of a chosen size in which the object takes a chosen share.

    Parameters
    ----------
    image : path-like or ndarray of uint8, shape (height, width, 3)
        The picture.
    box : tuple of float, optional
        The object's ``x0, y0, x1, y1`` in pixels, half open. Without one the whole image is stretched to
        a square and `share` plays no part.
    size : int
        Side of the result in pixels.
    share : float, default=0.4
        Side of the object, ``sqrt(width * height)``, as a share of the result's side; above 0.
    interpolation : str, default="bilinear"
        See :func:`scalelib.images.resize_image`.
    antialias : bool, default=True
        Whether the filter widens with the reduction, so that fine detail does not alias.

    Returns
    -------
    picture : ndarray of uint8, shape (size, size, 3)
        Cut around the box's centre from the image; what lies outside of the image has its mean colour.
    padded : float
        Share of the result that is padding, 0–1.

    Raises
    ------
    DataError
        If the share is not positive or the box is empty.

    Examples
    --------
    >>> image = np.zeros((60, 80, 3), np.uint8)
    >>> picture, padded = reframe(image, (30, 20, 50, 40), size=32, share=0.5)
    >>> picture.shape, padded
    ((32, 32, 3), 0.0)
    """
    pixels = read_image(image)
    padded = 0.0
    if box is not None:
        pixels, padded = _window(pixels, box, share)
    picture = resize_image(pixels, (size, size), interpolation=interpolation, antialias=antialias)
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8), padded


def _window(pixels: np.ndarray, box: Box, share: float) -> tuple[np.ndarray, float]:
    x0, y0, x1, y1 = box
    if share <= 0 or x1 <= x0 or y1 <= y0:
        raise DataError(
            "reframe: the share is positive and the box has an area.\n"
            f"Received: share={share}, box={box}.\nBoxes are x0, y0, x1, y1 in pixels, half open."
        )
    side = max(1, round(np.sqrt((x1 - x0) * (y1 - y0)) / share))
    left, top = round((x0 + x1 - side) / 2), round((y0 + y1 - side) / 2)
    height, width = pixels.shape[:2]
    rows = slice(max(0, top), min(height, top + side))
    columns = slice(max(0, left), min(width, left + side))
    window = np.empty((side, side, 3), np.uint8)
    window[:] = np.rint(pixels.mean(axis=(0, 1)))
    inside = pixels[rows, columns]
    window[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = inside
    return window, 1 - inside.shape[0] * inside.shape[1] / side**2


def reframe_all(
    images: Sequence[Any] | np.ndarray,
    boxes: pd.DataFrame | None = None,
    *,
    manipulation: str,
    factor: float,
    size: int,
    share: float = 0.4,
    interpolation: str = "bilinear",
    antialias: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """One manipulation of many images by one factor.

    ============ ============== ============== ================ =================
    manipulation of             image size     object's share   object in pixels
    ============ ============== ============== ================ =================
    ``resize``   whole image    × factor       kept             × factor
    ``detail``   whole image    kept           kept             kept
    ``zoom``     window         × factor       kept             × factor
    ``share``    window         kept           × factor         × factor
    ``canvas``   window         × factor       ÷ factor         kept
    ============ ============== ============== ================ =================

    ``detail`` resizes by the factor and stretches back: it loses what a smaller image cannot hold and
    changes nothing else. Whole images are stretched to a square; windows are cut around the object's
    box, and are the same picture for all three at factor 1.

    Parameters
    ----------
    images : sequence
        Paths or arrays.
    boxes : pandas.DataFrame, optional
        Columns ``box_x0, box_y0, box_x1, box_y1`` in pixels, half open, one row per image; needed for
        windows, not looked at for whole images.
    manipulation : {"resize", "detail", "zoom", "share", "canvas"}
        What is done.
    factor : float
        By how much, above 0.
    size : int
        Side of the reference picture in pixels: the network's input size.
    share : float, default=0.4
        The object's share of a window's side at factor 1.
    interpolation, antialias
        See :func:`reframe`.

    Returns
    -------
    pictures : ndarray of uint8, shape (n, side, side, 3)
    padded : ndarray of float, shape (n,)
        Share of each picture that is padding.

    Raises
    ------
    DataError
        If the manipulation is unknown or needs boxes.

    Examples
    --------
    >>> scenes = np.zeros((2, 64, 64, 3), np.uint8)
    >>> pictures, _ = reframe_all(scenes, manipulation="resize", factor=0.5, size=64)
    >>> pictures.shape
    (2, 32, 32, 3)
    """
    if manipulation not in MANIPULATIONS or factor <= 0:
        raise DataError(
            "reframe_all: an unknown manipulation, or a factor that is not positive.\n"
            f"Received: manipulation={manipulation!r}, factor={factor}.\n"
            f"{did_you_mean(manipulation, MANIPULATIONS)} Manipulations are {', '.join(MANIPULATIONS)}."
        )
    windows = manipulation in ("zoom", "share", "canvas")
    if boxes is None and windows:
        raise DataError(
            f"reframe_all: {manipulation!r} needs the object's box.\nReceived: boxes=None.\n"
            "Give box_x0, box_y0, box_x1, box_y1 per image, or use 'resize'."
        )
    sampling: dict[str, Any] = {"interpolation": interpolation, "antialias": antialias}
    side = size if manipulation == "share" else max(1, round(size * factor))
    wanted = {"share": share * factor, "canvas": share / factor}.get(manipulation, share)
    corners = _corners(boxes) if boxes is not None and windows else [None] * len(images)
    pictures, padded = [], []
    for image, box in zip(images, corners, strict=True):
        picture, outside = reframe(image, box, size=side, share=wanted, **sampling)
        if manipulation == "detail":
            picture = reframe(picture, size=size, **sampling)[0]
        pictures.append(picture)
        padded.append(outside)
    return np.stack(pictures), np.array(padded)


def _corners(boxes: pd.DataFrame) -> list[Any]:
    return list(boxes[["box_x0", "box_y0", "box_x1", "box_y1"]].itertuples(index=False, name=None))
