"""The preprocessing that each known network was trained with.

Knows names of networks and arrays; builds no network and reads no image file.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable

import numpy as np

from scalelib import squeezenet
from scalelib.backend import keras
from scalelib.errors import NetworkError, did_you_mean

Preprocess = Callable[[np.ndarray], np.ndarray]


def application_names() -> list[str]:
    """All networks of ``keras.applications``, by name.

    Examples
    --------
    >>> "ResNet50" in application_names()
    True
    """
    return [name for name, value in vars(keras.applications).items() if inspect.isfunction(value)]


def preprocess_of(name: str) -> tuple[Preprocess, str]:
    """What a known network was trained with, and its name.

    Parameters
    ----------
    name : str
        In ``keras.applications``, or ``"SqueezeNet"``.

    Returns
    -------
    callable, str
        From RGB images, 0–255, of shape (n, height, width, 3) to float32; the input stays as it is.

    Examples
    --------
    >>> preprocess_of("SqueezeNet")[1]
    'BGR less (104, 117, 123)'
    """
    if name == "SqueezeNet":
        return squeezenet.preprocess, "BGR less (104, 117, 123)"
    module_name = getattr(keras.applications, name).__module__.rsplit(".", 1)[-1]
    module = getattr(keras.applications, module_name)

    def preprocess(images: np.ndarray) -> np.ndarray:
        # Keras's own writes into the array it is given
        return np.asarray(module.preprocess_input(np.array(images, np.float32)), np.float32)

    return preprocess, f"keras.applications.{module_name}.preprocess_input"


def _raw(images: np.ndarray) -> np.ndarray:
    return np.asarray(images, np.float32)


def _scaled_to_one(images: np.ndarray) -> np.ndarray:
    return np.asarray(images, np.float32) / np.float32(255)


def bind(own: Preprocess | None, own_name: str, wanted: str | Preprocess | None) -> tuple[Preprocess, str]:
    """The preprocessing to use, and its name.

    Parameters
    ----------
    own : callable or None
        What the network was trained with, the default; None: nothing.
    own_name : str
        Its name.
    wanted : str, callable or None
        ``"raw"``, ``"0-1"`` (RGB over 255), the name of a network, a function, or None for the default.

    Returns
    -------
    callable, str

    Raises
    ------
    NetworkError
        If the name is unknown.

    Examples
    --------
    >>> bind(None, "raw", "VGG16")[1]
    'keras.applications.vgg16.preprocess_input'
    """
    if wanted is None:
        return own or _raw, own_name
    if callable(wanted):
        return wanted, f"{getattr(wanted, '__module__', '')}.{getattr(wanted, '__qualname__', repr(wanted))}"
    if wanted == "raw":
        return _raw, "raw"
    if wanted == "0-1":
        return _scaled_to_one, "0-1"
    known = [*application_names(), "SqueezeNet"]
    if wanted not in known:
        raise NetworkError(
            f"load_network: no preprocessing {wanted!r}.\nReceived: preprocess={wanted!r}.\n"
            f"{did_you_mean(wanted, [*known, 'raw'])} "
            "It is 'raw', '0-1', a name in keras.applications, 'SqueezeNet' or a function."
        )
    return preprocess_of(wanted)
