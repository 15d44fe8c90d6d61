"""Mean nucleus area of a patch by several rules: which nuclei count, and how an area is measured. The nuclei of a patch as outlines, to be drawn over it and measured anew. Summaries of the datasets (§3.2): Table 1 beside ours, slides, what was left out, and scale of natural images. Nucleus areas of patches, summarised: by magnification, split and slide, by class means, and by rule (§3.2, §3.5). Figures of the datasets (§3.2): counts, nucleus areas, slides, rules. Draws tables; computes none. Patches with their nuclei outlined (§3.2). Draws regions; reads no slide."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from contourpy import contour_generator
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, NullFormatter
from scipy import stats

from scalebook.paper_tables import COMPARED, order_kept
from scalelib.errors import DataError
from scalelib.plotting import COLOURS, MARKERS, WIDTH, colour_of, legend_below
from scalelib.slides.nuclei import (
    MIN_AREA,
    Outlines,
    areas_in_mask,
    covered,
    foreground,
    outlines,
    read_outlines,
)
from scalelib.slides.patches import SPLITS, PatchImages, areas_in_patch, count_table
from scalelib.slides.slide import Slide, area_mean, from_file
from studies.transfer_scores import agreement, class_means, nearest_magnification

RULES = {
    "clear": "nuclei wholly inside (the paper's rule)",
    "clip": "also the parts of cut nuclei",
    "centre": "nuclei whose centre is inside, with their whole area",
    "mask": "nuclei wholly inside, in a mask (the paper's way)",
    "pixels": "nuclei wholly inside, pixels of each counted",
}
"""What each rule counts. ``centre`` prefers neither small nor large nuclei; the others are compared with it."""

_SAMPLES = 8


def areas_by_rule(
    nuclei: Outlines, x: float, y: float, size: int, *, factor: float, min_area: float = MIN_AREA
) -> dict[str, np.ndarray]:
    """Areas of the nuclei of one patch by each rule.

    Parameters
    ----------
    nuclei : Outlines
        In level-0 pixels.
    x, y : float
        Upper left corner of the patch, level-0 pixels.
    size : int
        Side of the patch in its own pixels.
    factor : float
        Level-0 pixels per pixel of the patch.
    min_area : float, default=3
        Smaller nuclei are left out, in pixels of the patch; not by ``centre``.

    Returns
    -------
    dict of str to ndarray of shape (n_nuclei,), float64
        Keys of `RULES`; areas in pixels of the patch. ``mask``: all nuclei are drawn into one mask at level 0,
        which is area-resampled and measured as in section 3.2 of the paper, so that nuclei that touch count as
        one. ``pixels``: each nucleus by itself, the pixels of which it covers at least half.

    Examples
    --------
    >>> from scalelib.slides.nuclei import outlines
    >>> touching = outlines([[(2, 2), (6, 2), (6, 6), (2, 6)], [(6, 2), (10, 2), (10, 6), (6, 6)]])
    >>> found = areas_by_rule(touching, 0, 0, 12, factor=1.0)
    >>> found["clear"].tolist(), found["pixels"].tolist(), found["mask"].tolist()
    ([16.0, 16.0], [16.0, 16.0], [32.0])
    """
    corner, end = np.array([x, y]), np.array([x, y]) + size * factor
    middle = (nuclei.boxes[:, :2] + nuclei.boxes[:, 2:]) / 2
    centred = ((middle >= corner) & (middle < end)).all(axis=1)
    whole = np.flatnonzero(nuclei.against_box(corner, end)[0])
    counted = np.array([_pixels((nuclei.polygons[i] - corner) / factor) for i in whole], np.float64)
    return {
        **{
            border: areas_in_patch(nuclei, x, y, size, factor=factor, border=border, min_area=min_area)
            for border in ("clear", "clip")
        },
        "centre": nuclei.areas[centred] / factor**2,
        "mask": areas_in_mask(_mask(nuclei, corner, end, size), min_area=min_area),
        "pixels": counted[counted >= min_area],
    }


def _pixels(vertices: np.ndarray) -> int:
    """Pixels of which a polygon covers at least half, from 8 × 8 sample points in each."""
    first, last = np.floor(vertices.min(axis=0)), np.ceil(vertices.max(axis=0))
    width, height = (last - first).astype(int)
    x, y = (
        start + (np.arange(count * _SAMPLES) + 0.5) / _SAMPLES
        for start, count in zip(first, (width, height), strict=True)
    )
    inside = covered(vertices, x, y).reshape(height, _SAMPLES, width, _SAMPLES)
    return int((inside.mean(axis=(1, 3)) >= 0.5).sum())


def _mask(nuclei: Outlines, corner: np.ndarray, end: np.ndarray, size: int) -> np.ndarray:
    """The mask of a region at level 0, area-resampled to a patch: shape (size, size), uint8."""
    first, last = np.floor(corner).astype(int), np.ceil(end - 1e-6).astype(int)
    mask = np.zeros((last[1] - first[1], last[0] - first[0]), bool)
    low, high = nuclei.boxes[:, :2], nuclei.boxes[:, 2:]
    for i in np.flatnonzero(nuclei.against_box(first, last)[1]):
        left, top = np.maximum(np.floor(low[i]).astype(int), first)
        right, bottom = np.minimum(np.ceil(high[i]).astype(int), last)
        inside = covered(nuclei.polygons[i], np.arange(left, right) + 0.5, np.arange(top, bottom) + 0.5)
        mask[top - first[1] : bottom - first[1], left - first[0] : right - first[0]] |= inside
    grey = np.repeat(mask[..., None].astype(np.uint8) * 255, 3, axis=2)
    box = (*(corner - first), *(end - first))
    stop = [min(float(b), float(n)) for b, n in zip(box[2:], mask.shape[::-1], strict=True)]
    return area_mean(grey, (size, size), box=(float(box[0]), float(box[1]), stop[0], stop[1]))[..., 0]


def measure_by_rule(
    images: PatchImages, table: pd.DataFrame, *, per_slide: int = 3, random_state: int = 0
) -> pd.DataFrame:
    """Measure some patches of a dataset by every rule.

    Parameters
    ----------
    images : PatchImages
        Of a histology dataset.
    table : pandas.DataFrame
        Its table, in the order of `images`.
    per_slide : int, default=3
        Patches per slide and magnification, drawn at random; all where there are fewer.
    random_state : int, default=0

    Returns
    -------
    pandas.DataFrame
        One row per patch and rule: ``image, slide, split, magnification, rule, n_nuclei, mean_area_px,
        mean_area_um2``; the means are NaN where no nucleus counts.

    Raises
    ------
    DataError
        If the dataset does not know where its nuclei came from.
    """
    if missing := sorted(set(table["slide"]) - set(images.nuclei)):
        raise DataError(f"measure_by_rule: nuclei of every slide are needed.\nReceived: none of {missing}.")
    rng = np.random.default_rng(random_state)
    rows = []
    for name, patches in table.groupby("slide", sort=True):
        nuclei = slide_nuclei(images.nuclei[name])
        with closing(images.openers[name]()) as slide:
            factors = {m: slide.downsample(m) for m in patches["magnification"].unique()}
        for _, group in patches.groupby("magnification", sort=True):
            drawn = rng.permutation(len(group))[:per_slide]
            for row in group.iloc[np.sort(drawn)].itertuples():
                found = areas_by_rule(nuclei, row.x, row.y, images.size, factor=factors[row.magnification])
                for rule, areas in found.items():
                    mean = float(areas.mean()) if len(areas) else math.nan
                    rows.append(
                        {
                            "image": row.image,
                            "slide": name,
                            "split": row.split,
                            "magnification": row.magnification,
                            "rule": rule,
                            "n_nuclei": len(areas),
                            "mean_area_px": mean,
                            "mean_area_um2": mean * row.mpp**2,
                        }
                    )
    return pd.DataFrame(rows)


COUNTED, CUT, SMALL = "counted", "cut by the border", "too small"
"""States of a nucleus in a patch by the paper's rule."""


