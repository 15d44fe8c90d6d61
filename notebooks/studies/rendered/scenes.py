"""The ten object classes of the rendered scenes, as signed distances with exact bounding boxes. One rendered scene: its recipe, which holds every random number, and how a recipe is painted. Rendered scenes whose object scale is chosen and known exactly, independent of everything else."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from scalelib.datasets import Dataset
from scalelib.errors import DataError, did_you_mean, track


@dataclass(frozen=True)
class Shape:
    """A silhouette in its own units.

    Parameters
    ----------
    distance : callable
        (x, y) arrays to signed distance: negative inside, zero on the outline, slope one near it.
    outline : ndarray of float64, shape (n_points, 2)
        Points that hold every extreme of the outline: the corners, and curves sampled densely.
    """

    distance: Callable[[np.ndarray, np.ndarray], np.ndarray]
    outline: np.ndarray


def half_extents(name: str, rotation: float) -> tuple[np.ndarray, np.ndarray]:
    """Centre and half sides of a rotated shape's bounding box, in the shape's own units.

    Parameters
    ----------
    name : str
        One of ``CLASSES``.
    rotation : float
        Degrees, clockwise as seen on the screen.

    Returns
    -------
    centre, half : ndarray of float64, shape (2,)
        Box centre relative to the shape's origin, and half width and half height.

    Examples
    --------
    >>> _, half = half_extents("square", 45.0)
    >>> bool(np.allclose(half, np.sqrt(2)))
    True
    """
    points = SHAPES[name].outline @ _rotation(rotation).T
    low, high = points.min(axis=0), points.max(axis=0)
    return (low + high) / 2, (high - low) / 2


def coverage(name: str, rotation: float, box: tuple[float, float, float, float], size: int) -> np.ndarray:
    """Share of each pixel that a shape covers, given the box that encloses it.

    Parameters
    ----------
    name : str
        One of ``CLASSES``.
    rotation : float
        Degrees, clockwise as seen on the screen.
    box : tuple of four float
        x0, y0, x1, y1 in pixels; pixel (row, column) spans [column, column + 1] × [row, row + 1].
    size : int
        Side of the square image in pixels.

    Returns
    -------
    ndarray of float64, shape (size, size)
        0 outside, 1 inside, in between where the outline crosses a pixel (a ramp one pixel wide).

    Examples
    --------
    >>> coverage("square", 0.0, (2.0, 2.0, 6.0, 6.0), 8).sum().item()
    16.0
    """
    centre, half = half_extents(name, rotation)
    x0, y0, x1, y1 = box
    unit = np.sqrt((x1 - x0) * (y1 - y0) / (4 * half[0] * half[1]))  # pixels per unit of the shape
    grid = np.arange(size) + 0.5
    x = ((grid - (x0 + x1) / 2) / unit + centre[0])[None, :]
    y = ((grid - (y0 + y1) / 2) / unit + centre[1])[:, None]
    turn = _rotation(rotation)  # its transpose turns back
    u = turn[0, 0] * x + turn[1, 0] * y
    v = turn[0, 1] * x + turn[1, 1] * y
    return np.clip(0.5 - unit * SHAPES[name].distance(u, v), 0.0, 1.0)


def _rotation(degrees: float) -> np.ndarray:
    a = np.deg2rad(degrees)
    return np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])


def _arc(radius: float, start: float, stop: float, centre: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
    angles = np.linspace(start, stop, 721)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1) * radius + np.asarray(centre)


def _half_planes(x: np.ndarray, y: np.ndarray, count: int, apothem: float) -> np.ndarray:
    """Distances to the sides of an upright regular polygon (corner on top), one leading row per side."""
    angles = np.pi / 2 + 2 * np.pi * np.arange(count) / count
    return np.stack([np.cos(a) * x + np.sin(a) * y - apothem for a in angles])


def _disc(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.sqrt(x * x + y * y) - 1


def _ring(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.abs(np.sqrt(x * x + y * y) - 0.75) - 0.25


def _rectangle(x: np.ndarray, y: np.ndarray, half_width: float, half_height: float) -> np.ndarray:
    return np.maximum(np.abs(x) - half_width, np.abs(y) - half_height)


def _square(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return _rectangle(x, y, 1.0, 1.0)


def _triangle(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return _half_planes(x, y, 3, 0.5).max(axis=0)


def _star(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A pentagram: every point of it lies on the inner side of at least four of the five lines."""
    return np.partition(_half_planes(x, -y, 5, _INNER), 3, axis=0)[3]


