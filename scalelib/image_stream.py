"""Images prepared in threads and handed on in order, a bounded number ahead of their reader.

Knows iterables and files; must not know networks, what `load` does, or what becomes of its results.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from scalelib.errors import DataError
from scalelib.provenance import digest_bytes

T = TypeVar("T")


def as_images(
    images: Any, *, operation: str, allow_duplicates: bool = False
) -> tuple[Iterable[Any], int | None]:
    """Images as something to iterate over, and their number where it can be known.

    Parameters
    ----------
    images : ndarray of shape (n, height, width, 3), sequence or iterable of paths and arrays
        Sequences are checked for paths that occur twice; a one-shot iterator cannot be.
    operation : str
        Who asks; the first word of every message.
    allow_duplicates : bool, default=False
        Whether a path may occur twice.

    Returns
    -------
    images : iterable
    number : int or None

    Raises
    ------
    DataError
        If this is one image, empty, not iterable, or lists a file twice.

    Examples
    --------
    >>> as_images(np.zeros((2, 8, 8, 3), np.uint8), operation="extract")[1]
    2
    """
    what = (
        f"{operation}: images are an array (n, height, width, 3), a list of paths or arrays, or an iterator."
    )
    if isinstance(images, (str, os.PathLike)):
        raise DataError(
            f"{what}\nReceived: one path, {os.fspath(images)!r}.\n"
            "Write [path] for one image, or sorted(Path(folder).glob('*.jpg')) for a folder."
        )
    if isinstance(images, np.ndarray) and images.dtype.kind not in "OUS" and images.ndim != 4:
        raise DataError(
            f"{what}\nReceived: an array of shape {images.shape}.\n"
            "Write image[None] for one RGB image and stack[..., None] for a stack of grey ones."
        )
    if isinstance(images, dict) or not isinstance(images, Iterable):
        raise DataError(
            f"{what}\nReceived: {type(images).__name__}.\nOf a dataset, give its .images; of a dict, its values."
        )
    if not isinstance(images, Sized):
        return images, None
    number = len(images)
    if number == 0:
        raise DataError(f"{what}\nReceived: no image at all.\nCheck the pattern or the class filter.")
    if not allow_duplicates and not (isinstance(images, np.ndarray) and images.ndim == 4):
        paths = [os.path.realpath(one) for one in images if isinstance(one, (str, os.PathLike))]
        twice = [path for path, times in Counter(paths).items() if times > 1]
        if twice:
            names = ", ".join(Path(path).name for path in twice[:5])
            raise DataError(
                f"{operation}: an image listed twice would stand on both sides of a train/test split.\n"
                f"Received: {len(twice)} of {number} paths more than once: {names}{', …' * (len(twice) > 5)}.\n"
                "List each once, or give allow_duplicates=True and keep them together with groups=."
            )
    return images, number


def digest_image(image: Any) -> bytes:
    """SHA-256 of an image file's bytes, or of an array's dtype, shape and bytes.

    Examples
    --------
    >>> digest_image(np.zeros((4, 4))) == digest_image(np.zeros((2, 8)))
    False
    """
    if isinstance(image, np.ndarray):
        head = f"{image.dtype.str}{image.shape}".encode()
        return bytes.fromhex(digest_bytes([head, np.ascontiguousarray(image).tobytes()]))
    return hashlib.sha256(Path(image).read_bytes()).digest()


def describe_image(image: Any) -> str:
    """A path as it was given, or what kind of array it is; for messages."""
    if isinstance(image, (str, os.PathLike)):
        return os.fspath(image)
    return f"array of shape {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__


def stream(
    images: Iterable[Any], load: Callable[[int, Any], T], *, workers: int, ahead: int
) -> Generator[T, None, None]:
    """``load(row, image)`` of every image, in order, computed in threads.

    Parameters
    ----------
    images : iterable
        Drawn from in this thread, at most `ahead` images before the one handed on.
    load : callable
        Run in the threads; its exceptions come out here, at their image's turn.
    workers : int
        Number of threads.
    ahead : int
        Bound on what is loaded or being loaded and not handed on yet.

    Yields
    ------
    object
        What `load` returned.

    Examples
    --------
    >>> list(stream("abc", lambda row, letter: letter * row, workers=2, ahead=2))
    ['', 'b', 'cc']
    """
    pending: deque[Future[T]] = deque()
    pool = ThreadPoolExecutor(max_workers=workers)
    try:
        for row, image in enumerate(images):
            pending.append(pool.submit(load, row, image))
            if len(pending) >= ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
