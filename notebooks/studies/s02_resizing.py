"""Notebook 02: image size against object scale, and what predictions and features make of either (§4.1).

Knows pictures, networks that are read at any size, and tables of what they gave.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from scalebook.exact_tests import wilson
from scalelib.activations import extract
from scalelib.datasets import Dataset
from scalelib.datasets.sources import data_root, find_weights
from scalelib.datasets.voc import load_voc
from scalelib.errors import require
from scalelib.images import read_image, resize_image
from scalelib.networks import Network
from scalelib.plotting import COLOURS, MARKERS, WIDTH, colour_of, merged_legend, tap_axis
from studies.readings import Read
from studies.rendered.scenes import CLASSES, render_paired_scenes

# x0, y0, x1, y1 in pixels, half open.
Box = tuple[float, float, float, float]
CORNERS = ["box_x0", "box_y0", "box_x1", "box_y1"]


@dataclass(frozen=True)
class Pictures:
    """Images to be manipulated, whole or as windows around their object.

    A column ``label`` of the dataset's table is the index of the true class, −1 where unknown. `rendered` holds the same
    scenes rendered anew with the object larger by each factor, where they can be.
    """

    dataset: Dataset
    windows: bool = False
    rendered: Mapping[float, np.ndarray] = field(default_factory=dict)

    @property
    def labels(self) -> np.ndarray | None:
        """Index of the true class in a network's output, or None."""
        table = self.dataset.table
        return table["label"].to_numpy() if "label" in table else None

    def manipulations(self) -> list[str]:
        """What can be done to these images: some of `MANIPULATIONS`, or ``rendered``."""
        if self.windows:
            return ["zoom", "share", "canvas"]
        return ["resize", "detail", *(["rendered"] if self.rendered else [])]


def load_pictures(
    dataset: str, n: int, *, share: float = 0.4, factors: Sequence[float] = (0.5, 1.0, 2.0), seed: int = 0
) -> list[Pictures]:
    """The images of a profile, whole and (last) as windows around an object.

    ``"scenes"``: whole scenes with the object at `share`, also rendered anew at `share` × each factor; windows are cut from
    those with the smallest, so that they hardly ever need padding. ``"photos"``: VOC2007 test, evenly spaced, and ImageNet
    samples; windows are those of VOC that need the least padding. ``"voc"``: the same without ImageNet samples.
    """
    if dataset == "scenes":
        return _scenes(n, share, sorted(factors), seed)
    voc = load_voc()
    spaced = np.linspace(0, len(voc.table) - 1, min(n, len(voc.table))).round().astype(int)
    whole = [voc.select(spaced), *([load_imagenet_samples(limit=n)] if dataset == "photos" else [])]
    windows = _named(_least_padded(voc, n, share * min(factors)), "windows")
    return [Pictures(_decoded(one)) for one in whole] + [Pictures(_decoded(windows), windows=True)]


def _scenes(n: int, share: float, factors: Sequence[float], seed: int) -> list[Pictures]:
    scales = [share * factor for factor in factors]
    small = render_paired_scenes(n, scales=scales, size=64, random_state=seed)
    large = render_paired_scenes(n, scales=scales, size=256, random_state=seed)
    large.table["label"] = [CLASSES.index(name) for name in large.table.object_class]
    rows = {factor: np.arange(k, len(large.table), len(scales)) for k, factor in enumerate(factors)}
    rendered = {factor: np.asarray(small.images)[row] for factor, row in rows.items()}
    windows = _named(large.select(rows[factors[0]]), "windows")
    return [Pictures(large.select(rows[1.0]), rendered=rendered), Pictures(windows, windows=True)]


def _named(dataset: Dataset, part: str) -> Dataset:
    return replace(dataset, name=f"{dataset.name}, {part}")


