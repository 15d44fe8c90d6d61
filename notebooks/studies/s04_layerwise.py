"""Notebook 04: tables that summarise the layer-wise regressions, the numbers its prose quotes, and its figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from scalebook.claims import load_claims
from scalebook.paper_tables import COMPARED
from scalelib.plotting import COLOURS, MARKERS, WIDTH, colour_of, merged_legend, r2_by_tap, short_tap
from scalelib.pruning import OUTPUT_TAPS, best_layer
from scalelib.statistics import compare_taps, summarize

CURVES = {"imagenet": "ImageNet weights", "random": "random weights", "shuffled": "shuffled measures"}
READINGS = {"ols": "least squares", "ridge": "ridge", "pcr": "principal components"}
READINGS["ridge_unscaled"] = "ridge, unscaled"


def scale_histogram(table: pd.DataFrame, *, measure: str = "sqrt_area_ratio", bins: int = 20) -> pd.DataFrame:
    """How many images of each class have which object scale, and the class's median."""
    edges = np.linspace(0, 1, bins + 1)
    parts = []
    for name, values in table.groupby("object_class")[measure]:
        counts = {"low": edges[:-1], "high": edges[1:], "images": np.histogram(values, edges)[0]}
        parts.append(pd.DataFrame({"object_class": name, **counts, "median": values.median()}))
    return pd.concat(parts, ignore_index=True)


def curve_name(weights: str, *, condition: str = "true") -> str:
    """What a curve is called in legends, by how the label of its weights begins (or what they were trained on) and condition."""
    begins = (words for kind, words in CURVES.items() if weights.startswith(kind))
    known = next(begins, f"trained at {weights}")
    return CURVES["shuffled"] if condition == "shuffled" else known


def in_full(summary: pd.DataFrame) -> pd.DataFrame:
    """Networks named with what their trained weights are, as panels show them: InceptionV3 (2015), to mixed8."""
    trained = summary[summary.weights.str.startswith("imagenet")]
    names = trained.network + trained.weights.str.removeprefix("imagenet")
    return summary.assign(network=summary.network.replace(dict(zip(trained.network, names, strict=True))))


def side_by_side(summary: pd.DataFrame, networks: Sequence[str]) -> pd.DataFrame:
    """Trained curves of several networks whose taps have the same names, as one panel; the first has all taps."""
    trained = (summary.weights != "random") & (summary.curve != CURVES["shuffled"])
    rows = in_full(pd.concat(summary[(summary.network == name) & trained] for name in networks))
    return rows.assign(curve=rows.network + ", " + rows.curve, network="side by side")


def curves(
    table: pd.DataFrame, *, estimator: str = "ridge", measure: str = "sqrt_area_ratio", by: Sequence[str] = ()
) -> pd.DataFrame:
    """Mean held-out R² per network, curve, tap and `by`, with its interval; of random weights the seed is the unit."""
    rows = table[(table.estimator == estimator) & (table.measure == measure)]
    keys = ["network", "weights", "condition", *by, "tap"]
    parts = [
        summarize(part, by=keys, unit="weights_seed" if weights == "random" else "repeat")
        for (_, weights), part in rows.groupby(["network", "weights"], sort=False)
    ]
    summary = pd.concat(parts, ignore_index=True)
    names = [curve_name(w, condition=c) for w, c in zip(summary.weights, summary.condition, strict=True)]
    summary.insert(2, "curve", names)
    place = summary.groupby("network").tap.transform(lambda taps: pd.factorize(taps)[0])
    last = place.groupby(summary.network).transform("max").clip(lower=1)
    summary.insert(summary.columns.get_loc("tap") + 1, "depth", place / last)
    return summary.drop(columns="condition")


def estimators_beside(table: pd.DataFrame, *, weights: str, measure: str) -> pd.DataFrame:
    """Curves of weights whose label begins so by each estimator, named after it."""
    rows = table[table.weights.str.startswith(weights) & (table.condition == "true")]
    parts = [
        curves(rows, estimator=estimator, measure=measure).assign(curve=READINGS[estimator])
        for estimator in rows.estimator.unique()
    ]
    return pd.concat(parts, ignore_index=True)


