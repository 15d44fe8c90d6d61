"""``scalelib doctor``: what is installed and here, what is missing, and the command that gets it."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Iterator
from importlib import metadata, resources
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from scalebook.profiles import CHECKOUT
from scalelib.commands.fetch import KNOWN_DIGESTS, needs_of_profile
from scalelib.datasets.sources import (
    DIGESTS,
    SOURCES,
    data_root,
    has_digest,
    keras_home,
)
from scalelib.errors import ScalelibError
from scalelib.results import digest_file

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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments."""
    parser.epilog = "exit status: 0, or 1 if something is broken. Missing data and weights break nothing."
    parser.add_argument("--data-root", metavar="FOLDER", help="where data sets and weights/ lie")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")


def run(options: argparse.Namespace) -> int:
    """Look, and print what was found."""
    report = collect(data_root(options.data_root))
    print(json.dumps(report, indent=1) if options.json else "\n".join(_lines(report)))
    return 1 if report["broken"] else 0


def collect(root: Path) -> dict[str, Any]:
    """Everything that the command shows.

    Parameters
    ----------
    root : pathlib.Path
        The data root.

    Returns
    -------
    dict
        ``python``, ``packages``, ``backend``, ``data_root``, ``data``, ``keras_home``, ``weights``,
        ``missing`` (by profile: name and how to get it) and ``broken`` (sentences).
    """
    report: dict[str, Any] = {
        "python": {"version": platform.python_version(), "executable": sys.executable},
        "packages": packages(),
        "backend": _backend(),
        "data_root": {"path": str(root), "exists": root.is_dir()},
        "data": [],
        "keras_home": {"path": str(keras_home()), "exists": keras_home().is_dir()},
        "weights": [],
        "missing": {},
    }
    broken = [
        f"{package['name']} {package['wanted']} is required; found {package['found'] or 'none'}: "
        f"pip install '{package['name']}{package['wanted']}'"
        for package in report["packages"]
        if not package["ok"]
    ]
    if "error" in report["backend"]:
        broken.append(f"the Keras backend does not start: {report['backend']['error']}")
    for part, look in (("data", data_sets), ("weights", weight_files)):
        try:
            report[part] = look(root)
        except (OSError, ValueError) as error:
            broken.append(f"{part} cannot be read: {error}")
    broken += [
        f"{file['path']} is not what its publisher keeps: delete it and fetch it again"
        for file in report["weights"]
        if file["state"] == "wrong digest"
    ]
    # which file a network needs is Keras's to say
    found = [] if "error" in report["backend"] else sorted((CHECKOUT / "profiles").glob("*.yaml"))
    for profile in found:
        try:
            needs = needs_of_profile(profile, root=root)
            report["missing"][profile.stem] = [
                {"name": need.name, "how": need.hint} for need in needs if need.path is None
            ]
        except ScalelibError as error:
            broken.append(f"profile {profile.stem}: {error}")
    return report | {"broken": broken}


def _backend() -> dict[str, Any]:
    try:
        from scalelib.graph import keras

        gpus = [str(device) for device in keras.distribution.list_devices("gpu")]
        one = keras.ops.convert_to_numpy(keras.ops.sum(keras.ops.ones((2, 2))))
    except Exception as error:  # whatever a backend's import or its drivers raise
        return {"error": f"{type(error).__name__}: {error}"}
    return {"name": keras.backend.backend(), "gpus": gpus, "works": float(one) == 4.0}


def _lines(report: dict[str, Any]) -> Iterator[str]:
    yield f"Python    {report['python']['version']}"
    found = (f"{p['name']} {p['found'] or 'missing'}{'' if p['ok'] else ' (!)'}" for p in report["packages"])
    yield "Packages  " + _wrapped(found)
    backend = report["backend"]
    gpus = ", ".join(backend.get("gpus", [])) or "no GPU"
    yield f"Backend   {backend['name']}, {gpus}" if "name" in backend else "Backend   (!) does not start"
    yield f"\nData in {report['data_root']['path']}{_absent(report['data_root'])}"
    for entry in report["data"]:
        counts = ", ".join(f"{count:,} {what}" for what, count in entry["counts"].items())
        yield f"  {entry['name']:18} {counts}"
    yield f"\nWeights in its weights/ and in {report['keras_home']['path']}{_absent(report['keras_home'])}"
    for file in report["weights"]:
        mark = "(!) wrong digest" if file["state"] == "wrong digest" else file["state"]
        size = f"{file['megabytes']:8.1f} MB"
        yield f"  {Path(file['path']).name:45} {size}  sha256 {file['sha256'][:12]}  {mark}"
    if not report["weights"]:
        yield "  none"
    yield "\nProfiles" + ("" if report["missing"] else ": none looked at")
    for profile, missing in report["missing"].items():
        yield f"  {profile:10} " + ("everything is here" if not missing else f"{len(missing)} missing:")
        yield from (f"    {need['name']}: {need['how']}" for need in missing)
        if missing:
            yield f"    all that can be fetched: scalelib fetch --profile {profile}"
    yield ""
    yield from (f"(!) {sentence}" for sentence in report["broken"])
    if not report["broken"]:
        yield "Nothing is broken."


def _absent(folder: dict[str, Any]) -> str:
    return "" if folder["exists"] else " (not there yet)"


def _wrapped(words: Iterator[str], width: int = 88) -> str:
    lines = [""]
    for word in words:
        if len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] += f"{', ' if lines[-1] else ''}{word}"
    return ",\n          ".join(lines)
