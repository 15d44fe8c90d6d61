"""Figures of the experiments on noise (§4.2). Draws images and summaries; computes no R²."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scalelib.plots.style import COLOURS, WIDTH, legend_below, tap_axis

MEASURES = {"canvas_size": "canvas size in px", "correlation_length": "correlation length in px"}
KINDS = {"white": "white noise", "power": "1/f noise", "blob": "blob noise"}
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
        See :func:`scalelib.noise_study.check_lengths`.

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
        From :func:`scalelib.noise_study.summarize_noise`, of one kind, region and condition.

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
        From :func:`scalelib.noise_study.summarize_noise`: ``network`` says the padding, ``weights`` the
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
        From :func:`scalelib.noise_study.summarize_noise`; one estimator, the measure canvas size.
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
            _curve(ax, curve, taps, color=color, ls=ls, marker=marker, label=KINDS.get(name, name))
        tap_axis(ax, taps, label="")
        ax.set_title(f"{network}, {weights}", fontsize=9)
    for ax in axes.flat[len(panels) :]:
        ax.set_visible(False)
    for row in axes:
        row[0].set_ylabel("R², canvas size in px")
    legend_below(fig, axes.flat, columns=3)
    return fig
