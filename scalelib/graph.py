"""The one place where Keras is imported: quietly, and with TensorFlow as the default backend. The graph of a functional Keras model as a list of steps, and the names that its layers bear. What a unit of a layer sees: stride, receptive field, depth and parameters, from the graph alone. Copies of functional Keras models, unrolled and with the logits as a tensor of their own."""

from __future__ import annotations

import hashlib
import inspect
import logging
import math
import os
import random
import re
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from scalelib.errors import NetworkError


@contextmanager
def _captured_stderr() -> Iterator[None]:
    """Hold back what is written to file descriptor 2; let it out again if the block fails."""
    sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # no descriptor 2 in this process: nothing to hold back
        yield
        return
    with tempfile.TemporaryFile() as sink:
        os.dup2(sink.fileno(), 2)
        try:
            yield
        except BaseException:
            sink.seek(0)
            os.write(kept, sink.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
with _captured_stderr():
    import keras

# Images of many sizes trace one graph per size, on purpose; TensorFlow would warn of it in every notebook.
logging.getLogger("tensorflow").setLevel(logging.ERROR)


@dataclass(frozen=True)
class Step:
    """One call of one operation: what it read and what it made.

    Parameters
    ----------
    operation : keras.Operation
        A layer, or a bare operation such as ``keras.ops.add``.
    inputs, outputs : tuple of keras.KerasTensor
        Symbolic tensors, in the order of the call.
    """

    operation: Any
    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]

    @property
    def name(self) -> str:
        return str(self.operation.name)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw Keras's initial weights from a seed, and leave Python's generator as it was.

    Keras initialisers without a seed take one from Python's ``random`` module when they are made.

    Examples
    --------
    >>> state = random.getstate()
    >>> with seeded(3):
    ...     kernel = keras.layers.Dense(2)
    >>> random.getstate() == state
    True
    """
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)


def auto_named(operation: Any) -> bool:
    """Whether Keras made the name up, such as ``conv2d_7``: it differs between builds in one process."""
    return re.fullmatch(rf"{_snake(type(operation).__name__)}(_\d+)?", operation.name) is not None


def fresh_names(model: Any) -> dict[str, str]:
    """The names that Keras would have made up for a model's layers in a fresh process.

    Parameters
    ----------
    model : keras.Model
        A functional model whose layers were made in one go.

    Returns
    -------
    dict of str to str
        From present to fresh names, for made-up names only.

    Examples
    --------
    >>> image = keras.Input((8, 8, 3))
    >>> model = keras.Model(image, keras.layers.Conv2D(2, 3, name="conv2d_7")(image))
    >>> fresh_names(model)["conv2d_7"]
    'conv2d'
    """
    groups: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for operation in model.operations:
        if auto_named(operation):
            prefix = _snake(type(operation).__name__)
            suffix = operation.name.removeprefix(prefix).removeprefix("_")
            groups[prefix].append((int(suffix or 0), operation.name))
    return {
        old: prefix if rank == 0 else f"{prefix}_{rank}"
        for prefix, members in groups.items()
        for rank, (_, old) in enumerate(sorted(members))
    }


def weights_digest(steps: list[Step]) -> str:
    """SHA-256 over names, types, shapes and bytes of all weight arrays of a graph.

    Parameters
    ----------
    steps : list of Step
        A graph.

    Returns
    -------
    str
        Hexadecimal. Optimiser slots, metrics and seeds of dropout are no weights.

    Examples
    --------
    >>> len(weights_digest([]))
    64
    """
    digest = hashlib.sha256()
    seen: set[int] = set()
    for step in steps:
        if id(step.operation) in seen or not isinstance(step.operation, keras.layers.Layer):
            continue
        seen.add(id(step.operation))
        for variable, array in zip(step.operation.weights, step.operation.get_weights(), strict=True):
            digest.update(f"{step.name}/{variable.name} {array.dtype} {array.shape}\n".encode())
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def is_nested(operation: Any) -> bool:
    """Whether an operation is itself a functional or sequential model."""
    return isinstance(operation, keras.Sequential | _FUNCTIONAL)


def _snake(name: str) -> str:
    """Keras's own rule from a class name to the prefix of its made-up names."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def _functional_class() -> type:
    tensor = keras.Input((1,))
    return type(keras.Model(tensor, tensor))


