"""The paper's profile runs from end to end, with random weights on sixteen images of our own."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "workflow"))

from run_notebook import run  # noqa: E402

from scalebook.profiles import load_profile  # noqa: E402
from scalelib.errors import ResultsError  # noqa: E402
from scalelib.results import read_results  # noqa: E402

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


@pytest.mark.slow
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
    with pytest.raises(ResultsError, match="a name of their own"):
        run("04_layerwise_r2", "control", override={"repeats": 2})
