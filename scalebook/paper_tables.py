"""The paper's tables cell by cell: the published value, ours with its interval, and whether they agree.

Knows the paper's tables and a study's tables. Our data and networks are others than the paper's, Table 2's brackets are
standard deviations over seeds and Table A1 has none: so order and sign are compared first, and size second.
"""

from __future__ import annotations

import os

import numpy as np
import pandas as pd
from scipy import stats

from scalebook.claims import NOT_RUN
from scalebook.predicates import CURVES, TARGET
from scalelib.statistics import summarize

COMPARED = "compared"
KEYS = ["network", "tap", "condition"]
OURS = ["ours", "low", "high", "units"]
# Columns of a table of cells.
# ``condition`` is what tells a column of the paper's table: weights or measures, a row and score of Table 2, a split of
# Table 1. ``paper_low`` and ``paper_high`` are the 95 % interval of the paper's mean, where it prints a spread over a known
# number of seeds. ``overlap`` says whether the two intervals overlap or, where the paper prints no spread, whether its value
# lies in our interval. ``needs`` says what it would take to run what was not run.
COLUMNS = [
    *("table", *KEYS, "unit", "paper", "paper_low", "paper_high", "ours", "low", "high"),
    *("difference", "units", "same_sign", "overlap", "status", "needs"),
]
IMAGENET = "ImageNet weights of InceptionV3 and PASCAL VOC: profile paper"
RANDOM = "profile compact or paper: InceptionV3 with random weights on PASCAL VOC"
TISSUE = "the BCa nuclei images and a GPU: profile paper"
File = str | os.PathLike[str]


def table_a1_cells(paper: File, table: pd.DataFrame | None = None) -> pd.DataFrame:
    """Table A1 cell by cell, as a page shows it: the columns of :func:`a1_cells` that vary within it, and what is missing."""
    cells = a1_cells(paper, table)
    cells["status"] += (" (" + cells.needs + ")").where(cells.needs != "", "")
    return cells.drop(columns=["table", "unit", "paper_low", "paper_high", "needs"])


def a1_cells(paper: File, table: pd.DataFrame | None = None) -> pd.DataFrame:
    """Table A1 (``table_a1.csv``): the paper's test R² beside ours by its protocol, least squares on the area ratio.

    `table` holds a study's rows of R² by class, None where nothing was run, as for all tables here.
    """
    published = pd.read_csv(paper).rename(columns={"r2_test": "paper"})
    ours = None if table is None else _layerwise(published, table).rename(columns={"mean": "ours"})
    ends = {} if ours is None else "weights end at " + ours.groupby("condition").tap.last()
    whole = table is None or not table.weights.str.contains(", to ").any()
    needs = published.condition.map({} if whole else dict(ends)).astype(object)
    return _beside(published.assign(table="A1", unit="R²", needs=needs.fillna(_needs(published))), ours)


def figure_cells(paper: File, table: pd.DataFrame | None = None) -> pd.DataFrame:
    """The labelled values of the workshop version's figure (``figure_labels.csv``), in its units; they have no interval."""
    published = pd.read_csv(paper).rename(columns={"label": "paper"})
    cells = published.assign(table="figure", unit="1 + log mean exp(R²)/e", needs=_needs(published))
    ours = None if table is None else _layerwise(published, table).assign(low=np.nan, high=np.nan)
    return _beside(cells, None if ours is None else ours.assign(ours=ours.paper_label))