def load_imagenet_samples(*, limit: int) -> Dataset:
    """The first ImageNet images named ``wnid_name.JPEG``, with the index of their class in a network's output."""
    folder = data_root() / "imagenet_samples"
    paths = sorted(folder.glob("n[0-9]*_*.JPEG"))[:limit]
    advice = "Put ImageNet validation images there, named by class"
    require(paths, "load_imagenet_samples", "no image named wnid_name.JPEG", folder, advice)
    index = json.loads(find_weights("imagenet_class_index.json").read_text(encoding="utf-8"))
    label_of = {wnid: int(label) for label, (wnid, _) in index.items()}
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.name.encode() + path.read_bytes())
    table = pd.DataFrame([path.stem.split("_", 1) for path in paths], columns=["wnid", "object_class"])
    table.insert(0, "image", [path.stem for path in paths])
    table["label"] = table.pop("wnid").map(label_of)
    table = table.assign(area_ratio=np.nan, sqrt_area_ratio=np.nan)  # there are no boxes
    source = "ImageNet ILSVRC2012 samples (Russakovsky et al. 2015), research use"
    return Dataset("ImageNet samples", paths, table, source=source, digest=digest.hexdigest())


def _least_padded(dataset: Dataset, n: int, share: float) -> Dataset:
    table = dataset.table
    side = np.sqrt((table.box_x1 - table.box_x0) * (table.box_y1 - table.box_y0)) / share
    inside = np.ones(len(table))
    for low, high, length in (("box_x0", "box_x1", table.width), ("box_y0", "box_y1", table.height)):
        centre = (table[low] + table[high]) / 2
        inside *= np.minimum(centre + side / 2, length) - np.maximum(centre - side / 2, 0)
    order = np.argsort(-(inside / side**2).to_numpy(), kind="stable")
    return dataset.select(np.sort(order[:n]))


def _decoded(dataset: Dataset) -> Dataset:
    """Images in memory: every one is reframed dozens of times."""
    return replace(dataset, images=[read_image(image) for image in dataset.images])


MANIPULATIONS = ("resize", "detail", "zoom", "share", "canvas")


def reframe_all(
    images: Sequence[Any] | np.ndarray,
    boxes: pd.DataFrame | None = None,
    *,
    manipulation: str,
    factor: float,
    size: int,
    share: float = 0.4,
    **sampling: Any,
) -> tuple[np.ndarray, np.ndarray]:
    """One of `MANIPULATIONS` of many images by one factor: pictures, and the share of each that is padding.

    ============ ============== ============== ================ =================
    manipulation of             image size     object's share   object in pixels
    ============ ============== ============== ================ =================
    ``resize``   whole image    × factor       kept             × factor
    ``detail``   whole image    kept           kept             kept
    ``zoom``     window         × factor       kept             × factor
    ``share``    window         kept           × factor         × factor
    ``canvas``   window         × factor       ÷ factor         kept
    ============ ============== ============== ================ =================

    ``detail`` resizes by the factor and stretches back: it loses what a smaller image cannot hold and changes nothing else.
    Whole images are stretched to a square; windows are cut around the object's box (`CORNERS`), and are the same picture for
    all three at factor 1, with the object at `share` of their side.
    """
    side = size if manipulation == "share" else max(1, round(size * factor))
    wanted = {"share": share * factor, "canvas": share / factor}.get(manipulation, share)
    corners: Sequence[Any] = [None] * len(images)
    if boxes is not None and manipulation in ("zoom", "share", "canvas"):
        corners = boxes[CORNERS].to_numpy()
    pictures, padded = [], []
    for image, box in zip(images, corners, strict=True):
        picture, outside = reframe(image, box, size=side, share=wanted, **sampling)
        if manipulation == "detail":
            picture = reframe(picture, size=size, **sampling)[0]
        pictures.append(picture)
        padded.append(outside)
    return np.stack(pictures), np.array(padded)


def reframe(
    image: Any, box: Box | None = None, *, size: int, share: float = 0.4, **sampling: Any
) -> tuple[np.ndarray, float]:
    """A square picture in which the object takes a share of the side, and how much of it is padding of the mean colour.

    Without a box the whole image is stretched to a square. `sampling` is that of :func:`scalelib.images.resize_image`.
    """
    pixels, padded = read_image(image), 0.0
    if box is not None:
        pixels, padded = _window(pixels, box, share)
    picture = resize_image(pixels, (size, size), **sampling)
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8), padded


