"""Labelled patches of slides at several magnifications.

The table is made from outlines or masks and one small overview per slide; pixels are read only when a
patch is asked for. Knows nothing of networks.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from scalelib.datasets.annotations import Outlines, read_outlines
from scalelib.datasets.base import Dataset
from scalelib.datasets.nuclei_masks import MIN_AREA, areas_in_mask, check_border_rule
from scalelib.datasets.patch_images import PatchImages
from scalelib.datasets.patch_labels import areas_in_patch, patch_positions, tissue_mask, tissue_share
from scalelib.datasets.slides import Slide, open_slide
from scalelib.datasets.splits import check_splits
from scalelib.errors import DataError
from scalelib.progress import track

MAGNIFICATIONS = (5.0, 8.0, 10.0, 15.0, 20.0, 30.0, 40.0)
"""The seven magnifications of the paper's Table 1."""


@dataclass(frozen=True)
class SlideSource:
    """One slide of a collection and what is known about it; nothing is open.

    Parameters
    ----------
    slide : str
        Name, unique in the collection.
    image : pathlib.Path or ndarray of shape (height, width, 3), uint8
        What :func:`~scalelib.datasets.slides.open_slide` takes.
    nuclei : pathlib.Path or Outlines
        Outlines (``.xml``, ``.json``, ``.geojson``, or read already), else the image of a mask with
        the slide's width and height.
    group : str
        Patient or slide: everything of a group lies in one split.
    split : {"train", "validation", "test"}
    power, mpp : float, optional
        Override what the file states.
    """

    slide: str
    image: Path | np.ndarray
    nuclei: Path | Outlines
    group: str
    split: str
    power: float | None = None
    mpp: float | None = None

    def open(self) -> Slide:
        """Open the slide at its own or the given magnification."""
        return open_slide(self.image, power=self.power, mpp=self.mpp)


def slide_patches(
    sources: Sequence[SlideSource],
    *,
    name: str,
    size: int = 224,
    magnifications: Iterable[float] = MAGNIFICATIONS,
    border: str = "clear",
    min_area: float = MIN_AREA,
    min_tissue: float = 0.25,
    layout: str = "grid",
    max_per_slide: int | None = None,
    random_state: int = 0,
    source: str = "",
) -> Dataset:
    """Cut slides into labelled patches, without reading the patches' pixels.

    Parameters
    ----------
    sources : sequence of SlideSource
    name : str
        Name of the dataset.
    size : int, default=224
        Side of a patch in pixels, at every magnification.
    magnifications : iterable of float, default=(5, 8, 10, 15, 20, 30, 40)
    border : {"clear", "clip"}, default="clear"
        Nuclei cut by the patch border are left out (the paper's rule, which favours small nuclei), or
        count with the part inside.
    min_area : float, default=3
        Smallest area of a nucleus, in pixels of the patch.
    min_tissue : float, default=0.25
        Patches with a smaller share of tissue on the overview are left out.
    layout : {"grid", "cover"}, default="grid"
        See :func:`~scalelib.datasets.patch_labels.patch_positions`. On small images ``"cover"`` gives
        low magnifications several patches where a grid gives one.
    max_per_slide : int, optional
        At most so many patches per slide and magnification, drawn at random.
    random_state : int, default=0
        Seed of that draw.
    source : str, default=""
        Citation and licence.

    Returns
    -------
    Dataset
        `images` is a :class:`~scalelib.datasets.patch_images.PatchImages`, which reads a patch when it
        is asked for. `table` has ``image, object_class, area_ratio, sqrt_area_ratio, slide, group,
        split, x, y, magnification, mpp, mpp_stated, n_nuclei, mean_area_px, mean_area_um2, tissue``;
        x and y are level-0 pixels, areas are in pixels of the patch and in µm², ratios are those of
        the mean nucleus to the patch. `excluded` counts patches without tissue (``background``) or
        nuclei (``no_nuclei``), slides without nuclei, and what the outlines left out.

    Raises
    ------
    DataError
        If no patch is left, a slide's name occurs twice, a group lies in two splits, a magnification
        is above a slide's own, or a patch is larger than a slide.

    Examples
    --------
    >>> from scalelib.datasets.annotations import outlines
    >>> pixels = np.full((128, 128, 3), (200, 120, 180), np.uint8)
    >>> nuclei = outlines([[(10, 10), (30, 10), (30, 30), (10, 30)]])
    >>> one = SlideSource("one", pixels, nuclei, "one", "train", power=40)
    >>> patches = slide_patches([one], name="one", size=32, magnifications=[10, 20])
    >>> patches.table[["magnification", "n_nuclei", "mean_area_px", "mean_area_um2"]].to_numpy().tolist()
    [[10.0, 1.0, 25.0, 25.0], [20.0, 1.0, 100.0, 25.0]]
    """
    check_border_rule(border)
    check_splits([s.slide for s in sources], [s.group for s in sources], [s.split for s in sources])
    rng = np.random.default_rng(random_state)
    counts: Counter[str] = Counter()
    rows: list[dict[str, object]] = []
    for one in track(sources, label="slides", unit="slide"):
        before = len(rows)
        with ExitStack() as files:
            slide = files.enter_context(one.open())
            areas, mpp = _nuclei(one, slide, files, counts, border=border, min_area=min_area)
            tissue = tissue_mask(slide.overview())
            for magnification in magnifications:
                found = list(_labelled(slide, tissue, areas, size, magnification, layout, min_tissue, counts))
                if max_per_slide is not None and len(found) > max_per_slide:
                    counts["beyond_max_per_slide"] += len(found) - max_per_slide
                    found = [found[i] for i in np.sort(rng.permutation(len(found))[:max_per_slide])]
                spacing = (mpp or slide.mpp) * slide.downsample(magnification)
                for patch in found:
                    area = patch["mean_area_px"]
                    rows.append(
                        {
                            "image": f"{one.slide}:{magnification:g}X:{patch['x']},{patch['y']}",
                            "object_class": "nucleus",
                            "area_ratio": area / size**2,
                            "sqrt_area_ratio": math.sqrt(area) / size,
                            "slide": one.slide,
                            "group": one.group,
                            "split": one.split,
                            "magnification": float(magnification),
                            "mpp": spacing,
                            "mpp_stated": mpp is not None or slide.mpp_stated,
                            **patch,
                            "mean_area_um2": area * spacing**2,
                        }
                    )
        counts["slides_without_nuclei"] += len(rows) == before
    if not rows:
        raise DataError(
            f"slide_patches: no patch of {name} has tissue and nuclei.\n"
            f"Received: {len(sources)} slides; left out: {dict(counts)}.\nLook at the annotations and min_tissue."
        )
    table = pd.DataFrame(rows).astype({"n_nuclei": int, "x": int, "y": int})
    digest = hashlib.sha256(table.to_csv(index=False, float_format="%.9g").encode()).hexdigest()
    images = PatchImages(
        {s.slide: s.open for s in sources}, table, size, nuclei={s.slide: s.nuclei for s in sources}
    )
    return Dataset(name, images, table, {k: int(v) for k, v in counts.items() if v}, source, digest)


