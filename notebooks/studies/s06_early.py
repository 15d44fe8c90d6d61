"""What each channel is worth to the read-out of a measure, and how that goes with its other properties. What early layers respond to: their first kernels, and the regions of real images that excite them. Activation maximisation: the image is a trainable weight, so that Keras's own training paints it. Which spatial frequency a channel prefers: its response to gratings. Tables between the early-feature measurements and their figures. Figures of what early layers prefer (appendix A.3). Draws tables; computes no result. First kernels, painted images and exciting regions (appendix A.3). Draws arrays; computes no result."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from scalelib.errors import DataError, NetworkError, track
from scalelib.graph import Field, copy_model, fields, keras
from scalelib.images import read_image, resize_image
from scalelib.linear import fit_linear
from scalelib.networks import Network, Preprocess
from scalelib.plotting import COLOURS, WIDTH
from scalelib.statistics import holm
from scalelib.validation import check_labels, check_problem


def channel_weights(acts: Mapping[str, Any], measures: Any, *, classes: Any = None) -> pd.DataFrame:
    """Each channel's weight in the regression concept vector, and what the channel alone tells.

    Parameters
    ----------
    acts : mapping of str to array_like, shape (n_images, channels)
        Pooled activations per tap, finite.
    measures : array_like, shape (n_images,)
        One concept measure per image.
    classes : array_like, shape (n_images,), optional
        Object classes: each is regressed by itself and the means over classes are given.

    Returns
    -------
    pandas.DataFrame
        One row per tap and channel: ``weight``, change of the measure, in its standard deviations, per
        standard deviation of the channel, all others held fixed (ridge, penalty by leave-one-out);
        ``correlation``, the rank correlation of the channel alone with the measure, which does not
        depend on what other channels there are (0 where the channel is constant).

    Raises
    ------
    DataError
        As :func:`scalelib.regression.layerwise_r2`.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(200, 3))
    >>> channel_weights({"tap": X}, X[:, 0] - X[:, 2]).weight.abs().round(1).tolist()
    [0.7, 0.0, 0.7]
    """
    arrays, y, _ = check_problem(acts, measures, groups=None, operation="channel_weights")
    codes = check_labels(classes, len(y), name="classes", operation="channel_weights")
    codes = np.zeros(len(y), int) if codes is None else codes
    parts = []
    for tap, X in arrays.items():
        weights, correlations = [], []
        for code in np.unique(codes):
            rows = codes == code
            coefficients = fit_linear(X[rows], y[rows, None], "ridge").coefficients[:, 0]
            weights.append(coefficients * X[rows].std(axis=0) / y[rows].std())
            correlations.append([_spearman(channel, y[rows]) for channel in X[rows].T])
        part = {"weight": np.mean(weights, axis=0), "correlation": np.nan_to_num(correlations).mean(axis=0)}
        parts.append(pd.DataFrame({"tap": tap, "channel": np.arange(X.shape[1]), **part}))
    return pd.concat(parts, ignore_index=True)


def relate_to_frequency(
    table: pd.DataFrame,
    value: str,
    *,
    by: Sequence[str] = ("network", "weights", "tap"),
    permutations: int = 999,
    level: float = 0.95,
    random_state: int = 0,
) -> pd.DataFrame:
    """Rank correlation between channels' preferred frequency and something else that channels have.

    Parameters
    ----------
    table : pandas.DataFrame
        One row per channel: ``frequency``, `value` and the columns of `by`.
    value : str
        For instance the channel's weight in a regression concept vector.
    by : sequence of str, default=("network", "weights", "tap")
        One correlation per combination.
    permutations : int, default=999
        Permutations, and bootstrap samples, of channels.
    level : float, default=0.95
        Probability that the interval is to cover.
    random_state : int, default=0
        Seed.

    Returns
    -------
    pandas.DataFrame
        `by`, then ``value``, ``channels``, ``rho`` (Spearman), ``low`` and ``high`` (percentile bootstrap over
        channels), ``p`` (permutation, two-sided), ``p_holm`` (corrected for all rows of the table).

    Raises
    ------
    DataError
        If a combination has fewer than five channels.

    Notes
    -----
    Channels of one layer are no independent draws, so the interval speaks of this network's channels
    alone. p = (b + 1) / (B + 1) (Phipson and Smyth 2010).

    Examples
    --------
    >>> table = pd.DataFrame({"tap": "t", "frequency": np.arange(1, 21), "weight": -np.arange(20.0) ** 3})
    >>> float(relate_to_frequency(table, "weight", by=["tap"], permutations=19).rho.iloc[0].round(6))
    -1.0
    """
    records: list[dict[str, Any]] = []
    for key, group in table.groupby(list(by), sort=False):
        if len(group) < 5:
            raise DataError(
                f"relate_to_frequency: a rank correlation needs at least five channels.\n"
                f"Received: {len(group)} in {key}.\nLeave this tap out."
            )
        rng = np.random.default_rng([random_state, len(records)])
        x, y = group["frequency"].to_numpy(float), group[value].to_numpy(float)
        rho = _spearman(x, y)
        null = np.array([_spearman(x, rng.permutation(y)) for _ in range(permutations)])
        draws = rng.integers(len(x), size=(permutations, len(x)))
        spread = [_spearman(x[rows], y[rows]) for rows in draws]
        low, high = np.nanquantile(spread, [(1 - level) / 2, (1 + level) / 2])
        p = float(((np.abs(null) >= abs(rho) - 1e-12).sum() + 1) / (permutations + 1))
        records.append(
            {
                **dict(zip(by, key, strict=True)),
                "value": value,
                "channels": len(x),
                "rho": rho,
                "low": low,
                "high": high,
                "p": p,
            }
        )
    result = pd.DataFrame(records)
    return result.assign(p_holm=holm(result["p"].to_numpy()))


def _spearman(x: np.ndarray, y: np.ndarray) -> float:
    a, b = stats.rankdata(x), stats.rankdata(y)
    a, b = a - a.mean(), b - b.mean()
    scale = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / scale) if scale else float("nan")


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


def maximise_activation(
    net: Network,
    tap: str,
    *,
    channels: Sequence[int],
    side: int | None = None,
    steps: int = 128,
    learning_rate: float = 0.05,
    smoothness: float = 5.0,
    random_state: int = 0,
) -> tuple[np.ndarray, pd.DataFrame]:
    """Paint one image per channel that makes the channel's mean activation large in the middle of its map.

    Parameters
    ----------
    net : Network
    tap : str
        A spatial tap.
    channels : sequence of int
        Channels of the tap.
    side : int, optional
        Side of the images in px. Default: the receptive field and two strides more, at least 32.
    steps : int, default=128
        Steps of Adam.
    learning_rate : float, default=0.05
        Its rate, on the scale of `z` below.
    smoothness : float, default=5.0
        Weight of the images' mean absolute difference between neighbouring pixels (in 0–1), against
        the activation in units of its standard deviation over random images.
    random_state : int, default=0
        Seed of the faint noise from which painting starts.

    Returns
    -------
    images : ndarray of uint8, shape (channels, side, side, 3)
    table : pandas.DataFrame
        ``tap``, ``channel``, ``before``, ``after``: mean activation in the central half of the map, where
        padding counts little, of the noise and of the result.

    Raises
    ------
    NetworkError
        If a channel does not exist, or the network's preprocessing is not linear in the pixels.

    Notes
    -----
    Erhan et al. 2009. Keras has no public gradient, but trains any weight: the image is the only
    trainable weight of a model whose output is the loss, pixels = 255 / (1 + exp(−z)). This runs
    under every backend of Keras.

    Examples
    --------
    >>> from scalelib.networks import load_network
    >>> net = load_network("MobileNet", weights="random", alpha=0.25, input_size=32, include_top=False)
    >>> images, table = maximise_activation(net, "conv_pw_1", channels=[0, 3], steps=16)
    >>> images.shape, bool((table.after > table.before).all())
    ((2, 32, 32, 3), True)
    """
    tensor = net.tensor(tap)
    chosen = checked_channels(channels, tensor.shape[-1], tap)
    field = field_of(net, tap)
    side = side or max(32, field.size + 2 * round(max(field.stride)))
    matrix, offset = linear_part(net.preprocess, net.name)
    reader, _ = copy_model(keras.Model(net.model.input, tensor), input_size=(side, side))
    reader.trainable = False
    rows, columns = (slice(n // 4, n - n // 4) for n in reader.output_shape[1:3])
    rng = np.random.default_rng(random_state)

    def activations(pixels: np.ndarray) -> np.ndarray:
        maps = np.asarray(reader.predict_on_batch(net.preprocess(pixels)))
        return maps[:, rows, columns].mean(axis=(1, 2))[..., chosen]

    spread = activations(rng.uniform(0, 255, (16, side, side, 3)).astype(np.float32)).std(axis=0)
    scale = np.where(spread > 1e-6 * max(float(spread.max()), 1e-30), spread, max(float(spread.max()), 1e-30))
    start = rng.normal(0, 0.1, (len(chosen), side, side, 3)).astype(np.float32)
    clock = keras.Input((1,))
    pixels = keras.ops.sigmoid(_Painting(start)(clock))
    read = reader(keras.ops.matmul(255 * pixels, matrix.T.astype(np.float32)) + offset.astype(np.float32))
    own = np.eye(tensor.shape[-1], dtype=np.float32)[chosen] / scale[:, None].astype(np.float32)
    excitement = keras.ops.sum(keras.ops.mean(read[:, rows, columns], axis=(1, 2)) * own)
    rough = keras.ops.mean(keras.ops.abs(pixels[:, 1:] - pixels[:, :-1]), axis=(1, 2, 3))
    rough += keras.ops.mean(keras.ops.abs(pixels[:, :, 1:] - pixels[:, :, :-1]), axis=(1, 2, 3))
    loss = keras.ops.reshape(smoothness * keras.ops.sum(rough) - excitement, (1, 1))
    painter = keras.Model(clock, loss)
    painter.compile(
        optimizer=keras.optimizers.Adam(learning_rate), loss=lambda _, value: keras.ops.sum(value)
    )
    nothing = np.zeros((steps, 1), np.float32)
    painter.fit(nothing, nothing, batch_size=1, shuffle=False, verbose=0)
    z = np.asarray(painter.trainable_variables[0])
    before, after = ((255 / (1 + np.exp(-values))).astype(np.float32) for values in (start, z))
    table = pd.DataFrame(
        {
            "tap": tap,
            "channel": chosen,
            "before": np.diagonal(activations(before)),
            "after": np.diagonal(activations(after)),
        }
    )
    return np.rint(after).astype(np.uint8), table


class _Painting(keras.layers.Layer):
    """Images as a trainable weight; the input only keeps the time."""

    def __init__(self, start: np.ndarray) -> None:
        super().__init__()
        self.z = self.add_weight(shape=start.shape, initializer=keras.initializers.Constant(0.0), name="z")
        self.z.assign(start)

    def call(self, clock: Any) -> Any:
        return self.z + 0 * keras.ops.sum(clock)


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


def kernel_table(kernels: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Kernels as a long table.

    Parameters
    ----------
    kernels : mapping of str to ndarray, shape (channels, height, width, 3)
        By network, as from :func:`studies.s06_early.first_kernels`.

    Returns
    -------
    pandas.DataFrame
        Columns ``network, channel, y, x, red, green, blue``.

    Examples
    --------
    >>> len(kernel_table({"net": np.zeros((2, 3, 3, 3))}))
    18
    """
    parts = []
    for network, array in kernels.items():
        channel, y, x = (part.ravel() for part in np.indices(array.shape[:3]))
        colours = dict(zip(("red", "green", "blue"), array.reshape(-1, 3).T, strict=True))
        parts.append(pd.DataFrame({"network": network, "channel": channel, "y": y, "x": x, **colours}))
    return pd.concat(parts, ignore_index=True)


