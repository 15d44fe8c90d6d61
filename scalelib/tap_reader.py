"""One Keras model that reads all wanted taps in one forward pass, pooling inside the graph.

Knows networks and Keras; must not know images on disk, caches or measures.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from scalelib.backend import keras
from scalelib.errors import NetworkError, did_you_mean
from scalelib.networks import Network, resolve_tap

POOLINGS = ("avg", "max", "none")

_READERS: WeakKeyDictionary[Any, dict[Any, Any]] = WeakKeyDictionary()


def wanted_taps(
    net: Network, taps: str | Iterable[str] | None, pooling: str | Mapping[str, str], *, operation: str
) -> dict[str, str]:
    """Which taps to read, under the names they were asked by, and how each is pooled.

    Parameters
    ----------
    net : Network
    taps : str, iterable of str, or None
        Names as :func:`scalelib.networks.resolve_tap` knows them. None: all of the network's.
    pooling : {"avg", "max", "none"} or mapping of tap to one of these
        Taps that a mapping does not name are pooled by ``"avg"``.
    operation : str
        Who asks; the first word of every message.

    Returns
    -------
    dict of str to str
        Tap → pooling, in the order asked for; vectors (taps without positions) have ``"none"``.

    Raises
    ------
    NetworkError
        If a tap or a pooling is unknown, or none is asked for.
    """
    names = list(net.taps) if taps is None else [taps] if isinstance(taps, str) else list(taps)
    if not names:
        raise NetworkError(
            f"{operation}: at least one tap is read.\nReceived: taps={names}.\n"
            f"Taps of {net.name} are {', '.join(net.taps)}."
        )
    asked = {name: resolve_tap(net, name, operation=operation) for name in names}
    if isinstance(pooling, str):
        chosen = dict.fromkeys(asked.values(), pooling)
    else:
        chosen = {resolve_tap(net, name, operation=operation): how for name, how in pooling.items()}
        unread = sorted(set(chosen) - set(asked.values()))
        if unread:
            raise NetworkError(
                f"{operation}: pooling names a tap that is not read.\n"
                f"Received: pooling for {unread}, taps={names}.\nAdd it to taps."
            )
    for how in chosen.values():
        if how not in POOLINGS:
            hint = did_you_mean(str(how), POOLINGS)
            raise NetworkError(
                f"{operation}: no pooling {how!r}.\nReceived: pooling={pooling!r}.\n"
                f"{hint + ' ' if hint else ''}Known: {', '.join(POOLINGS)}."
            )
    vectors = {tap for tap in asked.values() if len(net.tensor(tap).shape) == 2}
    return {name: "none" if tap in vectors else chosen.get(tap, "avg") for name, tap in asked.items()}


def tap_reader(net: Network, wanted: Mapping[str, str]) -> Any:
    """A model from the network's input to a dict of pooled taps, built once per network and choice.

    Parameters
    ----------
    net : Network
    wanted : mapping of str to str
        As :func:`wanted_taps` gives it.

    Returns
    -------
    keras.Model
        Shares the network's layers. Outputs have shape (n, channels), or the tap's own for
        ``"none"``.
    """
    tensors = {name: net.tensor(resolve_tap(net, name)) for name in wanted}
    key = tuple((name, how, id(tensors[name])) for name, how in wanted.items())
    built = _READERS.setdefault(net.model, {})
    if key not in built:
        # names of their own: Keras's automatic ones may be those of layers in a saved model
        outputs = {
            name: _pooled(tensors[name], how, layer=f"tap_reader_{number}")
            for number, (name, how) in enumerate(wanted.items())
        }
        built[key] = keras.Model(net.model.inputs[0], outputs, name="tap_reader")
    return built[key]


def _pooled(tensor: Any, how: str, *, layer: str) -> Any:
    if how == "none":
        return tensor
    kind = keras.layers.GlobalAveragePooling2D if how == "avg" else keras.layers.GlobalMaxPooling2D
    return kind(name=layer)(tensor)


def read_taps(reader: Any, net: Network, images: np.ndarray) -> dict[str, np.ndarray]:
    """One forward pass over one batch.

    Parameters
    ----------
    reader : keras.Model
        From :func:`tap_reader`.
    net : Network
        For its preprocessing.
    images : ndarray of uint8, shape (n, height, width, 3)

    Returns
    -------
    dict of str to ndarray of float32
        First axis n.
    """
    outputs = reader.predict_on_batch(net.preprocess(images.astype(np.float32)))
    return {tap: np.asarray(values, np.float32) for tap, values in outputs.items()}
