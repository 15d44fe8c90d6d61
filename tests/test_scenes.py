"""Rendered scenes: shapes against closed forms, exact boxes, one change at a time, and no scale in the pixel statistics."""

from __future__ import annotations

import numpy as np
import pytest
from built import scenes
from scipy import stats
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from scalelib.errors import DataError
from studies.rendered.scenes import (
    CLASSES,
    SCALES,
    SHAPES,
    coverage,
    half_extents,
    render_paired_scenes,
    render_scenes,
)

BOX = ["box_x0", "box_y0", "box_x1", "box_y1"]


@pytest.fixture(scope="module")
def many():
    return scenes()


@pytest.fixture(scope="module")
def pairs():
    return render_paired_scenes(40, scales=[0.2, 0.45, 0.85], random_state=77)


def masks_of(dataset) -> np.ndarray:
    """Share of each pixel that the object of each scene covers."""
    names = dataset.table[["object_class", "rotation"]].itertuples(index=False)
    boxes = dataset.table[BOX].to_numpy()
    size = dataset.images.shape[1]
    return np.stack([coverage(*name, box, size) for name, box in zip(names, boxes, strict=True)])


def held_out_r2(features: np.ndarray, measure: np.ndarray) -> float:
    """By scikit-learn's ridge on folds of unseen images; no regression of ours in it."""
    ridge = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-3, 6, 19)))
    return cross_val_score(ridge, features, measure, cv=KFold(5, shuffle=True, random_state=0)).mean()


def pixel_statistics(images: np.ndarray) -> dict[str, np.ndarray]:
    x = images.astype(np.float64) / 255
    grey = x.mean(axis=-1)
    across, down = np.diff(grey, axis=2), np.diff(grey, axis=1)
    gradients = np.stack([np.mean(d**p, axis=(1, 2)) for d in (abs(across), abs(down)) for p in (1, 2)], 1)
    each = {"mean colour": x.mean(axis=(1, 2)), "deviation": x.std(axis=(1, 2)), "gradients": gradients}
    return each | {"all": np.concatenate(list(each.values()), axis=1)}


# Shapes


ROTATIONS = (-30.0, -11.0, 0.0, 19.0, 30.0)


def lens(r: float, d: float) -> float:
    """Area that a unit circle and one of radius r share, centres d apart."""
    a = np.arccos((d * d + 1 - r * r) / (2 * d))
    b = np.arccos((d * d + r * r - 1) / (2 * d * r))
    return a + r * r * b - d * np.sin(a)


def pentagram() -> tuple[float, float]:
    """Area, and area of the upright box, of a pentagram in a unit circle."""
    inner = (3 - np.sqrt(5)) / 2
    width, height = 2 * np.sin(2 * np.pi / 5), 1 + np.cos(np.pi / 5)
    return 5 * inner * np.sin(np.pi / 5), width * height


# Share of the upright box that a shape fills, from elementary geometry.
FILL = {
    "disc": np.pi / 4,
    "ring": np.pi / 4 * (1 - 0.5**2),
    "square": 1.0,
    "triangle": 0.5,
    "star": pentagram()[0] / pentagram()[1],
    "cross": 1 - 0.68**2,
    "crescent": (np.pi - lens(0.8, 0.5)) / (2 * 1.61),
    "heart": (4 + np.pi) / ((2 + np.sqrt(2)) * (1 + np.sqrt(0.5) + np.sqrt(2))),
    "arrow": (0.9 + 0.56) / (1.8 * 2),
    "hourglass": (0.2 + 0.8) * 2 / (1.8 * 2),
}


@pytest.mark.parametrize("name", CLASSES)
def test_box_encloses_the_rotated_shape_tightly(name):
    grid = np.linspace(-2, 2, 1001)
    x, y = np.meshgrid(grid, grid)
    inside = SHAPES[name].distance(x, y) <= 0
    points = np.stack([x[inside], y[inside]])
    for rotation in ROTATIONS:
        a = np.deg2rad(rotation)
        turned = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]) @ points
        centre, half = half_extents(name, rotation)
        np.testing.assert_allclose(turned.min(axis=1), centre - half, atol=0.015)
        np.testing.assert_allclose(turned.max(axis=1), centre + half, atol=0.015)


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("rotation", [0.0, 23.0])
def test_coverage_adds_up_to_the_area_known_from_geometry(name, rotation):
    _, upright = half_extents(name, 0.0)
    _, half = half_extents(name, rotation)
    box = (20.3, 10.7, 20.3 + 60 * half[0], 10.7 + 60 * half[1])  # 30 px to the unit
    expected = FILL[name] * 4 * upright.prod() * 30**2
    assert coverage(name, rotation, box, 160).sum() == pytest.approx(expected, rel=5e-3)


# Boxes, masks and measures


@pytest.mark.parametrize("size", [32, 64, 128])
def test_measures_follow_from_the_box_as_in_voc(size):
    table = render_scenes(60, size=size, classes=["star", "ring"], random_state=3).table
    assert set(table.object_class) == {"star", "ring"}
    width, height = table.box_x1 - table.box_x0, table.box_y1 - table.box_y0
    np.testing.assert_allclose(table.area_ratio, width * height / size**2)
    np.testing.assert_allclose(table.sqrt_area_ratio, np.sqrt(table.area_ratio))
    np.testing.assert_allclose(table.sqrt_area_ratio, table.scale, rtol=1e-9)
    np.testing.assert_allclose(table.box_width_ratio, width / size)
    np.testing.assert_allclose(table.box_height_ratio, height / size)
    assert table[BOX].min().min() >= 0
    assert table[BOX].max().max() <= size


