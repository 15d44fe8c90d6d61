"""Notebook 05, the page: tables in the paper's form, what they answer in words, and figures. Computes no score and trains nothing; it times what pruning saves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from timeit import timeit
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from sklearn.metrics import r2_score

from scalebook.predicates import MOST_KEPT, span
from scalelib.graph import keras
from scalelib.networks import Network
from scalelib.plotting import COLOURS, WIDTH, merged_legend, r2_by_tap, tap_axis
from scalelib.pruning import prune
from studies.s05_runs import PlannedTransfer, kept

# Rows of Table 2 in words, and how they are drawn.
ROW_NAMES = {"pretrained": "full, pretrained", "scratch": "full, from scratch", "pruned": "pruned"}
ROW_COLOURS = dict(zip(ROW_NAMES.values(), (COLOURS[0], COLOURS[5], COLOURS[1]), strict=True))
ROW_MARKERS = dict(zip(ROW_NAMES.values(), "os^", strict=True))
MARK: dict[str, Any] = {"mec": "black", "mew": 0.7, "ls": ""}
SCORE_NAMES = {"mae_px": "mean absolute error (px)", "kappa": "Cohen's kappa"}


def plan_table(plans: Iterable[PlannedTransfer]) -> pd.DataFrame:
    """What is trained, as it was fixed beforehand: one row per network."""
    return pd.DataFrame(
        {
            "network": plan.network.label,
            "full_tap": plan.network.full_tap,
            "pruned_tap": plan.network.pruned_tap,
            "seeds": len(plan.seeds),
            "targets": ", ".join(plan.targets),
            **{name: getattr(plan.schedule, name) for name in ("epochs", "patience")},
            "learning_rate": plan.rates[0] if len(plan.rates) == 1 else ", ".join(map(str, plan.rates)),
        }
        for plan in plans
    )


def as_published(table: pd.DataFrame, paper: pd.DataFrame) -> pd.DataFrame:
    """Our Table 2, target ``area``, below the paper's in its form: mean (standard deviation over seeds)."""
    theirs = paper.pivot(index=["network", "row", "tap", "seeds"], columns="score", values=["mean", "sd"])
    theirs.columns = pd.Index([f"{score}_sd" if kind == "sd" else score for kind, score in theirs.columns])
    theirs = theirs.reset_index().assign(source="paper", converged="")
    both = pd.concat([theirs, table[table["target"] == "area"].assign(source="ours")], ignore_index=True)
    ranks = {name: str(place) for place, name in enumerate(["paper", "ours", *ROW_NAMES])}
    both = both.sort_values(["source", "network", "row"], key=lambda names: names.replace(ranks))
    both["row"] = both["row"].map({**ROW_NAMES, "cut": "cut elsewhere"})
    both["kept"] = both["kept"].map("{:.0%}".format, na_action="ignore").fillna("")
    form = {"error (px)": ("mae_px", 2), "kappa": ("kappa", 3), "balanced kappa": ("kappa_balanced", 3)}
    form["error (µm²)"] = ("mae_um2", 1)
    for name, (score, digits) in form.items():
        mean, spread = both[score], both[f"{score}_sd"]
        beside = spread.map(f" ({{:.{digits}f}})".format, na_action="ignore").fillna("")
        shown = mean.map(f"{{:.{digits}f}}".format) + beside
        both[name] = shown.where(mean.notna(), "")
    return both[["source", "network", "row", "tap", "kept", *form, "seeds", "converged"]].reset_index(
        drop=True
    )


def comparison_form(compared: pd.DataFrame) -> pd.DataFrame:
    """Comparisons of rows, from :func:`scalebook.exact_tests.compare_rows`, as a page shows them."""
    differences = compared[["difference", "low", "high"]].itertuples(index=False)
    slides = compared[["slides_above_zero", "n_slides"]].astype(str)
    return pd.DataFrame(
        {
            "network": compared["network"],
            "score": compared["score"].replace("mae_px", "error (px)"),
            "pruned minus": compared["second"].map(ROW_NAMES),
            "difference (95 %)": [span(*found) for found in differences],
            "p, Holm": compared["p_holm"],
            "p": compared["p"],
            "slides above zero": slides.agg(" of ".join, axis=1),
        }
    )


