"""Noise images with a known canvas size and a known pattern scale, and no object at all. The loops of section 4.2: noise of several kinds, read at its own size with and without borders. The numbers that the noise notebook's prose quotes, taken from its summary. Knows tables only. Figures of the experiments on noise (§4.2). Draws images and summaries; computes no R²."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, Literal

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import scipy.fft
import scipy.optimize
import scipy.special
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scalelib.datasets import Dataset
from scalelib.errors import DataError, did_you_mean
from scalelib.networks import Network
from scalelib.plotting import COLOURS, WIDTH, legend_below, tap_axis
from scalelib.regression import layerwise_r2
from scalelib.statistics import summarize
from studies.readings import border_free, read_by_size

Kind = Literal["white", "power", "blob"]
KINDS: tuple[str, ...] = ("white", "power", "blob")

_LEAST_LENGTH = 0.8  # px; a shorter correlation length would need frequencies above Nyquist's 0.5 / px


def noise_field(
    size: int,
    *,
    kind: Kind = "blob",
    correlation_length: float = 4.0,
    exponent: float = 2.0,
    torus: int | None = None,
    random_state: int | np.random.Generator = 0,
) -> np.ndarray:
    """One square field of Gaussian noise of zero mean and unit variance.

    Parameters
    ----------
    size : int
        Side of the canvas in pixels, at least 8.
    kind : {"blob", "white", "power"}, default="blob"
        ``"white"``: independent pixels. ``"power"``: power spectrum 1/f^`exponent`. ``"blob"``: all power
        within one octave of spatial frequency, isotropic, so that blobs have one typical size.
    correlation_length : float, default=4.0
        Of ``"blob"`` noise, in pixels: the distance at which the autocorrelation first falls to 1/e.
        At least 0.8 (Nyquist) and at most a sixteenth of the torus.
    exponent : float, default=2.0
        Of ``"power"`` noise; 2 is the spectrum of natural images (Field 1987), 0 is white noise.
    torus : int, optional
        Side in pixels of the periodic plane that the canvas is cut from. Fields of different `size` are
        the same process only on the same torus. Default: the power of two at or above
        ``max(2 * size, 16 * correlation_length)``.
    random_state : int or numpy.random.Generator, default=0
        The same seed gives the same field.

    Returns
    -------
    ndarray of float32, shape (size, size)
        The variance is one in expectation over the torus, not in each canvas.

    Raises
    ------
    DataError
        If a parameter is out of its range.

    Notes
    -----
    With all power between frequencies ``g = f / sqrt(2)`` and ``h = f * sqrt(2)``, the autocorrelation at
    distance ``r`` is ``(h J1(2 pi h r) - g J1(2 pi g r)) / (pi r (h² - g²))``: the Hankel transform of a
    ring. ``f`` is chosen so that it equals 1/e at `correlation_length`.

    Examples
    --------
    >>> field = noise_field(128, correlation_length=4.0, random_state=0)
    >>> field.shape, bool(abs(correlation_length(field) - 4.0) < 0.4)
    ((128, 128), True)
    """
    length = correlation_length
    side = torus or _torus(size, length if kind == "blob" else 0.0)
    _check_field(size, kind, length, side)
    white = np.random.default_rng(random_state).standard_normal((side, side), dtype=np.float32)
    if kind == "white":
        return white[:size, :size]
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None, :])
    if kind == "blob":
        centre = _frequency_times_length() / length
        amplitude = ((frequency >= centre / np.sqrt(2)) & (frequency <= centre * np.sqrt(2))).astype(float)
    else:
        amplitude = np.zeros_like(frequency)
        np.power(frequency, -exponent / 2, out=amplitude, where=frequency > 0)
    twice = np.where((np.arange(side // 2 + 1) == 0) | (np.arange(side // 2 + 1) == side / 2), 1, 2)
    amplitude /= np.sqrt((amplitude**2 * twice).sum() / side**2)  # the half-plane stands for the whole
    field = scipy.fft.irfft2(scipy.fft.rfft2(white) * amplitude.astype(np.float32), s=(side, side))
    return np.ascontiguousarray(field[:size, :size], dtype=np.float32)


def _torus(size: int, length: float) -> int:
    return 1 << int(np.ceil(np.log2(max(2 * size, 16 * length))))


@cache
def _frequency_times_length() -> float:
    """Centre frequency times the distance at which a one-octave ring's autocorrelation is 1/e."""
    low, high = 1 / np.sqrt(2), np.sqrt(2)

    def excess(r: float) -> float:
        ring = high * scipy.special.j1(2 * np.pi * high * r) - low * scipy.special.j1(2 * np.pi * low * r)
        return float(ring / (np.pi * r * (high**2 - low**2)) - np.exp(-1))

    return float(scipy.optimize.brentq(excess, 0.05, 0.4))


