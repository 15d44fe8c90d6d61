"""Transfer as tables to show: plans, Table 2 in the paper's form, read-outs tap by tap. What the transfer's tables answer, in words. Figures of the transfer to histopathology (§4.4). Draws tables of scores; computes none of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from scalebook.predicates import span
from scalelib.plotting import COLOURS, WIDTH, tap_axis
from studies.s05_runs import PlannedTransfer

ROW_NAMES = {"pretrained": "full, pretrained", "scratch": "full, from scratch", "pruned": "pruned"}
"""Rows of Table 2 in words."""


def plan_table(plans: Iterable[PlannedTransfer]) -> pd.DataFrame:
    """What is trained, as it was fixed beforehand.

    Parameters
    ----------
    plans : iterable of PlannedTransfer

    Returns
    -------
    pandas.DataFrame
        One row per network: ``network, full_tap, pruned_tap, seeds, targets, epochs, patience, learning_rate``.
    """
    return pd.DataFrame(
        {
            "network": plan.network.label,
            "full_tap": plan.network.full_tap,
            "pruned_tap": plan.network.pruned_tap,
            "seeds": len(plan.seeds),
            "targets": ", ".join(plan.targets),
            "epochs": plan.schedule.epochs,
            "patience": plan.schedule.patience,
            "learning_rate": plan.schedule.learning_rate,
        }
        for plan in plans
    )


def as_published(table: pd.DataFrame, paper: pd.DataFrame) -> pd.DataFrame:
    """Table 2 in the paper's form, its rows above ours.

    Parameters
    ----------
    table : pandas.DataFrame
        From :func:`studies.s05_runs.table_2`; the target ``area`` is shown.
    paper : pandas.DataFrame
        ``network, row, tap, score, mean, sd, seeds``, scores ``mae_px`` and ``kappa``.

    Returns
    -------
    pandas.DataFrame
        Columns ``source, network, row, tap, error (px), kappa``, ``balanced kappa`` (every magnification
        with the same weight), ``error (µm²), seeds, converged``; values as ``mean (standard deviation over
        seeds)``; ``converged`` counts seeds. What the paper does not give is empty.

    Examples
    --------
    >>> paper = pd.DataFrame({"network": "n", "row": "pruned", "tap": "t", "score": ["mae_px", "kappa"],
    ...                       "mean": [54.93, 0.571], "sd": [4.32, 0.05], "seeds": 10})
    >>> ours = pd.DataFrame({"network": ["m"], "row": "scratch", "tap": "u", "target": "area", "seeds": 2,
    ...     "converged": 2, "mae_px": 60.0, "mae_px_sd": 1.0, "kappa": 0.5, "kappa_sd": float("nan"),
    ...     "kappa_balanced": 0.5, "kappa_balanced_sd": 0.1, "mae_um2": 9.0, "mae_um2_sd": 1.0})
    >>> as_published(ours, paper)["kappa"].tolist()
    ['0.571 (0.050)', '0.500']
    """
    wide = paper.pivot(index=["network", "row", "tap", "seeds"], columns="score", values=["mean", "sd"])
    theirs = pd.DataFrame(
        {
            "mae_px": wide["mean", "mae_px"],
            "mae_px_sd": wide["sd", "mae_px"],
            "kappa": wide["mean", "kappa"],
            "kappa_sd": wide["sd", "kappa"],
        }
    ).reset_index()
    ours = table[table["target"] == "area"]
    both = pd.concat(
        [theirs.assign(source="paper", converged=""), ours.assign(source="ours")], ignore_index=True
    )
    ranks = pd.DataFrame(
        {
            "source": both["source"].map({"paper": 0, "ours": 1}),
            "network": both["network"],
            "row": both["row"].map({row: place for place, row in enumerate(ROW_NAMES)}),
        }
    )
    both = both.loc[ranks.sort_values(["source", "network", "row"]).index]
    return pd.DataFrame(
        {
            "source": both["source"],
            "network": both["network"],
            "row": both["row"].map(ROW_NAMES),
            "tap": both["tap"],
            "error (px)": _with_spread(both["mae_px"], both["mae_px_sd"], 2),
            "kappa": _with_spread(both["kappa"], both["kappa_sd"], 3),
            "balanced kappa": _with_spread(both["kappa_balanced"], both["kappa_balanced_sd"], 3),
            "error (µm²)": _with_spread(both["mae_um2"], both["mae_um2_sd"], 1),
            "seeds": both["seeds"],
            "converged": both["converged"],
        }
    ).reset_index(drop=True)


def comparison_form(compared: pd.DataFrame) -> pd.DataFrame:
    """Comparisons of rows as a page shows them.

    Parameters
    ----------
    compared : pandas.DataFrame
        From :func:`scalelib.statistics.compare_rows`.

    Returns
    -------
    pandas.DataFrame
        ``network, score, pruned minus``, ``difference (95 %)`` with its interval in words, ``p, Holm``, ``p`` and
        ``slides above zero``.

    Examples
    --------
    >>> compared = pd.DataFrame({"network": ["n"], "score": "kappa", "second": "scratch", "difference": -0.1, "low": -0.2,
    ...     "high": 0.05, "slides_above_zero": 3, "n_slides": 10, "p": 0.04, "p_holm": 0.08})
    >>> comparison_form(compared).iloc[0, [0, 1, 2, 3, 6]].tolist()
    ['n', 'kappa', 'full, from scratch', '−0.10 (−0.20 to 0.05)', '3 of 10']
    """
    return pd.DataFrame(
        {
            "network": compared["network"],
            "score": compared["score"].replace("mae_px", "error (px)"),
            "pruned minus": compared["second"].map(ROW_NAMES),
            "difference (95 %)": [
                span(*found) for found in compared[["difference", "low", "high"]].itertuples(index=False)
            ],
            "p, Holm": compared["p_holm"],
            "p": compared["p"],
            "slides above zero": [
                f"{above} of {n}"
                for above, n in zip(compared["slides_above_zero"], compared["n_slides"], strict=True)
            ],
        }
    )


def mark_scale_choice(scores: pd.DataFrame, chosen: Mapping[str, str]) -> pd.DataFrame:
    """Mark the tap that scale R² on natural images chose.

    Parameters
    ----------
    scores : pandas.DataFrame
        From :func:`studies.s05_runs.read_out_scores`.
    chosen : mapping of str to str
        Network → tap.

    Returns
    -------
    pandas.DataFrame
        With the column ``scale_chosen``.

    Examples
    --------
    >>> table = pd.DataFrame({"network": "n", "tap": ["a", "b"]})
    >>> mark_scale_choice(table, {"n": "b"}).scale_chosen.tolist()
    [False, True]
    """
    return scores.assign(scale_chosen=scores["tap"] == scores["network"].map(chosen))


def read_out_answers(scores: pd.DataFrame) -> pd.DataFrame:
    """Per network and target: the tap that validation chose, the tap that scale R² chose, and the last tap, on test.

    Parameters
    ----------
    scores : pandas.DataFrame
        From :func:`mark_scale_choice`.

    Returns
    -------
    pandas.DataFrame
        One row per network and target: ``score`` (its name), ``mean_predictor``; ``best_tap``, ``scale_tap``,
        ``last_tap`` with their scores ``best``, ``scale``, ``last``; ``taps_apart`` between best and scale.
    """
    rows = []
    shown = scores[(scores["slide"] == "all") & (scores["split"] == "test")]
    for (network, target), part in shown.groupby(["network", "target"], sort=False):
        name = "mae_px" if target == "area" else "kappa"
        values = part.set_index("tap")[name]
        taps = [tap for tap in values.index if tap != "mean"]
        best = part.loc[part["chosen"], "tap"].iloc[0]
        scale = part.loc[part["scale_chosen"], "tap"]
        at = scale.iloc[0] if len(scale) else ""
        rows.append(
            {
                "network": network,
                "target": target,
                "score": name,
                "mean_predictor": values["mean"],
                "best_tap": best,
                "best": values[best],
                "scale_tap": at,
                "scale": values.get(at, np.nan),
                "last_tap": taps[-1],
                "last": values[taps[-1]],
                "taps_apart": abs(taps.index(best) - taps.index(at)) if at else np.nan,
            }
        )
    return pd.DataFrame(rows)


def held_out_r2(
    predictions: pd.DataFrame, *, by: Sequence[str] = ("network", "target", "tap")
) -> pd.DataFrame:
    """R² on test patches.

    Parameters
    ----------
    predictions : pandas.DataFrame
        From :func:`studies.s05_runs.read_out`.
    by : sequence of str, default=("network", "target", "tap")

    Returns
    -------
    pandas.DataFrame
        The columns `by` and ``r2``.

    Examples
    --------
    >>> rows = pd.DataFrame({"network": "n", "target": "log2_magnification", "tap": "t", "split": "test",
    ...                      "magnification": [4.0, 8.0], "mean_area_px": 1.0, "predicted": [2.0, 3.0]})
    >>> held_out_r2(rows).r2.item()
    1.0
    """
    test = predictions[predictions["split"] == "test"]
    true = np.where(test["target"] == "area", test["mean_area_px"], np.log2(test["magnification"]))
    test = test.assign(true=true, error=(true - test["predicted"]) ** 2)
    groups = test.groupby(list(by), sort=False)
    spread = groups["true"].var(ddof=0) * groups.size()
    return (1 - groups["error"].sum() / spread).rename("r2").reset_index()


def three_curves(object_scale: pd.DataFrame, pitch: pd.DataFrame, tissue: pd.DataFrame) -> pd.DataFrame:
    """Where object scale, the pixel pitch of images and the magnification of tissue are read, tap by tap.

    Parameters
    ----------
    object_scale : pandas.DataFrame
        The table ``curves`` of the layer-wise notebook, of trained weights: ``network, tap, curve, mean``; shuffled
        measures are passed over.
    pitch : pandas.DataFrame
        ``network, tap, r2_test``, several repeats a tap.
    tissue : pandas.DataFrame
        From :func:`held_out_r2`; the target ``log2_magnification`` counts.

    Returns
    -------
    pandas.DataFrame
        ``network, tap, curve, r2``, taps that all three read.
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
    """Taps whose cost is shown: the first of each quarter of the network, the pruned one and the last map.

    Parameters
    ----------
    pruned_tap : str
    taps : sequence of str
        In the network's order.

    Returns
    -------
    list of str

    Examples
    --------
    >>> cost_taps("c", ["a", "b", "c", "d", "softmax"])
    ['b', 'c', 'd']
    """
    maps = [tap for tap in taps if tap not in {"pre_softmax", "softmax"}]
    wanted = {maps[len(maps) // 3], maps[2 * len(maps) // 3], maps[-1], pruned_tap}
    return [tap for tap in maps if tap in wanted]


def _with_spread(mean: pd.Series, spread: pd.Series, digits: int) -> list[str]:
    def shown(m: Any, s: Any) -> str:
        if pd.isna(m):
            return ""
        return f"{m:.{digits}f}" + ("" if pd.isna(s) else f" ({s:.{digits}f})")

    return [shown(m, s) for m, s in zip(mean, spread, strict=True)]


def transfer_answer(compared: pd.DataFrame, *, score: str, first: str, second: str) -> str:
    """One comparison of two rows in words, over networks.

    Parameters
    ----------
    compared : pandas.DataFrame
        From :func:`scalelib.statistics.compare_rows`, of one target.
    score : {"mae_px", "kappa"}
    first, second : str

    Returns
    -------
    str

    Examples
    --------
    >>> compared = pd.DataFrame({"network": ["n"], "score": "kappa", "first": "pruned", "second": "scratch",
    ...                          "difference": 0.1, "p_holm": 0.01})
    >>> transfer_answer(compared, score="kappa", first="pruned", second="scratch")
    'better for n'
    """
    sign = -1 if score.startswith("mae") else 1
    rows = compared[
        (compared["score"] == score) & (compared["first"] == first) & (compared["second"] == second)
    ]
    gains = np.where(rows["p_holm"] >= 0.05, 0, np.sign(rows["difference"] * sign))
    words = []
    for outcome, word in ((1, "better"), (-1, "worse"), (0, "not significantly different")):
        if networks := [str(n) for n, gain in zip(rows["network"], gains, strict=True) if gain == outcome]:
            words.append(f"{word} for {_listed(networks)}")
    return "; ".join(words)


def parameters_kept(runs: pd.DataFrame) -> str:
    """How much of each network is left after the cut, in words.

    Parameters
    ----------
    runs : pandas.DataFrame
        One row per run: ``network, row, parameters``.

    Returns
    -------
    str

    Examples
    --------
    >>> parameters_kept(pd.DataFrame({"network": "n", "row": ["pretrained", "pruned"], "parameters": [200, 50]}))
    '25 % of n'
    """
    wide = runs.pivot_table(index="network", columns="row", values="parameters", sort=False)
    share = 100 * wide["pruned"] / wide["pretrained"]
    return _listed([f"{value:.0f} % of {network}" for network, value in share.items()])


def _listed(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def nearest_to_tissue(three: pd.DataFrame) -> tuple[str, int, int]:
    """Best taps of the three curves in words, and in how many networks pixel pitch explains the best tap for tissue.

    Parameters
    ----------
    three : pandas.DataFrame
        From :func:`three_curves`.

    Returns
    -------
    words : str
        The best taps, network by network.
    nearer : int
        Networks whose best tap for pixel pitch lies nearer to the one for tissue than the one for object scale does.
    networks : int

    Examples
    --------
    >>> names = ["object scale in images", "pixel pitch of images", "magnification of tissue"]
    >>> three = pd.DataFrame({"network": "n", "tap": ["a", "b"] * 3, "curve": np.repeat(names, 2),
    ...                       "r2": [0.1, 0.9, 0.8, 0.2, 0.7, 0.6]})
    >>> nearest_to_tissue(three)
    ('In n, object scale is read best at b (R² 0.90), pixel pitch at a (0.80), and tissue at a (0.70).', 1, 1)
    """
    words, nearer = [], 0
    for network, part in three.groupby("network", sort=False):
        taps = list(dict.fromkeys(part["tap"]))
        wide = part.pivot(index="curve", columns="tap", values="r2")[taps]
        best = {str(curve).split(" ")[0]: taps.index(wide.loc[curve].idxmax()) for curve in wide.index}
        top = {str(curve).split(" ")[0]: wide.loc[curve].max() for curve in wide.index}
        scale, pitch, tissue = best["object"], best["pixel"], best["magnification"]
        nearer += abs(pitch - tissue) < abs(scale - tissue)
        words.append(
            f"In {network}, object scale is read best at {taps[scale]} (R² {top['object']:.2f}), pixel pitch at "
            f"{taps[pitch]} ({top['pixel']:.2f}), and tissue at {taps[tissue]} ({top['magnification']:.2f})."
        )
    return " ".join(words), int(nearer), len(words)


def no_better_than_mean(table_2: pd.DataFrame, mean_error: float) -> str:
    """Rows of Table 2 whose error, averaged over seeds, is not below that of predicting the training mean.

    Parameters
    ----------
    table_2 : pandas.DataFrame
        From :func:`studies.s05_runs.table_2`; the target ``area`` counts.
    mean_error : float
        From :func:`studies.transfer_scores.mean_prediction_error`.

    Returns
    -------
    str
        One sentence.

    Examples
    --------
    >>> table = pd.DataFrame({"network": "n", "row": ["pretrained", "pruned"], "target": "area", "mae_px": [90.0, 80.0]})
    >>> no_better_than_mean(table, 85.0)
    'Of the 2 rows, 1 is no better than predicting the mean area of the training patches: n (full, pretrained).'
    """
    rows = table_2[table_2["target"] == "area"]
    weak = rows[rows["mae_px"] >= mean_error]
    if weak.empty:
        return f"All {len(rows)} rows are better than predicting the mean area of the training patches."
    named = [
        f"{network} ({ROW_NAMES[row]})" for network, row in zip(weak["network"], weak["row"], strict=True)
    ]
    return (
        f"Of the {len(rows)} rows, {len(weak)} {'is' if len(weak) == 1 else 'are'} no better than predicting the mean "
        f"area of the training patches: {_listed(named)}."
    )


def frozen_beside_trained(table_2: pd.DataFrame, read_out: pd.DataFrame) -> str:
    """Error of a linear read-out of frozen features beside that of the same network trained whole, in words.

    Parameters
    ----------
    table_2 : pandas.DataFrame
        From :func:`studies.s05_runs.table_2`.
    read_out : pandas.DataFrame
        From :func:`studies.s05_transfer.read_out_answers`.

    Returns
    -------
    str
        One sentence per network.

    Examples
    --------
    >>> table = pd.DataFrame({"network": ["n"], "row": "pretrained", "target": "area", "mae_px": [90.4]})
    >>> best = pd.DataFrame({"network": ["n"], "target": "area", "best_tap": "t", "best": [80.6]})
    >>> frozen_beside_trained(table, best)
    'In n, frozen features at t have an error of 81 px, and training all weights one of 90 px.'
    """
    trained = table_2[(table_2["target"] == "area") & (table_2["row"] == "pretrained")].set_index("network")
    rows = read_out[read_out["target"] == "area"]
    return " ".join(
        f"In {row.network}, frozen features at {row.best_tap} have an error of {row.best:.0f} px, and training all "
        f"weights one of {trained.mae_px[row.network]:.0f} px."
        for row in rows.itertuples()
    )


def answers(compared: pd.DataFrame, three: pd.DataFrame, runs: pd.DataFrame) -> dict[str, str | float]:
    """What the page says in words, by the key under which it is glued.

    Parameters
    ----------
    compared : pandas.DataFrame
        From :func:`scalelib.statistics.compare_rows`, target ``area``.
    three : pandas.DataFrame
        From :func:`three_curves`.
    runs : pandas.DataFrame
        One row per run: ``network, row, parameters, converged, seconds``.

    Returns
    -------
    dict of str to str or float
    """
    found: dict[str, str | float] = {
        f"{score.split('_')[0]}_{other}": transfer_answer(compared, score=score, first="pruned", second=other)
        for score in ("mae_px", "kappa")
        for other in ("pretrained", "scratch")
    }
    better = compared["difference"] * np.where(compared["score"] == "mae_px", -1, 1) > 0
    holds = (better & (compared["p_holm"] < 0.05) & (compared["second"] == "pretrained")).groupby(
        compared["network"]
    )
    both = [str(network) for network, flags in holds if flags.sum() == 2]
    networks = compared["network"].nunique()
    found["headline"] = (
        "The paper's claim, that pruning improves both over the full network, holds here for "
        f"{_listed(both) if both else 'none'} of the {networks} networks."
        if networks > 1
        else f"The paper's claim, that pruning improves both over the full network, {'holds' if both else 'does not hold'} here."
    )
    words, nearer, of = nearest_to_tissue(three)
    found["why"] = (
        f"{words} In {nearer} of {of} the best tap for pixel pitch lies nearer to the best one for tissue than the best "
        "tap for object scale does."
    )
    found["kept"] = parameters_kept(runs)
    found["training_hours"] = float(runs["seconds"].sum()) / 3600
    found["late"], found["n_runs"] = float((~runs["converged"]).sum()), float(len(runs))
    return found


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
        Title → counts, rows true, columns named; see :func:`studies.transfer_scores.confusion`.

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
        From :func:`studies.s05_transfer.mark_scale_choice`, trained weights.
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
