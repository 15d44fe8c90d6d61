"""The loops of section 4.1: pictures × manipulations × factors, read by a network at their own size.

Here the parts meet: pictures are reframed, read and compared. What the parts do is theirs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from scalelib.activations import extract
from scalelib.datasets.base import Dataset
from scalelib.datasets.imagenet import load_imagenet_samples
from scalelib.datasets.scenes import CLASSES, render_paired_scenes
from scalelib.datasets.voc import load_voc
from scalelib.errors import DataError
from scalelib.images import read_image
from scalelib.networks import Network
from scalelib.reframing import reframe_all
from scalelib.resizing import activations_by_factor, predictions_by_factor, variance_by_factor

Tables = dict[str, pd.DataFrame]


@dataclass(frozen=True)
class Pictures:
    """Images to be manipulated, whole or as windows around their object.

    Parameters
    ----------
    dataset : Dataset
        The images; with a column ``label`` (−1 where unknown) accuracy is to be had.
    windows : bool, default=False
        Whether windows are cut around the boxes ``box_x0`` … ``box_y1``.
    rendered : mapping of float to ndarray of uint8, shape (n, size, size, 3)
        The same scenes rendered anew with the object larger by the factor, where they can be.
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
        """What can be done to these images; see :func:`scalelib.reframing.reframe_all`."""
        if self.windows:
            return ["zoom", "share", "canvas"]
        return ["resize", "detail", *(["rendered"] if self.rendered else [])]


def load_pictures(
    dataset: str, n: int, *, share: float = 0.4, factors: Sequence[float] = (0.5, 1.0, 2.0), seed: int = 0
) -> list[Pictures]:
    """The images of a profile: rendered scenes or photographs, whole and as windows around an object.

    Parameters
    ----------
    dataset : {"scenes", "photos", "voc"}
        ``"scenes"``: whole scenes with the object at `share`, also rendered anew with the object at `share`
        × each factor; windows are cut from scenes with the object at `share` × the smallest factor, so that
        they hardly ever need padding. Sources are 256 px wide, scenes rendered anew 64 px.
        ``"photos"``: PASCAL VOC2007 test and ImageNet samples, whole; windows from VOC. ``"voc"``: the
        same without ImageNet samples, so that there are no labels and no accuracy.
    n : int
        How many scenes, or how many photographs of each source: of VOC, whole, evenly spaced in the
        order of the list; for windows those that need the least padding at the smallest share.
    share : float, default=0.4
        The object's share of a window's side at factor 1.
    factors : sequence of float
        Factors by which the object's share will be changed.
    seed : int, default=0
        Of the scenes.

    Returns
    -------
    list of Pictures
        Windows last.

    Raises
    ------
    DataError
        If the name is unknown or data are missing.

    Examples
    --------
    >>> whole, windows = load_pictures("scenes", 3)
    >>> whole.manipulations(), windows.manipulations()
    (['resize', 'detail', 'rendered'], ['zoom', 'share', 'canvas'])
    """
    if dataset == "scenes":
        return _scenes(n, share, sorted(factors), seed)
    if dataset in ("photos", "voc"):
        voc = load_voc()
        spaced = np.linspace(0, len(voc.table) - 1, min(n, len(voc.table))).round().astype(int)
        whole = [voc.select(spaced), *([load_imagenet_samples(limit=n)] if dataset == "photos" else [])]
        windows = _named(_least_padded(voc, n, share * min(factors)), "windows")
        return [Pictures(_decoded(one)) for one in whole] + [Pictures(_decoded(windows), windows=True)]
    raise DataError(
        f"load_pictures: no pictures {dataset!r}.\nReceived: {dataset!r}.\nThere are 'scenes', 'photos' and 'voc'."
    )


def _scenes(n: int, share: float, factors: Sequence[float], seed: int) -> list[Pictures]:
    scales = [share * factor for factor in factors]
    small = render_paired_scenes(n, scales=scales, size=64, random_state=seed)
    large = render_paired_scenes(n, scales=scales, size=256, random_state=seed)
    for drawn in (small, large):
        drawn.table["label"] = [list(CLASSES).index(name) for name in drawn.table.object_class]
    rows = {factor: np.arange(k, len(large.table), len(scales)) for k, factor in enumerate(factors)}
    rendered = {factor: np.asarray(small.images)[row] for factor, row in rows.items()}
    windows = _named(large.select(rows[factors[0]]), "windows")
    return [Pictures(large.select(rows[1.0]), rendered=rendered), Pictures(windows, windows=True)]


def _named(dataset: Dataset, part: str) -> Dataset:
    return replace(dataset, name=f"{dataset.name}, {part}")


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


