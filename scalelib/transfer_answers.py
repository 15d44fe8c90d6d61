"""What the transfer's tables answer, in words.

Knows tables only.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from scalelib.transfer_tables import ROW_NAMES


def transfer_answer(compared: pd.DataFrame, *, score: str, first: str, second: str) -> str:
    """One comparison of two rows in words, over networks.

    Parameters
    ----------
    compared : pandas.DataFrame
        From :func:`scalelib.slide_tests.compare_rows`, of one target.
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
        From :func:`scalelib.transfer_results.table_2`; the target ``area`` counts.
    mean_error : float
        From :func:`scalelib.transfer_scores.mean_prediction_error`.

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
        From :func:`scalelib.transfer_results.table_2`.
    read_out : pandas.DataFrame
        From :func:`scalelib.transfer_tables.read_out_answers`.

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
        From :func:`scalelib.slide_tests.compare_rows`, target ``area``.
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
