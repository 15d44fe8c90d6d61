"""Read-outs, costs and magnification estimates, on features made here and on tissue rendered here."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.linear_model import Ridge
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from scalelib.activations import extract
from scalelib.errors import DataError, ResultsError, ScalelibError
from scalelib.networks import load_network
from scalelib.pruning import cost_table
from scalelib.slides.collections import load_monuseg
from scalelib.slides.magnification import (
    conformal_quantile,
    describe_network,
    distance_to_reference,
    estimate_magnification,
    estimate_text,
    fit_magnification,
    image_patches,
    load_estimator,
    whitened_axes,
)
from studies.rendered.slide import render_slide
from studies.s05_runs import read_out, read_out_scores

MAGNIFICATIONS = np.array([5.0, 8.0, 10.0, 15.0, 20.0, 30.0, 40.0])


def patches(n: int = 420, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    magnification = np.tile(MAGNIFICATIONS, n // 7)
    slide = np.arange(n) // 7 % 10
    area = magnification**2 * rng.uniform(0.4, 0.6, n)
    split = np.where(slide < 5, "train", np.where(slide < 8, "validation", "test"))
    return pd.DataFrame({"split": split, "slide": [f"s{s}" for s in slide], "magnification": magnification,
                         "mpp": 10 / magnification, "mean_area_px": area})  # fmt: skip


def features(table: pd.DataFrame, noise: float, width: int = 12, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    octaves = np.log2(table.magnification.to_numpy())[:, None]
    return octaves * rng.normal(1, 0.3, (1, width)) + rng.normal(0, noise, (len(table), width))


def test_read_out_is_ridge_on_standardised_features_of_training_patches_only():
    table = patches()
    acts = {"tap": features(table, 1.0)}
    found = read_out(acts, table, network="n", targets=["area"])
    found = found[found.tap == "tap"]
    train, held_out = table.split == "train", table.split != "train"
    scaler = StandardScaler().fit(acts["tap"][train])
    best = min(
        np.abs(Ridge(alpha=a).fit(scaler.transform(acts["tap"][train]), table.mean_area_px[train])
               .predict(scaler.transform(acts["tap"][held_out])) - found.predicted.to_numpy()).max()
        for a in 10.0 ** np.arange(-6, 9.25, 0.25)
    )  # fmt: skip
    assert best < 1e-4  # one penalty of the grid gives these very predictions
    changed = {
        "tap": np.where(
            held_out.to_numpy()[:, None] & (np.arange(len(table)) == 419)[:, None], 9, acts["tap"]
        )
    }
    other = read_out(changed, table, network="n", targets=["area"])
    assert np.allclose(other[other.tap == "tap"].predicted[:-1], found.predicted[:-1])


def test_validation_chooses_the_tap_and_the_mean_is_there_to_beat():
    table = patches()
    acts = {"early": features(table, 2.0), "middle": features(table, 0.2), "late": features(table, 4.0)}
    scores = read_out_scores(read_out(acts, table, network="n"), table)
    chosen = scores[scores.chosen]
    assert set(chosen.tap) == {"middle"}
    assert set(chosen.target) == {"area", "log2_magnification"}
    whole = scores[(scores.slide == "all") & (scores.split == "test") & (scores.target == "area")].set_index(
        "tap"
    )
    train = table[table.split == "train"].mean_area_px.mean()
    expected = (table[table.split == "test"].mean_area_px - train).abs().mean()
    assert whole.mae_px["mean"] == pytest.approx(expected)
    assert whole.mae_px["middle"] < whole.mae_px["mean"]


def test_read_out_needs_both_parts():
    table = patches(70)
    with pytest.raises(ResultsError, match="hold out"):
        read_out({"tap": features(table, 1.0)}, table.assign(split="train"), network="n")
    with pytest.raises(DataError):
        read_out({"tap": features(table, 1.0)[:-1]}, table, network="n")


def test_costs_count_every_weight_and_activation():
    net = load_network("MobileNet", weights="random", alpha=0.25, include_top=False, input_size=32)
    table = cost_table(net, ["conv_pw_1", "conv_pw_13"], batch_size=2, repeats=2).set_index("tap")
    # conv1 27·8, norm 4·8; depthwise 9·8, norm 4·8; pointwise 8·16; head 16 + 1
    assert table.parameters["conv_pw_1"] == 27 * 8 + 32 + 72 + 32 + 128 + 17
    assert (table.weights_mib * 2**20 / 4 == table.parameters).all()
    assert (table.forward_ms >= table.forward_ms_min).all()
    assert table.activations_mib["conv_pw_13"] > table.activations_mib["conv_pw_1"] > 0
    for wrong in ({"taps": []}, {"taps": ["conv_pw_1"], "repeats": 0}):
        with pytest.raises(ScalelibError, match="cost_table"):
            cost_table(net, **wrong)


def test_conformal_quantile_is_the_order_statistic():
    residuals = np.random.default_rng(0).permutation(np.arange(1.0, 100.0))
    assert conformal_quantile(residuals, 0.9) == 90.0
    assert conformal_quantile(residuals[:5], 0.9) == math.inf
    for level in (0, 1, 1.5):
        with pytest.raises(ResultsError):
            conformal_quantile(residuals, level)


@pytest.mark.slow
def test_intervals_cover_new_slides_as_often_as_they_say():
    rng = np.random.default_rng(1)
    covered = []
    for _ in range(2000):
        residuals = np.abs(rng.standard_t(3, 21))
        covered.append(abs(rng.standard_t(3)) <= conformal_quantile(residuals, 0.9))
    assert np.mean(covered) == pytest.approx(20 / 22, abs=0.02)


@pytest.mark.parametrize(("n", "d"), [(300, 10), (40, 40), (30, 200)], ids=["tall", "square", "wide"])
def test_whitened_projections_have_unit_covariance_and_distances_are_those_of_scikit_learn(n, d):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(n, d)) * rng.uniform(0.5, 5, d)
    values -= values.mean(axis=0)
    places = values @ whitened_axes(values)
    assert np.allclose(places.T @ places / n, np.eye(places.shape[1]), atol=1e-8)
    new = rng.normal(size=(20, places.shape[1]))
    expected = NearestNeighbors(n_neighbors=5).fit(places).kneighbors(new)[0][:, -1]
    assert np.allclose(distance_to_reference(new, places), expected)


@pytest.fixture(scope="module")
def estimator():
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
        assert math.log2(found.high / found.magnification) == pytest.approx(
            math.log2(found.magnification / found.low)
        )


def test_features_unlike_the_training_tissue_are_refused(estimator):
    fitted, _ = estimator
    found = fitted.estimate(np.random.default_rng(0).normal(0, 30, (20, 12)))
    assert "unlike the training tissue" in found.refused
    assert math.isnan(found.magnification)
    assert "no estimate" in estimate_text("a.png", found)


def test_estimates_beyond_the_training_range_are_refused(estimator):
    fitted, table = estimator
    far = table.assign(magnification=160.0)
    relaxed = type(fitted)(**{**vars(fitted), "threshold": math.inf})
    assert "outside the range from 5X to 40X" in relaxed.estimate(features(far, 0.3)).refused


@pytest.mark.parametrize("wrong", [np.zeros((0, 12)), np.zeros((3, 11)), np.zeros(12)])
def test_features_of_another_width_are_refused(estimator, wrong):
    with pytest.raises(ResultsError, match="12 channels"):
        estimator[0].estimate(wrong)


def test_a_saved_estimator_gives_the_same_estimates(estimator, tmp_path):
    fitted, table = estimator
    fitted.save(tmp_path / "e.npz")
    again = load_estimator(tmp_path / "e.npz")
    held = features(table, 0.3)[:20]
    assert again.estimate(held) == fitted.estimate(held)
    assert (again.network, again.patch_size, again.limits) == ({"name": "n"}, 96, (5.0, 40.0))
    (tmp_path / "bad.npz").write_bytes(b"PK")
    with pytest.raises(ResultsError, match=r"bad\.npz is no saved estimator"):
        load_estimator(tmp_path / "bad.npz")


def test_calibration_needs_a_validation_part():
    table = patches(70)
    with pytest.raises(ResultsError, match="calibrate"):
        fit_magnification(features(table, 0.3), table.assign(split="train"), patch_size=8)


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
    with pytest.raises(DataError, match="no larger than the slide"):
        image_patches(pixels, size=200)
    with pytest.raises(DataError, match="at least 1"):
        image_patches(pixels, size=32, downsample=0.5)


def test_glass_is_not_looked_at_where_there_is_tissue():
    image = np.full((64, 128, 3), 245, np.uint8)
    image[:, :64] = (220, 140, 190)
    assert len(image_patches(image, size=64)) == 1
    assert len(image_patches(np.full((64, 128, 3), 245, np.uint8), size=64)) == 2


def test_an_estimator_refuses_other_weights(tmp_path):
    options = {"alpha": 0.25, "include_top": False}
    spec = describe_network("MobileNet", tap="conv_pw_3", weights="random", input_size=32, options=options)
    table = patches(140)
    fitted = fit_magnification(features(table, 0.3, width=32), table, patch_size=32, network=spec)
    slide = render_slide(tmp_path / "s.svs", size=256).path
    assert estimate_magnification(slide, fitted).patches > 0  # states 40X; only pixels are looked at
    other = load_network("MobileNet", weights="random", weights_seed=1, input_size=32, **options)
    with pytest.raises(ResultsError, match="not those that the estimator was fitted with"):
        estimate_magnification(slide, fitted, network=other)


@pytest.mark.data
@pytest.mark.slow
def test_real_slides_of_other_sources_are_estimated_and_photographs_refused(
    data_root, slides_root, keras_models, imagenet_samples
):
    options = {"alpha": 0.25, "include_top": False}
    tissue = load_monuseg(data_root, max_per_slide=9)
    net = load_network("MobileNet", input_size=96, **options)
    spec = describe_network("MobileNet", tap="conv_pw_5", input_size=96, options=options)
    fitted = fit_magnification(
        extract(net, tissue.images, taps=["conv_pw_5"])["conv_pw_5"],
        tissue.table,
        patch_size=96,
        network=spec,
    )
    slide = slides_root / "CMU-1-Small-Region.svs"
    for downsample, truth in ((1, 20.0), (2, 10.0)):
        found = estimate_magnification(slide, fitted, network=net, downsample=downsample)
        assert not found.refused
        assert found.low <= truth <= found.high
    photographs = [
        estimate_magnification(p, fitted, network=net, max_patches=9) for p in imagenet_samples[::15]
    ]
    assert sum("unlike" in found.refused for found in photographs) >= 9  # of ten
