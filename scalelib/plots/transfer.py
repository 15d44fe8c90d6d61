"""Figures of the transfer to histopathology (§4.4). Draws tables of scores; computes none of them."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from scalelib.plots.style import COLOURS, WIDTH, tap_axis

ROW_STYLE = {
    "pretrained": ("full, pretrained", COLOURS[0], "o", "-"),
    "scratch": ("full, from scratch", COLOURS[5], "s", ":"),
    "pruned": ("pruned", COLOURS[1], "^", "--"),
}
SCORE_NAMES = {"mae_px": "mean absolute error (px)", "kappa": "Cohen's kappa"}


def learning_curves(history: pd.DataFrame) -> Figure:
    """Validation loss by epoch: every run thin, its best epoch marked.

    Parameters
    ----------
    history : pandas.DataFrame
        ``network, row, seed, epoch, val_loss`` of one target; losses in units of the target's variance.

    Returns
    -------
    matplotlib.figure.Figure
    """
    networks = list(dict.fromkeys(history["network"]))
    fig, axes = plt.subplots(
        len(networks),
        3,
        figsize=(WIDTH, 0.7 + 1.65 * len(networks)),
        sharex=True,
        sharey="row",
        squeeze=False,
    )
    for panels, network in zip(axes, networks, strict=True):
        for ax, (row, (name, colour, marker, _)) in zip(panels, ROW_STYLE.items(), strict=True):
            part = history[(history["network"] == network) & (history["row"] == row)]
            for _, run in part.groupby("seed"):
                ax.plot(run["epoch"], run["val_loss"], color=colour, lw=0.8, alpha=0.6)
                best = run.loc[run["val_loss"].idxmin()]
                ax.plot(best["epoch"], best["val_loss"], marker, color=colour, mec="black", mew=0.6, ms=5)
            if network == networks[0]:
                ax.set_title(name, fontsize=9)
        values = history.loc[history["network"] == network, "val_loss"]
        panels[0].set_ylim(0, min(float(values.max()), 2.2 * float(values.median())))
        panels[0].set_ylabel(f"{network}\nvalidation loss", fontsize=8.5)
    for ax in axes[-1]:
        ax.set_xlabel("epoch")
    return fig


def rows_of_table_2(scores: pd.DataFrame, paper: pd.DataFrame, *, mean_error: float) -> Figure:
    """Error and kappa of each row: a small dot per seed, the mean large; the paper's networks beside.

    Parameters
    ----------
    scores : pandas.DataFrame
        ``network, row, seed, mae_px, kappa``, all test patches, target ``area``.
    paper : pandas.DataFrame
        ``network, row, score, mean, sd``.
    mean_error : float
        Error in px of predicting the training mean, drawn over our networks.

    Returns
    -------
    matplotlib.figure.Figure
    """
    ours, theirs = list(dict.fromkeys(scores["network"])), list(dict.fromkeys(paper["network"]))
    fig, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.4))
    for ax, score in zip(axes, SCORE_NAMES, strict=True):
        for place, network in enumerate([*theirs, *ours]):
            for shift, (row, (name, colour, marker, _)) in zip(
                (-0.22, 0, 0.22), ROW_STYLE.items(), strict=True
            ):
                x = place + shift
                if network in theirs:
                    cell = paper[
                        (paper["network"] == network) & (paper["row"] == row) & (paper["score"] == score)
                    ]
                    ax.errorbar(
                        x,
                        cell["mean"].item(),
                        cell["sd"].item(),
                        fmt=marker,
                        color=colour,
                        mfc="white",
                        capsize=2,
                    )
                    continue
                values = scores.loc[(scores["network"] == network) & (scores["row"] == row), score]
                spread = np.linspace(-0.06, 0.06, len(values)) if len(values) > 1 else [0.0]
                ax.plot(x + np.asarray(spread), values, ".", color=colour, alpha=0.45, ms=4)
                label = name if network == ours[0] else None
                ax.plot(x, values.mean(), marker, color=colour, mec="black", mew=0.7, ms=7, label=label)
        ax.axvline(len(theirs) - 0.5, color="black", lw=0.8)
        names = [*(f"{network}\n(paper)" for network in theirs), *ours]
        ax.set_xticks(range(len(names)), names, rotation=35, ha="right", fontsize=8.5)
        ax.set_title(SCORE_NAMES[score])
        ax.set_ylim(bottom=0)
    axes[0].plot(
        [len(theirs) - 0.5, len(theirs) + len(ours) - 0.5], [mean_error] * 2, color="black", lw=0.9, ls=":",
        label="predicting the training mean", zorder=1,
    )  # fmt: skip
    axes[0].set_xlim(-0.6, len(theirs) + len(ours) - 0.5)
    axes[1].set_ylim(0, 1)
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, fontsize=8.5)
    return fig


def slide_differences(scores: pd.DataFrame, *, other: str) -> Figure:
    """Pruned minus another row on each test slide, seeds averaged: right of zero in kappa, left in error is better.

    Parameters
    ----------
    scores : pandas.DataFrame
        ``network, row, slide, seed, mae_px, kappa``, slide by slide, target ``area``.
    other : {"pretrained", "scratch"}

    Returns
    -------
    matplotlib.figure.Figure
    """
    by_slide = scores[scores["slide"] != "all"]
    networks = list(dict.fromkeys(by_slide["network"]))
    fig, axes = plt.subplots(1, 2, figsize=(WIDTH, 1.3 + 0.5 * len(networks)), sharey=True)
    for ax, score in zip(axes, SCORE_NAMES, strict=True):
        for place, network in enumerate(networks):
            part = by_slide[by_slide["network"] == network]
            wide = part.pivot_table(index="slide", columns="row", values=score, aggfunc="mean")
            difference = (wide["pruned"] - wide[other]).dropna()
            labels = ("a test slide", "mean of the slides") if place == 0 else (None, None)
            height = np.full(len(difference), place)
            ax.plot(difference, height, "|", color=COLOURS[0], ms=13, mew=1.4, label=labels[0])
            ax.plot(
                difference.mean(), place, "D", color=COLOURS[1], mec="black", mew=0.7, ms=6, label=labels[1]
            )
        ax.axvline(0, color="black", lw=0.9)
        ax.xaxis.set_major_locator(mpl.ticker.MaxNLocator(5))
        better = "better: left" if score == "mae_px" else "better: right"
        ax.set_xlabel(f"difference in {SCORE_NAMES[score]}\n({better})")
        ax.set_yticks(range(len(networks)), networks)
        ax.set_ylim(len(networks) - 0.5, -0.5)
    name = ROW_STYLE[other][0]
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=2, fontsize=8.5)
    fig.suptitle(f"pruned minus {name}", x=0.01, ha="left", fontsize=10, fontweight="bold")
    return fig


def confusions(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Share of each true magnification that is named as each other.

    Parameters
    ----------
    tables : mapping of str to pandas.DataFrame
        Title → counts, rows true, columns named; see :func:`scalelib.transfer_scores.confusion`.

    Returns
    -------
    matplotlib.figure.Figure
    """
    fig, axes = plt.subplots(
        1, len(tables), figsize=(WIDTH, 0.6 + WIDTH / max(len(tables), 2)), squeeze=False
    )
    for ax, (title, counts) in zip(axes[0], tables.items(), strict=True):
        share = counts.div(counts.sum(axis=1).clip(lower=1), axis=0).to_numpy()
        ax.imshow(share, cmap="Blues", vmin=0, vmax=1)
        for (row, column), value in np.ndenumerate(share):
            if value >= 0.005:
                colour = "white" if value > 0.6 else "black"
                ax.text(
                    column, row, f"{100 * value:.0f}", ha="center", va="center", fontsize=7.5, color=colour
                )
        names = [f"{m:g}X" for m in counts.index]
        ax.set_xticks(range(len(names)), names, fontsize=8)
        ax.set_yticks(range(len(names)), names, fontsize=8)
        ax.set(title=title, xlabel="named")
        ax.grid(False)
    axes[0, 0].set_ylabel("true magnification")
    return fig


