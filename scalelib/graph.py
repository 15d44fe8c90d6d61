"""The graph of a functional Keras model as a list of steps, and the names that its layers bear.

Knows Keras graphs through the public API alone; knows no architecture, no taps and no weight files.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from scalelib.backend import keras


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
