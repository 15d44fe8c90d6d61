"""The loops of section 4.3: networks × weight seeds, and classes × measures × estimators.

Here the parts meet: networks are read, activations regressed. What the parts do is theirs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scalelib.activations import extract
from scalelib.errors import DataError, did_you_mean
from scalelib.networks import Network, load_network
from scalelib.regression import layerwise_r2

Activations = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Reading:
    """One network's activations, with the labels that its rows carry in a table.

    Parameters
    ----------
    labels : dict
        ``network``, ``weights`` (such as ``"imagenet"`` or ``"random"``) and ``weights_seed`` (-1 where weights are not random).
    network : Network
        The network that was read.
    activations : mapping of str to ndarray of float32, shape (n_images, channels)
        By tap, from input to output.
    """

    labels: dict[str, Any]
    network: Network
    activations: Activations


def read_networks(
    specs: Iterable[Mapping[str, Any]],
    images: Sequence[Any] | np.ndarray,
    *,
    cache: str | Path | None = None,
    **options: Any,
) -> Iterator[Reading]:
    """Read images with each network of a profile, one network at a time.

    Parameters
    ----------
    specs : iterable of mapping
        One entry per network: the arguments of :func:`scalelib.networks.load_network`, and ``label`` (default: its
        name), ``weights_label`` (default: `weights`) and ``seeds`` (default: ``[0]``; for random weights).
    images : sequence
        Paths or arrays, as for :func:`scalelib.activations.extract`.
    cache : path-like, optional
        Folder of the activation cache.
    **options
        Further options of :func:`scalelib.activations.extract`.

    Yields
    ------
    Reading

    Examples
    --------
    >>> spec = {"name": "MobileNet", "weights": "random", "alpha": 0.25, "input_size": 64, "seeds": [0, 1]}
    >>> gray = np.full((2, 64, 64, 3), 128, np.uint8)
    >>> [reading.labels["weights_seed"] for reading in read_networks([spec], gray)]
    [0, 1]
    """
    for spec in specs:
        arguments = dict(spec)
        name = arguments.pop("name")
        label = arguments.pop("label", name)
        weights_label = arguments.pop("weights_label", arguments.get("weights", "imagenet"))
        for seed in arguments.pop("seeds", [0]):
            network = load_network(name, **arguments, weights_seed=seed)
            labels = {
                "network": label,
                "weights": weights_label,
                "weights_seed": seed if weights_label == "random" else -1,
            }
            yield Reading(labels, network, extract(network, images, cache=cache, **options))


def layerwise_by_class(
    acts: Activations,
    table: pd.DataFrame,
    *,
    measures: Sequence[str] = ("sqrt_area_ratio", "area_ratio"),
    estimators: Sequence[str] = ("ridge", "ols"),
    **options: Any,
) -> pd.DataFrame:
    """Held-out R² per tap for each object class, measure and estimator.

    Classes are regressed apart, as in the paper (§4.3), so that a tap cannot score by telling classes
    of different typical size from each other.

    Parameters
    ----------
    acts : mapping of str to ndarray, shape (n_images, channels)
        Activations by tap.
    table : pandas.DataFrame
        One row per image with ``object_class`` and the columns named in `measures`.
    measures : sequence of str
        Columns to regress.
    estimators : sequence of str
        Estimators of :func:`scalelib.regression.layerwise_r2`.
    **options
        Further options of :func:`scalelib.regression.layerwise_r2`.

    Returns
    -------
    pandas.DataFrame
        The rows of :func:`scalelib.regression.layerwise_r2` with ``object_class`` and ``measure``.

    Raises
    ------
    DataError
        If a measure is no column of the table.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> table = pd.DataFrame({"object_class": ["disc"] * 40, "area_ratio": rng.uniform(size=40)})
    >>> acts = {"tap": table[["area_ratio"]].to_numpy()}
    >>> result = layerwise_by_class(acts, table, measures=["area_ratio"], estimators=["ols"], repeats=2)
    >>> round(float(result[result.condition == "true"].r2_test.min()), 3)
    1.0
    """
    for measure in measures:
        if measure not in table:
            raise DataError(
                f"layerwise_by_class: no measure {measure!r}.\nReceived: columns {', '.join(table)}.\n"
                f"{did_you_mean(measure, table.columns)}".rstrip()
            )
    parts = []
    for object_class, rows in table.groupby("object_class", sort=True).indices.items():
        chosen = {tap: values[rows] for tap, values in acts.items()}
        for measure in measures:
            values = table[measure].to_numpy()[rows]
            part = layerwise_r2(chosen, values, estimator=list(estimators), **options)
            parts.append(part.assign(object_class=object_class, measure=measure))
    return pd.concat(parts, ignore_index=True)


def taps_read(readings: Iterable[Reading]) -> pd.DataFrame:
    """Which networks were read where: one row per network and weights.

    Parameters
    ----------
    readings : iterable of Reading

    Returns
    -------
    pandas.DataFrame
        Columns ``network, weights, seeds, taps, first, last, channels``.
    """
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for reading in readings:
        key = (reading.labels["network"], reading.labels["weights"])
        widths = [values.shape[1] for values in reading.activations.values()]
        taps = list(reading.activations)
        row = rows.setdefault(
            key,
            {
                "network": key[0],
                "weights": key[1],
                "seeds": 0,
                "taps": len(taps),
                "first": taps[0],
                "last": taps[-1],
                "channels": f"{min(widths)} to {max(widths)}",
            },
        )
        row["seeds"] += 1
    return pd.DataFrame(rows.values())


def example_rows(table: pd.DataFrame, *, per_class: int, random_state: int = 0) -> list[int]:
    """Rows of example images: some of each class, spread over its range of scale.

    Parameters
    ----------
    table : pandas.DataFrame
        With ``object_class`` and ``sqrt_area_ratio``.
    per_class : int
    random_state : int, default=0
        Seed of the choice within each part of the range.

    Returns
    -------
    list of int
        Positions, class by class, by growing scale.

    Examples
    --------
    >>> table = pd.DataFrame({"object_class": ["a"] * 4, "sqrt_area_ratio": [0.8, 0.1, 0.2, 0.9]})
    >>> rows = example_rows(table, per_class=2)
    >>> rows[0] in (1, 2), rows[1] in (0, 3)
    (True, True)
    """
    rng = np.random.default_rng(random_state)
    rows: list[int] = []
    for positions in table.groupby("object_class").indices.values():
        ordered = positions[np.argsort(table.sqrt_area_ratio.to_numpy()[positions], kind="stable")]
        rows += [int(rng.choice(part)) for part in np.array_split(ordered, per_class) if len(part)]
    return rows
