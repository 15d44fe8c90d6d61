"""Rendered whole-slide images: nuclei of exactly known area in an Aperio-style pyramid.

They are written with tifffile and meant to be read through OpenSlide only. Knows stains and ellipses, nothing of patches'
labels or networks.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image
from scipy import ndimage

from scalelib.datasets import Dataset
from scalelib.results import write_atomic
from scalelib.slides.patches import SlideSource, slide_patches

# Optical density in red, green, blue of either stain (Ruifrok & Johnston 2001).
HEMATOXYLIN = np.array([0.650, 0.704, 0.286])
EOSIN = np.array([0.072, 0.990, 0.105])

MEAN_NUCLEUS_UM2 = 30.0
# Nuclei lie one to a cell of a grid of this pitch, shifted at random: they never touch.
PITCH_UM = 12.0

TILE = 256


@dataclass(frozen=True)
class RenderedSlide:
    """A rendered slide: its pyramid (``.svs``), and its ellipses in level-0 pixels and radians."""

    path: Path
    centers: np.ndarray  # (n_nuclei, 2)
    axes: np.ndarray  # (n_nuclei, 2): semi-axes
    angles: np.ndarray  # (n_nuclei,): of the first axis

    @property
    def areas(self) -> np.ndarray:
        """Exact areas in square level-0 pixels."""
        return math.pi * self.axes.prod(axis=1)

    @property
    def outlines_path(self) -> Path:
        """The outlines as GeoJSON, beside the pyramid."""
        return self.path.with_suffix(".geojson")


def render_slide(
    path: str | os.PathLike[str],
    *,
    size: int = 2048,
    power: float = 40.0,
    nucleus_scale: float = 1.0,
    random_state: int = 0,
) -> RenderedSlide:
    """Render a stained slide and write it as a tiled, losslessly packed pyramid with its outlines beside it.

    `power` is stated as ``AppMag``, with ``MPP`` = 10 / power; `nucleus_scale`, in [0.5, 1.5], is a factor on the mean
    nucleus area. Colour by Beer and Lambert: 255 · exp(−Σ concentration · stain vector), with vectors and concentrations
    of the slide's own. Part of the slide is glass.
    """
    rng = np.random.default_rng(random_state)
    mpp = 10.0 / power
    tissue = _smooth_noise(rng, size, size // 4) > -0.9
    slide = RenderedSlide(Path(path), *_place_nuclei(rng, tissue, mpp, nucleus_scale))
    pixels = _stain(rng, tissue, _nuclei_density(rng, size, slide))
    stated = f"AppMag = {power:g}|MPP = {mpp:g}"
    write_atomic(slide.path, lambda file: _write_pyramid(file, pixels, stated))
    write_atomic(slide.outlines_path, lambda file: file.write(_outlines(slide).encode()))
    return slide


def _smooth_noise(rng: np.random.Generator, size: int, wavelength: float) -> np.ndarray:
    """Noise of mean 0 and deviation 1 without structure below a wavelength, drawn coarse and enlarged."""
    coarse = max(4, round(4 * size / wavelength))
    field = ndimage.gaussian_filter(rng.standard_normal((coarse, coarse)), 1.0, mode="wrap")
    picture = Image.fromarray(field.astype(np.float32))
    field = np.asarray(picture.resize((size, size), Image.Resampling.BICUBIC))
    return (field - field.mean()) / field.std()


def _place_nuclei(
    rng: np.random.Generator, tissue: np.ndarray, mpp: float, nucleus_scale: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    pitch = PITCH_UM / mpp
    per_side = int(tissue.shape[0] / pitch)
    cells = np.stack(np.meshgrid(np.arange(per_side), np.arange(per_side)), axis=-1).reshape(-1, 2)
    cells = cells[rng.random(len(cells)) < 0.8]
    areas = MEAN_NUCLEUS_UM2 * nucleus_scale * rng.lognormal(-0.045, 0.3, len(cells)) / mpp**2
    ratio = rng.uniform(1.0, 1.7, len(cells))
    axes = np.sqrt(areas / math.pi)[:, None] * np.stack([ratio**0.5, ratio**-0.5], axis=1)
    axes *= np.minimum(1.0, 0.48 * pitch / axes[:, :1])
    room = pitch / 2 - axes[:, :1]
    centers = (cells + 0.5) * pitch + rng.uniform(-1, 1, (len(cells), 2)) * room
    angles = rng.uniform(0, math.pi, len(cells))
    kept = tissue[tuple(centers.astype(int).T[::-1])]
    return centers[kept], axes[kept], angles[kept]


def _nuclei_density(rng: np.random.Generator, size: int, slide: RenderedSlide) -> np.ndarray:
    """Coverage of each pixel by a nucleus, in [0, 1], times that nucleus' own strength of stain."""
    density = np.zeros((size, size), np.float32)
    strengths = rng.uniform(0.7, 1.3, len(slide.centers))
    nuclei = zip(slide.centers, slide.axes, slide.angles, strengths, strict=True)
    for (x, y), (a, b), angle, strength in nuclei:
        left, top = int(max(x - a - 2, 0)), int(max(y - a - 2, 0))
        right, bottom = int(min(x + a + 3, size)), int(min(y + a + 3, size))
        dx = np.arange(left, right) + 0.5 - x
        dy = (np.arange(top, bottom) + 0.5 - y)[:, None]
        u = (dx * math.cos(angle) + dy * math.sin(angle)) / a
        v = (dy * math.cos(angle) - dx * math.sin(angle)) / b
        radius = np.sqrt(u**2 + v**2) + 1e-9
        distance = (radius - 1) * radius / np.sqrt((u / a) ** 2 + (v / b) ** 2 + 1e-12)
        density[top:bottom, left:right] += strength * np.clip(0.5 - distance, 0, 1)
    return density


