"""Collections of slides: which slide, which annotation, which split. How patches are cut is not known here."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scalelib.datasets import Dataset
from scalelib.datasets.sources import data_root
from scalelib.errors import DataError, reason, require, track
from scalelib.slides import patches
from scalelib.slides.slide import open_slide

SUFFIXES = (".svs", ".tif", ".tiff", ".ndpi", ".mrxs", ".scn", ".bif", ".svslide", ".vms", ".vmu", ".czi")
MIN_SLIDES = 6
MOST_PATCHES = 16  # per slide and magnification, drawn at random
EVERY = 4  # one slide in four is held out; six slides give two, each at several magnifications


def load_monuseg(
    root: str | os.PathLike[str] | None = None,
    *,
    size: int = 96,
    layout: str = "cover",
    validation: int = 3,
    more: Sequence[str] = (),
    random_state: int = 0,
    **options: Any,
) -> Dataset:
    """Patches of the MoNuSeg 2018 challenge, in its official folders.

    Parameters
    ----------
    root : path-like, optional
        Data root; the images lie in ``MoNuSeg/MoNuSegTrainingData`` and ``MoNuSeg/MoNuSegTestData``.
    size : int, default=96
        Side of a patch in pixels; 125 is the most that fits at 5X.
    layout : {"grid", "cover"}, default="cover"
    validation : int, default=3
        Training patients that make the validation part, drawn with `random_state`.
    more : sequence of str, default=()
        Further folders of the data root, each with a ``MoNuSegTrainingData`` of other patients. The
        patches of the slides in ``MoNuSeg`` stay the same; which of them validate is drawn anew.
    random_state : int, default=0
    **options
        Further options of :func:`~scalelib.slides.patches.slide_patches`.

    Returns
    -------
    Dataset
        One group per TCGA patient. All images are 40X; an annotation that states no microns per pixel
        gets the convention's 0.25 and ``mpp_stated`` False.

    Raises
    ------
    DataError
        If the folders are missing or an image has no annotation.
    """
    place, folders = data_root(root), ["MoNuSeg", *more]
    first, *others = [
        _annotated(place / f / "MoNuSegTrainingData", "Tissue Images", "Annotations") for f in folders
    ]
    testing = _annotated(place / "MoNuSeg" / "MoNuSegTestData", ".", ".")
    patients = [_patient(image) for images in (first, *others) for image in images]
    held_out = patches.draw_groups(patients, validation, random_state=random_state)
    sources = []
    for images in (first, testing, *others):  # patches are drawn slide by slide: what is added comes last
        for image, outlines in images.items():
            patient = _patient(image)
            split = "test" if images is testing else "validation" if patient in held_out else "train"
            sources.append(patches.SlideSource(image.stem, image, outlines, patient, split, power=40.0))
    source = "MoNuSeg 2018 (Kumar et al. 2017, 2020), CC BY-NC-SA 4.0"
    given: dict[str, Any] = {"size": size, "layout": layout, "random_state": random_state, **options}
    return patches.slide_patches(sources, name=" and ".join(folders), source=source, **given)


def _annotated(folder: Path, images: str, annotations: str) -> dict[Path, Path]:
    """Each image and the file of its outlines."""
    place, advice = folder / images, "Set SCALELIB_DATA or give root=."
    rule = f"no folder {folder.as_posix()}"
    require(place.is_dir(), "load_monuseg", rule, f"nothing at {place.as_posix()}", advice)
    found = {image: folder / annotations / f"{image.stem}.xml" for image in sorted(place.glob("*.tif"))}
    missing = [outlines.name for outlines in found.values() if not outlines.is_file()]
    rule = f"every image in {folder.name} has an annotation"
    require(found and not missing, "load_monuseg", rule, f"{len(found)} images; missing: {missing}")
    return found


def _patient(image: Path) -> str:
    """TCGA barcode up to the participant, such as TCGA-A7-A13E."""
    return "-".join(image.stem.split("-")[:3])


def load_bca(
    root: str | os.PathLike[str] | None = None,
    *,
    folder: str | os.PathLike[str] = "nuclei",
    size: int = 224,
    validation: float = 0.18,
    test: float = 0.16,
    random_state: int = 0,
    **options: Any,
) -> Dataset:
    """Patches of the BCa nuclei set of Janowczyk & Madabhushi, with the paper's labels.

    Parameters
    ----------
    root : path-like, optional
        Data root.
    folder : path-like, default="nuclei"
        Folder of ``*_original.tif`` and ``*_mask.png`` in the data root, or a path of its own.
    size : int, default=224
    validation, test : float, default=0.18 and 0.16
        Shares of the patients (the paper's shares of patches), rounded up to whole patients.
    random_state : int, default=0
    **options
        Further options of :func:`~scalelib.slides.patches.slide_patches`.

    Returns
    -------
    Dataset
        One group per patient, the part of a file name before its first underscore. Images are 40X
        with 0.25 µm per pixel by convention. `excluded` counts images ``without_mask``.

    Raises
    ------
    DataError
        If there are no images, or fewer than three patients.
    """
    place = data_root(root) / folder
    images = sorted(place.rglob("*_original.tif"))
    masks = {image: image.with_name(image.name.replace("_original.tif", "_mask.png")) for image in images}
    paired = [image for image in images if masks[image].is_file()]
    rule, received = f"no *_original.tif in {place.as_posix()}", f"{len(images)} images without a mask"
    advice = "The set is 'nuclei.tgz' of Janowczyk; 'scalelib fetch bca-nuclei' brings it."
    require(paired, "load_bca", rule, received, advice)
    patients = [image.name.split("_")[0] for image in paired]
    different = len(set(patients))
    testing = patches.draw_groups(patients, math.ceil(test * different), random_state=random_state)
    rest = [p for p in patients if p not in testing]
    held_out = patches.draw_groups(rest, math.ceil(validation * different), random_state=random_state)
    sources = []
    for image, patient in zip(paired, patients, strict=True):
        split = "test" if patient in testing else "validation" if patient in held_out else "train"
        name = image.name.removesuffix("_original.tif")
        sources.append(patches.SlideSource(name, image, masks[image], patient, split, power=40.0))
    given: dict[str, Any] = {"size": size, "random_state": random_state, **options}
    source = "BCa nuclei (Janowczyk & Madabhushi 2016)"
    found = patches.slide_patches(sources, name="BCa nuclei", source=source, **given)
    if len(images) > len(paired):
        found.excluded["without_mask"] = len(images) - len(paired)
    return found


def load_tissue(folder: str | os.PathLike[str], *, size: int = 96, random_state: int = 0) -> Dataset:
    """Patches of all slides below a folder that state their scale, up to each one's own magnification; no nuclei, no areas.

    A slide that states neither objective power nor microns per pixel, cannot be read or shows no tissue is left out and
    named in `excluded`. Every fourth slide in order of magnification is validation, so that either part has slow and
    fast scans; a magnification that only one part has is left out.
    """
    folder = Path(folder)
    advice = "Give a folder of slides that state their magnification."
    require(folder.is_dir(), "load_tissue", f"no folder {folder.as_posix()}", advice=advice)
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    rng = np.random.default_rng(random_state)
    rows: list[dict[str, object]] = []
    powers: dict[str, float] = {}
    problems: dict[str, str] = {}
    for path in track(paths, label="slides", unit="slide"):
        name = path.relative_to(folder).as_posix()
        try:
            powers[name], found = _tissue_of(path, size, rng)
        except DataError as error:
            problems[name] = reason(error)
        else:
            rows += [{**row, "image": f"{name}:{row['magnification']:g}X:{row['x']},{row['y']}", "slide": name}
                     for row in found]  # fmt: skip
    named = "".join(f"\n  {name}: {problem}" for name, problem in list(problems.items())[:20])
    rule = f"at least {MIN_SLIDES} slides that state their magnification and show tissue"
    received = f"{len(powers)} of {len(paths)} files in {folder.as_posix()}{named and '; left out:'}{named}"
    advice = "Intervals are calibrated on slides held out whole; fewer slides say nothing about a new one."
    require(len(powers) >= MIN_SLIDES, "load_tissue", rule, received, advice)
    shuffled = rng.permutation(sorted(powers)).tolist()
    in_order = sorted(shuffled, key=lambda name: powers[name])
    held_out = in_order[1::EVERY]
    table = pd.DataFrame(rows)
    table["split"] = np.where(table["slide"].isin(held_out), "validation", "train")
    table["object_class"] = "tissue"
    parts = table.groupby("magnification")["split"].nunique()
    table = table[table["magnification"].map(parts) == 2].reset_index(drop=True)
    rule = "patches at two magnifications at least, in slides of either part"
    received = f"{len(powers)} slides at {sorted(set(powers.values()))}; patches of {size} px"
    advice = "Give larger slides or smaller patches."
    require(table["magnification"].nunique() > 1, "load_tissue", rule, received, advice)
    excluded = {"patches at a magnification of one part only": len(rows) - len(table)}
    excluded |= {f"{name}: {problem}": 1 for name, problem in problems.items()}
    images = patches.PatchImages({name: partial(open_slide, folder / name) for name in powers}, table, size)
    return patches.patch_dataset(folder.name, images, table, excluded)


def _tissue_of(path: Path, size: int, rng: np.random.Generator) -> tuple[float, list[dict[str, Any]]]:
    """The slide's magnification and its patches, each read once to see that the file holds it."""
    rows = []
    with open_slide(path) as slide:
        tissue = patches.tissue_mask(slide.overview())
        for magnification in (m for m in patches.MAGNIFICATIONS if m <= slide.power):
            if size * slide.downsample(magnification) > min(slide.size):
                continue
            how: dict[str, Any] = {"at_most": MOST_PATCHES, "layout": "cover"}
            found = patches.tissue_positions(slide, tissue, size, magnification, rng, **how)
            for x, y, share in found:
                if share >= patches.MIN_TISSUE:
                    slide.read(x, y, size, magnification=magnification)
                    rows.append({"x": x, "y": y, "magnification": magnification, "tissue": share})
        require(rows, f"slide {slide.name}", f"no patch of {size} px shows tissue")
        return slide.power, rows
