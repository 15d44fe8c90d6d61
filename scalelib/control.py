"""The control network: a small CNN that names rendered objects, with the weights that we trained.

Architecture, taps, preprocessing and weight files; no dataset is imported. ``all_scales`` learned
to name objects at every scale and so has a reason to become invariant; its twin ``one_scale`` saw
one scale only and has none.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from scalelib.graph import keras

ASSETS = Path(__file__).parent / "assets"
INPUT_SIZE = (64, 64)
# The trained weights that ship with the package.
WEIGHTS = ("all_scales", "one_scale")

# One row per block: channels, kernel side, stride, and whether a 2×2 max-pool follows.
_BLOCKS = (
    (16, 5, 2, False),
    (24, 3, 1, True),
    (36, 3, 1, False),
    (45, 3, 1, True),
    (54, 3, 1, False),
    (63, 3, 1, True),
    *[(72, 3, 1, False)] * 5,
)
# Taps from input to output, with the layer that each one reads: blocks after their ReLU.
TAPS = {f"conv{k}": f"conv{k}_relu" for k in range(1, len(_BLOCKS) + 1)} | {
    name: name for name in ("pre_softmax", "softmax")
}


def build_control(
    *, classes: int = 10, seed: int = 0, input_size: tuple[int | None, int | None] = INPUT_SIZE
) -> keras.Model:
    """The architecture with random weights: He et al. 2015 for convolutions, Glorot & Bengio 2010 for the logits.

    Outputs are in the order of the classes in ``assets/control_card.json``. The same seed gives the same weights on one
    backend; backends differ.
    """
    layers, initializers = keras.layers, keras.initializers
    x = inputs = keras.Input((*input_size, 3), name="image")
    for k, (channels, kernel, stride, pool) in enumerate(_BLOCKS, start=1):
        start = initializers.HeNormal(seed=1000 * seed + k)
        how = {"use_bias": False, "kernel_initializer": start, "name": f"conv{k}"}
        x = layers.Conv2D(channels, kernel, stride, "same", **how)(x)
        x = layers.BatchNormalization(momentum=0.95, name=f"conv{k}_bn")(x)
        x = layers.ReLU(name=f"conv{k}_relu")(x)
        if pool:
            x = layers.MaxPooling2D(2, name=f"conv{k}_pool")(x)
    x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
    start = initializers.GlorotUniform(seed=1000 * seed)
    x = layers.Dense(classes, kernel_initializer=start, name="pre_softmax")(x)
    return keras.Model(inputs, layers.Softmax(name="softmax")(x), name="control")


def preprocess(images: np.ndarray) -> np.ndarray:
    """RGB values as the network was trained on them: from [0, 255] to [-1, 1]."""
    return np.asarray(images, np.float32) / np.float32(127.5) - np.float32(1)
