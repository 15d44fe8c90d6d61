"""The preprocessing that each known network was trained with. Which file of ImageNet weights belongs to which network, and where it lies on this machine. How the arrays of a weight file get into a model, all of them or none. Where a model comes from before it is read: a name, a file, a given model, the control network. Networks: a Keras model, the taps at which it is read, and the preprocessing it was trained with."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scalelib import squeezenet
from scalelib.datasets.sources import data_root as find_data_root
from scalelib.datasets.sources import find_weights, keras_home
from scalelib.errors import NetworkError, WeightsError, did_you_mean
from scalelib.graph import (
    Step,
    copy_model,
    depths,
    fields,
    fresh_names,
    keras,
    parameters_up_to,
    seeded,
    weights_digest,
)
from scalelib.taps import choose_taps, resolve, taps_of

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


_KERAS = "https://storage.googleapis.com/tensorflow/keras-applications"
_ALPHAS = {"MobileNet": (0.25, 0.5, 0.75, 1.0), "MobileNetV2": (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)}
_ROWS = {"MobileNet": (128, 160, 192, 224), "MobileNetV2": (96, 128, 160, 192, 224)}


@dataclass(frozen=True)
class WeightFile:
    """A published file of ImageNet weights.

    Parameters
    ----------
    filename : str
        Its name in ``KERAS_HOME/models`` or in the data root's ``weights/``.
    url : str
        Where its publisher keeps it.
    digest : str or None
        ``"md5:…"`` or ``"sha256:…"``; None where none was published.
    """

    filename: str
    url: str
    digest: str | None


def imagenet_file(
    name: str,
    *,
    include_top: bool = True,
    alpha: float = 1.0,
    minimalistic: bool = False,
    input_size: tuple[int | None, int | None] | None = None,
    **options: Any,
) -> WeightFile:
    """The file of ImageNet weights that belongs to a network.

    Parameters
    ----------
    name : str
        A name in ``keras.applications``, or ``"SqueezeNet"``.
    include_top : bool, default=True
        With the classifier.
    alpha : float, default=1.0
        Width multiplier of the MobileNets.
    minimalistic : bool, default=False
        MobileNetV3 without its advanced blocks.
    input_size : tuple of int, optional
        Height and width in px; the first two MobileNets have weights for several sizes.
    **options
        Further options of the network, which do not change the file.

    Returns
    -------
    WeightFile

    Raises
    ------
    WeightsError
        If nobody published weights for these options.

    Examples
    --------
    >>> imagenet_file("MobileNet", alpha=0.25, include_top=False).filename
    'mobilenet_2_5_224_tf_no_top.h5'
    """
    if name == "SqueezeNet":
        url = "https://raw.githubusercontent.com/songhan/SqueezeNet-Deep-Compression/master/"
        return WeightFile(
            squeezenet.WEIGHTS_FILE, url + squeezenet.WEIGHTS_FILE, "md5:9e65b2784de743985f605095d7412130"
        )
    if name in _ALPHAS:
        if alpha not in _ALPHAS[name]:
            raise _unpublished(name, f"alpha={alpha}", f"alpha is one of {_ALPHAS[name]}")
        height, width = input_size or (224, 224)
        rows = height if height == width and height in _ROWS[name] else 224
        top = "" if include_top else "_no_top"
        if name == "MobileNet":
            text = {0.25: "2_5", 0.5: "5_0", 0.75: "7_5", 1.0: "1_0"}[alpha]
            filename = f"mobilenet_{text}_{rows}_tf{top}.h5"
        else:
            filename = f"mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{float(alpha)}_{rows}{top}.h5"
        return WeightFile(filename, f"{_KERAS}/{name.lower().replace('v2', '_v2')}/{filename}", None)
    key = name
    if name in ("MobileNetV3Large", "MobileNetV3Small"):
        size = name.removeprefix("MobileNetV3").lower()
        key = f"mobilenet_v3_{size}{'_minimalistic' if minimalistic else ''}_224_{float(alpha)}_float"
    if key not in _table():
        raise _unpublished(name, f"alpha={alpha}, minimalistic={minimalistic}", "the options' defaults")
    return WeightFile(*_table()[key]["top" if include_top else "no_top"])


def find_imagenet_file(name: str, *, root: str | os.PathLike[str] | None = None, **options: Any) -> Path:
    """Where a network's ImageNet weights lie on this machine; nothing is downloaded.

    Parameters
    ----------
    name : str
        A name in ``keras.applications``, or ``"SqueezeNet"``.
    root : path-like, optional
        The data root; see :func:`scalelib.datasets.sources.data_root`.
    **options
        As for :func:`imagenet_file`.

    Returns
    -------
    pathlib.Path

    Raises
    ------
    WeightsError
        If the file is not there; names it, where to put it and how to fetch it.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as root:
    ...     folder = Path(root) / "weights"
    ...     folder.mkdir()
    ...     _ = (folder / squeezenet.WEIGHTS_FILE).write_bytes(b"")
    ...     find_imagenet_file("SqueezeNet", root=root).name
    'compressed_SqueezeNet.net'
    """
    wanted = imagenet_file(name, **options)
    try:
        return find_weights(wanted.filename, root=root)
    except WeightsError:
        pass
    folders = [find_data_root(root) / "weights", keras_home() / "models"]
    flags = "".join(f" --{key.replace('_', '-')} {value}" for key, value in options.items() if key == "alpha")
    flags += "" if options.get("include_top", True) else " --no-top"
    hint = f"Put it into {folders[1]}, or run: scalelib fetch --weights {name}{flags}"
    top = options.get("include_top", True)
    other = imagenet_file(name, **{**options, "include_top": not top})
    if other.filename != wanted.filename and any((folder / other.filename).is_file() for folder in folders):
        hint += f"\n{other.filename} is here: load_network({name!r}, include_top={not top}, …) would use it."
    raise WeightsError(
        f"load_network: the ImageNet weights of {name} are not on this machine.\n"
        f"Received: no {wanted.filename} in {' or '.join(map(str, folders))}.\n{hint}"
    )


@cache
def _table() -> dict[str, dict[str, list[str]]]:
    text = resources.files("scalelib").joinpath("assets", "imagenet_files.json").read_text("utf-8")
    return json.loads(text)


def _unpublished(name: str, received: str, known: str) -> WeightsError:
    return WeightsError(
        f"load_network: there are no published ImageNet weights for {name} with these options.\n"
        f"Received: {received}.\nWith weights, {known}; with weights='random', any value works."
    )


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


Size = tuple[int, int] | None


@dataclass(frozen=True)
class Network:
    """A network ready to be read.

    Parameters
    ----------
    name : str
        Such as ``"ResNet50"`` or ``"MobileNet 0.25"``.
    model : keras.Model
        From a preprocessed image to the last output, every layer within reach. It is the network's
        own copy: train a pruned network or a model of your own, not this one.
    taps : dict of str to str
        Tap name → name of the layer whose output is read, from input to output.
    preprocess : callable
        From RGB images, 0–255, of shape (n, height, width, 3), to what the model reads.
    preprocess_name : str
        What the preprocessing is, for cards and cache keys.
    input_size : tuple of int, or None
        Height and width in px that images are brought to; None: any size.
    weights : str
        ``"imagenet"``, ``"random"``, the name of a weight file, or ``"given"``.
    weights_seed : int or None
        Seed of random weights; None where weights were loaded.
    weights_digest : str
        SHA-256 over names, shapes and bytes of all weight arrays.
    steps : list of Step
        The model's graph.
    """

    name: str
    model: Any
    taps: dict[str, str]
    preprocess: Preprocess
    preprocess_name: str
    input_size: Size
    weights: str
    weights_seed: int | None
    weights_digest: str
    steps: list[Step] = field(repr=False, compare=False)

    def tensor(self, tap: str) -> Any:
        """The symbolic output of a tap.

        Parameters
        ----------
        tap : str
            A tap, its layer's name, or a name that the paper or an older Keras used.

        Returns
        -------
        keras.KerasTensor
            Of shape (n, height, width, channels) or (n, channels).

        Raises
        ------
        NetworkError
            If there is no such tap.
        """
        return self.step(tap).outputs[0]

    def step(self, tap: str) -> Step:
        """The step of the graph whose output a tap reads; see :meth:`tensor`."""
        layer = self.taps[resolve(tap, self.taps, network=self.name, operation="tensor")]
        return next(step for step in reversed(self.steps) if step.name == layer)


def resolve_tap(net: Network, name: str, *, operation: str = "resolve_tap") -> str:
    """A tap's present name from that name, its layer's, or one used by the paper or an older Keras.

    Parameters
    ----------
    net : Network
    name : str
        For ResNet50 ``"add16"``, ``"conv5_block3_add"`` and ``"add_16"`` are the same tap.
    operation : str
        Who asks; the first word of the message.

    Returns
    -------
    str
        A key of ``net.taps``.

    Raises
    ------
    NetworkError
        If no tap is meant; names near matches and all taps.

    Examples
    --------
    >>> net = load_network("MobileNet", weights="random", alpha=0.25, input_size=32)
    >>> resolve_tap(net, "pre-softmax")
    'pre_softmax'
    """
    return resolve(name, net.taps, network=net.name, operation=operation)


def load_network(
    name_or_model: Any,
    *,
    weights: str | os.PathLike[str] = "imagenet",
    weights_seed: int = 0,
    input_size: int | tuple[int, int] | str | None = None,
    taps: Iterable[str] | Mapping[str, str] | None = None,
    preprocess: str | Preprocess | None = None,
    data_root: str | os.PathLike[str] | None = None,
    **options: Any,
) -> Network:
    """Load a network with its taps and its own preprocessing.

    Parameters
    ----------
    name_or_model : str, path-like or keras.Model
        A name in ``keras.applications``, ``"SqueezeNet"``, ``"control"``, the path of a whole model
        (``.keras``, ``.h5``), or a functional or sequential Keras model, which is copied.
    weights : str or path-like, default="imagenet"
        ``"imagenet"``: the published weights, which must lie on this machine; nothing is downloaded.
        ``"random"``: fresh weights from `weights_seed`. Else a weight file, by path or by bare name
        (data root's ``weights/``, then Keras's ``models/``). A model that is given keeps its own
        weights unless this is ``"random"`` or a file. For ``"control"``: ``"all_scales"`` (also by
        default), ``"one_scale"`` or ``"random"``.
    weights_seed : int, default=0
        Seed of random weights; no global generator is touched.
    input_size : int, (int, int) or "any", optional
        Height and width in px. Default: the size the network was trained at; for a model that is
        given, its own. ``"any"``: images keep their sizes, where the network allows it.
    taps : iterable of str or mapping of str to str, optional
        Tap or layer names, or own tap names → layer names. Default: see :func:`scalelib.taps.taps_of`.
    preprocess : "raw", str or callable, optional
        Default: what the network was trained with; nothing for a model that is given. ``"raw"``:
        nothing, as in the paper's notebooks. ``"0-1"``: divided by 255. A name in
        ``keras.applications``: that network's.
    data_root : path-like, optional
        Where weight files are looked for first; see :func:`scalelib.datasets.sources.data_root`.
    **options
        Passed on to the constructor: ``alpha``, ``include_top``, ``classes`` …

    Returns
    -------
    Network

    Raises
    ------
    NetworkError
        If the name, a tap or an option is unknown, or the model cannot be read layer by layer.
    WeightsError
        If the weight file is missing, damaged or made for another network.

    Examples
    --------
    >>> net = load_network("MobileNet", weights="random", alpha=0.25, input_size=64)
    >>> list(net.taps)[-3:]
    ['conv_pw_13', 'pre_softmax', 'softmax']
    """
    _check_channels_last()
    size = parse_size(input_size)
    with seeded(weights_seed):
        resize_to = size
        if isinstance(name_or_model, str) and name_or_model == "control":
            source = control(weights, weights_seed, options)
        elif isinstance(name_or_model, str) and not name_or_model.endswith((".keras", ".h5")):
            source = named(name_or_model, weights, size, data_root, options)
            resize_to = None  # built at its size: paddings may depend on it
        else:
            source = given(name_or_model, weights, data_root, options)
        random_weights = weights == "random"
        model, steps = copy_model(
            source.model,
            rename=fresh_names(source.model) if source.architecture else None,
            name=source.name,
            input_size=resize_to,
            keep_weights=bool(source.architecture) or not random_weights,
        )
    bound, label = bind(source.preprocess, source.preprocess_name, preprocess)
    shape = model.input_shape[1:3]
    return Network(
        name=source.name,
        model=model,
        taps=choose_taps(taps, source.taps or taps_of(source.architecture, steps), steps, source.name),
        preprocess=bound,
        preprocess_name=label,
        input_size=None if None in shape else (shape[0], shape[1]),
        weights=source.weights,
        weights_seed=weights_seed if random_weights else None,
        weights_digest=weights_digest(steps),
        steps=steps,
    )


def describe(net: Network) -> pd.DataFrame:
    """What each tap of a network is, from the graph alone.

    Parameters
    ----------
    net : Network

    Returns
    -------
    pandas.DataFrame
        One row per tap: ``tap``, ``layer``, ``depth`` (layers with a kernel on the longest path),
        ``channels``, ``stride`` (input pixels from one unit to the next), ``receptive_field`` (its
        longer side in input pixels, see :func:`scalelib.graph.fields`; both missing where a unit
        reads the whole image) and ``parameters`` (weights that the tap depends on).

    Examples
    --------
    >>> table = describe(load_network("VGG16", weights="random", input_size=32, include_top=False))
    >>> table.receptive_field.tolist()
    [5, 14, 40, 92, 196]
    """
    seen, depth = fields(net.steps), depths(net.steps)
    records = []
    for tap, layer in net.taps.items():
        tensor = net.tensor(tap)
        field = seen[id(tensor)]
        records.append(
            {
                "tap": tap,
                "layer": layer,
                "depth": depth[id(tensor)],
                "channels": tensor.shape[-1],
                "stride": round(max(field.stride)) if field else pd.NA,
                "receptive_field": field.size if field else pd.NA,
                "parameters": parameters_up_to(net.steps, tensor),
            }
        )
    return pd.DataFrame(records).astype({"stride": "Int64", "receptive_field": "Int64"})


def _check_channels_last() -> None:
    if keras.config.image_data_format() != "channels_last":
        raise NetworkError(
            "load_network: images are (height, width, channels) here.\n"
            "Received: keras.config.image_data_format() == 'channels_first'.\n"
            "Call keras.config.set_image_data_format('channels_last') first."
        )