Areas = Callable[[int, int, int, float], np.ndarray]


def _nuclei(
    one: SlideSource, slide: Slide, files: ExitStack, counts: Counter[str], *, border: str, min_area: float
) -> tuple[Areas, float | None]:
    """A function from x, y, size and magnification to areas, and the annotation's own mpp."""
    nuclei = one.nuclei
    if isinstance(nuclei, Path) and nuclei.suffix.lower() in {".xml", ".json", ".geojson"}:
        nuclei = read_outlines(nuclei)
    if isinstance(nuclei, Outlines):
        outlined = nuclei
        counts.update(outlined.excluded)
        low, high = outlined.boxes[:, :2], outlined.boxes[:, 2:]
        counts["outside_slide"] += int(((low >= slide.size) | (high <= 0)).any(axis=1).sum())

        def from_outlines(x: int, y: int, size: int, magnification: float) -> np.ndarray:
            factor = slide.downsample(magnification)
            return areas_in_patch(outlined, x, y, size, factor=factor, border=border, min_area=min_area)

        return from_outlines, one.mpp or outlined.mpp
    mask = files.enter_context(open_slide(nuclei, power=slide.power, mpp=slide.mpp))
    if mask.size != slide.size:
        raise DataError(
            f"slide {one.slide}: a mask has its slide's width and height.\n"
            f"Received: {mask.size[0]}×{mask.size[1]} for {slide.size[0]}×{slide.size[1]}."
        )

    def from_mask(x: int, y: int, size: int, magnification: float) -> np.ndarray:
        patch = mask.read(x, y, size, magnification=magnification)[..., 0]
        return areas_in_mask(patch, border=border, min_area=min_area)

    return from_mask, one.mpp


def _labelled(
    slide: Slide,
    tissue: np.ndarray,
    areas: Areas,
    size: int,
    magnification: float,
    layout: str,
    min_tissue: float,
    counts: Counter[str],
) -> Iterator[dict[str, float]]:
    extent = size * slide.downsample(magnification)
    for x, y in patch_positions(slide, size, magnification, layout=layout):
        share = tissue_share(tissue, slide.size, (x, y, x + extent, y + extent))
        if share < min_tissue:
            counts["background"] += 1
            continue
        found = areas(x, y, size, magnification)
        if len(found) == 0:
            counts["no_nuclei"] += 1
            continue
        yield {"x": x, "y": y, "n_nuclei": len(found), "mean_area_px": float(found.mean()), "tissue": share}
