"""Copies of functional Keras models, unrolled and with the logits as a tensor of their own.

Knows Keras graphs through the public API alone; knows no architecture, no taps and no weight files.
"""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any

from scalelib.backend import keras
from scalelib.errors import NetworkError
from scalelib.graph import Step, is_nested


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
