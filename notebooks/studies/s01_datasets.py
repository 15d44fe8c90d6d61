"""Notebook 01: Table 1 beside ours, what nucleus areas depend on, and the scale of photographed objects (§3.2, §3.5).

Knows patches of tissue with their outlines, and tables of them; no network.
"""

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
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, NullFormatter
from skimage.measure import find_contours, label

from scalelib.plotting import COLOURS, MARKERS, WIDTH, merged_legend
from scalelib.slides.nuclei import (
    MIN_AREA,
    READERS,
    Outlines,
    areas_in_mask,
    covered,
    foreground,
    outlines,
    read_outlines,
)
from scalelib.slides.patches import SPLITS, PatchImages, areas_in_patch, count_table
from scalelib.slides.slide import MICRONS_TIMES_POWER, Slide, area_mean, from_file
from scalelib.statistics import interval
from studies.readings import Read
from studies.transfer_scores import agreement, class_means, nearest_magnification

SPLIT_COLOURS = {"train": COLOURS[0], "validation": COLOURS[5], "test": COLOURS[2]}


def beside_paper(
    table: pd.DataFrame, paper: str | os.PathLike[str], *, uncapped: pd.DataFrame
) -> pd.DataFrame:
    """Table 1 beside ours, and beside all patches of ours: counts, and shares of a split's patches by the counts."""
    found = pd.read_csv(paper)[["split", "magnification", "patches"]].rename(columns={"patches": "paper"})
    cells = pd.MultiIndex.from_frame(found[["split", "magnification"]])
    for name, patches in (("ours", table), ("ours_uncapped", uncapped)):
        found[name] = count_table(patches).stack().reindex(cells, fill_value=0).to_numpy(int)
    single = found["magnification"] != "total"
    for name in ("paper", "ours", "ours_uncapped"):
        sums = found[single].groupby("split")[name].sum()
        found[f"{name}_share"] = (found[name] / found["split"].map(sums)).where(single, 1.0)
    return found


def slide_table(table: pd.DataFrame) -> pd.DataFrame:
    """What each slide contributes.

    Nuclei are counted in patches, so one may count twice; ``mean_um2`` is the mean over magnifications of the mean over
    patches, ``low_um2`` and ``high_um2`` are the smallest and largest of the magnifications' means.
    """
    by = ["split", "slide"]
    means = table.groupby([*by, "magnification"])["mean_area_um2"].mean().groupby(by)
    found = table.groupby(by).agg(
        group=("group", "first"),
        mpp=("mpp", "min"),
        mpp_stated=("mpp_stated", "all"),
        patches=("image", "size"),
        nuclei=("n_nuclei", "sum"),
    )
    found = found.assign(mean_um2=means.mean(), low_um2=means.min(), high_um2=means.max()).reset_index()
    return found.sort_values("split", key=_split_order, kind="stable").reset_index(drop=True)


def _split_order(column: pd.Series) -> pd.Series:
    """From train to test; other values follow by name."""
    order = {name: str(place) for place, name in enumerate(SPLITS)}
    return column.map(lambda value: order.get(value, f"9{value}"))


def split_table(slides: pd.DataFrame) -> pd.DataFrame:
    """Patients, slides, patches and nuclei of each split."""
    columns = {
        "patients": ("group", "nunique"),
        "slides": ("slide", "size"),
        "slides without stated µm/px": ("mpp_stated", lambda stated: int((~stated).sum())),
        "patches": ("patches", "sum"),
        "nuclei in patches": ("nuclei", "sum"),
    }
    return slides.groupby("split", sort=False).agg(**columns).rename_axis(None)


# What the reasons in ``Dataset.excluded`` mean.
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


def left_out(excluded: Mapping[str, Mapping[str, int]]) -> pd.DataFrame:
    """What each dataset left out, counted and in words; a row ``nothing`` where that is so."""
    rows = [
        {"dataset": name, "reason": reason, "meaning": LEFT_OUT.get(reason, reason), "count": int(count)}
        for name, counts in excluded.items()
        for reason, count in (counts or {"nothing": 0}).items()
    ]
    return pd.DataFrame(rows)


