"""Networks: a Keras model by name, file or object, with its weights, its taps and the preprocessing it was trained with.

Knows which file of published weights belongs to which network and finds it; downloads nothing, knows no data set.
"""

from __future__ import annotations

import inspect
import json
import os
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd

from scalelib import control, graph, squeezenet
from scalelib.datasets import sources
from scalelib.datasets.sources import PathLike
from scalelib.errors import NetworkError, WeightsError, did_you_mean, refusing
from scalelib.graph import Step, copy_model, is_float, keras, loadable, seeded, weights_digest
from scalelib.taps import choose_taps, reach_of, resolve, taps_of

Preprocess = Callable[[np.ndarray], np.ndarray]
AnySize = tuple[int | None, int | None] | None

_UNFIT = "They must be those of the network, or of its beginning, with its options, and finite numbers"
# Name, and width and side where they matter → file and digest, with and without the classifier; side in px if not 224.
PUBLISHED: dict[str, dict[str, Any]] = json.loads((control.ASSETS / "imagenet_files.json").read_text("utf-8"))
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
    weights_end : str or None
        The last tap that the weight file reaches, where it holds the network's beginning only: what
        comes after it is not there, neither as a tap nor as a layer.
    """

    name: str
    model: Any
    taps: dict[str, str]
    preprocess: Preprocess
    preprocess_name: str
    input_size: tuple[int, int] | None
    weights: str
    weights_seed: int | None
    weights_digest: str
    steps: list[Step] = field(repr=False, compare=False)
    weights_end: str | None = None

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
            If there is no such tap, or the weights end before it.
        """
        return self.step(tap).outputs[0]

    def step(self, tap: str) -> Step:
        """The step of the graph whose output a tap reads; see :meth:`tensor`."""
        layer = self.taps[resolve_tap(self, tap, operation="tensor")]
        return next(step for step in reversed(self.steps) if step.name == layer)


def resolve_tap(net: Network, name: str, *, operation: str = "resolve_tap") -> str:
    """A key of ``net.taps`` from that name, its layer's, or one used by the paper or an older Keras."""
    return resolve(name, net.taps, network=_told(net.name, net.weights_end), operation=operation)


