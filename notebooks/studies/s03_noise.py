"""Notebook 03: noise images with known canvas size and pattern scale and no object, read with and without borders.

Noise is made first; then come the regressions, the numbers that the prose quotes, and the figures.
"""

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
from matplotlib.figure import Figure

from scalelib import plotting
from scalelib.activations import extract
from scalelib.datasets import Dataset
from scalelib.networks import Network
from scalelib.pruning import OUTPUT_TAPS
from scalelib.regression import layerwise_r2
from scalelib.statistics import summarize
from studies.readings import Read, border_free

Kind = Literal["white", "power", "blob"]


# Where a map is averaged: everywhere, or only where no border of the image is seen.
WHOLE, INNER = "whole map", "border-free"
MEASURES = {"canvas_size": "canvas size in px", "correlation_length": "correlation length in px"}


def noise_field(
    size: int,
    *,
    kind: Kind = "blob",
    correlation_length: float = 4.0,
    exponent: float = 2.0,
    torus: int | None = None,
    random_state: int | np.random.Generator = 0,
) -> np.ndarray:
    """A square field of Gaussian noise, zero mean and unit variance in expectation over the torus it is cut from.

    ``white``: independent pixels; ``power``: power spectrum 1/f^exponent (2: natural images, Field 1987);
    ``blob``: all power within one octave, chosen so that the autocorrelation falls to 1/e at the correlation length
    (0.8 px, by Nyquist, to torus/16). Fields of different size are the same process only on the same torus.
    """
    length = correlation_length
    side = torus or _torus(size, length if kind == "blob" else 0.0)
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
    """Centre frequency times the distance at which a one-octave ring's autocorrelation is 1/e.

    With all power between frequencies g and h it is (h J1(2πhr) − g J1(2πgr)) / (πr (h² − g²)) at distance r.
    """
    low, high = 1 / np.sqrt(2), np.sqrt(2)

    def excess(r: float) -> float:
        ring = high * scipy.special.j1(2 * np.pi * high * r) - low * scipy.special.j1(2 * np.pi * low * r)
        return float(ring / (np.pi * r * (high**2 - low**2)) - np.exp(-1))

    return float(scipy.optimize.brentq(excess, 0.05, 0.4))


def correlation_length(field: np.ndarray) -> float:
    """The distance in pixels at which a field's radial autocorrelation first falls to 1/e; NaN if it does not.

    Lags are divided by the pixel pairs that have them (Wiener–Khinchin on a zero-padded canvas); white noise measures
    1 − 1/e, the floor of the pixel grid.
    """
    field = np.asarray(field, dtype=float)
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
    random_state: int = 0,
) -> Dataset:
    """Grey noise images, 128 ± 40 grey levels, whose canvas size (all equally often) and pattern scale are drawn independently.

    Correlation lengths are log-uniform between two bounds, for blob noise alone. Values outside 0–255 are clipped.
    """
    shortest, longest = correlation_lengths
    rng = np.random.default_rng(random_state)
    sizes = rng.permutation(np.resize(np.asarray(canvas_sizes, dtype=int), n))
    lengths = np.exp(rng.uniform(np.log(shortest), np.log(longest), n))
    torus = _torus(max(canvas_sizes), longest if kind == "blob" else 0.0)
    images, digest = [], hashlib.sha256()
    for size, length in zip(sizes, lengths, strict=True):
        field = noise_field(
            int(size), kind=kind, correlation_length=float(length), exponent=exponent, torus=torus,
            random_state=rng,
        )  # fmt: skip
        grey = np.clip(np.rint(128 + 40 * field), 0, 255).astype(np.uint8)
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


def check_lengths(lengths: Sequence[float], *, random_state: int = 0) -> pd.DataFrame:
    """Requested against measured correlation length of blob noise: mean and deviation over 20 fields, in pixels."""
    rng = np.random.default_rng(random_state)
    rows = []
    for length in lengths:
        drawn = [noise_field(128, correlation_length=length, random_state=rng) for _ in range(20)]
        measured = [correlation_length(field) for field in drawn]
        rows.append({"requested": length, "measured": np.mean(measured), "sd": np.std(measured, ddof=1)})
    return pd.DataFrame(rows)


