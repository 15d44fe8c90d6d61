"""SqueezeNet v1.0 and the reader of its Deep Compression weight file.

Keras has no SqueezeNet; the file is the authors' own. Knows no taps and no search for files.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from scalelib.errors import WeightsError
from scalelib.graph import keras

WEIGHTS_FILE = "compressed_SqueezeNet.net"
CHANNEL_MEANS = (104.0, 117.0, 123.0)  # blue, green, red

_SQUEEZE_EXPAND = {2: (16, 64), 3: (16, 64), 4: (32, 128), 5: (32, 128), 6: (48, 192), 7: (48, 192),
                   8: (64, 256), 9: (64, 256)}  # fmt: skip


def build_squeezenet(
    *, classes: int = 1000, input_size: tuple[int | None, int | None] = (227, 227)
) -> keras.Model:
    """SqueezeNet v1.0 with fresh weights (Iandola et al. 2016, Table 1).

    Parameters
    ----------
    classes : int, default=1000
        Channels of ``conv10``.
    input_size : tuple of (int or None), default=(227, 227)
        Height and width in px.

    Returns
    -------
    keras.Model
        From BGR images, 0–255 less the channel means, of shape (n, height, width, 3), to class
        probabilities of shape (n, classes). Layers: ``conv1``, ``pool1``, ``fire2`` … ``fire9``
        (the concatenations), ``conv10`` with its ReLU, ``pre_softmax`` (its spatial average),
        ``softmax``.

    Examples
    --------
    >>> build_squeezenet(input_size=(64, 64)).count_params()
    1248424
    """
    layers = keras.layers
    image = keras.Input((*input_size, 3), name="image")
    x = layers.Conv2D(96, 7, strides=2, activation="relu", name="conv1")(image)
    x = layers.MaxPooling2D(3, 2, name="pool1")(x)
    for number, (squeeze, expand) in _SQUEEZE_EXPAND.items():
        if number in (5, 9):
            x = layers.MaxPooling2D(3, 2, name=f"pool{number - 1}")(x)
        s = layers.Conv2D(squeeze, 1, activation="relu", name=f"fire{number}_squeeze1x1")(x)
        narrow = layers.Conv2D(expand, 1, activation="relu", name=f"fire{number}_expand1x1")(s)
        wide = layers.Conv2D(expand, 3, padding="same", activation="relu", name=f"fire{number}_expand3x3")(s)
        x = layers.Concatenate(name=f"fire{number}")([narrow, wide])
    x = layers.Dropout(0.5, name="dropout")(x)
    x = layers.Conv2D(classes, 1, activation="relu", name="conv10")(x)
    x = layers.GlobalAveragePooling2D(name="pre_softmax")(x)
    return keras.Model(image, layers.Softmax(name="softmax")(x), name="SqueezeNet")


def preprocess(images: np.ndarray) -> np.ndarray:
    """RGB images, 0–255, to what SqueezeNet was trained on: BGR less the channel means.

    Parameters
    ----------
    images : ndarray, shape (n, height, width, 3)
        RGB.

    Returns
    -------
    ndarray of float32, same shape

    Examples
    --------
    >>> preprocess(np.full((1, 1, 1, 3), [200.0, 117.0, 4.0])).ravel().tolist()
    [-100.0, 0.0, 77.0]
    """
    return np.asarray(images, np.float32)[..., ::-1] - np.asarray(CHANNEL_MEANS, np.float32)


def read_deep_compression(
    path: str | os.PathLike[str], shapes: dict[str, tuple[int, int, int, int]]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Read kernels and biases from a Deep Compression file (Han et al. 2016).

    Little endian. One ``uint32`` per convolution: how many entries are stored. Then for each
    convolution a codebook of 256 ``float32``; the biases; one code byte per entry; one 4-bit gap per
    entry, low nibble first. Entry *i* stands at position Σ_{j≤i} (gap_j + 1) − 1 of the flattened
    (out, in, height, width) kernel; every other position has code 0.

    Parameters
    ----------
    path : path-like
        The file.
    shapes : dict of str to tuple of int
        Kernel shapes (height, width, in, out) of the convolutions, in the file's order.

    Returns
    -------
    dict of str to (ndarray, ndarray)
        Kernel of shape (height, width, in, out) and bias of shape (out,), both float32.

    Raises
    ------
    WeightsError
        If the file ends early, has bytes left over, or names positions outside a kernel.

    Examples
    --------
    >>> import tempfile
    >>> entries = np.array([1], "<u4").tobytes()
    >>> codebook = np.arange(256, dtype="<f4").tobytes()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "one.net"
    ...     _ = file.write_bytes(entries + codebook + np.zeros(1, "<f4").tobytes() + bytes([7, 2]))
    ...     read_deep_compression(file, {"conv": (2, 2, 1, 1)})["conv"][0].ravel().tolist()
    [0.0, 0.0, 7.0, 0.0]
    """
    file = Path(path)
    content = file.read_bytes()
    position = 0

    def take(count: int, dtype: str) -> np.ndarray:
        nonlocal position
        end = position + count * np.dtype(dtype).itemsize
        if end > len(content):
            raise WeightsError(
                f"read_deep_compression: {file.name} ends early; it is truncated or no such file.\n"
                f"Received: {len(content)} bytes in {file}, at least {end} wanted.\n"
                "Fetch it again: scalelib fetch --weights SqueezeNet."
            )
        values = np.frombuffer(content, dtype, count, position)
        position = end
        return values

    counts = take(len(shapes), "<u4")
    weights = {}
    for (name, (height, width, n_in, n_out)), stored in zip(shapes.items(), counts.tolist(), strict=True):
        size = height * width * n_in * n_out
        if stored > size:
            raise WeightsError(
                f"read_deep_compression: {file.name} does not fit this network.\n"
                f"Received: {stored} stored entries for {name}, whose kernel has {size}.\n"
                "Fetch it again: scalelib fetch --weights SqueezeNet."
            )
        codebook, bias = take(256, "<f4"), take(n_out, "<f4")
        codes, nibbles = take(stored, "u1"), take((stored + 1) // 2, "u1")
        gaps = np.stack([nibbles & 15, nibbles >> 4], axis=1).ravel()[:stored]
        places = np.cumsum(gaps.astype(np.int64) + 1) - 1
        if stored and places[-1] >= size:
            raise WeightsError(
                f"read_deep_compression: {file.name} does not fit this network.\n"
                f"Received: an entry at position {places[-1]} of {name}, whose kernel has {size}.\n"
                "Fetch it again: scalelib fetch --weights SqueezeNet."
            )
        dense = np.zeros(size, np.uint8)
        dense[places] = codes
        kernel = codebook[dense].reshape(n_out, n_in, height, width).transpose(2, 3, 1, 0)
        weights[name] = (np.ascontiguousarray(kernel, np.float32), bias.astype(np.float32))
    if position != len(content):
        raise WeightsError(
            f"read_deep_compression: {file.name} has bytes left over; it is for another network.\n"
            f"Received: {len(content)} bytes in {file}, {position} read.\n"
            "Fetch it again: scalelib fetch --weights SqueezeNet."
        )
    return weights


def load_deep_compression(model: keras.Model, path: str | os.PathLike[str]) -> None:
    """Set the weights of a SqueezeNet from its Deep Compression file, in place.

    Parameters
    ----------
    model : keras.Model
        Made by :func:`build_squeezenet` with 1000 classes.
    path : path-like
        The file.

    Raises
    ------
    WeightsError
        See :func:`read_deep_compression`.
    """
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    shapes = {layer.name: tuple(layer.kernel.shape) for layer in convolutions}
    weights = read_deep_compression(path, shapes)
    for layer in convolutions:
        layer.set_weights(list(weights[layer.name]))
