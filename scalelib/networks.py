"""Networks: a Keras model by name, file or object, with its weights, its taps and the preprocessing it was trained with.

Knows which file of published weights belongs to which network and finds it; downloads nothing, knows no data set.
"""

from __future__ import annotations

import inspect
import json
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scalelib import control, graph, squeezenet
from scalelib.datasets import sources
from scalelib.errors import WeightsError, brief, did_you_mean
from scalelib.graph import Step, copy_model, keras, loadable, seeded, weights_digest
from scalelib.results import has_digest
from scalelib.taps import choose_taps, resolve, taps_of

Preprocess = Callable[[np.ndarray], np.ndarray]
Size = tuple[int, int] | None
AnySize = tuple[int | None, int | None] | None
PathLike = str | os.PathLike[str]

# Side in px where it is not 224, the side of the others.
_TRAINED_AT = {
    "InceptionV3": 299, "InceptionResNetV2": 299, "Xception": 299, "NASNetLarge": 331,
    "EfficientNetB1": 240, "EfficientNetB2": 260, "EfficientNetB3": 300, "EfficientNetB4": 380,
    "EfficientNetB5": 456, "EfficientNetB6": 528, "EfficientNetB7": 600,
    "EfficientNetV2B1": 240, "EfficientNetV2B2": 260, "EfficientNetV2B3": 300,
    "EfficientNetV2S": 384, "EfficientNetV2M": 480, "EfficientNetV2L": 480, "SqueezeNet": 227, "control": 64,
}  # fmt: skip
_OURS: dict[str, Any] = {"SqueezeNet": squeezenet.build_squeezenet, "control": control.build_control}


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
        layer = self.taps[resolve_tap(self, tap, operation="tensor")]
        return next(step for step in reversed(self.steps) if step.name == layer)


def resolve_tap(net: Network, name: str, *, operation: str = "resolve_tap") -> str:
    """A key of ``net.taps`` from that name, its layer's, or one used by the paper or an older Keras."""
    return resolve(name, net.taps, network=net.name, operation=operation)


