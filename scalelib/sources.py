"""Where a model comes from before it is read: a name, a file, a given model, the control network.

Builds models, loads their weights and says which preprocessing they were trained with; knows no taps.
"""

from __future__ import annotations

import importlib
import inspect
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scalelib import squeezenet
from scalelib.backend import keras
from scalelib.copying import copy_model
from scalelib.errors import NetworkError, did_you_mean
from scalelib.locations import find_weights
from scalelib.preprocessing import Preprocess, application_names, preprocess_of
from scalelib.weight_files import find_imagenet_file
from scalelib.weight_loading import load_weight_file, load_whole_model

# Height and width in px where they are not 224, the size of the others.
_TRAINED_AT = {
    "InceptionV3": 299, "InceptionResNetV2": 299, "Xception": 299, "NASNetLarge": 331,
    "EfficientNetB1": 240, "EfficientNetB2": 260, "EfficientNetB3": 300, "EfficientNetB4": 380,
    "EfficientNetB5": 456, "EfficientNetB6": 528, "EfficientNetB7": 600,
    "EfficientNetV2B1": 240, "EfficientNetV2B2": 260, "EfficientNetV2B3": 300,
    "EfficientNetV2S": 384, "EfficientNetV2M": 480, "EfficientNetV2L": 480, "SqueezeNet": 227,
}  # fmt: skip


@dataclass(frozen=True)
class Source:
    """A model before it is copied, and what goes with it.

    Parameters
    ----------
    name : str
        Of the network.
    model : keras.Model
        Not yet copied.
    weights : str
        Label of its weights.
    architecture : str or None
        Name of a known architecture, whose layers' made-up names are renewed; None: somebody's own.
    preprocess, preprocess_name : callable, str
        What the model was trained with.
    taps : dict of str to str, optional
        Tap name → layer name. Default: by architecture or from the graph.
    """

    name: str
    model: Any
    weights: str
    architecture: str | None = None
    preprocess: Preprocess | None = None
    preprocess_name: str = "raw"
    taps: dict[str, str] | None = None


def parse_size(size: int | tuple[int, int] | str | None) -> tuple[int | None, int | None] | None:
    """Height and width from what a caller may write: a number, a pair, ``"any"`` or nothing.

    Examples
    --------
    >>> parse_size(64), parse_size("any")
    ((64, 64), (None, None))
    """
    if size is None:
        return None
    if size == "any":
        return (None, None)
    pair = (size, size) if isinstance(size, int | np.integer) else size
    if (
        isinstance(pair, tuple | list)
        and len(pair) == 2
        and all(isinstance(side, int | np.integer) and side > 0 for side in pair)
    ):
        return (int(pair[0]), int(pair[1]))
    raise NetworkError(
        "load_network: input_size is a number of pixels, a pair of them, or 'any'.\n"
        f"Received: input_size={size!r}.\nFor instance input_size=(224, 224)."
    )


