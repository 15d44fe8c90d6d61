"""Axes that several figures share: held-out R² over many decades, training images, depth."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scalelib.plots.style import COLOURS

ESTIMATOR_NAMES = {"ols": "least squares", "ridge": "ridge"}
ESTIMATOR_STYLE = {"ols": (COLOURS[1], "o", "-"), "ridge": (COLOURS[0], "s", "--")}
R2_TICKS = (-100000, -10000, -1000, -100, -10, -1, 0, 1)


def depth_lines(ax: Axes, rows: pd.DataFrame, *, x: str, y: str) -> None:
    """A line per tap, dark for the first and light for the last."""
    taps = list(dict.fromkeys(rows.tap))
    colours = mpl.colormaps["viridis"](np.linspace(0, 0.92, max(len(taps), 2)))
    for colour, tap in zip(colours, taps, strict=False):
        own = rows[rows.tap == tap].sort_values(x)
        ax.plot(own[x], own[y].clip(lower=-1e5), color=colour, lw=1.1, marker=".", ms=4)


def depth_bar(fig: Figure, axes: np.ndarray) -> None:
    """The key to :func:`depth_lines`."""
    mappable = mpl.cm.ScalarMappable(mpl.colors.Normalize(0, 1), mpl.colormaps["viridis"].resampled(256))
    bar = fig.colorbar(mappable, ax=axes, shrink=0.8 if len(axes) == 1 else 0.4, ticks=[0, 1])
    bar.ax.set_yticklabels(["first tap", "last tap"], fontsize=8)


def ratio_axis(ax: Axes, *, label: bool = True, label_text: str = "images per dimension, n / d") -> None:
    """Training images per dimension, with a line at 1."""
    ax.set_xscale("log")
    ax.axvline(1, color="black", lw=0.9, ls=":")
    _plain_ticks(ax, (0.1, 0.2, 0.5, 1, 2, 5, 10))
    if label:
        ax.set_xlabel(label_text)


def size_axis(ax: Axes) -> None:
    """Number of training images."""
    ax.set_xscale("log")
    _plain_ticks(ax, (10, 30, 100, 300, 1000))
    ax.set_xlabel("training images, n")


def row_label(panel: str) -> str:
    """A panel's name, network and weights under one another, for the label of a row."""
    return panel.replace(", ", ",\n", 1)


def _plain_ticks(ax: Axes, ticks: Sequence[float]) -> None:
    low, high = ax.get_xlim()
    ax.set_xticks([t for t in ticks if low <= t <= high], [f"{t:g}" for t in ticks if low <= t <= high])
    ax.xaxis.set_minor_locator(mpl.ticker.NullLocator())


def r2_axis(ax: Axes, lowest: float) -> None:
    """Linear between −1 and 1, logarithmic below."""
    ax.set_yscale("symlog", linthresh=1, linscale=1.2)
    floor = 3.0 * min(float(lowest), -1.0)
    ticks = [tick for tick in (*R2_TICKS, *((-3,) if floor > -30 else ())) if tick >= floor]
    ax.set_ylim(floor, 1.15)
    ax.set_yticks(ticks, [f"{tick:,}".replace("-", "−") for tick in ticks])
    ax.yaxis.set_minor_locator(mpl.ticker.NullLocator())
    ax.axhline(0, color="#777777", lw=0.8)