def table2_cells(paper: File, scores: pd.DataFrame | None = None) -> pd.DataFrame:
    """Table 2 (``table2.csv``): error and kappa over all test patches, means over seeds with t intervals."""
    published = pd.read_csv(paper).rename(columns={"mean": "paper"})
    half = _half(published.sd, published.seeds)
    published = published.assign(
        table="2",
        condition=published.row + ", " + published.score,
        paper_low=published.paper - half,
        paper_high=published.paper + half,
        needs=TISSUE + np.where(published.row == "scratch", "", ", with ImageNet weights"),
    )
    if scores is None:
        return _beside(published, None)
    rows = scores[(scores.slide == "all") & (scores.target == TARGET)]
    by = ["network", "row", "tap", "score"]
    long = rows.melt(by[:3], ["mae_px", "kappa"], "score").groupby(by, sort=False).value
    ours = long.agg(ours="mean", sd="std", units="count").reset_index()
    half, condition = _half(ours.sd, ours.units), ours.row + ", " + ours.score
    return _beside(published, ours.assign(condition=condition, low=ours.ours - half, high=ours.ours + half))


def _half(sd: pd.Series, n: pd.Series) -> pd.Series:
    return sd / np.sqrt(n) * stats.t.ppf(0.975, n - 1)


def table1_cells(paper: File, patches: pd.DataFrame | None = None) -> pd.DataFrame:
    """Table 1 (``table1.csv``): numbers of patches, with ``tap`` = magnification and ``condition`` = split.

    Counts have no interval and no sign; on other images than the paper's only their order means something.
    """
    names = {"magnification": "tap", "split": "condition"}
    published = pd.read_csv(paper).rename(columns={"patches": "paper", **names})
    needs = "the BCa nuclei images, cut into patches as in the paper: profile paper"
    ours = None if patches is None else patches.rename(columns=names).assign(network="")
    cells = _beside(published.assign(table="1", network="", unit="patches", needs=needs), ours)
    return cells.assign(same_sign=pd.Series(np.nan, cells.index, dtype=object))


def order_kept(cells: pd.DataFrame) -> tuple[int, int]:
    """How many pairs of compared cells of a column stand in the paper's order, and how many the paper orders at all."""
    known = cells[cells.status == COMPARED]
    paper, ours = (np.subtract.outer(known[n].to_numpy(), known[n].to_numpy()) for n in ("paper", "ours"))
    upper = np.triu(paper != 0, 1)
    return int((np.sign(paper) == np.sign(ours))[upper].sum()), int(upper.sum())


def _needs(published: pd.DataFrame) -> pd.Series:
    return published.condition.map({"random": RANDOM}).fillna(IMAGENET)


def _layerwise(published: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    protocol = table[(table.estimator == "ols") & (table.measure == "area_ratio")]
    rows = protocol[protocol.network.isin(published.network)]
    parts = [pd.DataFrame(columns=[*KEYS, "mean", "low", "high", "units", "paper_label"])]
    for condition, (_, own, unit) in CURVES.items():
        labels = {"weights": "imagenet", "condition": "true", **own}
        part = rows[rows.weights.str.startswith(labels["weights"]) & (rows.condition == labels["condition"])]
        if len(part):
            parts.append(summarize(part, by=["network", "tap"], unit=unit).assign(condition=condition))
    return pd.concat(parts[1:] or parts, ignore_index=True)


def _beside(published: pd.DataFrame, ours: pd.DataFrame | None) -> pd.DataFrame:
    ours = (pd.DataFrame(columns=KEYS) if ours is None else ours).reindex(columns=[*KEYS, *OURS])
    cells = published.merge(ours.astype(dict.fromkeys(OURS, float)), on=KEYS, how="left")
    cells = cells.assign(**{name: np.nan for name in ("paper_low", "paper_high") if name not in cells})
    low, high = cells.paper_low.fillna(cells.paper), cells.paper_high.fillna(cells.paper)
    run = cells.ours.notna()
    return cells.assign(
        difference=cells.ours - cells.paper,
        same_sign=(np.sign(cells.ours) == np.sign(cells.paper)).where(run),
        overlap=((cells.low <= high) & (low <= cells.high)).where(cells.low.notna() & cells.high.notna()),
        status=run.map({True: COMPARED, False: NOT_RUN}),
        needs=cells.needs.where(~run, ""),
    )[COLUMNS]
