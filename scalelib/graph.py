"""The graph of a Keras model: its steps, a copy of it, a digest of its weights, and what its units see.

The one place where Keras is imported, quietly. Knows no architecture, no tap and no file.
"""

from __future__ import annotations

import hashlib
import inspect
import logging
import os
import random
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from scalelib.errors import NetworkError, ScalelibError, refusing, require

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# For GPUs: a process takes the memory that it needs, not all; NVIDIA's libraries round no float32 to TF32 before they
# multiply, or activations would differ from a CPU's in the fourth digit.
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")
sys.stderr.flush()
_kept, _nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
os.dup2(_nowhere, 2)  # TensorFlow greets past Python's stderr
try:
    import keras
finally:
    os.dup2(_kept, 2)
    os.close(_kept)
    os.close(_nowhere)


def gpus() -> list[str]:
    """The GPUs that the backend computes on."""
    if keras.backend.backend() == "torch":  # of which Keras lists no devices
        return [f"gpu:{number}" for number in range(sys.modules["torch"].cuda.device_count())]
    return list(keras.distribution.list_devices("gpu"))


# Images of many sizes trace one graph per size, on purpose; TensorFlow would warn of it in every notebook.
logging.getLogger("tensorflow").setLevel(logging.ERROR)


@dataclass(frozen=True)
class Step:
    """One call of one operation, a layer or a bare one: the symbolic tensors that it read and made."""

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
    """
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)


def weights_digest(steps: Sequence[Step]) -> str:
    """SHA-256 over names, types, shapes and bytes of all weight arrays, not of optimisers or seeds."""
    digest = hashlib.sha256()
    for operation in dict.fromkeys(step.operation for step in steps):
        if isinstance(operation, keras.layers.Layer):
            for variable, array in zip(operation.weights, operation.get_weights(), strict=True):
                name = re.sub(r"^variable_\d+$", "variable", variable.name)  # made up: differs between builds
                digest.update(f"{operation.name}/{name} {array.dtype} {array.shape}\n".encode())
                digest.update(array.tobytes())
    return digest.hexdigest()


def auto_named(operation: Any) -> bool:
    """Whether Keras made the name up, such as ``conv2d_7``: it differs between builds in one process."""
    return re.fullmatch(rf"{_snake(operation)}(_\d+)?", operation.name) is not None


def _snake(operation: Any) -> str:
    """Keras's own rule from a class's name to the prefix of made-up names."""
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", type(operation).__name__))
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def is_nested(operation: Any) -> bool:
    """Whether an operation is itself a functional or sequential model."""
    functional = isinstance(operation, keras.Sequential) or hasattr(operation, "operations")
    return isinstance(operation, keras.Model) and functional


def loadable(
    ok: object, rule: str, received: object, advice: str, error: type[ScalelibError] = NetworkError
) -> None:
    """Refuse what load_network cannot use."""
    require(ok, "load_network", rule, received, advice, error=error)


@dataclass(frozen=True, eq=False)
class Field:
    """The input pixels that unit 0 of a map reads: first, last (padding gives negative ones), step to the next unit.

    Each along height and width.
    """

    low: np.ndarray
    high: np.ndarray
    stride: np.ndarray

    @property
    def size(self) -> int:
        """The longer side of the field in px."""
        return round(max(self.high - self.low + 1))


def fields(steps: Sequence[Step]) -> dict[int, Field | None]:
    """The receptive field of every tensor, by its ``id``, over the longest path.

    None: it reads the whole image, or a layer whose reach is not known stands before it. Unit i of a convolution
    with kernel k, stride s, dilation d and left padding p reads its input's units s·i − p … s·i − p + d·(k − 1);
    where paths meet, the union counts (Araujo, Norris and Sim 2019). A global gate (squeeze-and-excitation) is left
    out.
    """
    found: dict[int, Field | None] = {}
    for step in steps:
        for tensor in step.inputs:  # what no step has made is the image
            pixel = Field(np.zeros(2), np.zeros(2), np.ones(2)) if len(tensor.shape) == 4 else None
            found.setdefault(id(tensor), pixel)
        read = [(tensor, field) for tensor in step.inputs if (field := found[id(tensor)])]
        for output in step.outputs:
            parts = [_through(step.operation, tensor, output, field) for tensor, field in read]
            known = [part for part in parts if part]
            found[id(output)] = _union(known) if known and len(known) == len(parts) else None
    return found


def _union(parts: Sequence[Field]) -> Field:
    lows, highs, strides = zip(*((part.low, part.high, part.stride) for part in parts), strict=True)
    return Field(np.min(lows, axis=0), np.max(highs, axis=0), np.max(strides, axis=0))


def _through(operation: Any, source: Any, output: Any, field: Field) -> Field | None:
    """The field of an operation's output as far as one of its inputs goes."""
    window = _window(operation, source.shape[1:3], output.shape[1:3]) if len(output.shape) == 4 else None
    if window is None:
        return None
    reach, stride, before = window
    low = field.low - before * field.stride
    return Field(low, field.high + (reach - 1 - before) * field.stride, field.stride * stride)


