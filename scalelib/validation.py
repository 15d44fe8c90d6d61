"""What activations, measures and groups must be before anything is fitted to them.

Knows arrays only. Every refusal names the rule, what was received and what would work.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from scalelib.errors import DataError, did_you_mean

MINIMUM_IMAGES = 5


def check_problem(
    acts: Mapping[str, Any], measures: Any, *, groups: Any = None, operation: str
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray | None]:
    """Activations, measures and groups as arrays that belong together, or a refusal.

    Parameters
    ----------
    acts : mapping of str to array_like, shape (n_images, channels)
        Pooled activations per tap.
    measures : array_like, shape (n_images,)
        One concept measure per image.
    groups : array_like, shape (n_images,), optional
        The patient, slide or source image that each row belongs to.
    operation : str
        Whose name the error carries.

    Returns
    -------
    tuple of dict of str to ndarray, ndarray of float64, ndarray or None
        Activations in their own dtype, measures, groups.

    Raises
    ------
    DataError
        If lengths differ, there are fewer than five images, the measures are constant, or
        anything is NaN or infinite.

    Examples
    --------
    >>> acts, y, groups = check_problem({"tap": np.eye(5)}, range(5), operation="example")
    >>> y.dtype, acts["tap"].shape
    (dtype('float64'), (5, 5))
    """
    y = check_measures(measures, operation=operation)
    return (
        check_activations(acts, len(y), operation=operation),
        y,
        check_labels(groups, len(y), name="groups", operation=operation),
    )


def check_measures(measures: Any, *, operation: str) -> np.ndarray:
    """Measures as a float64 vector of at least five finite values that are not all the same.

    Parameters
    ----------
    measures : array_like, shape (n_images,)
        One concept measure per image.
    operation : str
        Whose name the error carries.

    Returns
    -------
    ndarray of float64, shape (n_images,)

    Raises
    ------
    DataError
        If a rule is broken.

    Examples
    --------
    >>> check_measures([1, 2, 3, 4, 5], operation="example")
    array([1., 2., 3., 4., 5.])
    """
    y = _numbers(measures, f"{operation}: measures must be real numbers").astype(np.float64)
    if y.ndim != 1:
        raise DataError(
            f"{operation}: measures must be one number per image, a vector.\n"
            f"Received: shape {y.shape}.\nPass one column at a time."
        )
    if len(y) < MINIMUM_IMAGES:
        raise DataError(
            f"{operation}: at least {MINIMUM_IMAGES} images are needed for a held-out R².\n"
            f"Received: {len(y)} measures."
        )
    if not np.isfinite(y).all():
        bad = np.flatnonzero(~np.isfinite(y))
        raise DataError(
            f"{operation}: measures must be finite.\n"
            f"Received: {y[bad[0]]} in row {bad[0]} ({len(bad)} such rows of {len(y)}).\n"
            "Leave those images out, of the activations as well."
        )
    if is_constant(y):
        raise DataError(
            f"{operation}: measures must vary, R² is undefined without variance.\n"
            f"Received: {len(y)} measures, all {y[0]:g}."
        )
    return y


def check_activations(acts: Any, n_images: int, *, operation: str) -> dict[str, np.ndarray]:
    """Activations as finite two-dimensional arrays with one row per image.

    Parameters
    ----------
    acts : mapping of str to array_like, shape (n_images, channels)
        Pooled activations per tap.
    n_images : int
        How many rows there must be.
    operation : str
        Whose name the error carries.

    Returns
    -------
    dict of str to ndarray
        In the order received, each in its own floating dtype.

    Raises
    ------
    DataError
        If a rule is broken; tap and row are named.

    Examples
    --------
    >>> check_activations({"tap": [[1.0], [2.0]]}, 2, operation="example")["tap"].shape
    (2, 1)
    """
    if not isinstance(acts, Mapping):
        raise DataError(
            f"{operation}: activations must be a mapping from tap name to array.\n"
            f"Received: {type(acts).__name__}.\nFor a single array pass {{'tap': array}}."
        )
    if not acts:
        raise DataError(f"{operation}: at least one tap is needed.\nReceived: no activations.")
    return {str(tap): _check_tap(tap, acts[tap], n_images, operation) for tap in acts}


def check_labels(labels: Any, n_images: int, *, name: str, operation: str) -> np.ndarray | None:
    """One label per image (group, class) as an array, or None.

    Parameters
    ----------
    labels : array_like, shape (n_images,), optional
        Labels of any one type; missing values are refused.
    n_images : int
        How many there must be.
    name : str
        What they are called in the error.
    operation : str
        Whose name the error carries.

    Returns
    -------
    ndarray or None
        Integer codes, equal where labels are equal.

    Raises
    ------
    DataError
        If the length differs or a label is missing.

    Examples
    --------
    >>> check_labels(["b", "a", "b"], 3, name="groups", operation="example")
    array([1, 0, 1])
    """
    if labels is None:
        return None
    array = np.asarray(labels)
    if array.ndim != 1 or len(array) != n_images:
        raise DataError(
            f"{operation}: {name} must hold one label per image.\n"
            f"Received: shape {array.shape} for {n_images} images."
        )
    missing = [i for i, label in enumerate(array.tolist()) if label is None or label != label]
    if missing:
        raise DataError(
            f"{operation}: {name} must not have missing labels.\n"
            f"Received: none in row {missing[0]} ({len(missing)} such rows)."
        )
    return np.unique(array.astype(str) if array.dtype == object else array, return_inverse=True)[1]


def check_choice(value: Any, known: Iterable[str], *, name: str, operation: str) -> tuple[str, ...]:
    """One name or several, each of them known and none twice.

    Parameters
    ----------
    value : str or sequence of str
        What was asked for.
    known : iterable of str
        What there is.
    name : str
        What such a thing is called in the error.
    operation : str
        Whose name the error carries.

    Returns
    -------
    tuple of str

    Raises
    ------
    DataError
        If a name is unknown (with near matches), given twice, or none is given.

    Examples
    --------
    >>> check_choice("ols", ["ols", "ridge"], name="estimator", operation="example")
    ('ols',)
    """
    known = tuple(known)
    names = (value,) if isinstance(value, str) else tuple(value)
    for wanted in names:
        if wanted not in known:
            hint = did_you_mean(str(wanted), known)
            raise DataError(
                f"{operation}: unknown {name} {wanted!r}.\nReceived: {value!r}.\n"
                f"{hint + ' ' if hint else ''}There are {', '.join(map(repr, known))}."
            )
    if not names or len(set(names)) < len(names):
        raise DataError(f"{operation}: each {name} once, and at least one.\nReceived: {value!r}.")
    return names


def check_count(value: Any, *, name: str, operation: str, minimum: int = 1) -> int:
    """A whole number of at least `minimum`.

    Parameters
    ----------
    value : int
        The number received.
    name : str
        What it is called in the error.
    operation : str
        Whose name the error carries.
    minimum : int, default=1
        The least that makes sense.

    Returns
    -------
    int

    Raises
    ------
    DataError
        If it is no whole number, or smaller.

    Examples
    --------
    >>> check_count(np.int64(10), name="repeats", operation="example")
    10
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < minimum:
        raise DataError(
            f"{operation}: {name} must be a whole number of at least {minimum}.\nReceived: {value!r}."
        )
    return int(value)


