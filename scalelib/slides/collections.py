"""Histopathology collections: which slide, which annotation, which split. Patches are cut by patches.py. Patches of tissue from a folder of slides that state their magnification; no outlines are needed."""

from __future__ import annotations

import hashlib
import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scalelib.datasets import Dataset
from scalelib.datasets.sources import data_root
from scalelib.errors import DataError, reason, track
from scalelib.slides.patches import (
    MAGNIFICATIONS,
    PatchImages,
    SlideSource,
    draw_groups,
    slide_patches,
    tissue_mask,
    tissue_positions,
)
from scalelib.slides.slide import open_slide

MONUSEG_SOURCE = "MoNuSeg 2018 (Kumar et al. 2017, 2020), CC BY-NC-SA 4.0"
BCA_SOURCE = "BCa nuclei (Janowczyk & Madabhushi 2016)"


def load_monuseg(
    root: str | os.PathLike[str] | None = None,
    *,
    size: int = 96,
    layout: str = "cover",
    validation: int = 3,
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

    Examples
    --------
    >>> load_monuseg("nowhere")
    Traceback (most recent call last):
    ...
    scalelib.errors.DataError: load_monuseg: no folder nowhere/MoNuSeg/MoNuSegTrainingData.
    ...
    """
    folder = data_root(root) / "MoNuSeg"
    training = _pairs(folder / "MoNuSegTrainingData", "Tissue Images", "Annotations")
    testing = _pairs(folder / "MoNuSegTestData", ".", ".")
    held_out = draw_groups([_patient(image) for image, _ in training], validation, random_state=random_state)
    sources = []
    for part, pairs in (("train", training), ("test", testing)):
        for image, outlines in pairs:
            patient = _patient(image)
            split = "validation" if part == "train" and patient in held_out else part
            sources.append(SlideSource(image.stem, image, outlines, patient, split, power=40.0))
    return slide_patches(
        sources, name="MoNuSeg", size=size, layout=layout, random_state=random_state,
        source=MONUSEG_SOURCE, **options,
    )  # fmt: skip


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

    Examples
    --------
    >>> load_bca("nowhere")
    Traceback (most recent call last):
    ...
    scalelib.errors.DataError: load_bca: no *_original.tif in nowhere/nuclei.
    ...
    """
    place = data_root(root) / folder
    images = sorted(place.rglob("*_original.tif"))
    masks = {image: image.with_name(image.name.replace("_original.tif", "_mask.png")) for image in images}
    paired = [image for image in images if masks[image].is_file()]
    if not paired:
        raise DataError(
            f"load_bca: no *_original.tif in {place.as_posix()}.\nReceived: {len(images)} images without a mask.\n"
            "The set is 'nuclei.tgz' of Janowczyk; 'scalelib fetch bca-nuclei' brings it."
        )
    patients = [image.name.split("_")[0] for image in paired]
    different = len(set(patients))
    testing = draw_groups(patients, math.ceil(test * different), random_state=random_state)
    rest = [p for p in patients if p not in testing]
    held_out = draw_groups(rest, math.ceil(validation * different), random_state=random_state)
    sources = [
        SlideSource(
            image.name.removesuffix("_original.tif"), image, masks[image], patient,
            "test" if patient in testing else "validation" if patient in held_out else "train", power=40.0,
        )
        for image, patient in zip(paired, patients, strict=True)
    ]  # fmt: skip
    found = slide_patches(
        sources, name="BCa nuclei", size=size, random_state=random_state, source=BCA_SOURCE, **options
    )
    if len(images) > len(paired):
        found.excluded["without_mask"] = len(images) - len(paired)
    return found


def load_slides(
    images: Sequence[str | os.PathLike[str]],
    *,
    splits: Sequence[str],
    groups: Sequence[str] | None = None,
    power: float | None = None,
    mpp: float | None = None,
    name: str = "slides",
    **options: Any,
) -> Dataset:
    """Patches of any slides, each with its outlines beside it.

    Parameters
    ----------
    images : sequence of path-like
        Slides; ``a.svs`` has its outlines in ``a.geojson``, ``a.json`` or ``a.xml``.
    splits : sequence of {"train", "validation", "test"}
        One per slide.
    groups : sequence of str, optional
        Patient of each slide. Default: each slide is a group of its own.
    power, mpp : float, optional
        For slides that state neither; override those that do.
    name : str, default="slides"
    **options
        Further options of :func:`~scalelib.slides.patches.slide_patches`.

    Returns
    -------
    Dataset

    Raises
    ------
    DataError
        If a slide has no outlines, or lengths differ.

    Examples
    --------
    >>> load_slides(["a.svs"], splits=["train"])
    Traceback (most recent call last):
    ...
    scalelib.errors.DataError: load_slides: a.svs has no outlines beside it.
    ...
    """
    paths = [Path(image) for image in images]
    if len(splits) != len(paths) or (groups is not None and len(groups) != len(paths)):
        raise DataError(
            "load_slides: one split, and one group where given, per slide.\n"
            f"Received: {len(paths)} slides, {len(splits)} splits, {len(groups or paths)} groups."
        )
    sources = []
    for path, group, split in zip(paths, groups or [p.stem for p in paths], splits, strict=True):
        beside = [path.with_suffix(suffix) for suffix in (".geojson", ".json", ".xml")]
        outlines = next((place for place in beside if place.is_file()), None)
        if outlines is None:
            raise DataError(
                f"load_slides: {path.name} has no outlines beside it.\n"
                f"Looked for: {', '.join(place.name for place in beside)}."
            )
        sources.append(SlideSource(path.stem, path, outlines, group, split, power, mpp))
    return slide_patches(sources, name=name, **options)


def _pairs(folder: Path, images: str, annotations: str) -> list[tuple[Path, Path]]:
    if not (folder / images).is_dir():
        raise DataError(
            f"load_monuseg: no folder {folder.as_posix()}.\n"
            f"Looked for: {(folder / images).as_posix()}.\nSet SCALELIB_DATA or give root=."
        )
    pairs = [
        (image, folder / annotations / f"{image.stem}.xml")
        for image in sorted((folder / images).glob("*.tif"))
    ]
    missing = [outlines.name for _, outlines in pairs if not outlines.is_file()]
    if missing or not pairs:
        raise DataError(
            f"load_monuseg: every image in {folder.name} has an annotation.\n"
            f"Received: {len(pairs)} images; missing: {missing}."
        )
    return pairs


def _patient(image: Path) -> str:
    """TCGA barcode up to the participant, such as TCGA-A7-A13E."""
    return "-".join(image.stem.split("-")[:3])


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