def _window(operation: Any, source: Any, output: Any) -> tuple[np.ndarray, ...] | None:
    """Reach, stride and left padding of the window that an operation moves over its input, in its units."""
    layers, one = keras.layers, np.ones(2)
    if isinstance(operation, layers.Conv2DTranspose):
        return None
    if isinstance(operation, layers.ZeroPadding2D):
        return one, one, np.array([before for before, _ in operation.padding])
    if isinstance(operation, layers.Cropping2D):
        return one, one, -np.array([before for before, _ in operation.cropping])
    if isinstance(operation, layers.UpSampling2D) and operation.interpolation == "nearest":
        return one, one / operation.size, 0 * one
    if isinstance(operation, layers.Conv2D | layers.DepthwiseConv2D | layers.SeparableConv2D):
        reach = np.array(operation.dilation_rate) * (np.array(operation.kernel_size) - 1) + 1
    elif isinstance(operation, layers.MaxPooling2D | layers.AveragePooling2D):
        reach = np.array(operation.pool_size)
    else:  # pixel by pixel, if it keeps the size
        return (one, one, 0 * one) if tuple(source) == tuple(output) else None
    stride = np.array(operation.strides)
    # of any size: as if it fitted
    size = np.array([n or step for n, step in zip(source, stride, strict=True)])
    missing = (np.ceil(size / stride) - 1) * stride + reach - size
    return reach, stride, np.maximum(missing, 0) // 2 * (operation.padding == "same")


def depths(steps: Sequence[Step]) -> dict[int, int]:
    """How many layers with a kernel lie on the longest path to each tensor, by its ``id``."""
    depth: dict[int, int] = {}
    for step in steps:
        before = max((depth.get(id(tensor), 0) for tensor in step.inputs), default=0)
        depth |= dict.fromkeys(map(id, step.outputs), before + has_kernel(step.operation))
    return depth


def has_kernel(operation: Any) -> bool:
    """Whether an operation mixes channels or pixels by learned weights: a convolution, a dense layer."""
    return any(len(weight.shape) >= 2 for weight in getattr(operation, "weights", []))


def is_float(array: Any) -> bool:
    """Whether an array, of whatever library, holds weights, and no counter or random state."""
    return "float" in str(array.dtype)


def adopt(model: Any, *, name: str) -> tuple[Any, list[Step]]:
    """A model that Keras has just built, under lasting names and with its logits as a tensor; and its graph.

    Made-up names become those of a fresh process, a softmax fused into the last layer becomes a layer.
    """
    counts: Counter[str] = Counter()
    made_up = [operation for operation in model.operations if auto_named(operation)]
    for operation in sorted(made_up, key=lambda made: int(made.name.removeprefix(_snake(made))[1:] or 0)):
        prefix = _snake(operation)
        operation.name = f"{prefix}_{counts[prefix]}" if counts[prefix] else prefix
        counts[prefix] += 1
    if any(is_nested(operation) for operation in model.operations):
        return copy_model(model, name=name, share=True)
    steps: list[Step] = []

    def note(operation: Any, *args: Any, **kwargs: Any) -> Any:
        steps.append(Step(operation, _tensors((args, kwargs)), _tensors(operation.output)))
        return operation.output  # of the call that Keras has made: nothing is called again

    _walked(model, model.input, lambda layer: layer, note)
    return _with_logits(model, steps, name)


def copy_model(
    model: Any,
    *,
    name: str | None = None,
    input_size: tuple[int | None, int | None] | None = None,
    keep_weights: bool = True,
    share: bool = False,
) -> tuple[Any, list[Step]]:
    """Copy a functional or sequential model: new layers, the same weights, the same function; and its graph.

    Nested models are unrolled, so that every layer is within reach; a softmax fused into the last layer becomes one of
    its own. The graph's order is one in which every input is made before it is read. Without `keep_weights` the
    weights are fresh, but statistics of input normalisation are kept. With `share` the layers are the model's own.
    """
    source = _single_graph(model)
    shape = list(source.inputs[0].shape)
    received = f"{model.name!r}, whose input has the shape {tuple(shape[1:])}"
    advice = "Give the whole network, from an RGB image on: a grey one needs a layer before it that makes grey of RGB"
    loadable(len(shape) == 4 and shape[-1] == 3, "a network reads one RGB image", received, advice)
    shape[1:3] = input_size or shape[1:3]
    image = source.inputs[0]
    if not share:
        image = keras.Input(batch_shape=shape, dtype=image.dtype, name="image")
    names: Counter[str] = Counter()  # two nested models may use the same one
    copies: dict[int, tuple[Any, Any]] = {}
    steps: list[Step] = []

    def clone(operation: Any) -> Any:
        if id(operation) not in copies:
            names[operation.name] += 1
            number = names[operation.name]
            ending = f"__{number}" if number > 1 else ""
            copies[id(operation)] = _cloned(operation, f"{operation.name}{ending}"), operation
        return copies[id(operation)][0]

    def call(operation: Any, *args: Any, **kwargs: Any) -> Any:
        result = operation(*args, **kwargs)
        steps.append(Step(operation, _tensors((args, kwargs)), _tensors(result)))
        return result

    rule = f"the layers of {model.name!r} cannot be built anew"
    advice = "Every layer must work from its get_config, and at this input size"
    with refusing("load_network", rule, f"images of shape {tuple(shape[1:])}", advice, error=NetworkError):
        if any(is_nested(operation) for operation in source.operations):
            output = _unrolled(source, image, {}, (lambda own: own) if share else clone, call)
        else:
            output = _walked(source, image, clone, call).outputs[0]
        for copied, original in copies.values():
            kept = keep_weights or isinstance(original, keras.layers.Normalization)
            if kept and getattr(original, "weights", []):
                copied.set_weights(original.get_weights())
    return _with_logits(keras.Model(image, output), steps, name or model.name)