# States of a nucleus in a patch by the paper's rule.
COUNTED, CUT, SMALL = "counted", "cut by the border", "too small"


@dataclass(frozen=True)
class Region:
    """A patch with the nuclei that it shows."""

    image: np.ndarray
    magnification: float
    mpp: float  # of the patch
    nuclei: list[np.ndarray]  # vertices in pixels of the patch; they may reach beyond it
    states: list[str]
    mask: np.ndarray  # all nuclei in one, as pixels
    centred: bool = True  # about the centre that the whole series shares


def zoom_series(images: PatchImages, table: pd.DataFrame) -> list[Region]:
    """One place of one slide at every magnification, ascending.

    The centre is that of the training patch of the highest magnification with most nuclei, among those about which the
    largest field fits on the slide. Where it fits about none, the larger fields are moved inwards and are not centred.
    """
    magnifications = sorted(table["magnification"].unique())
    close = table[(table["split"] == "train") & (table["magnification"] == magnifications[-1])]
    close = close.sort_values(["n_nuclei", "image"], ascending=[False, True], kind="stable")
    geometry = {}
    for name in close["slide"].unique():
        with images.openers[name]() as slide:
            low, high = (images.size * slide.downsample(magnifications[end]) / 2 for end in (0, -1))
            geometry[name] = (*slide.size, low, high)
    sides = pd.DataFrame.from_dict(geometry, "index", columns=["width", "height", "largest", "smallest"])
    places = close.join(sides, on="slide").eval("cx = x + smallest\ncy = y + smallest")
    inside = places.eval("largest <= cx <= width - largest and largest <= cy <= height - largest")
    place = (places[inside] if inside.any() else places).iloc[0]
    with images.openers[place.slide]() as slide:
        nuclei = slide_nuclei(images.nuclei[place.slide])
        mpp = table[table["slide"] == place.slide].groupby("magnification")["mpp"].first()
        centre = np.array([place.cx, place.cy])
        return [_region(slide, nuclei, centre, images.size, float(m), mpp.loc[m]) for m in magnifications]


def _region(
    slide: Slide, nuclei: Outlines, centre: np.ndarray, size: int, magnification: float, mpp: float
) -> Region:
    factor = slide.downsample(magnification)
    wanted = np.rint(centre - size * factor / 2)
    corner = np.clip(wanted, 0, np.floor(np.array(slide.size) - size * factor)).astype(int)
    x, y = corner.tolist()
    polygons, states = nuclei_in_patch(nuclei, x, y, size, factor=factor)
    pixels = slide.read(x, y, size, magnification=magnification)
    mask = _mask(nuclei, corner, corner + size * factor, size)
    centred = bool(np.abs(corner - wanted).max() <= 1)
    return Region(pixels, magnification, float(mpp), polygons, states, mask, centred)


def slide_nuclei(nuclei: Path | Outlines) -> Outlines:
    """The nuclei of a whole slide as outlines, whatever they are stored as; components of a mask are traced.

    Traced outlines run half-way between pixels inside and outside, so their area is slightly below the number of pixels.
    """
    if isinstance(nuclei, Outlines):
        return nuclei
    if nuclei.suffix.lower() in READERS:
        return read_outlines(nuclei)
    with closing(from_file(nuclei)) as file:
        mask = file.read(0, 0, 0, *file.level_sizes[0])[..., 0]
    lines = find_contours(np.pad(foreground(mask), 1).astype(float), 0.5)
    found = outlines([line[:-1, ::-1] - 0.5 for line in lines])
    return Outlines([p for p, area in zip(found.polygons, found.areas, strict=True) if area >= MIN_AREA])


