"""What early layers respond to: their first kernels, and the regions of real images that excite them.

Knows networks and images; knows no data set and no measure.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from scalelib.backend import keras
from scalelib.errors import NetworkError
from scalelib.geometry import Field, fields
from scalelib.images import read_image, resize_image
from scalelib.networks import Network, Preprocess
from scalelib.progress import track


def first_kernels(net: Network) -> np.ndarray:
    """Kernels of the first convolution, as they act on RGB pixels.

    Parameters
    ----------
    net : Network
        A network whose first convolution reads the preprocessed image.

    Returns
    -------
    ndarray of float32, shape (channels, height, width, 3)
        Change of activation per grey level of red, green and blue: preprocessing (its scaling, its
        order of channels) is folded in.

    Raises
    ------
    NetworkError
        If no convolution reads three channels, or the preprocessing is not linear.

    Examples
    --------
    >>> from scalelib.networks import load_network
    >>> net = load_network("MobileNet", weights="random", alpha=0.25, input_size=32, include_top=False)
    >>> first_kernels(net).shape
    (8, 3, 3, 3)
    """
    for step in net.steps:
        if isinstance(step.operation, keras.layers.Conv2D):
            kernel = np.asarray(step.operation.get_weights()[0])  # (height, width, in, out)
            if kernel.shape[2] == 3:
                matrix, _ = linear_part(net.preprocess, net.name)
                return np.einsum("hwpo,pc->ohwc", kernel, matrix).astype(np.float32)
    raise NetworkError(
        f"first_kernels: no convolution of {net.name} reads the image's three channels.\n"
        f"Received: layers {', '.join(step.name for step in net.steps[:5])} …"
    )


@dataclass(frozen=True)
class Regions:
    """Where in which image a channel was excited most.

    Parameters
    ----------
    table : pandas.DataFrame
        One row per channel and rank: ``tap``, ``channel``, ``rank`` (from 1), ``image`` (position
        among the images), ``activation``, and the receptive field's ``top``, ``left``, ``side`` in
        px of the resized image; it may reach over the border.
    crops : ndarray of uint8, shape (channels, ranks, side, side, 3)
        The receptive fields' pixels; grey where they reach over the border.
    """

    table: pd.DataFrame
    crops: np.ndarray


def exciting_regions(
    net: Network,
    tap: str,
    images: Sequence[str | os.PathLike[str] | np.ndarray],
    *,
    channels: Sequence[int],
    ranks: int = 4,
    batch_size: int = 32,
) -> Regions:
    """The image regions that excite channels most, at most one an image.

    Parameters
    ----------
    net : Network
        Of a fixed input size; images are stretched to it.
    tap : str
        A spatial tap whose units see a part of the image.
    images : sequence of path-like or ndarray
        At least `ranks` images.
    channels : sequence of int
        Channels of the tap.
    ranks : int, default=4
        Regions per channel.
    batch_size : int, default=32
        Images in memory at a time.

    Returns
    -------
    Regions

    Raises
    ------
    NetworkError
        If a unit of the tap has no receptive field of known size, or a channel does not exist.

    Examples
    --------
    >>> from scalelib.networks import load_network
    >>> net = load_network("MobileNet", weights="random", alpha=0.25, input_size=32, include_top=False)
    >>> noise = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype(np.uint8)
    >>> exciting_regions(net, "conv_pw_1", noise, channels=[0, 5], ranks=2).crops.shape
    (2, 2, 7, 7, 3)
    """
    tensor = net.tensor(tap)
    field = field_of(net, tap)
    chosen = checked_channels(channels, tensor.shape[-1], tap)
    size = net.input_size or (224, 224)
    model = keras.Model(net.model.input, tensor)
    excitement = np.empty((len(images), len(chosen)), np.float32)
    places = np.empty((len(images), len(chosen)), int)
    width = 0
    starts = range(0, len(images), batch_size)
    for start in track(starts, label=f"regions of {tap}", total=len(starts)):
        batch = np.stack([_resized(image, size) for image in images[start : start + batch_size]])
        maps = np.asarray(model.predict_on_batch(net.preprocess(batch.astype(np.float32))))[..., chosen]
        flat, width = maps.reshape(len(maps), -1, len(chosen)), maps.shape[2]
        places[start : start + len(maps)] = flat.argmax(axis=1)
        excitement[start : start + len(maps)] = flat.max(axis=1)
    rows, crops = [], np.empty((len(chosen), ranks, field.size, field.size, 3), np.uint8)
    for index, channel in enumerate(chosen):
        for rank, image in enumerate(np.argsort(-excitement[:, index], kind="stable")[:ranks]):
            y, x = divmod(int(places[image, index]), width)
            top, left = (
                round(low + at * by) for low, at, by in zip(field.low, (y, x), field.stride, strict=True)
            )
            crops[index, rank] = _crop(_resized(images[image], size), top, left, field.size)
            activation = float(excitement[image, index])
            rows.append((tap, channel, rank + 1, int(image), activation, top, left, field.size))
    columns = ["tap", "channel", "rank", "image", "activation", "top", "left", "side"]
    return Regions(pd.DataFrame(rows, columns=columns), crops)


def linear_part(preprocess: Preprocess, network: str) -> tuple[np.ndarray, np.ndarray]:
    """Preprocessing as what it does to one pixel: matrix @ pixel + offset.

    Parameters
    ----------
    preprocess : callable
        As bound to a network.
    network : str
        Its name, for the message.

    Returns
    -------
    matrix : ndarray of float64, shape (3, 3)
    offset : ndarray of float64, shape (3,)

    Raises
    ------
    NetworkError
        If the preprocessing does something else.

    Examples
    --------
    >>> linear_part(lambda images: images[..., ::-1] - 128, "mine")[1].tolist()
    [-128.0, -128.0, -128.0]
    """
    probes = np.vstack([np.zeros(3), 255 * np.eye(3), [[12, 200, 97]]]).astype(np.float32)
    values = np.asarray(preprocess(probes[:, None, None, :]), np.float64)[:, 0, 0, :]
    offset, matrix = values[0], (values[1:4] - values[0]).T / 255
    if np.abs(matrix @ probes[4] + offset - values[4]).max() > 1e-4 * max(1.0, np.abs(values).max()):
        raise NetworkError(
            f"early features: the preprocessing of {network} must be linear in each pixel.\n"
            f"Received: {values[4].tolist()} for the pixel {probes[4].tolist()}.\n"
            "Pass a network with the preprocessing of keras.applications."
        )
    return matrix, offset


def field_of(net: Network, tap: str) -> Field:
    """The receptive field of a tap's first unit.

    Raises
    ------
    NetworkError
        If its units read the whole image.
    """
    field = fields(net.steps)[id(net.tensor(tap))]
    if field is None:
        raise NetworkError(
            f"early features: a unit of tap {tap!r} must see a part of the image only.\n"
            f"Received: {tap!r} of {net.name}, whose units read the whole image.\nChoose an earlier tap."
        )
    return field


def checked_channels(channels: Sequence[int], available: int, tap: str) -> list[int]:
    """Channels as a list of int.

    Raises
    ------
    NetworkError
        If there are none, or one does not exist.
    """
    chosen = [int(channel) for channel in channels]
    if not chosen or not all(0 <= channel < available for channel in chosen):
        raise NetworkError(
            f"early features: channels of tap {tap!r} are 0 to {available - 1}.\nReceived: {chosen}."
        )
    return chosen


def _resized(image: str | os.PathLike[str] | np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return resize_image(read_image(image), size)


def _crop(image: np.ndarray, top: int, left: int, side: int) -> np.ndarray:
    crop = np.full((side, side, 3), 128, np.uint8)
    height, width = image.shape[:2]
    rows = slice(max(top, 0), min(top + side, height))
    columns = slice(max(left, 0), min(left + side, width))
    crop[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = image[
        rows, columns
    ]
    return crop
