"""Somebody's own network, images and measures: every row used or counted; quantify and prune whole and refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from scalelib import cli
from scalelib.datasets.own import read_measures
from scalelib.errors import DataError
from scalelib.graph import keras
from scalelib.results import read_results

COLUMNS = {"image_column": "file", "measure_column": "size"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    root = tmp_path / "photos"
    (root / "deep").mkdir(parents=True)
    for name in ("a.png", "b.png", "c.jpg", "deep/d.png", "deep/twin.png", "twin.png"):
        Image.fromarray(rng.integers(0, 256, (16, 20, 3), dtype=np.uint8)).save(root / name)
    (root / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    (root / "notes.txt").write_text("not an image")
    return root


def write(folder: Path, text: str, *, encoding: str = "utf-8") -> Path:
    path = folder.parent / "sizes.csv"
    path.write_text(text, encoding=encoding)
    return path


def test_rows_and_images_are_paired_in_the_order_of_the_table(folder):
    table = write(folder, "file,size,kind\nc.jpg,3,x\na.png,1.5,y\ndeep/d.png,-2e3,z\n")
    dataset, left_out = read_measures(folder, table, **COLUMNS)
    assert [path.name for path in dataset.images] == ["c.jpg", "a.png", "d.png"]
    assert dataset.table.measure.tolist() == [3.0, 1.5, -2000.0]
    assert dataset.table.image.tolist() == ["c.jpg", "a.png", "deep/d.png"]
    assert left_out.empty
    assert dataset.excluded == {"image file that no row names": 4}


def test_every_unusable_row_is_counted_under_one_reason(folder):
    table = write(
        folder,
        "file,size\na.png,1\n\n,2\nnope.png,3\ntwin,4\nb.png,\nb.png,NaN\nc.jpg,wide\nc.jpg,1_0\nc.jpg,inf\n"
        'broken.jpg,5\ndeep/d.png,"1,5"\n',
    )
    dataset, left_out = read_measures(folder, table, **COLUMNS)
    assert dataset.table.image.tolist() == ["a.png"]
    assert dataset.excluded == {
        "no image named": 1,
        "no such image file": 1,
        "several image files of that name": 1,
        "no measure": 2,
        "measure is no number": 3,
        "measure is not finite": 1,
        "unreadable image": 1,
        "image file that no row names": 2,
    }
    assert left_out[["line", "image"]].to_numpy().tolist()[:3] == [[4, ""], [5, "nope.png"], [6, "twin"]]
    assert len(left_out) == 10


def test_an_image_listed_twice_counts_once_if_the_rows_agree_and_not_at_all_if_not(folder):
    table = write(folder, "file,size\na.png,1\na,1.0\n./b.png,2\nb.png,3\nc.jpg,4\n")
    dataset, left_out = read_measures(folder, table, **COLUMNS)
    assert dataset.table.image.tolist() == ["a.png", "c.jpg"]
    assert dataset.excluded["image listed twice"] == 1
    assert dataset.excluded["image listed with differing values"] == 2
    assert left_out.line.tolist() == [3, 4, 5]


def test_a_row_without_its_group_is_left_out(folder):
    table = write(folder, "file,size,patient\na.png,1,p1\nb.png,2,\nc.jpg,3,p2\n")
    dataset, _ = read_measures(folder, table, **COLUMNS, group_column="patient")
    assert dataset.table.group.tolist() == ["p1", "p2"]
    assert dataset.excluded["no group"] == 1


def test_names_without_ending_and_absolute_paths_are_found(folder):
    table = write(folder, f"file,size\na,1\n{folder / 'b.png'},2\n")
    dataset, _ = read_measures(folder, table, **COLUMNS)
    assert [path.name for path in dataset.images] == ["a.png", "b.png"]


@pytest.mark.parametrize("separator", [";", "\t"])
def test_other_separators_and_a_byte_order_mark_are_understood(folder, separator):
    text = separator.join(["file", "size"]) + "\n" + separator.join(["a.png", "1"]) + "\n"
    dataset, _ = read_measures(folder, write(folder, text, encoding="utf-8-sig"), **COLUMNS)
    assert dataset.table.measure.tolist() == [1.0]


def test_the_digest_follows_pixels_and_measures_alone(folder):
    table = write(folder, "file,size\na.png,1\n")
    first = read_measures(folder, table, **COLUMNS)[0].digest
    table.write_text("size,file\n1.0,a\n")
    assert read_measures(folder, table, **COLUMNS)[0].digest == first
    table.write_text("file,size\na.png,2\n")
    assert read_measures(folder, table, **COLUMNS)[0].digest != first
    table.write_text("file,size\nb.png,1\n")
    assert read_measures(folder, table, **COLUMNS)[0].digest != first


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"file,sise\na.png,1\n", r"(?s)no column 'size'.*Did you mean 'sise'"),
        (b"file,size,size\na.png,1,2\n", "several columns 'size'"),
        (b"file,size\na.png,1\nb.png,1,5\n", "Expected 2 fields in line 3, saw 3"),
        (b"file,size\na.png,1,5\n", "Expected 2 fields in line 2, saw 3"),
        (b"", "No columns to parse"),
        (b"file,size\n", "no row below its header"),
        (
            b"file,size\nx.png,1\n",
            r"(?s)1 × no such image file.*names \['x.png'\]; the folder holds \['a.png'",
        ),
        (b"\xff\xfe\x00\x01", "CSV in UTF-8"),
        (None, "cannot read the measures"),
    ],
)
def test_a_table_that_does_not_fit_is_refused_with_both_sides(folder, content, message):
    path = folder / "sizes.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_measures(folder, path, **COLUMNS)


# quantify and prune

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
