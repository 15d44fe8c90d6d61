"""Share of variance explained by scale: closed forms, and an analysis of variance written out."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from statsmodels.formula.api import ols as formula_ols

from scalelib.errors import DataError
from studies.s02_resizing import variance_explained_by_scale

SCALES = np.array([0.2, 0.3, 0.45, 0.85])


def paired(n_scenes: int) -> tuple[np.ndarray, np.ndarray]:
    return np.repeat(np.arange(n_scenes), len(SCALES)), np.tile(SCALES, n_scenes)


def share(features: np.ndarray, scene: np.ndarray, scale: np.ndarray) -> float:
    return variance_explained_by_scale({"tap": features}, scene, scale).variance_explained.item()


@pytest.mark.parametrize(("n_scenes", "channels"), [(200, 3), (3, 50)], ids=["tall", "wide"])
def test_invariant_features_give_zero_and_covariant_ones_give_one(n_scenes, channels):
    scene, scale = paired(n_scenes)
    rng = np.random.default_rng(0)
    per_scene = rng.standard_normal((n_scenes, channels))[scene]
    per_scale = np.log(scale)[:, None] * rng.standard_normal(channels) + rng.standard_normal(channels)
    assert share(per_scene, scene, scale) == pytest.approx(0, abs=1e-12)
    assert share(per_scale, scene, scale) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("weight", [0.1, 1.0, 7.0])
def test_a_sum_of_scene_and_scale_gives_the_ratio_of_their_variances(weight):
    scene, scale = paired(12)
    a, b = np.random.default_rng(1).standard_normal(12)[scene], weight * np.sqrt(scale)
    assert share((a + b)[:, None], scene, scale) == pytest.approx(b.var() / (a.var() + b.var()), rel=1e-10)


def test_an_interaction_of_scene_and_scale_is_no_main_effect():
    scene, scale = paired(8)
    response = np.where(scene % 2 == 0, 1.0, -1.0) * (scale - SCALES.mean())
    assert share(response[:, None], scene, scale) == pytest.approx(0, abs=1e-12)


def test_agrees_with_the_sums_of_squares_of_an_analysis_of_variance():
    scene, scale = paired(9)
    y = np.random.default_rng(2).standard_normal(len(scene)) + 2 * scale + 0.3 * scene
    frame = pd.DataFrame({"y": y, "scene": scene, "scale": scale})
    squares = sm.stats.anova_lm(formula_ols("y ~ C(scene) + C(scale)", frame).fit()).sum_sq
    expected = squares["C(scale)"] / squares.sum()
    assert share(y[:, None], scene, scale) == pytest.approx(expected, rel=1e-9)


def test_channels_weigh_by_their_variance():
    scene, scale = paired(20)
    covariant, invariant = scale / scale.std(), scene / scene.std()
    both = np.stack([3 * covariant, invariant], axis=1)
    assert share(both, scene, scale) == pytest.approx(9 / 10, rel=1e-10)


def test_within_classes_the_variance_between_them_does_not_count():
    scene, scale = paired(12)
    label = np.where(scene % 3 == 0, "a", "b")
    a, b = np.random.default_rng(6).standard_normal(12)[scene], np.sqrt(scale)
    features = (a + b + 100 * (label == "a"))[:, None]
    table = variance_explained_by_scale({"tap": features}, scene, scale, within=label)
    expected = [b.var() / (a[label == k].var() + b.var()) for k in "ab"]
    assert table.variance_explained.item() == pytest.approx(np.mean(expected), rel=1e-9)
    assert share(features, scene, scale) < 0.01


def test_within_classes_an_opposite_effect_in_each_counts_in_full():
    scene, scale = paired(8)
    label = scene % 2
    features = (np.where(label == 0, 1.0, -1.0) * (scale - SCALES.mean()))[:, None]
    table = variance_explained_by_scale({"tap": features}, scene, scale, within=label)
    assert table.variance_explained.item() == pytest.approx(1, abs=1e-12)


def test_order_of_rows_is_free_and_labels_may_be_words():
    scene, scale = paired(15)
    features = np.random.default_rng(3).standard_normal((len(scene), 4)) + scale[:, None]
    order = np.random.default_rng(4).permutation(len(scene))
    words = np.array([f"scene {k}" for k in scene])
    assert share(features[order], words[order], scale[order]) == pytest.approx(
        share(features, scene, scale), rel=1e-12
    )


def test_a_large_offset_in_float32_changes_little():
    scene, scale = paired(30)
    features = np.random.default_rng(5).standard_normal((len(scene), 3)) + scale[:, None]
    shifted = (features + 1000).astype(np.float32)
    assert share(shifted, scene, scale) == pytest.approx(share(features, scene, scale), abs=1e-3)


def test_a_constant_tap_has_no_share_and_taps_keep_their_order():
    scene, scale = paired(4)
    table = variance_explained_by_scale(
        {"z": scale[:, None], "dead": np.full((len(scene), 2), 0.1), "a": scene[:, None]}, scene, scale
    )
    assert table.tap.tolist() == ["z", "dead", "a"]
    assert table.channels.tolist() == [1, 2, 1]
    assert np.isnan(table.variance_explained[1])


def test_incomplete_pairs_are_refused():
    scene, scale = paired(5)
    features = np.arange(len(scene), dtype=float)[:, None]
    with pytest.raises(DataError, match="exactly once at every scale"):
        variance_explained_by_scale({"tap": features[1:]}, scene[1:], scale[1:])
    with pytest.raises(DataError, match="exactly once at every scale"):
        variance_explained_by_scale({"tap": features}, scene, np.full(len(scene), 0.5))
    with pytest.raises(DataError, match="one entry per image"):
        variance_explained_by_scale({"tap": features}, scene, scale[1:])
    with pytest.raises(DataError, match="exactly once at every scale"):
        variance_explained_by_scale({"tap": features}, scene, scale, within=scene == 0)  # one scene alone
    with pytest.raises(DataError, match="finite"):
        variance_explained_by_scale({"tap": np.full((len(scene), 1), np.nan)}, scene, scale)
