"""What a profile or a person needs of data and weights, whether it is here, and how to get it.

Joins profiles, sources, and the weight files of networks; downloads nothing.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scalelib.datasets.download import store_of
from scalelib.datasets.sources import Source, find_source, has_digest
from scalelib.errors import NetworkError, WeightsError, did_you_mean
from scalelib.locations import data_root, find_weights
from scalelib.profiles import load_profile

KERAS_PAGE = "https://keras.io/api/applications/"
KERAS_LICENCE = "Apache 2.0, as keras.applications distributes them"
# Published by Keras without a digest; this one is known from the file itself.
KNOWN_DIGESTS = {"mobilenet_2_5_224_tf_no_top.h5": "md5:f313cee49f5d33dfb06f2b255c4adb64"}

Root = str | os.PathLike[str] | None


@dataclass(frozen=True)
class Need:
    """One thing that is needed.

    Parameters
    ----------
    name : str
        What it is called in a profile.
    path : pathlib.Path or None
        Where it lies; None if it is missing.
    source : Source or None
        Where it comes from; None if there is no address.
    hint : str
        How to get it: a command, or what to do by hand.
    """

    name: str
    path: Path | None
    source: Source | None
    hint: str


def source_need(name: str, *, root: Root = None) -> Need:
    """A source by name; see :func:`scalelib.datasets.sources.find_source`.

    Examples
    --------
    >>> source_need("squeezenet", root="nowhere").hint
    'scalelib fetch squeezenet'
    """
    source = find_source(name)
    store = store_of(source, root=root)
    hint = f"scalelib fetch {source.name}"
    if source.url is None:
        hint = f"ask for it at {source.page} and put it at {store / source.target}"
    return Need(source.name, store / source.target if source.is_present(store) else None, source, hint)


def weights_need(
    name: str, *, root: Root = None, file: str | None = None, include_top: bool = True, **options: Any
) -> Need:
    """The ImageNet weights of a network.

    Parameters
    ----------
    name : str
        A name in ``keras.applications``, or ``"SqueezeNet"``.
    root : path-like, optional
        The data root.
    file : str, optional
        Bare name of a weight file that is handed over, not downloaded.
    include_top : bool, default=True
        With the classification layers.
    **options
        Such as ``alpha``; see :func:`scalelib.weight_files.imagenet_file`.

    Returns
    -------
    Need

    Raises
    ------
    NetworkError
        If there is no such network; near matches are named.
    WeightsError
        If nobody published weights for these options.
    """
    if file:
        path = _find(file, root)
        return Need(
            f"{name} ({file})", path, None, f"put the file {file} into {data_root(root) / 'weights'} by hand"
        )
    if name.lower() == "squeezenet":
        return source_need("squeezenet", root=root)
    from scalelib.preprocessing import application_names
    from scalelib.weight_files import imagenet_file

    if name not in application_names():
        known = [*application_names(), "SqueezeNet"]
        raise NetworkError(
            f"fetch: no network {name!r}.\nReceived: {name!r}.\n"
            f"{did_you_mean(name, known) or 'Networks are ' + ', '.join(known) + '.'}"
        )
    wanted = imagenet_file(name, include_top=include_top, **options)
    flags = "".join(f" --{key} {value}" for key, value in options.items())
    flags += "" if include_top else " --no-top"
    source = Source(
        name=wanted.filename.removesuffix(".h5"),
        title=f"ImageNet weights of {name}{flags.replace(' --', ', ')}",
        url=wanted.url,
        checksum=wanted.digest or KNOWN_DIGESTS.get(wanted.filename),
        megabytes=None,
        licence=KERAS_LICENCE,
        target=f"models/{wanted.filename}",
        page=KERAS_PAGE,
        store="keras",
    )
    path = _find(wanted.filename, root)
    if path is not None and not has_digest(path, source.checksum):
        path = None
    return Need(source.name, path, source, f"scalelib fetch --weights {name}{flags}")


def needs_of_profile(profile: str | os.PathLike[str], *, root: Root = None) -> list[Need]:
    """Everything that a profile needs beforehand, so that its run needs no network.

    Parameters
    ----------
    profile : str or path-like
        See :func:`scalelib.profiles.load_profile`.
    root : path-like, optional
        The data root.

    Returns
    -------
    list of Need
        Data sets, then weights, then the names of the ImageNet classes if there are weights.
    """
    wanted = load_profile(profile)
    needs = [source_need(name, root=root) for name in wanted.datasets]
    for entry in wanted.weights:
        options = {} if entry.alpha is None else {"alpha": entry.alpha}
        needs.append(
            weights_need(entry.name, root=root, file=entry.file, include_top=entry.include_top, **options)
        )
    return [*needs, source_need("imagenet-classes", root=root)] if wanted.weights else needs


def _find(filename: str, root: Root) -> Path | None:
    try:
        return find_weights(filename, root=root)
    except WeightsError:
        return None
