"""One look for all figures: readable at the book's width, and by colour-blind readers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe & Ito (2008), without yellow, which is too faint on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
CONDITION_COLOURS = {"imagenet": "#0072B2", "random": "#E69F00", "shuffled": "#777777", "paper": "#000000"}
WIDTH = 7.2
"""Width of a full-width figure in inches."""


CONDITION_STYLE = {
    "ImageNet weights": {"color": "#0072B2", "marker": "o", "linestyle": "-"},
    "random weights": {"color": "#E69F00", "marker": "s", "linestyle": "--"},
    "shuffled measures": {"color": "#777777", "marker": "^", "linestyle": ":"},
}


def use_style() -> None:
    """Set Matplotlib's defaults for the notebooks.

    Examples
    --------
    >>> use_style()
    >>> mpl.rcParams["axes.spines.top"]
    False
    """
    mpl.rcParams.update(
        {
            "figure.dpi": 110,
            "savefig.dpi": 150,
            "savefig.bbox": "tight",
            "figure.constrained_layout.use": True,
            "figure.facecolor": "white",
            "font.size": 9.5,
            "axes.titlesize": 10,
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": "#e4e4e4",
            "grid.linewidth": 0.6,
            "legend.frameon": False,
            "lines.linewidth": 1.6,
            "lines.markersize": 4.5,
            "image.interpolation": "nearest",
            "axes.prop_cycle": cycler(color=COLOURS),
            "svg.hashsalt": "scalelib",
        }
    )


def colour_of(names: Iterable[str]) -> dict[str, str]:
    """A fixed colour for each name, in the order given.

    Examples
    --------
    >>> colour_of(["a", "b"])["a"]
    '#0072B2'
    """
    return {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(dict.fromkeys(names))}


def short_tap(tap: str) -> str:
    """A tap's name without what only says how its block ends, for the ticks of a figure.

    Examples
    --------
    >>> short_tap("block_13_project_BN"), short_tap("expanded_conv_project_BN"), short_tap("add16")
    ('block_13', 'expanded_conv', 'add16')
    """
    return tap.removesuffix("_project_BN").removesuffix("_add")


def tap_axis(axes: Axes, taps: Sequence[str], *, label: str = "tap (input to output)") -> None:
    """Label the x axis with taps, turned so that they can be read."""
    shown = [short_tap(tap) for tap in taps]
    axes.set_xticks(range(len(taps)), shown, rotation=60, ha="right", rotation_mode="anchor", fontsize=8)
    axes.set_xlabel(label)
    axes.set_xlim(-0.5, len(taps) - 0.5)


def legend_below(fig: Figure, axes: Iterable[Axes], *, columns: int = 2) -> None:
    """One legend under a figure for all of its axes, each label once."""
    handles: dict[str, Any] = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    fig.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=columns, fontsize=8)


def r2_by_tap(summary: pd.DataFrame, *, floor: float = -0.6, bands: bool = True) -> Figure:
    """R² against tap, one panel per network, one curve per condition, with intervals.

    Parameters
    ----------
    summary : pandas.DataFrame
        Columns ``network, curve, tap, mean, low, high``; taps in their order from input to output.
    floor : float, default=-0.6
        Lower end of the axis; values below it are drawn at the floor with their value beside them.
    bands : bool, default=True
        Whether intervals are drawn; with many curves they hide each other.

    Returns
    -------
    matplotlib.figure.Figure
    """
    networks = list(summary.network.unique())
    columns = min(2, len(networks))
    rows = -(-len(networks) // columns)
    fig, axes = plt.subplots(
        rows, columns, figsize=(WIDTH, 3.1 * rows), sharey=True, squeeze=False, layout="constrained"
    )
    for ax in axes.flat[len(networks) :]:
        ax.set_axis_off()
    curves = list(summary.curve.unique())
    colours = colour_of(curves)
    for ax, network in zip(axes.flat, networks, strict=False):
        part = summary[summary.network == network]
        taps = list(part.tap.unique())
        for i, curve in enumerate(curves):
            one = part[part.curve == curve].set_index("tap")
            if one.empty:
                continue
            own = {
                "color": colours[curve],
                "marker": MARKERS[i % len(MARKERS)],
                "linestyle": "-" if i < len(COLOURS) else "--",
            }
            style = CONDITION_STYLE.get(curve, own)
            _curve(ax, one, taps, floor=floor, bands=bands, label=curve, style=style, shift=6 * i)
        ax.axhline(0, color="#555555", lw=0.8)
        ax.set_ylim(floor - 0.08, 1.0)
        ax.set_title(network)
        tap_axis(ax, taps)
    for row in axes:
        row[0].set_ylabel("held-out R²")
    handles = _legend(fig)
    columns = max(1, min(len(handles), 90 // (6 + max(map(len, handles)))))
    fig.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=columns)
    return fig


def _legend(fig: Figure) -> dict[str, Any]:
    """One handle per label, whichever panel it stands in."""
    return {
        label: handle
        for ax in fig.axes
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)
    }


def _curve(
    ax: Axes,
    one: pd.DataFrame,
    taps: Sequence[str],
    *,
    floor: float,
    bands: bool,
    label: str,
    style: Mapping[str, object],
    shift: float,
) -> None:
    x = np.array([taps.index(tap) for tap in one.index])
    mean, low, high = (one[name].to_numpy(float) for name in ("mean", "low", "high"))
    shown = np.maximum(mean, floor)
    ax.plot(x, shown, label=label, **style)  # type: ignore[arg-type]
    if bands:
        low, high = np.maximum(low, floor), np.maximum(high, floor)
        ax.fill_between(x, low, high, color=str(style["color"]), alpha=0.15, lw=0)
    for position, value in zip(x, mean, strict=True):
        if value < floor:
            ax.annotate(
                f"{value:.2g}", (position, floor), textcoords="offset points", xytext=(shift, 5), fontsize=6.5,
                ha="center", color=str(style["color"]),
            )  # fmt: skip