@dataclass(frozen=True)
class Region:
    """A patch with the nuclei that it shows.

    Parameters
    ----------
    image : ndarray of shape (size, size, 3), uint8
    magnification : float
    mpp : float
        Micrometres per pixel of the patch.
    nuclei : list of ndarray, each of shape (n_vertices, 2)
        In pixels of the patch, 0 at its upper left corner; they may reach beyond it.
    states : list of str
        One of ``"counted"``, ``"cut by the border"`` and ``"too small"`` for each nucleus.
    centred : bool
        Whether the patch lies about the centre that the whole series shares.
    """

    image: np.ndarray
    magnification: float
    mpp: float
    nuclei: list[np.ndarray]
    states: list[str]
    centred: bool = True


def slide_nuclei(nuclei: Path | Outlines) -> Outlines:
    """The nuclei of a whole slide as outlines, whatever they are stored as.

    Parameters
    ----------
    nuclei : path or Outlines
        Outlines, a file of outlines, or an image of a mask, whose components are traced.

    Returns
    -------
    Outlines
        In level-0 pixels. Traced outlines run half-way between pixels inside and outside, so their area is
        slightly below the number of pixels; components under 3 px are left out.

    Examples
    --------
    >>> import tempfile
    >>> from PIL import Image
    >>> mask = np.zeros((20, 20), np.uint8)
    >>> mask[4:14, 5:15] = 255
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.fromarray(mask).save(Path(folder) / "mask.png")
    ...     slide_nuclei(Path(folder) / "mask.png").boxes.tolist()
    [[5.0, 4.0, 15.0, 14.0]]
    """
    if isinstance(nuclei, Outlines):
        return nuclei
    if nuclei.suffix.lower() in {".xml", ".json", ".geojson"}:
        return read_outlines(nuclei)
    file = from_file(nuclei)
    try:
        grey = file.read(0, 0, 0, *file.level_sizes[0])[..., 0]
    finally:
        file.close()
    inside = np.pad(foreground(grey), 1)
    lines = contour_generator(z=inside.astype(float)).lines(0.5)
    found = outlines([np.asarray(line)[:-1] - 0.5 for line in lines if len(line) > 3])
    return Outlines([p for p, area in zip(found.polygons, found.areas, strict=True) if area >= MIN_AREA])


