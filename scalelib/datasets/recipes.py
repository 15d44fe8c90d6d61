"""One rendered scene: its recipe, which holds every random number, and how a recipe is painted.

Knows pixels and shapes; knows nothing of tables, datasets or networks. No draw of a recipe depends
on the object's scale, so painting one recipe at two scales changes the object's scale alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from scalelib.datasets.shapes import coverage, half_extents

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
        One of ``scalelib.datasets.shapes.CLASSES``.
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
