"""Notebook 05, the page: tables in the paper's form, what they answer in words, and figures. Computes no score and trains nothing; it times what pruning saves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from timeit import timeit
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from sklearn.metrics import r2_score

from scalebook.exact_tests import subset_interval
from scalebook.predicates import MOST_KEPT, span
from scalelib.graph import keras
from scalelib.networks import Network
from scalelib.plotting import COLOURS, WIDTH, merged_legend
from scalelib.pruning import prune
from studies.s05_runs import PlannedTransfer, kept

Read = Callable[[str], pd.DataFrame]

# Rows of Table 2 in words, and how they are drawn.
ROW_NAMES = {"pretrained": "full, pretrained", "scratch": "full, from scratch", "pruned": "pruned"}
CUT_TOO = {**ROW_NAMES, "cut": "cut elsewhere"}
ROW_COLOURS = dict(zip(ROW_NAMES.values(), (COLOURS[0], COLOURS[5], COLOURS[1]), strict=True))
ROW_MARKERS = dict(zip(ROW_NAMES.values(), "os^", strict=True))
MARK: dict[str, Any] = {"mec": "black", "mew": 0.7, "ls": ""}
PROFILES = {"compact": "", "control": "control (rendered)"}  # of key figures; how their networks are called
LINES = ("-", "--", ":")
SCORE_NAMES = {"mae_px": "mean absolute error (px)", "kappa": "Cohen's kappa"}


def plan_table(plans: Iterable[PlannedTransfer]) -> pd.DataFrame:
    """What is trained, as it was fixed beforehand: one row per network."""
    return pd.DataFrame(
        {
            "network": plan.network.label,
            "full_tap": plan.network.full_tap,
            "pruned_tap": plan.network.pruned_tap,
            "rows": ", ".join(f"{row} × {len(seeds)}" for row, seeds in plan.rows.items()),
            "targets": ", ".join(plan.targets),
            "learning_rate": plan.rates[0] if len(plan.rates) == 1 else ", ".join(map(str, plan.rates)),
        }
        for plan in plans
        if plan.rows
    )


def as_published(table: pd.DataFrame, paper: pd.DataFrame) -> pd.DataFrame:
    """Our Table 2, target ``area``, below the paper's in its form: mean (standard deviation over seeds)."""
    theirs = paper.pivot(index=["network", "row", "tap", "seeds"], columns="score", values=["mean", "sd"])
    theirs.columns = pd.Index([f"{score}_sd" if kind == "sd" else score for kind, score in theirs.columns])
    theirs = theirs.reset_index().assign(source="paper")
    both = pd.concat([theirs, table[table["target"] == "area"].assign(source="ours")], ignore_index=True)
    ranks = {name: str(place) for place, name in enumerate(["paper", "ours", *ROW_NAMES])}
    both = both.sort_values(["source", "network", "row"], key=lambda names: names.replace(ranks))
    both["row"] = both["row"].map(CUT_TOO)
    both["kept"] = both["kept"].map("{:.0%}".format, na_action="ignore").fillna("")
    form = {"error (px)": ("mae_px", 2), "kappa": ("kappa", 3)}
    for name, (score, digits) in form.items():
        mean, spread = both[score], both[f"{score}_sd"]
        beside = spread.map(f" ({{:.{digits}f}})".format, na_action="ignore").fillna("")
        both[name] = mean.map(f"{{:.{digits}f}}".format) + beside
    return both[["source", "network", "row", "tap", "kept", *form]].reset_index(drop=True)