def _told(name: str, weights_end: str | None) -> str:
    """A network's name for messages about its taps."""
    return f"{name}, whose weights end at {weights_end}" if weights_end else name


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
        (data root's ``weights/``, then Keras's ``models/``); of one that holds a network's beginning
        only, the network ends at its last complete tap (``weights_end``). A model that is given keeps
        its own weights unless this is ``"random"`` or a file. For ``"control"``: ``"all_scales"``
        (also by default), ``"one_scale"``, ``"random"`` or a file.
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
        If the name, a tap or an option is unknown, the weights end before a tap that is asked for, or
        the model cannot be read layer by layer.
    WeightsError
        If the weight file is missing, damaged or made for another network, fits no beginning of this
        one, or holds values that are not finite.

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
    by_name = isinstance(name_or_model, str) and not name_or_model.endswith((".keras", ".h5"))
    architecture = name_or_model if by_name else None
    if architecture == "control" and weights == "imagenet":
        weights = control.WEIGHTS[0]
    with seeded(weights_seed):
        if architecture:
            source, file = _build(architecture, weights, weights_seed, size, data_root, options)
            name = architecture if options.get("alpha", 1) == 1 else f"{architecture} {options['alpha']}"
            model, steps, label = *graph.adopt(source, name=name), Path(weights).name
        else:
            what = "a model that is given takes no options"
            loadable(not options, what, ", ".join(options), "They go with a network's name")
            name, model, steps, label, file = _given(name_or_model, weights, size, data_root)
            source = model
    default = control.TAPS if architecture == "control" else taps_of(architecture, steps)
    reach = load_weight_file(source, steps, file) if file else len(steps)
    end = None
    if 0 < reach < len(steps):
        steps = steps[:reach]
        model = keras.Model(model.inputs[0], steps[-1].outputs[0], name=model.name)
        there = {step.name for step in steps}
        default = {tap: layer for tap, layer in default.items() if layer in there}
        end = next(reversed(default), steps[-1].name)
    arrays = ((step.name, array) for step in model.layers for array in step.get_weights() if is_float(array))
    unset = next((name for name, array in arrays if not np.isfinite(array).all()), None)
    first = f"layer {unset!r} is the first without weights that fit"
    received = first if unset else "more than the network has"
    rule = f"weights {label!r} do not fit, or are damaged"
    loadable(reach and not unset, rule, received, _UNFIT, WeightsError)
    bound, bound_name = _preprocessing(preprocess or architecture or "raw")
    shape = model.input_shape[1:3]
    return Network(
        name=name,
        model=model,
        taps=choose_taps(taps, default, steps, _told(name, end)),
        preprocess=bound,
        preprocess_name=bound_name,
        input_size=None if None in shape else (shape[0], shape[1]),
        weights=label,
        weights_seed=weights_seed if weights == "random" else None,
        weights_digest=weights_digest(steps),
        steps=steps,
        weights_end=end,
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
    >>> net = load_network("VGG16", weights="random", input_size=32, include_top=False)
    >>> table = describe(net)
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
) -> tuple[Any, Path | None]:
    """A network known by name, with fresh weights, and the file of those that it is to have."""
    known = [*application_names(), *_OURS]
    hint = did_you_mean(name, known) or f"Known: {', '.join(known)}"
    loadable(name in known, f"no network {name!r}", repr(name), hint)
    size = size or (PUBLISHED.get(name, {}).get("side", 224),) * 2
    file = None
    if name == "control" and weights in control.WEIGHTS:
        file = control.ASSETS / f"control_{weights}.weights.h5"
    elif weights == "imagenet":
        file = find_imagenet_file(name, root, input_size=size, **options)
    elif weights != "random":
        hint = did_you_mean(str(weights), ("imagenet", "random", *control.WEIGHTS))
        file = sources.find_weights(weights, root=root, advice=hint)
    build = _OURS.get(name) or getattr(keras.applications, name)
    own: dict[str, Any] = {"input_size": size} | ({"seed": seed} if name == "control" else {})
    if name not in _OURS:
        own = {"weights": None, "input_tensor": keras.Input((*size, 3), name="image")}
    ours = {*own, "input_shape", "classifier_activation", "pooling", "name"}
    takes = ", ".join(option for option in inspect.signature(build).parameters if option not in ours)
    rule, received = f"{name} cannot be built with these options", f"input_size={size}, {options}"
    with refusing("load_network", rule, received, f"Options of {name}: {takes}", error=NetworkError):
        return build(**own, **options), file


def _given(model: Any, weights: PathLike, size: AnySize, root: PathLike | None) -> tuple[Any, ...]:
    """A model that somebody brings, or its file: its name, its copy, the graph, its weights' name, a file of others."""
    label = "random" if weights == "random" else "given"
    if isinstance(model, str | os.PathLike):
        file = sources.find_weights(model, root=root)
        label = label if weights == "random" else file.name
        with _readable(file):
            model = keras.models.load_model(file, compile=False)
    copy, steps = copy_model(model, input_size=size, keep_weights=weights != "random")
    if weights in ("random", "imagenet"):
        return model.name, copy, steps, label, None
    file = sources.find_weights(weights, root=root)
    return model.name, copy, steps, file.name, file


def _size(size: int | tuple[int, int] | str | None) -> AnySize:
    """Height and width from what a caller may write: a number, a pair, ``"any"`` or nothing."""
    if size is None or size == "any":
        return None if size is None else (None, None)
    pair = tuple(size) if isinstance(size, tuple | list) else (size, size)
    whole = len(pair) == 2 and all(isinstance(side, int | np.integer) and side > 0 for side in pair)
    rule = "input_size is a number of pixels, a pair of them, or 'any'"
    loadable(whole, rule, f"input_size={size!r}", "For instance input_size=224")
    return (int(pair[0]), int(pair[1]))


