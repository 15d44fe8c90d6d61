"""Show what is installed, which data and weights are here, and how to get the rest.

exit status: 0, or 1 if something is broken. Missing data and weights break nothing.
"""

from __future__ import annotations

import argparse
import json
import platform
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from scalelib.commands.fetch import PROFILES, needs_of_profile
from scalelib.datasets.sources import SOURCES, data_root, is_whole, keras_home, read_records
from scalelib.errors import ScalelibError
from scalelib.results import digest_file


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
    else:
        for title, rows in report.items():
            print(title, *_aligned(rows or [{"what": "nothing"}]), "", sep="\n  ")
    return 1 if report["broken"] else 0


def _aligned(rows: list[dict[str, str]]) -> list[str]:
    lines = [list(rows[0]), *(list(row.values()) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]


def collect(root: Path) -> dict[str, list[dict[str, str]]]:
    """Everything that the command shows; ``broken`` says what has to be mended."""
    system = {"scalelib": metadata.version("scalelib"), "Python": platform.python_version()}
    system |= {"data root": str(root), "Keras's cache": str(keras_home())}
    packages, weights, missing = _packages(), _weights(root), []
    broken = [f"{row['name']} does not fit: pip install '{row['name']}{row['wanted']}'"
              for row in packages if row["state"] != "fits"]  # fmt: skip
    damaged = [row["file"] for row in weights if row["state"] == "damaged"]
    broken += [f"{file} is damaged: delete it and fetch it again" for file in damaged]
    try:
        for store in (root, keras_home()):
            read_records(store)
        from scalelib.graph import keras

        system["backend"] = f"{keras.backend.backend()} on {', '.join(keras.distribution.list_devices())}"
        for profile in sorted(PROFILES.glob("*.yaml")):  # which file a network needs is Keras's to say
            needs = [need for need in needs_of_profile(str(profile)) if not need.is_present(root)]
            missing += [{"profile": profile.stem, "how": need.how(root)} for need in needs]
    except ScalelibError as error:
        broken.append(" ".join(str(error).split("\n")))
    except Exception as error:  # whatever a backend's import or its drivers raise
        broken.append(f"the Keras backend does not start: {type(error).__name__}: {error}")
    here = [source for source in SOURCES.values() if source.is_present(root)]
    return {
        "system": [{"what": what, "is": value} for what, value in system.items()],
        "packages": packages,
        "data": [{"name": one.name, "place": str(one.home(root) / one.target)} for one in here],
        "weights": weights,
        "missing": missing,
        "broken": [{"what": sentence} for sentence in broken],
    }


def _packages() -> list[dict[str, str]]:
    rows = []
    for wanted in map(Requirement, metadata.requires("scalelib") or []):
        if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
            found = next((one.version for one in metadata.distributions(name=wanted.name)), "none")
            fits = found != "none" and wanted.specifier.contains(found, prereleases=True)
            row = {"name": wanted.name, "found": found, "wanted": str(wanted.specifier)}
            rows.append(row | {"state": "fits" if fits else "does not fit"})
    return rows


def _weights(root: Path) -> list[dict[str, str]]:
    """Weight files here, and whether they are whole; Keras checks the digests of its own when it loads them."""
    published = {source.home(root) / source.target: source for source in SOURCES.values() if source.checksum}
    rows, there = [], [*(root / "weights").glob("*"), *(keras_home() / "models").glob("*")]
    for path in sorted(filter(Path.is_file, there)):
        state = "readable" if is_whole(path) else "damaged"
        if path in published:
            state = "as published" if published[path].is_present(root) else "damaged"
        size = f"{path.stat().st_size / 1e6:.1f} MB"
        rows.append({"file": str(path), "size": size, "sha256": digest_file(path), "state": state})
    return rows