_FUNCTIONAL: type = _functional_class()


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
    >>> from scalelib.graph import copy_model
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


def copy_model(
    model: Any,
    *,
    rename: dict[str, str] | None = None,
    name: str | None = None,
    input_size: tuple[int | None, int | None] | None = None,
    keep_weights: bool = True,
) -> tuple[Any, list[Step]]:
    """Copy a functional model: new layers, the same weights, the same function.

    Nested functional and sequential models are unrolled, so that every layer is within reach. A
    softmax fused into a Dense or convolution layer becomes a layer of its own, so that the logits
    exist as a tensor.

    Parameters
    ----------
    model : keras.Model
        Functional or sequential, built, with one input and one output. It is left as it is.
    rename : dict of str to str, optional
        New names of layers.
    name : str, optional
        Name of the copy. Default: the model's.
    input_size : tuple of (int or None), optional
        Another height and width in px. Default: the model's.
    keep_weights : bool, default=True
        False leaves the copy with fresh weights; statistics of input normalisation are kept.

    Returns
    -------
    model : keras.Model
        Not compiled.
    steps : list of Step
        In an order in which every input is made before it is read.

    Raises
    ------
    NetworkError
        If the model is subclassed, not built, has several inputs or outputs, or holds a layer that
        cannot be copied.

    Examples
    --------
    >>> image = keras.Input((8, 8, 3))
    >>> fused = keras.layers.Conv2D(2, 8, activation="softmax", name="classes")
    >>> copy, steps = copy_model(keras.Model(image, fused(image)))
    >>> [step.name for step in steps]
    ['classes', 'softmax']
    """
    source = _image_graph(model)
    shape = list(source.inputs[0].shape)
    if input_size is not None:
        shape[1:3] = input_size
    image = keras.Input(batch_shape=shape, dtype=source.inputs[0].dtype, name="image")
    copier = _Copier(rename or {}, taken=_names_within(source))
    try:
        copy = keras.models.clone_model(
            source, input_tensors=image, clone_function=copier.clone, call_function=copier.call
        )
        for copied, original in copier.copies.values():
            if not isinstance(original, keras.layers.Layer) or not original.weights:
                continue
            if keep_weights or isinstance(original, keras.layers.Normalization):
                copied.set_weights(original.get_weights())
    except NetworkError:
        raise
    except Exception as error:
        raise NetworkError(
            f"load_network: the layers of {model.name!r} cannot be built anew for images of shape "
            f"{tuple(shape[1:])}.\nReceived: {type(error).__name__}: {' '.join(str(error).split())[:300]}\n"
            "Every layer must work from its own get_config and from_config, and at this input size."
        ) from error
    return keras.Model(copy.inputs[0], copy.outputs[0], name=name or model.name), copier.steps


class _Copier:
    """Copies layers when they are first met, calls the copies, and writes down the calls."""

    def __init__(self, rename: dict[str, str], *, taken: set[str]) -> None:
        self.rename = rename
        self.names: set[str] = set()
        self.copies: dict[int, tuple[Any, Any]] = {}  # id of the original → (copy, original)
        self.softmax: dict[int, Any] = {}  # id of a copy → the softmax that was fused into it
        self.softmax_name = "softmax" if "softmax" not in taken else "fused_softmax"
        self.steps: list[Step] = []

    def clone(self, operation: Any) -> Any:
        if is_nested(operation):
            return operation  # its layers are copied when it is called
        if id(operation) not in self.copies:
            fused = _has_fused_softmax(operation)
            copied = _clone_operation(operation, self.free(operation.name), fused=fused)
            self.copies[id(operation)] = (copied, operation)
            if fused:
                softmax = keras.layers.Softmax(
                    name=self.free(self.softmax_name), dtype=operation.dtype_policy
                )
                self.softmax[id(copied)] = softmax
        return self.copies[id(operation)][0]

    def free(self, wanted: str) -> str:
        """A name that no layer of the copy has: two nested models may use the same one."""
        wanted = name = self.rename.get(wanted, wanted)
        count = 1
        while name in self.names:
            count += 1
            name = f"{wanted}__{count}"
        self.names.add(name)
        return name

    def call(self, operation: Any, *args: Any, **kwargs: Any) -> Any:
        if is_nested(operation):
            return self.replay(operation, _tensors((args, kwargs))[0], kwargs.get("training"))
        result = operation(*args, **kwargs)
        self.steps.append(Step(operation, _tensors((args, kwargs)), _tensors(result)))
        if id(operation) in self.softmax:
            result = self.call(self.softmax[id(operation)], result)
        return result

    def replay(self, nested: Any, tensor: Any, training: bool | None) -> Any:
        """Run a nested model's graph on a tensor of this one."""
        graph = _single_graph(nested)
        calls: list[tuple[Any, Any, Any, Any]] = []

        def record(operation: Any, *args: Any, **kwargs: Any) -> Any:
            result = operation(*args, **kwargs)
            calls.append((operation, args, kwargs, result))
            return result

        recorded = keras.models.clone_model(graph, clone_function=lambda layer: layer, call_function=record)
        here = {id(recorded.inputs[0]): tensor}
        for operation, args, kwargs, result in calls:
            args, kwargs = keras.tree.map_structure(partial(_moved, here), (args, kwargs))
            if training is not None and _takes_training(operation):
                kwargs = {"training": training, **kwargs}
            again = self.call(self.clone(operation), *args, **kwargs)
            here |= {id(old): new for old, new in zip(_tensors(result), _tensors(again), strict=True)}
        return here[id(recorded.outputs[0])]


