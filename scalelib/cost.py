"""What pruning saves: parameters, forward time and memory of a network cut at each of several taps.

Knows Keras models; knows no data.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

import numpy as np
import pandas as pd

from scalelib.backend import keras
from scalelib.errors import ScalelibError
from scalelib.networks import Network
from scalelib.pruning import prune


def cost_table(net: Network, taps: Iterable[str], *, batch_size: int = 32, repeats: int = 5) -> pd.DataFrame:
    """Cost of a network pruned at some taps, one linear output on top.

    Parameters
    ----------
    net : Network
        With a fixed input size.
    taps : iterable of str
        Where to cut; the last feature tap is the full network.
    batch_size : int, default=32
    repeats : int, default=5
        Timed passes after one that is not timed, in turn over all taps so that a busy machine slows
        all of them alike.

    Returns
    -------
    pandas.DataFrame
        One row per tap: ``tap``, ``parameters``, ``weights_mib``, ``activations_mib`` (outputs of all
        layers for one image in float32, which backpropagation keeps: it grows with the batch),
        ``forward_ms`` per image (the median pass) and ``forward_ms_min``.

    Raises
    ------
    ScalelibError
        If no tap is given, a number is below 1, or the network takes any size.
    NetworkError
        If a tap is unknown.

    Examples
    --------
    >>> from scalelib.networks import load_network
    >>> net = load_network("MobileNet", weights="random", alpha=0.25, include_top=False, input_size=32)
    >>> table = cost_table(net, ["conv_pw_1", "conv_pw_13"], batch_size=2, repeats=1)
    >>> bool(table.parameters.is_monotonic_increasing)
    True
    """
    taps = list(taps)
    if not taps or min(batch_size, repeats) < 1 or net.input_size is None:
        raise ScalelibError(
            "cost_table: at least one tap, batch_size and repeats of at least 1, and a fixed input size.\n"
            f"Received: taps={taps}, batch_size={batch_size}, repeats={repeats}, input_size={net.input_size}."
        )
    models = [prune(net, at=tap) for tap in taps]
    batch = np.random.default_rng(0).normal(size=(batch_size, *net.input_size, 3)).astype(np.float32)
    times = np.empty((repeats + 1, len(models)))
    for repeat in range(repeats + 1):
        for place, model in enumerate(models):
            started = time.perf_counter()
            model.predict_on_batch(batch)
            times[repeat, place] = time.perf_counter() - started
    per_image = times[1:] * 1000 / batch_size
    return pd.DataFrame(
        {
            "tap": taps,
            "parameters": [model.count_params() for model in models],
            "weights_mib": [4 * model.count_params() / 2**20 for model in models],
            "activations_mib": [_activations(model) / 2**20 for model in models],
            "forward_ms": np.median(per_image, axis=0),
            "forward_ms_min": per_image.min(axis=0),
        }
    )


def _activations(model: keras.Model) -> int:
    """Bytes of all layers' outputs for one image in float32."""
    tensors = [tensor for layer in model.layers for tensor in keras.tree.flatten(layer.output)]
    return 4 * sum(int(np.prod(tensor.shape[1:])) for tensor in tensors)
