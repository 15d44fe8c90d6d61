"""Unpooled maps streamed into ``.npy`` files whose length is not known beforehand.

Knows arrays and files; must not know what the maps are.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np

from scalelib.errors import ResultsError


class MapFiles:
    """One growing ``.npy`` file per tap; each gets its own name only when it is complete.

    Parameters
    ----------
    folder : path-like
        Made if need be. Files of the same names are replaced at the end, not before.
    taps : iterable of str
        What is written; characters that no file name should have become ``_``.

    Raises
    ------
    ResultsError
        If the folder cannot be written to, the disk fills up, or two taps would share a file.
    """

    def __init__(self, folder: str | os.PathLike[str], taps: Iterable[str]) -> None:
        self.folder = Path(folder)
        self.paths = {tap: self.folder / (re.sub(r"[^\w.-]", "_", tap) + ".npy") for tap in taps}
        if len(set(self.paths.values())) < len(self.paths):
            raise ResultsError(
                "feature maps: every tap has a file of its own.\n"
                f"Received: taps {list(self.paths)}.\nExtract them one after another into two folders."
            )
        self._streams: dict[str, BinaryIO] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for tap, path in self.paths.items():
                self._streams[tap] = self._partial(path).open("wb")
        except OSError as error:
            self.discard()
            raise self._failure(error) from error

    def append(self, tap: str, maps: np.ndarray) -> None:
        """Add maps of shape (n, …) to a tap's file; every call has the same shape but for n."""
        stream = self._streams[tap]
        try:
            if tap not in self._shapes:
                self._shapes[tap] = (0, *maps.shape[1:])
                self._write_header(tap)
            stream.write(np.ascontiguousarray(maps, "<f4").tobytes())
        except OSError as error:
            raise self._failure(error) from error
        self._shapes[tap] = (self._shapes[tap][0] + len(maps), *maps.shape[1:])

    def finish(self) -> dict[str, np.ndarray]:
        """Close the files, give them their names, and open them as read-only memory maps."""
        try:
            for tap, stream in self._streams.items():
                stream.seek(0)
                self._write_header(tap)  # NumPy leaves room in it for the first axis to grow
                stream.close()
                self._partial(self.paths[tap]).replace(self.paths[tap])
        except OSError as error:
            raise self._failure(error) from error
        return {tap: np.load(path, mmap_mode="r", allow_pickle=False) for tap, path in self.paths.items()}

    def discard(self) -> None:
        """Close and remove what is not complete; harmless after :meth:`finish`."""
        for tap, stream in self._streams.items():
            with suppress(OSError):  # what a full disk could not take, it cannot take on closing either
                stream.close()
            self._partial(self.paths[tap]).unlink(missing_ok=True)

    def _write_header(self, tap: str) -> None:
        header = {"descr": "<f4", "fortran_order": False, "shape": self._shapes[tap]}
        np.lib.format.write_array_header_1_0(self._streams[tap], header)

    def _partial(self, path: Path) -> Path:
        return path.with_name(f".{path.name}.{os.getpid()}.partial")

    def _failure(self, error: OSError) -> ResultsError:
        return ResultsError(
            f"feature maps: cannot write to {self.folder}.\n"
            f"Received: {error.strerror or error}.\n"
            "Free some space, pool the tap, or give a folder that you may write to."
        )