def width_beside(table: pd.DataFrame, projected: pd.DataFrame) -> pd.DataFrame:
    """Curves of all channels and of every tap at one common width, for the networks that were projected."""
    keys = projected[["network", "weights"]].drop_duplicates()
    rows = table[table.condition == "true"].merge(keys, on=["network", "weights"])
    several = keys.groupby("network").weights.nunique().max() > 1
    parts = []
    for name, part in (("all channels", rows), ("equal width", projected)):
        summary = curves(part)
        parts.append(summary.assign(curve=[f"{c}, {name}" if several else name for c in summary.curve]))
    return pd.concat(parts, ignore_index=True)


def published_curves(paper: str | Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Table A1, and the figure's labelled points (each 1 + ln of the value drawn), as values of exp(R²)/e by depth."""
    table, labels = (pd.read_csv(Path(paper) / name) for name in ("table_a1.csv", "figure_labels.csv"))
    taps = list(dict.fromkeys(table.tap))
    depth = {tap: i / (len(taps) - 1) for i, tap in enumerate(taps)}
    parts = []
    for part, label in ((table, table.r2_test.clip(lower=-50)), (labels, labels.label)):
        curve, at, value = part.condition.map(CURVES), part.tap.map(depth), np.exp(label - 1)
        units = part.assign(curve=curve, depth=at, value=value)
        parts.append(units[["curve", "depth", "value"]])
    words = [f"{label:.2f} {tap}" for label, tap in zip(labels.label, labels.tap, strict=True)]
    return parts[0], parts[1].assign(label=words)


def answer(table: pd.DataFrame, *, weights: str, network: str | None = None) -> dict[str, Any]:
    """Where the peak of a network (default: the last) is by the pruning rule, and what stands before and after it.

    The end is the logits, else the last feature tap; the drop from peak to end is paired. Random weights and
    shuffled measures are told by their best tap.
    """
    rows = table[(table.estimator == "ridge") & (table.measure == "sqrt_area_ratio")]
    true = rows.condition == "true"
    kind = rows.weights.str.startswith(weights)
    network = network or str(rows.network[true & kind].iloc[-1])
    own = rows.network == network
    trained = rows[own & true & kind]
    summary = summarize(trained, by=["tap"]).set_index("tap")
    features = [tap for tap in summary.index if tap not in OUTPUT_TAPS]
    taps = {"peak": best_layer(trained), "first": features[0], "last": features[-1]}
    taps["end"] = "pre_softmax" if "pre_softmax" in summary.index else features[-1]
    found: dict[str, Any] = {"network": network}
    for name, tap in taps.items():
        found |= {f"{name}_tap": tap, f"{name}_r2": float(summary.loc[tap, "mean"])}
    others = {
        "random_r2": rows[own & true & (rows.weights == "random")],
        "shuffled_r2": rows[own & (rows.condition == "shuffled") & kind],
    }
    found |= {f"peak_{end}": float(summary.loc[taps["peak"], end]) for end in ("low", "high")}
    found |= _drop(trained, taps["peak"], taps["end"])
    return found | {key: float(part.groupby("tap").r2_test.mean().max()) for key, part in others.items()}


def falls(table: pd.DataFrame, *, paper: str | Path) -> pd.DataFrame:
    """How far R² falls from its peak to the last features, by network and reading, beside the published accuracy."""
    claims = {claim.id: claim.arguments for claim in load_claims(Path(paper) / "claims.yaml")}
    published, found = claims["fall-grows-with-accuracy"]["top1"], []
    features = (table.condition == "true") & (table.weights != "random") & ~table.tap.isin(OUTPUT_TAPS)
    rows = table[features & (table.measure == "sqrt_area_ratio") & (table.estimator != "ols")]
    for (network, weights, estimator), part in rows.groupby(["network", "weights", "estimator"], sort=False):
        peak, last = best_layer(part, estimator=estimator), part.tap.iloc[-1]
        row = {"network": network, "weights": weights, "estimator": estimator, "top1": published.get(network)}
        found.append({**row, "peak_tap": peak, "last_tap": last, **_drop(part, peak, last)})
    return pd.DataFrame(found).astype({"top1": float})


def _drop(rows: pd.DataFrame, peak: str, end: str) -> dict[str, float]:
    """Peak minus another tap with its corrected interval; 0 where they are one."""
    names = ("drop", "drop_low", "drop_high")
    if peak == end:
        return dict.fromkeys(names, 0.0)
    found = compare_taps(rows, peak, end, by=[]).iloc[0]
    return dict(zip(names, map(float, found[["mean_difference", "low", "high"]]), strict=True))


def agreement_with_paper(cells: pd.DataFrame) -> pd.DataFrame:
    """By column of Table A1 how its compared cells agree: rank correlation, median difference, signs."""
    by_column = cells[cells.status == COMPARED].groupby("condition", sort=False)
    found = by_column.agg(cells=("ours", "size"), same_sign=("same_sign", "sum")).reset_index()
    found["rank_correlation"] = [part.paper.corr(part.ours, method="spearman") for _, part in by_column]
    return found.assign(median_difference=[part.difference.abs().median() for _, part in by_column])


def example_images(images: Sequence[np.ndarray], titles: Sequence[str], *, boxes: pd.DataFrame) -> Figure:
    """Example images in a grid, each with its object's box."""
    rows, columns = -(-len(images) // 4), 4
    fig, axes = plt.subplots(rows, columns, figsize=(WIDTH, WIDTH / columns * rows * 1.05), squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, image, title, box in zip(axes.flat, images, titles, boxes.itertuples(), strict=False):
        ax.imshow(image)
        ax.set_title(title, fontsize=8, fontweight="normal")
        corner = (box.box_x0 - 0.5, box.box_y0 - 0.5)
        size = (box.box_x1 - box.box_x0, box.box_y1 - box.box_y0)
        ax.add_patch(plt.Rectangle(corner, *size, fill=False, color=COLOURS[1], lw=1.5))
    return fig


def scale_distribution(histogram: pd.DataFrame) -> Figure:
    """Histogram of the concept measure for each class."""
    classes = histogram.object_class.unique()
    columns = min(len(classes), 5)
    rows = -(-len(classes) // columns)
    size = (WIDTH, 1.7 * rows + 0.5)
    fig, axes = plt.subplots(rows, columns, figsize=size, sharex=True, sharey=True, squeeze=False)
    for ax in axes.flat[len(classes) :]:
        ax.set_axis_off()
    for ax, name in zip(axes.flat, classes, strict=False):
        part = histogram[histogram.object_class == name]
        ax.stairs(part.images, [*part.low, part.high.iloc[-1]], fill=True, color=COLOURS[0], label="images")
        ax.axvline(part["median"].iloc[0], color=COLOURS[1], ls="--", label="median")
        ax.set_title(f"{name} ({part.images.sum()})", fontsize=8.5)
    fig.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside upper right", ncols=2, fontsize=8)
    fig.supxlabel("object scale: square root of box area over image area", fontsize=9)
    fig.supylabel("number of images", fontsize=9)
    return fig


def r2_by_class(summary: pd.DataFrame, *, floor: float = -0.3) -> Figure:
    """R² against tap, one panel per network, one curve per object class."""
    return r2_by_tap(summary.assign(curve=summary.object_class), floor=floor, bands=False)


def paper_figure(
    ours: pd.DataFrame, paper: pd.DataFrame, labelled: pd.DataFrame, *, trained: str = "ImageNet weights"
) -> Figure:
    """The published figure in its own units, exp(R²)/e, by relative depth; `trained` stands beside ImageNet weights."""
    fig, axes = plt.subplots(1, len(CURVES), figsize=(WIDTH, 3.4), sharey=True)
    colours = colour_of(ours.network)
    markers = dict(zip(colours, MARKERS, strict=False))
    for ax, curve in zip(axes, CURVES.values(), strict=True):
        is_trained = curve == CURVES["imagenet"]
        own = ours[ours.curve == (trained if is_trained else curve)]
        for network, one in own.groupby("network", sort=False):
            look = {"color": colours[network], "marker": markers[network], "label": network}
            ax.plot(one.depth, one.value, **look)
        theirs, points = paper[paper.curve == curve], labelled[labelled.curve == curve]
        ax.plot(theirs.depth, theirs.value, "k.:", label="paper, exp(Table A1)/e")
        ax.plot(points.depth, points.value, "k*", ms=11, label="paper, labelled point")
        for row in points.itertuples():
            place = {"xytext": (-5, 7), "textcoords": "offset points", "ha": "right", "fontsize": 8}
            ax.annotate(row.label, (row.depth, row.value), **place)
        title = "trained weights" if is_trained else curve
        ax.set(title=title, xlabel="relative depth of the tap", xlim=(-0.03, 1.03), ylim=(-0.03, 1.0))
    axes[0].set_ylabel("mean of exp(R²)/e, least squares")
    merged_legend(fig, axes)
    return fig


def falls_by_accuracy(found: pd.DataFrame) -> Figure:
    """How far R² falls from its peak to the last features against accuracy (or by weights), by both readings."""
    fig, ax = plt.subplots(figsize=(WIDTH, 3.6))
    x, label = "top1", "published top-1 accuracy on ImageNet (%)"
    if found.top1.isna().all():
        x, label = "weights", "trained at"
    parts = found.dropna(subset=x).groupby("estimator", sort=False)
    for (estimator, part), colour, marker in zip(parts, COLOURS, MARKERS, strict=False):
        bars = [part["drop"] - part.drop_low, part.drop_high - part["drop"]]
        ax.errorbar(part[x], part["drop"], yerr=bars, fmt=marker, color=colour, label=READINGS[estimator])
    for _, row in found[found.estimator == "ridge"].dropna(subset=x).iterrows():
        ax.annotate(row.network, (row[x], row["drop"]), (4, 4), textcoords="offset points", fontsize=7)
    ax.axhline(0, color="#555555", lw=0.8)
    ax.set(xlabel=label, ylabel="fall of R², peak to last features")
    merged_legend(fig)
    return fig


def choice_table(choice: pd.DataFrame) -> Figure:
    """For each measure, estimator and class the tap with the highest R², coloured by depth."""
    panels = list(choice.groupby(["network", "weights"], sort=False))
    several = choice.groupby("network").weights.nunique().max() > 1
    rows = choice.groupby(["measure", "estimator"]).ngroups
    size = (WIDTH, (0.23 * rows + 0.9) * len(panels))
    fig, axes = plt.subplots(len(panels), 1, figsize=size, squeeze=False)
    for ax, ((network, weights), part) in zip(axes.flat, panels, strict=True):
        part = part.assign(row=part.measure + ", " + part.estimator, tap=part.tap.map(short_tap))
        by_class = part.groupby(["row", "object_class"], sort=False)[["depth", "tap"]].first()
        wide = by_class.unstack(sort=False)
        sns.heatmap(
            wide["depth"].astype(float), annot=wide["tap"], fmt="", cmap="cividis", vmin=0, vmax=1, ax=ax,
            annot_kws={"fontsize": 6.5}, cbar=False,
        )  # fmt: skip
        ax.set(xlabel="", ylabel="", title=f"{network}, trained at {weights}" if several else network)
        ax.tick_params(axis="x", labelsize=8, rotation=20 if wide["depth"].shape[1] > 6 else 0)
        ax.tick_params(axis="y", labelsize=7.5)
    fig.colorbar(axes[0, 0].collections[0], ax=axes, label="relative depth of the chosen tap", shrink=0.6)
    return fig