def examples(
    canvas_sizes: Sequence[int], correlation_lengths: Sequence[float], *, exponent: float = 2.0
) -> dict[str, np.ndarray]:
    """A small and a large canvas of every kind of noise to look at, by title."""
    small, large = min(canvas_sizes), max(canvas_sizes)
    kinds: dict[str, dict[str, Any]] = {}
    for size in (small, large):
        for length in (min(correlation_lengths), max(correlation_lengths)):
            kinds[f"blob, {size} px, length {length:g} px"] = {"correlation_lengths": (length, length)}
        other = {"kind": "white"} if size == small else {"kind": "power", "exponent": exponent}
        kinds[f"{'white' if size == small else '1/f'}, {size} px"] = other
    sides = [small] * 3 + [large] * 3
    return {
        title: render_noise(1, canvas_sizes=[side], **options).images[0]
        for (title, options), side in zip(kinds.items(), sides, strict=True)
    }


def noise_r2(
    net: Network, noise: Dataset, *, measures: Sequence[str] = tuple(MEASURES), **options: Any
) -> pd.DataFrame:
    """Rows of `layerwise_r2` for the measures that this noise has, over whole maps and away from borders."""
    parts = []
    for region, acts in _read_regions(net, noise).items():
        for measure in measures:
            values = noise.table[measure].to_numpy(dtype=float)
            if not np.isnan(values).any():
                part = layerwise_r2(acts, values, **options)
                parts.append(part.assign(kind=noise.table.object_class[0], measure=measure, region=region))
    return pd.concat(parts, ignore_index=True)


def _read_regions(net: Network, noise: Dataset) -> Mapping[str, dict[str, np.ndarray]]:
    """One forward pass for both regions; where no tap is early enough the whole map stands alone."""
    inner = border_free(net, int(noise.table.canvas_size.min()))
    regions = {WHOLE: net.taps, **({INNER: inner.taps} if inner.taps else {})}
    taps = {f"{region}/{tap}": layer for region, own in regions.items() for tap, layer in own.items()}
    acts = extract(replace(net, taps=taps, steps=inner.steps), noise.images)
    return {region: {tap: acts[f"{region}/{tap}"] for tap in own} for region, own in regions.items()}


def summarize_noise(table: pd.DataFrame) -> pd.DataFrame:
    """Mean R² and 95 % interval of every curve; for random weights the weight seed is the unit."""
    by = ["network", "weights", "kind", "measure", "region", "tap", "estimator", "condition"]
    parts = [
        summarize(rows, by=by, unit="weights_seed" if weights == "random" else "repeat")
        for weights, rows in table.groupby("weights", sort=False)
    ]
    return pd.concat(parts, ignore_index=True)


def best_taps(summary: pd.DataFrame) -> pd.DataFrame:
    """Where ridge reads each measure best, and how well at the last layer of features, by network, noise and region."""
    rows = summary[(summary.estimator == "ridge") & ~summary.tap.isin(OUTPUT_TAPS)]
    by = ["network", "weights", "kind", "measure", "region", "condition"]
    groups = rows.groupby(by, sort=False)
    best = rows.loc[groups["mean"].idxmax()].set_index(by)
    found = best[["tap", "mean", "low", "high"]].rename(columns={"mean": "r2"})
    last = groups[["tap", "mean"]].last().set_axis(["last_tap", "r2_last"], axis=1)
    return found.join(last).reset_index()


