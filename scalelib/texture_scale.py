"""Pixel pitch of natural photographs: windows cut at known downsamplings, what magnification is to tissue.

Object scale is relative to the image; magnification is a matter of pixels, as here. Knows images only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from scalelib.errors import DataError
from scalelib.images import read_image, resize_image


def downsampled_windows(
    images: Sequence[Any], *, size: int, most: float, random_state: int = 0
) -> tuple[np.ndarray, pd.DataFrame]:
    """One square window per image, at a downsampling and a place drawn at random.

    Parameters
    ----------
    images : sequence of path-like or ndarray of shape (height, width, 3), uint8
    size : int
        Side of a window in pixels.
    most : float
        Largest downsampling; drawn between 1 and this, uniformly in octaves. Images whose shorter side is below
        ``size * most`` px are left out, so that downsampling and image size are independent.
    random_state : int, default=0

    Returns
    -------
    windows : ndarray of uint8, shape (n, size, size, 3)
        Downsampled by area means.
    table : pandas.DataFrame
        One row per window: ``image`` (its position in `images`), ``log2_downsampling`` in octaves.

    Raises
    ------
    DataError
        If a number is out of range, or fewer than five images are large enough.

    Examples
    --------
    >>> photos = np.random.default_rng(0).integers(0, 255, (6, 64, 80, 3), dtype=np.uint8)
    >>> windows, table = downsampled_windows(photos, size=16, most=4)
    >>> windows.shape, bool(table.log2_downsampling.between(0, 2).all())
    ((6, 16, 16, 3), True)
    """
    if size < 1 or not most > 1:
        raise DataError(
            f"downsampled_windows: size of at least 1 and most above 1.\nReceived: size={size}, most={most}."
        )
    rng = np.random.default_rng(random_state)
    windows, rows = [], []
    for place, image in enumerate(images):
        pixels = read_image(image)
        octaves, left, top = rng.uniform(0, np.log2(most)), rng.random(), rng.random()
        height, width = pixels.shape[:2]
        if min(height, width) < size * most:
            continue
        side = size * 2**octaves
        x, y = int(left * (width - side)), int(top * (height - side))
        end = round(side)
        window = pixels[y : y + end, x : x + end]
        windows.append(resize_image(window, size, interpolation="area").astype(np.uint8))
        rows.append({"image": place, "log2_downsampling": float(np.log2(end / size))})
    if len(windows) < 5:
        raise DataError(
            f"downsampled_windows: at least five images of {size * most:g} px or more on the shorter side.\n"
            f"Received: {len(windows)} of {len(images)}.\nUse a smaller size or a smaller downsampling."
        )
    return np.stack(windows), pd.DataFrame(rows)