def comparison_form(compared: pd.DataFrame) -> pd.DataFrame:
    """Comparisons of rows, from :func:`scalebook.exact_tests.compare_rows`, as a page shows them."""
    differences = compared[["difference", "low", "high"]].itertuples(index=False)
    slides = compared[["slides_above_zero", "n_slides"]].astype(str)
    return pd.DataFrame(
        {
            "network": compared["network"],
            "score": compared["score"].replace("mae_px", "error (px)"),
            "row": compared["first"].replace(ROW_NAMES),
            "minus": compared["second"].replace(ROW_NAMES),
            "difference (95 %)": [span(*found) for found in differences],
            "p, Holm": compared["p_holm"],
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


def answers(compared: pd.DataFrame, runs: pd.DataFrame) -> dict[str, str | float]:
    """What the page says in words, by the key under which it is glued."""
    pruned = kept(runs)[runs["row"] == "pruned"].groupby(runs["network"], sort=False).first()
    return {
        "kept": _listed(f"{100 * pruned[name]:.0f} % of {name}" for name in compared["network"].unique()),
        "training_hours": float(runs["seconds"].sum()) / 3600,
        "late": float((~runs["converged"]).sum()),
        "n_runs": float(len(runs)),
    }


def _listed(words: Iterable[str]) -> str:
    *most, last = [*words] or [""]
    return " and ".join([", ".join(most), last] if most else [last])


def no_better_than_mean(table_2: pd.DataFrame, mean_error: float) -> str:
    """Rows of Table 2 whose error, averaged over seeds, is not below that of predicting the training mean, in words."""
    rows = table_2[table_2["target"] == "area"]
    weak = rows[rows["mae_px"] >= mean_error]
    named = _listed(weak["network"] + " (" + weak["row"].map(CUT_TOO) + ", " + weak["tap"] + ")") or "none"
    return f"No better than predicting the mean area of the training patches: {named}, of {len(rows)} rows."


# Figures


def learning_curves(history: pd.DataFrame) -> Figure:
    """Validation error in px by epoch: every run thin, the epoch of its smallest loss marked."""
    groups = history.replace({"row": ROW_NAMES}).groupby("network", sort=False)
    size = (WIDTH, 0.7 + 1.65 * len(groups))
    fig, axes = plt.subplots(len(groups), 3, figsize=size, sharex=True, sharey="row", squeeze=False)
    for panels, (network, own) in zip(axes, groups, strict=True):
        for row, part in own[own["row"].isin(ROW_COLOURS)].groupby("row", sort=False):
            ax, colour = panels[[*ROW_COLOURS].index(row)], ROW_COLOURS[row]
            best = part.loc[part.groupby("seed")["val_loss"].idxmin()]
            sns.lineplot(
                part, x="epoch", y="val_mae", units="seed", estimator=None, color=colour, lw=0.8, alpha=0.6, ax=ax
            )  # fmt: skip
            ax.plot(best["epoch"], best["val_mae"], marker=ROW_MARKERS[row], color=colour, ms=5, **MARK)
        errors = own["val_mae"]
        panels[0].set_ylim(0.8 * errors.min(), min(errors.max(), 2.2 * errors.median()))
        panels[0].set_ylabel(f"{network}\nerror (px)", fontsize=8.5)
    for ax, row in zip(axes[0], ROW_COLOURS, strict=True):
        ax.set_title(row, fontsize=9)
    for ax in axes.flat:
        ax.axis("on" if ax.lines else "off")
    return fig


def table_2_beside_paper(read: Read, *, narrow: bool) -> Figure:
    """Table 2, ours beside the paper's, and what predicting the mean would do."""
    scores, taps = (read(f"compact/05_histopathology_transfer/{name}") for name in ("transfer", "readout"))
    whole = scores[(scores["target"] == "area") & (scores["slide"] == "all")]
    taps = taps[(taps["tap"] == "mean") & (taps["split"] == "test") & (taps["slide"] == "all")]
    paper = pd.read_csv(Path(__file__).parents[2] / "paper/table2.csv")
    return rows_of_table_2(whole, paper, mean_error=taps["mae_px"].max(), narrow=narrow)


def rows_of_table_2(
    scores: pd.DataFrame, paper: pd.DataFrame, *, mean_error: float, narrow: bool = False
) -> Figure:
    """Error and kappa of each row, target ``area``: a small dot per seed, the mean large; the paper's networks beside."""
    paper = paper.assign(network=paper["network"] + "\n(paper)")
    scores, paper = (t[t["row"].isin([*ROW_NAMES])].replace({"row": ROW_NAMES}) for t in (scores, paper))
    theirs, ours = paper["network"].unique(), scores["network"].unique()
    size, text = ((3.73, 5.6), 7.5) if narrow else ((8.23, 3.4), 9)
    fig, axes = plt.subplots(1 + narrow, 2 - narrow, figsize=size, sharex=narrow)
    look: dict[str, Any] = {"x": "network", "order": [*theirs, *ours], "hue": "row", "palette": ROW_COLOURS}
    look |= {"hue_order": list(ROW_COLOURS), "legend": False}
    for ax, (score, name) in zip(axes, SCORE_NAMES.items(), strict=True):
        sns.stripplot(scores, y=score, dodge=True, jitter=False, alpha=0.45, size=3, ax=ax, **look)
        for shift, (row, colour) in zip((-4 / 15, 0, 4 / 15), ROW_COLOURS.items(), strict=True):
            cell = paper[(paper["row"] == row) & (paper["score"] == score)].set_index("network").loc[theirs]
            means = scores[scores["row"] == row].groupby("network")[score].mean().reindex(ours)
            own = {"fmt": ROW_MARKERS[row], "color": colour, "ms": 6}
            ax.errorbar(
                np.arange(len(theirs)) + shift, cell["mean"], cell["sd"], mfc="none", capsize=2, **own
            )
            ax.errorbar(np.arange(len(ours)) + len(theirs) + shift, means, label=row, **own)
        ax.tick_params(axis="x", rotation=35, labelsize=text)
        ax.set(xlabel="", ylim=(0, 1 if score == "kappa" else 1.1 * max(mean_error, scores[score].max())))
        ax.set_ylabel(name, fontsize=text)
        ax.axvline(len(theirs) - 0.5, color="0.5", lw=0.8)
    start, end, name = len(theirs) - 0.5, len(theirs) + len(ours) - 0.5, "predicting the training mean"
    axes[0].hlines(mean_error, start, end, ls=":", color="0.5", lw=1.5, label=name, zorder=1)
    merged_legend(fig, loc="outside upper center", ncols=2 if narrow else 4, fontsize=text)
    return fig


def pruning_by_slide(read: Read, *, narrow: bool) -> Figure:
    """What the cut does to the error on each test slide, and how much of each network it is a test of."""
    parts = []
    for profile, label in PROFILES.items():
        scores = read(f"{profile}/05_histopathology_transfer/transfer")
        parts.append(scores.assign(network=label or scores["network"]))
    return slide_differences(pd.concat(parts), other="pretrained", narrow=narrow)


def slide_differences(scores: pd.DataFrame, *, other: str, narrow: bool = False) -> Figure:
    """Error of the pruned network minus that of another row on each test slide, seeds averaged, and the exact interval of
    their mean: one panel a network, under the share of its parameters that the cut keeps."""
    rows = scores[(scores["slide"] != "all") & (scores["target"] == "area")]
    errors = rows.pivot_table(index=["network", "slide"], columns="row", values="mae_px")
    shares = rows[rows["row"] == "pruned"].groupby("network", sort=False)["kept"].first()
    shares = shares.iloc[np.argsort(shares.index.isin([*PROFILES.values()]) + shares, kind="stable")]
    size = (3.73, 5.4) if narrow else (8.23, 3.5)
    fig, axes = plt.subplots(2 if narrow else 1, -(-len(shares) // (1 + narrow)), figsize=size, sharey=True)
    for ax, (network, share) in zip(np.ravel(axes), shares.items(), strict=False):
        own = errors.loc[str(network)]
        found = np.sort((own["pruned"] - own[other]).to_numpy())
        low, high = subset_interval(found)
        colour = "0.5" if share >= MOST_KEPT else COLOURS[1]
        ax.vlines(range(len(found)), 0, found, color=colour, lw=1)
        ax.plot(found, "o", color=colour, ms=5)
        reach = [[found.mean() - low], [high - found.mean()]]
        ax.errorbar(len(found) + 1, found.mean(), reach, fmt="D", color=colour, capsize=3, ms=7)
        ax.axhline(0, color=mpl.rcParams["text.color"], lw=0.9)
        ax.set(xticks=[(len(found) - 1) / 2, len(found) + 1], xticklabels=["slides", "mean"])
        ax.set_xlim(-1, len(found) + 2)
        ax.grid(axis="x", visible=False)
        title = f"{network}\n{share:.0%} kept" + (": no test" if share >= MOST_KEPT else "")
        ax.set_title(title, fontsize=7.5 if narrow else 9.5, pad=12)
        bar = ax.inset_axes((0, 1.02, 1, 0.035), xlim=(0, 1))
        bar.barh([0, 0], [share, 1 - share], left=[0, share], color=[colour, "none"], ec=colour, lw=0.8)
        bar.set_axis_off()
    for ax in np.ravel(axes)[len(shares) :]:
        ax.remove()
    fig.supylabel(f"error (px): pruned minus {ROW_NAMES[other]}", fontsize=8 if narrow else 9.5)
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


def cuts_by_depth(read: Read, *, narrow: bool) -> Figure:
    """Where networks are best cut: what training ends at after a cut, beside what their frozen layers read."""
    names = "readout", "readout_random", "transfer", "three_curves"
    taps, *others = (read(f"compact/05_histopathology_transfer/{name}") for name in names)
    trained = others[1].loc[others[1]["target"] == "area", "network"]
    return along_layers(taps[taps["network"].isin(trained)], *others, narrow=narrow)


def along_layers(
    readout: pd.DataFrame,
    random: pd.DataFrame,
    runs: pd.DataFrame,
    curves: pd.DataFrame,
    *,
    narrow: bool = False,
) -> Figure:
    """Error and kappa from the area of nuclei, of frozen networks read linearly at every tap and of what a cut there
    leaves, trained (a dot per seed, the mean large); the R² of :func:`three_curves`; and the rule's tap."""
    columns = {"mae_px": "error (px)", "kappa": "kappa", "r2": "R²"}
    columns = {score: name for score, name in columns.items() if not narrow or score != "kappa"}
    tables = [t[(t["target"] == "area") & (t["slide"] == "all")] for t in (readout, random, runs)]
    frozen = [t[(t["split"] == "test") & (t["tap"] != "mean")] for t in tables[:2]]
    networks, text = frozen[0]["network"].unique(), 7.5 if narrow else 9.5
    size = 3.73 if narrow else 8.23, 0.9 + 1.5 * len(networks)
    look: dict[str, Any] = {"figsize": size, "squeeze": False}
    fig, axes = plt.subplots(len(networks), len(columns), sharex=True, sharey="col", **look)
    for line, network in zip(axes, networks, strict=True):
        known, untrained, own, r2 = (t[t["network"] == network] for t in (*frozen, tables[2], curves))
        depth = pd.Series(np.linspace(0, 1, len(known)), known["tap"])
        own = own[own["row"] != "scratch"]
        places = own["tap"].map(depth).fillna(depth.get("pre_softmax", 1.0))
        for ax, score in zip(line, columns, strict=True):
            for tap in known.loc[known["scale_chosen"], "tap"]:
                ax.axvline(depth[tap], color="0.6", lw=5, alpha=0.4, label="the rule's layer")
            if score == "r2":
                for (label, part), colour, ls in zip(
                    r2.groupby("curve", sort=False), COLOURS[2:], LINES, strict=False
                ):
                    ax.plot(part["tap"].map(depth), part["r2"], ls, color=colour, label=label)
                continue
            ax.plot(depth, known[score], color=COLOURS[0], label="area, frozen network")
            ends = np.linspace(0, 1, len(untrained))
            ax.plot(ends, untrained[score], ":", color="0.5", label="area, frozen random weights")
            ax.plot(places, own[score], "o", color=COLOURS[1], ms=3, alpha=0.5)
            means = own[score].groupby(places).mean()
            ax.plot(means, "o", color=COLOURS[1], ms=7, label="area, trained and cut there", **MARK)
        line[0].set_ylabel(network, fontsize=text)
    for ax, name in zip(axes[0], columns.values(), strict=True):
        ax.set_title(name, fontsize=text)
    errors = tables[2]["mae_px"]  # few layers are worse than 200 px
    axes[0, 0].set_ylim(min(50, 0.8 * errors.min()), max(200, 1.1 * errors.max()))
    axes[0, -1].set_ylim(-0.1, 1)
    fig.supxlabel("relative depth of the layer (0 first, 1 last)", fontsize=text)
    merged_legend(fig, loc="outside upper center", ncols=2 if narrow else 4, fontsize=text)
    return fig


def where_tissue_is_read(read: Read, *, narrow: bool) -> Figure:
    """How deep in each frozen network object scale is read best in photographs, and what is asked of tissue; the latter's
    layers are chosen on validation slides."""
    found, text = dict[str, list[float]](), 7.5 if narrow else 9.5
    for profile, label in PROFILES.items():
        scores, best = (read(f"{profile}/05_histopathology_transfer/readout{n}") for n in ("", "_answers"))
        for network, answers in best.set_index("target").groupby("network", sort=False):
            taps = [tap for tap in scores.loc[scores["network"] == network, "tap"].unique() if tap != "mean"]
            chosen = [answers["scale_tap"].iloc[0], *answers["best_tap"].loc[["area", "log2_magnification"]]]
            found[label or str(network)] = [taps.index(tap) / (len(taps) - 1) for tap in chosen]
    fig, ax = plt.subplots(figsize=(3.73, 4.6) if narrow else (8.23, 4.4))
    depths, places = np.array([*found.values()]), np.arange(len(found))
    ax.hlines(places, depths.min(axis=1), depths.max(axis=1), color="0.6", lw=1.5, zorder=1)
    kinds = "object scale, in photographs", "area of nuclei", "magnification"
    for column, kind, colour, marker in zip(depths.T, kinds, COLOURS, "o^s", strict=False):
        ax.plot(column, places, marker, color=colour, ms=9, label=kind, alpha=0.8, **MARK)
    ax.set_yticks(places, list(found), fontsize=text)
    ax.set(xlim=(-0.03, 1.03), ylim=(len(found) - 0.5, -0.5))
    ax.set_xlabel("relative depth of the best layer (0 first, 1 last)", fontsize=text)
    merged_legend(fig, loc="outside upper center", ncols=1 if narrow else 3, fontsize=text)
    return fig


def magnification_of_unseen(read: Read, *, narrow: bool) -> Figure:
    """What is said of images that no network was trained on, at known reductions: slides, and the rendered one."""
    both = (read(f"{profile}/05_histopathology_transfer/unseen") for profile in PROFILES)
    ours, control = (table[table["tap"] == table["tap"].iloc[0]] for table in both)
    control = control.replace({"photograph": "rendered scene"})  # the control has no photographs
    return estimates(pd.concat([ours, control], ignore_index=True), narrow=narrow)


def estimates(table: pd.DataFrame, *, narrow: bool = False) -> Figure:
    """Estimated against known or stated magnification, with intervals; refused images say so."""
    width, text = (3.73, 7.5) if narrow else (8.23, 9.5)
    fig, ax = plt.subplots(figsize=(width, 1.1 + 0.36 * len(table)))
    y = np.arange(len(table))
    both = {"linear read-out": ["estimate", "low", "high"]}
    both["transferred network"] = ["transferred", "transferred_low", "transferred_high"]
    for (label, columns), shift, colour, marker in zip(
        both.items(), (-0.16, 0.16), COLOURS, "o^", strict=False
    ):
        value, low, high = table[columns].to_numpy(float).T
        reach = np.stack([value - low, high - value])
        ax.errorbar(value, y + shift, xerr=reach, fmt=marker, color=colour, capsize=2, label=label)
    for place in np.flatnonzero(table["refused"].fillna("") != ""):
        ax.text(2.7, float(place), "refused", va="center", fontsize=text)
    label = "stated, divided by the reduction"
    ax.plot(table["magnification"], y, "D", color=mpl.rcParams["text.color"], mfc="none", ms=8, label=label)
    ax.set_xscale("log", base=2)
    ticks = [2.5, 5, 10, 20, 40, 80]
    ax.set_xticks(ticks, [f"{t:g}X" for t in ticks], fontsize=text)
    ax.xaxis.set_minor_locator(mpl.ticker.NullLocator())
    names = table["image"].str.replace(r"(\d) times smaller", r"÷ \1", regex=True)
    ax.set_yticks(y, names, fontsize=text)
    ax.set(xlim=(2.5, 100), ylim=(len(table) - 0.5, -0.5))
    ax.set_xlabel("magnification", fontsize=text)
    merged_legend(fig, loc="outside upper center", ncols=1 if narrow else 3, fontsize=text)
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
