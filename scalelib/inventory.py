"""What lies on this machine: packages, data sets with their counts, weight files with their digests.

Reads and counts; downloads and changes nothing.
"""

from __future__ import annotations

import json
from importlib import metadata, resources
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from scalelib.datasets.download import DIGESTS
from scalelib.datasets.sources import SOURCES, has_digest
from scalelib.locations import keras_home
from scalelib.needs import KNOWN_DIGESTS
from scalelib.provenance import digest_file

VOC_SPLITS = ("train", "val", "trainval", "test")
COUNTED = {
    "BCa nuclei": ("nuclei", {"images": "*_original.tif", "masks": "*_mask.png"}),
    "TNBC nuclei": ("TNBC_nuclei", {"images": "Slide_*/*.png", "masks": "GT_*/*.png"}),
    "MoNuSeg": ("MoNuSeg", {"images": "*.tif*", "annotations": "*.xml"}),
    "slides": ("slides", {"files": "*.*"}),
    "ImageNet samples": ("imagenet_samples", {"images": "*.JPEG"}),
}
WEIGHT_ENDINGS = (".h5", ".keras", ".net", ".json")


def packages() -> list[dict[str, Any]]:
    """Every package that scalelib requires: wanted and found version, and whether they fit.

    Returns
    -------
    list of dict
        ``name``, ``wanted`` (such as ``">=2.1"``), ``found`` (None if it is not installed), ``ok``.

    Examples
    --------
    >>> all(package["ok"] for package in packages())
    True
    """
    rows = []
    for text in metadata.requires("scalelib") or []:
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            found = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            found = None
        ok = found is not None and requirement.specifier.contains(found, prereleases=True)
        rows.append(
            {"name": requirement.name, "wanted": str(requirement.specifier), "found": found, "ok": ok}
        )
    return rows


def data_sets(root: Path) -> list[dict[str, Any]]:
    """The data sets below a data root, with counts.

    Parameters
    ----------
    root : pathlib.Path
        The data root, which need not exist.

    Returns
    -------
    list of dict
        ``name``, ``folder`` and ``counts``. For a split of VOC: images listed in it, and how many of
        them have a picture and an annotation.
    """
    found = [_voc_split(folder, split) for folder in sorted((root / "VOCdevkit").glob("VOC*")) for split in
             VOC_SPLITS if (folder / "ImageSets" / "Main" / f"{split}.txt").is_file()]  # fmt: skip
    for name, (place, patterns) in COUNTED.items():
        folder = root / place
        if folder.is_dir():
            counts = {
                what: sum(path.is_file() for path in folder.rglob(pattern))
                for what, pattern in patterns.items()
            }
            found.append({"name": name, "folder": str(folder), "counts": counts})
    return found


def _voc_split(folder: Path, split: str) -> dict[str, Any]:
    listed = (folder / "ImageSets" / "Main" / f"{split}.txt").read_text(encoding="utf-8").split()
    pictures = {path.stem for path in (folder / "JPEGImages").glob("*.jpg")}
    annotations = {path.stem for path in (folder / "Annotations").glob("*.xml")}
    counts = {
        "listed": len(listed),
        "pictures": len(pictures.intersection(listed)),
        "annotations": len(annotations.intersection(listed)),
    }
    return {"name": f"{folder.name} {split}", "folder": str(folder), "counts": counts}


def weight_files(root: Path) -> list[dict[str, Any]]:
    """Weight files in the data root's ``weights/`` and in Keras's ``models/``, with their digests.

    Parameters
    ----------
    root : pathlib.Path
        The data root.

    Returns
    -------
    list of dict
        ``path``, ``megabytes``, ``sha256`` and ``state``: ``"as published"``, ``"as first fetched"``,
        ``"no digest known"`` or ``"wrong digest"``.

    Raises
    ------
    OSError
        If a file cannot be read.
    """
    published, recorded = _published(), _recorded(root) | _recorded(keras_home())
    rows = []
    for folder in (root / "weights", keras_home() / "models"):
        for path in sorted(folder.glob("*")):
            if path.suffix in WEIGHT_ENDINGS and not path.name.startswith("."):
                rows.append(_weight_file(path, published.get(path.name), recorded.get(path.stem)))
    return rows


def _weight_file(path: Path, published: str | None, recorded: str | None) -> dict[str, Any]:
    sha256 = digest_file(path)
    state = "no digest known"
    if published:
        state = "as published" if has_digest(path, published) else "wrong digest"
    elif recorded:
        state = "as first fetched" if sha256 == recorded else "wrong digest"
    return {
        "path": str(path),
        "megabytes": round(path.stat().st_size / 1e6, 1),
        "sha256": sha256,
        "state": state,
    }


def _published() -> dict[str, str]:
    """Digest by file name, of every weight file whose publisher states one."""
    text = resources.files("scalelib").joinpath("assets", "imagenet_files.json").read_text("utf-8")
    digests = {
        file: digest for entry in json.loads(text).values() for file, _, digest in entry.values() if digest
    }
    own = {Path(s.target).name: s.checksum for s in SOURCES.values() if s.checksum and not s.unpack}
    return digests | own | KNOWN_DIGESTS


def _recorded(store: Path) -> dict[str, str]:
    try:
        return {name: entry["sha256"] for name, entry in json.loads((store / DIGESTS).read_text()).items()}
    except FileNotFoundError:
        return {}
