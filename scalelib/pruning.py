"""The cut: a network up to one tap with a new linear head, as an ordinary Keras model.

Knows networks; knows no data set and trains nothing. The rule that names the tap knows tables alone
and lives in scalelib.tap_choice.
"""

from __future__ import annotations

import re

import numpy as np

from scalelib.backend import keras
from scalelib.copying import copy_model
from scalelib.errors import NetworkError
from scalelib.graph import seeded
from scalelib.networks import Network, resolve_tap
from scalelib.tap_choice import best_layer, choose_and_report

__all__ = ["best_layer", "choose_and_report", "prune"]


def prune(net: Network, *, at: str, outputs: int = 1, random_state: int = 0) -> keras.Model:
    """The network up to a tap, with a new linear head.

    Parameters
    ----------
    net : Network
        The source; it stays as it is, whatever happens to the result.
    at : str
        The tap to keep as the last one, or its layer's name.
    outputs : int, default=1
        Width of the head.
    random_state : int, default=0
        Seed of the head's weights.

    Returns
    -------
    keras.Model
        Input as the source's, already preprocessed by ``net.preprocess``; then the source's layers
        up to the tap with copied weights, all trainable where they were; for a spatial tap the
        global average ``features``; the linear Dense ``head`` of shape (n, outputs). An ordinary
        Keras model: it saves to ``.keras`` and loads without custom objects.

    Raises
    ------
    NetworkError
        If there is no such tap or `outputs` is no positive whole number.

    Notes
    -----
    Graziani et al. 2021, section 3.4.

    Examples
    --------
    >>> from scalelib.networks import load_network
    >>> net = load_network("MobileNet", weights="random", alpha=0.25, input_size=32)
    >>> small = prune(net, at="conv_pw_3")
    >>> small.output_shape, small.count_params() < net.model.count_params()
    ((None, 1), True)
    """
    if isinstance(outputs, bool) or not isinstance(outputs, int | np.integer) or outputs < 1:
        raise NetworkError(
            f"prune: the head needs a positive whole number of outputs.\\nReceived: outputs={outputs!r}.\\n"
            "One output reads one measure."
        )
    tap = resolve_tap(net, at, operation="prune")
    trunk = keras.Model(net.model.inputs[0], net.tensor(tap))
    with seeded(random_state):
        model, steps = copy_model(trunk, name=re.sub(r"[^\w.]+", "_", f"{net.name}_to_{tap}"))
        taken = {step.name for step in steps}
        x = model.outputs[0]
        if len(x.shape) == 4:
            x = keras.layers.GlobalAveragePooling2D(name=_free("features", taken))(x)
        x = keras.layers.Dense(int(outputs), name=_free("head", taken))(x)
        return keras.Model(model.inputs[0], x, name=model.name)


def _free(name: str, taken: set[str]) -> str:
    """The name, or the first of its numbered forms that no layer has yet."""
    number, free = 1, name
    while free in taken:
        number, free = number + 1, f"{name}_{number + 1}"
    return free