def load_network(
    name_or_model: Any,
    *,
    weights: PathLike = "imagenet",
    weights_seed: int = 0,
    input_size: int | tuple[int, int] | str | None = None,
    taps: Iterable[str] | Mapping[str, str] | None = None,
    preprocess: str | Preprocess | None = None,
    data_root: PathLike | None = None,
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
        default), ``"one_scale"``, ``"random"`` or a file.
    weights_seed : int, default=0
        Seed of random weights; no global generator is touched.
    input_size : int, (int, int) or "any", optional
        Height and width in px. Default: the size the network was trained at; for a model that is
        given, its own. ``"any"``: images keep their sizes, where the network allows it.
    taps : iterable of str or mapping of str to str, optional
        Tap or layer names, or own tap names → layer names. Default: one a block, the logits, the softmax.
    preprocess : "raw", str or callable, optional
        Default: what the network was trained with; nothing for a model that is given. ``"raw"``:
        nothing, as in the paper's notebooks. ``"0-1"``: divided by 255. A name in
        ``keras.applications``: that network's.
    data_root : path-like, optional
        Where weight files are looked for first. Default: ``SCALELIB_DATA``, else the user's cache folder.
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
    data_format = keras.config.image_data_format()
    advice = "Call keras.config.set_image_data_format('channels_last') first"
    loadable(data_format == "channels_last", "images are (height, width, channels) here", data_format, advice)
    size = _size(input_size)
    architecture = None
    if isinstance(name_or_model, str) and not name_or_model.endswith((".keras", ".h5")):
        architecture = name_or_model
        if architecture == "control" and weights == "imagenet":
            weights = control.WEIGHTS[0]
    with seeded(weights_seed):
        if architecture:
            source = _build(architecture, weights, weights_seed, size, data_root, options)
            name = architecture if options.get("alpha", 1) == 1 else f"{architecture} {options['alpha']}"
            model, steps, label = *graph.adopt(source, name=name), Path(weights).name
        else:
            what = "a model that is given takes no options"
            loadable(not options, what, ", ".join(options), "They go with a network's name")
            name, model, steps, label = _given(name_or_model, weights, size, data_root)
    default = control.TAPS if architecture == "control" else taps_of(architecture, steps)
    bound, bound_name = _preprocessing(preprocess or architecture or "raw")
    shape = model.input_shape[1:3]
    return Network(
        name=name,
        model=model,
        taps=choose_taps(taps, default, steps, name),
        preprocess=bound,
        preprocess_name=bound_name,
        input_size=None if None in shape else (shape[0], shape[1]),
        weights=label,
        weights_seed=weights_seed if weights == "random" else None,
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
        longer side in input pixels; both missing where a unit reads the whole image) and
        ``parameters`` (weights that the tap depends on).

    Examples
    --------
    >>> table = describe(load_network("VGG16", weights="random", input_size=32, include_top=False))
    >>> table.receptive_field.tolist()
    [5, 14, 40, 92, 196]
    """
    seen, depth = graph.fields(net.steps), graph.depths(net.steps)
    rows = []
    for tap, layer in net.taps.items():
        tensor = net.tensor(tap)
        field = seen[id(tensor)]
        stride, reach = (round(max(field.stride)), field.size) if field else (pd.NA, pd.NA)
        parameters = keras.Model(net.model.inputs[0], tensor).count_params()
        rows.append((tap, layer, depth[id(tensor)], tensor.shape[-1], stride, reach, parameters))
    columns = ["tap", "layer", "depth", "channels", "stride", "receptive_field", "parameters"]
    return pd.DataFrame(rows, columns=columns).astype({"stride": "Int64", "receptive_field": "Int64"})


def application_names() -> list[str]:
    """All networks of ``keras.applications``, by name."""
    return [name for name, value in vars(keras.applications).items() if inspect.isfunction(value)]


def _build(
    name: str, weights: PathLike, seed: int, size: AnySize, root: PathLike | None, options: dict[str, Any]
) -> Any:
    """A network known by name, with its weights."""
    known = [*application_names(), *_OURS]
    hint = did_you_mean(name, known) or f"Known: {', '.join(known)}"
    loadable(name in known, f"no network {name!r}", repr(name), hint)
    size = size or (_TRAINED_AT.get(name, 224),) * 2
    file = None
    if name == "control" and weights != "random":
        file = control.weights_path(weights)
    elif weights == "imagenet":
        file = find_imagenet_file(name, root=root, input_size=size, **options)
    elif weights != "random":
        file = sources.find_weights(weights, root=root)
    build = _OURS.get(name) or getattr(keras.applications, name)
    own: dict[str, Any] = {"input_size": size} | ({"seed": seed} if name == "control" else {})
    if name not in _OURS:
        own = {"weights": None, "input_tensor": keras.Input((*size, 3), name="image")}
    try:
        model = build(**own, **options)
    except (TypeError, ValueError) as error:
        ours = {*own, "input_shape", "classifier_activation", "pooling", "name"}
        takes = ", ".join(option for option in inspect.signature(build).parameters if option not in ours)
        received = f"input_size={size}, {options}; {brief(error)}"
        loadable(False, f"{name} cannot be built with these options", received, f"Options of {name}: {takes}")
    if file is not None:
        load_weight_file(model, file, network=name)
    return model


def _given(
    model: Any, weights: PathLike, size: AnySize, root: PathLike | None
) -> tuple[str, Any, list[Step], str]:
    """A model that somebody brings, as an object or a file: its name, its copy, the graph, its weights' name."""
    label = "random" if weights == "random" else "given"
    if isinstance(model, str | os.PathLike):
        file = sources.find_weights(model, root=root)
        label = label if weights == "random" else file.name
        with _readable(file, "Custom classes must be registered (keras.saving) and imported first"):
            model = keras.models.load_model(file, compile=False)
    copy, steps = copy_model(model, input_size=size, keep_weights=weights != "random")
    if weights not in ("random", "imagenet"):
        file = sources.find_weights(weights, root=root)
        load_weight_file(copy, file, network=model.name)
        label = file.name
    return model.name, copy, steps, label


def _size(size: int | tuple[int, int] | str | None) -> AnySize:
    """Height and width from what a caller may write: a number, a pair, ``"any"`` or nothing."""
    if size is None or size == "any":
        return None if size is None else (None, None)
    pair = tuple(size) if isinstance(size, tuple | list) else (size, size)
    whole = len(pair) == 2 and all(isinstance(side, int | np.integer) and side > 0 for side in pair)
    rule = "input_size is a number of pixels, a pair of them, or 'any'"
    loadable(whole, rule, f"input_size={size!r}", "For instance input_size=224")
    return (int(pair[0]), int(pair[1]))


def _raw(images: np.ndarray) -> np.ndarray:
    return np.asarray(images, np.float32)


def _scaled_to_one(images: np.ndarray) -> np.ndarray:
    return np.asarray(images, np.float32) / np.float32(255)


_PLAIN: dict[str, tuple[Preprocess, str]] = {
    "raw": (_raw, "raw"),
    "0-1": (_scaled_to_one, "0-1"),
    "SqueezeNet": (squeezenet.preprocess, "BGR less (104, 117, 123)"),
    "control": (control.preprocess, "scalelib.control.preprocess"),
}