def nuclei_in_patch(
    nuclei: Outlines, x: float, y: float, size: int, *, factor: float
) -> tuple[list[np.ndarray], list[str]]:
    """Outlines that a patch shows, in its pixels, and what the paper's rule makes of each."""
    corner, end = np.array([x, y]), np.array([x, y]) + size * factor
    whole, reaching = nuclei.against_box(corner, end)
    large = nuclei.areas / factor**2 >= MIN_AREA
    seen = np.flatnonzero(reaching)
    states = [CUT if not whole[i] else COUNTED if large[i] else SMALL for i in seen]
    return [(nuclei.polygons[i] - corner) / factor for i in seen], states


STATE_STYLE: dict[str, dict[str, Any]] = {
    COUNTED: {"color": "#FFE94A", "linestyle": "-"},
    CUT: {"color": "#00D5FF", "linestyle": (0, (2, 1.2))},
    SMALL: {"color": "#FFFFFF", "linestyle": ":"},
}


def zoomed_regions(regions: Sequence[Region], *, columns: int = 4) -> Figure:
    """One place at rising magnification, nuclei outlined, with the next panel's field; last, the first one's nuclei as a mask."""
    rows = -(-(len(regions) + 1) // columns)
    size = (WIDTH, WIDTH / columns * rows * 1.3)
    fig, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, dpi=170)
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, region in zip(axes.flat, regions, strict=False):
        _draw_region(ax, region)
    for ax, region, after in zip(axes.flat, regions, regions[1:], strict=False):
        if region.centred and after.centred:
            side = len(region.image) * after.mpp / region.mpp
            corner = (len(region.image) - side) / 2
            ax.add_patch(Rectangle((corner, corner), side, side, fill=False, color="white", lw=0.9))
    _draw_mask(axes.flat[len(regions)], regions[0])
    seen = [state for state in STATE_STYLE if any(state in region.states for region in regions)]
    handles = [Line2D([], [], lw=2.5, label=f"nucleus, {state}", **STATE_STYLE[state]) for state in seen]
    field: dict[str, Any] = {"color": "white", "marker": "s", "mfc": "none", "ls": "none", "ms": 10}
    handles.append(Line2D([], [], label="next panel's field", **field))
    look = {"facecolor": "#8A4F7D", "labelcolor": "white", "frameon": True, "fontsize": 12, "ncols": 2}
    fig.legend(handles=handles, loc="outside lower center", **look)
    return fig


def _draw_region(ax: Axes, region: Region) -> None:
    size = len(region.image)
    ax.imshow(region.image, extent=(0, size, size, 0))
    width = float(np.clip(region.magnification / 25, 0.45, 1.2))
    for polygon, state in zip(region.nuclei, region.states, strict=True):
        closed = np.concatenate([polygon, polygon[:1]])
        ax.plot(*closed.T, lw=width, scalex=False, scaley=False, **STATE_STYLE[state])
    ax.set(xlim=(0, size), ylim=(size, 0))
    length = max((b for b in (1, 5, 10, 20, 50, 100, 200, 500) if b <= 0.36 * size * region.mpp), default=1)
    left, low, bar = 0.05 * size, 0.94 * size, length / region.mpp
    behind = (max(bar, 0.42 * size) + 0.05 * size, 0.2 * size)
    ax.add_patch(Rectangle((0.025 * size, 0.775 * size), *behind, color="black", alpha=0.55, lw=0, zorder=4))
    ax.plot([left, left + bar], [low, low], color="white", lw=2.2, solid_capstyle="butt", zorder=5)
    ax.text(left, low - 0.025 * size, f"{length} µm", color="white", fontsize=12, va="bottom", zorder=5)
    title = f"{region.magnification:g}X, {region.mpp:.2f} µm/px\n{region.states.count(COUNTED)} counted"
    ax.set_title(title, fontsize=12, fontweight="normal")


def _draw_mask(ax: Axes, region: Region) -> None:
    """What a mask leaves of the nuclei: each connected part in a colour of its own."""
    parts, counted = label(foreground(region.mask)), len(areas_in_mask(region.mask))
    shown = np.random.default_rng(0).permutation(parts.max() + 1)[parts]
    colours = plt.get_cmap("hsv").with_extremes(bad="black")
    ax.imshow(np.ma.masked_where(parts == 0, shown), cmap=colours)
    ax.set_title(f"{region.magnification:g}X as a mask\n{counted} counted", fontsize=12, fontweight="normal")


