"""Figures of what is left of a central peak, of outputs in several forms, and of a printed table.

Draws tables; computes no result.
"""

from __future__ import annotations

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scalelib.plots.r2_axes import ESTIMATOR_NAMES, ESTIMATOR_STYLE, r2_axis, row_label
from scalelib.plots.style import COLOURS, MARKERS, WIDTH, colour_of

FARTHEST = 1.0
"""Differences in R² beyond this are drawn at the edge."""


def depth_against_rank(peaks: pd.DataFrame) -> Figure:
    """How deep the trough is against the effective rank.

    Parameters
    ----------
    peaks : pandas.DataFrame
        Columns ``network, rank, effective_rank, trough_r2`` (below 0); sweeps that cover the peak.

    Returns
    -------
    matplotlib.figure.Figure
    """
    fig, ax = plt.subplots(figsize=(WIDTH * 0.72, 3.2))
    for marker, (network, rows) in zip(MARKERS, peaks.groupby("network", sort=False), strict=False):
        ax.scatter(rows.effective_rank / rows["rank"], -rows.trough_r2, s=26, marker=marker,
                   lw=0, alpha=0.85, color=colour_of(peaks.network)[network], label=network)  # fmt: skip
    ax.set_yscale("log")
    ax.invert_yaxis()
    ax.yaxis.set_major_formatter(lambda value, _: f"−{value:,.0f}" if value >= 1 else f"−{value:g}")
    ax.set_xlabel("effective rank / rank")
    ax.set_ylabel("lowest median R² of least squares")
    ax.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return fig


def forms_of_output(scores: pd.DataFrame) -> Figure:
    """Held-out R² of the same output in several forms.

    Parameters
    ----------
    scores : pandas.DataFrame
        Columns ``panel, tap`` (the form), ``estimator, median, low, high``.

    Returns
    -------
    matplotlib.figure.Figure
    """
    panels = list(dict.fromkeys(scores.panel))
    fig, axes = plt.subplots(1, len(panels), figsize=(WIDTH, 3.2), sharey=True, squeeze=False)
    for ax, panel in zip(axes.flat, panels, strict=True):
        own = scores[scores.panel == panel]
        forms = list(dict.fromkeys(own.tap))
        for shift, (estimator, (colour, marker, line)) in zip(
            (-0.08, 0.08), ESTIMATOR_STYLE.items(), strict=True
        ):
            rows = own[own.estimator == estimator].set_index("tap").reindex(forms)
            x = np.arange(len(forms)) + shift
            middle = rows["median"].clip(lower=-1e5)
            ax.vlines(x, rows.low.clip(lower=-1e5), rows.high.clip(upper=1), color=colour, lw=1.4)
            ax.plot(x, middle, color=colour, marker=marker, ls=line, lw=1, label=ESTIMATOR_NAMES[estimator])
        r2_axis(ax, max(scores["median"].min(), -1e5))
        ax.set_xticks(range(len(forms)), forms, rotation=60, ha="right", rotation_mode="anchor", fontsize=8)
        ax.set_title(row_label(panel), fontsize=9)
    axes[0, 0].set_ylabel("held-out R²")
    axes[0, 0].legend(fontsize=8, loc="lower left")
    fig.supxlabel("form of the output", fontsize=9)
    return fig


def contrasts(table: pd.DataFrame, *, object_class: str) -> Figure:
    """Chosen tap less reference tap, on images that did not choose it.

    Parameters
    ----------
    table : pandas.DataFrame
        From :func:`scalelib.central_peak.central_peak`, with ``network`` and ``last``, its last tap before the classifier.
    object_class : str
        The class, or mean over classes, that is drawn.

    Returns
    -------
    matplotlib.figure.Figure
    """
    own = table[table.object_class == object_class]
    networks = list(dict.fromkeys(own.network))
    lines = {network: _in_order(own[own.network == network]) for network in networks}
    counts = [max(len(lines[network]), 1) for network in networks]
    fig, axes = plt.subplots(
        len(networks), 2, figsize=(WIDTH, 0.34 * sum(counts) + 0.7 * len(networks) + 0.8), sharex=True,
        squeeze=False, height_ratios=[count + 0.4 for count in counts],
    )  # fmt: skip
    for row, network in enumerate(networks):
        for ax, matching in zip(axes[row], ("own width", "equal width"), strict=True):
            ax.axvline(0, color="#777777", lw=0.8)
            single = table[(table.network == network) & (table.matching == matching)]
            single = single[single.object_class != object_class]
            for half, (colour, marker, shift) in enumerate(
                ((COLOURS[0], "o", -0.12), (COLOURS[1], "s", 0.12)), start=1
            ):
                rows = own[(own.network == network) & (own.matching == matching) & (own.half == half)]
                dots = single[single.half == half]
                _differences(ax, rows, dots, lines[network], colour, marker, shift)
                tap = rows.tap.iloc[0] if len(rows) else "–"
                if matching == "own width":
                    ax.plot([], [], marker, color=colour, ls="-", label=f"half {half}: {tap}")
            ax.set_yticks(range(len(lines[network])), [f"less {name}" for name in lines[network]], fontsize=8)
            ax.set_ylim(len(lines[network]) - 0.5, -0.5)
            if row == len(networks) - 1:
                ax.set_xlabel(f"difference in held-out R²\nat {matching}")
        axes[row, 0].set_title(network, fontsize=9)
        axes[row, 1].tick_params(labelleft=False)
        handles, labels = axes[row, 0].get_legend_handles_labels()
        axes[row, 1].legend(handles, labels, title="chosen tap", title_fontsize=8, fontsize=8,
                            loc="center left", bbox_to_anchor=(1, 0.5))  # fmt: skip
    for ax in axes[-1]:
        ax.set_xlim(-1.15 * FARTHEST, 1.15 * FARTHEST)
    return fig


