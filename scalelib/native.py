"""Networks read at any image size: natively, and away from their borders.

Knows Keras models and their taps; knows no data set and no measures.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from scalelib.activations import extract
from scalelib.backend import keras
from scalelib.errors import NetworkError
from scalelib.graph import Step
from scalelib.networks import Network, describe, load_network


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
