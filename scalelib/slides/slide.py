"""Slides: what they state about their magnification, and regions of them at a magnification asked for, resampled exactly.

Knows files and pixels; nothing of nuclei, patches or networks.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from scalelib.errors import DataError, refusing, require
from scalelib.images import read_image

# The convention that ties both scales: 40X is 0.25 µm per pixel. Scanners' pixels scatter about it, 0.2456 to 0.2527 µm
# at 40X in MoNuSeg.
MICRONS_TIMES_POWER = 10.0
NOMINAL_POWERS = (1.25, 2.5, 4.0, 5.0, 10.0, 20.0, 40.0, 60.0, 80.0, 100.0)
SNAP = 0.10
# Outside it a file states a printer's or screen's resolution, such as 72 dpi = 352.8 µm.
PLAUSIBLE_MPP = (0.05, 20.0)


def area_mean(
    image: np.ndarray, size: tuple[int, int], *, box: tuple[float, float, float, float] | None = None
) -> np.ndarray:
    """Shrink a region ``x_min, y_min, x_max, y_max`` so that each new pixel is the mean of the area that it covers.

    Pixels at the region's edges count with the part inside. Pillow's own box filter takes a source pixel whole or not at
    all, which shifts fractional regions by up to half a pixel; where box and factors are whole numbers its ``reduce`` is
    exact, and used.
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


@lru_cache(maxsize=16)  # each as large as a slide is wide
def _overlaps(start: float, stop: float, n_new: int, n_old: int) -> np.ndarray:
    """Weights of shape (n_new, n_old): the share of each new pixel that each old one covers."""
    edges = np.linspace(start, stop, n_new + 1)[:, None]
    old = np.arange(n_old)
    covered = np.minimum(edges[1:], old + 1) - np.maximum(edges[:-1], old)
    return (np.clip(covered, 0, None) * n_new / (stop - start)).astype(np.float32)


# read(level, x, y, width, height) in pixels of that level → RGB, uint8
Reader = Callable[[int, int, int, int, int], np.ndarray]


@dataclass(frozen=True)
class StatedScale:
    """Objective power and micrometres per pixel that a file states, each where it does: nothing is derived or refused."""

    power: float | None = None
    mpp: float | None = None

    @property
    def magnification(self) -> float | None:
        """The stated power, else that of a plausible resolution, else None."""
        if self.power is None and self.mpp is not None and _plausible(self.mpp):
            return power_from_mpp(self.mpp)
        return self.power

    def __str__(self) -> str:
        said = [f"{self.power:g}X"] if self.power is not None else []
        said += [f"{self.mpp:.4g} µm per pixel"] if self.mpp is not None else []
        if self.power is not None or self.mpp is None:
            return " and ".join(said) or "nothing"
        known = self.magnification
        return f"{said[0]}, " + (f"which is {known:.3g}X" if known else "a printer's or screen's")


@dataclass(frozen=True)
class SlideFile:
    """Width and height of each level, the largest first, a reader for them, and what the file states."""

    level_sizes: tuple[tuple[int, int], ...]
    read: Reader
    close: Callable[[], None] = lambda: None
    stated: StatedScale = StatedScale()


def from_array(image: np.ndarray) -> SlideFile:
    """RGB pixels as a slide with one level that states nothing."""
    rule = "an array is RGB, uint8, of shape (height, width, 3)"
    sound = image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8 and image.size > 0
    require(sound, "open_slide", rule, f"shape {image.shape}, {image.dtype}")
    size = (image.shape[1], image.shape[0])
    return SlideFile((size,), lambda level, x, y, width, height: image[y : y + height, x : x + width])


