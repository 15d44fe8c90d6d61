"""Notebook 04: tables that summarise the layer-wise regressions, the numbers its prose quotes, and its figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scalebook.claims import load_claims
from scalebook.paper_tables import COMPARED
from scalelib.linear import fit_linear
from scalelib.plotting import COLOURS, MARKERS, WIDTH, colour_of, facets, line_facets, merged_legend
from scalelib.pruning import OUTPUT_TAPS, best_layer
from scalelib.regression import train_test_splits
from scalelib.statistics import compare_taps, summarize

CURVES = {"imagenet": "ImageNet weights", "random": "random weights", "shuffled": "shuffled measures"}
READINGS = {"ols": "least squares", "ridge": "ridge", "pcr": "principal components"}
READINGS["ridge_unscaled"] = "ridge, unscaled"
Read = Callable[[str], pd.DataFrame]


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
    table = pd.DataFrame(found).astype({"top1": float})
    ranks = {name: own.top1.corr(own["drop"], method="spearman") for name, own in table.groupby("estimator")}
    return table.assign(rank_correlation=table.estimator.map(ranks))


def _drop(rows: pd.DataFrame, peak: str, end: str) -> dict[str, float]:
    """Peak minus another tap with its corrected interval; 0 where they are one."""
    names = ("drop", "drop_low", "drop_high")
    if peak == end:
        return dict.fromkeys(names, 0.0)
    found = compare_taps(rows, peak, end, by=[]).iloc[0]
    return dict(zip(names, map(float, found[["mean_difference", "low", "high"]]), strict=True))


def read_scales(
    acts: Mapping[str, np.ndarray], table: pd.DataFrame, curves: pd.DataFrame, *, random_state: int = 0
) -> pd.DataFrame:
    """True and read scale of the images that the curves' first split holds out, by tap; each class regressed apart."""
    depth, parts = dict(zip(curves.tap, curves.depth, strict=True)), []
    for object_class, rows in table.groupby("object_class").indices.items():
        true = table.sqrt_area_ratio.to_numpy()[rows]
        [(train, test)] = train_test_splits(len(rows), 1, random_state=random_state)
        about = {"image": rows[test], "object_class": object_class, "true": true[test]}
        for tap, values in acts.items():
            fit = fit_linear(values[rows][train], true[train, None], "ridge")
            read = fit.predict(values[rows][test])[:, 0]
            parts.append(pd.DataFrame({"tap": tap, "depth": depth[tap], **about, "read": read}))
    return pd.concat(parts, ignore_index=True)


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
    across = min(5, histogram.object_class.nunique())
    grid = facets(histogram, height=1.8, col="object_class", col_wrap=across)
    for name, ax in grid.axes_dict.items():
        part = histogram[histogram.object_class == name]
        ax.stairs(part.images, [*part.low, part.high.iloc[-1]], fill=True, color=COLOURS[0], label="images")
        ax.axvline(part["median"].iloc[0], color=COLOURS[1], ls="--", label="median")
        ax.set_title(f"{name} ({part.images.sum()})", fontsize=8.5)
    grid.set_axis_labels("object scale", "images").figure.set_layout_engine("constrained")
    merged_legend(grid.figure)
    return grid.figure


def by_depth(summary: pd.DataFrame, *, floor: float = -0.5) -> Figure:
    """R² by relative depth, a small panel per network; values under `floor` are arrows below a line."""
    under = summary["mean"] < floor
    shown = summary.assign(r2=summary["mean"].mask(under), network=_short(summary.network))
    colours = colour_of(shown.curve)
    across = min(5, shown.network.nunique())
    grid = line_facets(
        shown, x="depth", y="r2", hue="curve", style="curve", palette=colours,
        col="network", col_wrap=across, height=3.2 if across < 3 else 2.0,
    )  # fmt: skip
    grid.set(
        ylim=(floor - 0.1 * (len(colours) + 1), 1),
        xlim=(-0.12, 1.12),
        xticks=(0, 0.5, 1),
        yticks=(-0.5, 0, 0.5, 1),
    )
    grid.set_axis_labels("relative depth", "held-out R²")
    for network, ax in grid.axes_dict.items():
        ax.axhline(floor, color="#888888", lw=0.8, ls=":")
        for i, (curve, colour) in enumerate(colours.items()):
            at = shown.depth[under & (shown.network == network) & (shown.curve == curve)]
            ax.plot(at, np.full(len(at), floor - 0.1 * (i + 1)), "v", color=colour)
        ax.set_title(network.replace(", ", "\n"), fontsize=8)
        ax.label_outer()
    return grid.figure