def mark_scale_choice(scores: pd.DataFrame, chosen: Mapping[str, str]) -> pd.DataFrame:
    """Mark the tap of each network that scale R² on natural images chose."""
    return scores.assign(scale_chosen=scores["tap"] == scores["network"].map(chosen))


def read_out_answers(scores: pd.DataFrame) -> pd.DataFrame:
    """Per network and target, on test: the tap that validation chose, the one that scale R² chose, and the last."""
    rows = []
    shown = scores[(scores["slide"] == "all") & (scores["split"] == "test")]
    for (network, target), part in shown.groupby(["network", "target"], sort=False):
        name = "mae_px" if target == "area" else "kappa"
        values = part.set_index("tap")[name]
        taps = [tap for tap in values.index if tap != "mean"]
        scale = next(iter(part.loc[part["scale_chosen"], "tap"]), "")
        chosen = {"best": part.loc[part["chosen"], "tap"].iloc[0], "scale": scale, "last": taps[-1]}
        row = {"network": network, "target": target, "score": name, "mean_predictor": values["mean"]}
        for which, tap in chosen.items():
            row |= {f"{which}_tap": tap, which: values.get(tap, np.nan)}
        apart = abs(taps.index(chosen["best"]) - taps.index(chosen["scale"])) if chosen["scale"] else np.nan
        rows.append({**row, "taps_apart": apart})
    return pd.DataFrame(rows)


def held_out_r2(predictions: pd.DataFrame) -> pd.DataFrame:
    """R² on test patches."""
    test = predictions[predictions["split"] == "test"]
    true = np.where(test["target"] == "area", test["mean_area_px"], np.log2(test["magnification"]))
    groups = test.assign(true=true).groupby(["network", "target", "tap"], sort=False)[["true", "predicted"]]
    return groups.apply(lambda part: r2_score(part["true"], part["predicted"])).rename("r2").reset_index()


def three_curves(object_scale: pd.DataFrame, pitch: pd.DataFrame, tissue: pd.DataFrame) -> pd.DataFrame:
    """Where object scale, the pixel pitch of images and the magnification of tissue are read: taps that all three read.

    Of the layer-wise notebook's table ``curves``, of repeats of the pitch's R², and of :func:`held_out_r2`.
    """
    trained = object_scale[~object_scale["curve"].str.startswith("shuffled")]
    parts = {
        "object scale in images": trained.rename(columns={"mean": "r2"}),
        "pixel pitch of images": pitch.groupby(["network", "tap"], sort=False)["r2_test"]
        .mean().rename("r2").reset_index(),
        "magnification of tissue": tissue[(tissue["target"] == "log2_magnification") & (tissue["tap"] != "mean")],
    }  # fmt: skip
    rows = pd.concat(
        [part[["network", "tap", "r2"]].assign(curve=name) for name, part in parts.items()], ignore_index=True
    )
    complete = rows.groupby(["network", "tap"])["curve"].transform("nunique") == len(parts)
    return rows[complete].reset_index(drop=True)