def _window(pixels: np.ndarray, box: Box, share: float) -> tuple[np.ndarray, float]:
    x0, y0, x1, y1 = box
    side = max(1, round(np.sqrt((x1 - x0) * (y1 - y0)) / share))
    left, top = round((x0 + x1 - side) / 2), round((y0 + y1 - side) / 2)
    height, width = pixels.shape[:2]
    rows = slice(max(0, top), min(height, top + side))
    columns = slice(max(0, left), min(width, left + side))
    inside = pixels[rows, columns]
    window = np.empty((side, side, 3), np.uint8)
    if inside.shape != window.shape:
        window[:] = np.rint(pixels.mean(axis=(0, 1)))
    window[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = inside
    return window, 1 - inside.shape[0] * inside.shape[1] / side**2


def manipulation_grid(stacks: Mapping[str, Mapping[float, np.ndarray]]) -> Figure:
    """The first picture under every manipulation (columns) and factor (rows), all drawn on one scale of pixels."""
    pictures = {name: {k: images[0] for k, images in own.items()} for name, own in stacks.items()}
    factors = sorted(next(iter(pictures.values())))
    widths = [max(len(image) for image in by_factor.values()) for by_factor in pictures.values()]
    heights = [max(len(by_factor[factor]) for by_factor in pictures.values()) for factor in factors]
    size = (WIDTH, 0.4 + WIDTH * sum(heights) / sum(widths))
    ratios: dict[str, Any] = {"width_ratios": widths, "height_ratios": heights}
    fig, axes = plt.subplots(len(heights), len(widths), figsize=size, squeeze=False, dpi=170, **ratios)
    for column, width, (name, by_factor) in zip(axes.T, widths, pictures.items(), strict=True):
        column[0].set_title(name, loc="center", fontsize=12)
        for ax, height, factor in zip(column, heights, factors, strict=True):
            half = len(by_factor[factor]) / 2
            ax.imshow(by_factor[factor], extent=(-half, half, -half, half))
            ax.set(xlim=(-width / 2, width / 2), ylim=(-height / 2, height / 2), xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
    for ax, factor in zip(axes[:, 0], factors, strict=True):
        ax.set_ylabel(f"k = {factor:g}", fontsize=12)
    return fig


# Activations of the same images by factor and tap; what is compared with is factor 1.
Activations = Mapping[float, Mapping[str, np.ndarray]]


def size_tables(
    net: Network, pictures: Pictures, *, size: int, factors: Mapping[str, Sequence[float]], share: float = 0.4
) -> dict[str, pd.DataFrame]:
    """All measures of one network of any size on one set of pictures, for each manipulation that they allow.

    ``predictions`` (for networks with a softmax) has the picture's side, the object's share of it (the mean for whole
    images) and the mean share of padding besides; ``cosine`` and ``variance`` are by tap.
    """
    parts: dict[str, list[pd.DataFrame]] = {"predictions": [], "cosine": [], "variance": []}
    for manipulation in [name for name in pictures.manipulations() if name in factors]:
        acts, padded, sides = {}, {}, {}
        for factor in factors[manipulation]:
            images, padded[factor] = _manipulated(pictures, manipulation, factor, size=size, share=share)
            acts[factor], sides[factor] = extract(net, images), images.shape[1]
        found = {"cosine": activations_by_factor(acts), "variance": variance_by_factor(acts)}
        if "softmax" in net.taps:
            table = predictions_by_factor(acts, labels=pictures.labels)
            shares = share * table.factor ** {"share": 1, "rendered": 1, "canvas": -1}.get(manipulation, 0)
            if manipulation in ("resize", "detail"):
                shares = pictures.dataset.table.sqrt_area_ratio.mean()
            table = table.assign(image_size=table.factor.map(sides), object_share=shares)
            found["predictions"] = table.assign(padded=table.factor.map(padded))
        for name, table in found.items():
            parts[name].append(table.assign(pictures=pictures.dataset.name, manipulation=manipulation))
    return {name: pd.concat(tables, ignore_index=True) for name, tables in parts.items() if tables}


def _manipulated(
    pictures: Pictures, manipulation: str, factor: float, **options: Any
) -> tuple[np.ndarray, float]:
    if manipulation == "rendered":
        return pictures.rendered[factor], 0.0
    given = (pictures.dataset.images, pictures.dataset.table if pictures.windows else None)
    images, padded = reframe_all(*given, manipulation=manipulation, factor=factor, **options)
    return images, float(padded.mean())


def predictions_by_factor(acts: Activations, *, labels: np.ndarray | None = None) -> pd.DataFrame:
    """How far predictions at each factor are from those at 1: top-1 agreement with Wilson's interval, total variation.

    `labels` are true classes, −1 where unknown; without them the accuracy is NaN.
    """
    target = acts[1.0]["softmax"]
    rows = []
    for factor in sorted(acts):
        probabilities = acts[factor]["softmax"]
        named = probabilities.argmax(axis=1)
        same = named == target.argmax(axis=1)
        low, high = wilson(same.sum(), len(same))
        row = {"factor": factor, "n": len(same), "agreement": same.mean()}
        row |= {"agreement_low": low, "agreement_high": high}
        row |= {"total_variation": total_variation(probabilities, target).mean(), "accuracy": np.nan}
        if labels is not None:
            row["accuracy"] = (named == labels)[labels >= 0].mean()
        rows.append(row)
    return pd.DataFrame(rows)


def total_variation(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Total variation distance between rows of probabilities: half the sum of absolute differences."""
    return 0.5 * np.abs(np.asarray(p, dtype=float) - np.asarray(q, dtype=float)).sum(axis=1)


def activations_by_factor(acts: Activations) -> pd.DataFrame:
    """Cosine of each tap's activations to the same images' at factor 1, over the images that have one."""
    rows = [
        (tap, factor, pd.Series(cosine_to_reference(acts[factor][tap], target)).mean())
        for tap, target in acts[1.0].items()
        for factor in sorted(acts)
    ]
    return pd.DataFrame(rows, columns=["tap", "factor", "cosine"])


def cosine_to_reference(values: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Cosine between each image's activations and its reference; NaN where a centred activation vanishes.

    The mean activation over images at the reference is taken off both, so that two pictures of different things score about
    0 although all activations after a ReLU are positive.
    """
    centre = np.mean(reference, axis=0, dtype=float)
    a, b = values - centre, reference - centre
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.divide((a * b).sum(axis=1), norms, out=np.full(len(a), np.nan), where=norms > 0)


def variance_by_factor(acts: Activations) -> pd.DataFrame:
    """Share of each tap's variance, over images and factors, that the factor alone explains."""
    factors = sorted(acts)
    n = len(next(iter(acts[1.0].values())))
    scene, factor = np.tile(np.arange(n), len(factors)), np.repeat(factors, n)
    stacked = {tap: np.concatenate([acts[k][tap] for k in factors]) for tap in acts[1.0]}
    return variance_explained_by_scale(stacked, scene, factor)


def variance_explained_by_scale(
    acts: Mapping[str, np.ndarray], scene: np.ndarray, scale: np.ndarray, *, within: Any = None
) -> pd.DataFrame:
    r"""Share of each tap's variance that the main effect of scale explains, where every scene comes once at every scale.

    With :math:`\bar x_s` the mean over the scenes at scale :math:`s` and :math:`\bar x` the mean over everything, it is
    :math:`n \sum_s \lVert \bar x_s - \bar x \rVert^2 / \sum_{i,s} \lVert x_{is} - \bar x \rVert^2` (two-way analysis of
    variance without replicates; Fisher 1925), summed over channels; NaN for a constant tap. The main effect, on purpose: the
    interaction of scene and scale grows with depth in random networks too. `within` labels, such as the object class, take
    the share within each and average: near its logits a classifier holds little else than the variance between classes.
    """
    labels = np.zeros(len(scene)) if within is None else np.asarray(within)
    parts = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    orders = [(rows[np.lexsort((scene[rows], scale[rows]))], len(np.unique(scale[rows]))) for rows in parts]
    table = [
        (tap, values.shape[1], np.mean([_explained(values[rows], n_scales) for rows, n_scales in orders]))
        for tap, values in acts.items()
    ]
    return pd.DataFrame(table, columns=["tap", "channels", "variance_explained"])


def _explained(values: np.ndarray, n_scales: int) -> float:
    by_scale = np.asarray(values, np.float64).reshape(n_scales, -1, values.shape[1])
    deviations = by_scale - by_scale.mean(axis=(0, 1))
    explained = (deviations.mean(axis=1) ** 2).sum() * by_scale.shape[1]
    varies = np.ptp(by_scale, axis=(0, 1)).any()
    return float(min(explained / (deviations**2).sum(), 1.0)) if varies else np.nan


def labels_kept(predictions: pd.DataFrame) -> pd.DataFrame:
    """Top-1 agreement with the reference by network, manipulation and factor, over all pictures, with Wilson's interval."""
    weighted = predictions.assign(kept=(predictions.agreement * predictions.n).round())
    groups = weighted.groupby(["network", "weights", "manipulation", "factor"], sort=False)
    table = groups[["kept", "n"]].sum()
    limits = [wilson(kept, n) for kept, n in table.itertuples(index=False)]
    low, high = np.transpose(limits)
    return table.assign(kept=table.kept / table.n, low=low, high=high).reset_index()


def kept_at(kept: pd.DataFrame, factors: Sequence[float]) -> pd.DataFrame:
    """The share of labels kept, a row per manipulation, a column per network and factor."""
    rows = kept[kept.factor.isin(factors)]
    who = (rows.network + ", " + rows.weights.str.split(",").str[0]).rename("")
    table = rows.pivot_table("kept", "manipulation", [who, rows.factor.rename("k")], sort=False)
    return table.rename(columns="{:g}".format, level=1).rename_axis(index=None)


def size_is_not_scale(read: Read, *, narrow: bool) -> Figure:
    """Labels kept against k by a network trained on photographs; at k = ½ by the twins of the control experiment."""
    shape, size = ((2, 1), (3.73, 6.2)) if narrow else ((1, 2), (8.23, 3.7))
    fig, (left, right) = plt.subplots(*shape, figsize=size)
    kept = read("compact/02_resizing_invariance/labels_kept").query("network == 'MobileNetV2'")
    ends = {"resize": (8, 0), "detail": (10, -4), "zoom": (8, 5), "share": (8, 0), "canvas": (8, -6)}
    for place, (name, rows) in enumerate(kept.groupby("manipulation", sort=False)):
        left.plot(rows.factor, rows.kept, MARKERS[place] + "-", color=f"C{place}")
        at, shift = rows.iloc[0 if name == "detail" else -1], ends[str(name)]
        look: dict[str, Any] = {"textcoords": "offset points", "va": "center", "color": f"C{place}"}
        left.annotate(str(name), (at.factor, at.kept), xytext=shift, **look)
    _factor_axis(left)
    left.set(title="Photographs: MobileNetV2", xlim=(0.22, 3.2))
    kept = read("control/02_resizing_invariance/labels_kept").query("factor == 0.5")
    halved = {"resize": "the image", "share": "the object's\nshare", "rendered": "the object\nalone"}
    for place, weights in enumerate(("all scales", "one scale")):
        rows = kept[kept.weights == weights].set_index("manipulation").loc[list(halved)]
        y = np.arange(len(rows)) + 0.16 * (2 * place - 1)
        limits = [rows.kept - rows.low, rows.high - rows.kept]
        right.errorbar(rows.kept, y, xerr=limits, fmt="os"[place], color=f"C{place}", capsize=2)
        look = {"textcoords": "offset points", "xytext": (0, -15), "ha": "center", "color": f"C{place}"}
        right.annotate(f"trained at {weights}", (rows.kept.iloc[0] + 0.2 * place, y[0]), **look)
    right.set(title="Control: what is halved", xlim=(0, 1.02), xlabel="labels kept", ylim=(2.5, -0.6))
    right.set_yticks(range(len(halved)), list(halved.values()))
    left.set(ylim=(-0.02, 1.02), ylabel="labels kept")
    for axis in (left.yaxis, right.xaxis):
        axis.set_major_formatter(PercentFormatter(1))
    return fig


def _factor_axis(ax: Axes) -> None:
    ax.set_xscale("log", base=2)
    ax.set_xticks([0.25, 0.5, 1, 2], ["¼", "½", "1", "2"])
    ax.minorticks_off()
    ax.set(xlabel="factor k", xlim=(0.22, 2.27))


def features_by_tap(variance: pd.DataFrame, cosine: pd.DataFrame) -> Figure:
    """Of one network, by tap: the share of variance that each manipulation explains, and the cosine to k = 1 at k = ½."""
    fig, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.9))
    panels = {"share of variance that k explains": variance.rename(columns={"variance_explained": "value"})}
    panels["cosine at k = ½ to k = 1"] = cosine[cosine.factor == 0.5].rename(columns={"cosine": "value"})
    for ax, (title, table) in zip(axes, panels.items(), strict=True):
        taps = table[table.tap != "softmax"].groupby(["manipulation", "tap"], sort=False).value.mean()
        for place, (name, rows) in enumerate(taps.groupby("manipulation", sort=False)):
            ax.plot(rows.to_numpy(), MARKERS[place] + "-", color=COLOURS[place], label=str(name))
        ax.set_ylabel(title)
        tap_axis(ax, rows.index.get_level_values("tap"), label="")
        ax.set_xticks(ax.get_xticks()[:: -(-len(rows) // 6)])
    merged_legend(fig, axes[:1])
    return fig


def sampling_table(
    net: Network, pictures: Pictures, *, size: int, factors: Sequence[float], interpolations: Sequence[str]
) -> pd.DataFrame:
    """Predictions under resizing for each way of resampling, each compared with itself at 1, and after one pixel more.

    Bilinear interpolation comes with and without anti-aliasing, nearest never has it, the others always.
    """
    filters = {"bilinear": (True, False), "nearest": (False,)}
    parts = []
    for interpolation in interpolations:
        for antialias in filters.get(interpolation, (True,)):
            way: dict[str, Any] = {"interpolation": interpolation, "antialias": antialias}
            acts = {}
            for factor in sorted({*factors, 1.0, 1 + 1 / size}):
                images, _ = _manipulated(pictures, "resize", factor, size=size, **way)
                acts[factor] = extract(net, images, taps=["softmax"])
            table = predictions_by_factor(acts, labels=pictures.labels)
            change = (size * table.factor).round().astype(int) - size
            parts.append(table.assign(change_px=change, **way))
    return pd.concat(parts, ignore_index=True)


def sampling(table: pd.DataFrame) -> Figure:
    """Agreement for each way of resampling, against the factor and after a change by one pixel."""
    networks = table.groupby("network" if table.network.nunique() > 1 else "weights", sort=False)
    heights: dict[str, Any] = {"figsize": (WIDTH, 5.4), "height_ratios": (3, 2), "sharey": "row"}
    fig, axes = plt.subplots(2, len(networks), squeeze=False, **heights)
    colours = colour_of(table.interpolation)
    for (above, below), (who, part) in zip(axes.T, networks, strict=True):
        ways = part.groupby(["interpolation", "antialias"], sort=False)
        for place, ((name, filtered), rows) in enumerate(ways):
            ls, marker = ("-", "o") if filtered else ("--", "x")
            look = {"color": colours[name], "ls": ls, "marker": marker}
            label = f"{name}, {'' if filtered else 'not '}anti-aliased"
            shrunk, pixel = rows[rows.factor <= 1], rows[rows.change_px == 1]
            above.plot(shrunk.factor, shrunk.agreement, label=label, **look)
            limits = [pixel.agreement_high - pixel.agreement, pixel.agreement - pixel.agreement_low]
            below.errorbar([place], 1 - pixel.agreement, yerr=limits, capsize=2, **look)
        _factor_axis(above)
        above.set(title=who, xlim=(0.22, 1.1))
        below.set(xticks=[], xlim=(-0.5, place + 0.5))
    axes[1, 0].set_ylim(0, None)
    axes[0, 0].set_ylabel("labels kept")
    axes[1, 0].set_ylabel("labels changed by\none pixel more")
    merged_legend(fig, axes[0], ncols=3)
    return fig