def is_constant(values: np.ndarray) -> bool:
    """Whether values are all the same, up to the rounding of float64.

    Parameters
    ----------
    values : ndarray of float64
        At least one value.

    Returns
    -------
    bool

    Examples
    --------
    >>> is_constant(np.array([0.1 + 0.2, 0.3])), is_constant(np.array([0.0, 1e-300]))
    (True, False)
    """
    return bool(np.ptp(values) <= 1e-12 * np.abs(values).max())


def _check_tap(tap: str, values: Any, n_images: int, operation: str) -> np.ndarray:
    X = _numbers(values, f"{operation}: activations of tap {tap!r} must be real numbers")
    if X.ndim != 2 or X.shape[1] == 0:
        raise DataError(
            f"{operation}: activations of tap {tap!r} must have shape (n_images, channels).\n"
            f"Received: shape {X.shape}.\nPool feature maps first, as extract(pooling='avg') does."
        )
    if len(X) != n_images:
        raise DataError(
            f"{operation}: tap {tap!r} needs one row per measure.\n"
            f"Received: {len(X)} rows of activations and {n_images} measures."
        )
    if not np.isfinite(X).all():
        rows = np.flatnonzero(~np.isfinite(X).all(axis=1))
        column = np.flatnonzero(~np.isfinite(X[rows[0]]))[0]
        raise DataError(
            f"{operation}: activations must be finite.\n"
            f"Received: {X[rows[0], column]} in tap {tap!r}, row {rows[0]}, channel {column} "
            f"({len(rows)} such rows of {n_images})."
        )
    return X


def _numbers(values: Any, rule: str) -> np.ndarray:
    try:
        array = np.asarray(values)
    except ValueError as error:  # ragged rows
        raise DataError(f"{rule}.\nReceived: {error}.") from error
    if array.dtype == object:
        try:
            array = array.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise DataError(f"{rule}.\nReceived: {error}.") from error
    if array.dtype.kind not in "fiub":
        raise DataError(f"{rule}.\nReceived: dtype {array.dtype}.")
    return array if array.dtype.kind == "f" else array.astype(np.float64)
