"""Resize an RGB picture by a stated method: policy, kernel, antialiasing. Read any still picture as 8-bit RGB; resizing lives in ``interpolation.py`` and is offered from here."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from scalelib.errors import DataError, did_you_mean

MAX_PIXELS = 2**26
PAD_GREY = 128
_PILLOW = {
    "bilinear": Image.Resampling.BILINEAR,
    "nearest": Image.Resampling.NEAREST,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "area": Image.Resampling.BOX,
}
INTERPOLATIONS = tuple(_PILLOW)
POLICIES = ("stretch", "crop", "pad")


def resize_image(
    image: np.ndarray,
    size: int | tuple[int, int],
    *,
    policy: str = "stretch",
    interpolation: str = "bilinear",
    antialias: bool = True,
) -> np.ndarray:
    """Resize one RGB picture; the same pixels on every machine.

    Parameters
    ----------
    image : ndarray of uint8 or float32, shape (height, width, 3)
        The picture, as :func:`scalelib.images.read_image` gives it.
    size : int or (height, width)
        Size wanted, in pixels; one number for a square.
    policy : {"stretch", "crop", "pad"}, default="stretch"
        What to do about another aspect ratio. ``stretch`` scales both sides on their own and is
        the only one that keeps an object's share of the image's area; ``crop`` keeps the largest
        centred part of the wanted aspect ratio; ``pad`` fits the picture in and centres it on
        mid-grey (128).
    interpolation : {"bilinear", "nearest", "bicubic", "lanczos", "area"}, default="bilinear"
        Kernel of support 1, 0, 2, 3 pixels a side; ``area`` is the mean of the source pixels
        whose centres fall into the target pixel.
    antialias : bool, default=True
        Widen the kernel with the step when shrinking, as Pillow does, so that no detail finer
        than the target grid folds back. False keeps the kernel's own width: point sampling at
        the target's pixel centres, as ``cv2.resize`` and ``tf.image.resize`` do unless told
        otherwise. Without effect when enlarging and on ``nearest``, which always point-samples.

    Returns
    -------
    ndarray, shape (*size, 3)
        Of the image's dtype; ``uint8`` is rounded to nearest (by Pillow, after rows and after
        columns). An image that has the size already
        is returned as it is.

    Raises
    ------
    DataError
        If an option is unknown, the size is not positive or over 2**26 pixels, ``area`` is asked
        to alias, or the picture is not RGB of a known dtype.

    Examples
    --------
    >>> stripes = np.tile(np.uint8([[[0], [255]]]), (8, 4, 3))
    >>> resize_image(stripes, 4, interpolation="area")[0, :, 0]
    array([128, 128, 128, 128], dtype=uint8)
    >>> resize_image(stripes, 4, interpolation="nearest")[0, :, 0]
    array([255, 255, 255, 255], dtype=uint8)
    """
    check_resizing(policy, interpolation, antialias)
    height, width = _checked(image, size)
    h, w = image.shape[:2]
    if (h, w) == (height, width):
        return image
    if policy == "pad":
        scale = min(height / h, width / w)
        inner = max(1, round(h * scale)), max(1, round(w * scale))
        canvas = np.full((height, width, 3), PAD_GREY, image.dtype)
        top, left = (height - inner[0]) // 2, (width - inner[1]) // 2
        fitted = resize_image(image, inner, interpolation=interpolation, antialias=antialias)
        canvas[top : top + inner[0], left : left + inner[1]] = fitted
        return canvas
    box = (0.0, 0.0, float(w), float(h))
    if policy == "crop":
        part_h, part_w = min(h, w * height / width), min(w, h * width / height)
        left_edge, top_edge = (w - part_w) / 2, (h - part_h) / 2
        box = (left_edge, top_edge, left_edge + part_w, top_edge + part_h)
    if antialias or interpolation == "nearest":
        return _by_pillow(image, (height, width), box, _PILLOW[interpolation])
    return _by_points(image, (height, width), box, *_KERNELS[interpolation])


def check_resizing(policy: str, interpolation: str, antialias: bool) -> None:
    """Refuse unknown resizing options by name, before any image is read.

    Parameters
    ----------
    policy, interpolation, antialias
        As for :func:`resize_image`.

    Raises
    ------
    DataError
        With near matches of what was asked for.

    Examples
    --------
    >>> check_resizing("stretch", "bilinear", True)
    """
    for what, value, known in (
        ("policy", policy, POLICIES),
        ("interpolation", interpolation, INTERPOLATIONS),
    ):
        if value not in known:
            hint = did_you_mean(str(value), known)
            raise DataError(
                f"resize_image: no {what} {value!r}.\n"
                f"Received: {what}={value!r}.\n"
                f"{hint + ' ' if hint else ''}Known: {', '.join(known)}."
            )
    if interpolation == "area" and not antialias:
        raise DataError(
            "resize_image: 'area' averages by definition and cannot alias.\n"
            "Received: interpolation='area', antialias=False.\n"
            "Use 'nearest' or 'bilinear' to study aliasing."
        )


def _checked(image: np.ndarray, size: int | tuple[int, int]) -> tuple[int, int]:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype not in (np.uint8, np.float32):
        raise DataError(
            "resize_image: an image is RGB, (height, width, 3), of uint8 or float32.\n"
            f"Received: an array of shape {image.shape} and dtype {image.dtype}.\n"
            "read_image makes one of any file or array."
        )
    sides = tuple(size) if isinstance(size, (tuple, list)) else (size, size)
    whole = len(sides) == 2 and all(isinstance(side, (int, np.integer)) and side > 0 for side in sides)
    if not whole or int(sides[0]) * int(sides[1]) > MAX_PIXELS:
        raise DataError(
            f"resize_image: a size is one or two positive whole numbers, {MAX_PIXELS} pixels at most.\n"
            f"Received: size={size!r}.\n"
            "For instance size=224 or size=(height, width)."
        )
    return int(sides[0]), int(sides[1])


def _by_pillow(
    image: np.ndarray,
    size: tuple[int, int],
    box: tuple[float, float, float, float],
    kernel: Image.Resampling,
) -> np.ndarray:
    wanted = size[1], size[0]
    if image.dtype == np.uint8:
        return np.array(Image.fromarray(np.ascontiguousarray(image)).resize(wanted, kernel, box))
    bands = [Image.fromarray(np.ascontiguousarray(image[..., c])) for c in range(3)]
    return np.stack([np.asarray(band.resize(wanted, kernel, box)) for band in bands], axis=-1)


def _cubic(x: np.ndarray) -> np.ndarray:
    x = np.abs(x)  # Keys 1981, a = -1/2, as Pillow has it
    near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


_KERNELS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], int]] = {
    "bilinear": (lambda x: np.maximum(0.0, 1.0 - np.abs(x)), 1),
    "bicubic": (_cubic, 2),
    "lanczos": (lambda x: np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0.0), 3),
}


def _by_points(
    image: np.ndarray,
    size: tuple[int, int],
    box: tuple[float, float, float, float],
    kernel: Callable[[np.ndarray], np.ndarray],
    support: int,
) -> np.ndarray:
    """Interpolate at the target's pixel centres only: rows, then columns, in double precision."""
    values = image.astype(np.float64)
    for axis, (start, stop) in enumerate(((box[1], box[3]), (box[0], box[2]))):
        source, target = image.shape[axis], size[axis]
        centres = start + (np.arange(target) + 0.5) * ((stop - start) / target) - 0.5
        taps = np.floor(centres).astype(int) + np.arange(1 - support, support + 1)[:, None]
        weights = np.where((taps >= 0) & (taps < source), kernel(centres - taps), 0.0)
        weights = (weights / weights.sum(axis=0)).reshape(2 * support, target, *(1,) * (2 - axis))
        near = values.take(taps.clip(0, source - 1), axis=axis)
        values = (near * np.expand_dims(weights, 0) if axis else near * weights).sum(axis=axis)
    if image.dtype == np.uint8:
        return np.floor(values.clip(0, 255) + 0.5).astype(np.uint8)
    return values.astype(np.float32)


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
