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
from scalelib.datasets.patch_labels import patch_positions, tissue_mask, tissue_share
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
    return {**wanted, "weights_digest": _load(wanted).weights_digest}


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
        nominal = slide.power / downsample
        places = patch_positions(slide, size, nominal)
        tissue = tissue_mask(slide.overview())
        extent = size * downsample
        shares = np.array(
            [tissue_share(tissue, slide.size, (x, y, x + extent, y + extent)) for x, y in places]
        )
        usable = np.flatnonzero(shares >= min(min_tissue, shares.max()))
        if len(usable) > max_patches:
            usable = np.sort(np.random.default_rng(random_state).permutation(usable)[:max_patches])
        return np.stack([slide.read(*places[i], size, magnification=nominal) for i in usable])


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
    wanted = dict(estimator.network)
    network = network or _load(wanted)
    if network.weights_digest != wanted["weights_digest"]:
        raise ResultsError(
            "estimate_magnification: the weights are not those that the estimator was fitted with.\n"
            f"Received: digest {network.weights_digest[:12]}…, fitted with {wanted['weights_digest'][:12]}…."
        )
    patches = image_patches(
        image,
        size=estimator.patch_size,
        downsample=downsample,
        max_patches=max_patches,
        random_state=random_state,
    )
    return estimator.estimate(extract(network, patches, taps=[wanted["tap"]])[wanted["tap"]], level=level)


def estimate_text(name: str, found: Estimate) -> str:
    """One line for a person.

    Examples
    --------
    >>> estimate_text("a.svs", Estimate(19.6, 15.2, 25.3, 64, 0.8))
    'a.svs: about 20X (15X to 25X, 64 patches)'
    """
    if found.refused:
        return f"{name}: no estimate, {found.refused}"
    bounds = " to ".join("?" if math.isinf(v) or v == 0 else f"{v:.2g}X" for v in (found.low, found.high))
    return f"{name}: about {found.magnification:.2g}X ({bounds}, {found.patches} patches)"


def _load(wanted: Mapping[str, Any]) -> Network:
    return load_network(
        wanted["name"], weights=wanted["weights"], input_size=wanted["input_size"], **wanted["options"]
    )