def named(
    name: str,
    weights: str | os.PathLike[str],
    input_size: tuple[int | None, int | None] | None,
    data_root: str | os.PathLike[str] | None,
    options: dict[str, Any],
) -> Source:
    """A network known by name, with its weights.

    Parameters
    ----------
    name : str
        In ``keras.applications``, or ``"SqueezeNet"``.
    weights : str or path-like
        ``"imagenet"``, ``"random"`` or a weight file.
    input_size : tuple of (int or None), or None
        Height and width in px. Default: those it was trained at.
    data_root : path-like or None
        Where weight files are looked for first.
    options : dict
        Arguments of the network's constructor.

    Returns
    -------
    Source

    Raises
    ------
    NetworkError
        If the name or an option is unknown, or the size is too small.
    WeightsError
        If the weight file is missing, damaged or made for another network.

    Examples
    --------
    >>> named("MobileNet", "random", (32, 32), None, {"alpha": 0.25}).name
    'MobileNet 0.25'
    """
    known = [*application_names(), "SqueezeNet", "control"]
    if name not in known:
        hint = did_you_mean(name, known) or f"Known: {', '.join(known)}."
        raise NetworkError(f"load_network: no network {name!r}.\nReceived: {name!r}.\n{hint}")
    size = input_size or (_TRAINED_AT.get(name, 224),) * 2
    file = None
    if weights == "imagenet":
        file = find_imagenet_file(name, root=data_root, input_size=size, **options)
    elif weights != "random":
        file = find_weights(weights, root=data_root)
    try:
        if name == "SqueezeNet":
            model = squeezenet.build_squeezenet(input_size=size, **options)
        else:
            image = keras.Input((*size, 3), name="image")
            model = getattr(keras.applications, name)(weights=None, input_tensor=image, **options)
    except (TypeError, ValueError) as error:
        raise NetworkError(
            f"load_network: {name} cannot be built with these options.\n"
            f"Received: input_size={size}, {options}; {' '.join(str(error).split())[:300]}\n"
            f"Options of {name}: {', '.join(_options_of(name))}."
        ) from error
    if file is not None:
        load_weight_file(model, file, network=name)
    bound, label = preprocess_of(name)
    alpha = options.get("alpha", 1.0)
    shown = name if alpha == 1.0 else f"{name} {alpha}"
    used = str(weights) if weights in ("imagenet", "random") else Path(weights).name
    return Source(shown, model, used, name, bound, label)


def given(
    model: Any,
    weights: str | os.PathLike[str],
    data_root: str | os.PathLike[str] | None,
    options: dict[str, Any],
) -> Source:
    """A model that somebody brings, as an object or as a file.

    Parameters
    ----------
    model : keras.Model or path-like
        Functional or sequential; or the file of such a model.
    weights : str or path-like
        ``"imagenet"`` (the model's own), ``"random"`` or a weight file.
    data_root : path-like or None
        Where files with bare names are looked for first.
    options : dict
        Must be empty.

    Returns
    -------
    Source

    Raises
    ------
    NetworkError
        If there are options.
    WeightsError
        If a file is missing, damaged or made for another network.

    Examples
    --------
    >>> given(keras.Sequential(name="mine"), "imagenet", None, {}).name
    'mine'
    """
    if options:
        raise NetworkError(
            "load_network: a model that is given takes no options.\n"
            f"Received: {', '.join(options)}.\nOptions go with a network's name."
        )
    label = "given"
    if isinstance(model, str | os.PathLike):
        file = find_weights(model, root=data_root)
        label = file.name
        model = load_whole_model(file)
    if weights not in ("imagenet", "random"):
        file = find_weights(weights, root=data_root)
        model, _ = copy_model(model)
        load_weight_file(model, file, network=model.name)
        label = file.name
    label = "random" if weights == "random" else label
    return Source(getattr(model, "name", type(model).__name__), model, label)


def control(weights: str | os.PathLike[str], weights_seed: int, options: dict[str, Any]) -> Source:
    """The control network, which ships with the package.

    Parameters
    ----------
    weights : str or path-like
        ``"all_scales"`` (also ``"imagenet"``, the default of other networks), ``"one_scale"``,
        ``"random"`` or a weight file.
    weights_seed : int
        Seed of random weights.
    options : dict
        Further arguments of :func:`scalelib.control.load_control`.

    Returns
    -------
    Source

    Examples
    --------
    >>> control("random", 0, {}).taps["pre_softmax"]
    'pre_softmax'
    """
    module = importlib.import_module("scalelib.control")
    chosen = "all_scales" if weights == "imagenet" else weights
    if set(options) - {"classes"}:
        raise NetworkError(
            f"load_network: control cannot be built with these options.\nReceived: {options}.\n"
            "Options of control: classes."
        )
    model = module.load_control(chosen, weights_seed=weights_seed, **options)
    label = "scalelib.control.preprocess"
    return Source("control", model, Path(chosen).name, "control", module.preprocess, label, module.TAPS)


def _options_of(name: str) -> list[str]:
    build = squeezenet.build_squeezenet if name == "SqueezeNet" else getattr(keras.applications, name)
    own = ("weights", "input_tensor", "input_shape", "input_size", "classifier_activation", "pooling", "name")
    return [option for option in inspect.signature(build).parameters if option not in own]
