"""Figures of what early layers prefer (appendix A.3). Draws tables; computes no result."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scalelib.plots.style import COLOURS, WIDTH

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
        From :func:`scalelib.channel_relation.relate_to_frequency` for both values.

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
