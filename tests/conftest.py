"""Shared fixtures: where the real data are, and the reason for a skip where they are not; one thread a worker."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # a process a core: threads of several would fight for it
    os.environ |= dict.fromkeys(("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"), "1")


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real data, as the library itself finds it."""
    root = os.environ.get("SCALELIB_DATA")
    if not root:
        pytest.skip("real data wanted: set SCALELIB_DATA to a folder with VOCdevkit/, MoNuSeg/, weights/")
    return Path(root)


def _part(root: Path, name: str) -> Path:
    folder = root / name
    if not folder.exists():
        pytest.skip(f"real data wanted: SCALELIB_DATA has no {name}")
    return folder


@pytest.fixture(scope="session")
def voc_root(data_root: Path) -> Path:
    return _part(data_root, "VOCdevkit/VOC2007").parents[1]


@pytest.fixture(scope="session")
def more_slides(data_root: Path) -> None:
    _part(data_root, "MoNuSeg_more")


@pytest.fixture(scope="session")
def monuseg_root(data_root: Path) -> Path:
    return _part(data_root, "MoNuSeg")


@pytest.fixture(scope="session")
def slides_root(data_root: Path) -> Path:
    return _part(data_root, "slides")


@pytest.fixture(scope="session")
def imagenet_samples(data_root: Path) -> list[Path]:
    return sorted(_part(data_root, "imagenet_samples").glob("*.JPEG"))


@pytest.fixture(scope="session")
def weights_root(data_root: Path) -> Path:
    return _part(data_root, "weights")


@pytest.fixture(scope="session")
def keras_models() -> Path:
    home = os.environ.get("KERAS_HOME")
    if not home or not (Path(home) / "models").is_dir():
        pytest.skip("ImageNet weights wanted: set KERAS_HOME to a folder whose models/ holds them")
    return Path(home) / "models"
