"""The comparisons of section 4.3, network by network: equal width, permutation, the choice of a tap and its sensitivity.

Here the parts meet: activations that were read are regressed. What the parts do is theirs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from scalelib.permutation import permutation_test
from scalelib.projection import random_projection
from scalelib.study_reading import Reading, example_rows, layerwise_by_class, read_networks, taps_read
from scalelib.tap_choice import OUTPUT_TAPS, best_layer, choose_and_report

__all__ = [
    "Reading",
    "Sensitivity",
    "choose_taps",
    "equal_width",
    "example_rows",
    "layerwise_by_class",
    "permutation_by_network",
    "read_networks",
    "sensitivity_of_choice",
    "taps_read",
]


def equal_width(
    readings: Iterable[Reading],
    table: pd.DataFrame,
    *,
    width: int,
    draws: int = 3,
    random_state: int = 0,
    **options: Any,
) -> pd.DataFrame:
    """Layer-wise R² of every tap after a random projection to one common width.

    Parameters
    ----------
    readings : iterable of Reading
    table : pandas.DataFrame
        One row per image.
    width : int
        Common number of dimensions; narrower taps stay as they are.
    draws : int, default=3
        Number of projections, each regressed on the same splits.
    random_state : int, default=0
        Seed of splits and projections.
    **options
        Further options of :func:`layerwise_by_class`.

    Returns
    -------
    pandas.DataFrame
        As :func:`layerwise_by_class`, with the labels of each reading, ``draw`` and ``width``; ridge and the square root of
        the area ratio, in the ``true`` condition.
    """
    parts = []
    for reading in readings:
        for draw in range(draws):
            acts = random_projection(
                reading.activations, width, random_state=random_state + draw, narrow="keep"
            )
            part = layerwise_by_class(
                acts, table, measures=["sqrt_area_ratio"], estimators=["ridge"], conditions="true",
                random_state=random_state, **options,
            )  # fmt: skip
            parts.append(part.assign(**reading.labels, draw=draw, width=part.channels))
    return pd.concat(parts, ignore_index=True)


def permutation_by_network(
    readings: Iterable[Reading], table: pd.DataFrame, *, measure: str = "sqrt_area_ratio", **options: Any
) -> pd.DataFrame:
    """Permutation test of every tap of each network, the measure permuted within each class.

    Parameters
    ----------
    readings : iterable of Reading
    table : pandas.DataFrame
        One row per image.
    measure : str, default="sqrt_area_ratio"
    **options
        Further options of :func:`scalelib.permutation.permutation_test`.

    Returns
    -------
    pandas.DataFrame
        As :func:`scalelib.permutation.permutation_test`, with ``network`` and ``weights``.
    """
    parts = []
    for reading in readings:
        labels = reading.labels
        part = permutation_test(
            reading.activations, table[measure], strata=table.object_class, per_stratum=True, **options
        )
        part.insert(0, "network", labels["network"])
        part.insert(1, "weights", labels["weights"])
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def choose_taps(
    readings: Iterable[Reading], table: pd.DataFrame, *, measure: str = "sqrt_area_ratio", **options: Any
) -> pd.DataFrame:
    """The tap that the pruning rule picks on each half of the images, with its R² on the other.

    Parameters
    ----------
    readings : iterable of Reading
    table : pandas.DataFrame
        One row per image.
    measure : str, default="sqrt_area_ratio"
    **options
        Further options of :func:`scalelib.tap_choice.choose_and_report`.

    Returns
    -------
    pandas.DataFrame
        One row per network, weights and half: ``tap``, ``depth`` (0 first, 1 last of the feature taps), and means over classes of
        ``r2_choose`` (the half that chose), ``r2_report`` (the other) and ``r2_report_best`` (the best tap there).
    """
    parts = []
    for reading in readings:
        report = choose_and_report(reading.activations, table[measure], classes=table.object_class, **options)
        means = report.groupby(["half", "tap"], as_index=False)[
            ["r2_choose", "r2_report", "r2_report_best"]
        ].mean()
        means.insert(2, "depth", [_depth(reading, tap) for tap in means.tap])
        means.insert(0, "network", reading.labels["network"])
        means.insert(1, "weights", reading.labels["weights"])
        parts.append(means)
    return pd.concat(parts, ignore_index=True)


@dataclass(frozen=True)
class Sensitivity:
    """All regressions behind a comparison of choices, and the tap that each of them picks."""

    r2: pd.DataFrame
    choice: pd.DataFrame


def sensitivity_of_choice(
    readings: Iterable[Reading],
    table: pd.DataFrame,
    *,
    measures: Sequence[str],
    estimators: Sequence[str],
    **options: Any,
) -> Sensitivity:
    """Which tap each measure, estimator and class would choose (appendix A.1).

    Parameters
    ----------
    readings : iterable of Reading
    table : pandas.DataFrame
        One row per image.
    measures, estimators : sequence of str
    **options
        Further options of :func:`layerwise_by_class`.

    Returns
    -------
    Sensitivity
        ``r2``: rows as of :func:`layerwise_by_class` with the readings' labels. ``choice``: one row per network, weights, measure,
        estimator and class (``"mean"``: the rule's mean over classes), with ``tap``, ``depth`` and ``r2_test``.
    """
    parts, choices = [], []
    for reading in readings:
        labels = {key: reading.labels[key] for key in ("network", "weights")}
        part = layerwise_by_class(
            reading.activations, table, measures=measures, estimators=estimators, conditions="true", **options
        )
        parts.append(part.assign(**reading.labels))
        for (measure, estimator), rows in part.groupby(["measure", "estimator"], sort=False):
            for name in [*sorted(rows.object_class.unique()), "mean"]:
                of_class = rows if name == "mean" else rows[rows.object_class == name]
                tap = best_layer(of_class, estimator=estimator, measure=measure)
                choices.append(
                    {
                        **labels,
                        "measure": measure,
                        "estimator": estimator,
                        "object_class": name,
                        "tap": tap,
                        "depth": _depth(reading, tap),
                        "r2_test": of_class.r2_test[of_class.tap == tap].mean(),
                    }
                )
    return Sensitivity(pd.concat(parts, ignore_index=True), pd.DataFrame(choices))


def _depth(reading: Reading, tap: str) -> float:
    """0 for the first feature tap, 1 for the last."""
    features = [name for name in reading.activations if name not in OUTPUT_TAPS]
    return features.index(tap) / max(len(features) - 1, 1)
