"""What predictions and activations make of one and the same image at several sizes or scales.

Section 4.1 of the paper is at hand by its title only; the measures are ours. Knows arrays of activations;
knows nothing of images or networks.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from scalelib.covariance import variance_explained_by_scale
from scalelib.errors import DataError

Activations = Mapping[float, Mapping[str, np.ndarray]]
"""Activations of the same images by factor and tap."""


def total_variation(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Total variation distance between rows of probabilities: half the sum of absolute differences.

    Parameters
    ----------
    p, q : ndarray, shape (n, classes)
        Rows that sum to one.

    Returns
    -------
    ndarray of float, shape (n,)
        0 for equal rows, 1 for rows without a common class.

    Examples
    --------
    >>> total_variation(np.array([[1.0, 0.0]]), np.array([[0.25, 0.75]])).tolist()
    [0.75]
    """
    return 0.5 * np.abs(np.asarray(p, dtype=float) - np.asarray(q, dtype=float)).sum(axis=1)


def cosine_to_reference(values: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Cosine between each image's activations and the same image's at the reference size.

    The mean activation over images at the reference size is taken off both, so that two pictures of
    different things score about 0 although all activations after a ReLU are positive.

    Parameters
    ----------
    values, reference : ndarray, shape (n, channels)
        Activations of the same images.

    Returns
    -------
    ndarray of float, shape (n,)
        In [−1, 1]; NaN where a centred activation vanishes.

    Examples
    --------
    >>> reference = np.array([[1.0, 0.0], [0.0, 1.0]])
    >>> cosine_to_reference(reference[::-1], reference).round(6).tolist()
    [-1.0, -1.0]
    """
    centre = np.mean(reference, axis=0, dtype=float)
    a, b = values - centre, reference - centre
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.divide((a * b).sum(axis=1), norms, out=np.full(len(a), np.nan), where=norms > 0)


def predictions_by_factor(
    acts: Activations,
    *,
    reference: float = 1.0,
    labels: np.ndarray | None = None,
    tap: str = "softmax",
) -> pd.DataFrame:
    """How far predictions at each factor are from those at the reference.

    Parameters
    ----------
    acts : mapping of float to mapping of str to ndarray, shape (n, channels)
        Activations of the same images by factor and tap.
    reference : float, default=1.0
        The factor to compare with.
    labels : ndarray of int, shape (n,), optional
        True classes, −1 where unknown.
    tap : str, default="softmax"
        The tap that holds probabilities.

    Returns
    -------
    pandas.DataFrame
        One row per factor: ``factor``, ``n``, ``agreement`` (share of images with the reference's top-1
        class), ``agreement_low`` and ``agreement_high`` (Wilson's 95 % interval), ``total_variation`` (mean)
        and ``accuracy`` (NaN without labels).

    Raises
    ------
    DataError
        If the reference or the tap is missing.

    Examples
    --------
    >>> sure = {"softmax": np.eye(4)}
    >>> predictions_by_factor({1.0: sure, 2.0: sure}).agreement.tolist()
    [1.0, 1.0]
    """
    _check_reference(acts, reference)
    if tap not in acts[reference]:
        raise DataError(
            f"predictions_by_factor: no tap {tap!r}.\nReceived: {', '.join(acts[reference])}.\n"
            "A network without a classifier has no predictions: compare its activations."
        )
    target = acts[reference][tap]
    rows = []
    for factor in sorted(acts):
        probabilities = acts[factor][tap]
        same = probabilities.argmax(axis=1) == target.argmax(axis=1)
        low, high = _wilson(int(same.sum()), len(same))
        row = {"factor": factor, "n": len(same), "agreement": same.mean()}
        row |= {"agreement_low": low, "agreement_high": high}
        row |= {"total_variation": total_variation(probabilities, target).mean(), "accuracy": np.nan}
        if labels is not None:
            known = np.asarray(labels) >= 0
            row["accuracy"] = (probabilities.argmax(axis=1) == labels)[known].mean()
        rows.append(row)
    return pd.DataFrame(rows)


def _check_reference(acts: Activations, reference: float) -> None:
    if reference not in acts or len(acts) < 2:
        raise DataError(
            "resizing: two factors at least, one of them the reference.\n"
            f"Received: factors {sorted(acts)}, reference={reference}.\nRead the images at the reference too."
        )


def _wilson(successes: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    share = successes / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return centre - half, centre + half


def activations_by_factor(acts: Activations, *, reference: float = 1.0) -> pd.DataFrame:
    """Cosine of each tap's activations to the same images' at the reference, for each factor.

    Parameters
    ----------
    acts : mapping of float to mapping of str to ndarray, shape (n, channels)
        Activations of the same images by factor and tap.
    reference : float, default=1.0
        The factor to compare with.

    Returns
    -------
    pandas.DataFrame
        ``tap``, ``factor``, ``cosine``: see :func:`cosine_to_reference`, averaged over the images that
        have one; NaN where none has, as at a tap that gives all images the same values.

    Examples
    --------
    >>> acts = {1.0: {"tap": np.eye(3)}, 2.0: {"tap": 2 * np.eye(3)}}
    >>> activations_by_factor(acts).cosine.round(2).tolist()
    [1.0, 0.94]
    """
    _check_reference(acts, reference)
    rows = [
        {
            "tap": tap,
            "factor": factor,
            "cosine": pd.Series(cosine_to_reference(acts[factor][tap], target)).mean(),
        }
        for tap, target in acts[reference].items()
        for factor in sorted(acts)
    ]
    return pd.DataFrame(rows)


def variance_by_factor(acts: Activations) -> pd.DataFrame:
    """Share of each tap's variance, over images and factors, that the factor alone explains.

    Parameters
    ----------
    acts : mapping of float to mapping of str to ndarray, shape (n, channels)
        Activations of the same images by factor and tap.

    Returns
    -------
    pandas.DataFrame
        ``tap``, ``variance_explained``: see :func:`scalelib.covariance.variance_explained_by_scale`. 0 for a
        tap that does not notice the factor, 1 for one that holds nothing else.

    Examples
    --------
    >>> images = np.arange(4.0)[:, None]
    >>> acts = {k: {"invariant": images, "covariant": np.full((4, 1), k)} for k in (0.5, 1.0, 2.0)}
    >>> variance_by_factor(acts).variance_explained.tolist()
    [0.0, 1.0]
    """
    factors = sorted(acts)
    n = len(next(iter(acts[factors[0]].values())))
    scene, factor = np.tile(np.arange(n), len(factors)), np.repeat(factors, n)
    stacked = {tap: np.concatenate([acts[k][tap] for k in factors]) for tap in acts[factors[0]]}
    return variance_explained_by_scale(stacked, scene, factor)
