"""The paper's profile of the datasets' notebook runs from end to end on a small folder in BCa's layout, made here."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "workflow"))

from run_notebook import run  # noqa: E402

from scalelib.results import read_results  # noqa: E402
from scalelib.slides.patches import MAGNIFICATIONS  # noqa: E402


@pytest.fixture
def bca(tmp_path: Path) -> Path:
    """Five patients with one image of discs each, large enough for a patch of 224 px at 5X."""
    folder = tmp_path / "nuclei"
    folder.mkdir()
    side = 1800
    y, x = np.mgrid[:90, :90] - 44.5
    for patient in range(5):
        disc = np.hypot(x, y) < 16 + 2 * patient
        inside = np.tile(disc, (side // 90, side // 90))
        pixels = np.where(inside[..., None], (90, 60, 140), (220, 150, 200)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{patient + 8863}_500_original.tif")
        Image.fromarray(inside.astype(np.uint8) * 255).save(folder / f"{patient + 8863}_500_mask.png")
    return tmp_path


@pytest.mark.slow
def test_datasets_notebook_of_the_paper_profile_runs_end_to_end(
    bca: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCALELIB_DATA", str(bca))
    override = {"natural": "scenes", "natural_options": {"n": 40}, "rules_per_slide": 1}
    run("01_datasets", "paper", override=override, label="smoke")
    results = read_results(ROOT / "results" / "smoke" / "01_datasets")
    table1 = results.table("table1").set_index(["split", "magnification"])
    assert table1.loc[("total", "total"), "paper"] == 69019
    assert (table1.loc["train"].ours > 0).all()
    means = results.table("class_means")
    assert means.magnification.tolist() == list(MAGNIFICATIONS)
    assert means.ours_um2.max() / means.ours_um2.min() < 1.25
    slides = results.table("slides")
    assert slides.group.nunique() == 5
    largest = slides.set_index("slide").mean_um2["8867_500"]
    assert largest == pytest.approx(np.pi * 24**2 / 16, rel=0.1)
    rules = results.table("rules").set_index(["rule", "magnification"])
    assert rules.ratio["mask", 20.0] == pytest.approx(1, rel=0.1)
