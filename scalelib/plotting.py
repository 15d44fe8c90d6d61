"""One look for all figures, readable at the book's width and by colour-blind readers, and the figure of R² by tap. Draws tables; computes none of them."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# The hues of Okabe & Ito (2008) without yellow, dark enough on white for a line's label (the first four) or a line.
COLOURS = ("#0072B2", "#C8500A", "#008561", "#B55289", "#3A9AD9", "#BD8400", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p")
WIDTH = 7.2  # of a full-width figure, in inches


CONDITION_STYLE = {
    "ImageNet weights": {"color": "#0072B2", "marker": "o", "linestyle": "-"},
    "random weights": {"color": "#BD8400", "marker": "s", "linestyle": "--"},
    "shuffled measures": {"color": "#777777", "marker": "^", "linestyle": ":"},
}


def use_style() -> None:
    """Set Matplotlib's defaults for the notebooks, from ``assets/figures.mplstyle``."""
    plt.style.use(Path(__file__).parent / "assets" / "figures.mplstyle")
    mpl.rcParams["axes.prop_cycle"] = cycler(color=COLOURS)


def colour_of(names: Iterable[str]) -> dict[str, str]:
    """A fixed colour for each name, in the order given."""
    return {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(dict.fromkeys(names))}


def short_tap(tap: str) -> str:
    """A tap's name without what only says how its block ends, such as ``_project_BN``; for ticks."""
    return tap.removesuffix("_project_BN").removesuffix("_add")


def tap_axis(axes: Axes, taps: Sequence[str], *, label: str = "tap (input to output)") -> None:
    """Label the x axis with taps, turned so that they can be read."""
    shown = [short_tap(tap) for tap in taps]
    axes.set_xticks(range(len(taps)), shown, rotation=60, ha="right", rotation_mode="anchor", fontsize=8)
    axes.set_xlabel(label)
    axes.set_xlim(-0.5, len(taps) - 0.5)


def merged_legend(fig: Figure, axes: Iterable[Axes] | None = None, **options: Any) -> None:
    """One legend for all axes of a figure (or those given), each label once; `options` are `Figure.legend`'s."""
    handles: dict[str, Any] = {}
    for ax in fig.axes if axes is None else axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    where: dict[str, Any] = {"loc": "outside lower center", "ncols": _columns(handles), "fontsize": 8}
    fig.legend(list(handles.values()), list(handles), **where | options)


def _columns(labels: Iterable[str]) -> int:
    """How many labels stand beside each other in a full-width figure."""
    labels = list(labels)
    return max(1, min(len(labels), 90 // (6 + max(map(len, labels), default=0))))


def facets(table: pd.DataFrame, *, height: float, **options: Any) -> sns.FacetGrid:
    """Empty panels of full width; `options` are those of `seaborn.FacetGrid`."""
    aspect = WIDTH / (options.get("col_wrap") or table[options["col"]].nunique()) / height
    # Not within a changed rcParams: a notebook's first figure turns its display on there, and leaving would turn it off.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of the layout that seaborn tries first
        return sns.FacetGrid(table, height=height, aspect=aspect, **options)


def line_facets(table: pd.DataFrame, *, height: float, **options: Any) -> sns.FacetGrid:
    """Lines over facets, full-width, with one legend below; `options` are `seaborn.relplot`'s, and rows name their y axis."""
    columns = options.get("col_wrap") or table[options["col"]].nunique()
    markers = MARKERS[: table[options["style"]].nunique()]
    look = {"kind": "line", "errorbar": None, "dashes": False, "markers": markers, "height": height}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of the layout that seaborn tries first
        grid = sns.relplot(table, aspect=WIDTH / columns / height, **look | options)
    grid.set_titles("{col_name}")
    for ax, name in zip(grid.axes[:, 0] if grid.row_names else (), grid.row_names, strict=False):
        ax.set_ylabel(name)
    for ax in grid.axes[1:].flat if grid.row_names else ():
        ax.set_title("")
    labels = [text.get_text() for text in grid.legend.get_texts()]
    across, down = _columns(labels), -(-grid.axes.size // columns)
    sns.move_legend(grid, "outside lower center", ncols=across, title=None, fontsize=8)
    grid.figure.set_size_inches(WIDTH, height * down - 0.2 * (-len(labels) // across))
    grid.figure.set_layout_engine("constrained")
    return grid


def r2_by_tap(summary: pd.DataFrame, *, floor: float = -0.6, bands: bool = True) -> Figure:
    """Held-out R² against tap with intervals: one panel per ``network``, one line per ``curve``.

    Of `summary` the columns ``network, curve, tap, mean, low, high`` are drawn, taps in their order from input
    to output. Values under `floor` stand at it with their number; many curves are clearer without `bands`.
    """
    own = [
        {"color": colour, "marker": MARKERS[i % len(MARKERS)], "linestyle": "-" if i < len(COLOURS) else "--"}
        for i, colour in enumerate(colour_of(summary.curve).values())
    ]
    pairs = zip(summary.curve.unique(), own, strict=True)
    styles = pd.DataFrame([CONDITION_STYLE.get(curve, style) for curve, style in pairs])
    styles["above"] = 5 + 7 * styles.index  # numbers under the floor stand above each other
    shown = summary.assign(x=summary.groupby("network").tap.transform(lambda taps: pd.factorize(taps)[0]))
    grid = facets(
        shown, col="network", col_wrap=min(2, shown.network.nunique()), hue="curve", height=3.1, sharex=False,
        palette=list(styles.pop("color")), hue_kws=styles.to_dict("list"),
    ).map_dataframe(_curve, floor=floor, bands=bands)  # fmt: skip
    grid.set_titles("{col_name}")
    grid.set(ylim=(floor - 0.08, 1.0))
    for network, ax in grid.axes_dict.items():
        ax.axhline(0, color="#555555", lw=0.8)
        tap_axis(ax, shown.tap[shown.network == network].unique())
    grid.set_ylabels("held-out R²")
    grid.figure.set_layout_engine("constrained")
    merged_legend(grid.figure, loc="outside upper center", fontsize=None)
    return grid.figure


def _curve(
    data: pd.DataFrame, *, floor: float, bands: bool, above: float, color: str, label: str, **style: Any
) -> None:
    ax = plt.gca()
    ax.plot(data.x, data["mean"].clip(lower=floor), color=color, label=label, **style)
    if bands:
        low, high = data.low.clip(lower=floor), data.high.clip(lower=floor)
        ax.fill_between(data.x, low, high, color=color, alpha=0.15, lw=0)
    for x, value in zip(data.x, data["mean"], strict=True):
        if value < floor:
            ax.annotate(
                f"{value:.2g}", (x, floor), textcoords="offset points", xytext=(0, above), fontsize=6.5,
                ha="center", color=color,
            )  # fmt: skip