def read_out_curves(scores: pd.DataFrame, random: pd.DataFrame) -> Figure:
    """Error of nuclei area and kappa of magnification, read linearly at every tap of frozen networks.

    Parameters
    ----------
    scores : pandas.DataFrame
        From :func:`scalelib.transfer_tables.mark_scale_choice`, trained weights.
    random : pandas.DataFrame
        The same of random weights; may be empty.

    Returns
    -------
    matplotlib.figure.Figure
    """
    networks = list(dict.fromkeys(scores["network"]))
    fig, axes = plt.subplots(len(networks), 2, figsize=(WIDTH, 0.7 + 2.3 * len(networks)), squeeze=False)
    for panels, network in zip(axes, networks, strict=True):
        for ax, target, score in zip(panels, ("area", "log2_magnification"), SCORE_NAMES, strict=True):
            curve, taps = _whole(scores, network, target, score)
            ax.plot(curve[taps].to_numpy(), color=COLOURS[0], marker="o", label="trained weights")
            if len(random):
                ax.plot(
                    _whole(random, network, target, score)[0].reindex(taps).to_numpy(),
                    color=COLOURS[5], marker="s", ls=":", label="random weights",
                )  # fmt: skip
            if score == "mae_px":
                ax.axhline(curve["mean"], color="black", lw=0.9, ls=":", label="predicting the mean")
            marked = scores[(scores["network"] == network) & (scores["target"] == target)]
            for column, marker, name in (
                ("scale_chosen", "v", "best scale R², natural images"),
                ("chosen", "*", "best on validation slides"),
            ):
                at = [taps.index(t) for t in dict.fromkeys(marked.loc[marked[column], "tap"])]
                ax.plot(
                    at,
                    curve[taps].to_numpy()[at],
                    marker,
                    color=COLOURS[1],
                    mec="black",
                    mew=0.7,
                    ms=11,
                    ls="",
                    label=name,
                )
            tap_axis(ax, taps, label="")
            ax.set_title(f"{network}: {'nuclei area' if target == 'area' else 'magnification'}", fontsize=9)
            ax.set_ylabel(SCORE_NAMES[score], fontsize=8.5)
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3, fontsize=8.5)
    return fig


