"""Rendered scenes whose object scale is chosen and known exactly, independent of everything else.

Scale is kept out of the pixel statistics: object, decoys and background share one distribution of
grey levels and textures, the decoys' sizes run against the object's, and every image gets a mean
and a standard deviation that are drawn without looking at the scale. Knows nothing of networks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from scalelib.datasets.base import Dataset
from scalelib.datasets.recipes import SCALES, Recipe, draw_recipe, paint
from scalelib.datasets.shapes import CLASSES, coverage
from scalelib.errors import DataError, did_you_mean
from scalelib.progress import track

__all__ = ["CLASSES", "SCALES", "render_masks", "render_paired_scenes", "render_scenes"]

_SMALLEST, _LARGEST = 0.05, SCALES[1]


def render_scenes(
    n: int,
    *,
    classes: Sequence[str] | None = None,
    scales: tuple[float, float] | Sequence[float] = SCALES,
    size: int = 64,
    distractors: int = 1,
    random_state: int = 0,
) -> Dataset:
    """Scenes with one object each, at random scales.

    Parameters
    ----------
    n : int
        Number of scenes.
    classes : sequence of str, optional
        Some of ``CLASSES``, by default all ten; scene k shows class k modulo their number.
    scales : tuple of two float, or list of float, default=(0.2, 0.85)
        Side of the object's box (square root of its area) as a share of the image side, in
        [0.05, 0.85]. A tuple is a range, drawn from log-uniformly; a list holds the only values,
        drawn from with equal chances.
    size : int, default=64
        Side of the square images in px, at least 16.
    distractors : int, default=1
        Number of decoys: blobs of no class under the object, larger where the object is smaller,
        with enough noise that a decoy's size gives away less than a quarter of the variance of
        scale. With 0 the standard deviation and gradients of the pixels do tell the scale.
    random_state : int, default=0
        Seed. Scene k is the same whatever `n` is.

    Returns
    -------
    Dataset
        ``images``: uint8, (n, size, size, 3). ``table``: ``image``, ``object_class``,
        ``area_ratio`` (box over image, as in PASCAL VOC), ``sqrt_area_ratio`` (equal to ``scale``),
        ``scene``, ``scale``, ``box_x0`` … ``box_y1`` (px, fractional), ``box_width_ratio``,
        ``box_height_ratio``, ``mask_area`` (px²), ``rotation`` (degrees).

    Raises
    ------
    DataError
        If a class is unknown, a scale is out of range, or a number is too small.

    Notes
    -----
    The object's texture is fixed to the image, not to the object: it does not grow with it. About
    1 ms an image.

    Examples
    --------
    >>> scenes = render_scenes(4, classes=["disc", "star"], scales=[0.5], random_state=1)
    >>> scenes.images.shape, scenes.table.area_ratio.round(6).tolist()
    ((4, 64, 64, 3), [0.25, 0.25, 0.25, 0.25])
    """
    names = _check("render_scenes", n, classes, scales, size, distractors, random_state)
    images = np.empty((n, size, size, 3), np.uint8)
    rows = []
    seeds = np.random.SeedSequence(random_state).spawn(n)
    for k, seed in enumerate(track(seeds, label="scenes")):
        recipe = draw_recipe(seed, names[k % len(names)], size=size, distractors=distractors)
        scale = recipe.pick_scale(scales)
        images[k], box, area = paint(recipe, scale)
        rows.append(_row(f"scene-{random_state}-{k:06d}", k, recipe, scale, box, area))
    return _dataset(f"rendered scenes, seed {random_state}", images, rows)


def render_paired_scenes(
    n_scenes: int,
    *,
    scales: Sequence[float] = (0.2, 0.29, 0.41, 0.59, 0.85),
    classes: Sequence[str] | None = None,
    size: int = 64,
    distractors: int = 1,
    random_state: int = 0,
) -> Dataset:
    """The same scenes at several object scales; nothing else changes.

    Parameters
    ----------
    n_scenes : int
        Number of scenes; there are ``n_scenes * len(scales)`` images, scene by scene.
    scales : sequence of float, default=(0.2, 0.29, 0.41, 0.59, 0.85)
        The scales of every scene, in [0.05, 0.85], none twice.
    classes, size, distractors, random_state
        As in `render_scenes`.

    Returns
    -------
    Dataset
        As from `render_scenes`; rows with one ``scene`` differ in the object's scale only. Shape,
        rotation, centre, textures, colours, noise and decoys (place *and* size) stay.

    Raises
    ------
    DataError
        As in `render_scenes`, and if a scale comes twice.

    Notes
    -----
    Each image is brought to its scene's mean and standard deviation, as in `render_scenes`; so
    outside the objects two images of a scene are equal up to a common gain and offset. The centre
    leaves room for the largest scale, and the decoys' size is independent of all of them.

    Examples
    --------
    >>> pairs = render_paired_scenes(2, scales=[0.3, 0.6])
    >>> pairs.table[["scene", "scale"]].values.tolist()
    [[0.0, 0.3], [0.0, 0.6], [1.0, 0.3], [1.0, 0.6]]
    """
    scales = list(scales)
    names = _check("render_paired_scenes", n_scenes, classes, scales, size, distractors, random_state)
    if len(set(scales)) < len(scales):
        raise DataError(
            f"render_paired_scenes: every scale comes once.\nReceived: scales={scales}.\nDrop the repeated ones."
        )
    images = np.empty((n_scenes * len(scales), size, size, 3), np.uint8)
    rows: list[dict[str, Any]] = []
    seeds = np.random.SeedSequence(random_state).spawn(n_scenes)
    for k, seed in enumerate(track(seeds, label="paired scenes")):
        recipe = draw_recipe(seed, names[k % len(names)], size=size, distractors=distractors)
        against = recipe.pick_scale(SCALES)
        for scale in scales:
            image, box, area = paint(recipe, scale, room_for=max(scales), decoy_against=against)
            images[len(rows)] = image
            rows.append(_row(f"pair-{random_state}-{k:06d}@{scale:g}", k, recipe, scale, box, area))
    return _dataset(f"paired rendered scenes, seed {random_state}", images, rows)


def render_masks(dataset: Dataset) -> np.ndarray:
    """The objects' masks of rendered scenes, exactly as they were painted.

    Parameters
    ----------
    dataset : Dataset
        From `render_scenes` or `render_paired_scenes`, or a selection of one.

    Returns
    -------
    ndarray of float32, shape (n, size, size)
        Share of each pixel that the object covers, in [0, 1].

    Examples
    --------
    >>> scenes = render_scenes(2)
    >>> bool(np.allclose(render_masks(scenes).sum(axis=(1, 2)), scenes.table.mask_area, rtol=1e-5))
    True
    """
    size = dataset.images[0].shape[0]
    masks = [
        coverage(row.object_class, row.rotation, (row.box_x0, row.box_y0, row.box_x1, row.box_y1), size)
        for row in dataset.table.itertuples()
    ]
    return np.asarray(masks, np.float32)


def _row(
    image: str, scene: int, recipe: Recipe, scale: float, box: tuple[float, ...], mask_area: float
) -> dict[str, Any]:
    x0, y0, x1, y1 = box
    width, height = (x1 - x0) / recipe.size, (y1 - y0) / recipe.size
    return {
        "image": image,
        "object_class": recipe.object_class,
        "area_ratio": width * height,
        "sqrt_area_ratio": float(np.sqrt(width * height)),
        "scene": scene,
        "scale": scale,
        "box_x0": x0,
        "box_y0": y0,
        "box_x1": x1,
        "box_y1": y1,
        "box_width_ratio": width,
        "box_height_ratio": height,
        "mask_area": mask_area,
        "rotation": recipe.rotation,
    }


def _dataset(name: str, images: np.ndarray, rows: list[dict[str, Any]]) -> Dataset:
    table = pd.DataFrame(rows)
    digest = hashlib.sha256(images.tobytes())
    digest.update(table.to_csv(index=False, float_format="%.9g").encode())
    return Dataset(name, images, table, {}, "scenes rendered by scalelib (MIT licence)", digest.hexdigest())


def _check(
    operation: str,
    n: int,
    classes: Sequence[str] | None,
    scales: Sequence[float],
    size: int,
    distractors: int,
    random_state: int,
) -> tuple[str, ...]:
    whole = {"the number of scenes": (n, 1), "size": (size, 16), "distractors": (distractors, 0)}
    whole["random_state"] = (random_state, 0)
    for name, (value, least) in whole.items():
        if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < least:
            raise DataError(
                f"{operation}: {name} is a whole number of at least {least}.\nReceived: {value!r}."
            )
    values = np.asarray(scales, dtype=float).ravel() if _are_numbers(scales) else np.array([np.nan])
    is_range = isinstance(scales, tuple) and operation == "render_scenes"
    if not len(values) or not ((values >= _SMALLEST) & (values <= _LARGEST)).all():
        rule = f"scales are sides as a share of the image side, from {_SMALLEST} to {_LARGEST}"
    elif is_range and (len(values) != 2 or values[0] > values[1]):
        rule = "a tuple of scales is a range, smaller end first"
    else:
        return _check_classes(operation, classes)
    raise DataError(
        f"{operation}: {rule}.\nReceived: scales={scales!r}.\n"
        f"Pass a range such as {SCALES} as a tuple, or the only values wanted as a list."
    )


def _are_numbers(scales: Any) -> bool:
    try:
        return np.asarray(scales, dtype=float).ndim == 1
    except (TypeError, ValueError):
        return False


def _check_classes(operation: str, classes: Sequence[str] | None) -> tuple[str, ...]:
    names = CLASSES if classes is None else (classes,) if isinstance(classes, str) else tuple(classes)
    unknown = [name for name in names if name not in CLASSES]
    if names and not unknown:
        return names
    rule = f"no object class {unknown[0]!r}" if unknown else "at least one object class is needed"
    hint = did_you_mean(str(unknown[0]), CLASSES) + " " if unknown else ""
    raise DataError(
        f"{operation}: {rule}.\nReceived: classes={classes!r}.\n{hint}Classes: {', '.join(CLASSES)}."
    )