def _preprocessing(wanted: str | Preprocess) -> tuple[Preprocess, str]:
    """From RGB images, 0–255, to float32, the input untouched; and its name for cards."""
    if callable(wanted):
        return wanted, f"{getattr(wanted, '__module__', '')}.{getattr(wanted, '__qualname__', repr(wanted))}"
    if wanted in _PLAIN:
        return _PLAIN[wanted]
    known = [*application_names(), *_PLAIN]
    hint = f"{did_you_mean(wanted, known)} It is 'raw', '0-1', a network's name or a function".strip()
    loadable(wanted in known, f"no preprocessing {wanted!r}", f"preprocess={wanted!r}", hint)
    module = getattr(keras.applications, wanted).__module__.rsplit(".", 1)[-1]
    own = getattr(keras.applications, module).preprocess_input

    def preprocess(images: np.ndarray) -> np.ndarray:
        # Keras's own writes into the array it is given
        return np.asarray(own(np.array(images, np.float32)), np.float32)

    return preprocess, f"keras.applications.{module}.preprocess_input"


@cache
def _published() -> dict[str, dict[str, tuple[str, str | None]]]:
    """Name, and width and side where they matter → file and digest, with and without the classifier."""
    return json.loads((control.ASSETS / "imagenet_files.json").read_text("utf-8"))


def imagenet_file(
    name: str,
    *,
    include_top: bool = True,
    alpha: float = 1.0,
    minimalistic: bool = False,
    input_size: AnySize = None,
    **_: Any,
) -> tuple[str, str | None]:
    """The file of ImageNet weights of a network built with these options, and its digest if one is known.

    Other options do not change the file.
    """
    kind = f"{name} minimalistic" if minimalistic else name
    height, width = input_size or (224, 224)
    sides = [height, 224] if height == width else [224]
    keys = [*(f"{kind} {float(alpha)} {side}" for side in sides), name]
    key = next((key for key in keys if key in _published()), "")
    widths = sorted({float(key.split()[-2]) for key in _published() if key.startswith(f"{kind} ")})
    rule = f"there are no published ImageNet weights for {name} with these options"
    advice = f"With weights, alpha is one of {tuple(widths)}; with weights='random', any value works"
    loadable(key, rule, f"alpha={alpha}, minimalistic={minimalistic}", advice, WeightsError)
    return _published()[key]["top" if include_top else "no_top"]


def find_imagenet_file(name: str, *, root: PathLike | None = None, **options: Any) -> Path:
    """Where a network's ImageNet weights lie on this machine, undamaged; if they do not, how to fetch them."""
    folders = [sources.data_root(root) / "weights", sources.keras_home() / "models"]
    top = options.get("include_top", True)
    (wanted, digest), (other, _) = (
        imagenet_file(name, **options | {"include_top": on}) for on in (top, not top)
    )
    here = [folder / wanted for folder in folders if (folder / wanted).is_file()]
    flags = f" --alpha {options['alpha']}" if "alpha" in options else ""
    hint = f"Put it into {folders[1]}, or run: scalelib fetch --weights {name}{flags}{'' if top else ' --no-top'}"
    if any((folder / other).is_file() for folder in folders):
        hint += f"\n{other} is here: load_network({name!r}, include_top={not top}, …) would use it"
    received = f"no {wanted} in {' or '.join(map(str, folders))}"
    rule = f"the ImageNet weights of {name} are not on this machine"
    loadable(here, rule, received, hint, WeightsError)
    whole, received = has_digest(here[0], digest), f"{here[0]}, whose digest is not {digest}"
    advice = "Delete it, and fetch it again"
    loadable(whole, f"{wanted} is damaged", received, advice, WeightsError)
    return here[0]


def load_weight_file(model: Any, file: Path, *, network: str) -> None:
    """Load every array of a model from a file, in place, or refuse.

    The file: ``.weights.h5`` or ``.h5`` as ``save_weights`` writes it, a whole model as ``.keras`` or ``.h5``, or
    SqueezeNet's Deep Compression file ``.net``.
    """
    advice = f"It must hold all arrays of {network}, with its options; fetch a damaged one again"
    with _readable(file, advice):
        if file.suffix == ".net":
            squeezenet.load_deep_compression(model, file)
        elif file.suffix == ".keras":
            model.set_weights(keras.models.load_model(file, compile=False).get_weights())
        else:  # Keras skips what the file lacks with no more than a warning
            for layer in model.layers:
                unset = [np.where(_is_float(array), np.nan, array) for array in layer.get_weights()]
                layer.set_weights(unset)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                model.load_weights(file)
            for layer in model.layers:
                if any(_is_float(array) and np.isnan(array).any() for array in layer.get_weights()):
                    raise ValueError(f"it holds no weights, or NaN, for layer {layer.name!r}")


def _is_float(array: np.ndarray) -> bool:
    return np.issubdtype(array.dtype, np.floating)


@contextmanager
def _readable(file: Path, advice: str) -> Iterator[None]:
    """Say in one sentence why a file of weights cannot be used, whatever a library raises."""
    try:
        yield
    except WeightsError:
        raise
    except Exception as error:
        rule = f"the file {file.name} does not fit, or is damaged"
        loadable(False, rule, f"{file}; {brief(error)}", advice, WeightsError)