def scale_against_texture(curves: pd.DataFrame) -> Figure:
    """Three R² curves per network: object scale in images, their pixel pitch, magnification of tissue.

    Parameters
    ----------
    curves : pandas.DataFrame
        ``network, tap, curve, r2``; taps in the network's order.

    Returns
    -------
    matplotlib.figure.Figure
    """
    networks = list(dict.fromkeys(curves["network"]))
    fig, axes = plt.subplots(1, len(networks), figsize=(WIDTH, 3.2), sharey=True, squeeze=False)
    for ax, network in zip(axes[0], networks, strict=True):
        part = curves[curves["network"] == network]
        taps = list(dict.fromkeys(part["tap"]))
        for place, (name, curve) in enumerate(part.groupby("curve", sort=False)):
            values = curve.set_index("tap")["r2"].reindex(taps)
            colour, marker = (COLOURS[1], COLOURS[0], COLOURS[2])[place % 3], "o^s"[place % 3]
            ax.plot(np.arange(len(taps)), values.clip(lower=-0.1), color=colour, marker=marker, label=name)
            if values.notna().any():
                top = int(np.nanargmax(values))
                ax.plot(top, values.iloc[top], marker, color=colour, mec="black", mew=1, ms=9)
        tap_axis(ax, taps, label="")
        if len(taps) * len(networks) > 40:
            ax.tick_params(axis="x", rotation=90, labelsize=7)
            plt.setp(ax.get_xticklabels(), va="center")
        ax.set_title(network, fontsize=9)
        ax.set_ylim(-0.12, 1)
    axes[0, 0].set_ylabel("held-out R²")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3, fontsize=8.5)
    return fig


def estimates(table: pd.DataFrame) -> Figure:
    """Estimated against known or stated magnification, with intervals; refused images say so.

    Parameters
    ----------
    table : pandas.DataFrame
        ``image, magnification`` (NaN where nothing is stated), ``estimate, low, high, transferred,
        transferred_low, transferred_high, refused``, one row per image and downsampling.

    Returns
    -------
    matplotlib.figure.Figure
    """
    fig, ax = plt.subplots(figsize=(WIDTH, 0.9 + 0.36 * len(table)))
    y = np.arange(len(table))
    for shift, (name, columns, colour, marker) in zip(
        (-0.14, 0.14),
        (
            ("linear read-out", ("estimate", "low", "high"), COLOURS[0], "o"),
            ("transferred network", ("transferred", "transferred_low", "transferred_high"), COLOURS[1], "^"),
        ),
        strict=True,
    ):
        value, low, high = (table[c].to_numpy(float) for c in columns)
        ax.errorbar(
            value, y + shift, xerr=np.stack([value - low, high - value]), fmt=marker, color=colour, capsize=2,
            label=name,
        )  # fmt: skip
    for place in np.flatnonzero((table["refused"].fillna("") != "").to_numpy()):
        ax.text(2.7, float(place), "refused", va="center", fontsize=8.5)
    ax.plot(
        table["magnification"],
        y,
        "D",
        color="black",
        mfc="white",
        ms=8,
        ls="",
        label="as stated, less the downsampling",
    )
    ax.set_xscale("log", base=2)
    ax.set_xlim(2.5, 100)
    ticks = [2.5, 5, 10, 20, 40, 80]
    ax.set_xticks(ticks, [f"{t:g}X" for t in ticks])
    ax.xaxis.set_minor_locator(mpl.ticker.NullLocator())
    ax.set_yticks(y, table["image"], fontsize=8.5)
    ax.set_ylim(len(table) - 0.5, -0.5)
    ax.set_xlabel("magnification")
    fig.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=3, fontsize=8.5)
    return fig


def _whole(scores: pd.DataFrame, network: str, target: str, score: str) -> tuple[pd.Series, list[str]]:
    rows = scores[
        (scores["network"] == network)
        & (scores["target"] == target)
        & (scores["split"] == "test")
        & (scores["slide"] == "all")
    ]
    curve = rows.set_index("tap")[score]
    return curve, [tap for tap in curve.index if tap != "mean"]
