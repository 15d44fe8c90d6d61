"""How much of a feature's variance is owed to scale alone, in paired scenes. Knows arrays only. Loose ImageNet sample images whose class stands in the file name. Knows files, no networks. Image size against object scale: ways to change one of them without the other. What predictions and activations make of one and the same image at several sizes or scales. The loops of section 4.1: pictures × manipulations × factors, read by a network at their own size. The numbers that the resizing notebook's prose quotes, taken from its tables. Knows tables only. Figures of the resizing experiments (§4.1). Draws pictures and tables; computes no measure."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scalelib.activations import extract
from scalelib.datasets import Dataset
from scalelib.datasets.sources import data_root, find_weights
from scalelib.datasets.voc import load_voc
from scalelib.errors import DataError, did_you_mean
from scalelib.images import read_image, resize_image
from scalelib.networks import Network
from scalelib.plotting import COLOURS, MARKERS, WIDTH, colour_of, legend_below, tap_axis
from scalelib.validation import check_activations, check_labels
from studies.rendered.scenes import CLASSES, render_paired_scenes


def variance_explained_by_scale(
    acts: Mapping[str, Any], scene: Any, scale: Any, *, within: Any = None
) -> pd.DataFrame:
    r"""Share of each tap's variance that the main effect of scale explains.

    Parameters
    ----------
    acts : mapping of str to array_like, shape (n_images, channels)
        Pooled activations per tap, finite.
    scene : array_like, shape (n_images,)
        Which scene each row shows, such as ``render_paired_scenes(…).table.scene``.
    scale : array_like, shape (n_images,)
        The scale it is shown at. Every scene comes once at every scale, in any order.
    within : array_like, shape (n_images,), optional
        Labels, such as the object class. The share is then taken within each label and averaged
        over labels, which keeps the variance *between* classes out of the total: near its logits a
        classifier holds little else, so that every other share shrinks there whatever scale does.

    Returns
    -------
    pandas.DataFrame
        One row per tap, in the order of `acts`: ``tap``, ``channels``, ``variance_explained`` in
        [0, 1]. 0 for a tap whose mean over scenes does not change with scale, 1 for one that holds
        nothing else, NaN for one that is constant.

    Raises
    ------
    DataError
        If lengths differ, activations are not finite, there are fewer than two scenes (of every
        label) or two scales, or a scene is not there exactly once at every scale.

    Notes
    -----
    With :math:`\bar x_s` the mean over the scenes at scale :math:`s` and :math:`\bar x` the mean
    over everything, the share is :math:`n \sum_s \lVert \bar x_s - \bar x \rVert^2 / \sum_{i,s}
    \lVert x_{is} - \bar x \rVert^2` (two-way analysis of variance without replicates; Fisher 1925),
    summed over channels, so that channels weigh by their variance. It is the main effect, on
    purpose: variance *within* scenes also holds the interaction of scene and scale, which grows
    with depth in random networks too.

    Examples
    --------
    >>> scene, scale = np.repeat([0, 1], 2), np.tile([0.2, 0.8], 2)
    >>> acts = {"invariant": scene[:, None], "covariant": scale[:, None]}
    >>> variance_explained_by_scale(acts, scene, scale).variance_explained.tolist()
    [0.0, 1.0]
    """
    operation = "variance_explained_by_scale"
    scene, scale = np.asarray(scene), np.asarray(scale)
    if scene.ndim != 1 or scene.shape != scale.shape:
        raise DataError(
            "variance_explained_by_scale: scene and scale have one entry per image each.\n"
            f"Received: shapes {scene.shape} and {scale.shape}.\nPass two columns of the dataset's table."
        )
    acts = check_activations(acts, len(scene), operation=operation)
    labels = check_labels(within, len(scene), name="within", operation=operation)
    parts = (
        [np.arange(len(scene))]
        if labels is None
        else [np.flatnonzero(labels == k) for k in np.unique(labels)]
    )
    shares = np.array([_shares(acts, scene, scale, rows) for rows in parts])
    channels = [activations.shape[1] for activations in acts.values()]
    return pd.DataFrame({"tap": list(acts), "channels": channels, "variance_explained": shares.mean(axis=0)})


def _shares(
    acts: Mapping[str, np.ndarray], scene: np.ndarray, scale: np.ndarray, rows: np.ndarray
) -> list[float]:
    """The share of every tap over some rows."""
    n_scales = _check_paired(scene[rows], scale[rows])
    rows = rows[np.lexsort((scene[rows], scale[rows]))]
    shares = []
    for activations in acts.values():
        by_scale = np.asarray(activations, np.float64)[rows].reshape(n_scales, -1, activations.shape[1])
        deviations = by_scale - by_scale.mean(axis=(0, 1))
        explained = (deviations.mean(axis=1) ** 2).sum() * by_scale.shape[1]
        varies = np.ptp(by_scale, axis=(0, 1)).any()
        shares.append(float(min(explained / (deviations**2).sum(), 1.0)) if varies else np.nan)
    return shares


def _check_paired(scene: np.ndarray, scale: np.ndarray) -> int:
    counts = pd.crosstab(scene, scale).to_numpy()
    if min(counts.shape, default=0) < 2 or not (counts == 1).all():
        raise DataError(
            "variance_explained_by_scale: every scene comes exactly once at every scale, and there are at "
            f"least two of both.\nReceived: {counts.shape[0]} scenes and {counts.shape[-1]} scales in "
            f"{len(scene)} images.\nRender them with render_paired_scenes, or drop incomplete scenes."
        )
    return counts.shape[1]


def load_imagenet_samples(*, root: str | os.PathLike[str] | None = None, limit: int | None = None) -> Dataset:
    """ImageNet images named ``wnid_name.JPEG``, with the index of their class in a network's output.

    Parameters
    ----------
    root : path-like, optional
        Folder that holds ``imagenet_samples/``. Default: :func:`scalelib.datasets.sources.data_root`. Keras's
        ``imagenet_class_index.json`` is looked for as weight files are.
    limit : int, optional
        The first so many, in the order of the wnid. Default: all.

    Returns
    -------
    Dataset
        ``images``: paths. ``table``: ``image``, ``object_class`` (the readable name), ``label`` (0–999),
        ``area_ratio`` and ``sqrt_area_ratio`` (NaN: there are no boxes).

    Raises
    ------
    DataError
        If there is no such folder, it holds no image, or a name has no known wnid.
    WeightsError
        If the class index is not there.

    Examples
    --------
    >>> load_imagenet_samples(root="no-such-folder")
    Traceback (most recent call last):
    ...
    scalelib.errors.DataError: load_imagenet_samples: no image named wnid_name.JPEG.
    Received: ...
    """
    folder = data_root(root) / "imagenet_samples"
    paths = sorted(folder.glob("n[0-9]*_*.JPEG"))[:limit]
    if not paths:
        raise DataError(
            "load_imagenet_samples: no image named wnid_name.JPEG.\n"
            f"Received: {folder}.\nPut ImageNet validation images there, named by class."
        )
    index = json.loads(find_weights("imagenet_class_index.json", root=root).read_text(encoding="utf-8"))
    label_of = {wnid: int(label) for label, (wnid, _) in index.items()}
    unknown = [path.name for path in paths if path.name.split("_")[0] not in label_of]
    if unknown:
        raise DataError(
            "load_imagenet_samples: a wnid is one of the 1000 classes of the class index.\n"
            f"Received: {', '.join(unknown[:5])}.\nLeave such files out."
        )
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.name.encode() + path.read_bytes())
    table = pd.DataFrame(
        {
            "image": [path.stem for path in paths],
            "object_class": [path.stem.split("_", 1)[1] for path in paths],
            "label": [label_of[path.name.split("_")[0]] for path in paths],
            "area_ratio": np.nan,
            "sqrt_area_ratio": np.nan,
        }
    )
    source = "ImageNet ILSVRC2012 samples (Russakovsky et al. 2015), research use"
    return Dataset("ImageNet samples", paths, table, source=source, digest=digest.hexdigest())


MANIPULATIONS: dict[str, str] = {
    "resize": "whole image resized",
    "detail": "whole image shrunk, then stretched back",
    "zoom": "window around the object resized",
    "share": "object's share changed, image size kept",
    "canvas": "canvas changed, object kept in px",
}
"""What each manipulation does to a picture, in words for a legend."""

Box = tuple[float, float, float, float]


def reframe(
    image: Any,
    box: Box | None = None,
    *,
    size: int,
    share: float = 0.4,
    interpolation: str = "bilinear",
    antialias: bool = True,
) -> tuple[np.ndarray, float]:
    """A square picture of a chosen size in which the object takes a chosen share.

    Parameters
    ----------
    image : path-like or ndarray of uint8, shape (height, width, 3)
        The picture.
    box : tuple of float, optional
        The object's ``x0, y0, x1, y1`` in pixels, half open. Without one the whole image is stretched to
        a square and `share` plays no part.
    size : int
        Side of the result in pixels.
    share : float, default=0.4
        Side of the object, ``sqrt(width * height)``, as a share of the result's side; above 0.
    interpolation : str, default="bilinear"
        See :func:`scalelib.images.resize_image`.
    antialias : bool, default=True
        Whether the filter widens with the reduction, so that fine detail does not alias.

    Returns
    -------
    picture : ndarray of uint8, shape (size, size, 3)
        Cut around the box's centre from the image; what lies outside of the image has its mean colour.
    padded : float
        Share of the result that is padding, 0–1.

    Raises
    ------
    DataError
        If the share is not positive or the box is empty.

    Examples
    --------
    >>> image = np.zeros((60, 80, 3), np.uint8)
    >>> picture, padded = reframe(image, (30, 20, 50, 40), size=32, share=0.5)
    >>> picture.shape, padded
    ((32, 32, 3), 0.0)
    """
    pixels = read_image(image)
    padded = 0.0
    if box is not None:
        pixels, padded = _window(pixels, box, share)
    picture = resize_image(pixels, (size, size), interpolation=interpolation, antialias=antialias)
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8), padded


def _window(pixels: np.ndarray, box: Box, share: float) -> tuple[np.ndarray, float]:
    x0, y0, x1, y1 = box
    if share <= 0 or x1 <= x0 or y1 <= y0:
        raise DataError(
            "reframe: the share is positive and the box has an area.\n"
            f"Received: share={share}, box={box}.\nBoxes are x0, y0, x1, y1 in pixels, half open."
        )
    side = max(1, round(np.sqrt((x1 - x0) * (y1 - y0)) / share))
    left, top = round((x0 + x1 - side) / 2), round((y0 + y1 - side) / 2)
    height, width = pixels.shape[:2]
    rows = slice(max(0, top), min(height, top + side))
    columns = slice(max(0, left), min(width, left + side))
    window = np.empty((side, side, 3), np.uint8)
    window[:] = np.rint(pixels.mean(axis=(0, 1)))
    inside = pixels[rows, columns]
    window[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = inside
    return window, 1 - inside.shape[0] * inside.shape[1] / side**2


def reframe_all(
    images: Sequence[Any] | np.ndarray,
    boxes: pd.DataFrame | None = None,
    *,
    manipulation: str,
    factor: float,
    size: int,
    share: float = 0.4,
    interpolation: str = "bilinear",
    antialias: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """One manipulation of many images by one factor.

    ============ ============== ============== ================ =================
    manipulation of             image size     object's share   object in pixels
    ============ ============== ============== ================ =================
    ``resize``   whole image    × factor       kept             × factor
    ``detail``   whole image    kept           kept             kept
    ``zoom``     window         × factor       kept             × factor
    ``share``    window         kept           × factor         × factor
    ``canvas``   window         × factor       ÷ factor         kept
    ============ ============== ============== ================ =================

    ``detail`` resizes by the factor and stretches back: it loses what a smaller image cannot hold and
    changes nothing else. Whole images are stretched to a square; windows are cut around the object's
    box, and are the same picture for all three at factor 1.

    Parameters
    ----------
    images : sequence
        Paths or arrays.
    boxes : pandas.DataFrame, optional
        Columns ``box_x0, box_y0, box_x1, box_y1`` in pixels, half open, one row per image; needed for
        windows, not looked at for whole images.
    manipulation : {"resize", "detail", "zoom", "share", "canvas"}
        What is done.
    factor : float
        By how much, above 0.
    size : int
        Side of the reference picture in pixels: the network's input size.
    share : float, default=0.4
        The object's share of a window's side at factor 1.
    interpolation, antialias
        See :func:`reframe`.

    Returns
    -------
    pictures : ndarray of uint8, shape (n, side, side, 3)
    padded : ndarray of float, shape (n,)
        Share of each picture that is padding.

    Raises
    ------
    DataError
        If the manipulation is unknown or needs boxes.

    Examples
    --------
    >>> scenes = np.zeros((2, 64, 64, 3), np.uint8)
    >>> pictures, _ = reframe_all(scenes, manipulation="resize", factor=0.5, size=64)
    >>> pictures.shape
    (2, 32, 32, 3)
    """
    if manipulation not in MANIPULATIONS or factor <= 0:
        raise DataError(
            "reframe_all: an unknown manipulation, or a factor that is not positive.\n"
            f"Received: manipulation={manipulation!r}, factor={factor}.\n"
            f"{did_you_mean(manipulation, MANIPULATIONS)} Manipulations are {', '.join(MANIPULATIONS)}."
        )
    windows = manipulation in ("zoom", "share", "canvas")
    if boxes is None and windows:
        raise DataError(
            f"reframe_all: {manipulation!r} needs the object's box.\nReceived: boxes=None.\n"
            "Give box_x0, box_y0, box_x1, box_y1 per image, or use 'resize'."
        )
    sampling: dict[str, Any] = {"interpolation": interpolation, "antialias": antialias}
    side = size if manipulation == "share" else max(1, round(size * factor))
    wanted = {"share": share * factor, "canvas": share / factor}.get(manipulation, share)
    corners = _corners(boxes) if boxes is not None and windows else [None] * len(images)
    pictures, padded = [], []
    for image, box in zip(images, corners, strict=True):
        picture, outside = reframe(image, box, size=side, share=wanted, **sampling)
        if manipulation == "detail":
            picture = reframe(picture, size=size, **sampling)[0]
        pictures.append(picture)
        padded.append(outside)
    return np.stack(pictures), np.array(padded)


def _corners(boxes: pd.DataFrame) -> list[Any]:
    return list(boxes[["box_x0", "box_y0", "box_x1", "box_y1"]].itertuples(index=False, name=None))


Activations = Mapping[float, Mapping[str, np.ndarray]]
"""Activations of the same images by factor and tap."""


def total_variation(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Total variation distance between rows of probabilities: half the sum of absolute differences.

    Parameters
    ----------
    p, q : ndarray, shape (n, classes)
        Rows that sum to one.

    Returns
    -------
    ndarray of float, shape (n,)
        0 for equal rows, 1 for rows without a common class.

    Examples
    --------
    >>> total_variation(np.array([[1.0, 0.0]]), np.array([[0.25, 0.75]])).tolist()
    [0.75]
    """
    return 0.5 * np.abs(np.asarray(p, dtype=float) - np.asarray(q, dtype=float)).sum(axis=1)


