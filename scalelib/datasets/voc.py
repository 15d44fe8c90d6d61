"""PASCAL VOC in its official layout: one row per usable image, and a count of every one left out.

Knows annotation files and pictures; must not know networks or regressions.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from defusedxml.ElementTree import fromstring
from PIL import Image

from scalelib.datasets import Dataset
from scalelib.datasets.sources import data_root
from scalelib.errors import did_you_mean, refusing, require, track
from scalelib.results import read_bytes

SOURCE = (
    "PASCAL VOC{year}, M. Everingham et al., The PASCAL Visual Object Classes (VOC) Challenge, "
    "Int. J. Comput. Vis. 88 (2010) 303-338; images from Flickr, research use"
)
RULES = ("single", "largest")


def load_voc(
    *,
    root: str | os.PathLike[str] | None = None,
    year: int = 2007,
    split: str = "test",
    classes: Sequence[str] | None = None,
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
    classes : sequence of str, optional
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
    advice = f"Write [{classes!r}]"
    require(not isinstance(classes, str), "load_voc", "classes is a sequence of names", repr(classes), advice)
    folder = data_root(root) / "VOCdevkit" / f"VOC{year}"
    names = _listed(folder, year, split)
    excluded: Counter[str] = Counter()
    seen: set[str] = set()
    rows = []
    for name in track(dict.fromkeys(names), label=f"VOC{year} {split}", total=len(set(names)), unit="image"):
        found = _describe(folder, name, rule, classes, seen)
        if isinstance(found, str):
            excluded[found] += 1
        else:
            rows.append(found)
    for wanted in classes or ():
        advice = f"{did_you_mean(wanted, seen)} They name {', '.join(sorted(seen)) or 'none'}".strip()
        missing = f"no object of class {wanted!r} in these annotations"
        require(wanted in seen, "load_voc", missing, f"classes={list(classes or ())}", advice)
    counts = dict(sorted(excluded.items()))
    received = f"{len(names)} listed images, left out: {counts}"
    rule = f"no image of VOC{year} {split} is left"
    require(rows, "load_voc", rule, received, "Check classes, rule and the folder")
    table = pd.DataFrame(rows)
    sha256 = table.pop("sha256")
    images = [folder / "JPEGImages" / f"{name}.jpg" for name in table.image]
    source, digest = SOURCE.format(year=year), _digest(table, sha256)
    return Dataset(f"VOC{year} {split}", images, table, counts, source, digest)


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


class _Object(NamedTuple):
    name: str
    box: tuple[float, ...]  # xmin, ymin, xmax, ymax in pixels from 1, both ends included
    difficult: bool
    truncated: bool


def _annotated(path: Path) -> tuple[int, int, list[_Object]]:
    """Width and height of the image, and its objects."""
    root = fromstring(read_bytes(path))
    width, height = (int(float(root.findtext(f"size/{side}", ""))) for side in ("width", "height"))
    objects = []
    for item in root.findall("object"):  # the root's children alone: a person's parts have boxes too
        box = tuple(float(item.findtext(f"bndbox/{side}", "")) for side in ("xmin", "ymin", "xmax", "ymax"))
        flags = [item.findtext(flag, "0").strip() == "1" for flag in ("difficult", "truncated")]
        objects.append(_Object(item.findtext("name", "").strip(), box, *flags))
    return width, height, objects


def _area(one: _Object) -> float:
    x0, y0, x1, y1 = one.box
    return max(0.0, x1 - x0 + 1) * max(0.0, y1 - y0 + 1)


def _describe(
    folder: Path, name: str, rule: str, classes: Sequence[str] | None, seen: set[str]
) -> dict[str, Any] | str:
    """An image's row, or why it has none; adds every class that is named to `seen`."""
    try:
        width, height, objects = _annotated(folder / "Annotations" / f"{name}.xml")
    except Exception:  # of an encoding, an entity, a number or a name that there is not
        return "no usable annotation"
    seen.update(one.name for one in objects)
    if not objects or (rule == "single" and len(objects) > 1):
        return "several objects" if objects else "no object"
    chosen = max(objects, key=_area)
    x0, y0, x1, y1 = chosen.box
    if classes is not None and chosen.name not in classes:
        return "other class"
    if not (chosen.name and 1 <= x0 <= x1 <= width and 1 <= y0 <= y1 <= height):
        return "no usable annotation"
    try:
        content = (folder / "JPEGImages" / f"{name}.jpg").read_bytes()
        with Image.open(io.BytesIO(content)) as picture:
            size = picture.size
    except (OSError, Image.DecompressionBombError):
        size = None
    if size != (width, height):
        return "no usable image"
    wide, high = (x1 - x0 + 1) / width, (y1 - y0 + 1) / height
    named = {"image": name, "object_class": chosen.name}
    area = {"area_ratio": wide * high, "sqrt_area_ratio": math.sqrt(wide * high)}
    box = {"box_x0": x0 - 1, "box_y0": y0 - 1, "box_x1": x1, "box_y1": y1}
    sides = {"box_width_ratio": wide, "box_height_ratio": high, "width": width, "height": height}
    flags = {"n_objects": len(objects), "difficult": chosen.difficult, "truncated": chosen.truncated}
    return {**named, **area, **box, **sides, **flags, "sha256": hashlib.sha256(content).digest()}


def _digest(table: pd.DataFrame, images: Iterable[bytes]) -> str:
    whole = hashlib.sha256()
    for row, image in zip(table.itertuples(index=False), images, strict=True):
        whole.update(image)
        whole.update(repr([float(v).hex() if isinstance(v, float) else str(v) for v in row]).encode())
    return whole.hexdigest()