def preference_by_tap(
    preferred: pd.DataFrame, *, by: Sequence[str] = ("network", "weights", "tap")
) -> pd.DataFrame:
    """Median and quartiles of preferred frequency over channels.

    Parameters
    ----------
    preferred : pandas.DataFrame
        From :func:`studies.s06_early.preferred_frequency`, with the columns of `by`.
    by : sequence of str
        One row per combination, in the order in which they first stand.

    Returns
    -------
    pandas.DataFrame
        `by`, then ``channels``, ``median``, ``low``, ``high`` (quartiles; cycles per pixel) and
        ``at_edge`` (share of channels whose preference may lie beyond the frequencies tried).

    Examples
    --------
    >>> table = pd.DataFrame({"tap": "t", "frequency": [0.1, 0.2, 0.4], "at_edge": [False, False, True]})
    >>> float(preference_by_tap(table, by=["tap"])["median"].iloc[0])
    0.2
    """
    groups = preferred.groupby(list(by), sort=False)
    frequency = groups.frequency
    return pd.DataFrame(
        {
            "channels": frequency.size(),
            "median": frequency.median(),
            "low": frequency.quantile(0.25),
            "high": frequency.quantile(0.75),
            "at_edge": groups.at_edge.mean(),
        }
    ).reset_index()


