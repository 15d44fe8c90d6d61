"""Somebody's own network, images and measures: quantify and prune from the command line, whole and refused."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from scalelib import cli
from scalelib.graph import keras
from scalelib.results import read_results

N_IMAGES = 60


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny model, grey squares of known sides on noise, and a table of the sides."""
    root = tmp_path_factory.mktemp("own")
    rng = np.random.default_rng(0)
    (root / "photos").mkdir()
    rows = []
    for i in range(N_IMAGES):
        side = int(rng.integers(4, 30))
        pixels = rng.integers(0, 40, (32, 40, 3), dtype=np.uint8)
        pixels[1 : 1 + side, 2 : 2 + side] = 220
        Image.fromarray(pixels).save(root / "photos" / f"{i:03d}.png")
        rows.append({"file": f"{i:03d}.png", "side": side, "patient": f"p{i % 12}"})
    table = pd.DataFrame(rows)
    table.loc[N_IMAGES] = {"file": "nowhere.png", "side": 3, "patient": "p0"}
    table.to_csv(root / "sides.csv", index=False)
    keras.utils.set_random_seed(0)
    image = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(8, 3, strides=2, activation="relu", name="first")(image)
    x = keras.layers.Conv2D(12, 3, strides=2, activation="relu", name="second")(x)
    x = keras.layers.GlobalAveragePooling2D(name="global_average_pooling2d")(x)
    keras.Model(image, keras.layers.Dense(3, activation="softmax", name="names")(x), name="own").save(
        root / "my.keras"
    )
    return root


