"""The numbers that the layer-wise notebook's prose quotes, taken from its table. Knows tables only."""

from __future__ import annotations

from typing import Any

import pandas as pd

from scalelib.statistics import compare_taps, summarize
from scalelib.tap_choice import OUTPUT_TAPS


def answer(table: pd.DataFrame, *, weights: str, network: str | None = None) -> dict[str, Any]:
    """The numbers of the plain-words answer: where the peak is, and what stands before and after it.

    Parameters
    ----------
    table : pandas.DataFrame
        The study's table.
    weights : str
        Label of the trained weights.
    network : str, optional
        Default: the last one in the table with these weights.

    Returns
    -------
    dict
        Plain floats and strings, ready to be glued: ``network``, ``peak_tap``, ``peak_r2``, ``peak_low``, ``peak_high``,
        ``first_tap``, ``first_r2``, ``last_tap`` (the last feature tap), ``last_r2``, ``end_tap``, ``end_r2`` (the logits
        where there are any, else the last feature tap), ``drop``, ``drop_low``, ``drop_high`` (peak minus end, paired),
        ``drop_words``, ``random_r2`` (best tap with random weights), ``shuffled_r2`` (best tap with shuffled measures).
    """
    rows = table[(table.estimator == "ridge") & (table.measure == "sqrt_area_ratio")]
    trained = rows[(rows.weights == weights) & (rows.condition == "true")]
    network = network or str(trained.network.iloc[-1])
    trained = trained[trained.network == network]
    summary = summarize(trained, by=["tap"]).set_index("tap")
    features = [tap for tap in summary.index if tap not in OUTPUT_TAPS]
    peak = str(summary.loc[features, "mean"].idxmax())
    end = "pre_softmax" if "pre_softmax" in summary.index else features[-1]
    others = {
        "random_r2": rows[
            (rows.weights == "random") & (rows.network == network) & (rows.condition == "true")
        ],
        "shuffled_r2": rows[
            (rows.weights == weights) & (rows.network == network) & (rows.condition == "shuffled")
        ],
    }
    best = {
        key: float(part.groupby("tap").r2_test.mean().max()) if len(part) else float("nan")
        for key, part in others.items()
    }
    if end == peak:
        drop = {"drop": 0.0, "drop_low": 0.0, "drop_high": 0.0, "drop_words": "which is its last tap"}
    else:
        difference = compare_taps(trained, peak, end, by=[]).iloc[0]
        words = "significantly" if difference.low > 0 else "not significantly"
        drop = {
            "drop": float(difference.mean_difference),
            "drop_low": float(difference.low),
            "drop_high": float(difference.high),
            "drop_words": f"{words} below the peak",
        }
    return {
        "network": network,
        "peak_tap": peak,
        "peak_r2": float(summary.loc[peak, "mean"]),
        "peak_low": float(summary.loc[peak, "low"]),
        "peak_high": float(summary.loc[peak, "high"]),
        "first_tap": features[0],
        "first_r2": float(summary.loc[features[0], "mean"]),
        "last_tap": features[-1],
        "last_r2": float(summary.loc[features[-1], "mean"]),
        "end_tap": end,
        "end_r2": float(summary.loc[end, "mean"]),
        **drop,
        **best,
    }
