"""``scalelib doctor``: what is installed and here, what is missing, and the command that gets it.

Only something broken is an error: a package that is missing or too old, a backend that does not
start, a weight file that is not what its publisher keeps. Missing data are no error.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scalelib import inventory
from scalelib.errors import ScalelibError
from scalelib.locations import data_root, keras_home
from scalelib.needs import needs_of_profile
from scalelib.profiles import CHECKOUT


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
        "packages": inventory.packages(),
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
    for part, look in (("data", inventory.data_sets), ("weights", inventory.weight_files)):
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
        from scalelib.backend import keras

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
