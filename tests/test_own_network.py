"""Somebody's own network, images and measures: every row used or counted; quantify and prune whole and refused."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from scalelib import cli
from scalelib.datasets.own import read_measures
from scalelib.errors import DataError
from scalelib.graph import keras
from scalelib.results import read_results

BOOK = Path(__file__).parents[1] / "book"
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


@pytest.mark.parametrize(("separator", "encoding"), [(",", "utf-8"), (";", "utf-8-sig"), ("\t", "utf-8")])
def test_rows_and_images_are_paired_in_the_order_of_the_table(folder, separator, encoding):
    rows = ["file,size,kind", "c.jpg,3,x", f"{folder / 'a.png'},1.5,y", "d,-2e3,z"]
    table = write(folder, "\n".join(rows).replace(",", separator), encoding=encoding)
    dataset, left_out = read_measures(folder, table, **COLUMNS)
    assert [path.name for path in dataset.images] == ["c.jpg", "a.png", "d.png"]
    assert dataset.table.measure.tolist() == [3.0, 1.5, -2000.0]
    assert dataset.table.image.tolist() == ["c.jpg", str(folder / "a.png"), "d"]
    assert left_out.empty
    assert dataset.excluded == {"image file that no row names": 4}
    other = write(
        folder, "size,file\n3.0,c\n1.5,a\n-2000,d\n"
    )  # the digest follows pixels and measures alone
    assert read_measures(folder, other, **COLUMNS)[0].digest == dataset.digest
    other.write_text("file,size\nc,3\na,1.5\nb,-2000\n")
    assert read_measures(folder, other, **COLUMNS)[0].digest != dataset.digest


def test_every_unusable_row_is_counted_under_one_reason(folder):
    rows = ["a.png,1", "", ",2", "nope.png,3", "twin,4", "b.png,", "b.png,NaN", "c.jpg,wide", "c.jpg,1_0"]
    rows += ["c.jpg,inf", "broken.jpg,5", 'deep/d.png,"1,5"', f"{'x' * 300}.png,1"]
    dataset, left_out = read_measures(folder, write(folder, "\n".join(["file,size", *rows])), **COLUMNS)
    assert dataset.table.image.tolist() == ["a.png"]
    assert dataset.excluded == {
        "no image named": 1,
        "no such image file": 2,
        "several image files of that name": 1,
        "no measure": 2,
        "measure is no number": 3,
        "measure is not finite": 1,
        "unreadable image": 1,
        "image file that no row names": 2,
    }
    assert left_out[["line", "image"]].to_numpy().tolist()[:3] == [[4, ""], [5, "nope.png"], [6, "twin"]]
    assert len(left_out) == 11


def test_an_image_listed_twice_counts_once_if_the_rows_agree_and_not_at_all_if_not(folder):
    rows = "a.png,1,p\na,1.0,p\n./b.png,2,p\nb.png,3,p\nc.jpg,4,p\nc.jpg,4,q\nd,5,q\ntwin.png,5,\n"
    table = write(folder, f"file,size,patient\n{rows}")
    dataset, left_out = read_measures(folder, table, **COLUMNS, group_column="patient")
    assert dataset.table.to_dict("list") == {"image": ["a.png", "d"], "measure": [1, 5], "group": ["p", "q"]}
    twice, differing = "image listed twice", "image listed with differing values"
    assert left_out.reason.tolist() == [twice, *[differing] * 4, "no group"]
    assert left_out.line.tolist() == [3, 4, 5, 6, 7, 9]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"file,sise\na.png,1\n", r"(?s)no column 'size'.*Did you mean 'sise'"),
        (b"file,size,size\na.png,1,2\n", "several columns 'size'"),
        (b"file,size\na.png,1\nb.png,1,5\n", "Expected 2 fields in line 3, saw 3"),
        (b"", "No columns to parse"),
        (b"file,size\n", "no row below its header"),
        (b"file,size\nx.png,1\n", r"(?s)1 × no such image.*names \['x.png'\]; the folder holds \['a.png'"),
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
    rows.append({"file": "nowhere.png", "side": 3, "patient": "p0"})
    pd.DataFrame(rows).to_csv(root / "sides.csv", index=False)
    keras.utils.set_random_seed(0)
    image = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(8, 3, strides=2, activation="relu", name="first")(image)
    x = keras.layers.Conv2D(12, 3, strides=2, activation="relu", name="second")(x)
    x = keras.layers.GlobalAveragePooling2D(name="global_average_pooling2d")(x)
    model = keras.Model(image, keras.layers.Dense(3, activation="softmax", name="names")(x), name="own")
    model.save(root / "my.keras")
    return root


@pytest.fixture
def there(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The made folder as the working folder; results go to a folder of the test's own."""
    monkeypatch.chdir(made)
    return tmp_path


GIVEN = "--network my.keras --images photos --measures sides.csv --image-column file --measure-column side"
QUANTIFY = ["quantify", *GIVEN.split(), "--repeats", "3"]