def best_orientation(tuning: pd.DataFrame) -> pd.DataFrame:
    """Responses at each channel's best orientation.

    Parameters
    ----------
    tuning : pandas.DataFrame
        From :func:`studies.s06_early.frequency_tuning`, perhaps with further labels.

    Returns
    -------
    pandas.DataFrame
        The rows of one orientation per channel, the one with its strongest response.

    Examples
    --------
    >>> tuning = pd.DataFrame({"tap": "t", "channel": 0, "frequency": [0.1, 0.2] * 2,
    ...                        "orientation": [0, 0, 90, 90], "response": [1.0, 2.0, 0.0, 3.0]})
    >>> best_orientation(tuning).orientation.unique().tolist()
    [90]
    """
    labels = [name for name in tuning if name not in ("frequency", "orientation", "response")]
    strongest = tuning.loc[tuning.groupby(labels).response.idxmax(), [*labels, "orientation"]]
    return tuning.merge(strongest, on=[*labels, "orientation"])


def extreme_channels(channels: pd.DataFrame, *, number: int, value: str = "correlation") -> pd.DataFrame:
    """The channels of a tap that go down most, and those that go up most, with the measure.

    Parameters
    ----------
    channels : pandas.DataFrame
        One row per channel of one tap, with `value`.
    number : int
        How many in all; the lower half first.
    value : str, default="correlation"
        The column that is looked at.

    Returns
    -------
    pandas.DataFrame
        Rows of `channels`, from the lowest to the highest value.

    Examples
    --------
    >>> table = pd.DataFrame({"channel": range(5), "correlation": [0.1, -0.9, 0.0, 0.8, 0.3]})
    >>> extreme_channels(table, number=2).channel.tolist()
    [1, 3]
    """
    ordered = channels.sort_values(value, kind="stable")
    if len(ordered) <= number:
        return ordered
    low = number // 2
    return pd.concat([ordered.head(low), ordered.tail(number - low)])


