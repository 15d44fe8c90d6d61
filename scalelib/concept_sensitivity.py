"""How a network's output changes along a concept's direction at a tap, by finite differences.

Knows networks, images and concept vectors; knows no data set and fits nothing. No gradient call is
needed, so that every backend gives the same answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from scalelib.concept_vectors import RCV
from scalelib.errors import DataError, NetworkError

if TYPE_CHECKING:
    from scalelib.networks import Network


def sensitivity(
    net: Network,
    rcv: RCV,
    images: Any,
    *,
    output: int,
    of: str | None = None,
    tap: str | None = None,
    step: float = 0.01,
    from_tap: bool = False,
    batch_size: int = 32,
) -> np.ndarray:
    """Derivative of one output along a concept's direction, per image.

    Parameters
    ----------
    net : Network
        The network that the concept vector was fitted to.
    rcv : RCV
        The direction, with as many components as the tap has channels.
    images : ndarray of shape (n, height, width, 3), list of paths or arrays, or iterable
        RGB, 0–255; stretched to the network's input size. One image is a list of one.
    output : int
        Unit of the output, from 0.
    of : str, optional
        The tap read as the output, such as ``"pre_softmax"``. Default: the model's last output.
    tap : str, optional
        Where the direction lies. Default: ``rcv.tap``.
    step : float, default=0.01
        Half the distance between the two evaluations, as a share of the length of the image's
        pooled activation.
    from_tap : bool, default=False
        `images` are the tap's own activations already, not pooled, as an array.
    batch_size : int, default=32
        Images per forward pass.

    Returns
    -------
    ndarray of float64, shape (n,)
        Change of the output per unit of pooled activation along the direction.

    Raises
    ------
    DataError
        If there are no images, they do not fit, or the direction has another length than the tap.
    NetworkError
        If a tap or unit is unknown, or the output does not depend on the tap alone.

    Notes
    -----
    (f(a + h v) − f(a − h v)) / 2h with the network f from the tap on (Graziani, Andrearczyk and
    Müller 2018, section 2.3, has the derivative). At a tap with positions h v is added to each of
    them, which moves the average-pooled activation by h v. Where a ReLU switches within the step,
    the result is the mean slope of both sides.

    Examples
    --------
    >>> from scalelib.networks import load_network
    >>> net = load_network("MobileNet", weights="random", alpha=0.25, input_size=32)
    >>> direction = np.eye(256)[0]
    >>> rcv = RCV(direction, 0.0, 1.0, r2=0.5, angle=10.0, tap="conv_pw_13")
    >>> sensitivity(net, rcv, np.zeros((2, 32, 32, 3), np.uint8), output=7, of="pre_softmax").shape
    (2,)
    """
    if not np.isfinite(step) or step <= 0 or batch_size < 1:
        raise DataError(
            "sensitivity: step must be a positive number and batch_size at least 1.\n"
            f"Received: step={step!r}, batch_size={batch_size!r}."
        )
    where = tap or rcv.tap
    if not where:
        raise DataError(
            "sensitivity: a direction needs its tap.\nReceived: rcv.tap is empty, tap=None.\n"
            f"Pass tap=, one of {', '.join(net.taps)}."
        )
    head = _head(net, where, of, output)
    channels = int(net.tensor(where).shape[-1])
    if len(rcv.direction) != channels:
        raise DataError(
            f"sensitivity: the direction must have as many components as {where!r} has channels.\n"
            f"Received: {len(rcv.direction)} and {channels}."
        )
    batches = _given(net, where, images, batch_size) if from_tap else _read(net, where, images, batch_size)
    slopes = [_slopes(head, batch, rcv.direction, output, step) for batch in batches]
    if not slopes:
        raise DataError("sensitivity: at least one image is needed.\nReceived: none.")
    return np.concatenate(slopes)


def _slopes(head: Any, maps: np.ndarray, direction: np.ndarray, output: int, step: float) -> np.ndarray:
    pooled = maps.astype(np.float64).mean(axis=tuple(range(1, maps.ndim - 1)))
    lengths = np.linalg.norm(pooled, axis=1)
    half = step * np.where(lengths > 0, lengths, 1.0)
    along = half.reshape(-1, *[1] * (maps.ndim - 1)) * direction
    ahead, behind = (
        np.asarray(head.predict_on_batch((maps + sign * along).astype(np.float32)), np.float64)[:, output]
        for sign in (1, -1)
    )
    return (ahead - behind) / (2 * half)


def _head(net: Network, tap: str, of: str | None, output: int) -> Any:
    """The network from a tap to an output of shape (n, units)."""
    from scalelib.backend import keras

    start = net.tensor(tap)
    end = net.model.outputs[0] if of is None else net.tensor(of)
    if len(end.shape) != 2 or isinstance(output, bool) or not 0 <= output < end.shape[-1]:
        raise NetworkError(
            "sensitivity: the output must be one unit of a vector.\n"
            f"Received: unit {output!r} of an output of shape {tuple(end.shape)}."
        )
    if start is end:
        raise NetworkError(f"sensitivity: the output must lie after the tap.\nReceived: {tap!r} for both.")
    try:
        return keras.Model(start, end)
    except (ValueError, KeyError) as error:
        raise NetworkError(
            f"sensitivity: the output must depend on the tap {tap!r} alone.\n"
            f"Received: an output that another path from the image reaches, or an earlier one.\n"
            "Choose a tap that every path runs through, such as the output of a block."
        ) from error


def _given(net: Network, tap: str, activations: Any, batch_size: int) -> Iterator[np.ndarray]:
    maps, shape = np.asarray(activations), net.tensor(tap).shape
    fits = maps.ndim == len(shape) and all(
        b is None or a == b for a, b in zip(maps.shape[1:], shape[1:], strict=True)
    )
    if not fits or not np.isfinite(maps).all():
        raise DataError(
            f"sensitivity: activations must be finite and of the shape of {tap!r}, (n, "
            f"{', '.join('any' if side is None else str(side) for side in shape[1:])}).\n"
            f"Received: shape {maps.shape}."
        )
    for first in range(0, len(maps), batch_size):
        yield maps[first : first + batch_size]


def _read(net: Network, tap: str, images: Any, batch_size: int) -> Iterator[np.ndarray]:
    from scalelib.backend import keras
    from scalelib.image_stream import as_images
    from scalelib.images import read_image
    from scalelib.interpolation import resize_image

    reader = keras.Model(net.model.inputs[0], net.tensor(tap))
    remaining = iter(as_images(images, operation="sensitivity", allow_duplicates=True)[0])
    size = 1 if net.input_size is None else batch_size  # images of any size do not stack
    while batch := [read_image(image) for image in islice(remaining, size)]:
        if net.input_size is not None:
            batch = [resize_image(image, net.input_size) for image in batch]
        pixels = net.preprocess(np.stack(batch).astype(np.float32))
        yield np.asarray(reader.predict_on_batch(pixels))
