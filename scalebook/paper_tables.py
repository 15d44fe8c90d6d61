"""The paper's tables cell by cell: the published value, ours with its interval, and whether they agree.

Knows the paper's tables and a study's tables. Our data and networks are others than the paper's, Table 2's brackets are
standard deviations over seeds and Table A1 has none: so order and sign are compared first, and size second.
"""

from __future__ import annotations

import os

import numpy as np
import pandas as pd
from scipy import stats

from scalebook.predicates import NOT_RUN, TARGET
from scalelib.statistics import summarize

COMPARED = "compared"
COLUMNS = [
    *(
        "table",
        "network",
        "tap",
        "condition",
        "unit",
        "paper",
        "paper_low",
        "paper_high",
        "ours",
        "low",
        "high",
    ),
    *("difference", "units", "same_sign", "overlap", "status", "needs"),
]
"""Columns of a table of cells.

``condition`` is what tells a column of the paper's table: weights or measures, a row and score of Table 2, a split of
Table 1. ``paper_low`` and ``paper_high`` are the 95 % interval of the paper's mean, where it prints a spread over a known
number of seeds. ``overlap`` says whether the two intervals overlap or, where the paper prints no spread, whether its value
lies in our interval. ``needs`` says what it would take to run what was not run.
"""
IMAGENET = "ImageNet weights of InceptionV3 and PASCAL VOC: profile paper"
TISSUE = "the BCa nuclei images and a GPU: profile paper"
CONDITIONS = {
    "imagenet": ("imagenet", "true"),
    "random": ("random", "true"),
    "shuffled": ("imagenet", "shuffled"),
}
"""Weights and condition in a study's table behind each column of Table A1."""


def table_a1_cells(
    paper: str | os.PathLike[str],
    table: pd.DataFrame | None = None,
    *,
    estimator: str = "ols",
    measure: str = "area_ratio",
) -> pd.DataFrame:
    """Table A1 cell by cell, as a page shows it: the columns of :func:`a1_cells` that vary within it."""
    cells = a1_cells(paper, table, estimator=estimator, measure=measure)
    return cells.drop(columns=["table", "unit", "paper_low", "paper_high", "needs"])