TRAINED_STYLES = ((COLOURS[0], "o", "-"), (COLOURS[2], "^", "-."))
RANDOM_STYLE = (COLOURS[5], "s", "--")
VALUE_NAMES = {"weight": "weight in the RCV", "correlation": "channel alone"}


def frequency_by_tap(preferred: pd.DataFrame) -> Figure:
    """Median and quartiles of channels' preferred frequency along the early taps.

    Parameters
    ----------
    preferred : pandas.DataFrame
        Columns ``network, weights, tap, median, low, high`` (cycles per pixel).

    Returns
    -------
    matplotlib.figure.Figure
    """
    networks = list(dict.fromkeys(preferred.network))
    fig, axes = plt.subplots(
        1, len(networks), figsize=(WIDTH, 3.5), sharey=True, squeeze=False
    )  # fmt: skip
    for ax, network in zip(axes.flat, networks, strict=True):
        own = preferred[preferred.network == network]
        taps = list(dict.fromkeys(own.tap))
        weights = list(dict.fromkeys(own.weights))
        for label in weights:
            style = _style(weights, label)
            rows = own[own.weights == label].set_index("tap").reindex(taps)
            x = np.arange(len(taps)) + 0.12 * (weights.index(label) - (len(weights) - 1) / 2)
            spread = np.abs(rows[["low", "high"]].to_numpy().T - rows["median"].to_numpy())
            ax.errorbar(x, rows["median"], yerr=spread, color=style[0], marker=style[1], ls=style[2],
                        label=_weights_name(label), capsize=2)  # fmt: skip
        ax.set_title(network)
        ax.set_xticks(range(len(taps)), taps, rotation=60, ha="right", rotation_mode="anchor", fontsize=8)
        ax.set_yscale("log", base=2)
        ax.set_yticks(
            [1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2], ["1/64", "1/32", "1/16", "1/8", "1/4", "1/2"]
        )
    _common_legend(fig, axes[0])
    axes[0, 0].set_ylabel("preferred frequency\n(cycles per input pixel)")
    fig.supxlabel("tap (input to output); bars: quartiles over channels", fontsize=9)
    return fig


