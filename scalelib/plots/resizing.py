"""Figures of the resizing experiments (§4.1). Draws pictures and tables; computes no measure."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scalelib.plots.style import COLOURS, MARKERS, WIDTH, colour_of, legend_below, tap_axis

TITLES = {
    "resize": "resize\n(size × k, share kept)",
    "detail": "detail\n(shrunk and back)",
    "zoom": "zoom of a window\n(size × k, share kept)",
    "share": "share, by cropping\n(size kept, share × k)",
    "rendered": "share, rendered anew\n(size kept, share × k)",
    "canvas": "canvas\n(size × k, share ÷ k)",
}
SCORES = {
    "agreement": "top-1 agreement\nwith k = 1",
    "total_variation": "total variation\nfrom k = 1",
    "accuracy": "accuracy",
}


def manipulation_grid(pictures: Mapping[str, Mapping[float, np.ndarray]]) -> Figure:
    """One picture under every manipulation, all drawn on one scale of pixels.

    Parameters
    ----------
    pictures : mapping of str to mapping of float to ndarray of uint8, shape (side, side, 3)
        By manipulation and factor; every manipulation has the same factors.

    Returns
    -------
    matplotlib.figure.Figure
    """
    factors = sorted(next(iter(pictures.values())))
    widths = [max(len(by_factor[factor]) for by_factor in pictures.values()) for factor in factors]
    heights = [max(len(image) for image in by_factor.values()) for by_factor in pictures.values()]
    size = (WIDTH * 0.6, WIDTH * 0.48 / sum(widths) * sum(heights))
    fig, axes = plt.subplots(
        len(heights), len(widths), figsize=size, width_ratios=widths, height_ratios=heights, squeeze=False
    )
    for row, height, (name, by_factor) in zip(axes, heights, pictures.items(), strict=True):
        for ax, width, factor in zip(row, widths, factors, strict=True):
            half = len(by_factor[factor]) / 2
            ax.imshow(by_factor[factor], extent=(-half, half, -half, half))
            ax.set(xlim=(-width / 2, width / 2), ylim=(-height / 2, height / 2), xticks=[], yticks=[])
            ax.grid(False)
            ax.spines[:].set_visible(False)
        row[0].set_ylabel(TITLES[name], fontsize=8, rotation=0, ha="right", va="center")
    for ax, factor in zip(axes[0], factors, strict=True):
        ax.set_title(f"k = {factor:g}", loc="center")
    return fig


def predictions(table: pd.DataFrame) -> Figure:
    """Agreement, total variation and accuracy against the factor, for every manipulation.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows of :func:`scalelib.resizing.predictions_by_factor` with ``network``, ``weights``, ``pictures``
        and ``manipulation``. Bands are Wilson's 95 % intervals.

    Returns
    -------
    matplotlib.figure.Figure
    """
    names = [name for name in TITLES if (table.manipulation == name).any()]
    scores = [score for score in SCORES if table[score].notna().any()]
    fig, axes = plt.subplots(
        len(scores), len(names), figsize=(WIDTH * 1.15, 1.75 * len(scores) + 1.0), sharey="row",
        sharex="col", squeeze=False,
    )  # fmt: skip
    colours, markers = (
        colour_of(_who(table).unique()),
        dict(zip(table.pictures.unique(), MARKERS, strict=False)),
    )
    for column, name in enumerate(names):
        part = table[table.manipulation == name]
        for (who, pictures), rows in part.groupby([_who(part), "pictures"], sort=False):
            style = {
                "color": colours[who],
                "marker": markers[pictures],
                "label": _label(who, pictures, table),
            }
            for row, score in enumerate(scores):
                axes[row, column].plot(rows.factor, rows[score], **style)
            axes[0, column].fill_between(
                rows.factor, rows.agreement_low, rows.agreement_high, color=colours[who], alpha=0.12, lw=0
            )
        axes[0, column].set_title(
            TITLES[name].splitlines()[0].replace(", ", ",\n").replace(" of ", "\nof "), fontsize=8
        )
        _factor_axis(axes[-1, column], sorted(part.factor.unique()))
    for row, score in enumerate(scores):
        axes[row, 0].set(ylabel=SCORES[score], ylim=(-0.03, 1.03))
    legend_below(fig, axes.flat)
    return fig


def _who(table: pd.DataFrame) -> pd.Series:
    return table.network + ", " + table.weights


def _label(who: str, pictures: str, table: pd.DataFrame) -> str:
    return f"{who}; {pictures}" if table.pictures.nunique() > 1 else who


def _factor_axis(ax: Axes, factors: list[float]) -> None:
    ax.set_xscale("log", base=2)
    shown = [k for k in (0.25, 0.5, 1, 2) if min(factors) <= k <= max(factors)]
    ax.set_xticks(shown, [f"{k:g}" for k in shown])
    ax.minorticks_off()
    ax.set_xlabel("factor k")


def variance_by_tap(table: pd.DataFrame, *, columns: int = 3) -> Figure:
    """Share of activation variance that each manipulation explains, by tap; one panel per network.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows of :func:`scalelib.resizing.variance_by_factor` with ``network``, ``weights``, ``weights_seed``,
        ``pictures`` and ``manipulation``; seeds and pictures are averaged.
    columns : int, default=3
        Panels in a row.

    Returns
    -------
    matplotlib.figure.Figure
    """
    panels = list(dict.fromkeys(_who(table)))
    columns = min(columns, len(panels), 3 if table.groupby(_who(table)).tap.nunique().max() < 15 else 2)
    rows = -(-len(panels) // columns)
    fig, axes = plt.subplots(
        rows, columns, figsize=(WIDTH * 1.15, 3.1 * rows + 0.4), sharey=True, squeeze=False
    )
    names = [name for name in TITLES if (table.manipulation == name).any()]
    for ax, who in zip(axes.flat, panels, strict=False):
        part = table[_who(table) == who]
        taps = list(dict.fromkeys(part.tap))
        for name, colour, marker in zip(names, COLOURS, MARKERS, strict=False):
            rows_of = part[part.manipulation == name]
            means = rows_of.groupby("tap", sort=False).variance_explained.mean().reindex(taps)
            ax.plot(
                range(len(taps)), means, color=colour, marker=marker, label=TITLES[name].replace("\n", " ")
            )
        tap_axis(ax, taps, label="")
        ax.set_title(who, fontsize=9)
    for ax in axes.flat[len(panels) :]:
        ax.set_visible(False)
    for row in axes:
        row[0].set_ylabel("share of variance\nthat k explains")
    axes[0, 0].set_ylim(0, None)
    legend_below(fig, axes.flat)
    return fig


def cosine_by_tap(table: pd.DataFrame, *, columns: int = 3) -> Figure:
    """Cosine to the reference for every tap and factor, as one heat map per network.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows of :func:`scalelib.resizing.activations_by_factor` of one manipulation, with ``network``, ``weights``,
        ``weights_seed`` and ``pictures``; seeds and pictures are averaged.
    columns : int, default=3
        Panels in a row.

    Returns
    -------
    matplotlib.figure.Figure
    """
    panels = list(dict.fromkeys(_who(table)))
    columns = min(columns, len(panels), 3 if table.groupby(_who(table)).tap.nunique().max() < 15 else 2)
    rows = -(-len(panels) // columns)
    fig, axes = plt.subplots(rows, columns, figsize=(WIDTH * 1.15, 3.0 * rows), squeeze=False, sharey=True)
    for ax, who in zip(axes.flat, panels, strict=False):
        part = table[_who(table) == who]
        grid = part.pivot_table(index="factor", columns="tap", values="cosine", sort=False).sort_index()
        drawn = ax.imshow(grid, cmap="cividis", vmin=0, vmax=1, aspect="auto", origin="lower")
        tap_axis(ax, list(grid.columns), label="")
        ax.set_yticks(range(len(grid)), [f"{k:g}" for k in grid.index], fontsize=8)
        ax.set_title(who, fontsize=9)
        ax.grid(False)
    for ax in axes.flat[len(panels) :]:
        ax.set_visible(False)
    for row in axes:
        row[0].set_ylabel("factor k")
    fig.colorbar(drawn, ax=axes, label="cosine to k = 1", shrink=0.8)
    return fig


def sampling(table: pd.DataFrame) -> Figure:
    """Agreement for each way of resampling, against the factor and after a change by one pixel.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows of :func:`scalelib.size_study.sampling_table` with ``network`` and ``weights``.

    Returns
    -------
    matplotlib.figure.Figure
    """
    panels = list(dict.fromkeys(_who(table)))
    fig, axes = plt.subplots(
        2, len(panels), figsize=(WIDTH, 5.4), squeeze=False, sharey="row", height_ratios=(3, 2)
    )
    colours = colour_of(table.interpolation.unique())
    for column, who in enumerate(panels):
        part = table[_who(table) == who]
        shrunk, pixel = part[part.factor <= 1], part[part.change_px == 1]
        for (name, filtered), rows in shrunk.groupby(["interpolation", "antialias"], sort=False):
            axes[0, column].plot(
                rows.factor, rows.agreement, color=colours[name], ls="-" if filtered else "--",
                marker="o" if filtered else "x", label=f"{name}, {'' if filtered else 'not '}anti-aliased",
            )  # fmt: skip
        _factor_axis(axes[0, column], sorted(shrunk.factor.unique()))
        axes[0, column].set_title(who)
        places = range(len(pixel))
        axes[1, column].bar(
            places, 1 - pixel.agreement, color=[colours[name] for name in pixel.interpolation],
            hatch=["" if filtered else "///" for filtered in pixel.antialias], edgecolor="white",
        )  # fmt: skip
        axes[1, column].errorbar(
            places, 1 - pixel.agreement, fmt="none", ecolor="#333333", elinewidth=1, capsize=2,
            yerr=[pixel.agreement_high - pixel.agreement, pixel.agreement - pixel.agreement_low],
        )  # fmt: skip
        axes[1, column].set_xticks([])
    axes[0, 0].set_ylabel("top-1 agreement with k = 1")
    axes[1, 0].set_ylabel("predictions changed by\none pixel more")
    legend_below(fig, axes[0], columns=3)
    return fig