def from_file(path: Path) -> SlideFile:
    """Open a file with OpenSlide, or read it as a plain TIFF, PNG or JPEG image; a truncated one may fail only when read."""
    advice = "pip install 'scalelib[slides]'."
    require(find_spec("openslide"), "open_slide", "slides need OpenSlide", "no package 'openslide'", advice)
    import openslide

    missing = "is a folder: name its files" if path.is_dir() else "does not exist"
    require(path.is_file(), "open_slide", f"{path.name} {missing}", path.as_posix())
    with refusing("open_slide", f"{path.name} cannot be opened", path, causes=openslide.OpenSlideError):
        try:
            handle = openslide.OpenSlide(path)
        except openslide.OpenSlideUnsupportedFormatError:
            return from_array(read_image(path))

    def read(level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
        scale = handle.level_downsamples[level]
        rule, advice = "the file cannot be read", "It may be truncated: compare its size with the original's"
        with refusing(f"slide {path.stem}", rule, f"({x}, {y}) of level {level}", advice):
            region = handle.read_region((round(x * scale), round(y * scale)), level, (width, height))
        return np.asarray(Image.alpha_composite(Image.new("RGBA", region.size, "white"), region))[..., :3]

    names = ("objective-power", "mpp-x", "mpp-y")
    power, x, y = (_positive(handle.properties.get(f"openslide.{name}")) for name in names)
    stated = StatedScale(power, math.sqrt(x * y) if x and y else None)
    return SlideFile(tuple(handle.level_dimensions), read, handle.close, stated)


def _positive(stated: str | None) -> float | None:
    try:
        value = float(stated or "nan")
    except ValueError:
        return None
    return value if math.isfinite(value) and value > 0 else None


def stated_scale(path: str | os.PathLike[str]) -> StatedScale:
    """What a slide states; a figure in PNG or JPEG states nothing."""
    return from_file(Path(path)).stated


@dataclass(frozen=True)
class Slide:
    """An open slide, made by :func:`open_slide`.

    `power` is the magnification of level 0, `mpp` its micrometres per pixel, `mpp_stated` whether the file or the caller
    said them rather than the convention, `level_sizes` width and height of each pyramid level.
    """

    name: str
    power: float
    mpp: float
    mpp_stated: bool
    level_sizes: tuple[tuple[int, int], ...]
    _read: Reader
    close: Callable[[], None]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of level 0 in pixels."""
        return self.level_sizes[0]

    def downsample(self, magnification: float) -> float:
        """Level-0 pixels per pixel at a magnification; nothing is upsampled."""
        rule = f"a magnification lies in (0, {self.power:g}]"
        received = f"{magnification:g}X; the slide was scanned at {self.power:g}X"
        advice = "Upsampling invents no detail: leave this magnification out."
        require(0 < magnification <= self.power, f"slide {self.name}", rule, received, advice)
        return self.power / magnification

    def read(self, x: int, y: int, size: int | tuple[int, int], *, magnification: float) -> np.ndarray:
        """RGB of a region from the nearest pyramid level above its magnification, area-resampled: (height, width, 3), uint8.

        `x` and `y` are level-0 pixels, `size` (or width and height) pixels of the result; transparent pixels are white.
        """
        width, height = (size, size) if isinstance(size, int) else size
        factor = self.downsample(magnification)
        right, bottom = x + width * factor, y + height * factor
        slack, (across, down) = 1e-6 * max(self.size), self.size
        asked = f"{width}×{height} px at {magnification:g}X from ({x}, {y})"
        received = f"{asked}, that is up to ({right:.0f}, {bottom:.0f}) of {across}×{down} level-0 px"
        advice = "Ask for a smaller region or a higher magnification."
        inside = x >= 0 and y >= 0 and right <= across + slack and bottom <= down + slack
        require(inside, f"slide {self.name}", "a region lies within the slide", received, advice)
        scales = [self.size[0] / level[0] for level in self.level_sizes]
        level = max(i for i, scale in enumerate(scales) if scale <= factor * (1 + 1e-3) or i == 0)
        scale_x, scale_y = scales[level], self.size[1] / self.level_sizes[level][1]
        box = (x / scale_x, y / scale_y, right / scale_x, bottom / scale_y)
        first = (math.floor(box[0] + 1e-6), math.floor(box[1] + 1e-6))
        last = [min(math.ceil(b - 1e-6), n) for b, n in zip(box[2:], self.level_sizes[level], strict=True)]
        region = self._read(level, *first, last[0] - first[0], last[1] - first[1])
        part = [max(b - f, 0.0) for b, f in zip(box, (*first, *first), strict=True)]
        part[2:] = [min(b, float(n)) for b, n in zip(part[2:], region.shape[1::-1], strict=True)]
        part = [round(b) if abs(b - round(b)) < 1e-6 else b for b in part]
        return area_mean(region, (width, height), box=(part[0], part[1], part[2], part[3]))

    def overview(self, *, magnification: float = 5.0, longest: int = 1024) -> np.ndarray:
        """The whole slide, at most at `magnification` and with at most about `longest` pixels a side.

        It is read in strips of 64 rows, so that a slide without a pyramid needs little memory.
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

    def __enter__(self) -> Slide:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def open_slide(
    image: str | os.PathLike[str] | np.ndarray, *, power: float | None = None, mpp: float | None = None
) -> Slide:
    """Open a slide, a plain image or RGB pixels, and settle its magnification; `power` and `mpp` override what it states.

    The magnification is the objective power, else that of the microns per pixel by :func:`power_from_mpp`. Refused is
    what states neither, or both so that they differ by more than a quarter.
    """
    if isinstance(image, np.ndarray):
        name, source = "array", from_array(image)
    else:
        name, source = Path(image).stem, from_file(Path(image))
    settled = _settle(name, power or source.stated.power, mpp or source.stated.mpp)
    return Slide(name, *settled, source.level_sizes, source.read, source.close)


def power_from_mpp(mpp: float) -> float:
    """Magnification that belongs to micrometres per pixel: 10 / mpp, or the nominal power within 10 % of it."""
    power = MICRONS_TIMES_POWER / mpp
    nominal = min(NOMINAL_POWERS, key=lambda p: abs(math.log(p / power)))
    return nominal if abs(nominal / power - 1) <= SNAP else power


def _settle(name: str, power: float | None, mpp: float | None) -> tuple[float, float, bool]:
    """Magnification, micrometres per pixel, and whether these were stated."""
    for label, value in (("power", power), ("mpp", mpp)):
        sound = value is None or (math.isfinite(value) and value > 0)
        require(sound, f"slide {name}", f"{label} must be positive", f"{label}={value!r}")
    found = StatedScale(power, mpp).magnification
    if found is None:
        raise DataError(
            f"slide {name}: it states neither objective power nor microns per pixel of a microscope.\n"
            f"Received: power={power}, mpp={mpp} (72 dpi, a screen's, is 352.8 µm per pixel).\nGive power=40 or mpp=0.25, "
            "whichever is known, or estimate the magnification with 'scalelib magnification'."
        )
    if mpp is None or not _plausible(mpp):
        return float(found), MICRONS_TIMES_POWER / found, False
    rule = "objective power and microns per pixel contradict each other"
    received = f"{found:g}X and {mpp:g} µm per pixel, which is {MICRONS_TIMES_POWER / mpp:.3g}X"
    agree = abs(math.log(found * mpp / MICRONS_TIMES_POWER)) <= math.log(1.25)
    require(agree, f"slide {name}", rule, received, "Give the right ones as power= and mpp=.")
    return float(found), float(mpp), True


def _plausible(mpp: float) -> bool:
    return PLAUSIBLE_MPP[0] <= mpp <= PLAUSIBLE_MPP[1]