def _differences(
    ax: Axes,
    rows: pd.DataFrame,
    dots: pd.DataFrame,
    order: list[str],
    colour: str,
    marker: str,
    shift: float,
) -> None:
    """One half's differences; what lies beyond the axis becomes a triangle at its end."""
    for dot in dots.itertuples():
        x = np.clip(dot.mean_difference, -1.08 * FARTHEST, 1.08 * FARTHEST)
        shape = "." if abs(dot.mean_difference) <= FARTHEST else (">" if x > 0 else "<")
        ax.plot(x, order.index(dot.reference) + shift, shape, color="#999999", ms=4, zorder=0)
    for row in rows.itertuples():
        x, y = row.mean_difference, order.index(row.reference) + shift
        ax.hlines(y, row.low, row.high, color=colour, lw=1.4)
        shape = marker if abs(x) <= FARTHEST else (">" if x > 0 else "<")
        filling = colour if row.p_holm < 0.05 else "white"
        ax.plot(np.clip(x, -1.08 * FARTHEST, 1.08 * FARTHEST), y, shape, color=colour, mfc=filling)


def _in_order(rows: pd.DataFrame) -> list[str]:
    """References from input to output: inner taps, the last one, logits, probabilities."""
    last = set(rows["last"])
    place = {"softmax": 3, "pre_softmax": 2, **dict.fromkeys(last, 1)}
    return sorted(dict.fromkeys(rows.reference), key=lambda name: place.get(name, 0))


def printed_table(table: pd.DataFrame, corrections: pd.DataFrame, wrong: pd.DataFrame) -> Figure:
    """A table of counts as printed, with totals that do not add up and the cells that explain them.

    Parameters
    ----------
    table : pandas.DataFrame of int
        As printed, totals included.
    corrections : pandas.DataFrame
        From :func:`scalelib.table_check.smallest_corrections`.
    wrong : pandas.DataFrame
        Rows of :func:`scalelib.table_check.check_sums` that do not add up.

    Returns
    -------
    matplotlib.figure.Figure
    """
    fig, ax = plt.subplots(figsize=(WIDTH, 1.9))
    ax.set_axis_off()
    drawn = ax.table(cellText=[[f"{v:,}" for v in row] for row in table.to_numpy()], rowLabels=list(table.index),
                     colLabels=list(table.columns), loc="center", cellLoc="right")  # fmt: skip
    drawn.auto_set_font_size(False)
    drawn.set_fontsize(8.5)
    drawn.scale(1, 1.35)
    for cell in drawn.get_celld().values():
        cell.set_edgecolor("#cccccc")
    place = (
        {name: i for i, name in enumerate(table.index, 1)},
        {name: j for j, name in enumerate(table.columns)},
    )
    for row in wrong.itertuples():
        y, x = (
            (place[0][row.name], place[1]["total"])
            if row.line == "row"
            else (place[0]["total"], place[1][row.name])
        )
        drawn[y, x].set_facecolor("#F7E3B5")
    for row in corrections.itertuples():
        cell = drawn[place[0][row.row], place[1][row.column]]
        cell.set_facecolor("#B9D6EC")
        cell.get_text().set_text(f"{row.printed:,}\n→ {row.corrected:,}")
        cell.get_text().set_fontsize(7.5)
    names = (("#F7E3B5", "total that does not add up"), ("#B9D6EC", "cell whose correction explains it"))
    ax.legend([mpl.patches.Patch(color=colour) for colour, _ in names], [name for _, name in names],
              loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=2, fontsize=8)  # fmt: skip
    return fig