def _check_field(size: int, kind: str, length: float, torus: int) -> None:
    if kind not in KINDS:
        raise DataError(
            f"noise_field: no noise of kind {kind!r}.\nReceived: kind={kind!r}.\n"
            f"{did_you_mean(kind, KINDS)} Kinds are {', '.join(KINDS)}."
        )
    if size < 8 or torus < size:
        raise DataError(
            "noise_field: the canvas has at least 8 pixels a side and fits on the torus.\n"
            f"Received: size={size}, torus={torus}.\nTake a torus of at least twice the canvas."
        )
    if kind == "blob" and not _LEAST_LENGTH <= length <= torus / 16:
        raise DataError(
            f"noise_field: a correlation length lies between {_LEAST_LENGTH} px and torus / 16.\n"
            f"Received: correlation_length={length}, torus={torus}.\nTake a larger torus or another length."
        )


def correlation_length(field: np.ndarray) -> float:
    """The distance at which a field's radial autocorrelation first falls to 1/e.

    Parameters
    ----------
    field : ndarray, shape (height, width)
        Any real field that is not constant, such as one channel of an image.

    Returns
    -------
    float
        In pixels, interpolated linearly between the distances that the grid has. White noise measures
        ``1 - 1/e = 0.63``, the floor of the pixel grid; ``nan`` if the autocorrelation does not fall
        to 1/e within a half of the shorter side.

    Raises
    ------
    DataError
        If the field is constant, not finite or not two-dimensional.

    Notes
    -----
    The autocorrelation is that of the field minus its mean, without wrapping around: each lag is divided
    by the number of pixel pairs that have it (Wiener–Khinchin on a zero-padded canvas).

    Examples
    --------
    >>> checks = np.kron(np.indices((16, 16)).sum(0) % 2, np.ones((8, 8)))
    >>> 2 < correlation_length(checks) < 5
    True
    """
    field = np.asarray(field, dtype=float)
    if field.ndim != 2 or not np.isfinite(field).all() or np.ptp(field) == 0:
        raise DataError(
            "correlation_length: a field is two-dimensional, finite and not constant.\n"
            f"Received: shape {field.shape}.\nGive one channel of one image."
        )
    height, width = field.shape
    padded = scipy.fft.rfft2(field - field.mean(), s=(2 * height, 2 * width))
    sums = scipy.fft.irfft2(np.abs(padded) ** 2, s=(2 * height, 2 * width))
    reach = min(height, width) // 2
    lags = np.arange(-reach, reach + 1)
    pairs = (height - np.abs(lags))[:, None] * (width - np.abs(lags))[None, :]
    correlation = sums[lags[:, None], lags[None, :]] / pairs
    squared = (lags[:, None] ** 2 + lags[None, :] ** 2).ravel()
    distances, which = np.unique(squared, return_inverse=True)
    radial = np.bincount(which, correlation.ravel()) / np.bincount(which)
    radial, distances = radial / radial[0], np.sqrt(distances)
    below = np.flatnonzero((radial <= np.exp(-1)) & (distances <= reach))
    if len(below) == 0:
        return float("nan")
    last = below[0]
    step = (radial[last - 1] - np.exp(-1)) / (radial[last - 1] - radial[last])
    return float(distances[last - 1] + step * (distances[last] - distances[last - 1]))


