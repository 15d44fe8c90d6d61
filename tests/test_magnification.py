"""Magnification: read-outs against scikit-learn, intervals and refusals on rendered tissue, and the command from --fit to a table."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from scalelib import cli
from scalelib.datasets import Dataset
from scalelib.errors import DataError, ResultsError
from scalelib.graph import keras
from scalelib.slides.collections import load_tissue
from scalelib.slides.magnification import (
    MARGIN,
    MagnificationEstimator,
    conformal_quantile,
    fit_estimator,
    fit_magnification,
    image_patches,
    load_described,
    load_estimator,
)
from scalelib.slides.slide import open_slide
from studies.rendered.slide import render_slide

MAGNIFICATIONS = np.array([5.0, 8.0, 10.0, 15.0, 20.0, 30.0, 40.0])
LEVEL = ("--level", "0.8")  # two held-out slides are too few for more


def patches() -> pd.DataFrame:
    slide = np.arange(420) // 7 % 10
    split = np.where(slide < 5, "train", np.where(slide < 8, "validation", "test"))
    return pd.DataFrame({"split": split, "slide": slide, "magnification": np.tile(MAGNIFICATIONS, 60)})


def features(table: pd.DataFrame, noise: float, width: int = 12, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    octaves = np.log2(table.magnification.to_numpy())[:, None]
    return octaves * rng.normal(1, 0.3, (1, width)) + rng.normal(0, noise, (len(table), width))


def test_conformal_quantile_is_the_order_statistic():
    residuals = np.random.default_rng(0).permutation(np.arange(1.0, 100.0))
    assert conformal_quantile(residuals, 0.9) == 90.0
    assert conformal_quantile(residuals[:5], 0.9) == math.inf
    for level in (0, 1, 1.5):
        with pytest.raises(ResultsError, match="a level lies in"):
            conformal_quantile(residuals, level)


@pytest.mark.parametrize("width", [3, 12, 300], ids=["tall", "square", "wide"])
def test_novelty_is_the_distance_between_whitened_components(width):
    table = patches()
    values = features(table, 0.3, width)
    fitted = fit_magnification(values, table, patch_size=96)
    train = (table.split == "train").to_numpy()
    whiten = PCA(min(width, 32), whiten=True, svd_solver="full")
    scale = StandardScaler().fit(values[train])
    places = whiten.fit(scale.transform(values[train])).transform(scale.transform(values))
    gaps = np.linalg.norm(places[:, None] - places[train], axis=2)
    fifth = pd.Series(np.sort(gaps, axis=1)[:, 4])
    held_out = table[table.split == "validation"]
    largest = fifth[held_out.index].groupby([held_out.slide, held_out.magnification]).median().max()
    for rows in (slice(400, 407), slice(0, 20)):
        expected = fifth[rows].median() / (MARGIN * largest)
        assert fitted.estimate(values[rows]).novelty == pytest.approx(expected, rel=1e-6)


@pytest.fixture(scope="module")
def estimator() -> tuple[MagnificationEstimator, pd.DataFrame]:
    table = patches()
    return fit_magnification(features(table, 0.3), table, patch_size=96, network={"name": "n"}), table


def test_estimates_lie_near_the_truth_for_slides_not_fitted_on(estimator):
    fitted, table = estimator
    held = features(table, 0.3)
    for magnification in MAGNIFICATIONS:
        rows = (table.split == "test") & (table.magnification == magnification)
        found = fitted.estimate(held[rows])
        assert not found.refused
        assert found.magnification == pytest.approx(magnification, rel=0.3)
        assert found.low < found.magnification < found.high
        assert found.high / found.magnification == pytest.approx(found.magnification / found.low)


def test_what_lies_beyond_the_training_tissue_or_its_range_is_refused(estimator):
    fitted, table = estimator
    found = fitted.estimate(np.random.default_rng(0).normal(0, 30, (20, 12)))
    assert math.isnan(found.magnification)
    assert str(found).startswith("no estimate from 20 patches, unlike the training tissue")
    relaxed = type(fitted)(**{**vars(fitted), "threshold": math.inf})
    found = relaxed.estimate(features(table.assign(magnification=160.0), 0.3))
    assert "outside the range from 5X to 40X" in found.refused
    with pytest.raises(ResultsError, match="calibrate"):
        fit_magnification(features(table, 0.3), table.assign(split="train"), patch_size=8)


def test_a_saved_estimator_gives_the_same_estimates(estimator, tmp_path):
    fitted, table = estimator
    fitted.save(tmp_path / "e.npz")
    again = load_estimator(tmp_path / "e.npz")
    held = features(table, 0.3)[:20]
    assert again.estimate(held) == fitted.estimate(held)
    assert (again.network, again.patch_size, again.limits) == ({"name": "n"}, 96, (5.0, 40.0))
    with np.load(tmp_path / "e.npz") as file:
        arrays = dict(file)
    for wrong in (
        {"offset": np.array(np.nan)},
        {"meta": np.frombuffer(b"[]", np.uint8)},
        {"axes": np.eye(3)},
    ):
        np.savez(tmp_path / "bad.npz", **arrays | wrong)
        with pytest.raises(ResultsError, match=r"bad.npz is no saved estimator"):
            load_estimator(tmp_path / "bad.npz")


def test_patches_of_a_figure_are_its_own_pixels_or_area_means(tmp_path):
    pixels = np.random.default_rng(0).integers(100, 200, (96, 128, 3), dtype=np.uint8)
    pixels[..., 1] = 60
    Image.fromarray(pixels).save(tmp_path / "figure.png")
    found = image_patches(tmp_path / "figure.png", size=32)
    assert np.array_equal(found[0], pixels[:32, :32])
    coarse = image_patches(pixels, size=32, downsample=2)
    assert len(coarse) == 2
    assert coarse[0, 0, 0] == pytest.approx(pixels[:2, :2].mean(axis=(0, 1)), abs=1)
    assert len(image_patches(pixels, size=32, max_patches=5)) == 5
    with pytest.raises(DataError, match="no larger than the image"):
        image_patches(pixels, size=200)
    with pytest.raises(DataError, match="at least 1"):
        image_patches(pixels, size=32, downsample=0.5)
    glass = np.full((64, 128, 3), 245, np.uint8)
    assert len(image_patches(glass, size=64)) == 2, "where nothing is tissue, glass is looked at, and refused"
    glass[:, :64] = (220, 140, 190)
    assert len(image_patches(glass, size=64)) == 1


def test_an_estimator_keeps_its_data_and_refuses_other_weights():
    pixels = np.random.default_rng(0).integers(0, 255, (8, 32, 32, 3), dtype=np.uint8)
    magnification = [10.0, 10.0, 20.0, 20.0] * 2
    table = pd.DataFrame({"slide": list("aaaabbbb"), "split": ["train"] * 4 + ["validation"] * 4,
                          "magnification": magnification})  # fmt: skip
    spec = {"name": "MobileNet", "tap": "conv_pw_3", "weights": "random",
            "options": {"alpha": 0.25, "include_top": False}}  # fmt: skip
    fitted = fit_estimator(Dataset("noise", pixels, table), network=spec)
    assert (fitted.data["slides"], fitted.patch_size) == ({"train": 1, "validation": 1}, 32)
    assert load_described(fitted.network).weights_digest == fitted.network["weights_digest"]
    changed = fitted.network["options"] | {"weights_seed": 1}
    with pytest.raises(ResultsError, match="not those that the estimator was fitted with"):
        load_described({**fitted.network, "options": changed})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six slides (two at 10X), files that are none, an estimator fitted on them, and images to look at."""
    root = tmp_path_factory.mktemp("magnification")
    (root / "slides" / "more").mkdir(parents=True)
    for i in range(6):
        path = root / "slides" / ("more" if i > 4 else "") / f"{i}.svs"
        render_slide(path, size=512, power=10 if i in (3, 5) else 20, random_state=i)
    (root / "slides" / "broken.svs").write_bytes((root / "slides" / "0.svs").read_bytes()[:5000])
    Image.new("RGB", (300, 300), (200, 120, 180)).save(root / "slides" / "silent.tif")
    render_slide(root / "new.svs", size=512, power=20, random_state=101)
    with open_slide(root / "new.svs") as slide:
        tissue = slide.read(0, 0, 512, magnification=20)
    Image.fromarray(tissue).save(root / "figure.png")
    Image.fromarray(tissue).save(root / "figure.jpg", quality=90)
    rows, columns = np.mgrid[:300, :400]
    board = 255 * ((columns // 8 + rows // 8) % 2)
    stripes = [127 + 120 * np.sin(columns / 3), 127 + 120 * np.cos(rows / 2), board]
    Image.fromarray(np.stack(stripes, axis=-1).astype(np.uint8)).save(root / "photograph.png")
    fit = ["--fit", str(root / "slides"), "--out", str(root / "tissue.npz"), "--weights", "random"]
    with (root / "fit.txt").open("w") as shown, contextlib.redirect_stdout(shown):
        assert cli.main(["magnification", *fit, "--input-size", "64", *LEVEL]) == 0
    return root


@pytest.fixture
def there(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The made folder as the working folder; results go to a folder of the test's own."""
    monkeypatch.chdir(made)
    return tmp_path


def look(*arguments: str) -> int:
    return cli.main(["magnification", *arguments, "--estimator", "tissue.npz", *LEVEL])


def test_fit_says_what_it_used_what_it_left_out_and_how_far_off_it_is(made):
    shown = (made / "fit.txt").read_text()
    assert "slides, 4 slides to fit and 2 to calibrate" in shown
    assert "at 5X, 8X, 10X, 15X, 20X" in shown
    assert "left out: broken.svs: " in shown
    assert "left out: silent.tif: it states neither objective power nor microns per pixel" in shown
    assert "8 estimates" in shown, "a held-out slide at 20X gives five magnifications, one at 10X three"
    assert load_estimator(made / "tissue.npz").data["slides"] == {"train": 4, "validation": 2}


def test_slides_are_held_out_whole_and_no_magnification_is_above_a_slides_own(made):
    patches = load_tissue(made / "slides", size=64)
    assert patches.digest == load_estimator(made / "tissue.npz").data["digest"], "same call, same patches"
    table = patches.table
    assert (table.groupby("slide").split.nunique() == 1).all()
    assert "more/5.svs" in set(table.slide)
    slow = table[table.slide.isin(["3.svs", "more/5.svs"])]
    assert slow.magnification.max() == 10
    assert slow.split.nunique() == 2, "either part has slow and fast scans"
    assert table.groupby(["slide", "magnification"]).size().max() <= 16
    row = table[table.magnification == 10].iloc[0]
    with open_slide(made / "slides" / row.slide) as slide:
        expected = slide.read(int(row.x), int(row.y), 64, magnification=10)
    assert np.array_equal(patches.images[int(row.name)], expected)


def test_slides_and_figures_are_estimated_beside_what_they_state(there, capsys):
    out = there / "found.csv"
    assert look("new.svs", "figure.png", "figure.jpg", "--downsample", "1", "2", "--out", str(out)) == 0
    table = pd.read_csv(out).set_index(["image", "downsample"])
    for image, tolerance in (("new.svs", 1.3), ("figure.png", 1.3), ("figure.jpg", 1.4)):
        for factor in (1.0, 2.0):
            found = table.loc[(image, factor)]
            assert abs(np.log2(found.magnification * factor / 20)) < np.log2(tolerance)
            assert found.low < found.magnification < found.high
            assert found.patches > 0
    assert table.loc[("new.svs", 2.0), "stated_magnification"] == 10
    assert np.isnan(table.loc[("figure.png", 1.0), "stated_magnification"])
    same = table.loc[[("new.svs", 1.0), ("figure.png", 1.0)], "magnification"]
    assert same.iloc[0] == pytest.approx(same.iloc[1], rel=1e-4), "only pixels are looked at"
    shown = capsys.readouterr().out
    assert "the file states 20X and 0.5 µm per pixel, so 10X here" in shown
    assert "the file states nothing" in shown
    assert "6 of 6 estimated, 0 refused, 0 not read" in shown


def test_bad_files_among_many_are_named_and_the_others_are_done(there, capsys):
    (there / "torn.png").write_bytes(Path("figure.png").read_bytes()[:20000])
    (there / "empty.jpg").write_bytes(b"")
    Image.new("RGB", (50, 40)).save(there / "tiny.png")
    bad = [str(there / name) for name in ("torn.png", "empty.jpg", "tiny.png", "nowhere.svs")]
    assert look(bad[0], bad[1], "figure.png", *bad[2:], str(there), "new.svs") == 1
    shown = capsys.readouterr().out
    for name, why in (("torn.png", "cannot use the image"), ("tiny.png", "here 50×40 px"),
                      ("nowhere.svs", "does not exist"), (there.name, "is a folder")):  # fmt: skip
        line = next(line for line in shown.splitlines() if f"{name}: not read" in line)
        assert why in line
    assert shown.count(": about ") == 2
    assert "2 of 7 estimated, 0 refused, 5 not read" in shown


def test_an_image_unlike_tissue_is_refused_with_the_reason(there, capsys):
    assert look("photograph.png", "--out", str(there / "found.csv")) == 1
    assert "no estimate from 24 patches, unlike the training tissue" in capsys.readouterr().out
    (row,) = pd.read_csv(there / "found.csv").to_dict("records")
    assert np.isnan(row["magnification"])
    assert row["novelty"] > 1
    assert row["refused"].startswith("unlike the training tissue")


def test_too_few_held_out_slides_for_a_level_are_said(there, capsys):
    assert cli.main(["magnification", "new.svs", "--estimator", "tissue.npz", "--level", "0.99"]) == 0
    shown = capsys.readouterr().out
    assert "intervals are open: 8 held-out estimates" in shown
    assert "(? to ?, " in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--estimator", "tissue.npz"], "say which images"),
        (["a.png", "--estimator", "figure.png"], "no saved estimator"),
        (["a.png", "--estimator", "tissue.npz", "--out", "tissue.npz"], "is a .csv file"),
        (["a.png", "--estimator", "tissue.npz", "--alpha", "0.5"], "keeps the network"),
        (["a.png", "--estimator", "tissue.npz", "--network", "control"], "keeps the network"),
        (["--fit", "slides"], "say where the estimator goes"),
        (["--fit", "slides", "--out", "tissue.npz"], "tissue.npz exists"),
        (["--fit", "slides", "--out", "e.keras"], "is a .npz file"),
        (["--fit", "slides", "--out", "e.npz", "--estimator", "tissue.npz"], "looks at no other image"),
        (["--fit", "monusek", "--out", "e.npz", "--weights", "random"], "Did you mean 'monuseg'"),
        (["--fit", "slides/more", "--out", "e.npz", "--weights", "random"], "at least 6 slides"),
        (["--fit", "slides", "--out", "e.npz", "--weights", "random", "--tap", "conv_pw_55"], "conv_pw_5"),
        (["--fit", "slides", "--out", "e.npz", "--network", "control"], "say which tap"),
        (["new.svs"], "scalelib magnification --fit FOLDER --out tissue.npz"),
        (["new.svs", "--estimator", "none.npz"], "scalelib magnification --fit monuseg"),
    ],
    ids=lambda value: None if isinstance(value, str) else " ".join(value),
)
def test_a_wrong_call_is_refused_with_status_2(there, capsys, arguments, message):
    assert cli.main(["magnification", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


@pytest.mark.parametrize("wrong", [["--level", "1"], ["--downsample", "0.5"], ["--downsample", "nan"]])
def test_numbers_out_of_range_are_refused_before_anything_is_read(wrong, capsys):
    for arguments in (["a.png", "--estimator", "e.npz"], ["--fit", "slides", "--out", "e.npz"]):
        assert cli.main(["magnification", *arguments, *wrong]) == 2
        assert wrong[0] in capsys.readouterr().err


def test_slides_of_one_magnification_only_cannot_be_fitted_on(tmp_path):
    for i in range(6):
        render_slide(tmp_path / f"{i}.svs", size=256, power=5, random_state=i)
    with pytest.raises(DataError, match="two magnifications"):
        load_tissue(tmp_path, size=64)


def test_an_estimator_of_ones_own_model_finds_it_again_where_its_file_has_moved(there, capsys):
    model = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Conv2D(8, 3, strides=2, name="first"),
                              keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2)])  # fmt: skip
    model.save(there / "my.keras")
    estimator = str(there / "own.npz")
    arguments = ["--network", str(there / "my.keras"), "--preprocess", "0-1", "--input-size", "32"]
    code = cli.main(["magnification", "--fit", "slides", "--tap", "first", "--out", estimator, *arguments])
    assert code == 0
    (there / "my.keras").rename(there / "moved.keras")
    found = ["magnification", "figure.png", "--estimator", estimator]
    assert cli.main(found) == 2
    assert "my.keras" in capsys.readouterr().err
    moved = cli.main([*found, "--network", str(there / "moved.keras")])
    assert moved in (0, 1)  # so small a model may refuse
    assert "figure.png: " in capsys.readouterr().out


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.exhaustive
def test_real_slides_of_other_sources_are_estimated_and_photographs_refused(
    monuseg_root, slides_root, keras_models, imagenet_samples, tmp_path, capsys
):
    fitted = tmp_path / "tissue.npz"
    assert cli.main(["magnification", "--fit", "monuseg", "--out", str(fitted)]) == 0
    assert "CC BY-NC-SA" in capsys.readouterr().out
    with open_slide(slides_root / "TCGA-CR-7395-01A-01-TS1.svs", power=40) as slide:
        crop = Image.fromarray(slide.read(1000, 1000, (1000, 800), magnification=20))
    crop.save(tmp_path / "crop.jpg", quality=75)
    known = {slides_root / "CMU-1-Small-Region.svs": 20, tmp_path / "crop.jpg": 20}
    out = tmp_path / "found.csv"
    arguments = ["--estimator", str(fitted), "--out", str(out), "--overwrite"]
    assert cli.main(["magnification", *map(str, known), "--downsample", "1", "2", *arguments]) == 0
    table = pd.read_csv(out)
    truth = table.image.map({str(path): power for path, power in known.items()}) / table.downsample
    assert ((table.low <= truth) & (truth <= table.high)).all()
    assert cli.main(["magnification", *map(str, imagenet_samples[::15]), *arguments]) == 1
    assert pd.read_csv(out).refused.str.startswith("unlike").sum() >= 9  # of ten
