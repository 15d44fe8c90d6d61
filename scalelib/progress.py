"""Progress bars: shown in a terminal, silent in notebooks, CI and pipes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")


def track(items: Iterable[T], *, label: str, total: int | None = None, unit: str = "it") -> Iterator[T]:
    """Iterate over items with a progress bar where somebody can see it.

    Parameters
    ----------
    items : iterable
        What to iterate over.
    label : str
        Words in front of the bar.
    total : int, optional
        Number of items, where ``len(items)`` is not to be had.
    unit : str, default="it"
        What is counted.

    Yields
    ------
    object
        The items, unchanged.

    Examples
    --------
    >>> list(track([1, 2], label="counting"))
    [1, 2]
    """
    quiet = bool(os.environ.get("CI")) or not sys.stderr.isatty()
    yield from tqdm(items, desc=label, total=total, unit=unit, disable=quiet, leave=False)