def cost_taps(pruned_tap: str, taps: Sequence[str]) -> list[str]:
    """Taps whose cost is shown: the first of each third of the network, the pruned one and the last map."""
    maps = [tap for tap in taps if tap not in {"pre_softmax", "softmax"}]
    wanted = {maps[len(maps) // 3], maps[2 * len(maps) // 3], maps[-1], pruned_tap}
    return [tap for tap in maps if tap in wanted]


# What the tables answer


def answers(compared: pd.DataFrame, three: pd.DataFrame, runs: pd.DataFrame) -> dict[str, str | float]:
    """What the page says in words, by the key under which it is glued."""
    gain = compared["difference"] * np.where(compared["score"] == "mae_px", -1, 1)
    compared = compared.assign(outcome=np.where(compared["p_holm"] < 0.05, np.sign(gain), 0))
    pairs = compared.groupby(["score", "second"])
    found: dict[str, str | float] = {f"{s.split('_')[0]}_{row}": transfer_answer(p) for (s, row), p in pairs}
    better = compared[compared["second"] == "pretrained"].groupby("network")["outcome"].min() > 0
    holds = f"{'holds' if better.all() else 'does not hold'} here"
    if len(better) > 1:
        holds = f"holds here for {_listed(better.index[better]) or 'none'} of the {len(better)} networks"
    shares = kept(runs)[runs["row"] == "pruned"].groupby(runs["network"], sort=False).first()
    found["kept"] = _listed(f"{100 * share:.0f} % of {network}" for network, share in shares.items())
    if whole := _listed(shares.index[shares >= MOST_KEPT]):
        holds += f"; of {whole} the cut leaves nearly everything, which is no test"
    found["headline"] = f"The paper's claim, that pruning improves both over the full network, {holds}."
    words, nearer, of = nearest_to_tissue(three)
    found["why"] = (
        f"{words} In {nearer} of {of} the best tap for pixel pitch lies nearer to the best one for tissue than the best "
        "tap for object scale does."
    )
    found["training_hours"] = float(runs["seconds"].sum()) / 3600
    found["late"], found["n_runs"] = float((~runs["converged"]).sum()), float(len(runs))
    return found


def transfer_answer(rows: pd.DataFrame) -> str:
    """One comparison of two rows of Table 2 in words, over networks: `outcome` is 1 for better, −1 for worse."""
    words = {1: "better", -1: "worse", 0: "not significantly different"}
    named = {word: rows.loc[rows["outcome"] == outcome, "network"] for outcome, word in words.items()}
    return "; ".join(f"{word} for {_listed(networks)}" for word, networks in named.items() if len(networks))


def _listed(words: Iterable[str]) -> str:
    *most, last = [*words] or [""]
    return " and ".join([", ".join(most), last] if most else [last])


def nearest_to_tissue(three: pd.DataFrame) -> tuple[str, int, int]:
    """Best taps of the three curves in words; in how many networks pixel pitch is the nearer to tissue; of how many."""
    words, nearer = [], 0
    for network, part in three.groupby("network", sort=False):
        taps = list(dict.fromkeys(part["tap"]))
        best = part.loc[part.groupby("curve")["r2"].idxmax()].set_index("curve")
        names = ("object scale in images", "pixel pitch of images", "magnification of tissue")
        scale, pitch, tissue = (best.loc[name] for name in names)
        to_tissue = [abs(taps.index(row["tap"]) - taps.index(tissue["tap"])) for row in (pitch, scale)]
        nearer += to_tissue[0] < to_tissue[1]
        words.append(
            f"In {network}, object scale is read best at {scale['tap']} (R² {scale['r2']:.2f}), pixel pitch at "
            f"{pitch['tap']} ({pitch['r2']:.2f}), and tissue at {tissue['tap']} ({tissue['r2']:.2f})."
        )
    return " ".join(words), int(nearer), len(words)


def no_better_than_mean(table_2: pd.DataFrame, mean_error: float) -> str:
    """Rows of Table 2 whose error, averaged over seeds, is not below that of predicting the training mean, in words."""
    rows = table_2[table_2["target"] == "area"]
    weak = rows[rows["mae_px"] >= mean_error]
    rule = "better than predicting the mean area of the training patches"
    if weak.empty:
        return f"All {len(rows)} rows are {rule}."
    named = _listed(weak["network"] + " (" + weak["row"].map(ROW_NAMES) + ")")
    return f"Of the {len(rows)} rows, {len(weak)} {'is' if len(weak) == 1 else 'are'} no {rule}: {named}."


def frozen_beside_trained(table_2: pd.DataFrame, read_out: pd.DataFrame) -> str:
    """Error of a linear read-out of frozen features beside that of the same network trained whole, in words."""
    trained = table_2[(table_2["target"] == "area") & (table_2["row"] == "pretrained")].set_index("network")
    return " ".join(
        f"In {row.network}, frozen features at {row.best_tap} have an error of {row.best:.0f} px, and training all "
        f"weights one of {trained.mae_px[row.network]:.0f} px."
        for row in read_out[read_out["target"] == "area"].itertuples()
    )


# Figures


def learning_curves(history: pd.DataFrame) -> Figure:
    """Validation loss of one target by epoch, in units of its variance: every run thin, its best epoch marked."""
    groups = history.replace({"row": ROW_NAMES}).groupby("network", sort=False)
    size = (WIDTH, 0.7 + 1.65 * len(groups))
    fig, axes = plt.subplots(len(groups), 3, figsize=size, sharex=True, sharey="row", squeeze=False)
    for panels, (network, own) in zip(axes, groups, strict=True):
        for ax, (row, colour) in zip(panels, ROW_COLOURS.items(), strict=True):
            part = own[own["row"] == row]
            best = part.loc[part.groupby("seed")["val_loss"].idxmin()]
            sns.lineplot(
                part, x="epoch", y="val_loss", units="seed", estimator=None, color=colour, lw=0.8, alpha=0.6, ax=ax
            )  # fmt: skip
            ax.plot(best["epoch"], best["val_loss"], marker=ROW_MARKERS[row], color=colour, ms=5, **MARK)
            if network == history["network"].iloc[0]:
                ax.set_title(row, fontsize=9)
        panels[0].set_ylim(0, min(own["val_loss"].max(), 2.2 * own["val_loss"].median()))
        panels[0].set_ylabel(f"{network}\nvalidation loss", fontsize=8.5)
    return fig


def rows_of_table_2(scores: pd.DataFrame, paper: pd.DataFrame, *, mean_error: float) -> Figure:
    """Error and kappa of each row, target ``area``: a small dot per seed, the mean large; the paper's networks beside."""
    scores, paper = (t[t["row"].isin([*ROW_NAMES])].replace({"row": ROW_NAMES}) for t in (scores, paper))
    theirs, ours = paper["network"].unique(), scores["network"].unique()
    fig, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.4))
    look: dict[str, Any] = {"x": "network", "order": [*theirs, *ours], "hue": "row", "palette": ROW_COLOURS}
    look["hue_order"] = list(ROW_COLOURS)
    for ax, (score, name) in zip(axes, SCORE_NAMES.items(), strict=True):
        sns.stripplot(
            scores, y=score, dodge=True, jitter=False, alpha=0.45, size=3, legend=False, ax=ax, **look
        )
        sns.pointplot(
            scores, y=score, dodge=8 / 15, errorbar=None, markers=[*"os^"], ms=6, ax=ax, **look, **MARK
        )  # fmt: skip
        for shift, (row, colour) in zip((-4 / 15, 0, 4 / 15), ROW_COLOURS.items(), strict=True):
            cell = paper[(paper["row"] == row) & (paper["score"] == score)].set_index("network").loc[theirs]
            ax.errorbar(
                np.arange(len(theirs)) + shift, cell["mean"], cell["sd"],
                fmt=ROW_MARKERS[row], mfc="white", capsize=2, color=colour,
            )  # fmt: skip
        ax.get_legend().remove()
        names = [*(f"{network}\n(paper)" for network in theirs), *ours]
        ax.set_xticks(range(len(names)), names, rotation=35, ha="right", fontsize=8.5)
        ax.set(xlabel="network", ylabel=name, ylim=(0, 1 if score == "kappa" else None))
        ax.axvline(len(theirs) - 0.5, color="black", lw=0.8)
    ends = [len(theirs) - 0.5, len(theirs) + len(ours) - 0.5]
    axes[0].plot(ends, [mean_error] * 2, "k:", lw=0.9, label="predicting the training mean", zorder=1)
    merged_legend(fig, loc="outside upper center", ncols=4, fontsize=8.5)
    return fig


