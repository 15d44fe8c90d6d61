"""Whether scale is read better at a chosen tap than at the ends of the network, told on other images.

Knows arrays and tables only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from scalelib.channel_relation import holm
from scalelib.errors import DataError, did_you_mean
from scalelib.projection import random_projection
from scalelib.regression import layerwise_r2
from scalelib.statistics import compare_taps
from scalelib.tap_choice import OUTPUT_TAPS, best_layer
from scalelib.validation import check_problem

ALL_CLASSES = "mean over classes"


def central_peak(
    acts: Mapping[str, Any],
    measures: Any,
    *,
    classes: Any,
    references: Sequence[str] | None = None,
    repeats: int = 10,
    draws: int = 5,
    random_state: int = 0,
) -> pd.DataFrame:
    """The tap chosen on half of the images against reference taps on the other half, and swapped.

    Parameters
    ----------
    acts : mapping of str to array_like, shape (n_images, channels)
        Pooled activations per tap, finite, in the order of the network.
    measures : array_like, shape (n_images,)
        One concept measure per image.
    classes : array_like, shape (n_images,)
        Object classes; each is halved, regressed and compared by itself, and their mean beside them.
    references : sequence of str, optional
        Taps to compare with. Default: the first, the last before the classifier, ``pre_softmax`` and
        ``softmax``, as far as there are such.
    repeats : int, default=10
        Splits within each half.
    draws : int, default=5
        Random projections to the smaller of two widths; their mean is compared.
    random_state : int, default=0
        Seed.

    Returns
    -------
    pandas.DataFrame
        One row per half, reference, matching and class: ``half`` (1, 2: the half that chose),
        ``tap`` (chosen), ``reference``, ``matching`` (``"own width"`` or ``"equal width"``), ``width`` (of the
        narrower tap), ``object_class`` (and ``"mean over classes"``), ``mean_difference`` of held-out
        R² (tap − reference), ``low``, ``high``, ``p`` (corrected paired t test) and ``p_holm``,
        corrected for all references, matchings and both halves of the same class. No row where the
        chosen tap is the reference itself.

    Raises
    ------
    DataError
        As :func:`scalelib.regression.layerwise_r2`; if a reference is no tap.

    Notes
    -----
    Ridge regression. A narrow output loses to a wide layer by its width alone; at equal width
    both are projected at random to the width of the narrower. Nadeau and Bengio 2003 for the test.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = rng.uniform(size=160)
    >>> acts = {"a": rng.normal(size=(160, 8)), "b": y[:, None] + rng.normal(size=(160, 8)) / 9}
    >>> table = central_peak(acts, y, classes=["disc"] * 160, repeats=3, draws=1)
    >>> bool((table.query("reference == 'a'").p_holm < 0.05).all())
    True
    """
    arrays, y, _ = check_problem(acts, measures, groups=None, operation="central_peak")
    labels = np.asarray(classes).astype(str)
    compared = _references(list(arrays), references)
    first = _half(labels, np.random.default_rng([random_state, 4]))
    parts = []
    for half, chooses in ((1, first), (2, ~first)):
        tap = best_layer(_by_class(arrays, y, labels, chooses, repeats, random_state))
        for reference in compared:
            if reference == tap:
                continue
            pair = {name: arrays[name] for name in arrays if name in (tap, reference)}
            width = min(X.shape[1] for X in pair.values())
            projected = [
                random_projection(pair, width, random_state=random_state + 1_000_003 * draw)
                for draw in range(draws)
            ]
            for matching, versions in (("own width", [pair]), ("equal width", projected)):
                tables = [_by_class(v, y, labels, ~chooses, repeats, random_state) for v in versions]
                table = pd.concat([part.assign(draw=draw) for draw, part in enumerate(tables)])
                apart = compare_taps(table, tap, reference, by=["object_class"])
                together = compare_taps(table, tap, reference, by=[]).assign(object_class=ALL_CLASSES)
                part = pd.concat([apart, together]).rename(columns={"a": "tap", "b": "reference"})
                parts.append(part.assign(half=half, matching=matching, width=width))
    result = pd.concat(parts, ignore_index=True)
    result["p_holm"] = result.groupby("object_class")["p"].transform(lambda p: holm(p.to_numpy()))
    columns = ["half", "tap", "reference", "matching", "width", "object_class"]
    return result[[*columns, "mean_difference", "low", "high", "p", "p_holm"]]


def _references(taps: list[str], wanted: Sequence[str] | None) -> list[str]:
    if wanted is None:
        inner = [tap for tap in taps if tap not in OUTPUT_TAPS]
        return list(dict.fromkeys([inner[0], inner[-1], *(tap for tap in taps if tap in OUTPUT_TAPS)]))
    for tap in wanted:
        if tap not in taps:
            raise DataError(
                f"central_peak: no tap {tap!r}.\nReceived: references={list(wanted)}.\n"
                f"{did_you_mean(tap, taps)} Taps are {', '.join(taps)}."
            )
    return list(wanted)


def _half(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A mask of half of each class."""
    first = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        first[rows[: len(rows) // 2]] = True
    return first


def _by_class(
    arrays: Mapping[str, np.ndarray],
    y: np.ndarray,
    labels: np.ndarray,
    among: np.ndarray,
    repeats: int,
    random_state: int,
) -> pd.DataFrame:
    parts = []
    for label in np.unique(labels):
        rows = among & (labels == label)
        part = layerwise_r2(
            {tap: X[rows] for tap, X in arrays.items()},
            y[rows],
            repeats=repeats,
            conditions="true",
            random_state=random_state,
        )
        parts.append(part.assign(object_class=label))
    return pd.concat(parts, ignore_index=True)