def _short(names: pd.Series) -> pd.Series:
    """A network named in full, without what is said of how its weights were stored or made good."""
    return names.str.split(", ").str[:2].str.join(", ")


def all_networks(summary: pd.DataFrame) -> Figure:
    """Trained curves of all networks in one panel, over what random weights and shuffled measures reach."""
    fig, ax = plt.subplots(figsize=(WIDTH, 4.6))
    along(ax, summary)
    return fig


def along(
    ax: Axes, summary: pd.DataFrame, *, names: Sequence[str] = (), floor: float = -0.3, size: float = 9
) -> None:
    """R² by relative depth: a line per trained network, named at its end; random weights and shuffled measures in grey."""
    ax.set(ylim=(floor, 1), xlim=(-0.02, 1.02), yticks=np.arange(-1, 6) / 5)
    ax.set_xlabel("relative depth", fontsize=size)
    ax.set_ylabel("held-out R²", fontsize=size)
    ax.axhline(0, color="#888888", lw=0.8)
    softmax, grid = summary.tap == "softmax", np.linspace(0, 1, 60)
    grey = [CURVES["random"], CURVES["shuffled"]]
    if summary[softmax]["mean"].min() < floor:
        ax.text(1, floor + 0.02, "softmax ↓", ha="right", fontsize=size)
    for curve, hatch, va in zip(grey, ("////", ""), ("bottom", "top"), strict=True):
        own = summary[(summary.curve == curve) & ~summary.tap.isin(OUTPUT_TAPS)]
        each = [np.interp(grid, part.depth, part["mean"]) for _, part in own.groupby("network")]
        if each:
            high = np.max(each, axis=0)
            low = (
                0 * high if hatch else np.min(each, axis=0)
            )  # random features of some networks read far below zero
            ax.fill_between(grid, low, high, facecolor="#99999955", edgecolor="#999999", lw=0.5, hatch=hatch)
            x, y, ha = (1, high[35:].max(), "right") if hatch else (0, low[:25].min(), "left")
            ax.text(x, y, curve, ha=ha, va=va, fontsize=size, alpha=0.75)
    trained = summary[~softmax & ~summary.curve.isin(grey)]
    if names:
        trained = trained.set_index("network").loc[list(names)].reset_index()
    several = trained.groupby("network").curve.nunique().max() > 1
    label = _short(trained.curve if several else in_full(trained).network)
    lines = [own for _, own in trained.assign(label=label).groupby("label", sort=False)]
    looks = {own.label.iloc[0]: i for i, own in enumerate(lines)}
    lines.sort(key=lambda own: own["mean"].iloc[-1])
    ends = np.array([own["mean"].iloc[-1] for own in lines])
    apart = 3.2 * size / ax.get_window_extent().height * (1 - floor) * np.arange(len(ends))
    places = np.maximum.accumulate(ends - apart) + apart
    places -= (places - ends).mean()
    for own, end, place in zip(lines, ends, places, strict=True):
        i = looks[own.label.iloc[0]]
        colour, style, marker = COLOURS[i % 6], "-" if i < 6 else "--", MARKERS[i]
        if own.network.iloc[0] == PUBLISHED:
            colour, style, marker = plt.rcParams["text.color"], ":", "*"
        inside = own["mean"] >= floor
        ax.plot(own.depth, own["mean"].where(inside), color=colour, marker=marker, ls=style, ms=3.5)
        ax.plot(own.depth[~inside], 0 * own.depth[~inside] + floor + 0.02, "v", color=colour)
        tie = {"arrowstyle": "-", "lw": 0.6, "ls": ":", "color": colour, "shrinkB": 3, "relpos": (0, 0.5)}
        ax.annotate(
            own.label.iloc[0], (own.depth.iloc[-1], end), (1.04, place), color=colour, fontsize=size,
            va="center", textcoords=ax.get_yaxis_transform(), arrowprops=tie, annotation_clip=False,
        )  # fmt: skip


