"""Networks read at any image size: natively, and away from their borders. The loops of section 4.3: networks × weight seeds, and classes × measures × estimators. The comparisons of section 4.3, network by network: equal width, permutation, the choice of a tap and its sensitivity."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from scalelib.activations import extract
from scalelib.errors import DataError, NetworkError, did_you_mean
from scalelib.graph import Step, keras
from scalelib.networks import Network, describe, load_network
from scalelib.permutation import permutation_test
from scalelib.pruning import OUTPUT_TAPS, best_layer, choose_and_report
from scalelib.regression import layerwise_r2, random_projection


def open_networks(specs: Iterable[Mapping[str, Any]]) -> Iterator[tuple[dict[str, Any], Network, int]]:
    """The networks of a profile, opened for any size, one at a time.

    Parameters
    ----------
    specs : iterable of mapping
        One entry per network: the arguments of :func:`scalelib.networks.load_network`, and ``label``
        (default: its name), ``weights_label`` (default: `weights`) and ``seeds`` (default: ``[0]``; of
        random weights).

    Yields
    ------
    labels : dict
        ``network``, ``weights`` and ``weights_seed`` (−1 where weights are not random), for the rows of a table.
    network : Network
        For any size.
    size : int
        Side in pixels of the images that the network was made for.

    Examples
    --------
    >>> spec = {"name": "MobileNet", "weights": "random", "alpha": 0.25, "input_size": 64, "seeds": [0, 1]}
    >>> [(labels["weights_seed"], size) for labels, _, size in open_networks([spec])]
    [(0, 64), (1, 64)]
    """
    for spec in specs:
        arguments = dict(spec)
        name = arguments.pop("name")
        label = arguments.pop("label", name)
        weights = arguments.pop("weights_label", arguments.get("weights", "imagenet"))
        for seed in arguments.pop("seeds", [0]):
            net = load_network(name, **arguments, weights_seed=seed)
            labels = {
                "network": label,
                "weights": weights,
                "weights_seed": seed if weights == "random" else -1,
            }
            yield labels, any_size(net), min(net.input_size or (224, 224))


def any_size(net: Network) -> Network:
    """The same network, with the same weights, for images of any size.

    Parameters
    ----------
    net : Network
        A network whose only step from maps to a vector is global pooling, so that no weight depends
        on the size of a map. Paddings stay as they were laid out for its own size: where that padded one side
        only, the grid shifts by a pixel at sizes that are no multiple of the stride.

    Returns
    -------
    Network
        With ``input_size=None``: nothing is resized.

    Raises
    ------
    NetworkError
        If the network flattens a map or otherwise needs one size.

    Examples
    --------
    >>> net = load_network("MobileNet", weights="random", alpha=0.25, input_size=64)
    >>> any_size(net).input_size is None
    True
    """
    opened = load_network(net.model, input_size="any", taps=net.taps, preprocess=net.preprocess)
    return replace(
        opened,
        name=net.name,
        preprocess_name=net.preprocess_name,
        weights=net.weights,
        weights_seed=net.weights_seed,
        weights_digest=net.weights_digest,
    )


def read_by_size(
    net: Network, images: Sequence[np.ndarray] | np.ndarray, **options: Any
) -> dict[str, np.ndarray]:
    """Pooled activations of images of differing sizes, each read at its own size.

    Parameters
    ----------
    net : Network
        For any size; see :func:`any_size`.
    images : sequence of ndarray of uint8, shape (height, width, 3)
        Sizes may differ.
    **options
        Further options of :func:`scalelib.activations.extract`.

    Returns
    -------
    dict of str to ndarray of float32, shape (n_images, channels)
        By tap, in the order of the images.

    Raises
    ------
    NetworkError
        If the network has one input size: it would resize, and all sizes would become one.

    Examples
    --------
    >>> net = padding_probe(padding="valid")
    >>> acts = read_by_size(net, [np.zeros((16, 16, 3), np.uint8), np.zeros((32, 32, 3), np.uint8)])
    >>> acts["conv2"].shape
    (2, 8)
    """
    if net.input_size is not None:
        raise NetworkError(
            "read_by_size: the network must take any size.\n"
            f"Received: {net.name} with input_size={net.input_size}.\nUse any_size(net)."
        )
    shapes = [np.shape(image)[:2] for image in images]
    acts: dict[str, np.ndarray] = {}
    for shape in sorted(set(shapes)):
        rows = [i for i, other in enumerate(shapes) if other == shape]
        part = extract(net, np.stack([images[i] for i in rows]), **options)
        for tap, values in part.items():
            acts.setdefault(tap, np.empty((len(images), values.shape[1]), np.float32))[rows] = values
    return acts


def border_free(net: Network, smallest: int) -> Network:
    """The same network, read only at positions that see no border of an image.

    Every spatial tap gets a margin cut off that is as wide as its receptive field reaches over an
    image's edge; the mean is then taken over what is left. Taps of which nothing would be left in the
    smallest image are dropped.

    Parameters
    ----------
    net : Network
        For any size; see :func:`any_size`.
    smallest : int
        Side in pixels of the smallest image that will be read.

    Returns
    -------
    Network
        With the taps that have border-free positions, under their own names.

    Raises
    ------
    NetworkError
        If no tap has a border-free position in images as small as that.

    Examples
    --------
    >>> net = padding_probe(padding="same", depth=6)
    >>> list(border_free(net, 12).taps)
    ['conv1', 'conv2', 'conv3', 'conv4']
    """
    taps, steps = {}, list(net.steps)
    for row in describe(net).dropna(subset=["receptive_field"]).itertuples():
        tap, tensor = str(row.tap), net.tensor(str(row.tap))
        # one more than the field reaches: one-sided padding shifts the grid by up to a stride
        margin = int(np.ceil((row.receptive_field - 1) / 2 / row.stride)) + 1
        if len(tensor.shape) != 4 or _side(net, tensor, smallest) - 2 * margin < 1:
            continue
        taps[tap] = f"{tap}_without_{margin}"
        crop = keras.layers.Cropping2D(margin, name=taps[tap])
        steps.append(Step(crop, (tensor,), (crop(tensor),)))
    if not taps:
        raise NetworkError(
            "border_free: some tap must have positions that see no border.\n"
            f"Received: images of {smallest} px.\nUse larger images or a network with earlier taps."
        )
    return replace(net, taps=taps, steps=steps)


def _side(net: Network, tensor: Any, size: int) -> int:
    """Units a side of a map in an image of that size."""
    shape = keras.Model(net.model.input, tensor).compute_output_shape((1, size, size, 3))
    return int(min(shape[1:3]))


def padding_probe(
    *,
    padding: Literal["same", "valid"],
    depth: int = 3,
    channels: int = 8,
    activation: str | None = None,
    seed: int = 0,
) -> Network:
    """A small network of 3×3 convolutions with random weights, to show what padding alone does.

    Parameters
    ----------
    padding : {"same", "valid"}
        ``"same"`` pads every map with zeros; ``"valid"`` lets maps shrink.
    depth, channels : int, default=3 and 8
        Number of convolutions and of channels in each.
    activation : str, optional
        Such as ``"relu"``. Default: none, so that the network is linear.
    seed : int, default=0
        Of the weights, which are the same for both paddings.

    Returns
    -------
    Network
        For any size, with taps ``conv1``, ``conv2`` …; it reads pixels divided by 255.

    Examples
    --------
    >>> list(padding_probe(padding="valid", depth=2).taps)
    ['conv1', 'conv2']
    """
    x = image = keras.Input((None, None, 3), name="image")
    for k in range(1, depth + 1):
        x = keras.layers.Conv2D(
            channels,
            3,
            padding=padding,
            activation=activation,
            kernel_initializer=keras.initializers.HeNormal(seed=1000 * seed + k),
            name=f"conv{k}",
        )(x)
    model = keras.Model(image, x, name=f"{padding} padding")
    return load_network(model, taps=[f"conv{k}" for k in range(1, depth + 1)], preprocess=_to_unit)


def _to_unit(images: np.ndarray) -> np.ndarray:
    return np.asarray(images, np.float32) / np.float32(255)


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
        Further options of :func:`scalelib.pruning.choose_and_report`.

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
