"""What activations, measures, groups and options must be before anything is fitted to them: the door of the public API.

Knows arrays only. Checked once, at public entries.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from scalelib.errors import did_you_mean, refusing, require

MINIMUM_IMAGES = 5


def check_problem(
    acts: Mapping[str, Any], measures: Any, *, groups: Any = None, several: bool = False, operation: str
) -> tuple[dict[str, np.ndarray], Any, np.ndarray | None]:
    """Activations in their own dtype, measures as float64 and groups as codes, which belong together, or a refusal.

    `several`: measures by name, which may be the columns of a table or a matrix; a vector is named None.
    """
    named = {None: measures}
    if several and getattr(measures, "ndim", 1) == 2:
        named = dict(pd.DataFrame(measures).items())
        rule, received = "at least one measure is needed, each with a name of its own", np.shape(measures)
        require(0 < len(named) == received[1], operation, rule, f"shape {received}")
    named = {name: check_measures(y, name, operation=operation) for name, y in named.items()}
    arrays = check_activations(acts, len(measures), operation=operation)
    labels = check_labels(groups, len(measures), name="groups", operation=operation)
    return arrays, named if several else named[None], labels


def check_measures(measures: Any, name: Any, *, operation: str) -> np.ndarray:
    """A measure as a float64 vector of at least five finite values that are not all the same."""
    name = "measures" if name is None else f"measure {name!r}"
    y = _numbers(measures, operation, f"{name} must be real numbers").astype(np.float64)
    rule = f"{name} must be one number per image, a vector"
    require(y.ndim == 1, operation, rule, f"shape {y.shape}", "Pass one column at a time.")
    rule = f"at least {MINIMUM_IMAGES} images are needed for a held-out R²"
    require(len(y) >= MINIMUM_IMAGES, operation, rule, f"{len(y)} measures")
    _check_finite(y, name, operation)
    rule = f"{name} must vary, R² is undefined without variance"
    require(not is_constant(y), operation, rule, f"{len(y)} measures, all {y[0]:g}")
    return y


def check_activations(acts: Any, n_images: int | None, *, operation: str) -> dict[str, np.ndarray]:
    """Activations as finite two-dimensional arrays of `n_images` rows (None: as many as each other), in their own dtype."""
    rule = "activations must be a mapping from tap name to array"
    kind = type(acts).__name__
    require(isinstance(acts, Mapping), operation, rule, kind, "For a single array pass {'tap': array}.")
    require(acts, operation, "at least one tap is needed", "no activations")
    arrays = {}
    for tap, values in acts.items():
        X = _numbers(values, operation, f"activations of tap {tap!r} must be real numbers")
        rule = f"activations of tap {tap!r} must have shape (n_images, channels)"
        advice = "Pool feature maps first, as extract(pooling='avg') does."
        require(X.ndim == 2 and X.size, operation, rule, f"shape {X.shape}", advice)
        n_images = len(X) if n_images is None else n_images
        received = f"{len(X)} rows of activations and {n_images} measures"
        require(len(X) == n_images, operation, f"tap {tap!r} needs one row per measure", received)
        _check_finite(X, f"activations of tap {tap!r}", operation)
        arrays[str(tap)] = X
    return arrays


def _check_finite(values: np.ndarray, name: str, operation: str) -> None:
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        place = ", ".join(f"{axis} {i}" for axis, i in zip(("row", "channel"), bad[0], strict=False))
        received = f"{values[tuple(bad[0])]} in {place} ({len({*bad[:, 0]})} such rows of {len(values)})"
        advice = "Leave those images out, of activations and measures."
        require(False, operation, f"{name} must be finite", received, advice)


def check_labels(labels: Any, n_images: int, *, name: str, operation: str) -> np.ndarray | None:
    """One label per image (group, class) as integer codes, equal where labels are equal; None stays None."""
    if labels is None:
        return None
    array = np.asarray(labels)
    received = f"shape {array.shape} for {n_images} images"
    require(array.shape == (n_images,), operation, f"{name} must hold one label per image", received)
    missing = np.flatnonzero(pd.isna(array))
    received = f"none in row {missing[0] if len(missing) else 0} ({len(missing)} such rows)"
    require(not len(missing), operation, f"{name} must not have missing labels", received)
    return np.unique(array.astype(str) if array.dtype == object else array, return_inverse=True)[1]


def check_choice(value: Any, known: Iterable[str], *, name: str, operation: str) -> tuple[str, ...]:
    """One name or several, each of them known and none twice."""
    known = tuple(known)
    names = (value,) if isinstance(value, str) else tuple(value)
    for wanted in names:
        there = f"There are {', '.join(map(repr, known))}."
        advice = f"{did_you_mean(str(wanted), known)} {there}".strip()
        require(wanted in known, operation, f"unknown {name} {wanted!r}", repr(value), advice)
    once = bool(names) and len(set(names)) == len(names)
    require(once, operation, f"each {name} once, and at least one", repr(value))
    return names


def check_count(value: Any, *, name: str, operation: str, minimum: int = 1) -> int:
    """A whole number of at least `minimum`."""
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    rule = f"{name} must be a whole number of at least {minimum}"
    require(whole and value >= minimum, operation, rule, repr(value))
    return int(value)


def is_constant(values: np.ndarray) -> np.ndarray:
    """Whether the values of a vector, or of each column, are all the same, up to the rounding of float64."""
    return np.asarray(np.ptp(values, axis=0) <= 1e-12 * np.abs(values).max(axis=0))


def _numbers(values: Any, operation: str, rule: str) -> np.ndarray:
    with refusing(operation, rule, type(values).__name__):
        array = np.asarray(values)  # ragged rows are a ValueError
        array = array.astype(np.float64) if array.dtype == object else array
    require(array.dtype.kind in "fiub", operation, rule, f"dtype {array.dtype}")
    return array if array.dtype.kind == "f" else array.astype(np.float64)
