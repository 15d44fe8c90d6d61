"""SqueezeNet v1.0 and the reader of its Deep Compression weight file.

Keras has no SqueezeNet; the file is the authors' own. Knows no taps and no search for files.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from scalelib.graph import keras

CHANNEL_MEANS = (104.0, 117.0, 123.0)  # blue, green, red
_SQUEEZE_EXPAND = {2: (16, 64), 3: (16, 64), 4: (32, 128), 5: (32, 128), 6: (48, 192), 7: (48, 192),
                   8: (64, 256), 9: (64, 256)}  # fmt: skip


def build_squeezenet(
    *, classes: int = 1000, input_size: tuple[int | None, int | None] = (227, 227)
) -> keras.Model:
    """SqueezeNet v1.0 with fresh weights (Iandola et al. 2016, Table 1).

    Its logits are the spatial average of ``conv10`` after its ReLU.
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
    """RGB images, 0–255, to what SqueezeNet was trained on: BGR less the channel means."""
    return np.asarray(images, np.float32)[..., ::-1] - np.asarray(CHANNEL_MEANS, np.float32)


def read_deep_compression(
    file: Path, shapes: dict[str, tuple[int, int, int, int]]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Read kernels (height, width, in, out) and biases from a Deep Compression file (Han et al. 2016).

    `shapes` are those of the kernels, in the file's order. Little endian. One ``uint32`` per convolution: how many
    entries are stored. Then for each convolution a codebook of 256 ``float32``; the biases; one code byte per entry;
    one 4-bit gap per entry, low nibble first. Entry *i* stands at position Σ_{j≤i} (gap_j + 1) − 1 of the flattened
    (out, in, height, width) kernel; every other position has code 0. A file of another form is a ``ValueError``.
    """
    weights = {}
    with file.open("rb") as stream:

        def take(count: int, dtype: str) -> np.ndarray:
            array = np.fromfile(stream, dtype, count)
            if len(array) < count:
                raise ValueError(f"it ends early, at byte {stream.tell()}")
            return array

        counts = take(len(shapes), "<u4").tolist()
        for (name, (height, width, n_in, n_out)), stored in zip(shapes.items(), counts, strict=True):
            size = height * width * n_in * n_out
            if stored > size:
                raise ValueError(f"{stored} stored entries for {name}, whose kernel has {size}")
            codebook, bias = take(256, "<f4"), take(n_out, "<f4")
            codes, nibbles = take(stored, "u1"), take((stored + 1) // 2, "u1")
            gaps = np.stack([nibbles & 15, nibbles >> 4], axis=1).ravel()[:stored]
            places = np.cumsum(gaps.astype(np.int64) + 1) - 1
            if stored and places[-1] >= size:
                raise ValueError(f"an entry at position {places[-1]} of {name}, whose kernel has {size}")
            dense = np.zeros(size, np.uint8)
            dense[places] = codes
            kernel = codebook[dense].reshape(n_out, n_in, height, width).transpose(2, 3, 1, 0)
            weights[name] = (np.ascontiguousarray(kernel, np.float32), bias.astype(np.float32))
        if stream.read(1):
            raise ValueError("it has bytes left over; it is for another network")
    return weights


def load_deep_compression(model: keras.Model, file: Path) -> None:
    """Set the weights of a SqueezeNet of 1000 classes from its Deep Compression file, in place."""
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    weights = read_deep_compression(file, {layer.name: tuple(layer.kernel.shape) for layer in convolutions})
    for layer in convolutions:
        layer.set_weights(list(weights[layer.name]))
