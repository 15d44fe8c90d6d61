"""Rendered scenes whose object scale is chosen and known exactly, independent of everything else.

Ten shapes with exact boxes, recipes that hold every random number, and their painting. Knows no network.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from scalelib.datasets import Dataset
from scalelib.errors import require, track
from scalelib.validation import check_choice


class Shape(NamedTuple):
    """A silhouette in its own units."""

    distance: Callable[
        [np.ndarray, np.ndarray], np.ndarray
    ]  # signed: negative inside, slope one near the outline
    outline: np.ndarray  # (n_points, 2): corners, and curves sampled densely; they hold every extreme


def half_extents(name: str, rotation: float) -> tuple[np.ndarray, np.ndarray]:
    """Centre and half sides of a shape's bounding box, in its own units; rotation in degrees, clockwise on the screen."""
    points = SHAPES[name].outline @ _rotation(rotation).T
    low, high = points.min(axis=0), points.max(axis=0)
    return (low + high) / 2, (high - low) / 2


def coverage(name: str, rotation: float, box: Box, size: int) -> np.ndarray:
    """Share of each pixel that a shape covers, given its box in pixels; a ramp one pixel wide at the outline."""
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


def _disc(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.sqrt(x * x + y * y) - 1


def _ring(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.abs(np.sqrt(x * x + y * y) - 0.75) - 0.25


def _rectangle(x: np.ndarray, y: np.ndarray, half_width: float = 1.0, half_height: float = 1.0) -> np.ndarray:
    return np.maximum(np.abs(x) - half_width, np.abs(y) - half_height)


def _half_planes(x: np.ndarray, y: np.ndarray, count: int, apothem: float) -> np.ndarray:
    """Distances to the sides of an upright regular polygon (corner on top), one leading row per side."""
    angles = np.pi / 2 + 2 * np.pi * np.arange(count) / count
    return np.stack([np.cos(a) * x + np.sin(a) * y - apothem for a in angles])


def _triangle(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return _half_planes(x, y, 3, 0.5).max(axis=0)


def _star(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A pentagram: every point of it lies on the inner side of at least four of the five lines."""
    inner = float(np.cos(2 * np.pi / 5))  # the lines pass this far from its centre
    return np.partition(_half_planes(x, -y, 5, inner), 3, axis=0)[3]


def _cross(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.minimum(_rectangle(x, y, 1.0, 0.32), _rectangle(x, y, 0.32, 1.0))


def _crescent(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.maximum(_disc(x, y), -(np.sqrt((x - 0.5) ** 2 + y * y) - 0.8))


def _heart(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A square on its corner with a disc on each of its two upper sides."""
    x = np.abs(x)
    lobe = np.sqrt((x - _ROOT) ** 2 + (y + _ROOT) ** 2) - 1
    return np.minimum((x + np.abs(y)) * _ROOT - 1, lobe)


def _arrow(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    head = np.maximum(y, (np.abs(x) - (y + 1) * 0.9) / np.hypot(1.0, 0.9))
    return np.minimum(head, np.maximum(np.abs(x) - 0.28, np.abs(y - 0.5) - 0.5))


def _hourglass(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    y = np.abs(y)
    return np.maximum(y - 1, (np.abs(x) - 0.1 - 0.8 * y) / np.hypot(1.0, 0.8))


def _arc(start: float, stop: float, centre: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
    angles = np.linspace(start, stop, 721)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1) + np.asarray(centre)


def _corners(count: int) -> np.ndarray:
    angles = -np.pi / 2 + 2 * np.pi * np.arange(count) / count
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _both_sides(*points: tuple[float, float]) -> np.ndarray:
    return np.array([(sign * x, y) for x, y in points for sign in (-1.0, 1.0)])


_TAU = 2 * np.pi
_ROOT = float(np.sqrt(0.5))
_HORN = float(np.arctan2(np.sqrt(1 - 0.61**2), 0.61))  # where the crescent's two circles meet
_LOBE = _arc(-1.25 * np.pi, 0.25 * np.pi, (_ROOT, -_ROOT))[240:]
SHAPES: dict[str, Shape] = {
    "disc": Shape(_disc, _arc(0.0, _TAU)),
    "ring": Shape(_ring, _arc(0.0, _TAU)),
    "square": Shape(_rectangle, _both_sides((1.0, -1.0), (1.0, 1.0))),
    "triangle": Shape(_triangle, _corners(3)),
    "star": Shape(_star, _corners(5)),
    "cross": Shape(_cross, _both_sides((1.0, -0.32), (1.0, 0.32), (0.32, -1.0), (0.32, 1.0))),
    "crescent": Shape(_crescent, _arc(_HORN, _TAU - _HORN)),
    "heart": Shape(_heart, np.concatenate([_LOBE, _LOBE * (-1.0, 1.0), [(0.0, 2 * _ROOT)]])),
    "arrow": Shape(_arrow, _both_sides((0.0, -1.0), (0.9, 0.0), (0.28, 1.0))),
    "hourglass": Shape(_hourglass, _both_sides((0.9, -1.0), (0.9, 1.0))),
}
CLASSES: tuple[str, ...] = tuple(SHAPES)
# Range of object side lengths, as a share of the image side: a little more than fourfold.
SCALES = (0.2, 0.85)
_SMALLEST = 0.05


# x0, y0, x1, y1 in pixels; pixel (row, column) spans [column, column + 1] × [row, row + 1].
Box = tuple[float, float, float, float]


class Decoy(NamedTuple):
    """A wobbly blob of no class, which lies under the object."""

    jitter: float  # noise of its size, in natural logarithms
    centre: np.ndarray  # (2,) x and y as a share of the image side
    phases: np.ndarray  # (4,) of the outline's second to fifth harmonic
    bumps: np.ndarray  # (4,) amplitudes of those, as a share of the radius


@dataclass(frozen=True)
class Recipe:
    """Every random draw of one scene. Levels and textures: background, object, decoys."""

    scene: int
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


def draw_recipe(seed: np.random.SeedSequence, scene: int, name: str, size: int, distractors: int) -> Recipe:
    """Draw everything about a scene but its object's scale.

    Grey levels of background, object and decoys are three of one distribution, in random order, with little colour.
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
    return Recipe(scene, name, size, rotation, place, rank, levels, textures, decoys, noise, mean, deviation)


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
    recipe: Recipe, scale: float, *, room_for: float, against: float
) -> tuple[np.ndarray, dict[str, Any]]:
    """Paint a recipe with its object at one scale: the image, and its row of measures with the object's exact box.

    The centre leaves room for an object of the scale `room_for`, and the decoys' sizes run `against` a scale. A scene alone
    gives its own for both; paired scenes give the same to all of their images, so that nothing else moves.
    """
    size = recipe.size
    box = _place(recipe, scale, room_for)
    mask = coverage(recipe.object_class, recipe.rotation, box, size)
    background, target, other = recipe.levels[:, None, None, :] + recipe.textures[..., None]
    picture = background
    for decoy in recipe.decoys:
        blob = _blob(decoy, against, size)[..., None]
        picture = picture + blob * (other - picture)
    picture = picture + mask[..., None] * (target - picture) + recipe.noise
    picture = recipe.mean + (picture - picture.mean()) * (recipe.deviation / picture.std())
    width, height = (box[2] - box[0]) / size, (box[3] - box[1]) / size
    row = {
        "object_class": recipe.object_class,
        "area_ratio": width * height,  # as in PASCAL VOC
        "sqrt_area_ratio": float(np.sqrt(width * height)),
        "scene": recipe.scene,
        "scale": scale,
        **dict(zip(("box_x0", "box_y0", "box_x1", "box_y1"), box, strict=True)),
        "box_width_ratio": width,
        "box_height_ratio": height,
        "mask_area": float(mask.sum()),
        "rotation": recipe.rotation,
    }
    return np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8), row


def _place(recipe: Recipe, scale: float, room_for: float) -> Box:
    _, half = half_extents(recipe.object_class, recipe.rotation)
    sides = half / np.sqrt(half[0] * half[1]) * recipe.size / 2  # half sides in px at scale 1
    centre = sides * room_for + recipe.place * (recipe.size - 2 * sides * room_for)
    (x0, y0), (x1, y1) = centre - sides * scale, centre + sides * scale
    return float(x0), float(y0), float(x1), float(y1)


def _blob(decoy: Decoy, against: float, size: int) -> np.ndarray:
    """Coverage of a decoy whose side is the object's scale mirrored (on a log axis), with noise.

    The mirror keeps area and outline of object and decoy together about constant; the noise keeps the decoy from telling
    the object's scale in its stead.
    """
    low, high = np.log(SCALES)
    side = np.exp(np.clip(low + high - np.log(against) + decoy.jitter, low, high))
    grid = (np.arange(size) + 0.5) / size
    x, y = grid[None, :] - decoy.centre[0], grid[:, None] - decoy.centre[1]
    waves = np.cos(np.arange(2, 6)[:, None, None] * np.arctan2(y, x) + decoy.phases[:, None, None])
    radius = side / 2 * (1 + np.tensordot(decoy.bumps, waves, axes=1))
    return np.clip(0.5 - size * (np.hypot(x, y) - radius), 0, 1)


def render_scenes(
    n: int,
    *,
    classes: Sequence[str] | None = None,
    scales: tuple[float, float] | Sequence[float] = SCALES,
    size: int = 64,
    distractors: int = 1,
    random_state: int = 0,
) -> Dataset:
    """Scenes with one object each, at random scales; scene k is the same whatever `n` is.

    Scales are sides of the object's box as a share of the image side: a tuple is a range, drawn from log-uniformly, a list
    holds the only values. Without decoys (`distractors`) the pixels' deviation and gradients do tell the scale. The
    object's texture is fixed to the image: it does not grow with it.
    """
    names = _checked("render_scenes", classes, scales)
    painted = []
    for recipe in _recipes(n, names, size=size, distractors=distractors, random_state=random_state):
        scale = recipe.pick_scale(scales)
        painted.append(paint(recipe, scale, room_for=scale, against=scale))
    return _dataset("rendered scenes", f"scene-{random_state}-{{scene:06d}}", painted, random_state)


def render_paired_scenes(
    n_scenes: int,
    *,
    scales: Sequence[float] = (0.2, 0.29, 0.41, 0.59, 0.85),
    classes: Sequence[str] | None = None,
    size: int = 64,
    distractors: int = 1,
    random_state: int = 0,
) -> Dataset:
    """The same scenes at several object scales, scene by scene; shape, place, textures, colours, noise and decoys stay.

    Each image is brought to its scene's mean and deviation: outside the objects, two images of a scene are equal up to a
    common gain and offset.
    """
    scales = list(scales)
    names = _checked("render_paired_scenes", classes, scales)
    require(len(set(scales)) == len(scales), "render_paired_scenes", "every scale comes once", scales)
    painted = []
    for recipe in _recipes(n_scenes, names, size=size, distractors=distractors, random_state=random_state):
        common = {"room_for": max(scales), "against": recipe.pick_scale(SCALES)}
        painted += [paint(recipe, scale, **common) for scale in scales]
    label = f"pair-{random_state}-{{scene:06d}}@{{scale:g}}"
    return _dataset("paired rendered scenes", label, painted, random_state)


def _checked(operation: str, classes: Sequence[str] | None, scales: Sequence[float]) -> tuple[str, ...]:
    """The classes asked for, once classes and scales are known to be good."""
    fits = len(scales) and all(_SMALLEST <= scale <= SCALES[1] for scale in scales)
    ordered = not isinstance(scales, tuple) or (len(scales) == 2 and scales[0] <= scales[1])
    rule = f"scales are sides as a share of the image side, from {_SMALLEST} to {SCALES[1]}"
    advice = (
        f"Pass a range such as {SCALES}, smaller end first, as a tuple, or the only values wanted as a list"
    )
    require(fits and ordered, operation, rule, scales, advice)
    return check_choice(CLASSES if classes is None else classes, CLASSES, name="class", operation=operation)


def _recipes(n: int, names: tuple[str, ...], *, random_state: int, **options: int) -> Iterator[Recipe]:
    seeds = np.random.SeedSequence(random_state).spawn(n)
    for scene, seed in enumerate(track(seeds, label="scenes")):
        yield draw_recipe(seed, scene, names[scene % len(names)], **options)


def _dataset(name: str, label: str, painted: list[tuple[np.ndarray, dict[str, Any]]], seed: int) -> Dataset:
    images = np.stack([image for image, _ in painted])
    table = pd.DataFrame([{"image": label.format(**row)} | row for _, row in painted])
    digest = hashlib.sha256(images.tobytes())
    digest.update(table.to_csv(index=False, float_format="%.9g").encode())
    source = "scenes rendered by scalelib (MIT licence)"
    return Dataset(f"{name}, seed {seed}", images, table, {}, source, digest.hexdigest())
