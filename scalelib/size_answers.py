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
    whole: str,
    windows: str,
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
    whole, windows : str
        The pictures whose features are quoted. Predictions under resizing are quoted over all whole images.
    within : tuple of float, default=(0.75, 1.5)
        Range of factors in which predictions are said to stay.

    Returns
    -------
    dict of str to (float or str)
        Plain values, by the name under which the prose glues them.
    """
    mine = predictions[(predictions.network == network) & (predictions.weights == weights)]
    resized = _mean(mine, "resize")
    low = float(resized[(resized.index >= within[0]) & (resized.index <= within[1])].min())
    numbers = {
        "resize_low": low,
        "resize_quarter": resized[0.25],
        "resize_half": resized[0.5],
        "resize_double": resized[2.0],
        "detail_half": _mean(mine, "detail")[0.5],
        "zoom_half": _mean(mine, "zoom")[0.5],
        "zoom_double": _mean(mine, "zoom")[2.0],
        "share_half": _mean(mine, "share")[0.5],
        "share_double": _mean(mine, "share")[2.0],
        "canvas_half": _mean(mine, "canvas")[0.5],
        "canvas_double": _mean(mine, "canvas")[2.0],
        "padded_half": _mean(mine, "share", "padded")[0.5],
        **_features(cosine, variance, network, weights, whole, windows),
        **_sampling(sampling[(sampling.network == network) & (sampling.weights == weights)]),
    }
    words = {
        "answer_network": f"{network} ({weights})",
        "verdict": "holds" if low >= 0.5 else "does not hold",
        "others_sentence": _others(predictions, network, weights),
        "rendered_sentence": _rendered(mine, variance, network, weights),
    }
    return {
        key: value if isinstance(value, str) else float(value) for key, value in (numbers | words).items()
    }


def _mean(table: pd.DataFrame, manipulation: str, score: str = "agreement") -> pd.Series:
    """By factor, over pictures, every picture with equal weight."""
    rows = table[table.manipulation == manipulation]
    return (rows[score] * rows.n).groupby(rows.factor).sum() / rows.n.groupby(rows.factor).sum()


def _features(
    cosine: pd.DataFrame, variance: pd.DataFrame, network: str, weights: str, whole: str, windows: str
) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, pictures in (("share", windows), ("canvas", windows), ("resize", whole)):
        by_tap = _by_tap(variance, name, network, weights, pictures).variance_explained
        values |= {f"{name}_variance_peak": by_tap.max(), f"{name}_variance_tap": str(by_tap.idxmax())}
        values |= {f"{name}_variance_last": by_tap.iloc[-1], "last_tap": str(by_tap.index[-1])}
    resized = _by_tap(cosine, "resize", network, weights, whole)
    halved = resized[resized.factor == 0.5].cosine
    return values | {"cosine_first": halved.iloc[0], "cosine_last": halved.iloc[-1]}


def _by_tap(
    table: pd.DataFrame, manipulation: str, network: str, weights: str, pictures: str | None = None
) -> pd.DataFrame:
    """The rows of one manipulation by tap, probabilities left out."""
    chosen = (table.network == network) & (table.weights == weights) & (table.manipulation == manipulation)
    if pictures is not None:
        chosen &= table.pictures == pictures
    return table[chosen & (table.tap != "softmax")].set_index("tap")


def _sampling(table: pd.DataFrame) -> dict[str, float]:
    bilinear = table[table.interpolation == "bilinear"]
    values = {}
    for word, rows in (("on", bilinear[bilinear.antialias]), ("off", bilinear[~bilinear.antialias])):
        values[f"alias_{word}"] = rows[rows.factor == 0.5].agreement.mean()
        values[f"pixel_{word}"] = 1 - rows[rows.change_px == 1].agreement.mean()
    return values


def _others(predictions: pd.DataFrame, network: str, weights: str) -> str:
    sentences = []
    for (other, its_weights), rows in predictions.groupby(["network", "weights"], sort=False):
        if (other, its_weights) != (network, weights):
            resized, share = _mean(rows, "resize")[0.5], _mean(rows, "share")[0.5]
            sentences.append(f"{other} ({its_weights}) keeps {resized:.0%} and {share:.0%}")
    if not sentences:
        return "No other network was asked"
    return "When the image, or the share, is halved, " + "; ".join(sentences)


def _rendered(mine: pd.DataFrame, variance: pd.DataFrame, network: str, weights: str) -> str:
    kept = _mean(mine, "rendered")
    if kept.empty:
        return "A photograph cannot be rendered anew, so that its surroundings change with the object's share"
    by_tap = _by_tap(variance, "rendered", network, weights).variance_explained
    return (
        "Where the scene is rendered anew and the object's scale alone changes, "
        f"{kept[0.5]:.0%} and {kept[2.0]:.0%} of the labels stay when it is halved and doubled, and scale "
        f"explains {by_tap.max():.2f} of the variance at {by_tap.idxmax()} and {by_tap.iloc[-1]:.2f} at "
        f"{by_tap.index[-1]}"
    )
