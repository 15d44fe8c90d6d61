"""The control network: a small CNN that names rendered objects, with the weights that we trained.

Architecture, taps, preprocessing and weight files; no dataset is imported. ``all_scales`` learned
to name objects at every scale and so has a reason to become invariant; its twin ``one_scale`` saw
one scale only and has none.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from scalelib.errors import WeightsError, did_you_mean
from scalelib.graph import keras
from scalelib.networks import load_weight_file

ASSETS = Path(__file__).parent / "assets"
INPUT_SIZE = (64, 64)
WEIGHTS = ("all_scales", "one_scale")
"""Names of the trained weights that ship with the package."""

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

TAPS: dict[str, str] = {
    **{f"conv{k}": f"conv{k}_relu" for k in range(1, len(_BLOCKS) + 1)},
    "pre_softmax": "pre_softmax",
    "softmax": "softmax",
}
"""Taps from input to output, with the layer that each one reads: blocks after their ReLU."""


def load_control(
    weights: str | os.PathLike[str] = "all_scales", *, weights_seed: int = 0, classes: int = 10
) -> keras.Model:
    """The control network with trained or random weights.

    Parameters
    ----------
    weights : str or path-like, default="all_scales"
        ``"all_scales"``, ``"one_scale"`` (both ship with the package), ``"random"``, or a file
        that ``save_weights`` wrote.
    weights_seed : int, default=0
        Seed of the random weights.
    classes : int, default=10
        Width of the logits; the shipped weights have ten.

    Returns
    -------
    keras.Model
        Functional, 64×64 RGB prepared by `preprocess` in, probabilities out; ``TAPS`` names the
        layers to read. Outputs are in the order of ``studies.rendered.scenes.CLASSES``.

    Raises
    ------
    WeightsError
        If there are no such weights, or the file does not fit.

    Examples
    --------
    >>> model = load_control("random", weights_seed=3)
    >>> model.output_shape, model.count_params() < 400_000
    ((None, 10), True)
    """
    model = build_control(classes=classes, seed=weights_seed)
    if weights != "random":
        load_weight_file(model, weights_path(weights), network="control")
    return model


def weights_path(weights: str | os.PathLike[str]) -> Path:
    """The file of shipped weights, or the file given.

    Parameters
    ----------
    weights : str or path-like
        One of ``WEIGHTS``, or the path of a file.

    Returns
    -------
    Path

    Raises
    ------
    WeightsError
        If it is neither.

    Examples
    --------
    >>> weights_path("one_scale").name
    'control_one_scale.weights.h5'
    """
    file = ASSETS / f"control_{weights}.weights.h5" if weights in WEIGHTS else Path(weights)
    if not file.is_file():
        known = (*WEIGHTS, "random")
        hint = did_you_mean(str(weights), known) or "A file must exist and hold this network's weights."
        if weights in WEIGHTS:
            hint = f"{file.name} is missing from this installation of scalelib: install it again."
        raise WeightsError(
            f"load_control: no weights {str(weights)!r}; there are {', '.join(known)}.\n"
            f"Received: {weights!r}.\n{hint}"
        )
    return file


def build_control(*, classes: int = 10, seed: int = 0) -> keras.Model:
    """The architecture with random weights.

    Parameters
    ----------
    classes : int, default=10
        Width of the logits.
    seed : int, default=0
        Seed of the weights: He et al. 2015 for the convolutions, Glorot & Bengio 2010 for the
        logits. The same seed gives the same weights on one backend; backends differ.

    Returns
    -------
    keras.Model
        Eleven blocks of convolution, batch normalisation and ReLU, then global average pooling,
        ``pre_softmax`` and ``softmax``.

    Examples
    --------
    >>> [layer.name for layer in build_control().layers][-3:]
    ['avg_pool', 'pre_softmax', 'softmax']
    """
    layers, initializers = keras.layers, keras.initializers
    x = inputs = keras.Input((*INPUT_SIZE, 3), name="image")
    for k, (channels, kernel, stride, pool) in enumerate(_BLOCKS, start=1):
        x = layers.Conv2D(
            channels,
            kernel,
            strides=stride,
            padding="same",
            use_bias=False,
            kernel_initializer=initializers.HeNormal(seed=1000 * seed + k),
            name=f"conv{k}",
        )(x)
        x = layers.BatchNormalization(momentum=0.95, name=f"conv{k}_bn")(x)
        x = layers.ReLU(name=f"conv{k}_relu")(x)
        if pool:
            x = layers.MaxPooling2D(2, name=f"conv{k}_pool")(x)
    x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
    x = layers.Dense(
        classes, kernel_initializer=initializers.GlorotUniform(seed=1000 * seed), name="pre_softmax"
    )(x)
    return keras.Model(inputs, layers.Softmax(name="softmax")(x), name="control")


def preprocess(images: np.ndarray) -> np.ndarray:
    """RGB values as the network was trained on them: from [0, 255] to [-1, 1].

    Parameters
    ----------
    images : ndarray, shape (n, height, width, 3)
        RGB, 0 to 255; untouched.

    Returns
    -------
    ndarray of float32, same shape

    Examples
    --------
    >>> preprocess(np.array([0, 255], np.uint8)).tolist()
    [-1.0, 1.0]
    """
    return np.asarray(images, np.float32) / np.float32(127.5) - np.float32(1)