_PLAIN: dict[str, tuple[Preprocess, str]] = {
    "raw": (lambda images: np.asarray(images, np.float32), "raw"),
    "0-1": (lambda images: np.asarray(images, np.float32) / np.float32(255), "0-1"),
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


def imagenet_file(
    name: str,
    /,
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
    keys = [*(f"{kind} {float(alpha)} {side}" for side in (height if height == width else 224, 224)), name]
    key = next((key for key in keys if key in PUBLISHED), "")
    widths = sorted({float(key.split()[-2]) for key in PUBLISHED if key.startswith(f"{kind} ")})
    rule = f"there are no published ImageNet weights for {name} with these options"
    advice = f"With weights, alpha is one of {tuple(widths)}; with weights='random', any value works"
    loadable(key, rule, f"alpha={alpha}, minimalistic={minimalistic}", advice, WeightsError)
    return PUBLISHED[key]["top" if include_top else "no_top"]


def find_imagenet_file(name: str, root: PathLike | None = None, /, **options: Any) -> Path:
    """Where a network's ImageNet weights lie on this machine, undamaged; if they do not, how to fetch them."""
    top, models = options.get("include_top", True), sources.keras_home() / "models"
    wanted, digest = imagenet_file(name, **options)
    other, _ = imagenet_file(name, **options | {"include_top": not top})
    flags = (f" --alpha {options['alpha']}" if "alpha" in options else "") + ("" if top else " --no-top")
    advice = f"Put it into {models}, or run: scalelib fetch --weights {name}{flags}"
    if any((folder / other).is_file() for folder in (sources.data_root(root) / "weights", models)):
        advice += f"\n{other} is here: load_network({name!r}, include_top={not top}, …) would use it"
    return sources.find_weights(wanted, root=root, checksum=digest, advice=advice)


def load_weight_file(model: Any, steps: list[Step], file: Path) -> int:
    """Load the weights in a file, of a network or of its beginning, in place; how many steps of its graph they reach.

    Those that the file lacks, or has in another shape, are NaN afterwards. The file: ``.weights.h5`` or ``.h5`` as
    ``save_weights`` writes it, a whole model as ``.keras`` or ``.h5``, or SqueezeNet's Deep Compression file ``.net``.
    """
    with _readable(file):
        if file.suffix == ".net":
            squeezenet.load_deep_compression(model, file)
            return len(steps)
        reach = reach_of(_shapes_in(file), steps)
        part = keras.Model(model.inputs[0], steps[reach - 1].outputs[0]) if 0 < reach < len(steps) else model
        for layer in part.layers:
            layer.set_weights([np.where(is_float(array), np.nan, array) for array in layer.get_weights()])
        by_name = None if reach or file.name.endswith((".weights.h5", ".keras")) else True
        with warnings.catch_warnings():  # Keras warns of what it leaves as it was
            warnings.simplefilter("ignore", UserWarning)
            part.load_weights(file, skip_mismatch=True, by_name=by_name)
        return reach


def _shapes_in(file: Path) -> Counter[tuple[int, ...]]:
    """How many weight arrays of each shape a file holds; of optimisers and random states nothing."""
    found: list[Any] = []
    with h5py.File(zipfile.ZipFile(file).open("model.weights.h5") if file.suffix == ".keras" else file) as h5:
        (h5.get("layers") or h5.get("model_weights") or h5).visititems(lambda _, item: found.append(item))
        return Counter(item.shape for item in found if isinstance(item, h5py.Dataset) and is_float(item))


def _readable(file: Path) -> AbstractContextManager[None]:
    """Make one refusal of whatever a library raises of a file of weights."""
    rule = f"weights {file.name!r} do not fit, or are damaged"
    return refusing("load_network", rule, file, _UNFIT, error=WeightsError)
