"""What a person is told: the one exception family, the form of its messages, and progress bars where somebody sees them."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm


class ScalelibError(ValueError):
    """Base of every error that scalelib raises on purpose."""


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
        said = [f"{operation}: {rule}", f"Received: {received}" if received is not None else "", advice]
        raise error("\n".join(line if line.endswith(("?", ".")) else f"{line}." for line in said if line))


def did_you_mean(wanted: str, known: Iterable[str]) -> str:
    """A hint that names close matches, or an empty string."""
    known = list(known)
    lowered = {name.lower(): name for name in known}
    close = difflib.get_close_matches(wanted.lower(), lowered, n=3, cutoff=0.6)
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
