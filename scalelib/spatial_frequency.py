"""Which spatial frequency a channel prefers: its response to gratings.

Knows networks and synthetic gratings; knows no data set.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from scalelib.backend import keras
from scalelib.errors import DataError
from scalelib.networks import Network

FREQUENCIES = tuple(float(f) for f in np.geomspace(1 / 64, 0.5, 16).round(5))
ORIENTATIONS = tuple(range(0, 180, 30))
UNTUNED = 1e-6
"""A channel whose strongest response is below this share of its tap's strongest has no preference."""


def gratings(
    frequency: float,
    orientation: float,
    *,
    size: tuple[int, int],
    phases: int = 4,
    contrast: float = 0.8,
) -> np.ndarray:
    """Grey sinusoidal gratings in several phases.

    Parameters
    ----------
    frequency : float
        Cycles per pixel, in (0, 0.5].
    orientation : float
        Direction in which the luminance changes, in degrees from the x axis.
    size : (int, int)
        Height and width in px.
    phases : int, default=4
        Number of equally spaced phases.
    contrast : float, default=0.8
        Michelson contrast, in (0, 1]; the mean is 127.5.

    Returns
    -------
    ndarray of float32, shape (phases, height, width, 3)
        In 0–255.

    Raises
    ------
    DataError
        If the frequency is not in (0, 0.5]: a pixel grid cannot carry it.

    Examples
    --------
    >>> gratings(0.25, 0, size=(1, 4), phases=1, contrast=1.0)[0, 0, :, 0].round(1).tolist()
    [255.0, 127.5, 0.0, 127.5]
    """
    if not 0 < frequency <= 0.5:
        raise DataError(
            "gratings: a frequency is in (0, 0.5] cycles per pixel.\n"
            f"Received: frequency={frequency!r}.\nDivide cycles per image by the image's side in pixels."
        )
    y, x = np.mgrid[: size[0], : size[1]]
    angle = np.deg2rad(orientation)
    along = 2 * np.pi * frequency * (np.cos(angle) * x + np.sin(angle) * y)
    shift = 2 * np.pi * np.arange(phases) / phases
    wave = np.cos(along[None] + shift[:, None, None])
    return np.repeat((127.5 * (1 + contrast * wave))[..., None], 3, axis=-1).astype(np.float32)


def frequency_tuning(
    net: Network,
    taps: Sequence[str],
    *,
    frequencies: Iterable[float] = FREQUENCIES,
    orientations: Iterable[float] = ORIENTATIONS,
    phases: int = 4,
    size: tuple[int, int] | None = None,
) -> pd.DataFrame:
    """Response of every channel to gratings over frequency and orientation.

    Parameters
    ----------
    net : Network
    taps : sequence of str
        Spatial taps.
    frequencies : iterable of float
        Cycles per input pixel. Default: 16 from 1/64 to 1/2, evenly spaced in octaves.
    orientations : iterable of float
        Degrees. Default: every 30.
    phases : int, default=4
        Phases over which the response is taken.
    size : (int, int), optional
        Height and width of the gratings. Default: the network's input size.

    Returns
    -------
    pandas.DataFrame
        Columns ``tap``, ``channel``, ``frequency`` (cycles per input pixel), ``orientation``
        (degrees), ``response`` (at least 0, in units of the activation).

    Notes
    -----
    The response is the root mean square, over phases and the central half of the map, of the
    activation's difference from that to plain grey: it catches channels that follow the stripes and
    channels that only notice that there are some, and leaves the borders' padding out.

    Examples
    --------
    >>> from scalelib.networks import load_network
    >>> net = load_network("MobileNet", weights="random", alpha=0.25, input_size=32, include_top=False)
    >>> table = frequency_tuning(net, ["conv_pw_1"], frequencies=[0.125], orientations=[0, 90])
    >>> table.groupby("orientation").size().to_dict()
    {0: 16, 90: 16}
    """
    size = size or net.input_size or (224, 224)
    tensors = [net.tensor(tap) for tap in taps]
    model = keras.Model(net.model.input, tensors)
    grey = _maps(model, net.preprocess(np.full((1, *size, 3), 127.5, np.float32)))
    orientations = list(orientations)
    parts = []
    for frequency in frequencies:
        for orientation in orientations:
            images = gratings(frequency, orientation, size=size, phases=phases)
            for tap, maps, rest in zip(taps, _maps(model, net.preprocess(images)), grey, strict=True):
                response = np.sqrt(((_centre(maps) - _centre(rest)) ** 2).mean(axis=(0, 1, 2)))
                parts.append(
                    pd.DataFrame(
                        {
                            "tap": tap,
                            "channel": np.arange(len(response)),
                            "frequency": frequency,
                            "orientation": orientation,
                            "response": response,
                        }
                    )
                )
    return pd.concat(parts, ignore_index=True)


def preferred_frequency(tuning: pd.DataFrame) -> pd.DataFrame:
    """The frequency and orientation to which each channel responds most.

    Parameters
    ----------
    tuning : pandas.DataFrame
        From :func:`frequency_tuning`, perhaps with further labels dropped.

    Returns
    -------
    pandas.DataFrame
        One row per tap and channel: ``frequency`` (cycles per pixel; refined by a parabola through
        the strongest response and its two neighbours on a logarithmic axis), ``orientation``
        (degrees), ``response``, ``at_edge`` (strongest at the lowest or highest frequency tried, so
        that the true preference may lie beyond). Channels that answer to no grating are left out.

    Examples
    --------
    >>> tuning = pd.DataFrame({"tap": "t", "channel": 0, "frequency": [0.1, 0.2, 0.4], "orientation": 0,
    ...                        "response": [1.0, 3.0, 1.0]})
    >>> preferred_frequency(tuning).frequency.round(6).tolist()
    [0.2]
    """
    rows = []
    strongest = tuning.groupby("tap").response.max()
    for (tap, channel), group in tuning.groupby(["tap", "channel"], sort=False):
        grid = group.pivot(index="frequency", columns="orientation", values="response").sort_index()
        best, where = np.unravel_index(np.argmax(grid.to_numpy()), grid.shape)
        response = grid.iat[best, where]
        if not response > UNTUNED * strongest[tap]:
            continue
        at_edge = bool(best in (0, len(grid) - 1))
        octaves = np.log2(grid.index.to_numpy(float))
        peak = octaves[best]
        if not at_edge:
            near = slice(best - 1, best + 2)
            curve = np.polyfit(octaves[near] - peak, grid.iloc[near, where].to_numpy(), 2)
            peak += -curve[1] / (2 * curve[0]) if curve[0] < 0 else 0.0
        rows.append((tap, channel, float(2**peak), float(grid.columns[where]), float(response), at_edge))
    columns = ["tap", "channel", "frequency", "orientation", "response", "at_edge"]
    return pd.DataFrame(rows, columns=columns)


def _maps(model: Any, images: np.ndarray) -> list[np.ndarray]:
    maps = model.predict_on_batch(images)
    return [np.asarray(part) for part in (maps if isinstance(maps, list) else [maps])]


def _centre(maps: np.ndarray) -> np.ndarray:
    height, width = maps.shape[1:3]
    return maps[:, height // 4 : height - height // 4, width // 4 : width - width // 4]