def noise_gallery(images: Sequence[np.ndarray], titles: Sequence[str], lengths: pd.DataFrame) -> Figure:
    """Noise on one scale of pixels, and requested against measured correlation length."""
    fig = plt.figure(figsize=(plotting.WIDTH, 2.9))
    pictures, chart = np.asarray(fig.subfigures(1, 2, width_ratios=(5, 3)), dtype=object)
    largest = max(len(image) for image in images)
    for ax, image, title in zip(pictures.subplots(2, -(-len(images) // 2)).flat, images, titles, strict=True):
        ax.imshow(image, extent=(0, len(image), largest - len(image), largest))
        ax.set(xlim=(0, largest), ylim=(0, largest))
        ax.set_axis_off()
        ax.set_title(title, fontsize=7.5, fontweight="normal")
    ax = chart.subplots()
    ax.axline((1, 1), (2, 2), color="#777777", lw=1, label="equal")
    look = {"fmt": "o", "color": plotting.COLOURS[0], "capsize": 2, "label": "mean ± sd over fields"}
    ax.errorbar(lengths.requested, lengths.measured, yerr=lengths.sd, **look)
    ax.set(xscale="log", yscale="log", xlabel="requested length in px", ylabel="measured length in px")
    ticks = lengths.requested.round(1).tolist()
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_ticks(ticks, [f"{t:g}" for t in ticks])
        axis.set_minor_locator(plt.NullLocator())
    ax.legend(fontsize=8)
    return fig


def r2_by_tap(summary: pd.DataFrame) -> Figure:
    """Held-out R² on blob noise, one panel per weights: canvas size over the whole map and border-free, pattern scale."""
    curve = summary.measure.map(MEASURES).str.removesuffix(" in px") + ", " + summary.region
    panel = summary.weights.str.split(",").str[0]
    return plotting.r2_by_tap(summary.assign(network=panel, curve=curve), floor=-0.5)


def best_by_kind(best: pd.DataFrame) -> pd.DataFrame:
    """Best R² of canvas size over the whole map, a row per network, a column per kind of noise."""
    rows = best.query("measure == 'canvas_size' and condition == 'true' and region == @WHOLE")
    who = rows.network + ", " + rows.weights.str.split(",").str[0]
    names = {"white": "white noise", "power": "1/f noise", "blob": "blob noise"}
    table = rows.pivot_table("r2", who.rename(None), "kind", sort=False)[list(names)]
    return table.rename(columns=names).rename_axis(columns=None)


def padding_tells_size(read: Read, *, narrow: bool) -> Figure:
    """R² of canvas size against relative depth, averaged over the whole map and away from borders."""
    shape, size = ((2, 1), (3.73, 6.4)) if narrow else ((1, 2), (8.23, 3.6))
    fig, axes = plt.subplots(*shape, figsize=size, sharey=True)
    tables = [
        read("compact/03_noise_inputs/noise_summary").query(
            "network in ['InceptionV3', 'MobileNetV2'] and weights != 'random'"
        ),
        read("control/03_noise_inputs/noise_summary").query("weights == 'all scales'"),
        read("control/03_noise_inputs/padding_r2").query("weights == 'with ReLU'"),
    ]
    table = pd.concat(tables).query("kind == 'blob' and measure == 'canvas_size' and condition == 'true'")
    table = table[(table.estimator == "ridge") & ~table.tap.isin(OUTPUT_TAPS)]
    words = {
        "control": "control",
        "same padding": "random, zero padding",
        "valid padding": "random, no padding",
    }
    for place, (network, own) in enumerate(table.groupby("network", sort=False)):
        depth = {tap: at for at, tap in enumerate(own.tap[own.region == WHOLE])}
        placed = own.assign(x=own.tap.map(depth).astype(float) / (len(depth) - 1))
        for ax, region in zip(axes, (WHOLE, INNER), strict=True):
            rows = placed[placed.region == region]
            shown, look = rows[rows["mean"] >= -0.3], {"color": f"C{place}"}
            name = words.get(str(network), network)
            ax.plot(shown.x, shown["mean"], plotting.MARKERS[place] + "-", label=name, **look)
            ax.fill_between(shown.x, shown.low, shown.high, alpha=0.15, lw=0, **look)
            for x, mean in rows.loc[rows["mean"] < -0.3, ["x", "mean"]].to_numpy():
                ax.annotate("", (x, -0.3), xytext=(x, -0.14), arrowprops={"arrowstyle": "->", **look})
                ax.text(x - 0.02, -0.22, f"−{-mean:.0f}", ha="right", va="center", **look)
            ax.set(xlabel="relative depth", xlim=(-0.03, 1.03), ylim=(-0.3, 1.03))
    axes[0].set_title("Mean over the whole map")
    axes[1].set_title("Only where no border is seen")
    axes[0].set_ylabel("R² of canvas size")
    plotting.merged_legend(fig, axes[:1], ncols=2 if narrow else 5, fontsize=9)
    return fig
