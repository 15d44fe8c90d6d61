"""PASCAL VOC in its official layout: one row per usable image, and a count of every one left out.

Knows annotation files and pictures; must not know networks or regressions.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

import pandas as pd
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import parse

from scalelib.datasets import Dataset
from scalelib.datasets.sources import data_root
from scalelib.errors import DataError, did_you_mean, track
from scalelib.images import read_image

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
    (Everingham et al., VOC2007 development kit, §"Annotation"). Images are decoded once here, so
    that an unreadable one is counted instead of stopping a later run.

    Examples
    --------
    >>> load_voc(root="no such folder")
    Traceback (most recent call last):
    ...
    scalelib.errors.DataError: load_voc: PASCAL VOC2007 is not there.
    Received: no such folder/VOCdevkit/VOC2007.
    Run 'scalelib fetch voc2007-test', or set SCALELIB_DATA (or root) to the folder that holds VOCdevkit.
    """
    if rule not in RULES:
        raise DataError(f"load_voc: no rule {rule!r}.\nReceived: rule={rule!r}.\nKnown: {', '.join(RULES)}.")
    folder = data_root(root) / "VOCdevkit" / f"VOC{year}"
    names = _listed(folder, year, split)
    unique = list(dict.fromkeys(names))
    excluded = Counter({"listed twice": len(names) - len(unique)})
    seen: set[str] = set()
    found: list[_Annotation] = []
    for name in track(unique, label=f"VOC{year} annotations", unit="file"):
        try:
            found.append(_read_annotation(folder / "Annotations" / f"{name}.xml", rule, seen))
        except _LeftOut as reason:
            excluded[str(reason)] += 1
    wanted = _known_classes(classes, seen)
    excluded["other class"] = sum(one.object_class not in wanted for one in found)
    found = [one for one in found if one.object_class in wanted]
    with ThreadPoolExecutor(max_workers=2) as pool:
        looking = pool.map(lambda one: _look(one, folder / "JPEGImages"), found)
        looks = list(track(looking, label=f"VOC{year} images", total=len(found), unit="image"))
    excluded.update(look for look in looks if isinstance(look, str))
    rows = [(one, look) for one, look in zip(found, looks, strict=True) if isinstance(look, bytes)]
    counts = {reason: number for reason, number in sorted(excluded.items()) if number}
    if not rows:
        raise DataError(
            f"load_voc: no image of VOC{year} {split} is left.\n"
            f"Received: {len(names)} listed images, left out: {counts}.\n"
            "Check classes, rule and the folder."
        )
    table = pd.DataFrame([_measures(one) for one, _ in rows])
    return Dataset(
        name=f"VOC{year} {split}",
        images=[folder / "JPEGImages" / f"{one.image}.jpg" for one, _ in rows],
        table=table,
        excluded=counts,
        source=SOURCE.format(year=year),
        digest=_digest(table, [look for _, look in rows]),
    )


def _listed(folder: Path, year: int, split: str) -> list[str]:
    official = f"voc{year}-{'test' if split == 'test' else 'trainval'}"
    if not folder.is_dir():
        raise DataError(
            f"load_voc: PASCAL VOC{year} is not there.\n"
            f"Received: {folder.as_posix()}.\n"
            f"Run 'scalelib fetch {official}', or set SCALELIB_DATA (or root) to the folder that holds VOCdevkit."
        )
    splits = sorted(file.stem for file in (folder / "ImageSets" / "Main").glob("*.txt"))
    if split not in splits:
        hint = did_you_mean(split, splits)
        raise DataError(
            f"load_voc: VOC{year} has no split {split!r}.\n"
            f"Received: split={split!r}; {folder.as_posix()}/ImageSets/Main has {', '.join(splits) or 'none'}.\n"
            f"{hint + ' ' if hint else ''}'scalelib fetch {official}' brings the official ones."
        )
    lines = (folder / "ImageSets" / "Main" / f"{split}.txt").read_text().splitlines()
    return [line.split()[0] for line in lines if line.strip()]


class _LeftOut(Exception):
    """Why an image is not in the table."""


@dataclass(frozen=True)
class _Annotation:
    image: str
    object_class: str
    width: int
    height: int
    box: tuple[float, ...]  # xmin, ymin, xmax, ymax
    n_objects: int
    difficult: bool
    truncated: bool