def render_noise(
    n: int,
    *,
    kind: Kind = "blob",
    canvas_sizes: Sequence[int] = (48, 64, 80, 96),
    correlation_lengths: tuple[float, float] = (1.0, 4.0),
    exponent: float = 2.0,
    mean: float = 128.0,
    contrast: float = 40.0,
    random_state: int = 0,
) -> Dataset:
    """Grey noise images whose canvas size and pattern scale are drawn independently.

    Parameters
    ----------
    n : int
        Number of images.
    kind : {"blob", "white", "power"}, default="blob"
        See :func:`noise_field`.
    canvas_sizes : sequence of int, default=(48, 64, 80, 96)
        Sides in pixels; every one is used equally often, up to one image.
    correlation_lengths : tuple of float, default=(1.0, 4.0)
        Of ``"blob"`` noise: bounds in pixels of a log-uniform draw. Other kinds have none.
    exponent : float, default=2.0
        Of ``"power"`` noise.
    mean, contrast : float, default=128.0 and 40.0
        Mean and standard deviation of the process in grey levels 0–255; values outside are clipped.
    random_state : int, default=0
        The same seed gives the same bits.

    Returns
    -------
    Dataset
        ``images``: ``uint8`` RGB arrays of differing sizes. ``table``: ``image``, ``object_class`` (the
        kind), ``area_ratio`` and ``sqrt_area_ratio`` (NaN: there is no object), ``canvas_size`` (px) and
        ``correlation_length`` (px, as requested; NaN where the kind has none).

    Raises
    ------
    DataError
        If a parameter is out of its range.

    Examples
    --------
    >>> noise = render_noise(4, canvas_sizes=(32, 64), correlation_lengths=(2.0, 2.0))
    >>> sorted(len(image) for image in noise.images)
    [32, 32, 64, 64]
    """
    shortest, longest = correlation_lengths
    if n < 1 or not canvas_sizes or not 0 < shortest <= longest:
        raise DataError(
            "render_noise: at least one image, one canvas size and an ordered pair of positive lengths.\n"
            f"Received: n={n}, canvas_sizes={list(canvas_sizes)}, lengths={correlation_lengths}.\n"
            "For one fixed length give it twice."
        )
    rng = np.random.default_rng(random_state)
    sizes = rng.permutation(np.resize(np.asarray(canvas_sizes, dtype=int), n))
    lengths = np.exp(rng.uniform(np.log(shortest), np.log(longest), n))
    torus = _torus(max(canvas_sizes), longest if kind == "blob" else 0.0)
    images, digest = [], hashlib.sha256()
    for size, length in zip(sizes, lengths, strict=True):
        field = noise_field(
            int(size),
            kind=kind,
            correlation_length=float(length),
            exponent=exponent,
            torus=torus,
            random_state=rng,
        )
        grey = np.clip(np.rint(mean + contrast * field), 0, 255).astype(np.uint8)
        images.append(np.repeat(grey[..., None], 3, axis=2))
        digest.update(images[-1].tobytes())
    table = pd.DataFrame(
        {
            "image": [f"{kind}-{i:05d}" for i in range(n)],
            "object_class": kind,
            "area_ratio": np.nan,
            "sqrt_area_ratio": np.nan,
            "canvas_size": sizes,
            "correlation_length": lengths if kind == "blob" else np.nan,
        }
    )
    source = "Rendered noise, scalelib (MIT licence)"
    return Dataset(f"{kind} noise", images, table, source=source, digest=digest.hexdigest())


WHOLE, INNER = "whole map", "border-free"
"""Where a map is averaged: everywhere, or only where no border of the image is seen."""