FOLDER = "04_layerwise_r2"
SHOWN = ["InceptionV3", "ResNet50 v1.5", "DenseNet169", "MobileNetV2", "MobileNet 0.25", "SqueezeNet"]
PUBLISHED = "the paper's InceptionV3"


def where_scale_is_read(read: Read, *, narrow: bool) -> Figure:
    """Photographs, strong and weak networks over the published curve; and the control's twins."""
    shape, size = ((2, 1), (3.73, 6.6)) if narrow else ((1, 2), (8.23, 3.9))
    fig, axes = plt.subplots(*shape, figsize=size, width_ratios=None if narrow else [1.6, 1])
    _finding(axes, read, SHOWN, size=7 if narrow else 9)
    return fig


def hero(read: Read, *, narrow: bool) -> Figure:
    """The method, layer by layer, and what it finds."""
    small = 7 if narrow else 10
    fig = plt.figure(figsize=(3.73, 8.4) if narrow else (9, 5.2))
    shape, shares = ((2, 1), "height_ratios") if narrow else ((1, 2), "width_ratios")
    options: dict[str, Any] = {shares: [1, 1.9 if narrow else 1.3]}
    method, finding = fig.subfigures(*shape, **options)
    axes = finding.subplots(2, 1, height_ratios=[1.15, 1])
    _finding(axes, read, [SHOWN[0], *SHOWN[3:]], size=small)
    own = read(f"compact/{FOLDER}/curves").query("network == @SHOWN[0] and curve == @CURVES['imagenet']")
    _method(method.subplots(), own.iloc[::2].reset_index(), size=small - (not narrow))
    return fig


def _method(ax: Axes, own: pd.DataFrame, *, size: float) -> None:
    """A network's layers from left to right, and under each the R² that is read from it."""
    best, words = int(own["mean"].argmax()), dict[str, Any](ha="center", fontsize=size)
    ax.set_axis_off()
    ax.set(xlim=(-1.6, len(own) - 0.3), ylim=(0, 10))
    ax.add_patch(plt.Rectangle((-1.5, 7.3), 0.9, 2, facecolor="#99999955", edgecolor="#999999"))
    ax.add_patch(plt.Rectangle((-1.2, 7.8), 0.4, 0.9, color=COLOURS[1]))
    ax.text(-1.05, 6.7, "image", **words)
    for i, row in own.iterrows():
        height = 2.4 - 0.3 * i
        colour = COLOURS[1 if i == best else 0]
        ax.add_patch(plt.Rectangle((i - 0.25, 8.3 - height / 2), 0.5, height, color=colour, alpha=0.75))
        ax.text(i, 6.7, row.tap, **words)
        for start, end in (((i - 0.65, 8.3), (i - 0.3, 8.3)), ((i, 6.5), (i, 5.5)), ((i, 4.7), (i, 3.9))):
            ax.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": "#999999"})
        ax.plot([i - 0.2, i - 0.07, i + 0.07, i + 0.2], [5.1] * 4, "o", color=colour, ms=3.5)
        ax.bar(i, 2.6 * row["mean"], 0.5, 0.9, color=colour, alpha=0.75)
        ax.text(i, 1 + 2.6 * row["mean"], f"{row['mean']:.2f}", **words)
    ax.plot([best + 0.5] * 2, [0.9, 9.6], "--", color=COLOURS[1])
    ax.text(best + 0.5, 9.7, "cut here", color=COLOURS[1], **words)
    for y, text in ((5.1, "channels,\naveraged"), (2.2, "R² of a\nregression,\nheld-out\nimages")):
        ax.text(-1.05, y, text, va="center", **words)
    ax.text((len(own) - 1) / 2, 0.1, "at which layer can the size of the object be read?", **words)