def nuclei_in_patch(
    nuclei: Outlines, x: float, y: float, size: int, *, factor: float, min_area: float = MIN_AREA
) -> tuple[list[np.ndarray], list[str]]:
    """Outlines that a patch shows, in its pixels, and what the paper's rule makes of each.

    Parameters
    ----------
    nuclei : Outlines
        In level-0 pixels.
    x, y : float
        Upper left corner of the patch, level-0 pixels.
    size : int
        Side of the patch in its own pixels.
    factor : float
        Level-0 pixels per pixel of the patch.
    min_area : float, default=3
        Smaller nuclei do not count, in pixels of the patch.

    Returns
    -------
    polygons : list of ndarray, each of shape (n_vertices, 2)
    states : list of str
        Those ``"counted"`` are the ones whose areas
        :func:`~scalelib.slides.patches.areas_in_patch` gives with the rule ``"clear"``.

    Examples
    --------
    >>> two = outlines([[(2, 2), (6, 2), (6, 6), (2, 6)], [(12, 2), (20, 2), (20, 6), (12, 6)]])
    >>> nuclei_in_patch(two, 0, 0, 8, factor=2.0)[1]
    ['counted', 'cut by the border']
    """
    corner, end = np.array([x, y]), np.array([x, y]) + size * factor
    whole, reaching = nuclei.against_box(corner, end)
    large = nuclei.areas / factor**2 >= min_area
    seen = np.flatnonzero(reaching)
    states = [CUT if not whole[i] else COUNTED if large[i] else SMALL for i in seen]
    return [(nuclei.polygons[i] - corner) / factor for i in seen], states


def zoom_series(images: PatchImages, table: pd.DataFrame) -> list[Region]:
    """One place of one slide at every magnification of a dataset.

    Parameters
    ----------
    images : PatchImages
        Of a histology dataset.
    table : pandas.DataFrame
        Its table.

    Returns
    -------
    list of Region
        By ascending magnification, all about one centre: that of the training patch of the highest magnification
        with most nuclei, among those about which the largest field fits on the slide. Where it fits about none,
        the larger fields are moved inwards and are not `centred`.

    Raises
    ------
    DataError
        If the dataset has no training patches, or does not know where its nuclei came from.
    """
    train = table[table["split"] == "train"]
    if train.empty or not images.nuclei:
        raise DataError(
            "zoom_series: needs training patches and their nuclei.\n"
            f"Received: {len(train)} training patches, nuclei of {len(images.nuclei)} slides."
        )
    magnifications = sorted(table["magnification"].unique())
    close = train[train["magnification"] == magnifications[-1]].sort_values(
        ["n_nuclei", "image"], ascending=[False, True], kind="stable"
    )
    name, centre = _place(images, close, magnifications)
    with images.openers[name]() as slide:
        nuclei = slide_nuclei(images.nuclei[name])
        mpp = table[table["slide"] == name].groupby("magnification")["mpp"].first()
        return [_region(slide, nuclei, centre, images.size, m, mpp.loc[m]) for m in magnifications]


