"""What a person is told: the one exception family, the form of its messages, and progress bars where somebody sees them."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TextIO, TypeVar

from tqdm import tqdm

# Of a message are shown this many lines, of each this many characters: what was received may be long.
LINES, WIDTH = 60, 2000


class ScalelibError(ValueError):
    """Base of every error that scalelib raises on purpose."""

    def __init__(self, message: str) -> None:
        lines = message.split("\n")[:LINES]
        super().__init__("\n".join(line if len(line) <= WIDTH else f"{line[:WIDTH]} …" for line in lines))


class DataError(ScalelibError):
    """An image, an annotation, a slide or a measure breaks a rule."""


class WeightsError(ScalelibError):
    """A weight file is missing, truncated, or made for another network."""


class NetworkError(ScalelibError):
    """A network, layer or tap is unknown or of a kind that cannot be used."""


class ResultsError(ScalelibError):
    """A result, its card, a profile or a claim is missing, malformed or inconsistent."""


def require(
    ok: object,
    operation: str,
    rule: str,
    received: object = None,
    advice: str = "",
    *,
    error: type[ScalelibError] = DataError,
) -> None:
    """Raise `error` unless `ok`, in the form of all messages: operation and rule, what was received, what would work."""
    if not ok:
        raise error(_said(operation, rule, received, advice))


def _said(operation: str, rule: str, received: object, advice: str) -> str:
    said = [f"{operation}: {rule}", f"Received: {received}" if received is not None else "", advice]
    return "\n".join(line if line.endswith(("?", ".")) else f"{line}." for line in said if line)


@contextmanager
def refusing(
    operation: str,
    rule: str,
    received: object,
    advice: str = "",
    *,
    error: type[ScalelibError] = DataError,
    causes: type[Exception] = Exception,
) -> Iterator[None]:
    """Make one `error` of whatever the block raises: a damaged file raises nearly every class there is."""
    try:
        yield
    except causes as cause:
        raise error(_said(operation, rule, f"{received}; {brief(cause)}", advice)) from cause


def brief(error: Exception) -> str:
    """An error of a library on one line."""
    return f"{type(error).__name__}: {' '.join(str(error)[:3000].split())[:300]}"


def did_you_mean(wanted: str, known: Iterable[str]) -> str:
    """A hint that names close matches, or an empty string."""
    lowered = {name.lower(): name for name in known}
    close = [] if wanted in lowered.values() else difflib.get_close_matches(wanted.lower(), lowered)
    close = sorted({lowered[name] for name in close}, key=lambda name: (abs(len(name) - len(wanted)), name))
    return f"Did you mean {' or '.join(map(repr, close))}?" if close else ""


def reason(error: ScalelibError) -> str:
    """The rule that was broken, without the operation, for a line that names the image itself."""
    return str(error).splitlines()[0].rstrip(".").split(": ", 1)[-1]


T = TypeVar("T")


def track(items: Iterable[T], *, label: str, total: int | None = None, unit: str = "it") -> Iterator[T]:
    """Iterate over items with a progress bar where somebody can see it."""
    quiet = bool(os.environ.get("CI")) or not sys.stderr.isatty()
    yield from tqdm(items, desc=label, total=total, unit=unit, disable=quiet, leave=False)


def say(text: object, *, file: TextIO | None = None) -> None:
    """Print a line, at once and above whatever progress bar is shown."""
    tqdm.write(str(text), file=file or sys.stdout)
    (file or sys.stdout).flush()