def check_lengths(
    lengths: Sequence[float], *, size: int = 128, fields: int = 20, random_state: int = 0
) -> pd.DataFrame:
    """Requested against measured correlation length of blob noise.

    Parameters
    ----------
    lengths : sequence of float
        Requested correlation lengths in pixels.
    size : int, default=128
        Side of the canvas in pixels.
    fields : int, default=20
        Fields per length.
    random_state : int, default=0
        Seed.

    Returns
    -------
    pandas.DataFrame
        ``requested``, ``measured`` (mean) and ``sd``, in pixels.

    Examples
    --------
    >>> bool(abs(check_lengths([3.0]).measured.item() - 3.0) < 0.15)
    True
    """
    rng = np.random.default_rng(random_state)
    rows = []
    for length in lengths:
        measured = [
            correlation_length(noise_field(size, correlation_length=length, random_state=rng))
            for _ in range(fields)
        ]
        rows.append({"requested": length, "measured": np.mean(measured), "sd": np.std(measured, ddof=1)})
    return pd.DataFrame(rows)


def examples(
    canvas_sizes: Sequence[int], correlation_lengths: Sequence[float], *, exponent: float = 2.0
) -> dict[str, np.ndarray]:
    """A small and a large canvas of every kind of noise, to look at.

    Parameters
    ----------
    canvas_sizes : sequence of int
        The smallest and the largest, in pixels, are shown.
    correlation_lengths : sequence of float
        Of blob noise, in pixels: the least and the greatest are shown.
    exponent : float, default=2.0
        Of the power spectrum of 1/f noise.

    Returns
    -------
    dict of str to ndarray of uint8, shape (side, side, 3)
        By title.

    Examples
    --------
    >>> [len(image) for image in examples([16, 32], [1.0, 2.0]).values()]
    [16, 16, 16, 32, 32, 32]
    """
    shown = {}
    for size in (min(canvas_sizes), max(canvas_sizes)):
        for length in (min(correlation_lengths), max(correlation_lengths)):
            blob = render_noise(1, canvas_sizes=[size], correlation_lengths=(length, length))
            shown[f"blob, {size} px, length {length:g} px"] = blob.images[0]
        if size == min(canvas_sizes):
            shown[f"white, {size} px"] = render_noise(1, kind="white", canvas_sizes=[size]).images[0]
        else:
            power = render_noise(1, kind="power", canvas_sizes=[size], exponent=exponent)
            shown[f"1/f, {size} px"] = power.images[0]
    return shown


def noise_r2(
    net: Network,
    noise: Dataset,
    *,
    measures: Sequence[str] = ("canvas_size", "correlation_length"),
    regions: Sequence[str] = (WHOLE, INNER),
    **options: Any,
) -> pd.DataFrame:
    """Held-out R² per tap of what noise images differ in.

    Parameters
    ----------
    net : Network
        For any size; see :func:`studies.readings.any_size`.
    noise : Dataset
        From :func:`studies.s03_noise.render_noise`.
    measures : sequence of str
        Columns of its table, in pixels; those without values for this kind of noise are left out.
    regions : sequence of str
        ``"whole map"``, and ``"border-free"`` for the taps that have positions without a border in the
        smallest canvas.
    **options
        Further options of :func:`scalelib.regression.layerwise_r2`.

    Returns
    -------
    pandas.DataFrame
        Its rows with ``kind``, ``measure`` and ``region``.

    Examples
    --------
    >>> from studies.s03_noise import render_noise
    >>> from studies.readings import padding_probe
    >>> noise = render_noise(40, canvas_sizes=(16, 32, 48), correlation_lengths=(1.0, 2.0))
    >>> table = noise_r2(padding_probe(padding="same"), noise, repeats=2, estimator="ridge")
    >>> sorted(table.region.unique())
    ['border-free', 'whole map']
    """
    acts = _read_regions(net, noise, regions)
    parts = []
    for measure in measures:
        values = noise.table[measure].to_numpy(dtype=float)
        if np.isnan(values).any():
            continue
        for region, by_tap in acts.items():
            part = layerwise_r2(by_tap, values, **options)
            parts.append(part.assign(kind=noise.table.object_class.iloc[0], measure=measure, region=region))
    return pd.concat(parts, ignore_index=True)


