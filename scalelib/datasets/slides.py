"""Slides: what they state about their magnification, and regions of them at a magnification asked for.

Whole-slide images are read through OpenSlide; plain TIFF, PNG and JPEG images and arrays are slides
with one level. Knows nothing of nuclei, patches or networks.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scalelib.datasets.resample import area_mean
from scalelib.datasets.slide_files import Reader, from_array, from_file
from scalelib.errors import DataError

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
            "magnification with scalelib.magnification."
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
