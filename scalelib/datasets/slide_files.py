"""The bytes behind a slide: OpenSlide's levels, or a plain image as the only level.

Knows files and what they state; judges neither magnifications nor regions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from scalelib.errors import DataError

Reader = Callable[[int, int, int, int, int], np.ndarray]
"""``read(level, x, y, width, height)`` in pixels of that level → RGB, uint8."""


@dataclass(frozen=True)
class SlideFile:
    """Levels of a slide, a reader for them, and the magnification that the file states.

    Parameters
    ----------
    level_sizes : tuple of (int, int)
        Width and height of each level, the largest first.
    read : callable
        See `Reader`.
    close : callable
        Gives the file back.
    power : float or None
        Stated objective power.
    mpp : float or None
        Stated micrometres per pixel of level 0, the geometric mean of both axes.
    """

    level_sizes: tuple[tuple[int, int], ...]
    read: Reader
    close: Callable[[], None] = lambda: None
    power: float | None = None
    mpp: float | None = None


def from_array(image: np.ndarray) -> SlideFile:
    """An array as a slide with one level that states nothing.

    Parameters
    ----------
    image : ndarray of shape (height, width, 3), uint8
        RGB.

    Raises
    ------
    DataError
        If it is anything else.

    Examples
    --------
    >>> from_array(np.zeros((4, 6, 3), np.uint8)).level_sizes
    ((6, 4),)
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise DataError(
            "open_slide: an array is RGB, uint8, of shape (height, width, 3).\n"
            f"Received: shape {image.shape}, {image.dtype}."
        )

    def read(level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
        return image[y : y + height, x : x + width]

    return SlideFile(((image.shape[1], image.shape[0]),), read)


def from_file(path: Path) -> SlideFile:
    """Open a file with OpenSlide, or read it as a plain TIFF, PNG or JPEG image.

    Parameters
    ----------
    path : pathlib.Path

    Raises
    ------
    DataError
        If OpenSlide is not installed, or the file is broken; reading a region of a truncated file
        raises it later.

    Examples
    --------
    >>> from_file(Path("README.md"))
    Traceback (most recent call last):
    ...
    scalelib.errors.DataError: open_slide: README.md is no slide and no image.
    ...
    """
    try:
        import openslide
    except ImportError as error:
        raise DataError(
            "open_slide: slides need OpenSlide.\nReceived: no package 'openslide'.\n"
            "pip install 'scalelib[slides]'."
        ) from error
    try:
        handle = openslide.OpenSlide(path)
    except openslide.OpenSlideUnsupportedFormatError:
        return from_array(_plain_image(path))
    except openslide.OpenSlideError as error:
        raise DataError(f"open_slide: {path.name} cannot be opened.\nReceived: {error}.") from error

    def read(level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
        scale = handle.level_downsamples[level]
        try:
            region = handle.read_region((round(x * scale), round(y * scale)), level, (width, height))
        except openslide.OpenSlideError as error:
            raise DataError(
                f"slide {path.stem}: the file cannot be read at ({x}, {y}) of level {level}.\n"
                f"Received: {error}.\nIt may be truncated: compare its size with the original's."
            ) from error
        return np.asarray(Image.alpha_composite(Image.new("RGBA", region.size, "white"), region))[..., :3]

    power = _positive(handle.properties.get("openslide.objective-power"))
    mpp = [_positive(handle.properties.get(f"openslide.mpp-{axis}")) for axis in "xy"]
    mean = math.sqrt(mpp[0] * mpp[1]) if mpp[0] and mpp[1] else None
    return SlideFile(tuple(handle.level_dimensions), read, handle.close, power, mean)


def _positive(stated: str | None) -> float | None:
    try:
        value = float(stated or "nan")
    except ValueError:
        return None
    return value if math.isfinite(value) and value > 0 else None


def _plain_image(path: Path) -> np.ndarray:
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(
            f"open_slide: {path.name} is no slide and no image.\nReceived: {error}.\n"
            "OpenSlide's formats, TIFF, PNG and JPEG can be read."
        ) from error
