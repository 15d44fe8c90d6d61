"""What a unit of a layer sees: stride, receptive field, depth and parameters, from the graph alone.

Knows Keras layers and their arithmetic; knows no architecture and runs no network.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from scalelib.backend import keras
from scalelib.graph import Step


@dataclass(frozen=True)
class Field:
    """The input pixels that unit 0 of a map reads, along height and width.

    Parameters
    ----------
    low, high : tuple of float
        First and last pixel, counted from the image's first; padding gives negative ones.
    stride : tuple of float
        By how many pixels the next unit's field is shifted.
    """

    low: tuple[float, float]
    high: tuple[float, float]
    stride: tuple[float, float]

    @property
    def size(self) -> int:
        """The longer side of the field in px."""
        return round(max(high - low + 1 for low, high in zip(self.low, self.high, strict=True)))


def fields(steps: Sequence[Step]) -> dict[int, Field | None]:
    """The receptive field of every tensor, over the longest path.

    Parameters
    ----------
    steps : sequence of Step
        A graph.

    Returns
    -------
    dict of int to (Field or None)
        By ``id`` of the tensor. None: it reads the whole image (global pooling, a vector), or a
        layer whose reach is not known from its arguments stands before it.

    Notes
    -----
    Araujo, Norris and Sim 2019, "Computing receptive fields of convolutional neural networks":
    unit *i* of a convolution with kernel k, stride s, dilation d and left padding p reads its
    input's units s·i − p … s·i − p + d·(k − 1); where paths meet, the union counts. A map that is
    only rescaled by a global gate (squeeze-and-excitation) keeps its field: the gate is left out.

    Examples
    --------
    >>> from scalelib.copying import copy_model
    >>> image = keras.Input((32, 32, 3))
    >>> x = keras.layers.Conv2D(4, 3, strides=2)(image)
    >>> _, steps = copy_model(keras.Model(image, keras.layers.Conv2D(4, 3)(x)))
    >>> fields(steps)[id(steps[-1].outputs[0])].size
    7
    """
    made = {id(tensor) for step in steps for tensor in step.outputs}
    found: dict[int, Field | None] = {
        id(tensor): Field((0, 0), (0, 0), (1, 1)) if len(tensor.shape) == 4 else None
        for step in steps
        for tensor in step.inputs
        if id(tensor) not in made
    }
    for step in steps:
        spatial = [(tensor, found[id(tensor)]) for tensor in step.inputs if found[id(tensor)] is not None]
        for output in step.outputs:
            reads = [_through(step.operation, tensor, output, field) for tensor, field in spatial if field]
            known = [field for field in reads if field is not None]
            found[id(output)] = _union(known) if known and len(known) == len(reads) else None
    return found


def depths(steps: Sequence[Step]) -> dict[int, int]:
    """How many layers with a kernel (convolution, dense) lie on the longest path to each tensor.

    Parameters
    ----------
    steps : sequence of Step
        A graph.

    Returns
    -------
    dict of int to int
        By ``id`` of the tensor.
    """
    depth: dict[int, int] = {}
    for step in steps:
        before = max((depth.get(id(tensor), 0) for tensor in step.inputs), default=0)
        for output in step.outputs:
            depth[id(output)] = before + has_kernel(step.operation)
    return depth


def parameters_up_to(steps: Sequence[Step], tensor: Any) -> int:
    """Number of weights, trainable or not, that a tensor depends on.

    Parameters
    ----------
    steps : sequence of Step
        A graph.
    tensor : keras.KerasTensor
        One of its tensors.

    Returns
    -------
    int
    """
    wanted = {id(tensor)}
    used: dict[int, int] = {}
    for step in reversed(steps):
        if any(id(output) in wanted for output in step.outputs):
            wanted.update(id(source) for source in step.inputs)
            if isinstance(step.operation, keras.layers.Layer):
                used[id(step.operation)] = step.operation.count_params()
    return sum(used.values())


def has_kernel(operation: Any) -> bool:
    """Whether an operation mixes channels or pixels by learned weights: a convolution, a dense layer."""
    weights = getattr(operation, "weights", [])
    return any(len(weight.shape) >= 2 for weight in weights)


def _through(operation: Any, source: Any, output: Any, field: Field) -> Field | None:
    """The field of an operation's output as far as one of its inputs goes."""
    layers = keras.layers
    if len(output.shape) != 4:
        return None
    if isinstance(operation, layers.Conv2DTranspose):
        return None
    if isinstance(operation, layers.Conv2D | layers.DepthwiseConv2D | layers.SeparableConv2D):
        reach = [d * (k - 1) + 1 for k, d in zip(operation.kernel_size, operation.dilation_rate, strict=True)]
        return _windows(field, reach, operation.strides, operation.padding, source.shape[1:3])
    if isinstance(operation, layers.MaxPooling2D | layers.AveragePooling2D):
        return _windows(field, operation.pool_size, operation.strides, operation.padding, source.shape[1:3])
    if isinstance(operation, layers.ZeroPadding2D):
        return _shifted(field, [-before for before, _ in operation.padding])
    if isinstance(operation, layers.Cropping2D):
        return _shifted(field, [before for before, _ in operation.cropping])
    if isinstance(operation, layers.UpSampling2D) and operation.interpolation == "nearest":
        stride = tuple(s / n for s, n in zip(field.stride, operation.size, strict=True))
        return Field(field.low, field.high, (stride[0], stride[1]))
    return field if tuple(output.shape[1:3]) == tuple(source.shape[1:3]) else None


def _windows(
    field: Field, reach: Sequence[int], strides: Sequence[int], padding: str, size: Sequence[int | None]
) -> Field:
    low, high, stride = [], [], []
    for axis in range(2):
        before = 0
        if padding == "same":
            n = size[axis]
            covered = 0 if n is None else (math.ceil(n / strides[axis]) - 1) * strides[axis] - n
            total = reach[axis] - strides[axis] if n is None else covered + reach[axis]
            before = max(total, 0) // 2
        low.append(field.low[axis] - before * field.stride[axis])
        high.append(field.high[axis] + (reach[axis] - 1 - before) * field.stride[axis])
        stride.append(field.stride[axis] * strides[axis])
    return Field((low[0], low[1]), (high[0], high[1]), (stride[0], stride[1]))


def _shifted(field: Field, units: Sequence[int]) -> Field:
    shift = [unit * stride for unit, stride in zip(units, field.stride, strict=True)]
    return Field(
        (field.low[0] + shift[0], field.low[1] + shift[1]),
        (field.high[0] + shift[0], field.high[1] + shift[1]),
        field.stride,
    )


def _union(parts: Sequence[Field]) -> Field:
    return Field(
        (min(part.low[0] for part in parts), min(part.low[1] for part in parts)),
        (max(part.high[0] for part in parts), max(part.high[1] for part in parts)),
        (max(part.stride[0] for part in parts), max(part.stride[1] for part in parts)),
    )
