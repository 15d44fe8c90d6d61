"""The numbers that the noise notebook's prose quotes, taken from its summary. Knows tables only."""

from __future__ import annotations

import pandas as pd


def noise_answers(summary: pd.DataFrame, *, network: str, weights: str) -> dict[str, float | str]:
    """Numbers and words of section 4.2 for one network, by ridge.

    Parameters
    ----------
    summary : pandas.DataFrame
        From :func:`scalelib.noise_study.summarize_noise`.
    network, weights : str
        The trained network that the prose is about; random weights of the same network stand beside it.

    Returns
    -------
    dict of str to (float or str)
        Plain values, by the name under which the prose glues them.
    """
    rows = summary[(summary.network == network) & (summary.estimator == "ridge")]
    blob = rows[(rows.kind == "blob") & (rows.region == "whole map")]
    true = blob[blob.condition == "true"]
    values: dict[str, float | str] = {"answer_network": f"{network} ({weights})"}
    for word, measure in (("length", "correlation_length"), ("canvas", "canvas_size")):
        for ending, of in (("", weights), ("_random", "random")):
            curve = true[(true.measure == measure) & (true.weights == of)].set_index("tap")["mean"]
            values[f"{word}_best{ending}"] = float(curve.max())
            values[f"{word}_best_tap{ending}"] = str(curve.idxmax())
    curve = _features(true, "correlation_length", weights)
    best, last = float(curve.max()), float(curve.iloc[-1])
    values |= {"length_last": last, "last_tap": str(curve.index[-1])}
    values["length_change"] = "falls" if best - last > 0.02 else "hardly changes"
    shuffled = blob[(blob.condition == "shuffled") & (blob.weights == weights)]
    values["shuffled_best"] = float(shuffled["mean"].max())
    return values | _borders(rows, weights) | _kinds(rows, weights)


def _features(table: pd.DataFrame, measure: str, weights: str) -> pd.Series:
    """Mean R² by tap, probabilities left out."""
    rows = table[(table.measure == measure) & (table.weights == weights) & (table.tap != "softmax")]
    return rows.set_index("tap")["mean"]


def _borders(rows: pd.DataFrame, weights: str) -> dict[str, float | str]:
    """The last tap with border-free positions, with and without its borders."""
    blob = rows[(rows.kind == "blob") & (rows.condition == "true")]
    inner = _features(blob[blob.region == "border-free"], "canvas_size", weights)
    whole = _features(blob[blob.region == "whole map"], "canvas_size", weights)
    tap = str(inner.index[-1])
    return {"inner_tap": tap, "inner_whole": float(whole[tap]), "inner_free": float(inner[tap])}


def _kinds(rows: pd.DataFrame, weights: str) -> dict[str, float | str]:
    true = rows[(rows.condition == "true") & (rows.region == "whole map")]
    return {
        f"kind_{kind}": float(_features(part, "canvas_size", weights).max())
        for kind, part in true.groupby("kind", sort=False)
    }
