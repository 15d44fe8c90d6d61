"""Patches of tissue from a folder of slides that state their magnification; no outlines are needed.

Knows slides and patches, nothing of nuclei or networks.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from scalelib.datasets.base import Dataset
from scalelib.datasets.patch_images import PatchImages
from scalelib.datasets.patch_labels import tissue_mask, tissue_positions
from scalelib.datasets.patches import MAGNIFICATIONS
from scalelib.datasets.slides import open_slide
from scalelib.errors import DataError, reason
from scalelib.progress import track

SLIDE_SUFFIXES = (
    ".svs",
    ".tif",
    ".tiff",
    ".ndpi",
    ".mrxs",
    ".scn",
    ".bif",
    ".svslide",
    ".vms",
    ".vmu",
    ".czi",
)
MIN_SLIDES = 6
EVERY = 4
"""One slide in four is held out; six slides give two, each at several magnifications."""


def load_tissue(
    folder: str | os.PathLike[str],
    *,
    size: int = 96,
    magnifications: Iterable[float] = MAGNIFICATIONS,
    min_tissue: float = 0.5,
    max_per_slide: int = 16,
    random_state: int = 0,
) -> Dataset:
    """Patches of all slides in a folder, at magnifications up to each slide's own.

    Parameters
    ----------
    folder : path-like
        Searched with its subfolders for slides; a slide that states neither objective power nor
        microns per pixel, cannot be read or shows no tissue is left out and named in `excluded`.
    size : int, default=96
        Side of a patch in pixels, at every magnification.
    magnifications : iterable of float, default=(5, 8, 10, 15, 20, 30, 40)
        A slide gives those up to its own at which a patch fits on it.
    min_tissue : float, default=0.5
        Patches with a smaller share of tissue are left out.
    max_per_slide : int, default=16
        At most so many patches per slide and magnification, drawn at random.
    random_state : int, default=0
        Seed of that draw and of the split.

    Returns
    -------
    Dataset
        `table` has ``image, object_class, slide, split, x, y, magnification, tissue``; there is no
        nucleus and so no area. `split` is ``train`` or ``validation``: every fourth slide in order of
        magnification, so that either part has slow and fast scans; a magnification that only one
        part has is left out.

    Raises
    ------
    DataError
        If the folder is missing, or fewer than six slides are left, or fewer than two magnifications.

    Examples
    --------
    >>> load_tissue("nowhere")
    Traceback (most recent call last):
    ...
    scalelib.errors.DataError: load_tissue: no folder nowhere.
    ...
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(
            f"load_tissue: no folder {folder.as_posix()}.\nReceived: {folder.as_posix()}.\n"
            "Give a folder of slides that state their magnification."
        )
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SLIDE_SUFFIXES and p.is_file())
    rng = np.random.default_rng(random_state)
    wanted = tuple(float(m) for m in magnifications)
    rows: list[dict[str, object]] = []
    powers: dict[str, float] = {}
    problems: dict[str, str] = {}
    for path in track(paths, label="slides", unit="slide"):
        name = path.relative_to(folder).as_posix()
        try:
            power, found = _tissue_of(path, wanted, size, min_tissue, max_per_slide, rng)
            for row in found:
                row["image"] = f"{name}:{row['magnification']:g}X:{row['x']},{row['y']}"
                row["slide"] = name
            rows += found
            powers[name] = power
        except DataError as error:
            problems[name] = reason(error)
    _check_number(folder, powers, problems)
    table = pd.DataFrame(rows)
    table["split"] = table["slide"].map(_split(powers, rng))
    table["object_class"] = "tissue"
    parts = table.groupby("magnification")["split"].nunique()
    table = table[table["magnification"].map(parts) == 2].reset_index(drop=True)
    if table["magnification"].nunique() < 2:
        raise DataError(
            f"load_tissue: patches at two magnifications at least, in slides of either part.\n"
            f"Received: {len(powers)} slides at {sorted(set(powers.values()))}; patches of {size} px.\n"
            "Give larger slides or smaller patches."
        )
    counts: Counter[str] = Counter({"patches at a magnification of one part only": len(rows) - len(table)})
    counts.update({f"{name}: {reason}": 1 for name, reason in problems.items()})
    digest = hashlib.sha256(table.to_csv(index=False, float_format="%.9g").encode()).hexdigest()
    images = PatchImages({name: partial(open_slide, folder / name) for name in powers}, table, size)
    return Dataset(folder.name, images, table, {k: v for k, v in counts.items() if v}, "", digest)


def _tissue_of(
    path: Path,
    magnifications: tuple[float, ...],
    size: int,
    min_tissue: float,
    at_most: int,
    rng: np.random.Generator,
) -> tuple[float, list[dict[str, object]]]:
    """The slide's magnification and its patches, each read once to see that the file holds it."""
    rows: list[dict[str, object]] = []
    with open_slide(path) as slide:
        tissue = tissue_mask(slide.overview())
        for magnification in magnifications:
            if magnification > slide.power or size * slide.downsample(magnification) > min(slide.size):
                continue
            found = tissue_positions(
                slide, tissue, size, magnification, layout="cover", min_tissue=min_tissue, at_most=at_most,
                random_state=rng,
            )  # fmt: skip
            for x, y, share in found:
                if share >= min_tissue:
                    slide.read(x, y, size, magnification=magnification)
                    rows.append({"x": x, "y": y, "magnification": magnification, "tissue": share})
        if not rows:
            raise DataError(f"slide {slide.name}: no patch of {size} px shows tissue.")
        return slide.power, rows


def _check_number(folder: Path, powers: Mapping[str, float], problems: Mapping[str, str]) -> None:
    if len(powers) >= MIN_SLIDES:
        return
    named = "".join(f"\n  {name}: {reason}" for name, reason in list(problems.items())[:20])
    raise DataError(
        f"load_tissue: at least {MIN_SLIDES} slides that state their magnification and show tissue.\n"
        f"Received: {len(powers)} of {len(powers) + len(problems)} files in {folder.as_posix()}"
        f"{'; left out:' if named else '.'}{named}\n"
        "Intervals are calibrated on slides held out whole; fewer slides say nothing about a new one."
    )


def _split(powers: Mapping[str, float], rng: np.random.Generator) -> dict[str, str]:
    shuffled = rng.permutation(sorted(powers)).tolist()
    in_order = sorted(shuffled, key=lambda name: powers[name])
    return {name: "validation" if i % EVERY == 1 else "train" for i, name in enumerate(in_order)}