def _stain(rng: np.random.Generator, tissue: np.ndarray, nuclei: np.ndarray) -> np.ndarray:
    size = len(tissue)
    vectors = [v + rng.normal(0, 0.03, 3) for v in (HEMATOXYLIN, EOSIN)]
    vectors = [np.clip(v, 0.02, None) / np.linalg.norm(v) for v in vectors]
    strength = rng.uniform(0.8, 1.25, 2)
    waves = ((256, 0.5), (64, 0.35), (16, 0.2))
    texture = sum(_smooth_noise(rng, size, wave) * weight for wave, weight in waves)
    grain = _smooth_noise(rng, size, 6.0)
    pink = np.clip(0.35 + 0.12 * texture, 0.05, None) * (1 - 0.4 * np.minimum(nuclei, 1))
    eosin = np.where(tissue, pink, 0.0)
    blue = np.where(tissue, 0.06, 0.0) + 0.75 * nuclei * (1 + 0.2 * grain)
    density = strength[0] * blue[..., None] * vectors[0] + strength[1] * eosin[..., None] * vectors[1]
    light = 244.0 * np.exp(-density) + rng.normal(0, 1.5, (size, size, 1))
    return np.clip(np.rint(light), 0, 255).astype(np.uint8)


def _write_pyramid(target: Any, pixels: np.ndarray, scale: str) -> None:
    levels = [pixels]
    while min(levels[-1].shape[:2]) >= 4 * TILE:
        levels.append(np.asarray(Image.fromarray(levels[-1]).reduce(4)))
    with tifffile.TiffWriter(target) as file:
        for level in levels:
            size = f"{level.shape[1]}x{level.shape[0]} ({TILE}x{TILE}) Deflate/RGB"
            file.write(
                level,
                tile=(TILE, TILE),
                photometric="rgb",
                compression="zlib",
                compressionargs={"level": 1},
                subfiletype=int(level is not pixels),
                description=f"Aperio Image Library v12.0\n{size}|{scale}",
                metadata=None,
            )


def _outlines(slide: RenderedSlide, vertices: int = 48) -> str:
    """GeoJSON of polygons of 48 vertices, widened so that each has exactly the area of its ellipse."""
    turns = np.arange(vertices) * 2 * math.pi / vertices
    widened = math.sqrt(2 * math.pi / (vertices * math.sin(2 * math.pi / vertices)))
    u, v = widened * slide.axes[:, :1] * np.cos(turns), widened * slide.axes[:, 1:] * np.sin(turns)
    cos, sin = np.cos(slide.angles)[:, None], np.sin(slide.angles)[:, None]
    x, y = slide.centers[:, :1] + u * cos - v * sin, slide.centers[:, 1:] + u * sin + v * cos
    rings = np.round(np.stack([x, y], axis=-1), 4)
    kind = {"objectType": "annotation"}
    polygons = [{"type": "Polygon", "coordinates": [[*ring, ring[0]]]} for ring in rings.tolist()]
    features = [{"type": "Feature", "geometry": polygon, "properties": kind} for polygon in polygons]
    return json.dumps({"type": "FeatureCollection", "features": features})


def load_rendered(
    folder: str | os.PathLike[str],
    *,
    n_slides: tuple[int, int, int] = (6, 2, 4),
    slide_size: int = 2048,
    nucleus_spread: float = 0.1,
    size: int = 64,
    random_state: int = 0,
    **options: Any,
) -> Dataset:
    """Patches of rendered slides, written to a folder (those there already are rendered anew) and read through OpenSlide.

    `n_slides` to train, validate and test; `nucleus_spread` is the standard deviation between slides of the logarithm of
    the mean nucleus area; further options are those of :func:`scalelib.slides.patches.slide_patches`.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    splits = [s for s, n in zip(("train", "validation", "test"), n_slides, strict=True) for _ in range(n)]
    spread = np.random.default_rng(random_state).normal(0, nucleus_spread, len(splits))
    sources = []
    for number, (split, scale) in enumerate(zip(splits, np.clip(np.exp(spread), 0.5, 1.5), strict=True)):
        seed = random_state * 1000 + number
        path = folder / f"rendered-{number:02d}.svs"
        slide = render_slide(path, size=slide_size, nucleus_scale=float(scale), random_state=seed)
        sources.append(SlideSource(path.stem, path, slide.outlines_path, path.stem, split))
    options |= {"source": "slides rendered by scalelib (MIT licence)", "random_state": random_state}
    return slide_patches(sources, name="rendered slides", size=size, **options)
