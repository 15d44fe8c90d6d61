"""Show what is installed, which data and weights are here, and how to get the rest.

exit status: 0, or 1 if something is broken. Missing data and weights break nothing.
"""

from __future__ import annotations

import argparse
import json
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import h5py
import pandas as pd
from packaging.requirements import Requirement

from scalelib.commands.fetch import PROFILES, needs_of_profile
from scalelib.datasets.sources import SOURCES, data_root, keras_home
from scalelib.errors import ScalelibError
from scalelib.results import digest_file

# What is counted in the folders of the data root.
COUNTED = {
    "VOCdevkit/*": {"pictures": "JPEGImages/*.jpg", "annotations": "Annotations/*.xml"},
    "nuclei": {"images": "*_original.tif", "masks": "*_mask.png"},
    "TNBC_nuclei": {"images": "Slide_*/*.png", "masks": "GT_*/*.png"},
    "MoNuSeg": {"images": "*.tif*", "annotations": "*.xml"},
    "slides": {"files": "*.*"},
    "imagenet_samples": {"images": "*.JPEG"},
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments."""
    parser.description = __doc__
    parser.add_argument("--data-root", metavar="FOLDER", help="where data sets and weights/ lie")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")


def run(options: argparse.Namespace) -> int:
    """Look, and print what was found."""
    report = collect(data_root(options.data_root))
    if options.json:
        print(json.dumps(report, indent=1))
        return 1 if report["broken"] else 0
    for title, rows in report.items():
        print(f"{title}\n{pd.DataFrame(rows or ['nothing']).to_string(index=False, header=False)}\n")
    return 1 if report["broken"] else 0


def collect(root: Path) -> dict[str, list[Any]]:
    """Everything that the command shows; ``broken`` says in sentences what has to be mended."""
    packages, weights, missing, broken = _packages(), _weights(root), [], []
    system = {"Python": platform.python_version(), "data root": root, "Keras's cache": keras_home()}
    try:
        from scalelib.graph import keras

        devices = ", ".join(map(str, keras.distribution.list_devices()))
        system["backend"] = f"{keras.backend.backend()} on {devices}"
        profiles = sorted(PROFILES.glob("*.yaml"))
    except Exception as error:  # whatever a backend's import or its drivers raise
        broken.append(f"the Keras backend does not start: {type(error).__name__}: {error}")
        profiles = []  # which file a network needs is Keras's to say
    for profile in profiles:
        try:
            needs = [source for source in needs_of_profile(str(profile)) if not source.is_present(root)]
        except ScalelibError as error:
            broken.append(str(error))
        else:
            missing += [{"profile": profile.stem, "name": need.name, "how": need.how(root)} for need in needs]
    broken += [
        f"package {row['name']}: found {row['found']}, wanted {row['wanted']}: pip install '{row['name']}{row['wanted']}'"
        for row in packages
        if not row["ok"]
    ]
    broken += [
        f"{row['file']} is damaged: delete it and fetch it again"
        for row in weights
        if row["state"] == "damaged"
    ]
    return {
        "system": [{"what": name, "is": str(value)} for name, value in system.items()],
        "packages": packages,
        "data": _data(root),
        "weights": weights,
        "missing": missing,
        "broken": broken,
    }


def _packages() -> list[dict[str, Any]]:
    rows = []
    for wanted in map(Requirement, metadata.requires("scalelib") or []):
        if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
            found = next((one.version for one in metadata.distributions(name=wanted.name)), "none")
            ok = found != "none" and wanted.specifier.contains(found, prereleases=True)
            rows.append({"name": wanted.name, "wanted": str(wanted.specifier), "found": found, "ok": ok})
    return rows


def _data(root: Path) -> list[dict[str, Any]]:
    rows = []
    for place, patterns in COUNTED.items():
        for folder in sorted(path for path in root.glob(place) if path.is_dir()):
            counts = [
                f"{sum(1 for _ in folder.rglob(pattern)):,} {what}" for what, pattern in patterns.items()
            ]
            rows.append({"folder": str(folder.relative_to(root)), "holds": ", ".join(counts)})
    return rows


def _weights(root: Path) -> list[dict[str, Any]]:
    """Weight files here, and whether they are as published; Keras checks its own when it loads them."""
    published = {source.home(root) / source.target: source for source in SOURCES.values() if source.checksum}
    rows = []
    for path in sorted([*(root / "weights").glob("*"), *(keras_home() / "models").glob("*")]):
        state = "readable"
        if path in published:
            state = "as published" if published[path].is_present(root) else "damaged"
        elif path.suffix == ".h5":
            state = state if h5py.is_hdf5(path) else "damaged"
        rows.append(
            {
                "file": str(path),
                "MB": round(path.stat().st_size / 1e6, 1),
                "sha256": digest_file(path),
                "state": state,
            }
        )
    return rows