def area_summary(table: pd.DataFrame) -> pd.DataFrame:
    """Distribution of a patch's mean nucleus area in px and in µm², by magnification and split."""
    parts = []
    for unit in ("px", "um2"):
        found = _distribution(table.groupby(["split", "magnification"])[f"mean_area_{unit}"])
        found.insert(0, "unit", unit)
        parts.append(found.sort_values("split", key=_split_order, kind="stable"))
    return pd.concat(parts, ignore_index=True).rename(columns={"count": "patches"})


def _distribution(groups: Any) -> pd.DataFrame:
    """Count, mean, standard deviation and quantiles of each group."""
    shares = (0.05, 0.25, 0.5, 0.75, 0.95)
    names = {f"{share:.0%}": f"q{100 * share:02.0f}" for share in shares}
    found = groups.describe(percentiles=shares).drop(columns=["min", "max"]).astype({"count": int})
    return found.rename(columns={"std": "sd", **names}).reset_index()


# Mean nucleus area in px of the paper's training patches at each magnification, from the authors' notebooks
# (GitHub medgift/scale_covariant_pruning).
PAPER_CLASS_MEANS = {5: 21.37, 8: 43.15, 10: 67.30, 15: 142.39, 20: 225.70, 30: 489.98, 40: 913.82}


def means_beside_paper(table: pd.DataFrame) -> pd.DataFrame:
    """Class means of the training patches beside the paper's, in px and µm² (the paper's by convention)."""
    px = class_means(table)
    um2 = table[table["split"] == "train"].groupby("magnification")["mean_area_um2"].mean()
    paper = pd.Series(PAPER_CLASS_MEANS, dtype=float).reindex(px.index)
    spacing = MICRONS_TIMES_POWER / px.index.to_numpy(float)
    found = pd.DataFrame({"ours_px": px, "ours_um2": um2, "paper_px": paper, "paper_um2": paper * spacing**2})
    return found.rename_axis("magnification").reset_index()


def area_distributions(areas: pd.DataFrame, means: pd.DataFrame) -> Figure:
    """Mean nucleus area of patches by magnification and split, in px and µm²; whiskers span 5 to 95 %."""
    fig, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.7))
    magnifications = list(means.magnification)
    splits = [split for split in SPLIT_COLOURS if split in set(areas.split)]
    for ax, (unit, word) in zip(axes, {"px": "px", "um2": "µm²"}.items(), strict=True):
        for place, split in enumerate(splits):
            part = areas[(areas.unit == unit) & (areas.split == split)]
            names = {"q50": "med", "q25": "q1", "q75": "q3", "q05": "whislo", "q95": "whishi"}
            boxes = part.rename(columns=names)[list(names.values())].to_dict("records")
            shift = (place - (len(splits) - 1) / 2) * 0.26
            places = [magnifications.index(m) + shift for m in part.magnification]
            colour = SPLIT_COLOURS[split]
            ax.bxp(
                boxes, positions=places, widths=0.2, showfliers=False, showcaps=False, patch_artist=True,
                manage_ticks=False, label=split, boxprops={"facecolor": colour, "alpha": 0.55, "lw": 0},
                whiskerprops={"color": colour, "lw": 1.0}, medianprops={"color": "white", "lw": 1.2},
            )  # fmt: skip
        x = np.arange(len(magnifications))
        ours: dict[str, Any] = {"color": "black", "marker": "_", "ms": 16, "ls": "none", "mew": 1.6}
        ax.plot(x, means[f"ours_{unit}"], label="class mean (training patches)", **ours)
        ax.plot(x, means[f"paper_{unit}"], "*", color=COLOURS[1], ms=7, label="class mean in the paper")
        ax.set(xlabel="magnification", ylabel=f"mean nucleus area ({word})", yscale="log")
        ax.set_xticks(x, [f"{m:g}X" for m in magnifications])
        _log_ticks(ax.yaxis, (1, 2, 3, 5))
    merged_legend(fig, ncols=5)
    return fig


