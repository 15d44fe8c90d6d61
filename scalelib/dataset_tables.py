"""Summaries of the datasets (§3.2): Table 1 beside ours, slides, what was left out, and scale of natural images.

Knows tables of patches and images; reads neither.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import pandas as pd

from scalelib.datasets.splits import SPLITS, count_table
from scalelib.paper_cells import COMPARED, order_kept

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def beside_paper(
    table: pd.DataFrame, paper: str | os.PathLike[str], *, uncapped: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Table 1 beside ours: patches per split and magnification.

    Parameters
    ----------
    table : pandas.DataFrame
        Patches, with ``split`` and ``magnification``.
    paper : path-like
        The file ``table1.csv``: ``split, magnification, patches``, totals included.
    uncapped : pandas.DataFrame, optional
        The patches without a greatest number per slide. Default: `table`.

    Returns
    -------
    pandas.DataFrame
        One row per split and magnification, totals included, in the paper's order: ``split, magnification, paper,
        ours, ours_uncapped`` (counts) and ``paper_share, ours_share, ours_uncapped_share`` (of the split's patches, by
        the counts, not by the printed totals).

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> patches = pd.DataFrame({"split": ["train", "train"], "magnification": [5.0, 10.0]})
    >>> printed = ["train,5X,1", "train,10X,3", "train,total,4", "total,5X,1", "total,10X,3", "total,total,4"]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "table1.csv"
    ...     _ = file.write_text("split,magnification,patches\\n" + "\\n".join(printed))
    ...     beside_paper(patches, file)[["paper_share", "ours_share"]].head(2).to_numpy().tolist()
    [[0.25, 0.5], [0.75, 0.5]]
    """
    found = pd.read_csv(paper)[["split", "magnification", "patches"]].rename(columns={"patches": "paper"})
    for name, patches in (("ours", table), ("ours_uncapped", table if uncapped is None else uncapped)):
        counts = count_table(patches).stack().rename(name).reset_index()
        found = found.merge(counts.set_axis(["split", "magnification", name], axis=1), how="left")
        found[name] = found[name].fillna(0).astype(int)
    single = found["magnification"] != "total"
    for name in ("paper", "ours", "ours_uncapped"):
        sums = found[single].groupby("split")[name].sum()
        share = found[name] / found["split"].map(sums)
        found[f"{name}_share"] = share.where(single, 1.0)
    return found


def table1_form(beside: pd.DataFrame) -> pd.DataFrame:
    """The counts in the form of the paper's Table 1: a row per split and source, a column per magnification.

    Parameters
    ----------
    beside : pandas.DataFrame
        From :func:`beside_paper`.

    Returns
    -------
    pandas.DataFrame
        Index split and ``paper``, ``ours`` and, where a greatest number per slide left some out,
        ``ours, all patches``.
    """
    names = {"paper": "paper", "ours": "ours"}
    if (beside["ours"] != beside["ours_uncapped"]).any():
        names["ours_uncapped"] = "ours, all patches"
    rows = {
        (split, label): part.set_index("magnification")[name]
        for split, part in beside.groupby("split", sort=False)
        for name, label in names.items()
    }
    form = pd.DataFrame(rows).T[list(dict.fromkeys(beside["magnification"]))]
    return form.rename_axis(index=["split", ""], columns=None).astype(int)


def order_of_counts(beside: pd.DataFrame, *, ours: str = "ours_uncapped") -> tuple[int, int]:
    """How many pairs of magnifications stand in the paper's order, split by split.

    Parameters
    ----------
    beside : pandas.DataFrame
        From :func:`beside_paper`.
    ours : {"ours_uncapped", "ours"}, default="ours_uncapped"

    Returns
    -------
    tuple of int
        Pairs in the paper's order, and pairs that the paper orders at all; totals do not count.

    Examples
    --------
    >>> beside = pd.DataFrame({"split": "train", "magnification": ["5X", "8X", "10X"], "paper": [1, 2, 3],
    ...                        "ours_uncapped": [5, 9, 7]})
    >>> order_of_counts(beside)
    (2, 3)
    """
    rows = beside[(beside["split"] != "total") & (beside["magnification"] != "total")]
    found = [
        order_kept(part[["paper"]].assign(ours=part[ours], status=COMPARED))
        for _, part in rows.groupby("split", sort=False)
    ]
    return sum(kept for kept, _ in found), sum(pairs for _, pairs in found)


