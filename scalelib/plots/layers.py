"""Figures of the layer-wise analysis (§4.3). Draws tables of summaries; computes none of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scalelib.plots.style import COLOURS, MARKERS, WIDTH, colour_of, short_tap, tap_axis

CONDITION_STYLE = {
    "ImageNet weights": {"color": "#0072B2", "marker": "o", "linestyle": "-"},
    "random weights": {"color": "#E69F00", "marker": "s", "linestyle": "--"},
    "shuffled measures": {"color": "#777777", "marker": "^", "linestyle": ":"},
}


def example_images(
    images: Sequence[np.ndarray],
    titles: Sequence[str],
    *,
    boxes: pd.DataFrame | None = None,
    columns: int = 4,
) -> Figure:
    """Example images in a grid, with the object's box.

    Parameters
    ----------
    images : sequence of ndarray, shape (height, width, 3)
        ``uint8`` RGB; sizes may differ.
    titles : sequence of str
        One per image.
    boxes : pandas.DataFrame, optional
        Columns ``box_x0, box_y0, box_x1, box_y1`` in pixels, half open, one row per image.
    columns : int, default=4
        Images in a row.

    Returns
    -------
    matplotlib.figure.Figure
    """
    rows = -(-len(images) // columns)
    fig, axes = plt.subplots(rows, columns, figsize=(WIDTH, WIDTH / columns * rows * 1.05), squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for i, (ax, image, title) in enumerate(zip(axes.flat, images, titles, strict=False)):
        ax.imshow(image)
        ax.set_title(title, fontsize=8, fontweight="normal")
        if boxes is not None:
            box = boxes.iloc[i]
            frame = plt.Rectangle(
                (box.box_x0 - 0.5, box.box_y0 - 0.5),
                box.box_x1 - box.box_x0,
                box.box_y1 - box.box_y0,
                fill=False,
                color="#D55E00",
                lw=1.5,
            )
            ax.add_patch(frame)
    return fig


def scale_distribution(histogram: pd.DataFrame) -> Figure:
    """Histogram of the concept measure for each class.

    Parameters
    ----------
    histogram : pandas.DataFrame
        Columns ``object_class, low, high, images, median``.

    Returns
    -------
    matplotlib.figure.Figure
    """
    groups = dict(list(histogram.groupby("object_class")))
    columns = min(len(groups), 5)
    rows = -(-len(groups) // columns)
    fig, axes = plt.subplots(
        rows, columns, figsize=(WIDTH, 1.7 * rows + 0.5), sharex=True, sharey=True, squeeze=False
    )
    for ax in axes.flat[len(groups) :]:
        ax.set_axis_off()
    for ax, (name, part) in zip(axes.flat, groups.items(), strict=False):
        ax.bar(
            part.low, part.images, width=part.high - part.low, align="edge", color=COLOURS[0], label="images"
        )
        ax.axvline(part["median"].iloc[0], color=COLOURS[1], ls="--", label="median")
        ax.set_title(f"{name} ({part.images.sum()})", fontsize=8.5)
    handles, labels = axes.flat[0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside upper right", ncols=2, fontsize=8)
    fig.supxlabel("object scale: square root of box area over image area", fontsize=9)
    fig.supylabel("number of images", fontsize=9)
    return fig


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


def r2_by_class(summary: pd.DataFrame, *, floor: float = -0.3) -> Figure:
    """R² against tap, one panel per network, one curve per object class.

    Parameters
    ----------
    summary : pandas.DataFrame
        Columns ``network, object_class, tap, mean, low, high``.
    floor : float, default=-0.3
        Lower end of the axis.

    Returns
    -------
    matplotlib.figure.Figure
    """
    return r2_by_tap(summary.assign(curve=summary.object_class), floor=floor, bands=False)


def paper_figure(
    ours: pd.DataFrame, paper: pd.DataFrame, labelled: pd.DataFrame, *, trained: str = "ImageNet weights"
) -> Figure:
    """The published figure in its own units, exp(R²)/e, by relative depth, with the paper's points.

    Parameters
    ----------
    ours : pandas.DataFrame
        Columns ``network, curve, depth, value``: mean of exp(R²)/e over classes and repeats.
    paper : pandas.DataFrame
        Columns ``curve, depth, value``: exp of Table A1's mean R², over e, a lower bound of the mean.
    labelled : pandas.DataFrame
        Columns ``curve, depth, value, label``: the figure's labelled points.
    trained : str, default="ImageNet weights"
        Our curve that stands beside the paper's ImageNet weights.

    Returns
    -------
    matplotlib.figure.Figure
    """
    beside = {
        "ImageNet weights": trained,
        "random weights": "random weights",
        "shuffled measures": "shuffled measures",
    }
    fig, axes = plt.subplots(
        1, len(beside), figsize=(WIDTH, 3.4), sharey=True, squeeze=False, layout="constrained"
    )
    networks = colour_of(ours.network.unique())
    for ax, (curve, mine) in zip(axes.flat, beside.items(), strict=True):
        for i, (network, colour) in enumerate(networks.items()):
            one = ours[(ours.network == network) & (ours.curve == mine)]
            if not one.empty:
                ax.plot(one.depth, one.value, color=colour, marker=MARKERS[i % len(MARKERS)], label=network)
        theirs = paper[paper.curve == curve]
        ax.plot(theirs.depth, theirs.value, color="black", ls=":", marker=".", label="paper, exp(Table A1)/e")
        points = labelled[labelled.curve == curve]
        ax.plot(
            points.depth, points.value, "*", color="black", ms=11, ls="none", label="paper, labelled point"
        )
        for row in points.itertuples():
            ax.annotate(
                row.label,
                (row.depth, row.value),
                textcoords="offset points",
                xytext=(-5, 7),
                ha="right",
                fontsize=8,
            )
        title = "trained weights" if curve == "ImageNet weights" else curve
        ax.set(title=title, xlabel="relative depth of the tap", xlim=(-0.03, 1.03), ylim=(-0.03, 1.0))
    axes[0, 0].set_ylabel("mean of exp(R²)/e, least squares")
    handles = _legend(fig)
    fig.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3, fontsize=8)
    return fig


def heat_table(
    table: pd.DataFrame, *, label: str = "held-out R²", limits: tuple[float, float] = (-1, 1)
) -> Figure:
    """A table of numbers as a heat map, each cell with its value.

    Parameters
    ----------
    table : pandas.DataFrame
        Numbers; rows and columns are labelled by index and columns. Missing values stay blank.
    label : str
        What the colour shows.
    limits : (float, float), default=(-1, 1)
        Ends of the colour scale, which is diverging about their middle.

    Returns
    -------
    matplotlib.figure.Figure
    """
    values = table.to_numpy(float)
    fig, ax = plt.subplots(figsize=(WIDTH, 0.27 * len(table) + 1.3), layout="constrained")
    picture = ax.imshow(values, cmap="PuOr_r", vmin=limits[0], vmax=limits[1], aspect="auto")
    ax.set_xticks(range(table.shape[1]), table.columns, rotation=25, ha="right", fontsize=8)
    ax.set_yticks(range(len(table)), table.index, fontsize=8)
    ax.grid(visible=False)
    middle, reach = np.mean(limits), (limits[1] - limits[0]) / 2
    for (i, j), value in np.ndenumerate(values):
        if np.isfinite(value):
            dark = abs(value - middle) > 0.65 * reach
            text = f"{value:.2f}" if abs(value) < 10 else f"{value:,.0f}"
            ax.text(j, i, text, ha="center", va="center", fontsize=7.5, color="white" if dark else "black")
    fig.colorbar(picture, ax=ax, label=label, shrink=0.8, extend="both")
    return fig


def choice_table(choice: pd.DataFrame) -> Figure:
    """For each measure, estimator and class the tap with the highest R², coloured by depth.

    Parameters
    ----------
    choice : pandas.DataFrame
        Columns ``network, weights, measure, estimator, object_class, tap, depth``.

    Returns
    -------
    matplotlib.figure.Figure
    """
    panels = list(choice.groupby(["network", "weights"], sort=False))
    several = choice.groupby("network").weights.nunique().max() > 1
    rows = choice.groupby(["measure", "estimator"]).ngroups
    fig, axes = plt.subplots(
        len(panels),
        1,
        figsize=(WIDTH, (0.23 * rows + 0.9) * len(panels)),
        squeeze=False,
        layout="constrained",
    )
    for ax, ((network, weights), part) in zip(axes.flat, panels, strict=True):
        wide = part.pivot_table(
            index=["measure", "estimator"],
            columns="object_class",
            values=["depth", "tap"],
            aggfunc="first",
            sort=False,
        )
        depth, taps = wide["depth"], wide["tap"]
        picture = ax.imshow(depth.to_numpy(float), cmap="cividis", vmin=0, vmax=1, aspect="auto")
        for (i, j), value in np.ndenumerate(depth.to_numpy(float)):
            text = short_tap(str(taps.iloc[i, j]))
            ax.text(
                j, i, text, ha="center", va="center", fontsize=6.5, color="white" if value < 0.55 else "black"
            )
        ax.set_xticks(
            range(depth.shape[1]), depth.columns, fontsize=8, rotation=20 if depth.shape[1] > 6 else 0
        )
        ax.set_yticks(range(len(depth)), [f"{m}, {e}" for m, e in depth.index], fontsize=7.5)
        ax.set_title(f"{network}, trained at {weights}" if several else network)
        ax.grid(visible=False)
    fig.colorbar(picture, ax=axes, label="relative depth of the chosen tap", shrink=0.6)
    return fig