def quantify(out: Path, *more: str) -> int:
    return cli.main([*QUANTIFY, "--out", str(out), *more])


def prune(out: Path, *more: str) -> int:
    return cli.main(["prune", *more, "--out", str(out)])


def test_quantify_writes_table_summary_figure_and_card_the_same_each_time(there, capsys):
    assert quantify(there / "my") == 0
    shown = capsys.readouterr().out
    assert "60 used; left out:\n      1 × no such image file" in shown
    assert "Best tap to prune at: " in shown
    assert f"Next: scalelib prune --from {there / 'my'} --out small.keras" in shown
    results = read_results(there / "my")  # every file has the digest that its card says
    explained = results.table("columns")
    for name in ("layerwise_r2", "summary", "choice", "excluded"):
        assert set(results.table(name)) == set(explained.column[explained.file.str.contains(name)]), name
    table = results.table("layerwise_r2")
    assert {"first", "second"} <= set(table.tap)
    assert set(table.condition) == {"true", "shuffled"}
    assert (table.n_train + table.n_test == N_IMAGES).all()
    summary = results.table("summary").set_index(["condition", "tap"])
    assert summary.loc[("true", "first"), "mean"] > 0.8, "mean brightness grows with the side"
    assert summary.loc[("shuffled", "first"), "mean"] < 0.2
    left_out = [{"line": N_IMAGES + 2, "image": "nowhere.png", "reason": "no such image file"}]
    assert results.table("excluded").to_dict("records") == left_out
    assert Image.open(there / "my" / "layerwise_r2.png").size[0] > 600
    card = results.card.data
    assert card["datasets"][0]["excluded"] == {"no such image file": 1}
    assert card["networks"][0]["weights"] == "my.keras"
    assert card["parameters"]["measure_column"] == "side"
    assert quantify(there / "my") == 2
    assert "add --overwrite" in capsys.readouterr().err
    assert read_results(there / "my").card.data == card
    keras.utils.clear_session()  # automatic names of the saved model must not clash with the next ones here
    assert quantify(there / "two") == 0
    csv = [(there / name / "layerwise_r2.csv").read_bytes() for name in ("my", "two")]
    assert csv[0] == csv[1]
    again = read_results(there / "two").card.data
    assert all(card[what] == again[what] for what in ("datasets", "networks"))


