"""Magnification of slides and figures: patches of an image, features of a network, an estimate.

Ties images, networks and the estimator together; nothing else imports it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from scalelib.activations import extract
from scalelib.datasets.patch_labels import tissue_mask, tissue_positions
from scalelib.datasets.slides import open_slide
from scalelib.errors import DataError, ResultsError
from scalelib.magnification import Estimate, MagnificationEstimator
from scalelib.networks import Network, load_network


def describe_network(
    name: str,
    *,
    tap: str,
    weights: str = "imagenet",
    input_size: int,
    options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What an estimator keeps of its network, so that it can be loaded again.

    Parameters
    ----------
    name : str
        What :func:`~scalelib.networks.load_network` takes.
    tap : str
        Whose pooled features are read.
    weights : str, default="imagenet"
    input_size : int
        Side of the patches in pixels.
    options : mapping, optional
        Further options of ``load_network``; JSON-serialisable.

    Returns
    -------
    dict
        With ``weights_digest`` of the weights as they are now.

    Examples
    --------
    >>> found = describe_network("MobileNet", tap="conv_pw_3", weights="random", input_size=32,
    ...                          options={"alpha": 0.25, "include_top": False})
    >>> sorted(found)
    ['input_size', 'name', 'options', 'tap', 'weights', 'weights_digest']
    """
    wanted = {
        "name": name,
        "tap": tap,
        "weights": weights,
        "input_size": input_size,
        "options": dict(options or {}),
    }
    return {**wanted, "weights_digest": load_described(wanted).weights_digest}


def load_described(network: Mapping[str, Any], *, data_root: str | os.PathLike[str] | None = None) -> Network:
    """Load the network that :func:`describe_network` describes.

    Parameters
    ----------
    network : mapping
        ``name, weights, input_size, options``, as an estimator keeps them.
    data_root : path-like, optional
        Where weight files are looked for first.

    Returns
    -------
    Network

    Examples
    --------
    >>> load_described({"name": "MobileNet", "weights": "random", "input_size": 32,
    ...                 "options": {"alpha": 0.25, "include_top": False}}).input_size
    (32, 32)
    """
    return load_network(
        network["name"],
        weights=network["weights"],
        input_size=network["input_size"],
        data_root=data_root,
        **network["options"],
    )


def image_patches(
    image: str | os.PathLike[str] | np.ndarray,
    *,
    size: int,
    downsample: float = 1.0,
    max_patches: int = 64,
    min_tissue: float = 0.5,
    random_state: int = 0,
) -> np.ndarray:
    """Patches of an image at its own or a coarser resolution, whatever it states.

    Parameters
    ----------
    image : path-like or ndarray of shape (height, width, 3), uint8
        A slide, a figure in PNG, JPEG or TIFF, or pixels.
    size : int
        Side of a patch in pixels.
    downsample : float, default=1
        At least 1: pixels of the image per pixel of a patch, by area means.
    max_patches : int, default=64
        At most so many, drawn at random where there are more.
    min_tissue : float, default=0.5
        Patches with less tissue are left out; where none has enough, those with the most colour stay,
        so that the estimator can say that they are no tissue.
    random_state : int, default=0

    Returns
    -------
    ndarray of shape (n, size, size, 3), uint8

    Raises
    ------
    DataError
        If the image cannot be read, is smaller than a patch, or `downsample` is below 1.

    Examples
    --------
    >>> image_patches(np.full((70, 100, 3), (220, 140, 190), np.uint8), size=32).shape
    (6, 32, 32, 3)
    """
    if not downsample >= 1:
        raise DataError(f"image_patches: downsample is at least 1.\nReceived: {downsample}.")
    # The scale is what is asked for: a nominal one makes "magnification" mean pixels of the image.
    with open_slide(image, power=40.0, mpp=0.25) as slide:
        if min(slide.size) < size * downsample:
            raise DataError(
                f"image_patches: a patch of {size * downsample:g} px a side is no larger than the slide or "
                f"image, here {slide.size[0]}×{slide.size[1]} px.\n"
                f"Received: size={size}, downsample={downsample:g}.\nGive a larger image or a smaller downsample."
            )
        nominal = slide.power / downsample
        found = tissue_positions(
            slide,
            tissue_mask(slide.overview()),
            size,
            nominal,
            min_tissue=min_tissue,
            at_most=max_patches,
            random_state=random_state,
        )
        return np.stack([slide.read(x, y, size, magnification=nominal) for x, y, _ in found])


def check_weights(network: Network, estimator: MagnificationEstimator) -> None:
    """Refuse a network whose weights are not those that the estimator was fitted with.

    Raises
    ------
    ResultsError
    """
    fitted = estimator.network["weights_digest"]
    if network.weights_digest != fitted:
        raise ResultsError(
            "estimate_magnification: the weights are not those that the estimator was fitted with.\n"
            f"Received: digest {network.weights_digest[:12]}…, fitted with {fitted[:12]}…."
        )


def estimate_magnification(
    image: str | os.PathLike[str] | np.ndarray,
    estimator: MagnificationEstimator,
    *,
    network: Network | None = None,
    downsample: float = 1.0,
    level: float = 0.9,
    max_patches: int = 64,
    random_state: int = 0,
) -> Estimate:
    """Estimate the magnification of an image as its pixels show it.

    Parameters
    ----------
    image : path-like or ndarray of shape (height, width, 3), uint8
    estimator : MagnificationEstimator
    network : Network, optional
        The estimator's network where it is at hand; otherwise it is loaded.
    downsample : float, default=1
        See :func:`image_patches`; the estimate is that of the coarser image.
    level : float, default=0.9
        Of the interval.
    max_patches, random_state
        See :func:`image_patches`.

    Returns
    -------
    Estimate

    Raises
    ------
    DataError
        If the image cannot be read or is smaller than a patch.
    ResultsError
        If the network's weights are not those that the estimator was fitted with.
    """
    network = network or load_described(estimator.network)
    check_weights(network, estimator)
    tap = estimator.network["tap"]
    patches = image_patches(
        image,
        size=estimator.patch_size,
        downsample=downsample,
        max_patches=max_patches,
        random_state=random_state,
    )
    return estimator.estimate(extract(network, patches, taps=[tap])[tap], level=level)


def estimate_text(name: str, found: Estimate) -> str:
    """One line for a person.

    Examples
    --------
    >>> estimate_text("a.svs", Estimate(19.6, 15.2, 25.3, 64, 0.8))
    'a.svs: about 20X (15X to 25X, 64 patches)'
    """
    if found.refused:
        return f"{name}: no estimate from {found.patches} patch{'es' * (found.patches != 1)}, {found.refused}"
    bounds = " to ".join("?" if math.isinf(v) or v == 0 else _rounded(v) for v in (found.low, found.high))
    return f"{name}: about {_rounded(found.magnification)} ({bounds}, {found.patches} patch{'es' * (found.patches != 1)})"


def _rounded(magnification: float) -> str:
    return f"{magnification:.1f}X" if magnification < 9.95 else f"{magnification:.0f}X"
