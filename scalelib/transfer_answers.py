"""What the transfer's tables answer, in words.

Knows tables only.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd


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
    ('In n, object scale is read best at b, pixel pitch at a, and tissue at a.', 1, 1)
    """
    words, nearer = [], 0
    for network, part in three.groupby("network", sort=False):
        taps = list(dict.fromkeys(part["tap"]))
        wide = part.pivot(index="curve", columns="tap", values="r2")[taps]
        best = {str(curve).split(" ")[0]: taps.index(wide.loc[curve].idxmax()) for curve in wide.index}
        scale, pitch, tissue = best["object"], best["pixel"], best["magnification"]
        nearer += abs(pitch - tissue) < abs(scale - tissue)
        words.append(
            f"In {network}, object scale is read best at {taps[scale]}, pixel pitch at {taps[pitch]}, "
            f"and tissue at {taps[tissue]}."
        )
    return " ".join(words), int(nearer), len(words)


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
