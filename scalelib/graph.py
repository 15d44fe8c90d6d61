"""A functional Keras model as a list of steps, and its copy with names and softmax in known places.

Knows Keras graphs through the public API alone; knows no architecture, no taps and no weight files.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from scalelib.backend import keras
from scalelib.errors import NetworkError


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
    >>> source = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, activation="softmax", name="d")])
    >>> copy, steps = copy_model(source)
    >>> [step.name for step in steps]
    ['d', 'softmax']
    """
    source = _unrolled(_single_graph(model))
    names = _unique_names(source, rename or {})
    copies: dict[int, tuple[Any, Any]] = {}  # id of a copy → (copy, original)
    split: dict[int, Any] = {}  # id of a copy → the softmax that was fused into it
    steps: list[Step] = []

    def clone(operation: Any) -> Any:
        copied = _clone_operation(operation, names[id(operation)], fused=_has_fused_softmax(operation))
        copies[id(copied)] = (copied, operation)
        if _has_fused_softmax(operation):
            softmax = "softmax" if "softmax" not in taken else f"{copied.name}_softmax"
            taken.add(softmax)
            split[id(copied)] = keras.layers.Softmax(name=softmax, dtype=operation.dtype_policy)
        return copied

    def call(operation: Any, *args: Any, **kwargs: Any) -> Any:
        result = operation(*args, **kwargs)
        steps.append(Step(operation, _tensors((args, kwargs)), _tensors(result)))
        if id(operation) in split:
            logits, softmax = result, split[id(operation)]
            result = softmax(logits)
            steps.append(Step(softmax, _tensors(logits), _tensors(result)))
        return result

    taken = set(names.values())
    shape = list(source.inputs[0].shape)
    if input_size is not None and len(shape) == 4:
        shape[1:3] = input_size
    image = keras.Input(batch_shape=shape, dtype=source.inputs[0].dtype, name="image")
    try:
        copy = keras.models.clone_model(source, input_tensors=image, clone_function=clone, call_function=call)
    except NetworkError:
        raise
    except Exception as error:
        raise NetworkError(
            f"load_network: the layers of {model.name!r} cannot be called anew.\n"
            f"Received: {type(error).__name__}: {error}\n"
            "Every layer must work from its own get_config and from_config."
        ) from error
    for copied, original in copies.values():
        if not isinstance(original, keras.layers.Layer) or not original.weights:
            continue
        if keep_weights or isinstance(original, keras.layers.Normalization):
            copied.set_weights(original.get_weights())
    return keras.Model(copy.inputs[0], copy.outputs[0], name=name or model.name), steps


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


def is_nested(operation: Any) -> bool:
    """Whether an operation is itself a functional or sequential model."""
    return isinstance(operation, keras.Sequential | _FUNCTIONAL)


def _single_graph(model: Any) -> Any:
    """The model as one functional graph with a single image input, sharing its layers."""
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


def _unrolled(model: Any) -> Any:
    """The model with the layers of nested models in its own graph; the layers are shared."""
    while any(is_nested(operation) for operation in model.operations):
        model = keras.models.clone_model(
            model,
            clone_function=lambda operation: operation,
            call_function=lambda operation, *args, **kwargs: (
                operation.call(*args, **kwargs) if is_nested(operation) else operation(*args, **kwargs)
            ),
        )
    return model


def _unique_names(model: Any, rename: dict[str, str]) -> dict[int, str]:
    """One name per operation: two nested models may hold layers of the same name."""
    names: dict[int, str] = {}
    taken: set[str] = set()
    for operation in model.operations:
        name = wanted = rename.get(operation.name, operation.name)
        count = 1
        while name in taken:
            count += 1
            name = f"{wanted}__{count}"
        names[id(operation)] = name
        taken.add(name)
    return names


def _clone_operation(operation: Any, name: str, *, fused: bool) -> Any:
    try:
        config = {**operation.get_config(), "name": name}
        if fused:
            config["activation"] = "linear"
        return operation.__class__.from_config(config)
    except Exception as error:
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


def _snake(name: str) -> str:
    """Keras's own rule from a class name to the prefix of its made-up names."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def _functional_class() -> type:
    tensor = keras.Input((1,))
    return type(keras.Model(tensor, tensor))


_FUNCTIONAL: type = _functional_class()
