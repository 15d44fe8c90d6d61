"""Default taps of any convolutional network, one a block, found from the shape of its graph. Where a network is read: the taps of the architectures that the paper and its companion use."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from scalelib.errors import NetworkError, did_you_mean
from scalelib.graph import Field, Step, auto_named, fields, has_kernel, keras


def taps_from_graph(steps: Sequence[Step]) -> dict[str, str]:
    """One tap a block, from input to output.

    Parameters
    ----------
    steps : sequence of Step
        A graph, its softmax a step of its own.

    Returns
    -------
    dict of str to str
        Tap name → layer name.

    Notes
    -----
    Only tensors through which everything later must pass are taps: the network can be cut there.
    Of these,

    1. a merge of several maps (addition, concatenation): the end of a residual, dense or inception
       block;
    2. a linear bottleneck, which is a convolution without activation that the next convolution reads:
       the end of an inverted residual block that has no addition, or a downsampling step;
    3. the last tensor of a stage (of one stride) in which neither is found: VGG's blocks, stems;
    4. the last map, where convolutions lie between it and the tap before;
    5. hidden dense layers, then ``pre_softmax`` and ``softmax``, or the last output under its name.

    A tap bears its layer's name. Where Keras made that name up (``add_7``) it differs between builds,
    and the tap is called ``stage3_block2`` instead: the stage of stride 2³, its second tap.

    Sequences of tokens are no maps and no vectors, and are passed over. Long skips (U-Net) leave few tensors that
    everything passes through: name taps for such networks (``load_network(…, taps=[…])``).

    Examples
    --------
    >>> from scalelib.graph import copy_model
    >>> image = keras.Input((32, 32, 3))
    >>> x = keras.layers.Conv2D(4, 3, activation="relu", name="first")(image)
    >>> x = keras.layers.Conv2D(4, 3, activation="relu")(keras.layers.MaxPooling2D(2)(x))
    >>> x = keras.layers.Dense(2, activation="softmax")(keras.layers.GlobalAveragePooling2D()(x))
    >>> list(taps_from_graph(copy_model(keras.Model(image, x))[1]))
    ['first', 'stage1_block1', 'pre_softmax', 'softmax']
    """
    graph = _Graph.of(steps)
    spine = [
        index
        for index in graph.cuts
        if not _is_plumbing(steps[index].operation) and len(steps[index].outputs[0].shape) in (2, 4)
    ]
    maps = [index for index in spine if graph.field(index) is not None]
    convolutions = [i for i, step in enumerate(steps) if has_kernel(step.operation) and graph.field(i)]
    if convolutions:
        maps = [index for index in maps if index >= convolutions[0]]
    chosen = {index for index in maps if graph.is_merge(index) or graph.is_linear_bottleneck(index)}
    strides = {index: graph.stride(index) for index in maps}
    for stride in sorted(set(strides.values())):
        stage = [index for index in maps if strides[index] == stride]
        worked = any(graph.stride(index) == stride for index in convolutions)
        if worked and not chosen.intersection(stage):
            chosen.add(stage[-1])
    if maps and any(max(chosen, default=-1) < index <= maps[-1] for index in convolutions):
        chosen.add(maps[-1])
    outputs = output_taps(steps)
    hidden = _hidden(graph, [index for index in spine if graph.field(index) is None])
    hidden = [index for index in hidden if steps[index].name not in outputs.values()]
    return _named(graph, sorted(chosen), hidden, closed=bool(outputs)) | outputs


def output_taps(steps: Sequence[Step]) -> dict[str, str]:
    """``pre_softmax`` and ``softmax``, where the last step is a softmax; else nothing.

    Parameters
    ----------
    steps : sequence of Step
        A graph.

    Returns
    -------
    dict of str to str
        Tap name → layer name.
    """
    last = steps[-1]
    if not _is_softmax(last.operation):
        return {}
    made_by = {id(tensor): step for step in steps for tensor in step.outputs}
    return {"pre_softmax": made_by[id(last.inputs[0])].name, "softmax": last.name}


@dataclass(frozen=True)
class _Graph:
    """Steps with who reads them, where the graph is one tensor wide, and what their units see."""

    steps: Sequence[Step]
    readers: dict[int, list[int]]  # step → steps that read its first output
    sources: dict[int, list[int]]  # step → steps whose outputs it reads
    cuts: list[int]  # steps whose output everything later passes through
    fields: dict[int, Field | None]

    @classmethod
    def of(cls, steps: Sequence[Step]) -> _Graph:
        maker = {id(tensor): index for index, step in enumerate(steps) for tensor in step.outputs}
        readers: dict[int, list[int]] = {index: [] for index in range(-1, len(steps))}
        sources: dict[int, list[int]] = {}
        for index, step in enumerate(steps):
            sources[index] = sorted({maker.get(id(tensor), -1) for tensor in step.inputs})
            for source in sources[index]:
                readers[source].append(index)
        cuts, last_read = [], max(readers[-1], default=-1)
        for index in range(len(steps)):
            if last_read <= index:  # nothing made earlier is read later
                cuts.append(index)
            last_read = max([last_read, *readers[index]])
        return cls(steps, readers, sources, cuts, fields(steps))

    def field(self, index: int) -> Field | None:
        return self.fields[id(self.steps[index].outputs[0])]

    def stride(self, index: int) -> float:
        field = self.field(index)
        return max(field.stride) if field else math.inf

    def is_merge(self, index: int) -> bool:
        """Whether several maps come together here; a product is a gate, not a merge."""
        step = self.steps[index]
        maps = {id(tensor) for tensor in step.inputs if self.fields.get(id(tensor)) is not None}
        return len(maps) > 1 and type(step.operation).__name__ != "Multiply"

    def is_linear_bottleneck(self, index: int) -> bool:
        """Whether a linear convolution ends here and another convolution begins at once."""
        back = index
        while _is_linear_glue(self.steps[back].operation) and len(self.sources[back]) == 1:
            back = self.sources[back][0]
            if back < 0:
                return False
        operation = self.steps[back].operation
        if not _is_convolution(operation) or operation.activation is not keras.activations.linear:
            return False
        ahead = list(self.readers[index])
        while ahead:
            reader = ahead.pop()
            if _is_convolution(self.steps[reader].operation):
                return True
            if _is_plumbing(self.steps[reader].operation):
                ahead += self.readers[reader]
        return False


def _hidden(graph: _Graph, vectors: list[int]) -> list[int]:
    """Of the tensors after the last map, the last one that each learned layer leads to."""
    learned = [index for index in vectors if has_kernel(graph.steps[index].operation)]
    bounds = [*learned, len(graph.steps)]
    return [max(index for index in vectors if start <= index < end) for start, end in pairwise(bounds)]


def _named(graph: _Graph, maps: list[int], hidden: list[int], *, closed: bool) -> dict[str, str]:
    """Stable names; `closed`: a softmax follows, so that no hidden layer is the output."""
    taps: dict[str, str] = {}
    places: Counter[int] = Counter()
    for index in maps:
        step, stage = graph.steps[index], round(math.log2(graph.stride(index)))
        places[stage] += 1
        name = f"stage{stage}_block{places[stage]}" if auto_named(step.operation) else step.name
        taps[name] = step.name
    for number, index in enumerate(hidden, start=1):
        step = graph.steps[index]
        last = not closed and index == hidden[-1]
        name = ("output" if last else f"hidden{number}") if auto_named(step.operation) else step.name
        taps[name] = step.name
    return taps


def _is_convolution(operation: Any) -> bool:
    layers = keras.layers
    return isinstance(operation, layers.Conv2D | layers.DepthwiseConv2D | layers.SeparableConv2D)


def _is_linear_glue(operation: Any) -> bool:
    layers = keras.layers
    return _is_plumbing(operation) or isinstance(
        operation, layers.BatchNormalization | layers.LayerNormalization | layers.GroupNormalization
    )


def _is_plumbing(operation: Any) -> bool:
    """What changes no value that matters: padding, dropout, reshaping, conversion of type."""
    layers = keras.layers
    plumbing = (
        layers.ZeroPadding2D | layers.Cropping2D | layers.Dropout | layers.SpatialDropout2D
        | layers.Flatten | layers.Reshape | layers.InputLayer | layers.Identity
    )  # fmt: skip
    name = type(operation).__name__
    return isinstance(operation, plumbing) or name in ("ConvertToTensor", "Cast", "Identity")


def _is_softmax(operation: Any) -> bool:
    """The layer, the bare operation, or an Activation."""
    activation = getattr(operation, "activation", None)
    return type(operation).__name__ == "Softmax" or activation is keras.activations.softmax


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
    :func:`scalelib.taps.taps_from_graph`.

    Examples
    --------
    >>> from scalelib.graph import keras
    >>> from scalelib.graph import copy_model
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
