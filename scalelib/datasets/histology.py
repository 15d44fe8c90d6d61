"""Histopathology collections: which slide, which annotation, which split. Patches are cut by patches.py."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scalelib.datasets.base import Dataset
from scalelib.datasets.patches import SlideSource, slide_patches
from scalelib.datasets.rendered_slide import render_slide
from scalelib.datasets.splits import draw_groups
from scalelib.errors import DataError
from scalelib.locations import data_root

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
        Further options of :func:`~scalelib.datasets.patches.slide_patches`.

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
        Further options of :func:`~scalelib.datasets.patches.slide_patches`.

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
        Further options of :func:`~scalelib.datasets.patches.slide_patches`.

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
        Further options of :func:`~scalelib.datasets.patches.slide_patches`.

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
