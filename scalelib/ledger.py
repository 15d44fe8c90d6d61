"""The paper's numbers beside ours, cell by cell.

Knows the paper's tables and a study's tables; neither networks nor images.
"""

from __future__ import annotations

import os

import pandas as pd

from scalelib.statistics import summarize

NOT_RUN = "not run"


def table_a1_cells(
    paper: str | os.PathLike[str],
    table: pd.DataFrame,
    *,
    estimator: str = "ols",
    measure: str = "area_ratio",
) -> pd.DataFrame:
    """Table A1 cell by cell: the paper's test R², ours, its interval and the difference.

    Parameters
    ----------
    paper : path-like
        The file ``table_a1.csv``: columns ``network, tap, condition, r2_test, sd``, with conditions ``imagenet``,
        ``random`` (weights) and ``shuffled`` (measures, with ImageNet weights).
    table : pandas.DataFrame
        A study's rows, as :func:`scalelib.study.layerwise_by_class` gives them with labels.
    estimator, measure : str, default="ols", "area_ratio"
        The paper's protocol.

    Returns
    -------
    pandas.DataFrame
        One row per cell: ``network, tap, condition, paper, ours, low, high, difference, units, status``. ``status`` is
        ``"compared"`` or ``"not run"``. For random weights the weight seed is the unit of the interval.
    """
    published = pd.read_csv(paper).rename(columns={"r2_test": "paper"})
    keys = ["network", "tap", "condition"]
    rows = table[
        (table.estimator == estimator) & (table.measure == measure) & table.network.isin(published.network)
    ]
    parts = []
    for condition, (weights, shuffled) in {
        "imagenet": ("imagenet", "true"),
        "random": ("random", "true"),
        "shuffled": ("imagenet", "shuffled"),
    }.items():
        part = rows[(rows.weights == weights) & (rows.condition == shuffled)]
        if len(part):
            unit = "weights_seed" if weights == "random" else "repeat"
            summary = summarize(part, by=["network", "tap"], unit=unit)
            parts.append(summary.assign(condition=condition))
    columns = [*keys, "mean", "low", "high", "units"]
    ours = pd.concat(parts)[columns] if parts else pd.DataFrame(columns=columns).astype({"mean": float})
    cells = published[[*keys, "paper"]].merge(ours, on=keys, how="left").rename(columns={"mean": "ours"})
    cells.insert(6, "difference", cells.ours - cells.paper)
    cells["status"] = cells.ours.notna().map({True: "compared", False: NOT_RUN})
    return cells