def _image_graph(model: Any) -> Any:
    """The model as one functional graph, from an image; its layers are shared."""
    graph = _single_graph(model)
    if len(graph.inputs[0].shape) != 4:
        raise NetworkError(
            "load_network: a network has one image as input, of shape (height, width, channels).\n"
            f"Received: {model.name!r}, whose input has the shape {graph.inputs[0].shape[1:]}.\n"
            "Give the whole network, from the image on."
        )
    return graph


def _single_graph(model: Any) -> Any:
    """The model as one functional graph with one input and one output; its layers are shared."""
    if not is_nested(model):
        kind = "a subclassed keras.Model" if isinstance(model, keras.Model) else type(model).__name__
        raise NetworkError(
            "load_network: taps need a functional or sequential Keras model, whose layers form a graph.\n"
            f"Received: {kind} ({type(model).__name__}).\n"
            "Write it as keras.Model(inputs, outputs), or wrap its call on a keras.Input where its "
            "layers are called one by one."
        )
    if not model.built or not getattr(model, "inputs", None):
        raise NetworkError(
            f"load_network: the sequential model {model.name!r} has no input shape yet.\n"
            "Received: a model that was not built.\n"
            "Start it with keras.Input(shape), or call model.build((None, height, width, 3))."
        )
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise NetworkError(
            "load_network: a network has one image as input and one output.\n"
            f"Received: {model.name!r} with {len(model.inputs)} inputs and {len(model.outputs)} outputs.\n"
            "Cut it first: keras.Model(model.inputs[0], model.outputs[0])."
        )
    return keras.Model(model.inputs[0], model.outputs[0], name=model.name)


def _names_within(model: Any) -> set[str]:
    """Names of all operations, those of nested models included."""
    names = {operation.name for operation in model.operations}
    return names.union(*(_names_within(_single_graph(o)) for o in model.operations if is_nested(o)))


def _takes_training(operation: Any) -> bool:
    return is_nested(operation) or "training" in inspect.signature(operation.call).parameters


def _clone_operation(operation: Any, name: str, *, fused: bool) -> Any:
    try:
        config = {**operation.get_config(), "name": name}
        if fused:
            config["activation"] = "linear"
        return operation.__class__.from_config(config)
    except Exception as error:
        if not getattr(operation, "weights", []):
            return operation  # a Lambda, for instance: without weights there is nothing to keep apart
        raise NetworkError(
            f"load_network: layer {operation.name!r} cannot be copied.\n"
            f"Received: a {type(operation).__name__}; {type(error).__name__}: {error}\n"
            "Its get_config must return the arguments of its constructor."
        ) from error


def _has_fused_softmax(operation: Any) -> bool:
    fusable = keras.layers.Dense | keras.layers.Conv2D
    return isinstance(operation, fusable) and operation.activation is keras.activations.softmax


def _tensors(structure: Any) -> tuple[Any, ...]:
    return tuple(leaf for leaf in keras.tree.flatten(structure) if isinstance(leaf, keras.KerasTensor))


def _moved(here: dict[int, Any], leaf: Any) -> Any:
    return here.get(id(leaf), leaf)
