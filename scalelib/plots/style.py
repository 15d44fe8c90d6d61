"""One look for all figures: readable at the book's width, and by colour-blind readers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib as mpl
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe & Ito (2008), without yellow, which is too faint on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
CONDITION_COLOURS = {"imagenet": "#0072B2", "random": "#E69F00", "shuffled": "#777777", "paper": "#000000"}
WIDTH = 7.2
"""Width of a full-width figure in inches."""


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
