"""Networks: a Keras model, the taps at which it is read, and the preprocessing it was trained with.

Knows Keras and weight files; knows no data set, no images and no regression.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from scalelib import sources
from scalelib.backend import keras
from scalelib.copying import copy_model
from scalelib.errors import NetworkError
from scalelib.geometry import depths, fields, parameters_up_to
from scalelib.graph import Step, fresh_names, seeded, weights_digest
from scalelib.preprocessing import Preprocess, bind
from scalelib.taps import choose_taps, resolve, taps_of

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
        Where weight files are looked for first; see :func:`scalelib.locations.data_root`.
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
    size = sources.parse_size(input_size)
    with seeded(weights_seed):
        resize_to = size
        if isinstance(name_or_model, str) and name_or_model == "control":
            source = sources.control(weights, weights_seed, options)
        elif isinstance(name_or_model, str) and not name_or_model.endswith((".keras", ".h5")):
            source = sources.named(name_or_model, weights, size, data_root, options)
            resize_to = None  # built at its size: paddings may depend on it
        else:
            source = sources.given(name_or_model, weights, data_root, options)
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
        longer side in input pixels, see :func:`scalelib.geometry.fields`; both missing where a unit
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
