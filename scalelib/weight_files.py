"""Which file of ImageNet weights belongs to which network, and where it lies on this machine.

Names files; reads, loads and downloads none.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from scalelib import squeezenet
from scalelib.errors import WeightsError
from scalelib.locations import data_root as find_data_root
from scalelib.locations import find_weights, keras_home

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
        The data root; see :func:`scalelib.locations.data_root`.
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