def cosine_to_reference(values: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Cosine between each image's activations and the same image's at the reference size.

    The mean activation over images at the reference size is taken off both, so that two pictures of
    different things score about 0 although all activations after a ReLU are positive.

    Parameters
    ----------
    values, reference : ndarray, shape (n, channels)
        Activations of the same images.

    Returns
    -------
    ndarray of float, shape (n,)
        In [−1, 1]; NaN where a centred activation vanishes.

    Examples
    --------
    >>> reference = np.array([[1.0, 0.0], [0.0, 1.0]])
    >>> cosine_to_reference(reference[::-1], reference).round(6).tolist()
    [-1.0, -1.0]
    """
    centre = np.mean(reference, axis=0, dtype=float)
    a, b = values - centre, reference - centre
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.divide((a * b).sum(axis=1), norms, out=np.full(len(a), np.nan), where=norms > 0)


def predictions_by_factor(
    acts: Activations,
    *,
    reference: float = 1.0,
    labels: np.ndarray | None = None,
    tap: str = "softmax",
) -> pd.DataFrame:
    """How far predictions at each factor are from those at the reference.

    Parameters
    ----------
    acts : mapping of float to mapping of str to ndarray, shape (n, channels)
        Activations of the same images by factor and tap.
    reference : float, default=1.0
        The factor to compare with.
    labels : ndarray of int, shape (n,), optional
        True classes, −1 where unknown.
    tap : str, default="softmax"
        The tap that holds probabilities.

    Returns
    -------
    pandas.DataFrame
        One row per factor: ``factor``, ``n``, ``agreement`` (share of images with the reference's top-1
        class), ``agreement_low`` and ``agreement_high`` (Wilson's 95 % interval), ``total_variation`` (mean)
        and ``accuracy`` (NaN without labels).

    Raises
    ------
    DataError
        If the reference or the tap is missing.

    Examples
    --------
    >>> sure = {"softmax": np.eye(4)}
    >>> predictions_by_factor({1.0: sure, 2.0: sure}).agreement.tolist()
    [1.0, 1.0]
    """
    _check_reference(acts, reference)
    if tap not in acts[reference]:
        raise DataError(
            f"predictions_by_factor: no tap {tap!r}.\nReceived: {', '.join(acts[reference])}.\n"
            "A network without a classifier has no predictions: compare its activations."
        )
    target = acts[reference][tap]
    rows = []
    for factor in sorted(acts):
        probabilities = acts[factor][tap]
        same = probabilities.argmax(axis=1) == target.argmax(axis=1)
        low, high = _wilson(int(same.sum()), len(same))
        row = {"factor": factor, "n": len(same), "agreement": same.mean()}
        row |= {"agreement_low": low, "agreement_high": high}
        row |= {"total_variation": total_variation(probabilities, target).mean(), "accuracy": np.nan}
        if labels is not None:
            known = np.asarray(labels) >= 0
            row["accuracy"] = (probabilities.argmax(axis=1) == labels)[known].mean()
        rows.append(row)
    return pd.DataFrame(rows)


def _check_reference(acts: Activations, reference: float) -> None:
    if reference not in acts or len(acts) < 2:
        raise DataError(
            "resizing: two factors at least, one of them the reference.\n"
            f"Received: factors {sorted(acts)}, reference={reference}.\nRead the images at the reference too."
        )


def _wilson(successes: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    share = successes / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return centre - half, centre + half


def activations_by_factor(acts: Activations, *, reference: float = 1.0) -> pd.DataFrame:
    """Cosine of each tap's activations to the same images' at the reference, for each factor.

    Parameters
    ----------
    acts : mapping of float to mapping of str to ndarray, shape (n, channels)
        Activations of the same images by factor and tap.
    reference : float, default=1.0
        The factor to compare with.

    Returns
    -------
    pandas.DataFrame
        ``tap``, ``factor``, ``cosine``: see :func:`cosine_to_reference`, averaged over the images that
        have one; NaN where none has, as at a tap that gives all images the same values.

    Examples
    --------
    >>> acts = {1.0: {"tap": np.eye(3)}, 2.0: {"tap": 2 * np.eye(3)}}
    >>> activations_by_factor(acts).cosine.round(2).tolist()
    [1.0, 0.94]
    """
    _check_reference(acts, reference)
    rows = [
        {
            "tap": tap,
            "factor": factor,
            "cosine": pd.Series(cosine_to_reference(acts[factor][tap], target)).mean(),
        }
        for tap, target in acts[reference].items()
        for factor in sorted(acts)
    ]
    return pd.DataFrame(rows)


def variance_by_factor(acts: Activations) -> pd.DataFrame:
    """Share of each tap's variance, over images and factors, that the factor alone explains.

    Parameters
    ----------
    acts : mapping of float to mapping of str to ndarray, shape (n, channels)
        Activations of the same images by factor and tap.

    Returns
    -------
    pandas.DataFrame
        ``tap``, ``variance_explained``: see :func:`studies.s02_resizing.variance_explained_by_scale`. 0 for a
        tap that does not notice the factor, 1 for one that holds nothing else.

    Examples
    --------
    >>> images = np.arange(4.0)[:, None]
    >>> acts = {k: {"invariant": images, "covariant": np.full((4, 1), k)} for k in (0.5, 1.0, 2.0)}
    >>> variance_by_factor(acts).variance_explained.tolist()
    [0.0, 1.0]
    """
    factors = sorted(acts)
    n = len(next(iter(acts[factors[0]].values())))
    scene, factor = np.tile(np.arange(n), len(factors)), np.repeat(factors, n)
    stacked = {tap: np.concatenate([acts[k][tap] for k in factors]) for tap in acts[factors[0]]}
    return variance_explained_by_scale(stacked, scene, factor)


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
        """What can be done to these images; see :func:`studies.s02_resizing.reframe_all`."""
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
        For any size; see :func:`studies.readings.any_size`.
    pictures : Pictures
    size : int
        Side of the reference picture in pixels.
    factors : mapping of str to sequence of float
        Factors of each manipulation; 1 is among them. Manipulations that the pictures do not allow are
        left out.
    share : float, default=0.4
        The object's share of a window's side at factor 1.
    **sampling
        ``interpolation`` and ``antialias``; see :func:`studies.s02_resizing.reframe`.

    Returns
    -------
    dict of str to pandas.DataFrame
        ``predictions`` (empty without a softmax), ``cosine`` and ``variance``: see :mod:`studies.s02_resizing`,
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
        The rows of :func:`studies.s02_resizing.predictions_by_factor` with ``interpolation``, ``antialias`` and
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


def size_answers(
    predictions: pd.DataFrame,
    cosine: pd.DataFrame,
    variance: pd.DataFrame,
    sampling: pd.DataFrame,
    *,
    network: str,
    weights: str,
    whole: str,
    windows: str,
    within: tuple[float, float] = (0.75, 1.5),
) -> dict[str, Any]:
    """Numbers and words of section 4.1 for one network.

    Parameters
    ----------
    predictions, cosine, variance : pandas.DataFrame
        From :func:`studies.s02_resizing.size_tables`, with ``network`` and ``weights``.
    sampling : pandas.DataFrame
        From :func:`studies.s02_resizing.sampling_table`, with ``network`` and ``weights``.
    network, weights : str
        The network that the prose is about.
    whole, windows : str
        The pictures whose features are quoted. Predictions under resizing are quoted over all whole images.
    within : tuple of float, default=(0.75, 1.5)
        Range of factors in which predictions are said to stay.

    Returns
    -------
    dict of str to (float or str)
        Plain values, by the name under which the prose glues them.
    """
    mine = predictions[(predictions.network == network) & (predictions.weights == weights)]
    resized = _mean(mine, "resize")
    low = float(resized[(resized.index >= within[0]) & (resized.index <= within[1])].min())
    numbers = {
        "resize_low": low,
        "resize_quarter": resized[0.25],
        "resize_half": resized[0.5],
        "resize_double": resized[2.0],
        "detail_half": _mean(mine, "detail")[0.5],
        "zoom_half": _mean(mine, "zoom")[0.5],
        "zoom_double": _mean(mine, "zoom")[2.0],
        "share_half": _mean(mine, "share")[0.5],
        "share_double": _mean(mine, "share")[2.0],
        "canvas_half": _mean(mine, "canvas")[0.5],
        "canvas_double": _mean(mine, "canvas")[2.0],
        "padded_half": _mean(mine, "share", "padded")[0.5],
        **_features(cosine, variance, network, weights, whole, windows),
        **_sampling(sampling[(sampling.network == network) & (sampling.weights == weights)]),
    }
    words = {
        "answer_network": f"{network} ({weights})",
        "verdict": "holds" if low >= 0.5 else "does not hold",
        "others_sentence": _others(predictions, network, weights),
        "rendered_sentence": _rendered(mine, variance, network, weights),
    }
    return {
        key: value if isinstance(value, str) else float(value) for key, value in (numbers | words).items()
    }


def _mean(table: pd.DataFrame, manipulation: str, score: str = "agreement") -> pd.Series:
    """By factor, over pictures, every picture with equal weight."""
    rows = table[table.manipulation == manipulation]
    return (rows[score] * rows.n).groupby(rows.factor).sum() / rows.n.groupby(rows.factor).sum()


def _features(
    cosine: pd.DataFrame, variance: pd.DataFrame, network: str, weights: str, whole: str, windows: str
) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, pictures in (("share", windows), ("canvas", windows), ("resize", whole)):
        by_tap = _by_tap(variance, name, network, weights, pictures).variance_explained
        values |= {f"{name}_variance_peak": by_tap.max(), f"{name}_variance_tap": str(by_tap.idxmax())}
        values |= {f"{name}_variance_last": by_tap.iloc[-1], "last_tap": str(by_tap.index[-1])}
    resized = _by_tap(cosine, "resize", network, weights, whole)
    halved = resized[resized.factor == 0.5].cosine
    return values | {"cosine_first": halved.iloc[0], "cosine_last": halved.iloc[-1]}


def _by_tap(
    table: pd.DataFrame, manipulation: str, network: str, weights: str, pictures: str | None = None
) -> pd.DataFrame:
    """The rows of one manipulation by tap, probabilities left out."""
    chosen = (table.network == network) & (table.weights == weights) & (table.manipulation == manipulation)
    if pictures is not None:
        chosen &= table.pictures == pictures
    return table[chosen & (table.tap != "softmax")].set_index("tap")


def _sampling(table: pd.DataFrame) -> dict[str, float]:
    bilinear = table[table.interpolation == "bilinear"]
    values = {}
    for word, rows in (("on", bilinear[bilinear.antialias]), ("off", bilinear[~bilinear.antialias])):
        values[f"alias_{word}"] = rows[rows.factor == 0.5].agreement.mean()
        values[f"pixel_{word}"] = 1 - rows[rows.change_px == 1].agreement.mean()
    return values


def _others(predictions: pd.DataFrame, network: str, weights: str) -> str:
    sentences = []
    for (other, its_weights), rows in predictions.groupby(["network", "weights"], sort=False):
        if (other, its_weights) != (network, weights):
            resized, share = _mean(rows, "resize")[0.5], _mean(rows, "share")[0.5]
            sentences.append(f"{other} ({its_weights}) keeps {resized:.0%} and {share:.0%}")
    if not sentences:
        return "No other network was asked"
    return "When the image, or the share, is halved, " + "; ".join(sentences)


def _rendered(mine: pd.DataFrame, variance: pd.DataFrame, network: str, weights: str) -> str:
    kept = _mean(mine, "rendered")
    if kept.empty:
        return "A photograph cannot be rendered anew, so that its surroundings change with the object's share"
    by_tap = _by_tap(variance, "rendered", network, weights).variance_explained
    return (
        "Where the scene is rendered anew and the object's scale alone changes, "
        f"{kept[0.5]:.0%} and {kept[2.0]:.0%} of the labels stay when it is halved and doubled, and scale "
        f"explains {by_tap.max():.2f} of the variance at {by_tap.idxmax()} and {by_tap.iloc[-1]:.2f} at "
        f"{by_tap.index[-1]}"
    )


TITLES = {
    "resize": "resize\n(size × k, share kept)",
    "detail": "detail\n(shrunk and back)",
    "zoom": "zoom of a window\n(size × k, share kept)",
    "share": "share, by cropping\n(size kept, share × k)",
    "rendered": "share, rendered anew\n(size kept, share × k)",
    "canvas": "canvas\n(size × k, share ÷ k)",
}
SCORES = {
    "agreement": "top-1 agreement\nwith k = 1",
    "total_variation": "total variation\nfrom k = 1",
    "accuracy": "accuracy",
}


def manipulation_grid(pictures: Mapping[str, Mapping[float, np.ndarray]]) -> Figure:
    """One picture under every manipulation, all drawn on one scale of pixels.

    Parameters
    ----------
    pictures : mapping of str to mapping of float to ndarray of uint8, shape (side, side, 3)
        By manipulation and factor; every manipulation has the same factors.

    Returns
    -------
    matplotlib.figure.Figure
    """
    factors = sorted(next(iter(pictures.values())))
    widths = [max(len(by_factor[factor]) for by_factor in pictures.values()) for factor in factors]
    heights = [max(len(image) for image in by_factor.values()) for by_factor in pictures.values()]
    size = (WIDTH * 0.6, WIDTH * 0.48 / sum(widths) * sum(heights))
    fig, axes = plt.subplots(
        len(heights), len(widths), figsize=size, width_ratios=widths, height_ratios=heights, squeeze=False
    )
    for row, height, (name, by_factor) in zip(axes, heights, pictures.items(), strict=True):
        for ax, width, factor in zip(row, widths, factors, strict=True):
            half = len(by_factor[factor]) / 2
            ax.imshow(by_factor[factor], extent=(-half, half, -half, half))
            ax.set(xlim=(-width / 2, width / 2), ylim=(-height / 2, height / 2), xticks=[], yticks=[])
            ax.grid(False)
            ax.spines[:].set_visible(False)
        row[0].set_ylabel(TITLES[name], fontsize=8, rotation=0, ha="right", va="center")
    for ax, factor in zip(axes[0], factors, strict=True):
        ax.set_title(f"k = {factor:g}", loc="center")
    return fig


def predictions(table: pd.DataFrame) -> Figure:
    """Agreement, total variation and accuracy against the factor, for every manipulation.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows of :func:`studies.s02_resizing.predictions_by_factor` with ``network``, ``weights``, ``pictures``
        and ``manipulation``. Bands are Wilson's 95 % intervals.

    Returns
    -------
    matplotlib.figure.Figure
    """
    names = [name for name in TITLES if (table.manipulation == name).any()]
    scores = [score for score in SCORES if table[score].notna().any()]
    fig, axes = plt.subplots(
        len(scores), len(names), figsize=(WIDTH * 1.15, 1.75 * len(scores) + 1.0), sharey="row",
        sharex="col", squeeze=False,
    )  # fmt: skip
    colours, markers = (
        colour_of(_who(table).unique()),
        dict(zip(table.pictures.unique(), MARKERS, strict=False)),
    )
    for column, name in enumerate(names):
        part = table[table.manipulation == name]
        for (who, pictures), rows in part.groupby([_who(part), "pictures"], sort=False):
            style = {
                "color": colours[who],
                "marker": markers[pictures],
                "label": _label(who, pictures, table),
            }
            for row, score in enumerate(scores):
                axes[row, column].plot(rows.factor, rows[score], **style)
            axes[0, column].fill_between(
                rows.factor, rows.agreement_low, rows.agreement_high, color=colours[who], alpha=0.12, lw=0
            )
        axes[0, column].set_title(
            TITLES[name].splitlines()[0].replace(", ", ",\n").replace(" of ", "\nof "), fontsize=8
        )
        _factor_axis(axes[-1, column], sorted(part.factor.unique()))
    for row, score in enumerate(scores):
        axes[row, 0].set(ylabel=SCORES[score], ylim=(-0.03, 1.03))
    legend_below(fig, axes.flat)
    return fig


def _who(table: pd.DataFrame) -> pd.Series:
    return table.network + ", " + table.weights


def _label(who: str, pictures: str, table: pd.DataFrame) -> str:
    return f"{who}; {pictures}" if table.pictures.nunique() > 1 else who


def _factor_axis(ax: Axes, factors: list[float]) -> None:
    ax.set_xscale("log", base=2)
    shown = [k for k in (0.25, 0.5, 1, 2) if min(factors) <= k <= max(factors)]
    ax.set_xticks(shown, [f"{k:g}" for k in shown])
    ax.minorticks_off()
    ax.set_xlabel("factor k")


def variance_by_tap(table: pd.DataFrame, *, columns: int = 3) -> Figure:
    """Share of activation variance that each manipulation explains, by tap; one panel per network.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows of :func:`studies.s02_resizing.variance_by_factor` with ``network``, ``weights``, ``weights_seed``,
        ``pictures`` and ``manipulation``; seeds and pictures are averaged.
    columns : int, default=3
        Panels in a row.

    Returns
    -------
    matplotlib.figure.Figure
    """
    panels = list(dict.fromkeys(_who(table)))
    columns = min(columns, len(panels), 3 if table.groupby(_who(table)).tap.nunique().max() < 15 else 2)
    rows = -(-len(panels) // columns)
    fig, axes = plt.subplots(
        rows, columns, figsize=(WIDTH * 1.15, 3.1 * rows + 0.4), sharey=True, squeeze=False
    )
    names = [name for name in TITLES if (table.manipulation == name).any()]
    for ax, who in zip(axes.flat, panels, strict=False):
        part = table[_who(table) == who]
        taps = list(dict.fromkeys(part.tap))
        for name, colour, marker in zip(names, COLOURS, MARKERS, strict=False):
            rows_of = part[part.manipulation == name]
            means = rows_of.groupby("tap", sort=False).variance_explained.mean().reindex(taps)
            ax.plot(
                range(len(taps)), means, color=colour, marker=marker, label=TITLES[name].replace("\n", " ")
            )
        tap_axis(ax, taps, label="")
        ax.set_title(who, fontsize=9)
    for ax in axes.flat[len(panels) :]:
        ax.set_visible(False)
    for row in axes:
        row[0].set_ylabel("share of variance\nthat k explains")
    axes[0, 0].set_ylim(0, None)
    legend_below(fig, axes.flat)
    return fig


def cosine_by_tap(table: pd.DataFrame, *, columns: int = 3) -> Figure:
    """Cosine to the reference for every tap and factor, as one heat map per network.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows of :func:`studies.s02_resizing.activations_by_factor` of one manipulation, with ``network``, ``weights``,
        ``weights_seed`` and ``pictures``; seeds and pictures are averaged.
    columns : int, default=3
        Panels in a row.

    Returns
    -------
    matplotlib.figure.Figure
    """
    panels = list(dict.fromkeys(_who(table)))
    columns = min(columns, len(panels), 3 if table.groupby(_who(table)).tap.nunique().max() < 15 else 2)
    rows = -(-len(panels) // columns)
    fig, axes = plt.subplots(rows, columns, figsize=(WIDTH * 1.15, 3.0 * rows), squeeze=False, sharey=True)
    for ax, who in zip(axes.flat, panels, strict=False):
        part = table[_who(table) == who]
        grid = part.pivot_table(index="factor", columns="tap", values="cosine", sort=False).sort_index()
        drawn = ax.imshow(grid, cmap="cividis", vmin=0, vmax=1, aspect="auto", origin="lower")
        tap_axis(ax, list(grid.columns), label="")
        ax.set_yticks(range(len(grid)), [f"{k:g}" for k in grid.index], fontsize=8)
        ax.set_title(who, fontsize=9)
        ax.grid(False)
    for ax in axes.flat[len(panels) :]:
        ax.set_visible(False)
    for row in axes:
        row[0].set_ylabel("factor k")
    fig.colorbar(drawn, ax=axes, label="cosine to k = 1", shrink=0.8)
    return fig


def sampling(table: pd.DataFrame) -> Figure:
    """Agreement for each way of resampling, against the factor and after a change by one pixel.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows of :func:`studies.s02_resizing.sampling_table` with ``network`` and ``weights``.

    Returns
    -------
    matplotlib.figure.Figure
    """
    panels = list(dict.fromkeys(_who(table)))
    fig, axes = plt.subplots(
        2, len(panels), figsize=(WIDTH, 5.4), squeeze=False, sharey="row", height_ratios=(3, 2)
    )
    colours = colour_of(table.interpolation.unique())
    for column, who in enumerate(panels):
        part = table[_who(table) == who]
        shrunk, pixel = part[part.factor <= 1], part[part.change_px == 1]
        for (name, filtered), rows in shrunk.groupby(["interpolation", "antialias"], sort=False):
            axes[0, column].plot(
                rows.factor, rows.agreement, color=colours[name], ls="-" if filtered else "--",
                marker="o" if filtered else "x", label=f"{name}, {'' if filtered else 'not '}anti-aliased",
            )  # fmt: skip
        _factor_axis(axes[0, column], sorted(shrunk.factor.unique()))
        axes[0, column].set_title(who)
        places = range(len(pixel))
        axes[1, column].bar(
            places, 1 - pixel.agreement, color=[colours[name] for name in pixel.interpolation],
            hatch=["" if filtered else "///" for filtered in pixel.antialias], edgecolor="white",
        )  # fmt: skip
        axes[1, column].errorbar(
            places, 1 - pixel.agreement, fmt="none", ecolor="#333333", elinewidth=1, capsize=2,
            yerr=[pixel.agreement_high - pixel.agreement, pixel.agreement - pixel.agreement_low],
        )  # fmt: skip
        axes[1, column].set_xticks([])
    axes[0, 0].set_ylabel("top-1 agreement with k = 1")
    axes[1, 0].set_ylabel("predictions changed by\none pixel more")
    legend_below(fig, axes[0], columns=3)
    return fig
