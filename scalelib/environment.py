"""Facts about the code, the packages and the machine, for a provenance card. No paths, no names of people."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = (
    "scalelib", "keras", "tensorflow", "tensorflow-cpu", "torch", "jax", "numpy", "scipy", "pandas",
    "scikit-learn", "pillow", "h5py", "matplotlib", "openslide-python", "papermill",
)  # fmt: skip
CODE = ("scalelib", "profiles", "paper", "workflow", "constraints.txt")


def describe_code() -> dict[str, Any]:
    """Commit of the working tree, and whether code differs from it.

    Returns
    -------
    dict
        ``commit`` (str, or None outside version control) and ``dirty`` (bool): whether a file that
        can change a number (library, profiles, paper, workflow, pins) differs from the commit. A
        notebook's code cells have a digest of their own in the card.

    Examples
    --------
    >>> sorted(describe_code())
    ['commit', 'dirty']
    """
    here = Path(__file__).parent.parent
    commit = _git(here, "rev-parse", "HEAD")
    if commit is None or not (here / "constraints.txt").is_file():
        return {"commit": None, "dirty": False}
    changed = _git(here, "status", "--porcelain", "--untracked-files=no", "--", *CODE)
    return {"commit": commit, "dirty": bool(changed)}


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def describe_environment() -> dict[str, Any]:
    """Versions, backend and hardware of this process.

    Returns
    -------
    dict
        ``python``, ``platform``, ``packages``, ``backend``, ``cpu``, ``cores``, ``memory_gib``, ``gpus``.

    Examples
    --------
    >>> describe_environment()["python"] == platform.python_version()
    True
    """
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "backend": _backend(),
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "memory_gib": _memory_gib(),
        "gpus": _gpus(),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _backend() -> str:
    keras = sys.modules.get("keras")
    return keras.backend.backend() if keras else "not loaded"


def _gpus() -> list[str]:
    # A process that never loaded Keras used no GPU; loading it here would only cost time.
    keras = sys.modules.get("keras")
    return [str(device) for device in keras.distribution.list_devices("gpu")] if keras else []


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError, AttributeError):
        return None
