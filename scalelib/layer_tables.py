"""Summaries of the layer-wise table: curves with intervals, comparisons, the figure's units.

Knows tables only; a study's labels are ``network``, ``weights``, ``weights_seed``, ``object_class``, ``measure``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from scalelib.layer_answer import answer
from scalelib.statistics import summarize

__all__ = [
    "CURVES",
    "Published",
    "answer",
    "curve_name",
    "curves",
    "estimators_beside",
    "published_curves",
    "scale_histogram",
    "width_beside",
]

CURVES = {"imagenet": "ImageNet weights", "random": "random weights", "shuffled": "shuffled measures"}


def curve_name(weights: str, *, condition: str = "true") -> str:
    """What a curve is called in legends.

    Parameters
    ----------
    weights : str
        ``"imagenet"``, ``"random"``, or what a trained network was trained on.
    condition : {"true", "shuffled"}, default="true"

    Returns
    -------
    str

    Examples
    --------
    >>> curve_name("imagenet"), curve_name("one scale"), curve_name("imagenet", condition="shuffled")
    ('ImageNet weights', 'trained at one scale', 'shuffled measures')
    """
    if condition == "shuffled":
        return CURVES["shuffled"]
    return CURVES.get(weights, f"trained at {weights}")


def curves(
    table: pd.DataFrame, *, estimator: str = "ridge", measure: str = "sqrt_area_ratio", by: Sequence[str] = ()
) -> pd.DataFrame:
    """Mean held-out R² per network, curve and tap, with its interval.

    Parameters
    ----------
    table : pandas.DataFrame
        The study's table, one row per tap × repeat × condition × class × measure × weights.
    estimator : str, default="ridge"
    measure : str, default="sqrt_area_ratio"
    by : sequence of str, default=()
        Further labels to keep apart, such as ``object_class``; others are averaged over.

    Returns
    -------
    pandas.DataFrame
        Columns ``network, weights, curve``, those of `by`, ``tap, depth`` (0 first tap, 1 last), and those of
        :func:`scalelib.statistics.summarize`. For random weights the weight seed is the unit; else the
        repeat, with the variance corrected for overlapping splits.

    Examples
    --------
    >>> rows = [{"network": "n", "weights": "imagenet", "weights_seed": -1, "object_class": "bird", "tap": tap,
    ...          "measure": "sqrt_area_ratio", "estimator": "ridge", "condition": "true", "repeat": r,
    ...          "n_train": 70, "n_test": 30, "r2_test": 0.5} for tap in "ab" for r in range(3)]
    >>> curves(pd.DataFrame(rows))[["curve", "tap", "depth", "mean"]].to_dict("records")[1]
    {'curve': 'ImageNet weights', 'tap': 'b', 'depth': 1.0, 'mean': 0.5}
    """
    rows = table[(table.estimator == estimator) & (table.measure == measure)]
    keys = ["network", "weights", "condition", *by, "tap"]
    parts = [
        summarize(part, by=keys, unit="weights_seed" if weights == "random" else "repeat")
        for (_, weights), part in rows.groupby(["network", "weights"], sort=False)
    ]
    summary = pd.concat(parts, ignore_index=True)
    names = [curve_name(w, condition=c) for w, c in zip(summary.weights, summary.condition, strict=True)]
    summary.insert(2, "curve", names)
    summary.insert(summary.columns.get_loc("tap") + 1, "depth", _depth(summary))
    return summary.drop(columns="condition")


def _depth(summary: pd.DataFrame) -> np.ndarray:
    depth = np.empty(len(summary))
    for _, rows in summary.groupby("network").indices.items():
        taps = list(dict.fromkeys(summary.tap.iloc[rows]))
        depth[rows] = [taps.index(tap) / max(len(taps) - 1, 1) for tap in summary.tap.iloc[rows]]
    return depth


def scale_histogram(table: pd.DataFrame, *, measure: str = "sqrt_area_ratio", bins: int = 20) -> pd.DataFrame:
    """How many images of each class have which object scale.

    Parameters
    ----------
    table : pandas.DataFrame
        One row per image, with ``object_class`` and the measure, in (0, 1].
    measure : str, default="sqrt_area_ratio"
    bins : int, default=20
        Bins of equal width between 0 and 1.

    Returns
    -------
    pandas.DataFrame
        One row per class and bin: ``object_class, low, high, images, median`` (of the class).

    Examples
    --------
    >>> table = pd.DataFrame({"object_class": ["a", "a"], "sqrt_area_ratio": [0.2, 0.9]})
    >>> scale_histogram(table, bins=2).images.tolist()
    [1, 1]
    """
    edges = np.linspace(0, 1, bins + 1)
    parts = [
        pd.DataFrame(
            {
                "object_class": name,
                "low": edges[:-1],
                "high": edges[1:],
                "images": np.histogram(values, edges)[0],
                "median": values.median(),
            }
        )
        for name, values in table.groupby("object_class")[measure]
    ]
    return pd.concat(parts, ignore_index=True)


def estimators_beside(table: pd.DataFrame, *, weights: str, measure: str) -> pd.DataFrame:
    """Curves of one set of weights by each estimator, named after it.

    Parameters
    ----------
    table : pandas.DataFrame
        The study's table.
    weights : str
        Label of the weights.
    measure : str

    Returns
    -------
    pandas.DataFrame
        As :func:`curves`, with ``curve`` naming the estimator.
    """
    names = {"ols": "least squares", "ridge": "ridge", "pcr": "principal components"}
    rows = table[(table.weights == weights) & (table.condition == "true")]
    parts = [
        curves(rows, estimator=estimator, measure=measure).assign(curve=names[estimator])
        for estimator in rows.estimator.unique()
    ]
    return pd.concat(parts, ignore_index=True)


def width_beside(table: pd.DataFrame, projected: pd.DataFrame) -> pd.DataFrame:
    """Curves of all channels and of every tap at one common width.

    Parameters
    ----------
    table : pandas.DataFrame
        The study's table.
    projected : pandas.DataFrame
        The same regressions after a random projection; every row has its ``width``.

    Returns
    -------
    pandas.DataFrame
        As :func:`curves`; ``curve`` says which.
    """
    keys = projected[["network", "weights"]].drop_duplicates()
    rows = table[table.condition == "true"].merge(keys, on=["network", "weights"])
    several = keys.groupby("network").weights.nunique().max() > 1
    parts = []
    for name, part in (("all channels", rows), ("equal width", projected)):
        summary = curves(part)
        parts.append(summary.assign(curve=[f"{c}, {name}" if several else name for c in summary.curve]))
    return pd.concat(parts, ignore_index=True)


@dataclass(frozen=True)
class Published:
    """The paper's curves in the figure's units: ``curve, depth, value`` (and ``label``)."""

    table_a1: pd.DataFrame
    figure: pd.DataFrame


def published_curves(paper: str | os.PathLike[str]) -> Published:
    """Table A1 and the figure's labelled points as values of exp(R²)/e.

    Parameters
    ----------
    paper : path-like
        Folder with ``table_a1.csv`` and ``figure_labels.csv``.

    Returns
    -------
    Published

    Notes
    -----
    A label of the workshop version's figure is 1 + ln of the value drawn. exp of Table A1's mean
    R², over e, is a lower bound of the mean of exp(R²)/e (Jensen's inequality).
    """
    table = pd.read_csv(Path(paper) / "table_a1.csv")
    taps = list(dict.fromkeys(table.tap))
    depth = {tap: i / (len(taps) - 1) for i, tap in enumerate(taps)}
    labels = pd.read_csv(Path(paper) / "figure_labels.csv")
    return Published(
        table_a1=pd.DataFrame(
            {
                "curve": table.condition.map(CURVES),
                "depth": table.tap.map(depth),
                "value": np.exp(table.r2_test.clip(lower=-50) - 1),
            }
        ),
        figure=pd.DataFrame(
            {
                "curve": labels.condition.map(CURVES),
                "depth": labels.tap.map(depth),
                "value": np.exp(labels.label - 1),
                "label": [f"{label:.2f} {tap}" for label, tap in zip(labels.label, labels.tap, strict=True)],
            }
        ),
    )
