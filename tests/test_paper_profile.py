"""The paper's profile of the layer-wise and the transfer notebook runs from end to end on small folders made here."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "workflow"))

from run_notebook import run  # noqa: E402

from scalebook.profiles import load_profile  # noqa: E402
from scalelib.errors import ResultsError  # noqa: E402
from scalelib.results import Run, read_results  # noqa: E402
from studies.plan import SEEDS  # noqa: E402

ANNOTATION = """<annotation><filename>{name}.jpg</filename><size><width>96</width><height>96</height><depth>3</depth></size>
<object><name>disc</name><truncated>0</truncated><difficult>0</difficult>
<bndbox><xmin>{low}</xmin><ymin>{low}</ymin><xmax>{high}</xmax><ymax>{high}</ymax></bndbox></object></annotation>"""


@pytest.fixture
def discs(tmp_path: Path) -> Path:
    """Sixteen pictures of one disc each, in VOC's layout."""
    folder = tmp_path / "VOCdevkit" / "VOC2012"
    for part in ("ImageSets/Main", "Annotations", "JPEGImages"):
        (folder / part).mkdir(parents=True)
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:96, :96] - 47.5
    names = []
    for i, radius in enumerate(np.linspace(8, 44, 16)):
        name = f"2012_{i:06d}"
        inside = np.hypot(x, y) < radius
        picture = np.where(inside[..., None], 190, 60) + rng.normal(0, 12, (96, 96, 3))
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(folder / "JPEGImages" / f"{name}.jpg")
        low, high = round(48 - radius) + 1, round(48 + radius)
        (folder / "Annotations" / f"{name}.xml").write_text(ANNOTATION.format(name=name, low=low, high=high))
        names.append(name)
    (folder / "ImageSets/Main/trainval.txt").write_text("\n".join(names) + "\n")
    return tmp_path


@pytest.mark.exhaustive
def test_layer_wise_notebook_of_the_paper_profile_runs_end_to_end(
    discs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCALELIB_DATA", str(discs))
    settings = load_profile(ROOT / "profiles" / "paper.yaml").notebooks["04_layerwise_r2"]
    networks = [
        {**spec, "weights": "random", "weights_label": "imagenet"} for spec in settings["networks"][:2]
    ]
    networks += [{**spec, "seeds": [1, 2]} for spec in settings["networks"][2:]]
    override = {
        "networks": networks,
        "dataset_options": {**settings["dataset_options"], "classes": ["disc"]},
        "example": {**settings["example"], "weights": "random"},
        "by_itself": "disc",
        "repeats": 2,
        "permutations": 3,
        "cache": "",
    }
    run("04_layerwise_r2", "paper", override=override, label="smoke")
    results = read_results(ROOT / "results" / "smoke" / "04_layerwise_r2")
    table = results.table("layerwise_r2")
    assert set(table.network) == {"InceptionV3", "ResNet50"}
    assert table[table.network == "InceptionV3"].tap.nunique() == 13
    assert table[table.network == "ResNet50"].tap.nunique() == 18
    assert (table.n_train + table.n_test == 16).all()
    assert table.r2_test.notna().all()
    assert results.card.data["datasets"][0]["counts"] == {"disc": 16}


def test_unknown_parameter_stops_before_anything_runs() -> None:
    with pytest.raises(ResultsError, match="repeat"):
        run("04_layerwise_r2", "control", override={"repeat": 2}, label="smoke")


def test_other_parameters_need_a_name_of_their_own() -> None:
    with pytest.raises(ResultsError, match="a --label of their own"):
        run("04_layerwise_r2", "control", override={"repeats": 2})


NAME, LABEL = "05_histopathology_transfer", "smoketransfer"


@pytest.fixture
def bca(tmp_path: Path) -> Path:
    """Thirteen patients with one image of discs each, of a size that is the patient's own."""
    folder = tmp_path / "nuclei"
    folder.mkdir()
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:60, :60] - 29.5
    for patient in range(13):
        inside = np.tile(np.hypot(x, y) < 12 + patient, (11, 11))
        pixels = np.where(inside[..., None], (90, 60, 140), (220, 150, 200)) + rng.normal(
            0, 6, (*inside.shape, 3)
        )
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(
            folder / f"{patient + 8863}_500_original.tif"
        )
        Image.fromarray(inside.astype(np.uint8) * 255).save(folder / f"{patient + 8863}_500_mask.png")
    return tmp_path


@pytest.fixture
def chosen() -> None:
    """A layer-wise result that names the tap of ResNet50 that the paper cut at."""
    for place in (ROOT / "results" / LABEL, ROOT / "book" / "executed" / LABEL):
        shutil.rmtree(place, ignore_errors=True)
    answers = pd.DataFrame({"network": ["ResNet50"], "weights": ["imagenet"], "peak_tap": ["add15"]})
    curves = pd.DataFrame(
        {
            "network": "ResNet50", "weights": "imagenet", "curve": "ImageNet weights",
            "tap": [f"add{i}" for i in range(1, 17)], "mean": np.linspace(0, 0.7, 16),
        }
    )  # fmt: skip
    folder = ROOT / "results" / LABEL / "04_layerwise_r2"
    Run("04_layerwise_r2", profile=LABEL, parameters={}, folder=folder).write(
        {"answers": answers, "curves": curves}
    )


@pytest.mark.exhaustive
def test_transfer_notebook_of_the_paper_profile_runs_end_to_end(
    bca: Path, chosen: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random weights and one short epoch: what is checked is that every row is there, on whole patients, scored and tested."""
    monkeypatch.setenv("SCALELIB_DATA", str(bca))
    settings = load_profile(ROOT / "profiles" / "paper.yaml").notebooks[NAME]
    [spec] = [spec for spec in settings["networks"] if spec["name"] == "ResNet50"]
    override = {
        "networks": [{**spec, "weights": "random", "transfer_seeds": 1}],
        "dataset_options": {"size": 64, "max_per_slide": 1},
        "schedule": {**settings["schedule"], "epochs": 1},
        "natural": "scenes",
        "natural_options": {"n": 20, "size": 128},
        "cache": str(tmp_path / "cache"),
    }
    page = run(NAME, "paper", override=override, label=LABEL)
    results = read_results(ROOT / "results" / LABEL / NAME)
    scores = results.table("transfer")
    assert set(scores.row) == {"pretrained", "scratch", "pruned"}
    assert dict(scores[["row", "tap"]].drop_duplicates().to_numpy()) == {
        "pretrained": "add16", "scratch": "add16", "pruned": "add15",
    }  # fmt: skip
    assert set(scores.seed) == {SEEDS[0]}
    assert set(scores.target) == {"area", "log2_magnification"}
    assert scores[scores.slide != "all"].slide.nunique() == 3
    compared = results.table("compared")
    assert compared[["score", "second"]].drop_duplicates().shape == (4, 2)
    assert (compared.n_slides == 3).all()
    assert (compared.p >= 0.25).all()
    assert not results.table("runs").converged.any()
    assert set(results.table("readout").tap) >= {"mean", "add1", "add16"}
    assert results.table("unseen").image.tolist() == ["photograph"]
    assert results.card.data["datasets"][0]["name"] == "BCa nuclei"
    text = json.dumps(json.loads(page.read_text(encoding="utf-8")))
    assert "No better than predicting the mean area" in text