def _read_regions(
    net: Network, noise: Dataset, regions: Sequence[str]
) -> Mapping[str, dict[str, np.ndarray]]:
    """One forward pass for all regions."""
    networks = {WHOLE: net} if WHOLE in regions else {}
    if INNER in regions:
        inner = border_free(net, int(noise.table.canvas_size.min()))
        networks |= {INNER: inner} if inner.taps else {}  # else no tap is that early
    taps = {f"{region}/{tap}": layer for region, one in networks.items() for tap, layer in one.taps.items()}
    steps = networks[INNER].steps if INNER in networks else net.steps
    acts = read_by_size(replace(net, taps=taps, steps=steps), noise.images)
    return {region: {tap: acts[f"{region}/{tap}"] for tap in one.taps} for region, one in networks.items()}


def summarize_noise(table: pd.DataFrame) -> pd.DataFrame:
    """Mean R² and 95 % interval of every curve; for random weights the weight seed is the unit.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows of :func:`noise_r2` with ``network``, ``weights`` and ``weights_seed``.

    Returns
    -------
    pandas.DataFrame
        See :func:`scalelib.statistics.summarize`; by network, weights, kind, measure, region, tap,
        estimator and condition.
    """
    by = ["network", "weights", "kind", "measure", "region", "tap", "estimator", "condition"]
    parts = [
        summarize(rows, by=by, unit="weights_seed" if weights == "random" else "repeat")
        for weights, rows in table.groupby("weights", sort=False)
    ]
    return pd.concat(parts, ignore_index=True)


def noise_answers(summary: pd.DataFrame, *, network: str, weights: str) -> dict[str, float | str]:
    """Numbers and words of section 4.2 for one network, by ridge.

    Parameters
    ----------
    summary : pandas.DataFrame
        From :func:`studies.s03_noise.summarize_noise`.
    network, weights : str
        The trained network that the prose is about; random weights of the same network stand beside it.

    Returns
    -------
    dict of str to (float or str)
        Plain values, by the name under which the prose glues them.
    """
    rows = summary[(summary.network == network) & (summary.estimator == "ridge")]
    blob = rows[(rows.kind == "blob") & (rows.region == "whole map")]
    true = blob[blob.condition == "true"]
    values: dict[str, float | str] = {"answer_network": f"{network} ({weights})"}
    for word, measure in (("length", "correlation_length"), ("canvas", "canvas_size")):
        for ending, of in (("", weights), ("_random", "random")):
            curve = true[(true.measure == measure) & (true.weights == of)].set_index("tap")["mean"]
            values[f"{word}_best{ending}"] = float(curve.max())
            values[f"{word}_best_tap{ending}"] = str(curve.idxmax())
    curve = _features(true, "correlation_length", weights)
    best, last = float(curve.max()), float(curve.iloc[-1])
    values |= {"length_last": last, "last_tap": str(curve.index[-1])}
    values["length_change"] = "falls" if best - last > 0.02 else "hardly changes"
    shuffled = blob[(blob.condition == "shuffled") & (blob.weights == weights)]
    values["shuffled_best"] = float(shuffled["mean"].max())
    return values | _borders(rows, weights) | _kinds(rows, weights)


def _features(table: pd.DataFrame, measure: str, weights: str) -> pd.Series:
    """Mean R² by tap, probabilities left out."""
    rows = table[(table.measure == measure) & (table.weights == weights) & (table.tap != "softmax")]
    return rows.set_index("tap")["mean"]


def _borders(rows: pd.DataFrame, weights: str) -> dict[str, float | str]:
    """The last tap with border-free positions, with and without its borders."""
    blob = rows[(rows.kind == "blob") & (rows.condition == "true")]
    inner = _features(blob[blob.region == "border-free"], "canvas_size", weights)
    whole = _features(blob[blob.region == "whole map"], "canvas_size", weights)
    tap = str(inner.index[-1])
    return {"inner_tap": tap, "inner_whole": float(whole[tap]), "inner_free": float(inner[tap])}


def _kinds(rows: pd.DataFrame, weights: str) -> dict[str, float | str]:
    true = rows[(rows.condition == "true") & (rows.region == "whole map")]
    return {
        f"kind_{kind}": float(_features(part, "canvas_size", weights).max())
        for kind, part in true.groupby("kind", sort=False)
    }


