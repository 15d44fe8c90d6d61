"""Where a network is read: the taps of the architectures that the paper and its companion use.

Knows names of layers; knows no weights and no images. Any other network: scalelib.default_taps.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

from scalelib.default_taps import output_taps, taps_from_graph
from scalelib.errors import NetworkError, did_you_mean
from scalelib.graph import Step


def taps_of(architecture: str | None, steps: list[Step]) -> dict[str, str]:
    """The taps of a network, from input to output.

    Parameters
    ----------
    architecture : str or None
        A name in ``keras.applications``, ``"SqueezeNet"``, or None for somebody's own network.
    steps : list of Step
        The network's graph, its softmax a step of its own.

    Returns
    -------
    dict of str to str
        Tap name → name of the layer whose output is read.

    Notes
    -----
    InceptionV3: ``mixed0`` … ``mixed10``. ResNet50, 101, 152: ``add1`` …, the residual additions
    counted from 1, as the paper does. MobileNet: ``conv_pw_1`` … ``conv_pw_13``, the layers of that
    name, which are the blocks' pointwise convolutions before batch normalisation and ReLU (after
    average pooling, batch normalisation is an affine map of each channel, to which a standardised
    linear read-out is blind; the ReLU is not: ``taps=["conv_pw_13_relu"]`` reads after it).
    MobileNetV2: the block outputs, an addition where the block has one, else its projection.
    SqueezeNet: ``pool1``, ``fire2`` … ``fire9``. NASNet: the cells' concatenations. All end with
    ``pre_softmax`` (the logits) and ``softmax`` where there is a classifier. Other networks:
    :func:`scalelib.default_taps.taps_from_graph`.

    Examples
    --------
    >>> from scalelib.backend import keras
    >>> from scalelib.copying import copy_model
    >>> image = keras.Input((8, 8, 3))
    >>> _, steps = copy_model(keras.Model(image, keras.layers.Conv2D(4, 3, name="mixed0")(image)))
    >>> taps_of("InceptionV3", steps)
    {'mixed0': 'mixed0'}
    """
    for names, layers, named in _RULES:
        if architecture and re.fullmatch(names, architecture):
            found = list(dict.fromkeys(step.name for step in steps if re.fullmatch(layers, step.name)))
            return named(found) | output_taps(steps)
    return taps_from_graph(steps)


def resolve(name: str, taps: dict[str, str], *, network: str, operation: str) -> str:
    """A tap's present name from that name, its layer's, or one used by the paper or an older Keras.

    Parameters
    ----------
    name : str
        Such as ``"add16"``, ``"conv5_block3_add"`` (Keras 3), ``"add_16"`` (Keras 2) or
        ``"pre-softmax"`` (the paper).
    taps : dict of str to str
        Tap name → layer name.
    network, operation : str
        For the message.

    Returns
    -------
    str
        A key of `taps`.

    Raises
    ------
    NetworkError
        If no tap is meant; names near matches and all taps.

    Examples
    --------
    >>> resolve("conv5_block3_add", {"add16": "conv5_block3_add"}, network="ResNet50", operation="prune")
    'add16'
    """
    if name in taps:
        return name
    by_layer = {layer: tap for tap, layer in taps.items()}
    if name in by_layer:
        return by_layer[name]
    plain = {re.sub(r"[-_ ]", "", tap).lower(): tap for tap in taps} | (
        {"logits": "pre_softmax"} if "pre_softmax" in taps else {}
    )
    legacy = re.sub(r"[-_ ]", "", str(name)).lower()
    if legacy in plain:
        return plain[legacy]
    hint = did_you_mean(str(name), [*taps, *by_layer])
    raise NetworkError(
        f"{operation}: no layer {str(name)!r} in {network}; taps are {', '.join(taps)}.\n"
        f"Received: {name!r}.\n{hint or 'load_network(…, taps=[…]) makes any layer a tap.'}"
    )


def choose_taps(
    wanted: Iterable[str] | Mapping[str, str] | None, default: dict[str, str], steps: list[Step], network: str
) -> dict[str, str]:
    """The taps asked for, from input to output; every layer may be one.

    Parameters
    ----------
    wanted : iterable of str, mapping of str to str, or None
        Tap or layer names; own tap names → tap or layer names; None: the default taps.
    default : dict of str to str
        Tap name → layer name.
    steps : list of Step
        The network's graph.
    network : str
        For messages.

    Returns
    -------
    dict of str to str

    Raises
    ------
    NetworkError
        If a name is unknown, none is given, or an output is neither a map nor a vector.
    """
    if wanted is None and default:
        return default
    if wanted is None:
        raise NetworkError(
            f"load_network: no layer of {network} offers itself as a tap.\n"
            "Received: taps=None and a graph without convolutions or dense layers on its main path.\n"
            f"Name layers: taps=[…] of {', '.join(step.name for step in steps)}."
        )
    if isinstance(wanted, str):
        wanted = [wanted]
    every_layer = {step.name: step.name for step in steps}
    chosen: dict[str, str] = {}
    for tap in wanted:
        layer = wanted[tap] if isinstance(wanted, Mapping) else tap
        if layer in every_layer and layer not in default:
            chosen[tap] = layer
            continue
        found = resolve(layer, default, network=network, operation="load_network")
        chosen[tap if isinstance(wanted, Mapping) else found] = default[found]
    if not chosen:
        raise NetworkError(
            "load_network: a network needs at least one tap.\nReceived: taps=[].\n"
            f"Taps are {', '.join(default)}."
        )
    order = {step.name: index for index, step in enumerate(steps)}
    rank = {step.name: len(step.outputs[0].shape) for step in steps}
    for tap, layer in chosen.items():
        if rank[layer] not in (2, 4):
            raise NetworkError(
                "load_network: a tap is a map (height, width, channels) or a vector.\n"
                f"Received: {tap!r}, whose output has {rank[layer] - 1} axes.\nTaps are {', '.join(default)}."
            )
    return dict(sorted(chosen.items(), key=lambda item: order[item[1]]))


def _as_they_are(found: list[str]) -> dict[str, str]:
    return {name: name for name in found}


def _counted_additions(found: list[str]) -> dict[str, str]:
    return {f"add{number}": name for number, name in enumerate(found, start=1)}


def _additions_else_projections(found: list[str]) -> dict[str, str]:
    added = {name.removesuffix("_add") for name in found if name.endswith("_add")}
    return _as_they_are([name for name in found if name.removesuffix("_project_BN") not in added])


# architecture, layers, how the taps are named
_RULES: tuple[tuple[str, str, Callable[[list[str]], dict[str, str]]], ...] = (
    ("InceptionV3", r"mixed\d+", _as_they_are),
    ("ResNet(50|101|152)", r"conv\d_block\d+_add", _counted_additions),
    ("MobileNet", r"conv_pw_\d+", _as_they_are),
    ("MobileNetV2", r"(expanded_conv|block_\d+)_(add|project_BN)|out_relu", _additions_else_projections),
    ("SqueezeNet", r"pool1|fire\d", _as_they_are),
    ("NASNet(Large|Mobile)", r"(normal|reduction)_concat_\w+", _as_they_are),
)
