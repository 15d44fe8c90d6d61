"""Somebody's own images and measures: a folder, a CSV with one row per image, and a count of what does not fit.

Knows files and tables; knows no network.
"""

from __future__ import annotations

import csv
import hashlib
import math
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd

from scalelib.datasets import Dataset
from scalelib.errors import DataError, did_you_mean, track
from scalelib.images import read_image
from scalelib.results import digest_bytes

ENDINGS = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp", ".gif", ".ppm"})
MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "-"})


def read_measures(
    folder: str | os.PathLike[str],
    table: str | os.PathLike[str],
    *,
    image_column: str,
    measure_column: str,
    group_column: str | None = None,
) -> tuple[Dataset, pd.DataFrame]:
    """Pair the rows of a CSV with the images of a folder.

    Parameters
    ----------
    folder : path-like
        Where the images lie, perhaps in subfolders.
    table : path-like
        A CSV in UTF-8 with a header, separated by commas, semicolons or tabs.
    image_column : str
        Holds each image's path, relative to `folder` or absolute, or its file name without ending.
    measure_column : str
        Holds one finite number per image, with a decimal point.
    group_column : str, optional
        Holds what images have in common (patient, slide, source image).

    Returns
    -------
    dataset : Dataset
        ``images`` are paths; ``table`` has ``image``, ``measure`` and, if asked for, ``group``;
        ``excluded`` counts every row that was left out under one reason, and the image files that
        no row names.
    left_out : pandas.DataFrame
        One line per such row: ``line`` in the file (the header is line 1), ``image``, ``reason``.

    Raises
    ------
    DataError
        If the folder or the CSV cannot be read, a column is missing, or no row is left.

    Notes
    -----
    Of several equal rows of one image the first is used; rows of one image that disagree are all
    left out. Every image is decoded once here, so that an unreadable one is counted instead of
    stopping the run later.

    Examples
    --------
    >>> read_measures("no_such_folder", "m.csv", image_column="file", measure_column="size")
    Traceback (most recent call last):
    ...
    scalelib.errors.DataError: read_measures: there is no folder of images...
    """
    root = Path(folder)
    if not root.is_dir():
        raise DataError(
            f"read_measures: there is no folder of images.\nReceived: {root}.\nGive the folder that holds them."
        )
    rows = _read_rows(Path(table), [image_column, measure_column, *([group_column] if group_column else [])])
    files = sorted(path for path in root.rglob("*") if path.suffix.lower() in ENDINGS and path.is_file())
    found = _pair(rows, root, files, image_column, measure_column, group_column)
    found = _drop_repeated(found)
    usable = [entry for entry in found if not entry["reason"]]
    with ThreadPoolExecutor(max_workers=2) as pool:
        looks = pool.map(_look, (entry["path"] for entry in usable))
        digests = list(track(looks, label="looking at images", total=len(usable), unit="image"))
    for entry, digest in zip(usable, digests, strict=True):
        entry["digest"] = digest
        if not digest:
            entry["reason"] = "unreadable image"
    usable = [entry for entry in usable if not entry["reason"]]
    excluded = Counter(entry["reason"] for entry in found if entry["reason"])
    named = {entry["path"].resolve() for entry in found if entry["path"]}
    excluded["image file that no row names"] = sum(path.resolve() not in named for path in files)
    counts = {reason: count for reason, count in sorted(excluded.items()) if count}
    if not usable:
        raise DataError(_nothing_left(found, files, counts))
    columns = ["image", "measure", *(["group"] if group_column else [])]
    kept = pd.DataFrame([{column: entry[column] for column in columns} for entry in usable])
    parts = [part.encode() for entry in usable for part in (entry["digest"], str(entry["measure"]))]
    dataset = Dataset(
        Path(table).name, [e["path"] for e in usable], kept, counts, "own data", digest_bytes(parts)
    )
    left_out = [
        {key: entry[key] for key in ("line", "image", "reason")} for entry in found if entry["reason"]
    ]
    return dataset, pd.DataFrame(left_out, columns=["line", "image", "reason"])


def _read_rows(path: Path, columns: list[str]) -> list[dict[str, str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        separator = max(",;\t", key=text.partition("\n")[0].count)
        reader = csv.DictReader(text.splitlines(), delimiter=separator, strict=True)
        rows = [{key: (value or "") for key, value in row.items() if key is not None} for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"read_measures: cannot read the measures.\nReceived: {path}; {error}.\n"
            "A CSV in UTF-8 with a header and one row per image is wanted."
        ) from error
    header = [name for name in reader.fieldnames or [] if name]
    for column in columns:
        if column not in header:
            raise DataError(
                f"read_measures: {path.name} has no column {column!r}.\n"
                f"Received: columns {', '.join(header) or 'none'}.\n{did_you_mean(column, header)}".rstrip()
            )
    return rows


def _pair(
    rows: list[dict[str, str]],
    root: Path,
    files: list[Path],
    image_column: str,
    measure_column: str,
    group_column: str | None,
) -> list[dict]:
    by_stem: dict[str, list[Path]] = {}
    for path in files:
        by_stem.setdefault(path.stem, []).append(path)
    found = []
    for line, row in enumerate(rows, start=2):
        name, text = row[image_column].strip(), row[measure_column].strip()
        file, reason = _find(name, root, by_stem)
        measure, unusable = _number(text)
        group = row[group_column].strip() if group_column else ""
        if group_column and not group:
            unusable = unusable or "no group"
        entry = {"line": line, "image": name, "path": file, "measure": measure, "group": group}
        found.append(entry | {"reason": reason or unusable, "digest": ""})
    return found


def _find(name: str, root: Path, by_stem: dict[str, list[Path]]) -> tuple[Path | None, str]:
    if not name:
        return None, "no image named"
    path = root / name
    if path.is_file():
        return path, ""
    alike = by_stem.get(name, [])
    if len(alike) == 1:
        return alike[0], ""
    return None, "several image files of that name" if alike else "no such image file"


def _number(text: str) -> tuple[float, str]:
    if text.lower() in MISSING:
        return math.nan, "no measure"
    try:
        value = float(text)
    except ValueError:
        return math.nan, "measure is no number"
    return (value, "") if math.isfinite(value) else (value, "measure is not finite")


def _drop_repeated(found: list[dict]) -> list[dict]:
    by_path: dict[Path, list[dict]] = {}
    for entry in found:
        if not entry["reason"]:
            by_path.setdefault(entry["path"].resolve(), []).append(entry)
    for entries in by_path.values():
        agree = len({(entry["measure"], entry["group"]) for entry in entries}) == 1
        for entry in entries[1:] if agree else entries:
            entry["reason"] = "image listed twice" if agree else "image listed with differing values"
    return found


def _look(path: Path) -> str:
    """The digest of an image's file, or nothing if it cannot be read."""
    try:
        read_image(path)
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except (DataError, OSError):
        return ""


def _nothing_left(found: list[dict], files: list[Path], counts: dict[str, int]) -> str:
    named = ", ".join(repr(entry["image"]) for entry in found[:3]) or "no row"
    there = ", ".join(repr(path.name) for path in files[:3]) or "no image"
    left_out = "; ".join(f"{count} × {reason}" for reason, count in counts.items()) or "the table is empty"
    return (
        f"read_measures: no row with a usable image and measure is left.\nReceived: {left_out}.\n"
        f"The table names {named}; the folder holds {there}."
    )