def test_the_mask_fills_its_box_and_nothing_outside(many):
    few = many.select(np.arange(200))
    masks = masks_of(few)
    for mask, (x0, y0, x1, y1) in zip(masks, few.table[BOX].to_numpy(), strict=True):
        rows, columns = np.flatnonzero((mask > 0.5).any(axis=1)), np.flatnonzero((mask > 0.5).any(axis=0))
        over = np.array([x0 - columns[0], y0 - rows[0], columns[-1] + 1 - x1, rows[-1] + 1 - y1])
        assert over.max() <= 0.5  # a pixel counts when its centre is inside
        assert over.min() >= -2.2  # the tips of a star are narrower than a pixel
    np.testing.assert_allclose(masks.sum(axis=(1, 2)), few.table.mask_area, rtol=1e-5)


def test_the_pixels_change_inside_the_masks_alone(pairs):
    """Independent of the mask's code: outside both objects, two images of a scene differ by gain and offset."""
    masks, images = masks_of(pairs) > 0, pairs.images.astype(float)
    changed = 0
    for scene, rows in pairs.table.groupby("scene").indices.items():
        a, b = images[rows[0]], images[rows[1]]
        object_area = masks[rows[0]] | masks[rows[1]]
        clipped = ((a == 0) | (a == 255) | (b == 0) | (b == 255)).any(axis=-1)
        outside, inside = ~object_area & ~clipped, object_area & ~clipped
        gain, offset = np.polyfit(a[outside].ravel(), b[outside].ravel(), 1)
        assert np.abs(gain * a[outside] + offset - b[outside]).max() < 2.5, scene
        changed += np.abs(gain * a[inside] + offset - b[inside]).mean() > 5
    assert changed > 0.9 * pairs.table.scene.nunique()


def test_paired_scenes_share_everything_but_scale(pairs):
    table = pairs.table.assign(
        x=(pairs.table.box_x0 + pairs.table.box_x1) / 2, y=(pairs.table.box_y0 + pairs.table.box_y1) / 2
    )
    scenes = table.groupby("scene")
    assert (scenes[["object_class", "rotation"]].nunique() == 1).all().all()
    assert np.ptp(table[["x", "y"]].to_numpy().reshape(40, 3, 2), axis=1).max() < 1e-9
    assert table.scale.tolist() == [0.2, 0.45, 0.85] * 40
    shape = (table.mask_area / table.area_ratio).to_numpy().reshape(40, 3)
    np.testing.assert_allclose(shape[:, 1], shape[:, 2], rtol=0.02)  # the same silhouette, larger
    assert len(set(table.image)) == len(table)


# Seeds


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not():
    a, b, c = (render_scenes(6, random_state=seed) for seed in (4, 4, 5))
    assert a.images.tobytes() == b.images.tobytes()
    assert a.digest == b.digest != c.digest
    assert a.source.endswith("(MIT licence)")
    assert not (a.images == c.images).all(axis=(1, 2, 3)).any()


def test_a_scene_does_not_depend_on_how_many_there_are():
    few, more = render_scenes(3, random_state=9), render_scenes(8, random_state=9)
    np.testing.assert_array_equal(few.images, more.images[:3])
    assert few.table.equals(more.table[:3])
    one, two = render_paired_scenes(1, scales=[0.4]), render_paired_scenes(2, scales=[0.4])
    np.testing.assert_array_equal(one.images, two.images[:1])


# Distribution


def test_scale_is_log_uniform_and_independent_of_class(many):
    low, high = np.log(SCALES)
    rank = (np.log(many.table.scale) - low) / (high - low)
    assert stats.kstest(rank, "uniform").pvalue > 1e-3
    groups = [rank[many.table.object_class == name] for name in CLASSES]
    assert stats.kruskal(*groups).pvalue > 1e-3
    counts = many.table.object_class.value_counts()
    assert counts.max() - counts.min() <= 1


# Leaks


def test_pixel_statistics_do_not_tell_scale(many):
    scale = many.table.sqrt_area_ratio.to_numpy()
    for name, features in pixel_statistics(many.images).items():
        assert held_out_r2(features, scale) <= 0.1, name


def test_the_same_statistics_do_tell_scale_where_nothing_hides_it():
    """Without decoys, and on masks alone: the check above can fail."""
    bare = render_scenes(1000, distractors=0, random_state=515)
    assert held_out_r2(pixel_statistics(bare.images)["all"], bare.table.scale.to_numpy()) > 0.3
    masks = (masks_of(bare)[..., None] * 255).repeat(3, axis=-1)
    assert held_out_r2(pixel_statistics(masks)["all"], bare.table.scale.to_numpy()) > 0.8


# Refusals


@pytest.mark.parametrize(
    ("call", "options", "words"),
    [
        (render_scenes, {"classes": ["sqare"]}, "'square'"),
        (render_scenes, {"classes": []}, "at least one"),
        (render_scenes, {"scales": (0.2, 1.2)}, "0.05 to 0.85"),
        (render_scenes, {"scales": []}, "0.05 to 0.85"),
        (render_scenes, {"scales": [float("nan")]}, "0.05 to 0.85"),
        (render_scenes, {"scales": (0.6, 0.3)}, "smaller end first"),
        (render_paired_scenes, {"scales": [0.9]}, "0.05 to 0.85"),
        (render_paired_scenes, {"scales": [0.3, 0.3]}, "every scale comes once"),
    ],
)
def test_wrong_options_are_refused_by_name(call, options, words):
    with pytest.raises(DataError, match=words) as caught:
        call(3, **options)
    assert str(caught.value).startswith(f"{call.__name__}: ")
    assert "Received:" in str(caught.value)
