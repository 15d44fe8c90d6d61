"""Networks of a profile, one after the other: opened, read at one size or at any, and regressed as in section 4.3.

Knows a profile's entries, images and tables; draws nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_info

from scalelib.activations import extract
from scalelib.graph import Step, keras
from scalelib.networks import Network, describe, load_network
from scalelib.permutation import permutation_test
from scalelib.pruning import OUTPUT_TAPS, best_layer, choose_and_report
from scalelib.regression import layerwise_r2, random_projection
from studies.plan import take_apart

Activations = Mapping[str, np.ndarray]
# Gives a checked table of a run, such as "compact/04_layerwise_r2/curves"; key figures are drawn from it.
Read = Callable[[str], pd.DataFrame]
# Threads of the regressions: as many as the job's linear algebra was given
CORES = max(pool["num_threads"] for pool in threadpool_info())


@dataclass(frozen=True)
class Reading:
    """One network's activations by tap, with the labels of its rows: ``network``, ``weights``, ``weights_seed``."""

    labels: dict[str, Any]
    network: Network
    activations: Activations


def networks_of(specs: Iterable[Mapping[str, Any]]) -> Iterator[tuple[dict[str, Any], Network]]:
    """The networks of a profile with the labels of their rows, one at a time; seed −1: weights are not random."""
    for spec in specs:
        name, options, labels, seeds = take_apart(spec)
        for seed in seeds:
            net = load_network(name, **options, weights_seed=seed)
            yield {**labels, "weights_seed": seed if labels["weights"] == "random" else -1}, net


def open_networks(specs: Iterable[Mapping[str, Any]]) -> Iterator[tuple[dict[str, Any], Network, int]]:
    """The same networks opened for any size, with the side in pixels of the images that each was made for."""
    for labels, net in networks_of(specs):
        yield labels, any_size(net), min(net.input_size or (224, 224))


def read_networks(
    specs: Iterable[Mapping[str, Any]], images: Sequence[Any] | np.ndarray, **options: Any
) -> Iterator[Reading]:
    """Images read by each network of a profile, one network at a time; options are those of `extract`.

    An entry's own ``reading: {workers: 16, batch_size: 256}`` goes before.
    """
    for spec in specs:
        for labels, net in networks_of([spec]):
            yield Reading(labels, net, extract(net, images, **options | spec.get("reading", {})))


def any_size(net: Network) -> Network:
    """The same network, with the same weights, for images of any size: nothing is resized."""
    # paddings stay as laid out for its own size: where that padded one side only, the grid shifts by a pixel
    opened = load_network(net.model, input_size="any", taps=net.taps, preprocess=net.preprocess)
    return replace(net, model=opened.model, taps=opened.taps, steps=opened.steps, input_size=None)


def border_free(net: Network, smallest: int) -> Network:
    """A network for any size, read only where no border of the image is seen; taps without such places are dropped.

    From every map a margin is cut as wide as its receptive field reaches over the edge; `smallest` is the
    side of the smallest image.
    """
    taps, steps = {}, list(net.steps)
    for row in describe(net).dropna(subset=["receptive_field"]).itertuples():
        tap, tensor = str(row.tap), net.tensor(str(row.tap))
        # one more than the field reaches: one-sided padding shifts the grid by up to a stride
        margin = int(np.ceil((row.receptive_field - 1) / 2 / row.stride)) + 1
        if len(tensor.shape) != 4:
            continue
        shape = keras.Model(net.model.input, tensor).compute_output_shape((1, smallest, smallest, 3))
        if min(shape[1:3]) - 2 * margin < 1:
            continue
        taps[tap] = f"{tap}_without_{margin}"
        crop = keras.layers.Cropping2D(margin, name=taps[tap])
        steps.append(Step(crop, (tensor,), (crop(tensor),)))
    return replace(net, taps=taps, steps=steps)


def padding_probe(
    *,
    padding: Literal["same", "valid"],
    depth: int = 3,
    activation: str | None = None,
    seed: int = 0,
) -> Network:
    """Random 3×3 convolutions, taps ``conv1`` …, for any size; both paddings have the same weights."""
    x = image = keras.Input((None, None, 3), name="image")
    for k in range(1, depth + 1):
        weights = keras.initializers.HeNormal(seed=1000 * seed + k)
        conv = keras.layers.Conv2D(
            8, 3, padding=padding, activation=activation, kernel_initializer=weights, name=f"conv{k}"
        )
        x = conv(x)
    model = keras.Model(image, x, name=f"{padding} padding")
    return load_network(model, taps=[f"conv{k}" for k in range(1, depth + 1)], preprocess="0-1")