def _place(
    images: PatchImages, close: pd.DataFrame, magnifications: list[float]
) -> tuple[str, tuple[float, float]]:
    """Slide and centre of the first patch about which the largest field fits, else of the first patch."""
    geometry = {}
    for name in close["slide"].unique():
        with images.openers[name]() as slide:
            halves = [images.size * slide.downsample(m) / 2 for m in magnifications]
            geometry[name] = (slide.size, halves[0], halves[-1])
    places = []
    for row in close.itertuples():
        size, largest, smallest = geometry[row.slide]
        centre = (row.x + smallest, row.y + smallest)
        if all(largest <= c <= side - largest for c, side in zip(centre, size, strict=True)):
            return str(row.slide), centre
        places.append((str(row.slide), centre))
    return places[0]


def _region(
    slide: Slide, nuclei: Outlines, centre: tuple[float, float], size: int, magnification: float, mpp: float
) -> Region:
    factor = slide.downsample(magnification)
    wanted = [round(c - size * factor / 2) for c in centre]
    room = [int(side - size * factor) for side in slide.size]
    x, y = (min(max(w, 0), r) for w, r in zip(wanted, room, strict=True))
    polygons, states = nuclei_in_patch(nuclei, x, y, size, factor=factor)
    centred = max(abs(x - wanted[0]), abs(y - wanted[1])) <= 1
    pixels = slide.read(x, y, size, magnification=magnification)
    return Region(pixels, float(magnification), float(mpp), polygons, states, centred)


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
        Patches, as :func:`scalelib.slides.patches.slide_patches` gives them.

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


PAPER_CLASS_MEANS = {5: 21.37, 8: 43.15, 10: 67.30, 15: 142.39, 20: 225.70, 30: 489.98, 40: 913.82}
"""Mean nucleus area in px of the paper's training patches at each magnification, from the authors' notebooks
(GitHub medgift/scale_covariant_pruning)."""

PAPER_MPP_TIMES_POWER = 10.0
"""Micrometres per pixel × magnification by convention: the paper's images are 40X with 0.25 µm."""


def area_summary(table: pd.DataFrame) -> pd.DataFrame:
    """Distribution of a patch's mean nucleus area, by magnification and split.

    Parameters
    ----------
    table : pandas.DataFrame
        Patches, with ``split, magnification, mean_area_px, mean_area_um2``.

    Returns
    -------
    pandas.DataFrame
        One row per unit (``px``, ``um2``), split and magnification: ``patches, mean, sd, q05, q25, q50, q75, q95``.
    """
    rows = []
    for unit in ("px", "um2"):
        for (split, magnification), part in table.groupby(["split", "magnification"], sort=True):
            values = part[f"mean_area_{unit}"]
            quantiles = {f"q{100 * q:02.0f}": values.quantile(q) for q in QUANTILES}
            row = {"unit": unit, "split": split, "magnification": magnification, "patches": len(values)}
            rows.append(row | {"mean": values.mean(), "sd": values.std(ddof=1)} | quantiles)
    found = pd.DataFrame(rows)
    return found.sort_values(["unit", "split"], key=split_order, kind="stable").reset_index(drop=True)


def means_beside_paper(table: pd.DataFrame) -> pd.DataFrame:
    """Class means of the training patches beside the paper's, in px and µm².

    Parameters
    ----------
    table : pandas.DataFrame
        Patches.

    Returns
    -------
    pandas.DataFrame
        One row per magnification: ``ours_px, ours_um2, paper_px, paper_um2`` (the paper's by the convention of 0.25 µm
        at 40X; NaN at a magnification that the paper has not).
    """
    px = class_means(table)
    um2 = table[table["split"] == "train"].groupby("magnification")["mean_area_um2"].mean()
    paper = pd.Series(PAPER_CLASS_MEANS, dtype=float).reindex(px.index)
    spacing = PAPER_MPP_TIMES_POWER / px.index.to_numpy(float)
    found = pd.DataFrame({"ours_px": px, "ours_um2": um2, "paper_px": paper, "paper_um2": paper * spacing**2})
    return found.rename_axis("magnification").reset_index()