MEASURES = {"canvas_size": "canvas size in px", "correlation_length": "correlation length in px"}
KINDS_noise = {"white": "white noise", "power": "1/f noise", "blob": "blob noise"}
FLOOR = -0.5
"""Lower end of R² axes: below it values are drawn at the edge, as arrows."""


def noise_gallery(images: Sequence[np.ndarray], titles: Sequence[str], lengths: pd.DataFrame) -> Figure:
    """Noise on one scale of pixels, and requested against measured correlation length.

    Parameters
    ----------
    images : sequence of ndarray of uint8, shape (side, side, 3)
        Sides may differ.
    titles : sequence of str
        One per image.
    lengths : pandas.DataFrame
        See :func:`studies.s03_noise.check_lengths`.

    Returns
    -------
    matplotlib.figure.Figure
    """
    fig = plt.figure(figsize=(WIDTH, 2.9))
    pictures, chart = np.asarray(fig.subfigures(1, 2, width_ratios=(5, 3)), dtype=object)
    largest = max(len(image) for image in images)
    columns = -(-len(images) // 2)
    for ax, image, title in zip(pictures.subplots(2, columns).flat, images, titles, strict=True):
        ax.imshow(image, extent=(0, len(image), largest - len(image), largest))
        ax.set(xlim=(0, largest), ylim=(0, largest))
        ax.set_axis_off()
        ax.set_title(title, fontsize=7.5, fontweight="normal")
    ax = chart.subplots()
    ends = [lengths.requested.min() * 0.85, lengths.requested.max() * 1.15]
    ax.plot(ends, ends, color="#777777", lw=1, label="equal")
    ax.errorbar(
        lengths.requested, lengths.measured, yerr=lengths.sd, fmt="o", color=COLOURS[0], capsize=2,
        label="mean ± sd over fields",
    )  # fmt: skip
    ax.set(xscale="log", yscale="log", xlabel="requested length in px", ylabel="measured length in px")
    ticks = lengths.requested.round(1).tolist()
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_ticks(ticks, [f"{t:g}" for t in ticks])
        axis.set_minor_locator(plt.NullLocator())
    ax.legend(fontsize=8)
    return fig


def r2_by_tap(summary: pd.DataFrame) -> Figure:
    """Held-out R² of both measures by tap: trained against random weights, ridge against least squares.

    Parameters
    ----------
    summary : pandas.DataFrame
        From :func:`studies.s03_noise.summarize_noise`, of one kind, region and condition.

    Returns
    -------
    matplotlib.figure.Figure
        One row per network, one column per measure.
    """
    networks = list(dict.fromkeys(summary.network))
    measures = [name for name in MEASURES if (summary.measure == name).any()]
    colours = dict(zip(_weights(summary), COLOURS, strict=False))
    fig, axes = plt.subplots(
        len(networks), len(measures), figsize=(WIDTH * 1.15, 2.9 * len(networks) + 0.4), sharey=True,
        squeeze=False,
    )  # fmt: skip
    for row, network in enumerate(networks):
        taps = list(dict.fromkeys(summary[summary.network == network].tap))
        for column, measure in enumerate(measures):
            ax = axes[row, column]
            part = summary[(summary.network == network) & (summary.measure == measure)]
            for (weights, estimator), rows in part.groupby(["weights", "estimator"], sort=False):
                dashed = estimator == "ols"
                _curve(
                    ax, rows, taps, color=colours[weights], ls="--" if dashed else "-",
                    marker="x" if dashed else "o", label=f"{weights}, {estimator}",
                )  # fmt: skip
            tap_axis(ax, taps, label="")
            ax.set_title(f"{network}: {MEASURES[measure]}", fontsize=9)
        axes[row, 0].set_ylabel("held-out R²")
    legend_below(fig, axes.flat, columns=3)
    return fig


def _weights(summary: pd.DataFrame) -> list[str]:
    """Trained weights first, random ones last."""
    return sorted(dict.fromkeys(summary.weights), key=lambda name: name == "random")


def _curve(
    ax: Axes, rows: pd.DataFrame, taps: Sequence[str], *, color: str, ls: str, marker: str, label: str
) -> None:
    rows = rows.set_index("tap").reindex(taps)
    places = np.arange(len(taps))
    drawn = rows["mean"].clip(lower=FLOOR)
    ax.plot(places, drawn, color=color, ls=ls, marker=marker, label=label)
    ax.fill_between(
        places, rows.low.clip(lower=FLOOR), rows.high.clip(lower=FLOOR), color=color, alpha=0.13, lw=0
    )
    below = (rows["mean"] < FLOOR).to_numpy()
    if below.any():
        ax.plot(
            places[below], np.full(below.sum(), FLOOR), ls="", marker="v", color=color, ms=7, clip_on=False
        )
    ax.axhline(0, color="#777777", lw=0.8)
    ax.set_ylim(FLOOR, 1.03)


def padding_effect(summary: pd.DataFrame) -> Figure:
    """Canvas size read from small networks that differ in nothing but padding.

    Parameters
    ----------
    summary : pandas.DataFrame
        From :func:`studies.s03_noise.summarize_noise`: ``network`` says the padding, ``weights`` the
        activation; one estimator, the measure canvas size.

    Returns
    -------
    matplotlib.figure.Figure
    """
    kinds = list(dict.fromkeys(summary.weights))
    fig, axes = plt.subplots(1, len(kinds), figsize=(WIDTH, 3.1), sharey=True, squeeze=False)
    styles = dict(
        zip(dict.fromkeys(zip(summary.network, summary.region, strict=True)), _STYLES, strict=False)
    )
    for ax, kind in zip(axes.flat, kinds, strict=True):
        part = summary[summary.weights == kind]
        taps = list(dict.fromkeys(part.tap))
        for (network, region), rows in part.groupby(["network", "region"], sort=False):
            color, ls, marker = styles[network, region]
            _curve(ax, rows, taps, color=color, ls=ls, marker=marker, label=f"{network}, {region}")
        ax.set_title(kind)
        tap_axis(ax, taps)
    axes[0, 0].set_ylabel("R², canvas size in px")
    legend_below(fig, axes.flat)
    return fig


_STYLES = [(COLOURS[1], "-", "o"), (COLOURS[2], "--", "x"), (COLOURS[0], "-", "s"), (COLOURS[4], "--", "^")]


def canvas_leak(summary: pd.DataFrame, *, split: str, columns: int = 3) -> Figure:
    """Canvas size read at each tap, with one curve per kind of noise or per region of the map.

    Parameters
    ----------
    summary : pandas.DataFrame
        From :func:`studies.s03_noise.summarize_noise`; one estimator, the measure canvas size.
    split : {"kind", "region"}
        What tells the curves apart.
    columns : int, default=3
        Panels in a row.

    Returns
    -------
    matplotlib.figure.Figure
    """
    panels = list(dict.fromkeys(zip(summary.network, summary.weights, strict=True)))
    width = min(columns, len(panels), 3 if summary.groupby("network").tap.nunique().max() < 15 else 2)
    rows = -(-len(panels) // width)
    fig, axes = plt.subplots(
        rows, width, figsize=(WIDTH * 1.15, 3.1 * rows + 0.3), sharey=True, squeeze=False
    )
    styles = dict(zip(dict.fromkeys(summary[split]), _STYLES, strict=False))
    for ax, (network, weights) in zip(axes.flat, panels, strict=False):
        part = summary[(summary.network == network) & (summary.weights == weights)]
        taps = list(dict.fromkeys(part.tap))
        for name, curve in part.groupby(split, sort=False):
            color, ls, marker = styles[name]
            _curve(ax, curve, taps, color=color, ls=ls, marker=marker, label=KINDS_noise.get(name, name))
        tap_axis(ax, taps, label="")
        ax.set_title(f"{network}, {weights}", fontsize=9)
    for ax in axes.flat[len(panels) :]:
        ax.set_visible(False)
    for row in axes:
        row[0].set_ylabel("R², canvas size in px")
    legend_below(fig, axes.flat, columns=3)
    return fig