def tuning_maps(tuning: pd.DataFrame) -> Figure:
    """Response of every channel of one tap over frequency, channels sorted by preference.

    Parameters
    ----------
    tuning : pandas.DataFrame
        Columns ``row, panel, channel, frequency, response``, the response at the best orientation: a
        column of the figure for each panel, such as network and tap, and a row for each kind of weights.

    Returns
    -------
    matplotlib.figure.Figure
    """
    panels, kinds = (list(dict.fromkeys(tuning[name])) for name in ("panel", "row"))
    fig, axes = plt.subplots(
        len(kinds), len(panels), figsize=(WIDTH, 2.1 * len(kinds) + 0.7), sharex=True, squeeze=False
    )
    mesh = None
    for (row, kind), (column, panel) in product(enumerate(kinds), enumerate(panels)):
        ax = axes[row, column]
        rows = tuning[(tuning.panel == panel) & (tuning.row == kind)]
        grid = rows.pivot(index="channel", columns="frequency", values="response").to_numpy()
        grid = grid[grid.max(axis=1) > 0]
        grid = grid / grid.max(axis=1, keepdims=True)
        grid = grid[np.argsort(grid.argmax(axis=1) + 1e-3 * grid.mean(axis=1), kind="stable")]
        frequencies = np.sort(rows.frequency.unique())
        mesh = ax.pcolormesh(frequencies, np.arange(len(grid)) + 0.5, grid, cmap="cividis", vmin=0, vmax=1,
                             shading="nearest", rasterized=True)  # fmt: skip
        ax.set_xscale("log", base=2)
        ax.set_xticks([1 / 64, 1 / 16, 1 / 4], ["1/64", "1/16", "1/4"])
        ax.grid(visible=False)
        if row == 0:
            ax.set_title(panel, fontsize=9)
        if column == 0:
            ax.set_ylabel(f"{kind}\nchannel, sorted", fontsize=8.5)
        if row == len(kinds) - 1:
            ax.set_xlabel("cycles per pixel")
    if mesh is not None:
        fig.colorbar(mesh, ax=axes, label="response / strongest of the channel", shrink=0.8)
    return fig