def _log_ticks(axis: Axis, steps: Sequence[float]) -> None:
    """Ticks of a log axis at steps within each power of ten, as plain numbers."""
    axis.set_major_locator(LogLocator(subs=steps))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def spread_shares(table: pd.DataFrame) -> pd.Series:
    """How the variance of the logarithm of a patch's mean area divides: between magnifications, slides, and within."""
    log = np.log2(table["mean_area_px"])
    by_magnification = log.groupby(table["magnification"]).transform("mean")
    by_both = log.groupby([table["magnification"], table["slide"]]).transform("mean")
    parts = {"magnification": by_magnification - log.mean(), "slide": by_both - by_magnification}
    parts["patch"] = log - by_both
    return (pd.DataFrame(parts) ** 2).sum() / ((log - log.mean()) ** 2).sum()


def named_by_area(table: pd.DataFrame) -> pd.DataFrame:
    """How well a patch's true mean area names its magnification, split by split: the class mean nearest to it (§3.5).

    No upper bound: predictions that are wrong about area and lie near the class means name more magnifications rightly. A
    network that scores higher tells the magnification by something else than area.
    """
    means = class_means(table)
    rows = []
    for split in (s for s in SPLITS if s in set(table["split"])):
        part = table[table["split"] == split]
        named, true = nearest_magnification(part["mean_area_px"], means), part["magnification"].to_numpy()
        rows.append({"split": split, "patches": len(part), **agreement(true, named)})
    return pd.DataFrame(rows)


def slide_areas(slides: pd.DataFrame, *, steps: Mapping[str, float]) -> Figure:
    """Mean nucleus area of each slide in µm² with its range over magnifications, ascending, and factors in area as bars."""
    ordered = slides.sort_values("mean_um2", kind="stable").reset_index(drop=True)
    fig, ax = plt.subplots(figsize=(WIDTH, 0.11 * len(ordered) + 1.4))
    colours = ordered.split.map(SPLIT_COLOURS)
    ax.hlines(ordered.index, ordered.low_um2, ordered.high_um2, colors=colours, alpha=0.4, lw=3)
    for marker, (split, colour) in zip(MARKERS, SPLIT_COLOURS.items(), strict=False):
        part = ordered[ordered.split == split]
        ax.plot(part.mean_um2, part.index, marker, color=colour, label=split)
    low = ordered.low_um2.min()
    for row, (words, factor) in enumerate(steps.items()):
        y = -3 - 4 * row
        ax.plot([low, low * factor], [y, y], color="black", lw=2, marker="|", ms=7)
        ax.annotate(words, (low, y), textcoords="offset points", xytext=(2, 4), fontsize=9)
    ax.set(xscale="log", xlabel="mean nucleus area (µm²); line: range of the magnifications' means")
    ax.set(ylabel="slides, ascending", yticks=[], ylim=(y - 1, len(ordered)))
    _log_ticks(ax.xaxis, (1, 1.5, 2, 3, 4, 5, 6, 8))
    merged_legend(fig)
    return fig


# What each rule counts. ``centre`` prefers neither small nor large nuclei; the others are compared with it.
RULES = {
    "clear": "nuclei wholly inside (the paper's rule)",
    "clip": "also the parts of cut nuclei",
    "centre": "nuclei whose centre is inside, with their whole area",
    "mask": "nuclei wholly inside, in a mask (the paper's way)",
    "pixels": "nuclei wholly inside, pixels of each counted",
}


