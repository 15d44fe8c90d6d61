"""How the arrays of a weight file get into a model, all of them or none.

Reads files that it is given; knows no taps and looks for nothing.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from scalelib import squeezenet
from scalelib.backend import keras
from scalelib.errors import WeightsError


def load_weight_file(model: keras.Model, path: str | os.PathLike[str], *, network: str) -> None:
    """Load a weight file into a model, in place.

    Parameters
    ----------
    model : keras.Model
        The network, built as the file was saved.
    path : path-like
        ``.weights.h5`` or ``.h5`` as ``save_weights`` writes it, a whole model as ``.keras`` or
        ``.h5``, or SqueezeNet's Deep Compression file ``.net``.
    network : str
        The network's name, for messages.

    Raises
    ------
    WeightsError
        If the file cannot be read or was made for another network.
    """
    file = Path(path)
    try:
        if file.suffix == ".net":
            squeezenet.load_deep_compression(model, file)
        elif file.suffix == ".keras":
            _copy_arrays(load_whole_model(file), model)
        else:
            _load_every_array(model, file)
    except WeightsError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise WeightsError(
            f"load_network: the weight file does not fit {network}, or is damaged.\n"
            f"Received: {file}; {type(error).__name__}: {reason}\n"
            "The file must hold this network's arrays with these options (alpha, include_top, classes); "
            "a damaged one is to be fetched again."
        ) from error


def _load_every_array(model: keras.Model, file: Path) -> None:
    """Load weights as Keras does, and make sure that none was left as it was.

    Keras skips containers that a file lacks with no more than a warning.
    """
    for layer in model.layers:
        layer.set_weights([_emptied(array) for array in layer.get_weights()])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        model.load_weights(file)
    for layer in model.layers:
        if any(np.issubdtype(a.dtype, np.floating) and np.isnan(a).any() for a in layer.get_weights()):
            raise ValueError(f"it holds no weights, or NaN, for layer {layer.name!r}")


def _emptied(array: np.ndarray) -> np.ndarray:
    return np.full_like(array, np.nan) if np.issubdtype(array.dtype, np.floating) else array


def load_whole_model(path: str | os.PathLike[str]) -> Any:
    """Load a model with its architecture, from a ``.keras`` or whole-model ``.h5`` file.

    Parameters
    ----------
    path : path-like
        The file.

    Returns
    -------
    keras.Model
        Not compiled.

    Raises
    ------
    WeightsError
        If Keras cannot read it, for instance because it needs a custom class.
    """
    try:
        return keras.models.load_model(path, compile=False)
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise WeightsError(
            "load_network: this file is no model that Keras can load, or is damaged.\n"
            f"Received: {path}; {type(error).__name__}: {reason}\n"
            "Custom classes must be registered (keras.saving.register_keras_serializable) and imported first."
        ) from error


def _copy_arrays(source: Any, target: Any) -> None:
    ours, theirs = target.get_weights(), source.get_weights()
    if [array.shape for array in ours] != [array.shape for array in theirs]:
        raise ValueError(f"{len(theirs)} arrays whose shapes are not those of the network's {len(ours)}")
    target.set_weights(theirs)