def _finding(axes: Sequence[Axes], read: Read, names: Sequence[str], *, size: float) -> None:
    """Networks on photographs over Table A1's column for ImageNet weights, by the depth of its layers; and the twins."""
    photographs, control = (read(f"{profile}/{FOLDER}/curves") for profile in ("compact", "control"))
    depth = photographs[photographs.network == SHOWN[0]].drop_duplicates("tap").set_index("tap").depth
    cells = read(f"compact/{FOLDER}/table_a1").query("condition == 'imagenet'")
    paper = cells[["tap"]].assign(network=PUBLISHED, weights="imagenet", curve=CURVES["imagenet"])
    paper = paper.assign(depth=cells.tap.map(depth), mean=cells.paper)
    along(axes[0], pd.concat([photographs, paper]), names=[*names, PUBLISHED], size=size)
    along(axes[1], control, size=size)
    titles = {f"On photographs (layers of {SHOWN[0]})": photographs, "Rendered control: twins": control}
    for ax, (title, summary) in zip(axes, titles.items(), strict=True):
        own = (
            summary[summary.network.isin([SHOWN[0], "control"])].drop_duplicates("tap").set_index("tap").depth
        )
        own = own.iloc[np.linspace(0, len(own) - 1, 4 if summary is photographs else 3).round().astype(int)]
        ax.set_title(title, fontsize=size + 1)
        ax.set_xticks(own, own.index)
        ax.tick_params(labelsize=size)


def peaks_and_falls(read: Read, *, narrow: bool) -> Figure:
    """By network, best first: where scale, nuclei and magnification are read best, and how far R² falls from there."""
    falls = in_full(read(f"compact/{FOLDER}/falls")).sort_values("top1", kind="stable")
    depth = read(f"compact/{FOLDER}/curves").drop_duplicates(["network", "tap"])[["network", "tap", "depth"]]
    tissue = read("compact/05_histopathology_transfer/readout_answers").rename(columns={"best_tap": "tap"})
    answers = read(f"compact/{FOLDER}/answers").rename(columns={"peak_tap": "tap"})
    full = falls.network.drop_duplicates()
    place = {name.split(" (2015)")[0].split(",")[0]: i for i, name in enumerate(full)}
    shape, size, small = ((2, 1), (3.73, 7.4), 7) if narrow else ((1, 2), (8.23, 4.2), 9)
    fig, (left, right) = plt.subplots(*shape, figsize=size, sharey=True)
    kinds = {
        "by one class, measure or estimator": (read(f"compact/{FOLDER}/sensitivity"), "|", "#999999", 0),
        "object scale, by the rule": (answers, "o", COLOURS[0], 0),
        "area of nuclei": (tissue[tissue.target == "area"], "^", COLOURS[1], 0.25),
        "magnification of tissue": (tissue[tissue.target != "area"], "s", COLOURS[2], -0.25),
    }
    for label, (rows, marker, colour, shift) in kinds.items():
        at = rows[["network", "tap"]].merge(depth, on=["network", "tap"])
        left.plot(at.depth, at.network.map(place) + shift, marker, color=colour, ms=7, label=label, ls="")
    for i, label in enumerate(("features free of units", "features as the network has them")):
        own = falls[(falls.estimator == ["ridge", "ridge_unscaled"][i]) & falls.top1.notna()]
        y = own.network.map({name: i for i, name in enumerate(full)}) + 0.15 - 0.3 * i
        bars = [own["drop"] - own.drop_low, own.drop_high - own["drop"]]
        right.errorbar(own["drop"], y, xerr=bars, fmt="os"[i], color=COLOURS[i], label=label)
    left.set_yticks(range(len(full)), _short(full), fontsize=small)
    left.set_xlabel("relative depth where read best", fontsize=small)
    right.set_xlabel("fall of R² from there to the last features", fontsize=small)
    for ax in (left, right):
        ax.tick_params(labelsize=small, labelleft=True if narrow else ax is left)
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), fontsize=small, ncols=1)
    return fig