def spread_shares(table: pd.DataFrame) -> pd.Series:
    """How the variance of the logarithm of a patch's mean area divides.

    Parameters
    ----------
    table : pandas.DataFrame
        Patches, with ``magnification, slide, mean_area_px``.

    Returns
    -------
    pandas.Series
        Shares of the sum of squares that add up to 1: ``magnification`` (between magnifications), ``slide`` (between
        slides at one magnification), ``patch`` (within).

    Examples
    --------
    >>> patches = pd.DataFrame({"magnification": [5, 5, 10, 10], "slide": list("abab"),
    ...                         "mean_area_px": [1.0, 1.0, 4.0, 4.0]})
    >>> spread_shares(patches).to_dict()
    {'magnification': 1.0, 'slide': 0.0, 'patch': 0.0}
    """
    log = np.log2(table["mean_area_px"])
    by_magnification = log.groupby(table["magnification"]).transform("mean")
    by_both = log.groupby([table["magnification"], table["slide"]]).transform("mean")
    parts = {
        "magnification": by_magnification - log.mean(),
        "slide": by_both - by_magnification,
        "patch": log - by_both,
    }
    return pd.Series({name: float((part**2).sum()) for name, part in parts.items()}) / float(
        ((log - log.mean()) ** 2).sum()
    )


def named_by_area(table: pd.DataFrame) -> pd.DataFrame:
    """How well a patch's true mean area names its magnification: what a regression without any error would score.

    Parameters
    ----------
    table : pandas.DataFrame
        Patches.

    Returns
    -------
    pandas.DataFrame
        One row per split: ``patches, kappa, kappa_balanced, accuracy`` of the magnification whose class mean (over
        training patches, §3.5) is nearest to the true area.

    Raises
    ------
    DataError
        If a magnification has no training patches.

    Notes
    -----
    No upper bound: predictions that are wrong about area and lie near the class means name more magnifications
    rightly. A network that scores higher tells the magnification by something else than area.
    """
    means = class_means(table)
    rows = []
    for split in (s for s in SPLITS if s in set(table["split"])):
        part = table[table["split"] == split]
        named, true = nearest_magnification(part["mean_area_px"], means), part["magnification"].to_numpy()
        rows.append({"split": split, "patches": len(part), **agreement(true, named)})
    return pd.DataFrame(rows)


def rule_summary(measured: pd.DataFrame, *, reference: str = "centre") -> pd.DataFrame:
    """How far each rule's mean area lies from a reference rule's, with the slide as unit.

    Parameters
    ----------
    measured : pandas.DataFrame
        From :func:`studies.s01_datasets.measure_by_rule`.
    reference : str, default="centre"

    Returns
    -------
    pandas.DataFrame
        One row per rule and magnification: ``patches`` and ``slides`` (those where both rules count a nucleus),
        ``n_nuclei`` (mean per patch), ``mean_um2``, and ``ratio`` to the reference with ``low`` and ``high``: the
        geometric mean over slides of the ratio of their means, with a t interval.

    Raises
    ------
    DataError
        If the reference was not measured.
    """
    if reference not in set(measured["rule"]):
        raise DataError(f"rule_summary: no rule {reference!r}.\nReceived: {sorted(set(measured['rule']))}.")
    base = measured[measured["rule"] == reference].set_index("image")["mean_area_um2"]
    both = measured.assign(reference=measured["image"].map(base)).dropna(
        subset=["mean_area_um2", "reference"]
    )
    rows = []
    for (rule, magnification), part in both.groupby(["rule", "magnification"], sort=False):
        slides = part.groupby("slide")[["mean_area_um2", "reference"]].mean()
        log = np.log(slides["mean_area_um2"] / slides["reference"])
        half = (
            log.std(ddof=1) / np.sqrt(len(log)) * stats.t.ppf(0.975, len(log) - 1) if len(log) > 1 else np.nan
        )
        rows.append(
            {
                "rule": rule,
                "magnification": magnification,
                "patches": len(part),
                "slides": len(slides),
                "n_nuclei": part["n_nuclei"].mean(),
                "mean_um2": slides["mean_area_um2"].mean(),
                "ratio": np.exp(log.mean()),
                "low": np.exp(log.mean() - half),
                "high": np.exp(log.mean() + half),
            }
        )
    return pd.DataFrame(rows)


