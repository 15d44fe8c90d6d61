"""Exact area-mean resampling of a region. Knows arrays only."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image


def area_mean(
    image: np.ndarray, size: tuple[int, int], *, box: tuple[float, float, float, float] | None = None
) -> np.ndarray:
    """Shrink a region so that each new pixel is the mean of the area that it covers.

    Parameters
    ----------
    image : ndarray of shape (height, width, 3), uint8
    size : tuple of int
        New width and height in pixels.
    box : tuple of float, optional
        ``x_min, y_min, x_max, y_max`` of the region in pixels of `image`, within its bounds; pixels at
        its edges count with the part that lies inside. Default: the whole image.

    Returns
    -------
    ndarray of shape (size[1], size[0], 3), uint8
        Rounded to the nearest integer.

    Notes
    -----
    Pillow's own box filter takes a source pixel whole or not at all, which shifts fractional regions
    by up to half a pixel; where box and factors are whole numbers its ``reduce`` is exact, and used.

    Examples
    --------
    >>> steps = np.repeat(np.arange(0, 60, 10, dtype=np.uint8)[None, :, None], 3, axis=2)
    >>> area_mean(np.repeat(steps, 6, axis=0), (4, 4))[0, :, 0].tolist()
    [3, 17, 33, 47]
    """
    height, width = image.shape[:2]
    left, top, right, bottom = box or (0.0, 0.0, float(width), float(height))
    factors = ((right - left) / size[0], (bottom - top) / size[1])
    if all(float(value).is_integer() for value in (left, top, right, bottom, *factors)):
        region = image[int(top) : int(bottom), int(left) : int(right)]
        if factors == (1.0, 1.0):
            return region.copy()
        return np.asarray(Image.fromarray(region).reduce((int(factors[0]), int(factors[1]))))
    rows = _overlaps(top, bottom, size[1], height)
    columns = _overlaps(left, right, size[0], width)
    shrunk = np.tensordot(rows, image.astype(np.float32), axes=(1, 0))  # (new rows, width, 3)
    shrunk = np.tensordot(columns, shrunk, axes=(1, 1)).transpose(1, 0, 2)
    return np.clip(np.rint(shrunk), 0, 255).astype(np.uint8)


@lru_cache(maxsize=256)
def _overlaps(start: float, stop: float, n_new: int, n_old: int) -> np.ndarray:
    """Weights of shape (n_new, n_old): the share of each new pixel that each old one covers."""
    edges = np.linspace(start, stop, n_new + 1)[:, None]
    old = np.arange(n_old)
    covered = np.minimum(edges[1:], old + 1) - np.maximum(edges[:-1], old)
    return (np.clip(covered, 0, None) * n_new / (stop - start)).astype(np.float32)
