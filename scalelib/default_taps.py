"""Default taps of any convolutional network, one a block, found from the shape of its graph.

Knows graphs; knows no architecture's name. Names that Keras makes up never become tap names.
"""

from __future__ import annotations

from typing import Any

from scalelib.backend import keras
from scalelib.graph import Step


def taps_from_graph(steps: list[Step]) -> dict[str, str]:
    merges = [s for s in steps if len(s.inputs) > 1 and len(s.outputs[0].shape) == 4]
    return {s.name: s.name for s in merges} | output_taps(steps)


def output_taps(steps: list[Step]) -> dict[str, str]:
    """``pre_softmax`` and ``softmax``, where the last step is a softmax; else nothing."""
    last = steps[-1]
    if not is_softmax(last.operation):
        return {}
    made_by = {id(tensor): step for step in steps for tensor in step.outputs}
    return {"pre_softmax": made_by[id(last.inputs[0])].name, "softmax": last.name}


def is_softmax(operation: Any) -> bool:
    """Whether an operation is a softmax: the layer, the bare operation or an Activation."""
    activation = getattr(operation, "activation", None)
    return type(operation).__name__ == "Softmax" or activation is keras.activations.softmax