def slide_table(table: pd.DataFrame) -> pd.DataFrame:
    """What each slide contributes.

    Parameters
    ----------
    table : pandas.DataFrame
        Patches, as :func:`scalelib.datasets.patches.slide_patches` gives them.

    Returns
    -------
    pandas.DataFrame
        One row per slide: ``split, slide, group, mpp`` (micrometres per pixel at the highest magnification),
        ``mpp_stated, patches, nuclei`` (counted in patches, so one may count twice where patches overlap),
        ``mean_um2`` (mean over magnifications of the mean over patches), ``low_um2`` and ``high_um2`` (smallest and
        largest of the magnifications' means).
    """
    rows = []
    for (split, slide), part in table.groupby(["split", "slide"], sort=True):
        means = part.groupby("magnification")["mean_area_um2"].mean()
        rows.append(
            {
                "split": split,
                "slide": slide,
                "group": part["group"].iloc[0],
                "mpp": part["mpp"].min(),
                "mpp_stated": bool(part["mpp_stated"].all()),
                "patches": len(part),
                "nuclei": int(part["n_nuclei"].sum()),
                "mean_um2": means.mean(),
                "low_um2": means.min(),
                "high_um2": means.max(),
            }
        )
    found = pd.DataFrame(rows)
    return found.sort_values("split", key=split_order, kind="stable").reset_index(drop=True)


def split_table(slides: pd.DataFrame) -> pd.DataFrame:
    """Patients, slides, patches and nuclei of each split.

    Parameters
    ----------
    slides : pandas.DataFrame
        From :func:`slide_table`.

    Returns
    -------
    pandas.DataFrame
        Index split; columns ``patients, slides, without_stated_mpp, patches, nuclei``.
    """
    groups = slides.groupby("split", sort=False)
    return pd.DataFrame(
        {
            "patients": groups["group"].nunique(),
            "slides": groups.size(),
            "without_stated_mpp": groups["mpp_stated"].agg(lambda stated: int((~stated).sum())),
            "patches": groups["patches"].sum(),
            "nuclei": groups["nuclei"].sum(),
        }
    )


LEFT_OUT = {
    "background": "patches with too little tissue",
    "no_nuclei": "patches in which no whole nucleus of 3 px or more lies",
    "beyond_max_per_slide": "patches beyond the greatest number per slide and magnification",
    "slides_without_nuclei": "slides without a single labelled patch",
    "outside_slide": "outlines that lie outside their slide",
    "degenerate": "outlines with fewer than three corners or no area",
    "self_crossing": "outlines that cross themselves so that their area is unclear",
    "negative_region": "outlines of holes",
    "not_an_outline": "annotations without an inside",
    "without_mask": "images without a mask",
    "several objects": "images with several objects: their scale is not one number",
    "other class": "images of other classes",
}
"""What the reasons in ``Dataset.excluded`` mean."""


def left_out(excluded: Mapping[str, Mapping[str, int]]) -> pd.DataFrame:
    """What each dataset left out, counted and in words.

    Parameters
    ----------
    excluded : mapping of str to mapping of str to int
        By dataset name, its counts by reason.

    Returns
    -------
    pandas.DataFrame
        Columns ``dataset, reason, meaning, count``; one row with the reason ``nothing`` for a dataset that left
        nothing out.

    Examples
    --------
    >>> left_out({"VOC": {"several objects": 40}, "scenes": {}})[["reason", "count"]].to_numpy().tolist()
    [['several objects', 40], ['nothing', 0]]
    """
    rows = [
        {"dataset": name, "reason": reason, "meaning": LEFT_OUT.get(reason, reason), "count": int(count)}
        for name, counts in excluded.items()
        for reason, count in (counts or {"nothing": 0}).items()
    ]
    return pd.DataFrame(rows)


def scale_counts(table: pd.DataFrame, *, measure: str = "sqrt_area_ratio") -> pd.DataFrame:
    """Images and quantiles of object scale, class by class.

    Parameters
    ----------
    table : pandas.DataFrame
        Images, with ``object_class`` and the measure.
    measure : str, default="sqrt_area_ratio"

    Returns
    -------
    pandas.DataFrame
        One row per class and one ``all``: ``images, q05, q25, q50, q75, q95``.
    """
    parts = [*table.groupby("object_class", sort=True)[measure], ("all", table[measure])]
    rows = [
        {
            "object_class": name,
            "images": len(values),
            **{f"q{100 * q:02.0f}": values.quantile(q) for q in QUANTILES},
        }
        for name, values in parts
    ]
    return pd.DataFrame(rows)


def split_order(column: pd.Series) -> pd.Series:
    """A key for sorting by split, from train to test; other values follow by name.

    Examples
    --------
    >>> pd.Series(["test", "train"]).sort_values(key=split_order).tolist()
    ['train', 'test']
    """
    order = {name: place for place, name in enumerate(SPLITS)}
    return column.map(lambda value: f"{order.get(value, 9)}{value}")