def frequency_against_value(channels: pd.DataFrame) -> Figure:
    """Channels' preferred frequency against what they tell about scale.

    Parameters
    ----------
    channels : pandas.DataFrame
        Columns ``panel, frequency, weight, correlation``.

    Returns
    -------
    matplotlib.figure.Figure
    """
    panels = dict(list(channels.groupby("panel", sort=False)))
    fig, axes = plt.subplots(2, len(panels), figsize=(WIDTH, 4.2), sharex=True, sharey="row", squeeze=False)
    for column, (panel, rows) in enumerate(panels.items()):
        for ax, value in zip(axes[:, column], VALUE_NAMES, strict=True):
            ax.axhline(0, color="#777777", lw=0.8)
            ax.scatter(rows.frequency, rows[value], s=12, color=COLOURS[0], alpha=0.6, lw=0)
            ax.set_xscale("log", base=2)
            ax.set_xticks([1 / 64, 1 / 16, 1 / 4], ["1/64", "1/16", "1/4"])
        axes[0, column].set_title(panel, fontsize=9)
        axes[1, column].set_xlabel("preferred frequency\n(cycles per pixel)")
    axes[0, 0].set_ylabel("weight in the RCV\n(SD of measure per SD)")
    axes[1, 0].set_ylabel("rank correlation of\nchannel and scale")
    return fig


def relation(relations: pd.DataFrame) -> Figure:
    """Rank correlation of preferred frequency with what channels tell about scale, tap by tap.

    Parameters
    ----------
    relations : pandas.DataFrame
        From :func:`studies.s06_early.relate_to_frequency` for both values.

    Returns
    -------
    matplotlib.figure.Figure
    """
    networks = list(dict.fromkeys(relations.network))
    counts = [relations[relations.network == network].tap.nunique() for network in networks]
    fig, axes = plt.subplots(
        len(networks), 2, figsize=(WIDTH, 0.28 * sum(counts) + 0.75 * len(networks) + 0.6), sharex=True,
        squeeze=False, height_ratios=[count + 0.5 for count in counts],
    )  # fmt: skip
    for row, network in enumerate(networks):
        for ax, (value, name) in zip(axes[row], VALUE_NAMES.items(), strict=True):
            _forest(ax, relations[(relations.network == network) & (relations.value == value)])
            ax.set_title(f"{network}: {name}", fontsize=9)
        axes[row, 1].tick_params(labelleft=False)
    _common_legend(fig, axes[:, 0])
    for ax in axes[-1]:
        ax.set_xlabel("rank correlation with preferred frequency")
    return fig


def _common_legend(fig: Figure, axes: Iterable[Axes]) -> None:
    keys: dict[str, Artist] = {}
    for ax in axes:
        handles, labels = ax.get_legend_handles_labels()
        keys |= dict(zip(labels, handles, strict=True))
    fig.legend(list(keys.values()), list(keys), loc="outside upper center", ncols=3, fontsize=8)


def _forest(ax: Axes, rows: pd.DataFrame) -> None:
    taps = list(dict.fromkeys(rows.tap))
    weights = list(dict.fromkeys(rows.weights))
    ax.axvline(0, color="#777777", lw=0.8)
    for place, label in enumerate(weights):
        own = rows[rows.weights == label].set_index("tap").reindex(taps)
        colour, marker, _ = _style(weights, label)
        y = np.arange(len(taps)) + 0.22 * (place - (len(weights) - 1) / 2)
        ax.hlines(y, own.low, own.high, color=colour, lw=1.2)
        sure = (own.p_holm < 0.05).to_numpy()
        ax.plot(own.rho.to_numpy()[sure], y[sure], marker, color=colour, ls="")
        ax.plot(own.rho.to_numpy()[~sure], y[~sure], marker, color=colour, mfc="white", ls="")
        ax.plot([], [], marker, color=colour, ls="-", label=_weights_name(label))
    ax.set_yticks(range(len(taps)), taps, fontsize=8)
    ax.set_ylim(len(taps) - 0.5, -0.5)
    ax.set_xlim(-1, 1)


def _style(weights: Sequence[str], label: str) -> tuple[str, str, str]:
    if label == "random":
        return RANDOM_STYLE
    trained = [name for name in weights if name != "random"]
    return TRAINED_STYLES[trained.index(label) % len(TRAINED_STYLES)]


