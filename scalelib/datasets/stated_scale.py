"""What a file states about its own scale, said as it is: nothing is derived, corrected or refused.

Knows files only; scalelib.datasets.slides settles the magnification that is worked with.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from scalelib.datasets.slide_files import from_file
from scalelib.datasets.slides import PLAUSIBLE_MPP, power_from_mpp
from scalelib.errors import DataError


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
    >>> from scalelib.datasets.rendered_slide import render_slide
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
