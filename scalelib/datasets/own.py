"""Somebody's own images and measures: a folder, a CSV with one row per image, and a count of what does not fit.

Knows files and tables; must not know networks.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd

from scalelib.datasets import Dataset
from scalelib.errors import DataError, did_you_mean, refusing, require, track
from scalelib.images import read_image
from scalelib.results import digest_bytes, is_file, read_bytes

ENDINGS = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp", ".gif", ".ppm"})
MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "-"})


def read_measures(
    root: Path, file: Path, image_column: str, measure_column: str, group_column: str | None = None
) -> tuple[Dataset, pd.DataFrame]:
    """Pair the rows of a CSV (UTF-8, with a header; commas, semicolons or tabs) with the images of a folder.

    `image_column` holds paths relative to `root`, absolute paths, or file names without ending; `measure_column` one
    finite number each; `group_column` what images have in common. The dataset's ``table`` has ``image``, ``measure``
    and ``group``, and ``excluded`` counts every row that was left out under one reason; the second table has one
    row for each of them: ``line`` (the header is line 1), ``image``, ``reason``. Of several equal rows of one
    image the first is used; rows of one image that disagree are all left out. Every image is decoded once here,
    so that an unreadable one is counted instead of stopping the run later.
    """
    rows = read_rows(root, file, image_column, measure_column, group_column)
    files = sorted(path for path in root.rglob("*") if path.suffix.lower() in ENDINGS and path.is_file())
    by_stem = defaultdict(list)
    for path in files:
        by_stem[path.stem].append(path)
    rows[["path", "reason"]] = [_find(name, root, by_stem) for name in rows.image]
    rows[["measure", "unread"]] = [_number(text) for text in rows.text]
    rows["reason"] = rows.reason.where(rows.reason != "", rows.unread)
    rows.loc[(rows.reason == "") & (rows.group == ""), "reason"] = "no group"
    usable = rows[rows.reason == ""]
    place = usable.path.map(Path.resolve)
    rows.loc[place.index[place.duplicated()], "reason"] = "image listed twice"
    differ = usable.groupby(place)[["measure", "group"]].transform("nunique").max(axis=1) > 1
    rows.loc[differ.index[differ], "reason"] = "image listed with differing values"
    usable = rows[rows.reason == ""]
    with ThreadPoolExecutor(max_workers=2) as pool:
        looks = pool.map(_look, usable.path)
        digests = list(track(looks, label="looking at images", total=len(usable), unit="image"))
    rows["digest"] = pd.Series(digests, usable.index, dtype=str)
    rows.loc[rows.digest == "", "reason"] = "unreadable image"
    usable, left_out = rows[rows.reason == ""], rows[rows.reason != ""]
    named = {path.resolve() for path in rows.path if path}
    counts = left_out.reason.value_counts().to_dict()
    counts["image file that no row names"] = sum(path.resolve() not in named for path in files)
    counts = {reason: count for reason, count in sorted(counts.items()) if count}
    received = "; ".join(f"{count} × {reason}" for reason, count in counts.items())
    advice = f"The table names {list(rows.image[:3])}; the folder holds {[path.name for path in files[:3]]}"
    require(len(usable), "read_measures", "no row with a usable image and measure is left", received, advice)
    kept = usable[["image", "measure", *(["group"] if group_column else [])]].reset_index(drop=True)
    parts = [part.encode() for row in usable.itertuples() for part in (row.digest, str(row.measure))]
    dataset = Dataset(file.name, usable.path.tolist(), kept, counts, "own data", digest_bytes(parts))
    return dataset, left_out[["line", "image", "reason"]].reset_index(drop=True)


def read_rows(folder: Path, path: Path, image: str, measure: str, group: str | None) -> pd.DataFrame:
    """The wanted columns as text, to be judged and not guessed at; a folder or a column that is not there is refused."""
    advice = "Give the folder that holds them"
    require(folder.is_dir(), "read_measures", "there is no folder of images", folder, advice)
    columns = {"image": image, "text": measure, "group": group}
    advice = "A CSV in UTF-8 with a header and one row per image is wanted"
    with refusing("read_measures", "cannot read the measures", path, advice):
        text = read_bytes(path).decode("utf-8-sig")
        separator = max(",;\t", key=text.partition("\n")[0].count)
        how: dict[str, Any] = {"header": None, "dtype": str, "keep_default_na": False}
        # refuses more fields than names
        cells = pd.read_csv(io.StringIO(text), sep=separator, skip_blank_lines=False, **how).fillna("")
    header = list(cells.iloc[0])
    received = f"columns {', '.join(header)}"
    for name in filter(None, columns.values()):
        rule = f"{path.name} has {'several columns' if name in header else 'no column'} {name!r}"
        hint = did_you_mean(name, set(header) - {name})
        require(header.count(name) == 1, "read_measures", rule, received, hint)
    cells = cells.iloc[1:][(cells.iloc[1:] != "").any(axis=1)]
    require(len(cells), "read_measures", f"{path.name} has no row below its header", received)
    rows = {key: cells[header.index(name)].str.strip() if name else "all" for key, name in columns.items()}
    return pd.DataFrame({"line": cells.index + 1, **rows}).reset_index(drop=True)


def _find(name: str, root: Path, by_stem: dict[str, list[Path]]) -> tuple[Path | None, str]:
    if not name:
        return None, "no image named"
    if is_file(root / name):
        return root / name, ""
    alike = by_stem.get(name, [])
    if len(alike) == 1:
        return alike[0], ""
    return None, "several image files of that name" if alike else "no such image file"


def _number(text: str) -> tuple[float, str]:
    if text.lower() in MISSING:
        return math.nan, "no measure"
    try:
        value = float(text.replace("_", "no digit"))  # Python alone reads 1_0 as 10
    except ValueError:
        return math.nan, "measure is no number"
    return value, "" if math.isfinite(value) else "measure is not finite"


def _look(path: Path) -> str:
    """The digest of an image's file, or nothing if it cannot be read."""
    try:
        read_image(path)
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except (DataError, OSError):
        return ""