@pytest.fixture
def there(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The made folder as the working folder; results go to a folder of the test's own."""
    monkeypatch.chdir(made)
    return tmp_path


def quantify(out: Path, *more: str) -> int:
    return cli.main(
        ["quantify", "--network", "my.keras", "--images", "photos", "--measures", "sides.csv",
         "--image-column", "file", "--measure-column", "side", "--repeats", "3", "--out", str(out), *more]
    )  # fmt: skip


def test_quantify_writes_table_summary_figure_and_card(there, capsys):
    assert quantify(there / "my") == 0
    results = read_results(there / "my")  # every file has the digest that its card says
    table = results.table("layerwise_r2")
    assert {"first", "second"} <= set(table.tap)
    assert set(table.condition) == {"true", "shuffled"}
    assert (table.n_train + table.n_test == N_IMAGES).all()
    summary = results.table("summary").set_index(["condition", "tap"])
    assert summary.loc[("true", "first"), "mean"] > 0.8, "mean brightness grows with the side"
    assert summary.loc[("shuffled", "first"), "mean"] < 0.2
    assert results.table("excluded").to_dict("records") == [
        {"line": N_IMAGES + 2, "image": "nowhere.png", "reason": "no such image file"}
    ]
    assert Image.open(there / "my" / "layerwise_r2.png").size[0] > 600
    card = results.card.data
    assert card["datasets"][0]["excluded"] == {"no such image file": 1}
    assert card["networks"][0]["weights"] == "my.keras"
    assert card["parameters"]["measure_column"] == "side"
    shown = capsys.readouterr().out
    assert "60 used; left out:\n      1 × no such image file" in shown
    assert "Best tap to prune at: " in shown


def test_automatic_names_of_a_saved_model_do_not_clash_with_those_of_this_process(there):
    keras.utils.clear_session()  # the next automatic name is again global_average_pooling2d, as in a new process
    assert quantify(there / "my", "--repeats", "1") == 0


def test_groups_stay_on_one_side(there):
    assert quantify(there / "my", "--groups", "patient", "--taps", "first") == 0
    table = read_results(there / "my").table("layerwise_r2")
    assert set(table.tap) == {"first"}
    assert (table.n_test % (N_IMAGES // 12) == 0).all(), "whole patients of five images"


def test_preprocessing_reaches_the_network_and_the_card(there):
    for name in ("none", "0-1"):
        assert quantify(there / name, "--preprocess", name, "--taps", "first", "--estimator", "ols") == 0
    tables = [read_results(there / name).table("layerwise_r2") for name in ("none", "0-1")]
    assert not np.allclose(tables[0].r2_test, tables[1].r2_test, atol=1e-6)
    assert read_results(there / "0-1").card.data["parameters"]["preprocess"] == "0-1"


def test_prune_cuts_at_the_best_tap_of_a_run_and_the_file_loads_plainly(there, capsys):
    assert quantify(there / "my") == 0
    capsys.readouterr()
    assert (
        cli.main(
            ["prune", "--from", str(there / "my"), "--outputs", "2", "--out", str(there / "small.keras")]
        )
        == 0
    )
    shown = capsys.readouterr().out
    small = keras.saving.load_model(there / "small.keras", safe_mode=True)
    whole = keras.saving.load_model("my.keras")
    assert small.output_shape == (None, 2)
    kernel = keras.ops.convert_to_numpy(whole.get_layer("first").kernel)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(small.get_layer("first").kernel), kernel)
    assert f"{whole.count_params():,} → {small.count_params():,} parameters" in shown
    assert "RGB images, 0 to 255, as they are" in shown


def test_prune_at_a_named_tap(there):
    out = there / "small.keras"
    assert cli.main(["prune", "--network", "my.keras", "--at", "first", "--out", str(out)]) == 0
    names = [layer.name for layer in keras.saving.load_model(out).layers]
    assert "first" in names
    assert "second" not in names


def test_prune_refuses_results_of_other_weights(there, capsys):
    assert quantify(there / "my", "--taps", "first") == 0
    arguments = ["prune", "--from", str(there / "my"), "--weights", "random", "--out", str(there / "s.keras")]
    assert cli.main(arguments) == 2
    assert "has other weights than when" in capsys.readouterr().err


def test_prune_keeps_a_file_that_exists(there, capsys):
    out = there / "small.keras"
    out.write_bytes(b"precious")
    arguments = ["prune", "--network", "my.keras", "--at", "first", "--out", str(out)]
    assert cli.main(arguments) == 2
    assert "add --overwrite" in capsys.readouterr().err
    assert out.read_bytes() == b"precious"
    assert cli.main([*arguments, "--overwrite"]) == 0
    assert keras.saving.load_model(out).count_params()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--network": "your.keras"}, "your.keras"),
        ({"--network": "sides.csv"}, "no network 'sides.csv'"),
        ({"--images": "pictures"}, "there is no folder of images"),
        ({"--measures": "sizes.csv"}, "cannot read the measures"),
        ({"--measure-column": "sid"}, "Did you mean 'side'"),
        ({"--measure-column": "patient"}, "60 × measure is no number"),
        ({"--groups": "patients"}, "Did you mean 'patient'"),
        ({"--taps": "frist"}, "'frist'"),
        ({"--weights": "none.weights.h5"}, "no weight file 'none.weights.h5'"),
    ],
    ids=lambda value: " ".join(*value.items()) if isinstance(value, dict) else "",
)
def test_quantify_refuses_with_a_message_and_status_2(there, capsys, changes, message):
    assert quantify(there / "my", *[word for pair in changes.items() for word in pair]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not (there / "my" / "card.json").exists()


def test_a_damaged_model_file_is_refused(there, capsys):
    bad = there / "bad.keras"
    bad.write_bytes(Path("my.keras").read_bytes()[:2000])
    assert quantify(there / "my", "--network", str(bad)) == 2
    assert "damaged" in capsys.readouterr().err


def test_a_results_folder_that_cannot_be_written_is_refused_before_anything_is_computed(there, capsys):
    (there / "file").write_text("")
    assert quantify(there / "file" / "my", "--network", "not even looked at") == 2
    assert "cannot write to the results folder" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device that is always full")
def test_a_full_disk_leaves_the_earlier_results_whole(there, capsys):
    assert quantify(there / "my", "--taps", "first") == 0
    earlier = read_results(there / "my").card.data
    (there / "my" / f".summary.csv.new.{os.getpid()}.partial").symlink_to("/dev/full")
    assert quantify(there / "my", "--taps", "second") == 2
    assert "No space left on device" in capsys.readouterr().err
    assert read_results(there / "my").card.data == earlier
    assert set(read_results(there / "my").table("layerwise_r2").tap) == {"first"}


def test_a_disk_that_fills_up_leaves_no_half_model(there, capsys, monkeypatch):
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (2048, limits[1])
    )  # like a full disk, but for this process alone
    try:
        code = cli.main(["prune", "--network", "my.keras", "--at", "second", "--out", str(there / "s.keras")])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert code == 2
    assert "cannot write the model" in capsys.readouterr().err
    assert list(there.iterdir()) == []


def test_a_second_run_gives_the_same_numbers(there):
    tables: list[Any] = []
    for name in ("one", "two"):
        assert quantify(there / name) == 0
        tables.append((there / name / "layerwise_r2.csv").read_bytes())
    assert tables[0] == tables[1]
    cards = [json.loads((there / name / "card.json").read_text()) for name in ("one", "two")]
    assert cards[0]["datasets"] == cards[1]["datasets"]
    assert cards[0]["networks"] == cards[1]["networks"]
