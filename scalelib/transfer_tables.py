"""Transfer as tables to show: plans, Table 2 in the paper's form, read-outs tap by tap.

Knows tables and plans only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from scalelib.transfer_study import PlannedTransfer
from scalelib.verdicts import span

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
        From :func:`scalelib.transfer_results.table_2`; the target ``area`` is shown.
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
        From :func:`scalelib.slide_tests.compare_rows`.

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
        From :func:`scalelib.readout.read_out_scores`.
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
        From :func:`scalelib.readout.read_out`.
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