def _cross(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.minimum(_rectangle(x, y, 1.0, 0.32), _rectangle(x, y, 0.32, 1.0))


def _crescent(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    bite = np.sqrt((x - 0.5) ** 2 + y * y) - 0.8
    return np.maximum(_disc(x, y), -bite)


def _heart(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A square on its corner with a disc on each of its two upper sides."""
    x = np.abs(x)
    square = (x + np.abs(y)) * _ROOT - 1
    lobe = np.sqrt((x - _ROOT) ** 2 + (y + _ROOT) ** 2) - 1
    return np.minimum(square, lobe)


def _arrow(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    head = np.maximum(y, (np.abs(x) - (y + 1) * 0.9) / np.hypot(1.0, 0.9))
    shaft = np.maximum(np.abs(x) - 0.28, np.abs(y - 0.5) - 0.5)
    return np.minimum(head, shaft)


def _hourglass(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    y = np.abs(y)
    return np.maximum(y - 1, (np.abs(x) - 0.1 - 0.8 * y) / np.hypot(1.0, 0.8))


_INNER = float(np.cos(2 * np.pi / 5))  # a pentagram's lines pass this far from its centre
_ROOT = float(np.sqrt(0.5))
_HORN = (0.61, float(np.sqrt(1 - 0.61**2)))  # where the crescent's two circles meet


def _corners(count: int) -> np.ndarray:
    angles = -np.pi / 2 + 2 * np.pi * np.arange(count) / count
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _both_sides(*points: tuple[float, float]) -> np.ndarray:
    return np.array([(sign * x, y) for x, y in points for sign in (-1.0, 1.0)])


_TAU = 2 * np.pi
_HORN_ANGLE = float(np.arctan2(_HORN[1], _HORN[0]))
_LOBE = _arc(1.0, -1.25 * np.pi, 0.25 * np.pi, (_ROOT, -_ROOT))[240:]
SHAPES: dict[str, Shape] = {
    "disc": Shape(_disc, _arc(1.0, 0.0, _TAU)),
    "ring": Shape(_ring, _arc(1.0, 0.0, _TAU)),
    "square": Shape(_square, _both_sides((1.0, -1.0), (1.0, 1.0))),
    "triangle": Shape(_triangle, _corners(3)),
    "star": Shape(_star, _corners(5)),
    "cross": Shape(_cross, _both_sides((1.0, -0.32), (1.0, 0.32), (0.32, -1.0), (0.32, 1.0))),
    "crescent": Shape(_crescent, _arc(1.0, _HORN_ANGLE, _TAU - _HORN_ANGLE)),
    "heart": Shape(_heart, np.concatenate([_LOBE, _LOBE * (-1.0, 1.0), [(0.0, 2 * _ROOT)]])),
    "arrow": Shape(_arrow, _both_sides((0.0, -1.0), (0.9, 0.0), (0.28, 1.0))),
    "hourglass": Shape(_hourglass, _both_sides((0.9, -1.0), (0.9, 1.0))),
}
CLASSES: tuple[str, ...] = tuple(SHAPES)


SCALES = (0.2, 0.85)
"""Range of object side lengths, as a share of the image side: a little more than fourfold."""


class Box(NamedTuple):
    """Edges in pixels; pixel (row, column) spans [column, column + 1] × [row, row + 1]."""

    x0: float
    y0: float
    x1: float
    y1: float


class Decoy(NamedTuple):
    """A wobbly blob of no class, which lies under the object."""

    jitter: float  # noise of its size, in natural logarithms
    centre: np.ndarray  # (2,) x and y as a share of the image side
    phases: np.ndarray  # (4,) of the outline's second to fifth harmonic
    bumps: np.ndarray  # (4,) amplitudes of those, as a share of the radius


@dataclass(frozen=True)
class Recipe:
    """Every random draw of one scene. Levels and textures: background, object, decoys."""

    object_class: str
    size: int  # px
    rotation: float  # degrees
    place: np.ndarray  # (2,) in [0, 1]: where between its extreme positions the object sits
    scale_rank: float  # in [0, 1): quantile of the scale
    levels: np.ndarray  # (3, 3) RGB
    textures: np.ndarray  # (3, size, size)
    decoys: tuple[Decoy, ...]
    noise: np.ndarray  # (size, size, 3)
    mean: float  # of the finished image
    deviation: float  # of the finished image

    def pick_scale(self, scales: tuple[float, float] | Sequence[float]) -> float:
        """The scene's scale from a range (a tuple: log-uniform) or from a list of values."""
        if isinstance(scales, tuple):
            low, high = np.log(scales)
            return float(np.exp(low + self.scale_rank * (high - low)))
        return float(scales[int(self.scale_rank * len(scales))])


def draw_recipe(seed: np.random.SeedSequence, object_class: str, *, size: int, distractors: int) -> Recipe:
    """Draw everything about a scene but its object's scale.

    Parameters
    ----------
    seed : numpy.random.SeedSequence
        The scene's own stream.
    object_class : str
        One of ``studies.rendered.scenes.CLASSES``.
    size : int
        Side of the image in px.
    distractors : int
        Number of decoys.

    Returns
    -------
    Recipe
        Grey levels of background, object and decoys are three of one distribution, in random
        order, with little colour.

    Examples
    --------
    >>> recipe = draw_recipe(np.random.SeedSequence(0), "disc", size=32, distractors=1)
    >>> paint(recipe, 0.5)[0].shape
    (32, 32, 3)
    """
    rng = np.random.default_rng(seed)
    rotation, place, rank = rng.uniform(-30, 30), rng.uniform(size=2), rng.uniform()
    grey = rng.permutation([0.2, 0.5, 0.8]) + rng.uniform(-0.07, 0.07, size=3)
    levels = grey[:, None] + rng.uniform(-0.06, 0.06, size=(3, 3))
    mean, deviation = rng.uniform(0.4, 0.6), rng.uniform(0.13, 0.21)
    textures = np.stack([_texture(rng, size) for _ in range(3)])
    noise = 0.02 * rng.standard_normal((size, size, 3))
    decoys = tuple(
        Decoy(
            rng.normal(0.0, 0.7),
            rng.uniform(0.15, 0.85, size=2),
            rng.uniform(0, 2 * np.pi, size=4),
            rng.uniform(0.06, 0.16, size=4),
        )
        for _ in range(distractors)
    )
    return Recipe(object_class, size, rotation, place, rank, levels, textures, decoys, noise, mean, deviation)


def _texture(rng: np.random.Generator, size: int) -> np.ndarray:
    """Noise with a 1/f spectrum, half of the time with an oriented grating in it; mean about 0."""
    steepness = rng.uniform(0.8, 1.3)
    spectrum = np.fft.rfft2(rng.standard_normal((size, size))) * _frequencies(size) ** -steepness
    spectrum[0, 0] = 0
    field = np.fft.irfft2(spectrum, s=(size, size))
    field /= field.std()
    angle, cycles, phase = rng.uniform(0, np.pi), rng.uniform(3, 12), rng.uniform(0, 2 * np.pi)
    contrast = rng.uniform(0.03, 0.08)
    if rng.uniform() < 0.5:
        line = np.arange(size) * (2 * np.pi * cycles / size)
        wave = np.sin(np.cos(angle) * line[None, :] + np.sin(angle) * line[:, None] + phase)
        field = np.sqrt(0.5) * field + wave
    return contrast * field


@lru_cache(maxsize=4)
def _frequencies(size: int) -> np.ndarray:
    fy, fx = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :]
    radius = np.hypot(fy, fx)
    radius[0, 0] = 1.0
    return radius


def paint(
    recipe: Recipe, scale: float, *, room_for: float | None = None, decoy_against: float | None = None
) -> tuple[np.ndarray, Box, float]:
    """Paint a recipe with its object at one scale.

    Parameters
    ----------
    recipe : Recipe
        The scene.
    scale : float
        Square root of box area over image area, in (0, 0.85].
    room_for : float, optional
        The object's centre is placed so that an object of this scale fits into the image; by
        default its own. Paired scenes give the largest, so that the centre stays.
    decoy_against : float, optional
        The scale that the decoys' sizes run against; by default the object's own.

    Returns
    -------
    image : ndarray of uint8, shape (size, size, 3)
    box : Box
        Exact box of the object.
    mask_area : float
        Covered area in square pixels.
    """
    size = recipe.size
    box = _place(recipe, scale, scale if room_for is None else room_for)
    mask = coverage(recipe.object_class, recipe.rotation, box, size)
    background, target, other = recipe.levels[:, None, None, :] + recipe.textures[..., None]
    picture = background
    for decoy in recipe.decoys:
        blob = _blob(decoy, scale if decoy_against is None else decoy_against, size)[..., None]
        picture = picture + blob * (other - picture)
    picture = picture + mask[..., None] * (target - picture) + recipe.noise
    picture = recipe.mean + (picture - picture.mean()) * (recipe.deviation / picture.std())
    return np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8), box, float(mask.sum())


def _place(recipe: Recipe, scale: float, room_for: float) -> Box:
    _, half = half_extents(recipe.object_class, recipe.rotation)
    sides = half / np.sqrt(half[0] * half[1]) * recipe.size / 2  # half sides in px at scale 1
    centre = sides * room_for + recipe.place * (recipe.size - 2 * sides * room_for)
    (x0, y0), (x1, y1) = centre - sides * scale, centre + sides * scale
    return Box(float(x0), float(y0), float(x1), float(y1))


def _blob(decoy: Decoy, against: float, size: int) -> np.ndarray:
    """Coverage of a decoy whose side is the object's scale mirrored (on a log axis), with noise.

    The mirror keeps area and outline of object and decoy together about constant; the noise keeps
    the decoy from telling the object's scale in its stead.
    """
    low, high = np.log(SCALES)
    side = np.exp(np.clip(low + high - np.log(against) + decoy.jitter, low, high))
    grid = (np.arange(size) + 0.5) / size
    x, y = grid[None, :] - decoy.centre[0], grid[:, None] - decoy.centre[1]
    waves = np.cos(np.arange(2, 6)[:, None, None] * np.arctan2(y, x) + decoy.phases[:, None, None])
    radius = side / 2 * (1 + np.tensordot(decoy.bumps, waves, axes=1))
    return np.clip(0.5 - size * (np.hypot(x, y) - radius), 0, 1)


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