def _read_annotation(path: Path, rule: str, seen: set[str]) -> _Annotation:
    """What the file says, geometry unchecked; adds every class named in it to `seen`."""
    try:
        root = parse(path).getroot()
        objects = root.findall("object")  # its children alone: a person's parts have boxes too
        classes = [_text(item, "name") for item in objects]
        seen.update(classes)
        if not objects:
            raise _LeftOut("no object")
        if len(objects) > 1 and rule == "single":
            raise _LeftOut("several objects")
        sides = ("xmin", "ymin", "xmax", "ymax")
        boxes = [tuple(_number(item, f"bndbox/{side}") for side in sides) for item in objects]
        areas = [max(0.0, x1 - x0 + 1) * max(0.0, y1 - y0 + 1) for x0, y0, x1, y1 in boxes]
        largest = areas.index(max(areas))
        flags = [objects[largest].findtext(flag, "0").strip() == "1" for flag in ("difficult", "truncated")]
        width, height = int(_number(root, "size/width")), int(_number(root, "size/height"))
        return _Annotation(path.stem, classes[largest], width, height, boxes[largest], len(objects), *flags)
    except FileNotFoundError:
        raise _LeftOut("no annotation") from None
    except DefusedXmlException:
        raise _LeftOut("entities in the annotation") from None
    except (ParseError, ValueError, OSError):
        raise _LeftOut("malformed annotation") from None


def _text(element: Element, tag: str) -> str:
    text = (element.findtext(tag) or "").strip()
    if not text:
        raise ValueError(f"no {tag}")
    return text


def _number(element: Element, tag: str) -> float:
    value = float(_text(element, tag))
    if not math.isfinite(value):
        raise ValueError(f"{tag} is {value}")
    return value


def _known_classes(classes: Sequence[str] | None, seen: set[str]) -> set[str]:
    if isinstance(classes, str):
        raise DataError(
            f"load_voc: classes is a sequence of names.\nReceived: {classes!r}.\nWrite [{classes!r}]."
        )
    for name in classes or ():
        if name not in seen:
            hint = did_you_mean(name, seen)
            raise DataError(
                f"load_voc: no object of class {name!r} in these annotations.\n"
                f"Received: classes={list(classes or ())}.\n"
                f"{hint + ' ' if hint else ''}They name {', '.join(sorted(seen)) or 'none'}."
            )
    return seen if classes is None else set(classes)


def _look(one: _Annotation, folder: Path) -> bytes | str:
    """SHA-256 of the image file, or why the image is left out."""
    x0, y0, x1, y1 = one.box
    if one.width <= 0 or one.height <= 0:
        return "zero size"
    if x1 < x0 or y1 < y0:
        return "inverted box"
    if min(x0, y0) < 1 or x1 > one.width or y1 > one.height:
        return "box outside the image"
    path = folder / f"{one.image}.jpg"
    if not path.is_file():
        return "missing image"
    try:
        height, width = read_image(path).shape[:2]
        if (width, height) != (one.width, one.height):
            return "size disagrees with the image"
        return hashlib.sha256(path.read_bytes()).digest()
    except (DataError, OSError):
        return "unreadable image"


def _measures(one: _Annotation) -> dict[str, str | int | float | bool]:
    x0, y0, x1, y1 = one.box
    wide, high = (x1 - x0 + 1) / one.width, (y1 - y0 + 1) / one.height
    return {
        "image": one.image,
        "object_class": one.object_class,
        "area_ratio": wide * high,
        "sqrt_area_ratio": math.sqrt(wide * high),
        "box_x0": x0 - 1,
        "box_y0": y0 - 1,
        "box_x1": x1,
        "box_y1": y1,
        "box_width_ratio": wide,
        "box_height_ratio": high,
        "width": one.width,
        "height": one.height,
        "n_objects": one.n_objects,
        "difficult": one.difficult,
        "truncated": one.truncated,
    }


def _digest(table: pd.DataFrame, images: list[bytes]) -> str:
    whole = hashlib.sha256()
    for row, image in zip(table.itertuples(index=False), images, strict=True):
        whole.update(image)
        whole.update(repr([float(v).hex() if isinstance(v, float) else str(v) for v in row]).encode())
    return whole.hexdigest()