def measure_by_rule(
    images: PatchImages, table: pd.DataFrame, *, per_slide: int = 3, random_state: int = 0
) -> pd.DataFrame:
    """Mean nucleus area of patches drawn at random, so many per slide and magnification, by every rule."""
    rng = np.random.default_rng(random_state)
    nuclei = {name: slide_nuclei(images.nuclei[name]) for name in table["slide"].unique()}
    rows = []
    for (name, magnification), group in table.groupby(["slide", "magnification"]):
        with images.openers[name]() as slide:
            factor = slide.downsample(magnification)
        drawn = rng.permutation(len(group))[:per_slide]
        for row in group.iloc[np.sort(drawn)].itertuples():
            for rule, areas in areas_by_rule(nuclei[name], row.x, row.y, images.size, factor=factor).items():
                mean = float(areas.mean()) if len(areas) else math.nan
                rows.append((row.image, rule, len(areas), mean))
    measured = pd.DataFrame(rows, columns=["image", "rule", "n_nuclei", "mean_area_px"])
    measured = measured.merge(table[["image", "slide", "split", "magnification", "mpp"]], on="image")
    return measured.assign(mean_area_um2=measured["mean_area_px"] * measured["mpp"] ** 2)


def areas_by_rule(nuclei: Outlines, x: float, y: float, size: int, *, factor: float) -> dict[str, np.ndarray]:
    """Areas of the nuclei of one patch in its pixels by each of `RULES`; all but ``centre`` leave out what is too small.

    ``mask`` draws all nuclei into one mask at level 0, which is area-resampled and measured as in section 3.2, so that
    nuclei that touch count as one. ``pixels`` takes each nucleus by itself: the pixels of which it covers at least half.
    """
    corner, end = np.array([x, y]), np.array([x, y]) + size * factor
    middle = (nuclei.boxes[:, :2] + nuclei.boxes[:, 2:]) / 2
    centred = ((middle >= corner) & (middle < end)).all(axis=1)
    whole = np.flatnonzero(nuclei.against_box(corner, end)[0])
    counted = np.array([_pixels((nuclei.polygons[i] - corner) / factor) for i in whole], np.float64)
    return {
        "clear": areas_in_patch(nuclei, x, y, size, factor=factor, border="clear"),
        "clip": areas_in_patch(nuclei, x, y, size, factor=factor, border="clip"),
        "centre": nuclei.areas[centred] / factor**2,
        "mask": areas_in_mask(_mask(nuclei, corner, end, size)),
        "pixels": counted[counted >= MIN_AREA],
    }


def _pixels(vertices: np.ndarray, samples: int = 8) -> int:
    """Pixels of which a polygon covers at least half, from 8 × 8 sample points in each."""
    first, last = np.floor(vertices.min(axis=0)), np.ceil(vertices.max(axis=0))
    width, height = (last - first).astype(int)
    x, y = (
        start + (np.arange(count * samples) + 0.5) / samples
        for start, count in zip(first, (width, height), strict=True)
    )
    inside = covered(vertices, x, y).reshape(height, samples, width, samples)
    return int((inside.mean(axis=(1, 3)) >= 0.5).sum())


def _mask(nuclei: Outlines, corner: np.ndarray, end: np.ndarray, size: int) -> np.ndarray:
    """The mask of a region at level 0, area-resampled to a patch: shape (size, size), uint8."""
    first, last = np.floor(corner).astype(int), np.ceil(end - 1e-6).astype(int)
    mask = np.zeros((last - first)[::-1], bool)
    for i in np.flatnonzero(nuclei.against_box(first, last)[1]):
        left, top = np.maximum(np.floor(nuclei.boxes[i, :2]).astype(int), first)
        right, bottom = np.minimum(np.ceil(nuclei.boxes[i, 2:]).astype(int), last)
        inside = covered(nuclei.polygons[i], np.arange(left, right) + 0.5, np.arange(top, bottom) + 0.5)
        mask[top - first[1] : bottom - first[1], left - first[0] : right - first[0]] |= inside
    grey = np.repeat(mask[..., None].astype(np.uint8) * 255, 3, axis=2)
    start, stop = corner - first, np.minimum(end - first, mask.shape[::-1])
    box = (float(start[0]), float(start[1]), float(stop[0]), float(stop[1]))
    return area_mean(grey, (size, size), box=box)[..., 0]