SPLIT_COLOURS = {"train": COLOURS[0], "validation": COLOURS[5], "test": COLOURS[2]}
UNITS = {"px": "mean nucleus area (px)", "um2": "mean nucleus area (µm²)"}


def patches_per_magnification(beside: pd.DataFrame) -> Figure:
    """Patches of each magnification, the paper's beside ours, one panel per split.

    Parameters
    ----------
    beside : pandas.DataFrame
        From :func:`studies.s01_datasets.beside_paper`.

    Returns
    -------
    matplotlib.figure.Figure
    """
    rows = beside[(beside.magnification != "total") & (beside.split != "total")]
    splits = list(dict.fromkeys(rows.split))
    fig, axes = plt.subplots(1, len(splits), figsize=(WIDTH, 2.7), sharey=True, squeeze=False)
    curves = {"paper": "paper", "ours": "ours"}
    if (rows.ours != rows.ours_uncapped).any():
        curves = {"paper": "paper", "ours_uncapped": "ours, all patches", "ours": "ours, as used"}
    colours = {"paper": "black", "ours_uncapped": COLOURS[4], "ours": COLOURS[0]}
    for ax, split in zip(axes.flat, splits, strict=True):
        part = rows[rows.split == split]
        for marker, (name, label) in zip(MARKERS, curves.items(), strict=False):
            line = {"paper": ":", "ours_uncapped": "--"}.get(name, "-")
            shown = part[name].replace(0, np.nan)
            ax.plot(part.magnification, shown, color=colours[name], ls=line, marker=marker, label=label)
        ax.set_yscale("log")
        ax.set_title(split)
        ax.tick_params(axis="x", labelsize=7.5)
        ax.set_xlabel("magnification")
    axes[0, 0].set_ylabel("patches")
    legend_below(fig, axes.flat, columns=3)
    return fig


def area_distributions(areas: pd.DataFrame, means: pd.DataFrame) -> Figure:
    """Mean nucleus area of patches by magnification and split, in px and in µm², on log axes.

    Parameters
    ----------
    areas : pandas.DataFrame
        From :func:`studies.s01_datasets.area_summary`.
    means : pandas.DataFrame
        From :func:`studies.s01_datasets.means_beside_paper`.

    Returns
    -------
    matplotlib.figure.Figure
        Boxes span the quartiles, whiskers 5 to 95 %.
    """
    fig, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.7), squeeze=False)
    magnifications = list(means.magnification)
    splits = [split for split in SPLIT_COLOURS if split in set(areas.split)]
    for ax, unit in zip(axes.flat, UNITS, strict=True):
        for place, split in enumerate(splits):
            part = areas[(areas.unit == unit) & (areas.split == split)]
            shift = (place - (len(splits) - 1) / 2) * 0.26
            _boxes(ax, part, magnifications, shift=shift, colour=SPLIT_COLOURS[split], label=split)
        x = np.arange(len(magnifications))
        ours: dict[str, Any] = {"color": "black", "marker": "_", "ms": 16, "ls": "none", "mew": 1.6}
        ax.plot(x, means[f"ours_{unit}"], label="class mean (training patches)", **ours)
        ax.plot(x, means[f"paper_{unit}"], "*", color=COLOURS[1], ms=7, label="class mean in the paper")
        _log_areas(ax)
        ax.set_xticks(x, [f"{m:g}X" for m in magnifications])
        ax.set(xlabel="magnification", ylabel=UNITS[unit])
    legend_below(fig, axes.flat, columns=5)
    return fig


def _boxes(
    ax: Axes, part: pd.DataFrame, magnifications: Sequence[float], *, shift: float, colour: str, label: str
) -> None:
    stats = [
        {"med": row.q50, "q1": row.q25, "q3": row.q75, "whislo": row.q05, "whishi": row.q95}
        for row in part.itertuples()
    ]
    places = [magnifications.index(m) + shift for m in part.magnification]
    line = {"color": colour, "lw": 1.0}
    ax.bxp(
        stats, positions=places, widths=0.2, showfliers=False, showcaps=False, patch_artist=True, manage_ticks=False,
        boxprops={"facecolor": colour, "alpha": 0.55, "lw": 0}, whiskerprops=line, medianprops={"color": "white", "lw": 1.2},
    )  # fmt: skip
    ax.add_patch(Rectangle((0, 0), 0, 0, color=colour, alpha=0.55, lw=0, label=label))


