"""Figures of the datasets (§3.2): counts, nucleus areas, slides, rules. Draws tables; computes none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, NullFormatter

from scalelib.plots.style import COLOURS, MARKERS, WIDTH, colour_of, legend_below

SPLIT_COLOURS = {"train": COLOURS[0], "validation": COLOURS[5], "test": COLOURS[2]}
UNITS = {"px": "mean nucleus area (px)", "um2": "mean nucleus area (µm²)"}


def patches_per_magnification(beside: pd.DataFrame) -> Figure:
    """Patches of each magnification, the paper's beside ours, one panel per split.

    Parameters
    ----------
    beside : pandas.DataFrame
        From :func:`scalelib.dataset_tables.beside_paper`.

    Returns
    -------
    matplotlib.figure.Figure
    """
    rows = beside[(beside.magnification != "total") & (beside.split != "total")]
    splits = list(dict.fromkeys(rows.split))
    fig, axes = plt.subplots(1, len(splits), figsize=(WIDTH, 2.7), sharey=True, squeeze=False)
    curves = {"paper": "paper", "ours": "ours"}
    if (rows.ours != rows.ours_uncapped).any():
        curves = {"paper": "paper", "ours_uncapped": "ours, all patches", "ours": "ours, as used"}
    colours = {"paper": "black", "ours_uncapped": COLOURS[4], "ours": COLOURS[0]}
    for ax, split in zip(axes.flat, splits, strict=True):
        part = rows[rows.split == split]
        for marker, (name, label) in zip(MARKERS, curves.items(), strict=False):
            line = {"paper": ":", "ours_uncapped": "--"}.get(name, "-")
            shown = part[name].replace(0, np.nan)
            ax.plot(part.magnification, shown, color=colours[name], ls=line, marker=marker, label=label)
        ax.set_yscale("log")
        ax.set_title(split)
        ax.tick_params(axis="x", labelsize=7.5)
        ax.set_xlabel("magnification")
    axes[0, 0].set_ylabel("patches")
    legend_below(fig, axes.flat, columns=3)
    return fig


def area_distributions(areas: pd.DataFrame, means: pd.DataFrame) -> Figure:
    """Mean nucleus area of patches by magnification and split, in px and in µm², on log axes.

    Parameters
    ----------
    areas : pandas.DataFrame
        From :func:`scalelib.area_tables.area_summary`.
    means : pandas.DataFrame
        From :func:`scalelib.area_tables.means_beside_paper`.

    Returns
    -------
    matplotlib.figure.Figure
        Boxes span the quartiles, whiskers 5 to 95 %.
    """
    fig, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.7), squeeze=False)
    magnifications = list(means.magnification)
    splits = [split for split in SPLIT_COLOURS if split in set(areas.split)]
    for ax, unit in zip(axes.flat, UNITS, strict=True):
        for place, split in enumerate(splits):
            part = areas[(areas.unit == unit) & (areas.split == split)]
            shift = (place - (len(splits) - 1) / 2) * 0.26
            _boxes(ax, part, magnifications, shift=shift, colour=SPLIT_COLOURS[split], label=split)
        x = np.arange(len(magnifications))
        ours: dict[str, Any] = {"color": "black", "marker": "_", "ms": 16, "ls": "none", "mew": 1.6}
        ax.plot(x, means[f"ours_{unit}"], label="class mean (training patches)", **ours)
        ax.plot(x, means[f"paper_{unit}"], "*", color=COLOURS[1], ms=7, label="class mean in the paper")
        _log_areas(ax)
        ax.set_xticks(x, [f"{m:g}X" for m in magnifications])
        ax.set(xlabel="magnification", ylabel=UNITS[unit])
    legend_below(fig, axes.flat, columns=5)
    return fig


def _boxes(
    ax: Axes, part: pd.DataFrame, magnifications: Sequence[float], *, shift: float, colour: str, label: str
) -> None:
    stats = [
        {"med": row.q50, "q1": row.q25, "q3": row.q75, "whislo": row.q05, "whishi": row.q95}
        for row in part.itertuples()
    ]
    places = [magnifications.index(m) + shift for m in part.magnification]
    line = {"color": colour, "lw": 1.0}
    ax.bxp(
        stats, positions=places, widths=0.2, showfliers=False, showcaps=False, patch_artist=True, manage_ticks=False,
        boxprops={"facecolor": colour, "alpha": 0.55, "lw": 0}, whiskerprops=line, medianprops={"color": "white", "lw": 1.2},
    )  # fmt: skip
    ax.add_patch(Rectangle((0, 0), 0, 0, color=colour, alpha=0.55, lw=0, label=label))


def _log_areas(ax: Axes) -> None:
    ax.set_yscale("log")
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    low, high = ax.get_ylim()
    if high / low < 40:
        ticks = [t for t in (2, 3, 5, 10, 20, 30, 50, 100, 200, 300) if low <= t <= high]
        ax.set_yticks(ticks)
    ax.yaxis.set_minor_formatter(NullFormatter())


def slide_areas(slides: pd.DataFrame, *, steps: Mapping[str, float] | None = None) -> Figure:
    """Mean nucleus area of each slide in µm², with its range over magnifications.

    Parameters
    ----------
    slides : pandas.DataFrame
        From :func:`scalelib.dataset_tables.slide_table`.
    steps : mapping of str to float, optional
        Factors in area to draw as bars for comparison, by label.

    Returns
    -------
    matplotlib.figure.Figure
    """
    ordered = slides.sort_values("mean_um2", kind="stable").reset_index(drop=True)
    fig, ax = plt.subplots(figsize=(WIDTH, 0.19 * len(ordered) + 1.5))
    for place, (split, colour) in enumerate(SPLIT_COLOURS.items()):
        part = ordered[ordered.split == split]
        if len(part):
            ax.hlines(part.index, part.low_um2, part.high_um2, color=colour, alpha=0.4, lw=3)
            ax.plot(part.mean_um2, part.index, MARKERS[place], color=colour, label=split)
    ax.set_yticks(ordered.index, ordered.slide, fontsize=7)
    ax.set_xscale("log")
    ax.set_xlabel("mean nucleus area (µm²); line: smallest to largest magnification's mean")
    low, high = ordered.low_um2.min(), ordered.high_um2.max()
    for row, (label, factor) in enumerate((steps or {}).items()):
        y = len(ordered) + 0.5 + 1.6 * row
        ax.plot([low, low * factor], [y, y], color="black", lw=2, marker="|", ms=7)
        ax.annotate(label, (low, y), textcoords="offset points", xytext=(4, 3), fontsize=7.5)
        high = max(high, low * factor)
    ticks = [t for t in (5, 10, 15, 20, 30, 40, 50, 60, 80, 100, 150, 200) if low * 0.95 <= t <= high * 1.05]
    ax.set_xticks(ticks, [f"{t:g}" for t in ticks])
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set(xlim=(low * 0.95, high * 1.05), ylim=(-0.7, len(ordered) - 0.3 + 1.6 * len(steps or {})))
    legend_below(fig, [ax], columns=3)
    return fig


def rules_compared(rules: pd.DataFrame, words: Mapping[str, str], *, reference: str = "centre") -> Figure:
    """Each rule's mean area over the reference rule's, by magnification, with intervals over slides.

    Parameters
    ----------
    rules : pandas.DataFrame
        From :func:`scalelib.area_tables.rule_summary`.
    words : mapping of str to str
        What each rule counts, for the legend.
    reference : str, default="centre"

    Returns
    -------
    matplotlib.figure.Figure
        Left: what the border does. Right: what measuring in pixels or in a mask does. Log axes of their own.
    """
    panels = {"which nuclei count": ("clear", "clip"), "how areas are measured": ("clear", "pixels", "mask")}
    fig, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.4), squeeze=False)
    magnifications = sorted(rules.magnification.unique())
    colours = colour_of(name for name in words if name != reference)
    for ax, (title, names) in zip(axes.flat, panels.items(), strict=True):
        for place, name in enumerate(names):
            part = rules[rules.rule == name].sort_values("magnification")
            x = np.array([magnifications.index(m) for m in part.magnification]) + 0.09 * (place - 1)
            bars = [part.ratio - part.low, part.high - part.ratio]
            marker = MARKERS[list(colours).index(name)]
            ax.errorbar(
                x, part.ratio, yerr=bars, color=colours[name], marker=marker, capsize=2, label=words[name]
            )
        ax.axhline(1, color="#555555", lw=0.9)
        ax.set_yscale("log")
        low, high = ax.get_ylim()
        ticks = [t for t in (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.1, 1.2, 1.5, 2, 3, 4, 5) if low <= t <= high]
        ax.set_yticks(ticks, [f"{t:g}" for t in ticks])
        ax.yaxis.set_minor_formatter(NullFormatter())
        ax.set_xticks(range(len(magnifications)), [f"{m:g}X" for m in magnifications])
        ax.set_title(title)
        ax.set_xlabel("magnification")
    axes[0, 0].set_ylabel("mean area over that of all nuclei\nwhose centre lies in the patch")
    legend_below(fig, axes.flat, columns=2)
    return fig
