"""Default taps of any convolutional network, one a block, found from the shape of its graph.

Knows graphs; knows no architecture's name. Names that Keras makes up never become tap names.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from scalelib.backend import keras
from scalelib.geometry import Field, fields, has_kernel
from scalelib.graph import Step, auto_named


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
    >>> from scalelib.copying import copy_model
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
