"""Summaries of the layer-wise table, recomputed by hand on small tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from study_tables import HIGH, LOW, MID, corrected, layerwise

from scalelib.regression import r2
from studies import readings, s04_layerwise

PAPER = Path(__file__).parents[1] / "paper"


def study(*, random: tuple[float, ...] = (0.0, 0.1, 0.2)) -> pd.DataFrame:
    taps = {"a": LOW, "b": HIGH, "pre_softmax": MID}
    seeds = [
        layerwise(dict.fromkeys(taps, [v] * 3), weights="random", seeds=[s]) for s, v in enumerate(random)
    ]
    shuffled = layerwise({tap: [-0.1, -0.2, 0.0] for tap in taps}, condition="shuffled")
    others = [layerwise(taps, estimator="ols", spread=0.0), layerwise(taps, measure="area_ratio")]
    return pd.concat([layerwise(taps), shuffled, *seeds, *others], ignore_index=True)


class TestCurves:
    def test_three_curves_with_the_unit_that_each_was_sampled_by(self):
        found = s04_layerwise.curves(study()).set_index(["curve", "tap"])
        columns = ["mean", "low", "high"]
        assert set(found.index.get_level_values(0)) == set(s04_layerwise.CURVES.values())
        assert found.loc[("ImageNet weights", "b"), columns].tolist() == pytest.approx(corrected(HIGH))
        assert found.loc[("random weights", "b"), columns].tolist() == pytest.approx(
            corrected([0, 0.1, 0.2], share=0)
        )
        assert found.loc[("shuffled measures", "a"), columns].tolist() == pytest.approx(
            corrected([-0.1, -0.2, 0.0])
        )

    def test_one_seed_of_random_weights_has_no_interval(self):
        found = s04_layerwise.curves(study(random=(0.3,))).set_index("curve").loc["random weights"]
        assert found.low.isna().all()
        assert found["mean"].tolist() == pytest.approx([0.3] * 3)


def in_two_networks() -> pd.DataFrame:
    """One whole, one whose weights end at b."""
    label = {"network": "short", "weights": "imagenet (2015), to b"}
    whole = {"a": LOW, "b": HIGH, "c": MID}
    parts = [
        layerwise(whole),
        layerwise(whole, estimator="ridge_unscaled"),
        layerwise({"a": LOW, "b": HIGH}, **label),
    ]
    return pd.concat(
        [*parts, layerwise(whole, network="short", weights="random", seeds=[0, 1])], ignore_index=True
    )


def test_panels_say_what_weights_are_and_depth_is_that_of_the_whole_network():
    found = s04_layerwise.curves(in_two_networks())
    full = s04_layerwise.in_full(found)
    assert set(full.network) == {"net", "short (2015), to b"}
    assert full[full.curve == "ImageNet weights"].groupby("network").depth.max().to_dict() == {
        "net": 1.0,
        "short (2015), to b": 0.5,
    }
    beside = s04_layerwise.side_by_side(found, ["net", "short"])
    assert list(beside.curve.unique()) == ["net, ImageNet weights", "short (2015), to b, ImageNet weights"]
    assert list(beside.tap) == ["a", "b", "c", "a", "b"]


def test_falls_by_both_readings_stand_beside_the_published_accuracy():
    rows = in_two_networks().replace({"network": {"net": "SqueezeNet"}})
    found = s04_layerwise.falls(rows, paper=PAPER).set_index(["network", "estimator"])
    columns = ["drop", "drop_low", "drop_high"]
    for reading in ("ridge", "ridge_unscaled"):
        assert found.loc[("SqueezeNet", reading), columns].tolist() == pytest.approx(
            corrected(np.subtract(HIGH, MID))
        )
    assert found.loc[("short", "ridge"), ["peak_tap", "last_tap", "drop"]].tolist() == ["b", "b", 0.0]
    assert found.top1["SqueezeNet"].tolist() == [57.5, 57.5]
    assert found.top1["short"].isna().all()
    others = rows.assign(network=rows.network.map({"SqueezeNet": "MobileNetV2", "short": "DenseNet169"}))
    others.loc[others.network == "DenseNet169", "tap"] = others.tap.replace({"a": "b", "b": "a"})
    found = s04_layerwise.falls(pd.concat([rows, others]), paper=PAPER)
    own = found[(found.estimator == "ridge") & found.top1.notna()]
    ranks = stats.spearmanr(own.top1, own["drop"]).statistic
    assert found.rank_correlation[found.estimator == "ridge"].to_numpy() == pytest.approx(ranks)


def test_histogram_counts_every_image_once_per_class():
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {"object_class": rng.choice(["x", "y"], 300), "sqrt_area_ratio": rng.uniform(0, 1, 300)}
    )
    table.loc[0, "sqrt_area_ratio"] = 1.0  # the last bin is closed
    found = s04_layerwise.scale_histogram(table, bins=7)
    assert found.groupby("object_class").images.sum().to_dict() == table.object_class.value_counts().to_dict()
    first = found[found.object_class == "x"].iloc[2]
    values = table.sqrt_area_ratio[table.object_class == "x"]
    assert first.images == ((values >= 2 / 7) & (values < 3 / 7)).sum()
    assert first["median"] == pytest.approx(np.median(values))


def test_equal_width_stands_beside_all_channels_for_the_same_networks_only():
    table = pd.concat([study(), layerwise({"a": LOW}, network="unprojected")])
    projected = layerwise({"a": LOW, "b": MID, "pre_softmax": LOW}).assign(draw=0, width=64)
    found = s04_layerwise.width_beside(table, projected).set_index(["curve", "tap"])["mean"]
    assert len(found) == 6
    assert found["all channels", "b"] == pytest.approx(0.80)
    assert found["equal width", "b"] == pytest.approx(0.42)


def test_what_is_read_from_held_out_images_gives_the_first_splits_r2_of_each_class():
    rng = np.random.default_rng(0)
    classes = rng.choice(["x", "y"], 60)
    table = pd.DataFrame({"object_class": classes, "sqrt_area_ratio": rng.uniform(0, 1, 60)})
    acts = {"a": table.sqrt_area_ratio.to_numpy()[:, None] + rng.normal(size=(60, 4)) / 4}
    curves = pd.DataFrame({"tap": ["a"], "depth": [0.5]})
    found = s04_layerwise.read_scales(acts, table, curves)
    options = {"measures": ["sqrt_area_ratio"], "estimators": ["ridge"], "conditions": "true"}
    rows = readings.layerwise_by_class(acts, table, repeats=1, **options).set_index("object_class")
    for name, own in found.groupby("object_class"):
        assert (table.object_class[own.image] == name).all()
        assert own.true.tolist() == table.sqrt_area_ratio[own.image].tolist()
        assert r2(own.true.to_numpy(), own.read.to_numpy()) == pytest.approx(rows.r2_test[name])
    assert found.depth.eq(0.5).all()


class TestAnswer:
    def test_peak_end_and_drop_are_those_of_the_table(self):
        found = s04_layerwise.answer(study(), weights="imagenet")
        taps = [found[f"{place}_tap"] for place in ("peak", "first", "last", "end")]
        assert taps == ["b", "a", "b", "pre_softmax"]
        assert (found["peak_r2"], found["peak_low"], found["peak_high"]) == pytest.approx(corrected(HIGH))
        difference = corrected(np.subtract(HIGH, MID))
        assert (found["drop"], found["drop_low"], found["drop_high"]) == pytest.approx(difference)
        assert found["random_r2"] == pytest.approx(0.1)
        assert found["shuffled_r2"] == pytest.approx(-0.1)

    def test_logits_are_no_peak_even_if_they_are_best(self):
        rows = layerwise({"a": LOW, "b": MID, "pre_softmax": HIGH})
        found = s04_layerwise.answer(rows, weights="imagenet")
        assert found["peak_tap"] == "b"
        assert found["drop"] == pytest.approx(np.mean(MID) - np.mean(HIGH))

    def test_nothing_falls_from_a_peak_at_the_last_tap_of_a_network_without_logits(self):
        found = s04_layerwise.answer(layerwise({"a": LOW, "b": HIGH}), weights="imagenet")
        assert (found["drop"], found["drop_low"], found["drop_high"]) == (0.0, 0.0, 0.0)
        assert np.isnan(found["random_r2"])
