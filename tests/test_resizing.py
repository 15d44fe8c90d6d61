"""Size and scale changed apart, the share of variance that scale explains, and measures whose value is known by construction."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from statsmodels.formula.api import ols as formula_ols

from studies.s02_resizing import (
    CORNERS,
    cosine_to_reference,
    reframe,
    reframe_all,
    total_variation,
    variance_by_factor,
    variance_explained_by_scale,
)
from studies.s03_noise import noise_field

SCALES = np.array([0.2, 0.3, 0.45, 0.85])
FACTORS = (0.25, 0.5, 1.0, 2.0)


def square_scene(side=200, box=(80, 80, 120, 120)):
    """A white square on a dark ground of one grey."""
    image = np.full((side, side, 3), 40, np.uint8)
    x0, y0, x1, y1 = box
    image[y0:y1, x0:x1] = 240
    return image, box


def white_side(picture):
    return np.sqrt((picture[..., 0] > 140).sum())


@pytest.mark.parametrize("share", [0.2, 0.4, 0.8])
@pytest.mark.parametrize("size", [48, 96])
def test_reframing_gives_the_object_the_share_and_the_canvas_that_were_asked_for(share, size):
    image, box = square_scene()
    picture, padded = reframe(image, box, size=size, share=share)
    assert picture.shape == (size, size, 3)
    assert white_side(picture) == pytest.approx(share * size, abs=1.0)
    assert padded == 0.0


@pytest.mark.parametrize(
    ("manipulation", "canvas", "object_px"),
    [
        ("resize", 2.0, 2.0),
        ("zoom", 2.0, 2.0),
        ("share", 1.0, 2.0),
        ("canvas", 2.0, 1.0),
        ("detail", 1.0, 1.0),
    ],
)
@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_each_manipulation_changes_what_its_table_says(manipulation, canvas, object_px, factor):
    image, box = square_scene(side=400, box=(120, 120, 280, 280))
    boxes = pd.DataFrame([box], columns=CORNERS)
    pictures, _ = reframe_all([image], boxes, manipulation=manipulation, factor=factor, size=100, share=0.4)
    exponent = np.log2(factor)  # the table's factors are those for a factor of 2
    assert pictures.shape[1] == round(100 * canvas**exponent)
    assert white_side(pictures[0]) == pytest.approx(40 * object_px**exponent, abs=1.5)


def test_padding_is_measured_and_has_the_mean_colour():
    image, _ = square_scene()
    picture, padded = reframe(image, (0, 0, 40, 40), size=100, share=0.4, interpolation="nearest")
    # a window of 100 px around (20, 20): rows and columns from −30 to 70
    assert padded == pytest.approx(1 - 0.7**2)
    assert (picture[:29] == round(image.mean())).all()


def resized_noise():
    """Noise of one process and of many brightnesses, at four sizes, through the notebooks' function."""
    rng = np.random.default_rng(0)
    images = [
        np.clip(128 + rng.uniform(-60, 60) + 20 * noise_field(128, torus=256, random_state=rng), 0, 255)
        for _ in range(24)
    ]
    images = [np.repeat(np.rint(image)[..., None], 3, axis=2).astype(np.uint8) for image in images]
    return {k: reframe_all(images, manipulation="resize", factor=k, size=64)[0] for k in FACTORS}


def mean_level(pictures):
    return pictures.mean(axis=(1, 2, 3), keepdims=True)[:, :, 0, 0].astype(np.float32)


def edge_density(pictures):
    return np.abs(np.diff(pictures[..., 0].astype(float), axis=1)).mean(axis=(1, 2))[:, None]


def test_invariant_function_scores_zero_and_covariant_one():
    """Mean level does not notice resizing; edge density per pixel notices hardly anything else."""
    acts = {
        k: {"mean level": mean_level(pictures), "edge density": edge_density(pictures)}
        for k, pictures in resized_noise().items()
    }
    share = variance_by_factor(acts).set_index("tap").variance_explained
    assert share["mean level"] < 0.01
    assert share["edge density"] > 0.95


def test_total_variation_is_the_largest_difference_over_events():
    rng = np.random.default_rng(0)
    p, q = rng.dirichlet(np.ones(6), size=(2, 20))
    events = np.array([[i >> bit & 1 for bit in range(6)] for i in range(64)])
    expected = (p @ events.T - q @ events.T).max(axis=1)
    np.testing.assert_allclose(total_variation(p, q), expected, atol=1e-12)


def test_cosine_of_unrelated_images_is_zero_although_activations_are_positive():
    rng = np.random.default_rng(0)
    values, other = rng.exponential(size=(2, 400, 64))
    assert np.mean(cosine_to_reference(values, other)) == pytest.approx(0.0, abs=0.02)
    np.testing.assert_allclose(cosine_to_reference(other, other), 1.0)
    assert np.isnan(cosine_to_reference(np.ones((2, 3)), np.ones((2, 3)))).all()


# Share of variance explained by scale


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


def test_within_classes_the_variance_between_them_does_not_count():
    scene, scale = paired(12)
    label = np.where(scene % 3 == 0, "a", "b")
    a, b = np.random.default_rng(6).standard_normal(12)[scene], np.sqrt(scale)
    features = (a + b + 100 * (label == "a"))[:, None]
    table = variance_explained_by_scale({"tap": features}, scene, scale, within=label)
    expected = [b.var() / (a[label == k].var() + b.var()) for k in "ab"]
    assert table.variance_explained.item() == pytest.approx(np.mean(expected), rel=1e-9)
    assert share(features, scene, scale) < 0.01
    opposite = (np.where(label == "a", 1.0, -1.0) * (scale - SCALES.mean()))[:, None]
    table = variance_explained_by_scale({"tap": opposite}, scene, scale, within=label)
    assert table.variance_explained.item() == pytest.approx(1, abs=1e-12)
