"""Exact area-mean resampling of a region. Knows arrays only. The bytes behind a slide: OpenSlide's levels, or a plain image as the only level. Slides: what they state about their magnification, and regions of them at a magnification asked for. What a file states about its own scale, said as it is: nothing is derived, corrected or refused."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from scalelib.errors import DataError


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


MICRONS_TIMES_POWER = 10.0
"""The convention that ties both scales: 40X is 0.25 µm per pixel, so mpp × power = 10."""

NOMINAL_POWERS = (1.25, 2.5, 4.0, 5.0, 10.0, 20.0, 40.0, 60.0, 80.0, 100.0)
SNAP = 0.10
"""Scanners' pixels scatter about the convention (0.2456 to 0.2527 µm at 40X in MoNuSeg)."""

PLAUSIBLE_MPP = (0.05, 20.0)
"""Outside it a file states a printer's or screen's resolution, such as 72 dpi = 352.8 µm."""


@dataclass(frozen=True)
class Slide:
    """An open slide. Make one with :func:`open_slide`.

    Parameters
    ----------
    name : str
        File name without suffix.
    power : float
        Magnification of level 0, as in 40.0 for 40X.
    mpp : float
        Micrometres per pixel of level 0; where only a power is stated, the convention's 10 / power.
    mpp_stated : bool
        Whether `mpp` was stated by the file or the caller rather than derived from `power`.
    level_sizes : tuple of (int, int)
        Width and height of each pyramid level.
    """

    name: str
    power: float
    mpp: float
    mpp_stated: bool
    level_sizes: tuple[tuple[int, int], ...]
    _read: Reader
    _close: Callable[[], None]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of level 0 in pixels."""
        return self.level_sizes[0]

    def downsample(self, magnification: float) -> float:
        """Level-0 pixels per pixel at a magnification (≥ 1).

        Raises
        ------
        DataError
            If the magnification is not positive, or above the slide's own: nothing is upsampled.
        """
        if not magnification > 0 or magnification > self.power:
            raise DataError(
                f"slide {self.name}: a magnification lies in (0, {self.power:g}].\n"
                f"Received: {magnification:g}X; the slide was scanned at {self.power:g}X.\n"
                "Upsampling invents no detail: leave this magnification out."
            )
        return self.power / magnification

    def read(self, x: int, y: int, size: int | tuple[int, int], *, magnification: float) -> np.ndarray:
        """A region at a magnification, from the nearest pyramid level above it, area-resampled.

        Parameters
        ----------
        x, y : int
            Upper left corner in level-0 pixels.
        size : int or (int, int)
            Width and height of the result in its own pixels.
        magnification : float
            At most `power`.

        Returns
        -------
        ndarray of shape (height, width, 3), uint8
            RGB; transparent pixels are white.

        Raises
        ------
        DataError
            If the magnification is above the slide's own, the region leaves the slide, or the file
            cannot be read there.
        """
        width, height = (size, size) if isinstance(size, int) else size
        factor = self.downsample(magnification)
        right, bottom = x + width * factor, y + height * factor
        slack = 1e-6 * max(self.size)
        if x < 0 or y < 0 or right > self.size[0] + slack or bottom > self.size[1] + slack:
            raise DataError(
                f"slide {self.name}: a region lies within the slide.\n"
                f"Received: {width}×{height} px at {magnification:g}X from ({x}, {y}), that is up to "
                f"({right:.0f}, {bottom:.0f}) of {self.size[0]}×{self.size[1]} level-0 px.\n"
                "Ask for a smaller region or a higher magnification."
            )
        scales = [self.size[0] / level[0] for level in self.level_sizes]
        level = max(i for i, scale in enumerate(scales) if scale <= factor * (1 + 1e-3) or i == 0)
        scale_x, scale_y = scales[level], self.size[1] / self.level_sizes[level][1]
        box = (x / scale_x, y / scale_y, right / scale_x, bottom / scale_y)
        first = (math.floor(box[0] + 1e-6), math.floor(box[1] + 1e-6))
        last = [min(math.ceil(b - 1e-6), n) for b, n in zip(box[2:], self.level_sizes[level], strict=True)]
        region = self._read(level, *first, last[0] - first[0], last[1] - first[1])
        inside = [max(b - f, 0.0) for b, f in zip(box, (*first, *first), strict=True)]
        inside[2:] = [min(b, float(n)) for b, n in zip(inside[2:], region.shape[1::-1], strict=True)]
        inside = [round(b) if abs(b - round(b)) < 1e-6 else b for b in inside]
        return area_mean(region, (width, height), box=(inside[0], inside[1], inside[2], inside[3]))

    def overview(self, *, magnification: float = 5.0, longest: int = 1024) -> np.ndarray:
        """The whole slide, at most at `magnification` and with at most about `longest` pixels a side.

        Returns
        -------
        ndarray of shape (height, width, 3), uint8
            Read in strips of 64 rows, so that a slide without a pyramid needs little memory.
        """
        magnification = min(magnification, self.power, self.power * longest / max(self.size))
        factor = self.power / magnification
        width, height = (max(1, math.floor(side / factor)) for side in self.size)
        strips = []
        for top in range(0, height, 64):
            rows = min(64, height - top)
            y = min(round(top * factor), math.floor(self.size[1] - rows * factor))
            strips.append(self.read(0, max(y, 0), (width, rows), magnification=magnification))
        return np.concatenate(strips)

    def close(self) -> None:
        """Give the file back."""
        self._close()

    def __enter__(self) -> Slide:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def open_slide(
    image: str | os.PathLike[str] | np.ndarray, *, power: float | None = None, mpp: float | None = None
) -> Slide:
    """Open a slide, a plain image or an array, and settle its magnification.

    Parameters
    ----------
    image : path-like or ndarray of shape (height, width, 3), uint8
        A file that OpenSlide opens, another TIFF, PNG or JPEG image, or RGB pixels.
    power : float, optional
        Objective power; overrides what the file states.
    mpp : float, optional
        Micrometres per pixel; overrides what the file states.

    Returns
    -------
    Slide
        Its `power` is the stated objective power, else that of the microns per pixel by
        :func:`power_from_mpp`.

    Raises
    ------
    DataError
        If the file is missing or broken, if it states neither power nor microns per pixel and none
        is given, or if both are known and differ by more than a quarter.

    Examples
    --------
    >>> slide = open_slide(np.full((64, 64, 3), 200, np.uint8), mpp=0.2527)
    >>> slide.power, slide.read(0, 0, 16, magnification=10).shape
    (40.0, (16, 16, 3))
    """
    if isinstance(image, np.ndarray):
        name, source = "array", from_array(image)
    else:
        path = Path(image)
        name = path.stem
        if not path.is_file():
            raise DataError(f"open_slide: no such file.\nReceived: {path}.")
        source = from_file(path)
    try:
        power, mpp, known = _settle(name, power or source.power, mpp or source.mpp)
    except DataError:
        source.close()
        raise
    return Slide(name, power, mpp, known, source.level_sizes, source.read, source.close)


def power_from_mpp(mpp: float) -> float:
    """Magnification that belongs to micrometres per pixel: 10 / mpp, or the nominal power near it.

    Parameters
    ----------
    mpp : float
        Micrometres per pixel, positive.

    Returns
    -------
    float
        The nominal objective (1.25, 2.5, 4, 5, 10, 20, 40, 60, 80, 100) within 10 %, else 10 / mpp.

    Examples
    --------
    >>> power_from_mpp(0.2527), power_from_mpp(0.499), round(power_from_mpp(0.33), 1)
    (40.0, 20.0, 30.3)
    """
    power = MICRONS_TIMES_POWER / mpp
    nominal = min(NOMINAL_POWERS, key=lambda p: abs(math.log(p / power)))
    return nominal if abs(nominal / power - 1) <= SNAP else power


def _settle(name: str, power: float | None, mpp: float | None) -> tuple[float, float, bool]:
    for label, value in (("power", power), ("mpp", mpp)):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise DataError(f"slide {name}: {label} must be positive.\nReceived: {label}={value!r}.")
    if mpp is not None and not PLAUSIBLE_MPP[0] <= mpp <= PLAUSIBLE_MPP[1]:
        if power is None:
            raise DataError(
                f"slide {name}: its stated resolution is not that of a microscope.\n"
                f"Received: {mpp:g} µm per pixel, outside {PLAUSIBLE_MPP} (72 dpi is 352.8 µm).\n"
                "Give power= or mpp=."
            )
        mpp = None
    if power is None:
        if mpp is not None:
            return power_from_mpp(mpp), float(mpp), True
        raise DataError(
            f"slide {name}: it states neither objective power nor microns per pixel.\n"
            "Received: power=None, mpp=None.\nGive power=40 or mpp=0.25, whichever is known, or estimate the "
            "magnification with scalelib.slides.magnification."
        )
    if mpp is None:
        return float(power), MICRONS_TIMES_POWER / power, False
    if abs(math.log(power * mpp / MICRONS_TIMES_POWER)) > math.log(1.25):
        raise DataError(
            f"slide {name}: objective power and microns per pixel contradict each other.\n"
            f"Received: {power:g}X and {mpp:g} µm per pixel, which is {MICRONS_TIMES_POWER / mpp:.3g}X.\n"
            "Give the right ones as power= and mpp=."
        )
    return float(power), float(mpp), True


@dataclass(frozen=True)
class StatedScale:
    """Objective power and micrometres per pixel that a file states, each where it does.

    Parameters
    ----------
    power : float or None
    mpp : float or None

    Examples
    --------
    >>> str(StatedScale(None, 0.499)), StatedScale(None, 0.499).magnification
    ('0.499 µm per pixel, which is 20X', 20.0)
    >>> str(StatedScale(None, None))
    'nothing'
    """

    power: float | None
    mpp: float | None

    @property
    def magnification(self) -> float | None:
        """The stated power, else that of a plausible resolution, else None."""
        if self.power is None and self.mpp is not None and PLAUSIBLE_MPP[0] <= self.mpp <= PLAUSIBLE_MPP[1]:
            return power_from_mpp(self.mpp)
        return self.power

    def __str__(self) -> str:
        spacing = "" if self.mpp is None else f"{self.mpp:.4g} µm per pixel"
        if self.power is not None:
            return f"{self.power:g}X" + (spacing and f" and {spacing}")
        if not spacing:
            return "nothing"
        if self.magnification is None:
            return f"{spacing}, a printer's or screen's"
        return f"{spacing}, which is {self.magnification:.3g}X"


def stated_scale(path: str | os.PathLike[str]) -> StatedScale:
    """Read what a slide states; a figure in PNG or JPEG states nothing.

    Parameters
    ----------
    path : path-like
        A file that OpenSlide opens, another TIFF, PNG or JPEG image.

    Returns
    -------
    StatedScale

    Raises
    ------
    DataError
        If the file is missing or cannot be opened.

    Examples
    --------
    >>> import tempfile
    >>> from studies.rendered.slide import render_slide
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     print(stated_scale(render_slide(Path(folder) / "one.svs", size=256, power=20).path))
    20X and 0.5 µm per pixel
    """
    path = Path(path)
    if not path.is_file():
        what = "is a folder: name its files" if path.is_dir() else "does not exist"
        raise DataError(f"stated_scale: {path.name} {what}.\nReceived: {path.as_posix()}.")
    file = from_file(path)
    file.close()
    return StatedScale(file.power, file.mpp)
