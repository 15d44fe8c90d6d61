"""PASCAL VOC and CUB-200-2011 in their official layouts: one row per usable image, and a count of every one left out.

Knows annotation files and pictures; must not know networks or regressions.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from defusedxml.ElementTree import fromstring
from PIL import Image

from scalelib.datasets import Dataset
from scalelib.datasets.sources import SOURCES, PathLike, data_root
from scalelib.errors import did_you_mean, refusing, require, track
from scalelib.results import read_bytes

SOURCE = (
    "PASCAL VOC{year}, M. Everingham et al., The PASCAL Visual Object Classes (VOC) Challenge, "
    "Int. J. Comput. Vis. 88 (2010) 303-338; images from Flickr, research use"
)
# The lists of CUB-200-2011, and what stands in them behind the id.
_CUB_LISTS = {
    "images.txt": ["path"], "image_class_labels.txt": ["label"],
    "bounding_boxes.txt": ["x", "y", "width", "height"], "classes.txt": ["name"],
}  # fmt: skip
Row = dict[str, Any] | str  # the measures of an image, or why there are none
RULES = ("single", "largest")


def load_voc(
    *,
    root: PathLike | None = None,
    year: int = 2007,
    split: str = "test",
    classes: Sequence[str] | str | None = None,
    rule: str = "single",
) -> Dataset:
    """Photographs with the size of their object's box relative to the image.

    Parameters
    ----------
    root : path-like, optional
        Folder that holds ``VOCdevkit/VOC<year>`` with ``ImageSets/Main``, ``Annotations`` and
        ``JPEGImages``. Default: :func:`scalelib.datasets.sources.data_root`.
    year : int, default=2007
        2007 or 2012, or whatever ``VOC<year>`` folder is there.
    split : str, default="test"
        A file of ``ImageSets/Main`` without its ending.
    classes : str or sequence of str, optional
        Object classes to keep. Default: all.
    rule : {"single", "largest"}, default="single"
        ``single`` keeps images whose annotation has exactly one object of any class, difficult
        ones counted; ``largest`` keeps every image and describes its largest box.

    Returns
    -------
    Dataset
        ``images`` are paths. ``table`` has, besides ``image``, ``object_class``, ``area_ratio``
        and ``sqrt_area_ratio``: ``box_width_ratio`` and ``box_height_ratio`` (box side over image
        side), all four in (0, 1]; ``box_x0``, ``box_y0``, ``box_x1``, ``box_y1`` in pixels from 0, the
        last two just outside the box; ``width`` and ``height`` of the image in pixels; ``n_objects``;
        ``difficult`` and ``truncated`` (False where the annotation is silent). ``excluded``
        counts each listed image that was left out under exactly one reason. ``digest`` covers
        the bytes of the image files and the table.

    Raises
    ------
    DataError
        If the folder or the split is missing, a class or rule is unknown, or no image is left.

    Notes
    -----
    VOC boxes count pixels from 1 and include both ends, so a box is xmax − xmin + 1 wide
    (Everingham et al., VOC2007 development kit, §"Annotation"). Of an image its header is read, not its pixels.

    Examples
    --------
    >>> load_voc(root="no such folder")
    Traceback (most recent call last):
    ...
    scalelib.errors.DataError: load_voc: PASCAL VOC2007 is not there.
    Received: no such folder/VOCdevkit/VOC2007.
    Run 'scalelib fetch voc2007-test', or set SCALELIB_DATA (or root) to the folder that holds VOCdevkit.
    """
    require(rule in RULES, "load_voc", f"no rule {rule!r}", f"rule={rule!r}", f"Known: {', '.join(RULES)}")
    classes = [classes] if isinstance(classes, str) else classes
    folder = data_root(root) / "VOCdevkit" / f"VOC{year}"
    names = dict.fromkeys(_listed(folder, year, split))
    seen: set[str] = set()
    shown = track(names, label=f"VOC{year} {split}", total=len(names), unit="image")
    found = [_describe(folder, name, rule, classes, seen) for name in shown]
    for wanted in classes or ():
        advice = f"{did_you_mean(wanted, seen)} They name {', '.join(sorted(seen)) or 'none'}".strip()
        missing = f"no object of class {wanted!r} in these annotations"
        require(wanted in seen, "load_voc", missing, f"classes={list(classes or ())}", advice)
    return _dataset(f"VOC{year} {split}", SOURCE.format(year=year), found, "load_voc")


def load_cub(*, root: PathLike | None = None, classes: Sequence[str] | str | None = None) -> Dataset:
    """Photographs of birds, one to an image, with the size of the bird's box relative to the image.

    Parameters
    ----------
    root : path-like, optional
        Folder that holds ``CUB_200_2011`` with ``images``, ``images.txt``, ``bounding_boxes.txt``,
        ``image_class_labels.txt`` and ``classes.txt``. Default: :func:`scalelib.datasets.sources.data_root`.
    classes : str or sequence of str, optional
        Species, or what the names of several end in: then they are one class, as ``"albatross"``
        stands for Black-footed, Laysan and Sooty Albatross. Default: every species by itself.

    Returns
    -------
    Dataset
        With the columns of :func:`load_voc`. Boxes count pixels from 0; one that passes its image's
        edge by up to a pixel ends there, one that leaves it further is left out.

    Raises
    ------
    DataError
        If the folder or one of its lists is missing, a class is unknown, or no image is left.
    """
    folder = data_root(root) / "CUB_200_2011"
    advice = f"Set SCALELIB_DATA (or root) to the folder that holds it, or {SOURCES['cub'].how(root)}"
    with refusing("load_cub", "CUB-200-2011 is not there in its official layout", folder, advice):
        images, labels, boxes, names = (
            pd.read_csv(io.BytesIO(read_bytes(folder / file)), sep=" ", index_col=0, names=["id", *columns])
            for file, columns in _CUB_LISTS.items()
        )
        listed = images.join([labels, boxes.apply(pd.to_numeric, errors="coerce")], how="outer")
        species = names["name"].str.partition(".")[2]
    called: dict[Any, Any] = dict(species) if classes is None else dict.fromkeys(species.index)
    for wanted in [classes] if isinstance(classes, str) else classes or ():
        own = ("_" + species.str.lower()).str.endswith(f"_{wanted}".lower())
        rule, advice = f"no species {wanted!r}", did_you_mean(wanted, species)
        require(own.any(), "load_cub", rule, f"classes={classes!r}", advice)
        called |= dict.fromkeys(species.index[own], wanted)
    found: list[Row] = []
    flags = {"n_objects": 1, "difficult": False, "truncated": False}
    for row in track(listed.itertuples(), label="CUB-200-2011", total=len(listed), unit="image"):
        box = (row.x, row.y, row.x + row.width, row.y + row.height)
        if pd.isna([row.path, *box]).any() or row.label not in called:
            found.append("no usable annotation")
        elif called[row.label] is None:
            found.append("other class")
        else:
            found.append(_row(folder / "images" / row.path, called[row.label], box, flags))
    return _dataset("CUB-200-2011", f"CUB-200-2011, {SOURCES['cub'].licence}", found, "load_cub")


def _dataset(name: str, source: str, found: Sequence[Row], operation: str) -> Dataset:
    """Rows as a dataset; the reasons of those that have none are counted."""
    rows = [row for row in found if not isinstance(row, str)]
    counts = dict(sorted(Counter(reason for reason in found if isinstance(reason, str)).items()))
    received = f"{len(found)} listed images, left out: {counts}"
    require(rows, operation, f"no image of {name} is left", received, "Check classes, rule and the folder")
    table = pd.DataFrame(rows)
    images, contents, digest = table.pop("path").tolist(), table.pop("sha256"), hashlib.sha256()
    for row, content in zip(table.itertuples(index=False), contents, strict=True):
        values = [float(value).hex() if isinstance(value, float) else str(value) for value in row]
        digest.update(content + repr(values).encode())
    return Dataset(name, images, table, counts, source, digest.hexdigest())


def _listed(folder: Path, year: int, split: str) -> list[str]:
    official = f"scalelib fetch voc{year}-{'test' if split == 'test' else 'trainval'}"
    advice = f"Run '{official}', or set SCALELIB_DATA (or root) to the folder that holds VOCdevkit"
    require(folder.is_dir(), "load_voc", f"PASCAL VOC{year} is not there", folder.as_posix(), advice)
    lists = {file.stem: file for file in sorted((folder / "ImageSets" / "Main").glob("*.txt"))}
    received = f"split={split!r}; {folder.as_posix()}/ImageSets/Main has {', '.join(lists) or 'none'}"
    advice = f"{did_you_mean(split, lists)} '{official}' brings the official ones".strip()
    require(split in lists, "load_voc", f"VOC{year} has no split {split!r}", received, advice)
    with refusing("load_voc", f"cannot read the split {split!r}", lists[split], advice):
        lines = read_bytes(lists[split]).decode("utf-8").splitlines()
    return [line.split()[0] for line in lines if line.strip()]


def _annotated(path: Path) -> tuple[tuple[int, ...], list[tuple[Any, ...]]]:
    """Size of the image, and its objects: class, box in pixels from 1 with both ends included, flags, area."""
    root = fromstring(read_bytes(path))
    size = tuple(int(float(root.findtext(f"size/{side}", ""))) for side in ("width", "height"))
    objects = []
    for item in root.findall("object"):  # the root's children alone: a person's parts have boxes too
        box = tuple(float(item.findtext(f"bndbox/{side}", "")) for side in ("xmin", "ymin", "xmax", "ymax"))
        flags = {flag: item.findtext(flag, "0").strip() == "1" for flag in ("difficult", "truncated")}
        area = max(0.0, box[2] - box[0] + 1) * max(0.0, box[3] - box[1] + 1)
        objects.append((item.findtext("name", "").strip(), box, flags, area))
    return size, objects


def _describe(folder: Path, name: str, rule: str, classes: Sequence[str] | None, seen: set[str]) -> Row:
    """An image's row, or why it has none; adds every class that is named to `seen`."""
    try:
        size, objects = _annotated(folder / "Annotations" / f"{name}.xml")
    except Exception:  # of an encoding, an entity, a number or a name that there is not
        return "no usable annotation"
    seen.update(object_class for object_class, *_ in objects)
    if not objects or (rule == "single" and len(objects) > 1):
        return "several objects" if objects else "no object"
    object_class, (x0, y0, x1, y1), flags, _ = max(objects, key=lambda one: one[-1])
    if classes is not None and object_class not in classes:
        return "other class"
    if not (object_class and 1 <= x0 <= x1 <= size[0] and 1 <= y0 <= y1 <= size[1]):
        return "no usable annotation"
    path, counted = folder / "JPEGImages" / f"{name}.jpg", {"n_objects": len(objects), **flags}
    row = _row(path, object_class, (x0 - 1, y0 - 1, x1, y1), counted)
    return row if isinstance(row, str) or (row["width"], row["height"]) == size else "no usable image"


def _row(path: Path, object_class: str, box: tuple[float, ...], flags: dict[str, Any]) -> Row:
    """The measures of an image with a box in pixels from 0, or why there are none."""
    try:
        content = path.read_bytes()
        with Image.open(io.BytesIO(content)) as picture:
            width, height = picture.size
    except (OSError, Image.DecompressionBombError):
        return "no usable image"
    x0, y0, x1, y1 = box
    if not (0 <= x0 < x1 <= width + 1 and 0 <= y0 < y1 <= height + 1):
        return "box outside its image"
    x1, y1 = min(x1, width), min(y1, height)
    wide, high = (x1 - x0) / width, (y1 - y0) / height
    named = {"path": path, "image": path.stem, "object_class": object_class}
    area = {"area_ratio": wide * high, "sqrt_area_ratio": math.sqrt(wide * high)}
    corners = {"box_x0": x0, "box_y0": y0, "box_x1": x1, "box_y1": y1}
    sides = {"box_width_ratio": wide, "box_height_ratio": high, "width": width, "height": height}
    return {**named, **area, **corners, **sides, **flags, "sha256": hashlib.sha256(content).digest()}