def slide_differences(scores: pd.DataFrame, *, other: str) -> Figure:
    """Pruned minus another row on each test slide, seeds averaged: right of zero in kappa, left in error is better."""
    rows = scores[(scores["slide"] != "all") & scores["row"].isin(["pruned", other])]
    index = ["network", "slide"]
    by_slide = rows.pivot_table(index=index, columns="row", values=list(SCORE_NAMES), sort=False).dropna()
    networks = by_slide.index.unique("network")
    fig, axes = plt.subplots(1, 2, figsize=(WIDTH, 1.3 + 0.5 * len(networks)), sharey=True)
    for ax, score in zip(axes, SCORE_NAMES, strict=True):
        difference = (by_slide[score, "pruned"] - by_slide[score, other]).rename("x").reset_index()
        place = networks.get_indexer(difference["network"])
        ax.plot(difference["x"], place, "|", color=COLOURS[0], ms=13, mew=1.4, label="a test slide")
        means = difference.groupby("network", sort=False)["x"].mean()
        label = "mean of the slides"
        ax.plot(means, range(len(means)), marker="D", color=COLOURS[1], ms=6, label=label, **MARK)
        ax.axvline(0, color="black", lw=0.9)
        ax.xaxis.set_major_locator(mpl.ticker.MaxNLocator(5))
        better = "left" if score == "mae_px" else "right"
        ax.set_xlabel(f"difference in {SCORE_NAMES[score]}\n(better: {better})")
        ax.set_yticks(range(len(networks)), networks)
        ax.set_ylim(len(networks) - 0.5, -0.5)
    axes[0].set_ylabel("network")
    merged_legend(fig, loc="outside upper right", fontsize=8.5)
    fig.suptitle(f"pruned minus {ROW_NAMES[other]}", x=0.01, ha="left", fontsize=10, fontweight="bold")
    return fig