def _single_graph(model: Any) -> Any:
    """The model as one functional graph with one input and one output; its layers are shared."""
    kind = "a subclassed keras.Model" if isinstance(model, keras.Model) else "no model"
    sides = [list(getattr(model, side, None) or []) for side in ("inputs", "outputs")]
    name = f"{getattr(model, 'name', None)!r}"
    rule = "a network is a functional or sequential Keras model from one image to one output"
    received, advice = f"{kind}, {type(model).__name__}", "Write it as keras.Model(inputs, outputs)"
    loadable(is_nested(model), rule, received, advice)
    received = f"{name}, which has no input shape yet"
    loadable(sides[0], rule, received, "Start it with keras.Input((height, width, 3))")
    received = f"{name}, with {len(sides[0])} inputs and {len(sides[1])} outputs"
    advice = "Cut it first: keras.Model(model.inputs[0], model.outputs[0])"
    loadable([len(side) for side in sides] == [1, 1], rule, received, advice)
    return keras.Model(model.inputs[0], model.outputs[0], name=model.name)


def _walked(model: Any, image: Any, clone: Callable[[Any], Any], call: Callable[..., Any]) -> Any:
    return keras.models.clone_model(model, input_tensors=image, clone_function=clone, call_function=call)


def _unrolled(
    model: Any, tensor: Any, mode: dict[str, bool], clone: Callable[[Any], Any], call: Callable[..., Any]
) -> Any:
    """The output of a model for a tensor, the clones of its layers called one by one, in the mode of its own call."""
    calls: list[tuple[Any, Any, Any, Any]] = []

    def record(operation: Any, *args: Any, **kwargs: Any) -> Any:
        result = operation(*args, **kwargs)
        calls.append((operation, args, kwargs, result))
        return result

    played = _walked(model, None, lambda layer: layer, record)
    here = {id(played.inputs[0]): tensor}
    for operation, *made, result in calls:
        args, kwargs = keras.tree.map_structure(lambda leaf: here.get(id(leaf), leaf), made)
        if is_nested(operation):
            own = kwargs.get("training")
            inner = mode if own is None else {"training": own}
            again = _unrolled(_single_graph(operation), _tensors((args, kwargs))[0], inner, clone, call)
        else:
            takes = "training" in inspect.signature(operation.call).parameters
            again = call(clone(operation), *args, **(mode if takes else {}) | kwargs)
        here.update(zip(map(id, _tensors(result)), _tensors(again), strict=True))
    return here[id(played.outputs[0])]


def _with_logits(model: Any, steps: list[Step], name: str) -> tuple[Any, list[Step]]:
    """The model with a softmax that is fused into its last layer as a layer of its own; and its graph."""
    output, last = model.outputs[0], steps[-1].operation
    ends_in_kernel = isinstance(last, keras.layers.Dense | keras.layers.Conv2D)
    if ends_in_kernel and last.activation is keras.activations.softmax:
        last.activation = keras.activations.linear
        taken = any(step.name == "softmax" for step in steps)
        softmax = keras.layers.Softmax(name="fused_softmax" if taken else "softmax", dtype=last.dtype_policy)
        logits, output = output, softmax(output)
        steps.append(Step(softmax, (logits,), (output,)))
    # TensorFlow's predict allows no space in a model's name
    safe = re.sub(r"[^A-Za-z0-9.]+", "_", name).lstrip("_")
    return keras.Model(model.inputs[0], output, name=safe or None), steps


def _cloned(operation: Any, name: str) -> Any:
    try:
        config = operation.get_config() | {"name": name}
        for part in config.values():  # fresh weights come from the caller's seed, not an initialiser's
            if isinstance(part, dict) and "seed" in (part.get("config") or {}):
                part["config"]["seed"] = None
        return operation.__class__.from_config(config)
    except Exception as error:
        if getattr(operation, "weights", []):
            raise ValueError(f"{type(operation).__name__} {name!r} cannot be copied; {error}") from error
        return operation  # a Lambda, for instance: without weights there is nothing to keep apart


def _tensors(structure: Any) -> tuple[Any, ...]:
    return tuple(leaf for leaf in keras.tree.flatten(structure) if isinstance(leaf, keras.KerasTensor))