def _log_areas(ax: Axes) -> None:
    ax.set_yscale("log")
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    low, high = ax.get_ylim()
    if high / low < 40:
        ticks = [t for t in (2, 3, 5, 10, 20, 30, 50, 100, 200, 300) if low <= t <= high]
        ax.set_yticks(ticks)
    ax.yaxis.set_minor_formatter(NullFormatter())


def slide_areas(slides: pd.DataFrame, *, steps: Mapping[str, float] | None = None) -> Figure:
    """Mean nucleus area of each slide in µm², with its range over magnifications.

    Parameters
    ----------
    slides : pandas.DataFrame
        From :func:`studies.s01_datasets.slide_table`.
    steps : mapping of str to float, optional
        Factors in area to draw as bars for comparison, by label.

    Returns
    -------
    matplotlib.figure.Figure
    """
    ordered = slides.sort_values("mean_um2", kind="stable").reset_index(drop=True)
    fig, ax = plt.subplots(figsize=(WIDTH, 0.19 * len(ordered) + 1.5))
    for place, (split, colour) in enumerate(SPLIT_COLOURS.items()):
        part = ordered[ordered.split == split]
        if len(part):
            ax.hlines(part.index, part.low_um2, part.high_um2, color=colour, alpha=0.4, lw=3)
            ax.plot(part.mean_um2, part.index, MARKERS[place], color=colour, label=split)
    ax.set_yticks(ordered.index, ordered.slide, fontsize=7)
    ax.set_xscale("log")
    ax.set_xlabel("mean nucleus area (µm²); line: smallest to largest magnification's mean")
    low, high = ordered.low_um2.min(), ordered.high_um2.max()
    for row, (label, factor) in enumerate((steps or {}).items()):
        y = len(ordered) + 0.5 + 1.6 * row
        ax.plot([low, low * factor], [y, y], color="black", lw=2, marker="|", ms=7)
        ax.annotate(label, (low, y), textcoords="offset points", xytext=(4, 3), fontsize=7.5)
        high = max(high, low * factor)
    ticks = [t for t in (5, 10, 15, 20, 30, 40, 50, 60, 80, 100, 150, 200) if low * 0.95 <= t <= high * 1.05]
    ax.set_xticks(ticks, [f"{t:g}" for t in ticks])
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set(xlim=(low * 0.95, high * 1.05), ylim=(-0.7, len(ordered) - 0.3 + 1.6 * len(steps or {})))
    legend_below(fig, [ax], columns=3)
    return fig


def rules_compared(rules: pd.DataFrame, words: Mapping[str, str], *, reference: str = "centre") -> Figure:
    """Each rule's mean area over the reference rule's, by magnification, with intervals over slides.

    Parameters
    ----------
    rules : pandas.DataFrame
        From :func:`studies.s01_datasets.rule_summary`.
    words : mapping of str to str
        What each rule counts, for the legend.
    reference : str, default="centre"

    Returns
    -------
    matplotlib.figure.Figure
        Left: what the border does. Right: what measuring in pixels or in a mask does. Log axes of their own.
    """
    panels = {"which nuclei count": ("clear", "clip"), "how areas are measured": ("clear", "pixels", "mask")}
    fig, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.4), squeeze=False)
    magnifications = sorted(rules.magnification.unique())
    colours = colour_of(name for name in words if name != reference)
    for ax, (title, names) in zip(axes.flat, panels.items(), strict=True):
        for place, name in enumerate(names):
            part = rules[rules.rule == name].sort_values("magnification")
            x = np.array([magnifications.index(m) for m in part.magnification]) + 0.09 * (place - 1)
            bars = [part.ratio - part.low, part.high - part.ratio]
            marker = MARKERS[list(colours).index(name)]
            ax.errorbar(
                x, part.ratio, yerr=bars, color=colours[name], marker=marker, capsize=2, label=words[name]
            )
        ax.axhline(1, color="#555555", lw=0.9)
        ax.set_yscale("log")
        low, high = ax.get_ylim()
        ticks = [t for t in (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.1, 1.2, 1.5, 2, 3, 4, 5) if low <= t <= high]
        ax.set_yticks(ticks, [f"{t:g}" for t in ticks])
        ax.yaxis.set_minor_formatter(NullFormatter())
        ax.set_xticks(range(len(magnifications)), [f"{m:g}X" for m in magnifications])
        ax.set_title(title)
        ax.set_xlabel("magnification")
    axes[0, 0].set_ylabel("mean area over that of all nuclei\nwhose centre lies in the patch")
    legend_below(fig, axes.flat, columns=2)
    return fig