def test_groups_stay_on_one_side_and_preprocessing_reaches_the_network_and_the_card(there):
    for name in ("none", "0-1"):
        how = ["--groups", "patient", "--taps", "first", "--preprocess", name, "--estimator", "ols"]
        assert quantify(there / name, *how) == 0
    tables = [read_results(there / name).table("layerwise_r2") for name in ("none", "0-1")]
    assert set(tables[0].tap) == {"first"}
    assert (tables[0].n_test % (N_IMAGES // 12) == 0).all(), "whole patients of five images"
    # least squares hardly minds the unit of a pixel, but the same call would give the same bits
    assert (tables[0].r2_test != tables[1].r2_test).any()
    assert read_results(there / "0-1").card.data["parameters"]["preprocess"] == "0-1"


def test_prune_cuts_at_the_best_tap_of_a_run_and_the_file_loads_plainly(there, capsys):
    assert quantify(there / "my") == 0
    capsys.readouterr()
    assert prune(there / "small.keras", "--from", str(there / "my"), "--outputs", "2") == 0
    shown = capsys.readouterr().out
    small = keras.saving.load_model(there / "small.keras", safe_mode=True)
    whole = keras.saving.load_model("my.keras")
    assert small.output_shape == (None, 2)
    kernel = keras.ops.convert_to_numpy(whole.get_layer("first").kernel)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(small.get_layer("first").kernel), kernel)
    assert f"{whole.count_params():,} → {small.count_params():,} parameters" in shown
    assert "RGB images, 0 to 255, as they are" in shown
    assert prune(there / "s.keras", "--from", str(there / "my"), "--weights", "random") == 2
    assert "has other weights than when" in capsys.readouterr().err


def test_prune_at_a_named_tap_keeps_a_file_that_exists(there, capsys):
    out = there / "small.keras"
    out.write_bytes(b"precious")
    arguments = ["--network", "my.keras", "--at", "first"]
    assert prune(out, *arguments) == 2
    assert "add --overwrite" in capsys.readouterr().err
    assert out.read_bytes() == b"precious"
    assert prune(out, *arguments, "--overwrite") == 0
    names = {layer.name for layer in keras.saving.load_model(out).layers}
    assert "first" in names
    assert "second" not in names
    assert prune(there / "small.h5", *arguments) == 2
    assert "saved as a .keras file" in capsys.readouterr().err
    assert prune(there / "other.keras", "--at", "first") == 2
    assert "say which network" in capsys.readouterr().err


def test_the_pages_example_runs_as_it_is_and_shows_what_it_prints(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(BOOK / "example.py"))
    printed = capsys.readouterr().out
    *rows, last = [line.split() for line in printed.splitlines()]
    r2 = {tap: float(mean) for tap, mean, *_ in rows[1:]}
    best = max(r2, key=lambda tap: r2[tap])
    assert (min(r2[best] - r2["conv1"], r2[best] - r2["pre_softmax"]) > 0.3, len(r2)) == (True, 13)
    assert last[:2] == ["Cut", "at"]
    assert "<svg" in (tmp_path / "r2_by_layer.svg").read_text(encoding="utf-8")
    shown = BOOK / "figures" / "example.txt"
    assert not shown.is_file() or shown.read_text(encoding="utf-8") == printed, "draw the book's figures anew"


def test_the_pages_code_for_a_network_of_ones_own_runs(made, tmp_path, monkeypatch, capsys):
    table = pd.read_csv(made / "sides.csv").rename(columns={"file": "image", "side": "size"})
    table[:N_IMAGES].to_csv(tmp_path / "measures.csv", index=False)
    for name in ("photos", "my.keras"):
        (tmp_path / name).symlink_to(made / name)
    monkeypatch.chdir(tmp_path)
    exec(re.search(r"```python\n(.*?)```", (BOOK / "use.md").read_text(encoding="utf-8"), re.DOTALL)[1], {})
    assert "exp_r2_over_e" in capsys.readouterr().out
    assert keras.saving.load_model("pruned.keras").output_shape == (None, 1)


def test_what_can_be_read_is_listed_and_prune_takes_any_layer_of_it(there, capsys):
    assert cli.main(["quantify", "--network", "my.keras", "--list-taps"]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == ["tap", "layer", "depth", "channels", "stride", "receptive_field", "parameters"]
    assert {"first", "second"} <= {row.split()[0] for row in rows}
    between = next(layer.name for layer in keras.saving.load_model("my.keras").layers if "pool" in layer.name)
    assert prune(there / "s.keras", "--network", "my.keras", "--at", between) == 0


def test_few_images_and_intervals_that_decide_nothing_are_said_to_be_so(there, capsys):
    rng = np.random.default_rng(1)
    rows = [f"{i:03d}.png,{rng.normal()}" for i in range(12)]
    (there / "few.csv").write_text("\n".join(["file,side", *rows]))
    Path("small.keras").touch()
    more = ["--measures", str(there / "few.csv"), "--pooling", "max", "--test-size", "0.4", "--no-cache"]
    assert quantify(there / "my", *more) == 0
    shown = capsys.readouterr().out
    assert "under 30: intervals are wide and rough" in shown
    assert "undecided" in shown
    assert "surely reads" in shown or "nothing to prune for" in shown
    assert "--out small.keras" not in shown
    assert not (there / "my" / "cache").exists()
    table = read_results(there / "my").table("layerwise_r2")
    assert set(table.n_test) == {5}


BEFORE_KERAS = [
    ("--network your.keras", "there is no file your.keras"),
    ("--network mi.keras", "Did you mean 'my.keras'"),
    ("--images pictures", "there is no folder of images"),
    ("--measures side.csv", "cannot read the measures"),
    ("--groups patients", "Did you mean 'patient'"),
    ("--weights none.weights.h5", "there is no file none.weights.h5"),
    ("--test-size 1.5", "between 0 and 1"),
    ("--out sides.csv/my --network not-even-looked-at", "cannot write to the results folder"),
]
AFTER = [
    ("--network sides.csv", "no network 'sides.csv'"),
    ("--network bad.keras", "damaged"),
    ("--taps frist", "'first'"),
    ("--taps global_average_pooling", "Did you mean 'global_average_pooling2d'"),
]


@pytest.mark.parametrize(("changes", "message"), [*BEFORE_KERAS, *AFTER])
def test_quantify_refuses_with_a_message_and_status_2(there, capsys, changes, message):
    Path("bad.keras").write_bytes(Path("my.keras").read_bytes()[:2000])
    assert quantify(there / "my", *changes.split()) == 2
    error = capsys.readouterr().err
    assert error.startswith("quantify: ")
    assert message in error
    assert "Traceback" not in error
    assert not (there / "my").exists(), "no empty folder is left"


def test_what_can_be_refused_without_keras_is_refused_before_it_starts(there):
    calls = [[*QUANTIFY, "--out", str(there / "my"), *changes.split()] for changes, _ in BEFORE_KERAS]
    calls += [
        ["quantify", "--network", "my.keras"],
        ["prune", "--network", "n.keras", "--at", "a", "--out", "b.keras"],
    ]
    code = f"import sys\nfrom scalelib.cli import main\nassert {{main(call) for call in {calls}}} == {{2}}\n"
    code += "assert 'keras' not in sys.modules and 'tensorflow' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "no --images, no --measures, no --measure-column" in done.stderr


def test_a_disk_that_fills_up_leaves_no_half_model(there, capsys):
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, limits[1]))  # a full disk, but for this process alone
    try:
        code = prune(there / "s.keras", "--network", "my.keras", "--at", "second")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert code == 2
    assert "cannot write the model" in capsys.readouterr().err
    assert list(there.iterdir()) == []
