"""Activation maximisation: the image is a trainable weight, so that Keras's own training paints it.

All that would else need a backend's gradient is in one function. Knows networks; knows no data.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from scalelib.backend import keras
from scalelib.copying import copy_model
from scalelib.early_features import checked_channels, field_of, linear_part
from scalelib.networks import Network


def maximise_activation(
    net: Network,
    tap: str,
    *,
    channels: Sequence[int],
    side: int | None = None,
    steps: int = 128,
    learning_rate: float = 0.05,
    smoothness: float = 5.0,
    random_state: int = 0,
) -> tuple[np.ndarray, pd.DataFrame]:
    """Paint one image per channel that makes the channel's mean activation large in the middle of its map.

    Parameters
    ----------
    net : Network
    tap : str
        A spatial tap.
    channels : sequence of int
        Channels of the tap.
    side : int, optional
        Side of the images in px. Default: the receptive field and two strides more, at least 32.
    steps : int, default=128
        Steps of Adam.
    learning_rate : float, default=0.05
        Its rate, on the scale of `z` below.
    smoothness : float, default=5.0
        Weight of the images' mean absolute difference between neighbouring pixels (in 0–1), against
        the activation in units of its standard deviation over random images.
    random_state : int, default=0
        Seed of the faint noise from which painting starts.

    Returns
    -------
    images : ndarray of uint8, shape (channels, side, side, 3)
    table : pandas.DataFrame
        ``tap``, ``channel``, ``before``, ``after``: mean activation in the central half of the map, where
        padding counts little, of the noise and of the result.

    Raises
    ------
    NetworkError
        If a channel does not exist, or the network's preprocessing is not linear in the pixels.

    Notes
    -----
    Erhan et al. 2009. Keras has no public gradient, but trains any weight: the image is the only
    trainable weight of a model whose output is the loss, pixels = 255 / (1 + exp(−z)). This runs
    under every backend of Keras.

    Examples
    --------
    >>> from scalelib.networks import load_network
    >>> net = load_network("MobileNet", weights="random", alpha=0.25, input_size=32, include_top=False)
    >>> images, table = maximise_activation(net, "conv_pw_1", channels=[0, 3], steps=16)
    >>> images.shape, bool((table.after > table.before).all())
    ((2, 32, 32, 3), True)
    """
    tensor = net.tensor(tap)
    chosen = checked_channels(channels, tensor.shape[-1], tap)
    field = field_of(net, tap)
    side = side or max(32, field.size + 2 * round(max(field.stride)))
    matrix, offset = linear_part(net.preprocess, net.name)
    reader, _ = copy_model(keras.Model(net.model.input, tensor), input_size=(side, side))
    reader.trainable = False
    rows, columns = (slice(n // 4, n - n // 4) for n in reader.output_shape[1:3])
    rng = np.random.default_rng(random_state)

    def activations(pixels: np.ndarray) -> np.ndarray:
        maps = np.asarray(reader.predict_on_batch(net.preprocess(pixels)))
        return maps[:, rows, columns].mean(axis=(1, 2))[..., chosen]

    spread = activations(rng.uniform(0, 255, (16, side, side, 3)).astype(np.float32)).std(axis=0)
    scale = np.where(spread > 1e-6 * max(float(spread.max()), 1e-30), spread, max(float(spread.max()), 1e-30))
    start = rng.normal(0, 0.1, (len(chosen), side, side, 3)).astype(np.float32)
    clock = keras.Input((1,))
    pixels = keras.ops.sigmoid(_Painting(start)(clock))
    read = reader(keras.ops.matmul(255 * pixels, matrix.T.astype(np.float32)) + offset.astype(np.float32))
    own = np.eye(tensor.shape[-1], dtype=np.float32)[chosen] / scale[:, None].astype(np.float32)
    excitement = keras.ops.sum(keras.ops.mean(read[:, rows, columns], axis=(1, 2)) * own)
    rough = keras.ops.mean(keras.ops.abs(pixels[:, 1:] - pixels[:, :-1]), axis=(1, 2, 3))
    rough += keras.ops.mean(keras.ops.abs(pixels[:, :, 1:] - pixels[:, :, :-1]), axis=(1, 2, 3))
    loss = keras.ops.reshape(smoothness * keras.ops.sum(rough) - excitement, (1, 1))
    painter = keras.Model(clock, loss)
    painter.compile(
        optimizer=keras.optimizers.Adam(learning_rate), loss=lambda _, value: keras.ops.sum(value)
    )
    nothing = np.zeros((steps, 1), np.float32)
    painter.fit(nothing, nothing, batch_size=1, shuffle=False, verbose=0)
    z = np.asarray(painter.trainable_variables[0])
    before, after = ((255 / (1 + np.exp(-values))).astype(np.float32) for values in (start, z))
    table = pd.DataFrame(
        {
            "tap": tap,
            "channel": chosen,
            "before": np.diagonal(activations(before)),
            "after": np.diagonal(activations(after)),
        }
    )
    return np.rint(after).astype(np.uint8), table


class _Painting(keras.layers.Layer):
    """Images as a trainable weight; the input only keeps the time."""

    def __init__(self, start: np.ndarray) -> None:
        super().__init__()
        self.z = self.add_weight(shape=start.shape, initializer=keras.initializers.Constant(0.0), name="z")
        self.z.assign(start)

    def call(self, clock: Any) -> Any:
        return self.z + 0 * keras.ops.sum(clock)
