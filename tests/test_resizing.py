"""Size and scale changed apart, and measures whose value is known by construction."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from scalelib.errors import DataError
from studies.s02_resizing import (
    activations_by_factor,
    cosine_to_reference,
    predictions_by_factor,
    reframe,
    reframe_all,
    total_variation,
    variance_by_factor,
)
from studies.s03_noise import noise_field

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
    boxes = pd.DataFrame([box], columns=["box_x0", "box_y0", "box_x1", "box_y1"])
    pictures, _ = reframe_all([image], boxes, manipulation=manipulation, factor=factor, size=100, share=0.4)
    exponent = np.log2(factor)  # the table's factors are those for a factor of 2
    assert pictures.shape[1] == round(100 * canvas**exponent)
    assert white_side(pictures[0]) == pytest.approx(40 * object_px**exponent, abs=1.5)


@pytest.mark.parametrize("manipulation", ["zoom", "share", "canvas"])
def test_factor_one_is_the_same_window_for_every_manipulation(manipulation):
    image, box = square_scene()
    boxes = pd.DataFrame([box], columns=["box_x0", "box_y0", "box_x1", "box_y1"])
    pictures, _ = reframe_all([image], boxes, manipulation=manipulation, factor=1.0, size=80)
    np.testing.assert_array_equal(pictures[0], reframe(image, box, size=80)[0])


def test_padding_is_measured_and_has_the_mean_colour():
    image, _ = square_scene()
    picture, padded = reframe(image, (0, 0, 40, 40), size=100, share=0.4, interpolation="nearest")
    # a window of 100 px around (20, 20): rows and columns from −30 to 70
    assert padded == pytest.approx(1 - 0.7**2)
    assert (picture[:29] == round(image.mean())).all()


def test_aliasing_appears_without_the_filter_and_not_with_it():
    """Stripes two pixels apart, shrunk fourfold: grey where filtered, contrast where not."""
    stripes = np.repeat(np.where(np.arange(254) % 2, 255, 0).astype(np.uint8)[None, :, None], 254, axis=0)
    image = np.repeat(stripes, 3, axis=2)
    filtered = reframe(image, size=64)[0].astype(float)
    aliased = reframe(image, size=64, antialias=False)[0].astype(float)
    assert filtered[4:-4, 4:-4].std() < 5 < 30 < aliased[4:-4, 4:-4].std()


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


def test_invariant_function_keeps_predictions_and_covariant_one_loses_them():
    pictures = resized_noise()
    thresholds = {"mean level": (mean_level, 128.0), "edge density": (edge_density, None)}
    agreement = {}
    for name, (function, threshold) in thresholds.items():
        cut = threshold if threshold is not None else float(np.median(function(pictures[1.0])))
        acts = {k: {"softmax": two_class(function(values) - cut)} for k, values in pictures.items()}
        agreement[name] = predictions_by_factor(acts).set_index("factor").agreement
    assert (agreement["mean level"] > 0.95).all()
    assert agreement["edge density"][2.0] == pytest.approx(0.5, abs=0.1)


def two_class(score):
    return np.hstack([score > 0, score <= 0]).astype(float)


def test_activations_without_a_common_scene_effect_score_near_zero_variance():
    """Noise that knows neither image nor factor: the expected share is (k − 1) / (n k − 1)."""
    rng = np.random.default_rng(0)
    acts = {k: {"tap": rng.normal(size=(200, 50))} for k in FACTORS}
    expected = (len(FACTORS) - 1) / (200 * len(FACTORS) - 1)
    assert variance_by_factor(acts).variance_explained.item() == pytest.approx(expected, rel=0.5)


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


def test_cosine_of_a_vanishing_activation_is_not_a_number():
    assert np.isnan(cosine_to_reference(np.ones((2, 3)), np.ones((2, 3)))).all()


def test_accuracy_leaves_unknown_labels_out():
    acts = {k: {"softmax": np.eye(4)} for k in (1.0, 2.0)}
    table = predictions_by_factor(acts, labels=np.array([0, 1, 3, -1]))
    assert table.accuracy.tolist() == pytest.approx([2 / 3, 2 / 3])


@pytest.mark.parametrize(("n", "agree"), [(40, 40), (40, 30), (10, 0)])
def test_interval_of_agreement_is_wilsons(n, agree):
    from scipy.stats import binomtest

    target = np.tile([1.0, 0.0], (n, 1))
    other = target.copy()
    other[agree:] = [0.0, 1.0]
    row = predictions_by_factor({1.0: {"softmax": target}, 2.0: {"softmax": other}}).iloc[1]
    expected = binomtest(agree, n).proportion_ci(method="wilson")
    assert (row.agreement_low, row.agreement_high) == pytest.approx((expected.low, expected.high), abs=1e-6)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda image: reframe(image, (10, 10, 10, 20), size=32), "box has an area"),
        (lambda image: reframe(image, (10, 10, 20, 20), size=32, share=0.0), "share is positive"),
        (lambda image: reframe_all([image], manipulation="resise", factor=1.0, size=32), "'resize'"),
        (lambda image: reframe_all([image], manipulation="share", factor=1.0, size=32), "needs the object"),
        (lambda image: activations_by_factor({0.5: {"a": np.eye(2)}, 2.0: {"a": np.eye(2)}}), "reference"),
        (
            lambda image: predictions_by_factor({1.0: {"a": np.eye(2)}, 2.0: {"a": np.eye(2)}}),
            "no tap 'softmax'",
        ),
    ],
)
def test_what_cannot_work_is_refused_by_name(call, words):
    with pytest.raises(DataError, match=words):
        call(square_scene()[0])
