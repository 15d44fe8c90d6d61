"""Figures of the interpolation peak. Draws tables; computes no result."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from scalelib.plots.r2_axes import (
    ESTIMATOR_NAMES,
    ESTIMATOR_STYLE,
    depth_bar,
    depth_lines,
    r2_axis,
    ratio_axis,
    row_label,
    size_axis,
)
from scalelib.plots.style import MARKERS, WIDTH, colour_of


def known_case(curves: pd.DataFrame, theory: pd.DataFrame) -> Figure:
    """Sweep of a synthetic problem beside what theory expects.

    Parameters
    ----------
    curves : pandas.DataFrame
        Columns ``case, estimator, ratio, median, low, high``.
    theory : pandas.DataFrame
        Columns ``case, ratio, r2``.

    Returns
    -------
    matplotlib.figure.Figure
    """
    cases = list(dict.fromkeys(curves.case))
    fig, axes = plt.subplots(1, len(cases), figsize=(WIDTH, 3), sharey=True, squeeze=False)
    for ax, case in zip(axes.flat, cases, strict=True):
        for estimator, (colour, marker, line) in ESTIMATOR_STYLE.items():
            rows = curves[(curves.case == case) & (curves.estimator == estimator)]
            ax.fill_between(rows.ratio, rows.low, rows.high, color=colour, alpha=0.18, lw=0)
            ax.plot(rows.ratio, rows["median"], color=colour, marker=marker, ls=line,
                    label=ESTIMATOR_NAMES[estimator])  # fmt: skip
        expected = theory[theory.case == case]
        for side in (expected[expected.ratio < 1], expected[expected.ratio > 1]):
            label = "theory, least squares" if side.ratio.min() > 1 else None
            ax.plot(side.ratio, side.r2, color="black", lw=1, ls=":", label=label)
        ratio_axis(ax)
        r2_axis(ax, curves["low"].min())
        ax.set_title(case)
    axes[0, 0].set_ylabel("held-out R²")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8)
    return fig


def sweep(curves: pd.DataFrame) -> Figure:
    """Held-out R² against training images per dimension, a line per tap.

    Parameters
    ----------
    curves : pandas.DataFrame
        Columns ``panel, tap, estimator, ratio, median``; taps in the order of the network.

    Returns
    -------
    matplotlib.figure.Figure
    """
    panels = list(dict.fromkeys(curves.panel))
    fig, axes = plt.subplots(
        len(panels), 2, figsize=(WIDTH, 2.1 * len(panels) + 0.7), sharex=True, sharey=True, squeeze=False
    )
    lowest = max(curves["median"].min(), -1e5)
    for row, panel in enumerate(panels):
        for ax, estimator in zip(axes[row], ESTIMATOR_NAMES, strict=True):
            own = curves[(curves.panel == panel) & (curves.estimator == estimator)]
            depth_lines(ax, own, x="ratio", y="median")
            ratio_axis(ax, label=row == len(panels) - 1)
            r2_axis(ax, lowest)
            if row == 0:
                ax.set_title(ESTIMATOR_NAMES[estimator])
        axes[row, 0].set_ylabel(f"{row_label(panel)}\n\nheld-out R² (median)", fontsize=8.5)
    depth_bar(fig, axes)
    return fig


def moved_peak(curves: pd.DataFrame, *, width: int) -> Figure:
    """Least squares at the taps' own widths beside random projections to one width.

    Parameters
    ----------
    curves : pandas.DataFrame
        Columns ``form`` (``"own width"``, ``"projected"``), ``tap, n_train, median``; least squares.
    width : int
        That of the projections.

    Returns
    -------
    matplotlib.figure.Figure
    """
    fig, axes = plt.subplots(1, 2, figsize=(WIDTH, 3), sharex=True, sharey=True, squeeze=False)
    titles = {"own width": "each tap at its own width", "projected": f"all projected to {width} dimensions"}
    for ax, (form, title) in zip(axes.flat, titles.items(), strict=True):
        depth_lines(ax, curves[curves.form == form], x="n_train", y="median")
        size_axis(ax)
        r2_axis(ax, max(curves["median"].min(), -1e5))
        ax.set_title(title)
    axes[0, 1].axvline(width, color="black", lw=0.9, ls=":")
    axes[0, 1].annotate(f"n = {width}", (width, 0.04), xycoords=("data", "axes fraction"), xytext=(4, 0),
                        textcoords="offset points", fontsize=8)  # fmt: skip
    axes[0, 0].set_ylabel("held-out R² (median)")
    depth_bar(fig, axes)
    return fig


def protocol(points: pd.DataFrame) -> Figure:
    """Every tap and class under the paper's protocol, against training images per channel.

    Parameters
    ----------
    points : pandas.DataFrame
        Columns ``network, estimator, ratio, r2``, one row per network, tap and class.

    Returns
    -------
    matplotlib.figure.Figure
    """
    fig, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.3), sharex=True, sharey=True)
    colours = colour_of(points.network)
    for ax, estimator in zip(axes, ESTIMATOR_NAMES, strict=True):
        own = points[points.estimator == estimator]
        for marker, (network, rows) in zip(MARKERS, own.groupby("network", sort=False), strict=False):
            shown = rows.r2.clip(lower=-1e5)
            ax.scatter(rows.ratio, shown, s=18, color=colours[network], marker=marker, alpha=0.75, lw=0,
                       label=network)  # fmt: skip
        ratio_axis(ax, label_text="training images per channel, n / d")
        r2_axis(ax, max(points.r2.min(), -1e5))
        ax.set_title(ESTIMATOR_NAMES[estimator])
    axes[0].set_ylabel("held-out R², mean over repeats")
    axes[1].legend(fontsize=8, loc="lower right")
    return fig


def prediction(curves: pd.DataFrame, peaks: pd.DataFrame, printed: pd.DataFrame) -> Figure:
    """Named taps of a network with random weights against training images, and the printed values.

    Parameters
    ----------
    curves : pandas.DataFrame
        Columns ``tap, estimator, n_train, median, low, high``.
    peaks : pandas.DataFrame
        Columns ``tap, channels, effective_rank``, one row per tap.
    printed : pandas.DataFrame
        Columns ``tap, r2_test``: horizontal lines; may be empty.

    Returns
    -------
    matplotlib.figure.Figure
    """
    taps = list(dict.fromkeys(curves.tap))
    fig, axes = plt.subplots(1, len(taps), figsize=(WIDTH, 3.2), sharex=True, sharey=True, squeeze=False)
    lowest = max(min(curves["low"].min(), printed.r2_test.min() if len(printed) else 0), -1e5)
    for ax, tap in zip(axes.flat, taps, strict=True):
        for estimator, (colour, marker, line) in ESTIMATOR_STYLE.items():
            rows = curves[(curves.tap == tap) & (curves.estimator == estimator)]
            ax.fill_between(
                rows.n_train, rows.low.clip(lower=-1e5), rows.high, color=colour, alpha=0.18, lw=0
            )
            ax.plot(rows.n_train, rows["median"], color=colour, marker=marker, ls=line, ms=3.5,
                    label=ESTIMATOR_NAMES[estimator])  # fmt: skip
        about = peaks[peaks.tap == tap].iloc[0]
        ax.axvline(about.channels, color="black", lw=0.9, ls=":")
        for value in printed[printed.tap == tap].r2_test:
            ax.axhline(value, color="#777777", lw=1.1, ls="-.", label="Table A1, random weights")
        ax.set_title(f"{tap}\nd = {about.channels:.0f}, eff. rank {about.effective_rank:.0f}", fontsize=8.5)
        size_axis(ax)
        r2_axis(ax, lowest)
    axes[0, 0].set_ylabel("held-out R²")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8)
    return fig
