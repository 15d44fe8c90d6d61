"""Rendered whole-slide images: nuclei of exactly known area in an Aperio-style pyramid.

They are written with tifffile and meant to be read through OpenSlide only. Knows stains and ellipses,
nothing of patches or networks.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage

from scalelib.datasets import Dataset
from scalelib.errors import DataError
from scalelib.slides.patches import SlideSource, slide_patches

HEMATOXYLIN = np.array([0.650, 0.704, 0.286])
EOSIN = np.array([0.072, 0.990, 0.105])
"""Optical density in red, green, blue of either stain (Ruifrok & Johnston 2001)."""

MEAN_NUCLEUS_UM2 = 30.0
PITCH_UM = 12.0
"""Nuclei lie one to a cell of a grid of this pitch, shifted at random: they never touch."""

TILE = 256


@dataclass(frozen=True)
class RenderedSlide:
    """Files of a rendered slide and its nuclei.

    Parameters
    ----------
    path : pathlib.Path
        The pyramid, ``.svs``; its outlines lie beside it, ``.geojson``.
    centers : ndarray of shape (n_nuclei, 2)
        Level-0 pixels (x, y).
    axes : ndarray of shape (n_nuclei, 2)
        Semi-axes of the ellipses in level-0 pixels.
    angles : ndarray of shape (n_nuclei,)
        Of the first axis, in radians.
    mpp : float
        Micrometres per level-0 pixel.
    """

    path: Path
    centers: np.ndarray
    axes: np.ndarray
    angles: np.ndarray
    mpp: float

    @property
    def areas(self) -> np.ndarray:
        """Exact areas in square level-0 pixels, π times both semi-axes."""
        return math.pi * self.axes.prod(axis=1)

    @property
    def outlines_path(self) -> Path:
        """The GeoJSON file of the outlines."""
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

    Parameters
    ----------
    path : path-like
        Where to write, with the suffix ``.svs``.
    size : int, default=2048
        Width and height of level 0, at least 256 pixels; a level a quarter as wide follows while it
        is at least 256.
    power : float, default=40
        Stated as ``AppMag``, with ``MPP`` = 10 / power.
    nucleus_scale : float, default=1
        Factor on the mean nucleus area of 30 µm², in [0.5, 1.5]: organs differ.
    random_state : int, default=0
        Seed of everything, the stains too.

    Returns
    -------
    RenderedSlide

    Raises
    ------
    DataError
        If suffix, size or scale is out of range, or tifffile is not installed.

    Notes
    -----
    Colour by Beer and Lambert: 255 · exp(−Σ concentration · stain vector); each slide has vectors and
    concentrations of its own. Part of the slide is glass.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     slide = render_slide(Path(folder) / "one.svs", size=256)
    ...     slide.path.exists(), slide.outlines_path.exists()
    (True, True)
    """
    path = Path(path)
    if path.suffix != ".svs" or size < TILE or not 0.5 <= nucleus_scale <= 1.5 or not power > 0:
        raise DataError(
            "render_slide: a path that ends in .svs, size ≥ 256, nucleus_scale in [0.5, 1.5], power > 0.\n"
            f"Received: {path.name}, size={size}, nucleus_scale={nucleus_scale}, power={power}."
        )
    rng = np.random.default_rng(random_state)
    mpp = 10.0 / power
    tissue = _smooth_noise(rng, size, size // 4) > -0.9
    centers, axes, angles = _place_nuclei(rng, tissue, mpp, nucleus_scale)
    pixels = _stain(rng, tissue, _nuclei_density(rng, size, centers, axes, angles))
    _write_pyramid(path, pixels, power=power, mpp=mpp)
    slide = RenderedSlide(path, centers, axes, angles, mpp)
    _write_outlines(slide)
    return slide


def _smooth_noise(rng: np.random.Generator, size: int, wavelength: float) -> np.ndarray:
    """Noise of mean 0 and deviation 1 without structure below a wavelength, drawn coarse and enlarged."""
    coarse = max(4, round(4 * size / wavelength))
    field = ndimage.gaussian_filter(rng.standard_normal((coarse, coarse)), 1.0, mode="wrap")
    field = np.asarray(
        Image.fromarray(field.astype(np.float32)).resize((size, size), Image.Resampling.BICUBIC)
    )
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


def _nuclei_density(
    rng: np.random.Generator, size: int, centers: np.ndarray, axes: np.ndarray, angles: np.ndarray
) -> np.ndarray:
    """Coverage of each pixel by a nucleus, in [0, 1], times that nucleus' own strength of stain."""
    density = np.zeros((size, size), np.float32)
    strengths = rng.uniform(0.7, 1.3, len(centers))
    for (x, y), (a, b), angle, strength in zip(centers, axes, angles, strengths, strict=True):
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
    texture = sum(
        _smooth_noise(rng, size, wave) * weight for wave, weight in ((256, 0.5), (64, 0.35), (16, 0.2))
    )
    grain = _smooth_noise(rng, size, 6.0)
    eosin = np.where(
        tissue, np.clip(0.35 + 0.12 * texture, 0.05, None) * (1 - 0.4 * np.minimum(nuclei, 1)), 0.0
    )
    blue = np.where(tissue, 0.06, 0.0) + 0.75 * nuclei * (1 + 0.2 * grain)
    density = strength[0] * blue[..., None] * vectors[0] + strength[1] * eosin[..., None] * vectors[1]
    light = 244.0 * np.exp(-density) + rng.normal(0, 1.5, (size, size, 1))
    return np.clip(np.rint(light), 0, 255).astype(np.uint8)


def _write_pyramid(path: Path, pixels: np.ndarray, *, power: float, mpp: float) -> None:
    try:
        import tifffile
    except ImportError as error:
        raise DataError(
            "render_slide: writing slides needs tifffile.\nReceived: no package 'tifffile'.\n"
            "pip install 'scalelib[slides]'."
        ) from error
    levels = [pixels]
    while min(levels[-1].shape[:2]) >= 4 * TILE:
        levels.append(np.asarray(Image.fromarray(levels[-1]).reduce(4)))
    unfinished = path.with_name(path.name + ".unfinished")
    with tifffile.TiffWriter(unfinished) as file:
        for level in levels:
            height, width = level.shape[:2]
            stated = f"{width}x{height} ({TILE}x{TILE}) Deflate/RGB"
            file.write(
                level,
                tile=(TILE, TILE),
                photometric="rgb",
                compression="zlib",
                compressionargs={"level": 1},
                subfiletype=int(level is not pixels),
                description=f"Aperio Image Library v12.0\n{stated}|AppMag = {power:g}|MPP = {mpp:g}",
                metadata=None,
            )
    unfinished.replace(path)


def _write_outlines(slide: RenderedSlide, vertices: int = 48) -> None:
    """Polygons of 48 vertices, widened so that each has exactly the area of its ellipse."""
    turns = np.arange(vertices) * 2 * math.pi / vertices
    widened = math.sqrt(2 * math.pi / (vertices * math.sin(2 * math.pi / vertices)))
    u, v = widened * slide.axes[:, :1] * np.cos(turns), widened * slide.axes[:, 1:] * np.sin(turns)
    cos, sin = np.cos(slide.angles)[:, None], np.sin(slide.angles)[:, None]
    x, y = slide.centers[:, :1] + u * cos - v * sin, slide.centers[:, 1:] + u * sin + v * cos
    rings = np.round(np.stack([x, y], axis=-1), 4)
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [[*ring.tolist(), ring[0].tolist()]]},
            "properties": {"objectType": "annotation"},
        }
        for ring in rings
    ]
    text = json.dumps({"type": "FeatureCollection", "features": features})
    unfinished = slide.outlines_path.with_name(slide.outlines_path.name + ".unfinished")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(slide.outlines_path)


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
    """Patches of rendered slides, written to a folder and read back through OpenSlide.

    Parameters
    ----------
    folder : path-like
        Where the slides are written; those that are there already are rendered anew.
    n_slides : tuple of int, default=(6, 2, 4)
        Slides to train, validate and test.
    slide_size : int, default=2048
        Side of a slide in level-0 pixels.
    nucleus_spread : float, default=0.1
        Standard deviation between slides of the logarithm of the mean nucleus area.
    size : int, default=64
        Side of a patch in pixels.
    random_state : int, default=0
    **options
        Further options of :func:`~scalelib.slides.patches.slide_patches`.

    Returns
    -------
    Dataset

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     patches = load_rendered(folder, n_slides=(1, 1, 1), slide_size=512, magnifications=[10, 40])
    >>> sorted(patches.table.magnification.unique().tolist())
    [10.0, 40.0]
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    splits = [s for s, n in zip(("train", "validation", "test"), n_slides, strict=True) for _ in range(n)]
    scales = np.clip(
        np.exp(np.random.default_rng(random_state).normal(0, nucleus_spread, len(splits))), 0.5, 1.5
    )
    sources = []
    for number, (split, scale) in enumerate(zip(splits, scales, strict=True)):
        slide = render_slide(
            folder / f"rendered-{number:02d}.svs", size=slide_size, nucleus_scale=float(scale),
            random_state=random_state * 1000 + number,
        )  # fmt: skip
        sources.append(SlideSource(slide.path.stem, slide.path, slide.outlines_path, slide.path.stem, split))
    return slide_patches(
        sources,
        name="rendered slides",
        size=size,
        random_state=random_state,
        source="slides rendered by scalelib (MIT licence)",
        **options,
    )