def a1_cells(
    paper: str | os.PathLike[str],
    table: pd.DataFrame | None = None,
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
    table : pandas.DataFrame, optional
        A study's rows, as :func:`studies.readings.layerwise_by_class` gives them with labels. Default: nothing was run.
    estimator, measure : str, default="ols", "area_ratio"
        The paper's protocol.

    Returns
    -------
    pandas.DataFrame
        One row per cell, with :data:`COLUMNS`. ``status`` is ``"compared"`` or ``"not run"``. For random weights the weight
        seed is the unit of the interval.
    """
    published = pd.read_csv(paper).rename(columns={"r2_test": "paper"})
    ours = _layerwise(published, table, estimator=estimator, measure=measure, value="mean")
    return _beside(published.assign(table="A1", unit="R²", needs=_needs_of(published)), ours)


def figure_cells(
    paper: str | os.PathLike[str],
    table: pd.DataFrame | None = None,
    *,
    estimator: str = "ols",
    measure: str = "area_ratio",
) -> pd.DataFrame:
    """The labelled values of the workshop version's figure, in its units: 1 + log of the mean of exp(R²)/e.

    Parameters
    ----------
    paper : path-like
        The file ``figure_labels.csv``: columns ``network, tap, condition, label``.
    table, estimator, measure
        As for :func:`a1_cells`.

    Returns
    -------
    pandas.DataFrame
        As :func:`a1_cells`; a label has no interval.
    """
    published = pd.read_csv(paper).rename(columns={"label": "paper"})
    ours = _layerwise(published, table, estimator=estimator, measure=measure, value="paper_label")
    cells = published.assign(table="figure", unit="1 + log mean exp(R²)/e", needs=_needs_of(published))
    return _beside(cells, ours)


def table2_cells(paper: str | os.PathLike[str], scores: pd.DataFrame | None = None) -> pd.DataFrame:
    """Table 2 cell by cell: error and kappa, means over seeds with t intervals.

    Parameters
    ----------
    paper : path-like
        The file ``table2.csv``: columns ``network, row, tap, score, unit, mean, sd, seeds``.
    scores : pandas.DataFrame, optional
        From :func:`studies.transfer_scores.score_predictions`; all test patches (slide ``all``) and the target ``area`` count.

    Returns
    -------
    pandas.DataFrame
        As :func:`a1_cells`, with ``condition`` = row and score.
    """
    published = pd.read_csv(paper).rename(columns={"mean": "paper"})
    half = published.sd / np.sqrt(published.seeds) * stats.t.ppf(0.975, published.seeds - 1)
    published = published.assign(
        table="2",
        condition=published.row + ", " + published.score,
        paper_low=published.paper - half,
        paper_high=published.paper + half,
        needs=published.row.map(
            lambda row: TISSUE if row == "scratch" else f"{TISSUE}, with ImageNet weights"
        ),
    )
    return _beside(published, None if scores is None else _transfer(scores))


def table1_cells(paper: str | os.PathLike[str], patches: pd.DataFrame | None = None) -> pd.DataFrame:
    """Table 1 cell by cell: numbers of patches, which only the same images could give.

    Parameters
    ----------
    paper : path-like
        The file ``table1.csv``: columns ``split, magnification, patches``.
    patches : pandas.DataFrame, optional
        From :func:`studies.s01_datasets.beside_paper`: columns ``split, magnification, ours``. Default: nothing was run.

    Returns
    -------
    pandas.DataFrame
        As :func:`a1_cells`, with ``tap`` = magnification and ``condition`` = split. Counts have no interval and no sign, so
        ``overlap`` and ``same_sign`` are missing; on other images than the paper's only their order means something.
    """
    keys = {"magnification": "tap", "split": "condition"}
    published = pd.read_csv(paper).rename(columns={"patches": "paper", **keys})
    needs = "the BCa nuclei images, cut into patches as in the paper: profile paper"
    ours = None
    if patches is not None:
        ours = patches[[*keys, "ours"]].rename(columns=keys)
        ours = ours.assign(network="", ours=ours.ours.astype(float), low=np.nan, high=np.nan, units=np.nan)
    cells = _beside(published.assign(table="1", network="", unit="patches", needs=needs), ours)
    return cells.assign(same_sign=pd.Series(np.nan, cells.index, dtype=object))


def order_kept(cells: pd.DataFrame) -> tuple[int, int]:
    """How many pairs of compared cells stand in the paper's order.

    Parameters
    ----------
    cells : pandas.DataFrame
        Cells of one column of a table.

    Returns
    -------
    tuple of int
        Pairs in the paper's order, and pairs that the paper orders at all.

    Examples
    --------
    >>> order_kept(pd.DataFrame({"paper": [1, 2, 3], "ours": [5.0, 9.0, 7.0], "status": "compared"}))
    (2, 3)
    """
    known = cells[cells.status == COMPARED]
    paper, ours = (
        np.subtract.outer(known[name].to_numpy(), known[name].to_numpy()) for name in ("paper", "ours")
    )
    upper = np.triu(paper != 0, 1)
    return int((np.sign(paper) == np.sign(ours))[upper].sum()), int(upper.sum())


def _layerwise(
    published: pd.DataFrame, table: pd.DataFrame | None, *, estimator: str, measure: str, value: str
) -> pd.DataFrame | None:
    if table is None:
        return None
    rows = table[
        (table.estimator == estimator) & (table.measure == measure) & table.network.isin(published.network)
    ]
    parts = []
    for condition, (weights, shuffled) in CONDITIONS.items():
        part = rows[(rows.weights == weights) & (rows.condition == shuffled)]
        if len(part):
            unit = "weights_seed" if weights == "random" else "repeat"
            summary = summarize(part, by=["network", "tap"], unit=unit)
            parts.append(summary.assign(condition=condition, ours=summary[value]))
    if not parts:
        return None
    ours = pd.concat(parts, ignore_index=True)
    if value != "mean":  # the interval is that of the mean R²
        ours[["low", "high"]] = np.nan
    return ours[["network", "tap", "condition", "ours", "low", "high", "units"]]


def _transfer(scores: pd.DataFrame) -> pd.DataFrame | None:
    rows = scores[(scores.slide == "all") & (scores.target == TARGET)]
    records = []
    for (network, row, tap), part in rows.groupby(["network", "row", "tap"], sort=False):
        for score in ("mae_px", "kappa"):
            mean, n = part[score].mean(), part[score].count()
            half = part[score].std(ddof=1) / np.sqrt(n) * stats.t.ppf(0.975, n - 1) if n > 1 else np.nan
            record = {
                "network": network,
                "tap": tap,
                "condition": f"{row}, {score}",
                "ours": mean,
                "units": n,
            }
            records.append(record | {"low": mean - half, "high": mean + half})
    return pd.DataFrame(records) if records else None


def _beside(published: pd.DataFrame, ours: pd.DataFrame | None) -> pd.DataFrame:
    keys = ["network", "tap", "condition"]
    if ours is None:
        ours = pd.DataFrame(columns=[*keys, "ours", "low", "high", "units"])
        ours = ours.astype(dict.fromkeys(("ours", "low", "high", "units"), float))
    cells = published.merge(ours, on=keys, how="left")
    for name in ("paper_low", "paper_high"):
        cells[name] = cells.get(name, np.nan)
    run = cells.ours.notna()
    low, high = (cells[name].fillna(cells.paper) for name in ("paper_low", "paper_high"))
    known = cells.low.notna() & cells.high.notna()
    return cells.assign(
        difference=cells.ours - cells.paper,
        same_sign=(np.sign(cells.ours) == np.sign(cells.paper)).where(run),
        overlap=((cells.low <= high) & (low <= cells.high)).where(known),
        status=run.map({True: COMPARED, False: NOT_RUN}),
        needs=cells.needs.where(~run, ""),
    )[COLUMNS]


def _needs_of(published: pd.DataFrame) -> pd.Series:
    random = "profile compact or paper: InceptionV3 with random weights on PASCAL VOC"
    return published.condition.map({"random": random}).fillna(IMAGENET)