def confusions(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Percent of each true magnification that is named as each other; counts by title, rows true, columns named."""
    size = (WIDTH, 0.6 + WIDTH / max(len(tables), 2))
    fig, axes = plt.subplots(1, len(tables), figsize=size, squeeze=False)
    for ax, (title, counts) in zip(axes[0], tables.items(), strict=True):
        share = 100 * counts.div(counts.sum(axis=1).clip(lower=1), axis=0)
        words = share.map(lambda value: f"{value:.0f}" if value >= 0.5 else "")
        names = [f"{magnification:g}X" for magnification in counts.index]
        sns.heatmap(
            share, vmin=0, vmax=100, cmap="Blues", cbar=False, square=True, annot=words, fmt="",
            annot_kws={"size": 7.5}, xticklabels=names, yticklabels=names, ax=ax,
        )  # fmt: skip
        ax.set(title=title, xlabel="named", ylabel="")
        ax.tick_params(axis="y", rotation=0)
    axes[0, 0].set_ylabel("true magnification")
    return fig


def read_out_curves(scores: pd.DataFrame, random: pd.DataFrame) -> Figure:
    """Error of nuclei area and kappa of magnification, read linearly at every tap of frozen networks."""
    both = pd.concat([scores.assign(curve="trained weights"), random.assign(curve="random weights")])
    both = both[(both["split"] == "test") & (both["slide"] == "all")]
    groups = both.groupby("network", sort=False)
    fig, axes = plt.subplots(len(groups), 2, figsize=(WIDTH, 0.7 + 2.3 * len(groups)), squeeze=False)
    columns = {"area": ("mae_px", "nuclei area"), "log2_magnification": ("kappa", "magnification")}
    for panels, (network, own) in zip(axes, groups, strict=True):
        for ax, (target, (score, name)) in zip(panels, columns.items(), strict=True):
            part = own[own["target"] == target]
            trained = part[part["curve"] == "trained weights"].set_index("tap")
            curves = part[part["tap"] != "mean"]
            colours = [COLOURS[0], COLOURS[5]][: curves["curve"].nunique()]
            sns.lineplot(
                curves, x="tap", y=score, hue="curve", palette=colours, style="curve", mew=0,
                markers=["o", "s"], dashes=["", (1, 1)], ax=ax,
            )  # fmt: skip
            ax.get_legend().remove()
            if target == "area":
                mean = trained.loc["mean", score]
                ax.axhline(mean, color="black", lw=0.9, ls=":", label="predicting the mean")
            for column, marker, label in (
                ("scale_chosen", "v", "best scale R², natural images"),
                ("chosen", "*", "best on validation slides"),
            ):
                at = trained.loc[trained[column], score]
                ax.plot(at.index, at, marker=marker, color=COLOURS[1], ms=11, label=label, **MARK)
            tap_axis(ax, [tap for tap in trained.index if tap != "mean"], label="")
            ax.set_title(f"{network}: {name}", fontsize=9)
            ax.set_ylabel(SCORE_NAMES[score], fontsize=8.5)
    fig.supxlabel("tap (input to output)", fontsize=8.5)
    merged_legend(fig, loc="outside upper center", ncols=3, fontsize=8.5)
    return fig


def scale_against_texture(curves: pd.DataFrame) -> Figure:
    """Three R² curves per network: object scale in images, their pixel pitch, magnification of tissue; best taps large."""
    fig = r2_by_tap(curves.rename(columns={"r2": "mean"}), floor=-0.1, bands=False)
    for ax, (_, part) in zip(fig.axes, curves.groupby("network", sort=False), strict=True):
        taps = list(dict.fromkeys(part["tap"]))
        for line, (_, curve) in zip(list(ax.lines), part.groupby("curve", sort=False), strict=False):
            best = curve.loc[curve["r2"].idxmax()]
            x, colour = taps.index(best["tap"]), line.get_color()
            ax.plot(x, best["r2"], marker=line.get_marker(), color=colour, ms=9, **MARK)
    return fig


def estimates(table: pd.DataFrame) -> Figure:
    """Estimated against known or stated magnification, with intervals; refused images say so."""
    fig, ax = plt.subplots(figsize=(WIDTH, 0.9 + 0.36 * len(table)))
    y = np.arange(len(table))
    both = {
        "linear read-out": ["estimate", "low", "high"],
        "transferred network": ["transferred", "transferred_low", "transferred_high"],
    }
    for (label, columns), shift, colour, marker in zip(
        both.items(), (-0.14, 0.14), COLOURS, "o^", strict=False
    ):
        value, low, high = table[columns].to_numpy(float).T
        reach = np.stack([value - low, high - value])
        ax.errorbar(value, y + shift, xerr=reach, fmt=marker, color=colour, capsize=2, label=label)
    for place in np.flatnonzero(table["refused"].fillna("") != ""):
        ax.text(2.7, float(place), "refused", va="center", fontsize=8.5)
    label = "as stated, less the downsampling"
    ax.plot(table["magnification"], y, "D", color="black", mfc="white", ms=8, label=label)
    ax.set_xscale("log", base=2)
    ticks = [2.5, 5, 10, 20, 40, 80]
    ax.set_xticks(ticks, [f"{t:g}X" for t in ticks])
    ax.xaxis.set_minor_locator(mpl.ticker.NullLocator())
    ax.set_yticks(y, table["image"], fontsize=8.5)
    ax.set(xlim=(2.5, 100), ylim=(len(table) - 0.5, -0.5), xlabel="magnification", ylabel="image")
    merged_legend(fig, loc="outside upper center", ncols=3, fontsize=8.5)
    return fig


def cost_table(net: Network, taps: Iterable[str], *, batch_size: int = 32, repeats: int = 5) -> pd.DataFrame:
    """Cost of a network of fixed input size pruned at some taps, one linear output on top; one row per tap.

    ``activations_mib`` are the outputs of all layers for one image in float32, which backpropagation keeps.
    ``forward_ms`` per image is the median pass after one that is not timed, in turn over all taps, so that a busy
    machine slows all of them alike.
    """
    taps = list(taps)
    models = [prune(net, at=tap) for tap in taps]
    batch = np.random.default_rng(0).normal(size=(batch_size, *models[0].input_shape[1:])).astype(np.float32)
    passes = [partial(model.predict_on_batch, batch) for model in models]
    times = np.array([[timeit(one, number=1) for one in passes] for _ in range(repeats + 1)])
    per_image = times[1:] * 1000 / batch_size
    made = [keras.tree.flatten([layer.output for layer in model.layers]) for model in models]
    kept = [4 * sum(int(np.prod(tensor.shape[1:])) for tensor in some) / 2**20 for some in made]
    table = pd.DataFrame({"tap": taps, "parameters": [model.count_params() for model in models]})
    spent = {"forward_ms": np.median(per_image, axis=0), "forward_ms_min": per_image.min(axis=0)}
    return table.assign(weights_mib=4 * table.parameters / 2**20, activations_mib=kept, **spent)