def example_rows(table: pd.DataFrame, *, per_class: int, random_state: int = 0) -> list[int]:
    """Positions of example images: some of each class, spread over its range of scale, by growing scale."""
    rng = np.random.default_rng(random_state)
    rows: list[int] = []
    for positions in table.groupby("object_class").indices.values():
        ordered = positions[np.argsort(table.sqrt_area_ratio.to_numpy()[positions], kind="stable")]
        rows += [int(rng.choice(part)) for part in np.array_split(ordered, per_class) if len(part)]
    return rows


def layerwise_by_class(
    acts: Activations,
    table: pd.DataFrame,
    *,
    measures: Sequence[str] = ("sqrt_area_ratio", "area_ratio"),
    estimators: Sequence[str] = ("ridge", "ols"),
    **options: Any,
) -> pd.DataFrame:
    """Rows of `layerwise_r2` for each class by itself: no tap can score by telling classes of different size apart."""
    parts = []
    for object_class, rows in table.groupby("object_class", sort=True).indices.items():
        chosen = {tap: values[rows] for tap, values in acts.items()}
        values = table[list(measures)].iloc[rows]
        part = layerwise_r2(chosen, values, estimator=list(estimators), n_jobs=CORES, **options)
        parts.append(part.assign(object_class=object_class, measure=part.pop("measure")))
    return pd.concat(parts, ignore_index=True)


def equal_width(
    readings: Iterable[Reading],
    table: pd.DataFrame,
    *,
    width: int,
    draws: int = 3,
    random_state: int = 0,
    **options: Any,
) -> pd.DataFrame:
    """By class, ridge: every tap after several random projections to one width; narrower taps stay as they are."""
    parts = []
    for reading in readings:
        for draw in range(draws):
            seed = random_state + draw
            acts = random_projection(reading.activations, width, random_state=seed, narrow="keep")
            part = layerwise_by_class(
                acts, table, measures=["sqrt_area_ratio"], estimators=["ridge"], conditions="true",
                random_state=random_state, **options,
            )  # fmt: skip
            parts.append(part.assign(**reading.labels, draw=draw, width=part.channels))
    return pd.concat(parts, ignore_index=True)


def permutation_by_network(readings: Iterable[Reading], table: pd.DataFrame, **options: Any) -> pd.DataFrame:
    """Permutation test of every tap of each network, the measure permuted within each class."""
    options |= {"strata": table.object_class, "per_stratum": True, "n_jobs": CORES}
    parts = [_named(permutation_test(r.activations, table.sqrt_area_ratio, **options), r) for r in readings]
    return pd.concat(parts, ignore_index=True)


def choose_taps(readings: Iterable[Reading], table: pd.DataFrame, **options: Any) -> pd.DataFrame:
    """The tap that the pruning rule picks on each half of the images, with its mean R² over classes on the other."""
    options |= {"classes": table.object_class, "n_jobs": CORES}
    parts = []
    for reading in readings:
        report = choose_and_report(reading.activations, table.sqrt_area_ratio, **options)
        scores = ["r2_choose", "r2_report", "r2_report_best"]
        means = report.groupby(["half", "tap"], as_index=False)[scores].mean()
        means.insert(2, "depth", [_depth(reading, tap) for tap in means.tap])
        parts.append(_named(means, reading))
    return pd.concat(parts, ignore_index=True)


def sensitivity_of_choice(
    readings: Iterable[Reading],
    table: pd.DataFrame,
    *,
    measures: Sequence[str],
    estimators: Sequence[str],
    **options: Any,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """All regressions, and the tap that each measure, estimator and class, and their mean, would choose (A.1)."""
    parts, choices = [], []
    for reading in readings:
        part = layerwise_by_class(
            reading.activations, table, measures=measures, estimators=estimators, conditions="true", **options
        )
        parts.append(part.assign(**reading.labels))
        chosen = []
        for (measure, estimator), rows in part.groupby(["measure", "estimator"], sort=False):
            for name, own in [*rows.groupby("object_class"), ("mean", rows)]:
                tap = best_layer(own, estimator=estimator, measure=measure)
                r2 = own.r2_test[own.tap == tap].mean()
                chosen.append((measure, estimator, name, tap, _depth(reading, tap), r2))
        columns = ["measure", "estimator", "object_class", "tap", "depth", "r2_test"]
        choices.append(_named(pd.DataFrame(chosen, columns=columns), reading))
    return pd.concat(parts, ignore_index=True), pd.concat(choices, ignore_index=True)


def _named(table: pd.DataFrame, reading: Reading) -> pd.DataFrame:
    who = {key: reading.labels[key] for key in ("network", "weights")}
    return table.assign(**who)[[*who, *table]]


def _depth(reading: Reading, tap: str) -> float:
    """0 for the first feature tap, 1 for the last."""
    features = [name for name in reading.activations if name not in OUTPUT_TAPS]
    return features.index(tap) / max(len(features) - 1, 1)
