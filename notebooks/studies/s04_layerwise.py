"""The numbers that the layer-wise notebook's prose quotes, taken from its table. Knows tables only. Summaries of the layer-wise table: curves with intervals, comparisons, the figure's units. Figures of the layer-wise analysis (§4.3). Draws tables of summaries; computes none of them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from scalebook.paper_tables import table_a1_cells  # noqa: F401
from scalelib.plotting import COLOURS, MARKERS, WIDTH, colour_of, merged_legend, r2_by_tap, short_tap
from scalelib.pruning import OUTPUT_TAPS
from scalelib.statistics import compare_taps, summarize


def answer(table: pd.DataFrame, *, weights: str, network: str | None = None) -> dict[str, Any]:
    """The numbers of the plain-words answer: where the peak is, and what stands before and after it.

    Parameters
    ----------
    table : pandas.DataFrame
        The study's table.
    weights : str
        Label of the trained weights.
    network : str, optional
        Default: the last one in the table with these weights.

    Returns
    -------
    dict
        Plain floats and strings, ready to be glued: ``network``, ``peak_tap``, ``peak_r2``, ``peak_low``, ``peak_high``,
        ``first_tap``, ``first_r2``, ``last_tap`` (the last feature tap), ``last_r2``, ``end_tap``, ``end_r2`` (the logits
        where there are any, else the last feature tap), ``drop``, ``drop_low``, ``drop_high`` (peak minus end, paired),
        ``drop_words``, ``random_r2`` (best tap with random weights), ``shuffled_r2`` (best tap with shuffled measures).
    """
    rows = table[(table.estimator == "ridge") & (table.measure == "sqrt_area_ratio")]
    trained = rows[(rows.weights == weights) & (rows.condition == "true")]
    network = network or str(trained.network.iloc[-1])
    trained = trained[trained.network == network]
    summary = summarize(trained, by=["tap"]).set_index("tap")
    features = [tap for tap in summary.index if tap not in OUTPUT_TAPS]
    peak = str(summary.loc[features, "mean"].idxmax())
    end = "pre_softmax" if "pre_softmax" in summary.index else features[-1]
    others = {
        "random_r2": rows[
            (rows.weights == "random") & (rows.network == network) & (rows.condition == "true")
        ],
        "shuffled_r2": rows[
            (rows.weights == weights) & (rows.network == network) & (rows.condition == "shuffled")
        ],
    }
    best = {
        key: float(part.groupby("tap").r2_test.mean().max()) if len(part) else float("nan")
        for key, part in others.items()
    }
    if end == peak:
        drop = {"drop": 0.0, "drop_low": 0.0, "drop_high": 0.0, "drop_words": "which is its last tap"}
    else:
        difference = compare_taps(trained, peak, end, by=[]).iloc[0]
        words = "significantly" if difference.low > 0 else "not significantly"
        drop = {
            "drop": float(difference.mean_difference),
            "drop_low": float(difference.low),
            "drop_high": float(difference.high),
            "drop_words": f"{words} below the peak",
        }
    return {
        "network": network,
        "peak_tap": peak,
        "peak_r2": float(summary.loc[peak, "mean"]),
        "peak_low": float(summary.loc[peak, "low"]),
        "peak_high": float(summary.loc[peak, "high"]),
        "first_tap": features[0],
        "first_r2": float(summary.loc[features[0], "mean"]),
        "last_tap": features[-1],
        "last_r2": float(summary.loc[features[-1], "mean"]),
        "end_tap": end,
        "end_r2": float(summary.loc[end, "mean"]),
        **drop,
        **best,
    }


CURVES = {"imagenet": "ImageNet weights", "random": "random weights", "shuffled": "shuffled measures"}


def curve_name(weights: str, *, condition: str = "true") -> str:
    """What a curve is called in legends.

    Parameters
    ----------
    weights : str
        ``"imagenet"``, ``"random"``, or what a trained network was trained on.
    condition : {"true", "shuffled"}, default="true"

    Returns
    -------
    str

    Examples
    --------
    >>> curve_name("imagenet"), curve_name("one scale"), curve_name("imagenet", condition="shuffled")
    ('ImageNet weights', 'trained at one scale', 'shuffled measures')
    """
    if condition == "shuffled":
        return CURVES["shuffled"]
    return CURVES.get(weights, f"trained at {weights}")


def curves(
    table: pd.DataFrame, *, estimator: str = "ridge", measure: str = "sqrt_area_ratio", by: Sequence[str] = ()
) -> pd.DataFrame:
    """Mean held-out R² per network, curve and tap, with its interval.

    Parameters
    ----------
    table : pandas.DataFrame
        The study's table, one row per tap × repeat × condition × class × measure × weights.
    estimator : str, default="ridge"
    measure : str, default="sqrt_area_ratio"
    by : sequence of str, default=()
        Further labels to keep apart, such as ``object_class``; others are averaged over.

    Returns
    -------
    pandas.DataFrame
        Columns ``network, weights, curve``, those of `by`, ``tap, depth`` (0 first tap, 1 last), and those of
        :func:`scalelib.statistics.summarize`. For random weights the weight seed is the unit; else the
        repeat, with the variance corrected for overlapping splits.

    Examples
    --------
    >>> rows = [{"network": "n", "weights": "imagenet", "weights_seed": -1, "object_class": "bird", "tap": tap,
    ...          "measure": "sqrt_area_ratio", "estimator": "ridge", "condition": "true", "repeat": r,
    ...          "n_train": 70, "n_test": 30, "r2_test": 0.5} for tap in "ab" for r in range(3)]
    >>> curves(pd.DataFrame(rows))[["curve", "tap", "depth", "mean"]].to_dict("records")[1]
    {'curve': 'ImageNet weights', 'tap': 'b', 'depth': 1.0, 'mean': 0.5}
    """
    rows = table[(table.estimator == estimator) & (table.measure == measure)]
    keys = ["network", "weights", "condition", *by, "tap"]
    parts = [
        summarize(part, by=keys, unit="weights_seed" if weights == "random" else "repeat")
        for (_, weights), part in rows.groupby(["network", "weights"], sort=False)
    ]
    summary = pd.concat(parts, ignore_index=True)
    names = [curve_name(w, condition=c) for w, c in zip(summary.weights, summary.condition, strict=True)]
    summary.insert(2, "curve", names)
    summary.insert(summary.columns.get_loc("tap") + 1, "depth", _depth(summary))
    return summary.drop(columns="condition")


def _depth(summary: pd.DataFrame) -> np.ndarray:
    depth = np.empty(len(summary))
    for _, rows in summary.groupby("network").indices.items():
        taps = list(dict.fromkeys(summary.tap.iloc[rows]))
        depth[rows] = [taps.index(tap) / max(len(taps) - 1, 1) for tap in summary.tap.iloc[rows]]
    return depth


def scale_histogram(table: pd.DataFrame, *, measure: str = "sqrt_area_ratio", bins: int = 20) -> pd.DataFrame:
    """How many images of each class have which object scale.

    Parameters
    ----------
    table : pandas.DataFrame
        One row per image, with ``object_class`` and the measure, in (0, 1].
    measure : str, default="sqrt_area_ratio"
    bins : int, default=20
        Bins of equal width between 0 and 1.

    Returns
    -------
    pandas.DataFrame
        One row per class and bin: ``object_class, low, high, images, median`` (of the class).

    Examples
    --------
    >>> table = pd.DataFrame({"object_class": ["a", "a"], "sqrt_area_ratio": [0.2, 0.9]})
    >>> scale_histogram(table, bins=2).images.tolist()
    [1, 1]
    """
    edges = np.linspace(0, 1, bins + 1)
    parts = [
        pd.DataFrame(
            {
                "object_class": name,
                "low": edges[:-1],
                "high": edges[1:],
                "images": np.histogram(values, edges)[0],
                "median": values.median(),
            }
        )
        for name, values in table.groupby("object_class")[measure]
    ]
    return pd.concat(parts, ignore_index=True)


def estimators_beside(table: pd.DataFrame, *, weights: str, measure: str) -> pd.DataFrame:
    """Curves of one set of weights by each estimator, named after it.

    Parameters
    ----------
    table : pandas.DataFrame
        The study's table.
    weights : str
        Label of the weights.
    measure : str

    Returns
    -------
    pandas.DataFrame
        As :func:`curves`, with ``curve`` naming the estimator.
    """
    names = {"ols": "least squares", "ridge": "ridge", "pcr": "principal components"}
    rows = table[(table.weights == weights) & (table.condition == "true")]
    parts = [
        curves(rows, estimator=estimator, measure=measure).assign(curve=names[estimator])
        for estimator in rows.estimator.unique()
    ]
    return pd.concat(parts, ignore_index=True)


def width_beside(table: pd.DataFrame, projected: pd.DataFrame) -> pd.DataFrame:
    """Curves of all channels and of every tap at one common width.

    Parameters
    ----------
    table : pandas.DataFrame
        The study's table.
    projected : pandas.DataFrame
        The same regressions after a random projection; every row has its ``width``.

    Returns
    -------
    pandas.DataFrame
        As :func:`curves`; ``curve`` says which.
    """
    keys = projected[["network", "weights"]].drop_duplicates()
    rows = table[table.condition == "true"].merge(keys, on=["network", "weights"])
    several = keys.groupby("network").weights.nunique().max() > 1
    parts = []
    for name, part in (("all channels", rows), ("equal width", projected)):
        summary = curves(part)
        parts.append(summary.assign(curve=[f"{c}, {name}" if several else name for c in summary.curve]))
    return pd.concat(parts, ignore_index=True)


@dataclass(frozen=True)
class Published:
    """The paper's curves in the figure's units: ``curve, depth, value`` (and ``label``)."""

    table_a1: pd.DataFrame
    figure: pd.DataFrame


def published_curves(paper: str | os.PathLike[str]) -> Published:
    """Table A1 and the figure's labelled points as values of exp(R²)/e.

    Parameters
    ----------
    paper : path-like
        Folder with ``table_a1.csv`` and ``figure_labels.csv``.

    Returns
    -------
    Published

    Notes
    -----
    A label of the workshop version's figure is 1 + ln of the value drawn. exp of Table A1's mean
    R², over e, is a lower bound of the mean of exp(R²)/e (Jensen's inequality).
    """
    table = pd.read_csv(Path(paper) / "table_a1.csv")
    taps = list(dict.fromkeys(table.tap))
    depth = {tap: i / (len(taps) - 1) for i, tap in enumerate(taps)}
    labels = pd.read_csv(Path(paper) / "figure_labels.csv")
    return Published(
        table_a1=pd.DataFrame(
            {
                "curve": table.condition.map(CURVES),
                "depth": table.tap.map(depth),
                "value": np.exp(table.r2_test.clip(lower=-50) - 1),
            }
        ),
        figure=pd.DataFrame(
            {
                "curve": labels.condition.map(CURVES),
                "depth": labels.tap.map(depth),
                "value": np.exp(labels.label - 1),
                "label": [f"{label:.2f} {tap}" for label, tap in zip(labels.label, labels.tap, strict=True)],
            }
        ),
    )


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
    merged_legend(fig, ncols=3)
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
