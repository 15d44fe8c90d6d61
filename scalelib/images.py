"""Read any still picture as 8-bit RGB; resizing lives in ``interpolation.py`` and is offered from here.

Knows files, arrays and pixels; must not know networks, measures or caches.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from scalelib.errors import DataError
from scalelib.interpolation import MAX_PIXELS, resize_image

__all__ = ["read_image", "resize_image"]

FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF", "PPM")
MIN_SIDE = 4
MAX_ASPECT = 50.0
TRANSPARENT_IS = (255, 255, 255)


def read_image(image: str | os.PathLike[str] | np.ndarray) -> np.ndarray:
    """One picture as 8-bit RGB.

    Parameters
    ----------
    image : path-like or ndarray
        A JPEG, PNG, TIFF, WebP, BMP, GIF or PPM file, or an array of shape (height, width),
        (height, width, 1), (height, width, 3) or (height, width, 4) in one of three forms:
        ``uint8``; ``uint16``, full range 0..65535; floating point in 0..255.

    Returns
    -------
    ndarray of uint8, shape (height, width, 3)
        Red, green, blue. Transparency is composited over white; 16-bit samples are scaled by
        their full range (the high byte), never clipped; floats are rounded; EXIF orientation is
        applied; CMYK is converted without, and embedded colour profiles are ignored, so that
        every machine gives the same pixels.

    Raises
    ------
    DataError
        If the file is missing, empty, corrupt, truncated, of another format or mode, animated or
        of several pages (only the first picture of an MPO file, a camera's JPEG, is read), over
        2**26 pixels, under 4 pixels a side or over 50:1. JPEG has no checksum: damage that still
        decodes cannot be noticed.

    Examples
    --------
    >>> read_image(np.full((4, 6), 200.4)).shape
    (4, 6, 3)
    """
    if isinstance(image, np.ndarray):
        return _from_array(image)
    if not isinstance(image, (str, os.PathLike)):
        raise DataError(
            "read_image: an image is a path or a NumPy array.\n"
            f"Received: {type(image).__name__}.\n"
            "np.asarray turns tensors and Pillow images into arrays."
        )
    path = Path(image)
    try:
        if path.stat().st_size == 0:
            raise ValueError("the file is empty")
        with Image.open(path, formats=FORMATS) as opened:
            _check_size(opened.height, opened.width)
            pages = getattr(opened, "n_frames", 1)
            if pages > 1 and opened.format != "MPO":
                raise ValueError(f"animated or of several pages ({pages}); save the one wanted")
            opened.load()
            return _to_rgb(ImageOps.exif_transpose(opened))
    except Exception as error:  # decoders of untrusted files raise nearly every class there is
        reason = "no such file" if isinstance(error, FileNotFoundError) else str(error) or repr(error)
        raise DataError(
            f"read_image: cannot use the image {path.name}: {reason}.\n"
            f"Received: {path}.\n"
            "Replace the file or leave it out."
        ) from error


def _check_size(height: int, width: int) -> None:
    if height * width > MAX_PIXELS:
        raise ValueError(f"{width} x {height} pixels are more than {MAX_PIXELS}; cut or shrink it first")
    if min(height, width) < MIN_SIDE:
        raise ValueError(f"{width} x {height} pixels: under {MIN_SIDE} pixels a side show no object")
    if max(height, width) > MAX_ASPECT * min(height, width):
        raise ValueError(f"{width} x {height} pixels are narrower than {MAX_ASPECT:.0f}:1")


def _to_rgb(picture: Image.Image) -> np.ndarray:
    if picture.mode.startswith("I;16"):
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    if picture.mode not in ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"):
        raise ValueError(f"pixels of mode {picture.mode!r} have no stated range; save it with 8 or 16 bits")
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        ground = Image.new("RGBA", layer.size, (*TRANSPARENT_IS, 255))
        picture = Image.alpha_composite(ground, layer)
    return np.array(picture.convert("RGB"))


def _from_array(array: np.ndarray) -> np.ndarray:
    received = f"Received: an array of shape {array.shape} and dtype {array.dtype}"
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise DataError(
            f"read_image: an image array is (height, width) or (height, width, 1, 3 or 4).\n{received}.\n"
            "Many images go to extract, not to read_image; channels come last."
        )
    try:
        _check_size(*array.shape[:2])
    except ValueError as error:
        raise DataError(f"read_image: {error}.\n{received}.\nLeave it out.") from error
    if array.dtype == np.uint16:
        array = (array >> 8).astype(np.uint8)
    elif np.issubdtype(array.dtype, np.floating):
        low, high = float(array.min()), float(array.max())
        if not (low >= 0 and (high == 0 or 1 < high <= 255)):  # NaN fails every comparison
            raise DataError(
                "read_image: a floating-point image holds finite values in 0..255.\n"
                f"{received}, values {low:g} to {high:g}.\n"
                "Multiply 0..1 images by 255; undo any network's preprocessing."
            )
        array = np.rint(array).astype(np.uint8)
    elif array.dtype != np.uint8:
        raise DataError(
            f"read_image: image arrays are uint8, uint16 or floating point.\n{received}.\n"
            "Scale to 0..255 and use .astype(np.uint8)."
        )
    if array.ndim == 2 or array.shape[2] == 1:
        array = np.broadcast_to(array.reshape(*array.shape[:2], 1), (*array.shape[:2], 3))
    elif array.shape[2] == 4:
        array = _to_rgb(Image.fromarray(np.ascontiguousarray(array), "RGBA"))
    return np.ascontiguousarray(array)