def size_tables(
    net: Network,
    pictures: Pictures,
    *,
    size: int,
    factors: Mapping[str, Sequence[float]],
    share: float = 0.4,
    **sampling: Any,
) -> Tables:
    """All measures of one network on one set of pictures.

    Parameters
    ----------
    net : Network
        For any size; see :func:`scalelib.native.any_size`.
    pictures : Pictures
    size : int
        Side of the reference picture in pixels.
    factors : mapping of str to sequence of float
        Factors of each manipulation; 1 is among them. Manipulations that the pictures do not allow are
        left out.
    share : float, default=0.4
        The object's share of a window's side at factor 1.
    **sampling
        ``interpolation`` and ``antialias``; see :func:`scalelib.reframing.reframe`.

    Returns
    -------
    dict of str to pandas.DataFrame
        ``predictions`` (empty without a softmax), ``cosine`` and ``variance``: see :mod:`scalelib.resizing`,
        with the columns ``pictures`` and ``manipulation``; ``predictions`` also with ``image_size`` (px),
        ``object_share`` (of the side; the mean for whole images) and ``padded`` (mean share of the picture).
    """
    parts: dict[str, list[pd.DataFrame]] = {"predictions": [], "cosine": [], "variance": []}
    for manipulation in [name for name in pictures.manipulations() if name in factors]:
        acts, padded, sides = {}, {}, {}
        for factor, images, outside in _series(
            pictures, manipulation, factors[manipulation], size=size, share=share, **sampling
        ):
            acts[factor], padded[factor], sides[factor] = extract(net, images), outside, images.shape[1]
        found = {"cosine": activations_by_factor(acts), "variance": variance_by_factor(acts)}
        if "softmax" in net.taps:
            table = predictions_by_factor(acts, labels=pictures.labels)
            shares = share * table.factor ** {"share": 1, "rendered": 1, "canvas": -1}.get(manipulation, 0)
            if manipulation in ("resize", "detail"):
                shares = pictures.dataset.table.sqrt_area_ratio.mean()
            found["predictions"] = table.assign(
                image_size=table.factor.map(sides), object_share=shares, padded=table.factor.map(padded)
            )
        for name, table in found.items():
            labels = {"pictures": pictures.dataset.name, "manipulation": manipulation}
            parts[name].append(table.assign(**labels))
    return {name: pd.concat(tables, ignore_index=True) for name, tables in parts.items() if tables}


def _series(
    pictures: Pictures, manipulation: str, factors: Sequence[float], **options: Any
) -> Iterator[tuple[float, np.ndarray, float]]:
    for factor in factors:
        if manipulation == "rendered":
            yield factor, pictures.rendered[factor], 0.0
        else:
            images, padded = reframe_all(
                pictures.dataset.images,
                pictures.dataset.table if pictures.windows else None,
                manipulation=manipulation,
                factor=factor,
                **options,
            )
            yield factor, images, float(padded.mean())


def sampling_table(
    net: Network,
    pictures: Pictures,
    *,
    size: int,
    factors: Sequence[float],
    interpolations: Sequence[str] = ("bilinear", "nearest"),
) -> pd.DataFrame:
    """Predictions under resizing for each way of resampling, and after a change by one pixel.

    Parameters
    ----------
    net : Network
        With a softmax, for any size.
    pictures : Pictures
    size : int
        Side of the reference picture in pixels.
    factors : sequence of float
        At most 1; 1 is added, and the factor that makes the picture one pixel larger.
    interpolations : sequence of str
        See :func:`scalelib.images.resize_image`; each with and without anti-aliasing, where it can be had.

    Returns
    -------
    pandas.DataFrame
        The rows of :func:`scalelib.resizing.predictions_by_factor` with ``interpolation``, ``antialias`` and
        ``change_px``, the change of the side in pixels. Each way of resampling is compared with itself at factor 1.
    """
    parts = []
    one_pixel = 1 + 1 / size
    for interpolation, antialias in product(interpolations, (True, False)):
        if (interpolation, antialias) in (("area", False), ("nearest", True)):
            continue  # an area mean cannot alias, nearest never filters
        series = _series(
            pictures,
            "resize",
            sorted({*factors, 1.0, one_pixel}),
            size=size,
            interpolation=interpolation,
            antialias=antialias,
        )
        acts = {factor: extract(net, images, taps=["softmax"]) for factor, images, _ in series}
        table = predictions_by_factor(acts, labels=pictures.labels)
        parts.append(
            table.assign(
                change_px=(size * table.factor).round().astype(int) - size,
                interpolation=interpolation,
                antialias=antialias,
            )
        )
    return pd.concat(parts, ignore_index=True)