def _weights_name(label: str) -> str:
    return f"{label.replace('imagenet', 'ImageNet')} weights"


def kernel_sheet(kernels: Mapping[str, np.ndarray]) -> Figure:
    """First-layer kernels as they act on RGB pixels, each on its own scale.

    Parameters
    ----------
    kernels : mapping of str to ndarray, shape (channels, height, width, 3)
        By network. Grey is no effect; a brighter colour excites, a darker one inhibits.

    Returns
    -------
    matplotlib.figure.Figure
    """
    sheets = {name: _sheet(array) for name, array in kernels.items()}
    heights = [sheet.shape[0] / sheet.shape[1] for sheet in sheets.values()]
    fig, axes = plt.subplots(
        len(sheets), 1, figsize=(WIDTH, WIDTH * sum(heights) + 0.4 * len(heights)), squeeze=False,
        height_ratios=heights,
    )  # fmt: skip
    for ax, (name, sheet) in zip(axes.flat, sheets.items(), strict=True):
        count, height, width = kernels[name].shape[:3]
        ax.imshow(sheet)
        ax.set_axis_off()
        ax.set_title(f"{name}: {count} kernels of {height} × {width} px")
    return fig


@dataclass(frozen=True)
class Gallery:
    """What one network's channels like, for :func:`galleries`.

    Parameters
    ----------
    title : str
        Network and tap.
    painted : ndarray of uint8, shape (channels, side, side, 3)
        Activation-maximisation images.
    crops : ndarray of uint8, shape (channels, ranks, side, side, 3)
        Most exciting regions.
    labels : sequence of str
        One per channel.
    """

    title: str
    painted: np.ndarray
    crops: np.ndarray
    labels: Sequence[str]


def galleries(panels: Sequence[Gallery]) -> Figure:
    """Painted image and most exciting regions, a column per channel.

    Parameters
    ----------
    panels : sequence of Gallery
        One per network, one under the other.

    Returns
    -------
    matplotlib.figure.Figure
    """
    ranks = max(panel.crops.shape[1] for panel in panels)
    columns = max(len(panel.labels) for panel in panels)
    tall = (WIDTH / columns) * (ranks + 1) + 0.75
    fig = plt.figure(figsize=(WIDTH, tall * len(panels)))
    parts = fig.subfigures(len(panels), 1, squeeze=False)[:, 0]
    for part, panel in zip(parts, panels, strict=True):
        part.suptitle(panel.title, fontsize=10, fontweight="bold", x=0.01, ha="left")
        axes = part.subplots(ranks + 1, columns, squeeze=False)
        for ax in axes.flat:
            ax.set_xticks([])
            ax.set_yticks([])
            ax.grid(visible=False)
            ax.spines[:].set_visible(False)
        for column, label in enumerate(panel.labels):
            axes[0, column].imshow(panel.painted[column])
            axes[0, column].set_title(label, fontsize=7.5, fontweight="normal", loc="center")
            for rank in range(panel.crops.shape[1]):
                axes[rank + 1, column].imshow(panel.crops[column, rank])
        for row, name in enumerate(["painted", *(f"region {rank + 1}" for rank in range(ranks))]):
            axes[row, 0].set_ylabel(name, fontsize=8)
    return fig


def _sheet(kernels: np.ndarray) -> np.ndarray:
    """Kernels side by side, one pixel of white between them, grey for no effect."""
    count, height, width = kernels.shape[:3]
    columns = min(count, 24 if count > 16 else 16)
    rows = -(-count // columns)
    sheet = np.ones((rows * (height + 1) - 1, columns * (width + 1) - 1, 3))
    strongest = np.abs(kernels).max(axis=(1, 2, 3), keepdims=True)
    shown = 0.5 + kernels / (2 * np.where(strongest > 0, strongest, 1))
    for index, kernel in enumerate(shown):
        y, x = divmod(index, columns)
        sheet[y * (height + 1) :, x * (width + 1) :][:height, :width] = kernel
    return sheet
