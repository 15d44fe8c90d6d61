"""Read any still picture as 8-bit RGB, the same pixels on every machine, and resize it by a stated method.

Knows pictures only: no data set, no network.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from scalelib.errors import DataError, require
from scalelib.validation import check_choice

FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF", "PPM")
MAX_PIXELS = 2**26
MIN_SIDE = 4
MAX_ASPECT = 50
PAD_GREY = 128
POLICIES = ("stretch", "crop", "pad")
_AS_IN_PILLOW = ("bilinear", "nearest", "bicubic", "lanczos")
INTERPOLATIONS = {name: Image.Resampling[name.upper()] for name in _AS_IN_PILLOW}
INTERPOLATIONS["area"] = Image.Resampling.BOX


def read_image(image: str | os.PathLike[str] | np.ndarray) -> np.ndarray:
    """One picture as uint8 of shape (height, width, 3): a file, or an array that is grey, RGB or RGBA.

    Arrays are ``uint8``, ``uint16`` (full range) or floating point in 0..255. Transparency is composited over white;
    16-bit samples are scaled by their full range (the high byte), never clipped; floats are rounded; EXIF orientation
    is applied; CMYK is converted without, and embedded colour profiles are ignored, so that every machine gives the
    same pixels. Of an MPO file, a camera's JPEG, the first picture is read; other files of several pages are refused,
    and so is what shows no object (under 4 pixels a side, over 50:1). JPEG has no checksum: damage that still decodes
    cannot be noticed.
    """
    if isinstance(image, np.ndarray):
        return _from_array(image)
    what, is_path = "an image is a path or a NumPy array", isinstance(image, str | os.PathLike)
    advice = "np.asarray turns tensors and Pillow images into arrays"
    require(is_path, "read_image", what, type(image).__name__, advice)
    path = Path(image)
    try:
        if path.stat().st_size == 0:
            raise ValueError("the file is empty")
        with Image.open(path, formats=FORMATS) as opened:
            if problem := _unusable(opened.height, opened.width):
                raise ValueError(problem)
            if (pages := getattr(opened, "n_frames", 1)) > 1 and opened.format != "MPO":
                raise ValueError(f"animated or of several pages ({pages}); save the one wanted")
            ImageOps.exif_transpose(opened, in_place=True)
            return _to_rgb(opened)
    except Exception as error:  # decoders of untrusted files raise nearly every class there is
        reason = "no such file" if isinstance(error, FileNotFoundError) else str(error) or repr(error)
        said = f"{path.name}: {reason}.\nReceived: {path}.\nReplace the file or leave it out."
        raise DataError(f"read_image: cannot use the image {said}") from error


def _unusable(height: int, width: int) -> str:
    """Why a picture of this size is refused, or nothing."""
    size = f"{width} x {height} pixels"
    if height * width > MAX_PIXELS:
        return f"{size} are more than {MAX_PIXELS}; cut or shrink it first"
    if min(height, width) < MIN_SIDE:
        return f"{size}: under {MIN_SIDE} pixels a side show no object"
    if max(height, width) > MAX_ASPECT * min(height, width):
        return f"{size} are narrower than {MAX_ASPECT}:1"
    return ""


def _to_rgb(picture: Image.Image) -> np.ndarray:
    if picture.mode.startswith("I;16"):
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    if picture.mode in ("I", "F"):
        raise ValueError(f"pixels of mode {picture.mode!r} have no stated range; save it with 8 or 16 bits")
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return np.array(picture if picture.mode == "RGB" else picture.convert("RGB"))


def _from_array(array: np.ndarray) -> np.ndarray:
    shaped = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3, 4))
    unusable = _unusable(*array.shape[:2]) if shaped else ""
    real = array.dtype.kind == "f"
    low, high = (array.min(), array.max()) if real and array.size else (0, 0)
    known = real or array.dtype in (np.uint8, np.uint16)
    ranged = low >= 0 and (high == 0 or 1 < high <= 255)  # NaN fails every comparison
    values = f"a floating-point image holds finite values in 0..255, not {low:g} to {high:g}"
    for ok, rule, advice in (
        (shaped, "an image array is (height, width) or (height, width, 1, 3 or 4)", "Channels come last"),
        (not unusable, unusable, "Leave it out"),
        (known, "image arrays are uint8, uint16 or floating point", "Scale to 0..255, as uint8"),
        (ranged, values, "Multiply 0..1 images by 255; undo any network's preprocessing"),
    ):
        require(ok, "read_image", rule, f"an array of shape {array.shape} and dtype {array.dtype}", advice)
    array = array[..., 0] if array.shape[2:] == (1,) else array
    array = array >> 8 if array.dtype == np.uint16 else np.rint(array) if real else array
    return _to_rgb(Image.fromarray(np.ascontiguousarray(array, np.uint8)))


def check_resizing(policy: str, interpolation: str, antialias: bool) -> None:
    """Refuse unknown resizing options by name, before any image is read."""
    check_choice((policy,), POLICIES, name="policy", operation="resize_image")
    check_choice((interpolation,), INTERPOLATIONS, name="interpolation", operation="resize_image")
    sharp, rule = interpolation in ("bilinear", "nearest"), f"{interpolation!r} is always anti-aliased"
    advice = "Use 'nearest' or 'bilinear' to study aliasing"
    require(antialias or sharp, "resize_image", rule, f"{interpolation!r}, antialias=False", advice)


def resize_image(
    image: np.ndarray,
    size: int | tuple[int, int],
    *,
    policy: str = "stretch",
    interpolation: str = "bilinear",
    antialias: bool = True,
) -> np.ndarray:
    """Resize one picture of :func:`read_image` to (height, width), or to a square.

    About another aspect ratio, ``stretch`` scales both sides on their own and is the only policy that keeps an
    object's share of the image's area; ``crop`` keeps the largest centred part of the wanted ratio; ``pad`` fits the
    picture in and centres it on mid-grey. `antialias` widens the kernel with the step when shrinking, as Pillow
    does, so that no detail finer than the target grid folds back; without it, ``bilinear`` point-samples at the
    target's pixel centres, as ``cv2.resize`` and ``tf.image.resize`` do unless told otherwise. ``nearest`` always
    does; ``area`` is the mean of the pixels whose centres fall into the target's.
    """
    height, width = (size, size) if isinstance(size, int | np.integer) else size
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
    cut_h, cut_w = min(h, w * height / width), min(w, h * width / height)
    part_h, part_w = (h, w) if policy == "stretch" else (cut_h, cut_w)
    left_edge, top_edge = (w - part_w) / 2, (h - part_h) / 2
    box = (left_edge, top_edge, left_edge + part_w, top_edge + part_h)
    if interpolation == "bilinear" and not antialias:
        return _by_points(image, (height, width), box)
    picture = Image.fromarray(np.ascontiguousarray(image))
    return np.array(picture.resize((width, height), INTERPOLATIONS[interpolation], box))


def _by_points(
    image: np.ndarray, size: tuple[int, int], box: tuple[float, float, float, float]
) -> np.ndarray:
    """Interpolate linearly at the target's pixel centres only: rows, then columns, in double precision."""
    values = image.astype(np.float64)
    for axis, (start, stop) in enumerate(((box[1], box[3]), (box[0], box[2]))):
        source, target = image.shape[axis], size[axis]
        centres = start + (np.arange(target) + 0.5) * ((stop - start) / target) - 0.5
        taps = np.floor(centres).astype(int) + np.array([[0], [1]])
        weights = np.where((taps >= 0) & (taps < source), 1.0 - np.abs(centres - taps), 0.0)
        weights = (weights / weights.sum(axis=0)).reshape(2, target, *(1,) * (2 - axis))
        near = values.take(taps.clip(0, source - 1), axis=axis)
        values = (near * np.expand_dims(weights, 0) if axis else near * weights).sum(axis=axis)
    return np.floor(values.clip(0, 255) + 0.5).astype(np.uint8)