def rule_summary(measured: pd.DataFrame, *, reference: str = "centre") -> pd.DataFrame:
    """How far each rule's mean area lies from a reference rule's: the geometric mean over slides, with a t interval.

    Patches and slides are those where both rules count a nucleus.
    """
    base = measured[measured["rule"] == reference].set_index("image")["mean_area_um2"]
    both = measured.assign(reference=measured["image"].map(base))
    both = both.dropna(subset=["mean_area_um2", "reference"])
    by, areas = ["rule", "magnification"], ["mean_area_um2", "reference"]
    groups = both.groupby(by, sort=False)
    found = groups.agg(patches=("image", "size"), slides=("slide", "nunique"), n_nuclei=("n_nuclei", "mean"))
    by_slide = both.groupby([*by, "slide"], sort=False)[areas].mean()
    log = np.log(by_slide["mean_area_um2"] / by_slide["reference"]).groupby(by)
    half = log.agg(lambda of_slides: interval(of_slides.to_numpy(), 0.0, 0.95)[0])
    found["mean_um2"] = by_slide["mean_area_um2"].groupby(by).mean()
    found["ratio"], found["low"] = np.exp(log.mean()), np.exp(log.mean() - half)
    return found.assign(high=np.exp(log.mean() + half)).reset_index()


def ratios_by_rule(rules: pd.DataFrame) -> pd.DataFrame:
    """Each rule's mean area over that of the nuclei whose centre is inside: a row per magnification, a column per rule."""
    words = {"clear": "whole nuclei", "clip": "and cut parts", "pixels": "whole, in pixels"}
    words["mask"] = "whole, in a mask"
    ratios = rules.pivot(index="magnification", columns="rule", values="ratio")[list(words)]
    return ratios.rename(columns=words, index="{:g}X".format).rename_axis(index=None, columns=None)


def label_by_rule(read: Read, *, narrow: bool) -> Figure:
    """Mean nucleus area from outlines and from a mask against magnification, the paper's class means beside them."""
    shape, size = ((2, 1), (3.73, 6.4)) if narrow else ((1, 2), (8.23, 3.5))
    fig, axes = plt.subplots(*shape, figsize=size, sharey=True)
    titles = {"compact": "Tissue (MoNuSeg)", "control": "Control: rendered slides"}
    for ax, (profile, title) in zip(axes, titles.items(), strict=True):
        rules = read(f"{profile}/01_datasets/rules").set_index("magnification").sort_index()
        for place, (rule, words) in enumerate({"mask": "from a mask", "clear": "from outlines"}.items()):
            part = rules[rules.rule == rule]
            ax.plot(part.index, part.mean_um2, MARKERS[place] + "-", color=f"C{1 - place}")
            at, up = (part.index[0], 4) if rule == "mask" else (part.index[3], -14)
            look = {"textcoords": "offset points", "xytext": (7, up), "color": f"C{1 - place}"}
            ax.annotate(words, (at, part.mean_um2[at]), **look)
        if profile == "compact":
            paper = read(f"{profile}/01_datasets/class_means").set_index("magnification").paper_um2
            ax.plot(paper, "*:", color="C3", ms=7)
            ax.annotate("the paper's labels", (15, paper[15] + 5), color="C3")
        ax.set(title=title, xscale="log", xlabel="magnification", ylim=(0, 115))
        ax.set_xticks(rules.index.unique(), [f"{m:g}" if m == 8 else f"{m:g}X" for m in rules.index.unique()])
        ax.minorticks_off()
    for ax in axes if narrow else axes[:1]:
        ax.set_ylabel("mean nucleus area (µm²)")
    return fig


def scale_counts(table: pd.DataFrame) -> pd.DataFrame:
    """Images and quantiles of object scale (square root of area ratio), class by class and of all."""
    both = pd.concat([table.sort_values("object_class", kind="stable"), table.assign(object_class="all")])
    found = _distribution(both.groupby("object_class", sort=False)["sqrt_area_ratio"])
    return found.drop(columns=["mean", "sd"]).rename(columns={"count": "images"})
