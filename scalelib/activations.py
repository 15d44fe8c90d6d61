"""Activations of many images at many taps: one forward pass, streamed, and cached if wished.

Knows networks and images; must not know data sets, measures or regressions. The work itself is done
in ``extraction.py``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from scalelib.extraction import Options, run
from scalelib.networks import Network

Images = np.ndarray | Sequence[Any] | Iterable[Any]


def extract(
    net: Network,
    images: Images,
    *,
    taps: str | Iterable[str] | None = None,
    pooling: str | Mapping[str, str] = "avg",
    batch_size: int = 32,
    resize: str = "stretch",
    interpolation: str = "bilinear",
    antialias: bool = True,
    workers: int = 2,
    cache: str | os.PathLike[str] | None = None,
    maps_folder: str | os.PathLike[str] | None = None,
    allow_duplicates: bool = False,
) -> dict[str, np.ndarray]:
    """Read all taps of a network on all images in one forward pass.

    Parameters
    ----------
    net : Network
        Its own preprocessing is applied, and images are brought to its ``input_size``; with
        ``input_size=None`` every image is read at its own size, batched with others of that size.
    images : ndarray of shape (n, height, width, 3), sequence or iterable
        Pixels or paths, anything that :func:`scalelib.images.read_image` takes. Decoded in threads a
        bounded number ahead: beside the result, memory does not grow with their number.
    taps : str or iterable of str, optional
        Which taps, by any name that the network knows. Default: all.
    pooling : {"avg", "max", "none"} or mapping of tap to one of these, default="avg"
        Over positions, inside the graph. Taps that a mapping leaves out are averaged; vectors pass
        as they are. ``"none"`` streams whole maps into ``<maps_folder>/<tap>.npy``.
    batch_size : int, default=32
        The last batch is filled up, so that every batch has one shape and the graph is built once.
    resize, interpolation, antialias
        Policy and kernel; see :func:`scalelib.images.resize_image`.
    workers : int, default=2
        Threads that decode and resize.
    cache : path-like, optional
        Folder where finished activations stay, keyed by the network's weights, graph and
        preprocessing, these options, the tap and the image's bytes. What is found there is not
        computed again; a killed run loses at most its last 256 images. Maps are not cached. If the
        disk fills up, a warning is given and the run goes on without.
    maps_folder : path-like, optional
        Wanted with ``"none"``.
    allow_duplicates : bool, default=False
        Whether a sequence may list a path twice. Each row is then computed on its own.

    Returns
    -------
    dict of str to ndarray of float32, shape (n_images, channels)
        By tap as named in `taps`, in that order; rows in the order of the images. Maps are read-only
        memory maps of shape (n_images, height, width, channels).

    Raises
    ------
    DataError
        If there is no image, a path twice, or an image that cannot be used: all bad ones are named,
        after the good ones were finished (and cached). See :func:`extract_readable`.
    NetworkError
        If a tap or pooling is unknown, or activations are NaN or infinite.
    ResultsError
        If the cache's or the maps' folder cannot be written to.

    Notes
    -----
    Spatial average pooling of a layer's feature maps is the paper's choice (§3.4).

    Examples
    --------
    >>> from scalelib.networks import load_network
    >>> net = load_network("MobileNet", weights="random", alpha=0.25, input_size=32)
    >>> acts = extract(net, np.zeros((3, 40, 50, 3), np.uint8), taps=["conv_pw_1", "softmax"])
    >>> {tap: values.shape for tap, values in acts.items()}
    {'conv_pw_1': (3, 16), 'softmax': (3, 1000)}
    """
    options = Options(
        taps=taps,
        pooling=pooling,
        batch_size=batch_size,
        resize=resize,
        interpolation=interpolation,
        antialias=antialias,
        workers=workers,
        cache=cache,
        maps_folder=maps_folder,
        allow_duplicates=allow_duplicates,
    )
    return run(net, images, options)[0]


def extract_readable(
    net: Network, images: Images, **options: Any
) -> tuple[dict[str, np.ndarray], np.ndarray, dict[int, str]]:
    """As :func:`extract`, but leave out images that cannot be used, and say which.

    Parameters
    ----------
    net : Network
    images : ndarray, sequence or iterable
    **options
        Those of :func:`extract`.

    Returns
    -------
    acts : dict of str to ndarray
        Of the usable images alone.
    rows : ndarray of int, shape (n_usable,)
        Their positions among `images`: measures must be indexed with it.
    problems : dict of int to str
        Position → reason, for each image left out.

    Raises
    ------
    DataError
        If no image can be used; and see :func:`extract`.

    Examples
    --------
    >>> from scalelib.networks import load_network
    >>> net = load_network("MobileNet", weights="random", alpha=0.25, input_size=32)
    >>> acts, rows, problems = extract_readable(net, [np.zeros((1, 1)), np.zeros((9, 9))], taps="softmax")
    >>> acts["softmax"].shape, rows.tolist(), list(problems)
    ((1, 1000), [1], [0])
    """
    return run(net, images, Options(**options), skip_bad=True)