STATE_STYLE: dict[str, dict[str, Any]] = {
    COUNTED: {"color": "#FFE94A", "linestyle": "-"},
    CUT: {"color": "#00D5FF", "linestyle": (0, (2, 1.2))},
    SMALL: {"color": "#FFFFFF", "linestyle": ":"},
}
BAR_LENGTHS = (5, 10, 20, 25, 50, 100, 200, 250, 500)


def zoomed_regions(regions: Sequence[Region], *, columns: int = 4) -> Figure:
    """Patches of one place at rising magnification, with nuclei outlined and a scale bar.

    Parameters
    ----------
    regions : sequence of Region
        From :func:`studies.s01_datasets.zoom_series`.
    columns : int, default=4

    Returns
    -------
    matplotlib.figure.Figure
        The white square in a panel is the field of the next one, where both have the same centre.
    """
    rows = -(-(len(regions) + 1) // columns)
    fig, axes = plt.subplots(
        rows, columns, figsize=(WIDTH, WIDTH / columns * rows * 1.12), squeeze=False, dpi=170
    )
    for ax in axes.flat:
        ax.set_axis_off()
    following: list[Region | None] = [*regions[1:], None]
    for ax, region, after in zip(axes.flat, regions, following, strict=False):
        _draw_region(ax, region)
        if after is not None and region.centred and after.centred:
            _draw_next_field(ax, region, after)
    seen = [state for state in STATE_STYLE if any(state in region.states for region in regions)]
    handles = [Line2D([], [], lw=2, label=f"nucleus, {state}", **STATE_STYLE[state]) for state in seen]
    handles.append(
        Line2D([], [], color="white", marker="s", mfc="none", ls="none", ms=9, label="next panel's field")
    )
    axes.flat[len(regions)].legend(
        handles=handles, loc="center", fontsize=6.8, facecolor="#8A4F7D", labelcolor="white", frameon=True
    )
    return fig


def _draw_region(ax: Axes, region: Region) -> None:
    size = len(region.image)
    ax.imshow(region.image, extent=(0, size, size, 0))
    for polygon, state in zip(region.nuclei, region.states, strict=True):
        closed = np.concatenate([polygon, polygon[:1]])
        width = float(np.clip(region.magnification / 25, 0.45, 1.2))
        ax.plot(*closed.T, lw=width, scalex=False, scaley=False, **STATE_STYLE[state])
    ax.set(xlim=(0, size), ylim=(size, 0))
    length = max((b for b in BAR_LENGTHS if b <= 0.36 * size * region.mpp), default=1)
    left, low, width = 0.05 * size, 0.93 * size, length / region.mpp
    ax.add_patch(
        Rectangle(
            (0.025 * size, 0.815 * size),
            max(width, 0.25 * size) + 0.05 * size,
            0.16 * size,
            color="black",
            alpha=0.55,
            lw=0,
            zorder=4,
        )
    )
    ax.plot([left, left + width], [low, low], color="white", lw=2.2, solid_capstyle="butt", zorder=5)
    ax.text(left, low - 0.025 * size, f"{length} µm", color="white", fontsize=7, va="bottom", zorder=5)
    counted = region.states.count(COUNTED)
    ax.set_title(
        f"{region.magnification:g}X, {region.mpp:.2f} µm/px\n"
        f"{counted} counted, {region.states.count(CUT)} cut",
        fontsize=8,
        fontweight="normal",
    )


def _draw_next_field(ax: Axes, region: Region, after: Region) -> None:
    size = len(region.image)
    side = size * after.mpp / region.mpp
    corner = (size - side) / 2
    ax.add_patch(Rectangle((corner, corner), side, side, fill=False, color="white", lw=0.9))
