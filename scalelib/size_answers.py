"""The numbers that the resizing notebook's prose quotes, taken from its tables. Knows tables only."""

from __future__ import annotations

from typing import Any

import pandas as pd


def size_answers(
    predictions: pd.DataFrame,
    cosine: pd.DataFrame,
    variance: pd.DataFrame,
    sampling: pd.DataFrame,
    *,
    network: str,
    weights: str,
    boxed: str,
    within: tuple[float, float] = (0.75, 1.5),
) -> dict[str, Any]:
    """Numbers and words of section 4.1 for one network.

    Parameters
    ----------
    predictions, cosine, variance : pandas.DataFrame
        From :func:`scalelib.size_study.size_tables`, with ``network`` and ``weights``.
    sampling : pandas.DataFrame
        From :func:`scalelib.size_study.sampling_table`, with ``network`` and ``weights``.
    network, weights : str
        The network that the prose is about.
    boxed : str
        The pictures with boxes; resizing is quoted over all pictures.
    within : tuple of float, default=(0.75, 1.5)
        Range of factors in which predictions are said to stay.

    Returns
    -------
    dict of str to (float or str)
        Plain values, by the name under which the prose glues them.
    """
    mine = predictions[(predictions.network == network) & (predictions.weights == weights)]
    on_boxed = mine[mine.pictures == boxed]
    resized = _mean(mine, "resize")
    low = float(resized[(resized.index >= within[0]) & (resized.index <= within[1])].min())
    numbers = {
        "resize_low": low,
        "resize_quarter": resized[0.25],
        "resize_half": resized[0.5],
        "resize_double": resized[2.0],
        "detail_half": _mean(mine, "detail")[0.5],
        "share_half": _mean(on_boxed, "share")[0.5],
        "share_double": _mean(on_boxed, "share")[2.0],
        "canvas_double": _mean(on_boxed, "canvas")[2.0],
        "padded_half": _mean(on_boxed, "share", "padded")[0.5],
        **_features(cosine, variance, network, weights, boxed),
        **_sampling(sampling[(sampling.network == network) & (sampling.weights == weights)]),
    }
    words = {
        "answer_network": f"{network} ({weights})",
        "verdict": "holds" if low >= 0.5 else "does not hold",
        "others_sentence": _others(predictions, network, weights, boxed),
    }
    return {
        key: value if isinstance(value, str) else float(value) for key, value in (numbers | words).items()
    }


def _mean(table: pd.DataFrame, manipulation: str, score: str = "agreement") -> pd.Series:
    """By factor, over pictures, every picture with equal weight."""
    rows = table[table.manipulation == manipulation]
    return (rows[score] * rows.n).groupby(rows.factor).sum() / rows.n.groupby(rows.factor).sum()


def _features(
    cosine: pd.DataFrame, variance: pd.DataFrame, network: str, weights: str, boxed: str
) -> dict[str, Any]:
    def mine(table: pd.DataFrame, manipulation: str) -> pd.DataFrame:
        chosen = (table.network == network) & (table.weights == weights) & (table.pictures == boxed)
        return table[chosen & (table.manipulation == manipulation) & (table.tap != "softmax")]

    values: dict[str, Any] = {}
    for name in ("share", "resize"):
        by_tap = mine(variance, name).set_index("tap").variance_explained
        values |= {f"{name}_variance_peak": by_tap.max(), f"{name}_variance_tap": str(by_tap.idxmax())}
        values |= {f"{name}_variance_last": by_tap.iloc[-1], "last_tap": str(by_tap.index[-1])}
    halved = mine(cosine, "resize")
    halved = halved[halved.factor == 0.5].cosine
    return values | {"cosine_first": halved.iloc[0], "cosine_last": halved.iloc[-1]}


def _sampling(table: pd.DataFrame) -> dict[str, float]:
    bilinear = table[table.interpolation == "bilinear"]
    values = {}
    for word, rows in (("on", bilinear[bilinear.antialias]), ("off", bilinear[~bilinear.antialias])):
        values[f"alias_{word}"] = rows[rows.factor == 0.5].agreement.mean()
        values[f"pixel_{word}"] = 1 - rows[rows.change_px == 1].agreement.mean()
    return values


def _others(predictions: pd.DataFrame, network: str, weights: str, boxed: str) -> str:
    sentences = []
    for (other, its_weights), rows in predictions.groupby(["network", "weights"], sort=False):
        if (other, its_weights) != (network, weights):
            resized = _mean(rows, "resize")[0.5]
            share = _mean(rows[rows.pictures == boxed], "share")[0.5]
            sentences.append(f"{other} ({its_weights}): {resized:.0%} and {share:.0%}")
    if not sentences:
        return "No other network was asked"
    return "The same for halving the image and for halving the share, in " + "; ".join(sentences)
