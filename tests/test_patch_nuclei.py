"""Nuclei drawn over patches and measured by several rules: against exact shapes, and against the labels of patches."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from scalelib.errors import DataError
from scalelib.slides.collections import load_monuseg
from scalelib.slides.nuclei import Outlines, areas_in_mask, covered, outlines, polygon_area
from scalelib.slides.patches import MAGNIFICATIONS, PatchImages, SlideSource, areas_in_patch, slide_patches
from studies.s01_datasets import (
    COUNTED,
    CUT,
    RULES,
    SMALL,
    areas_by_rule,
    measure_by_rule,
    nuclei_in_patch,
    rule_summary,
    slide_nuclei,
    zoom_series,
)

PINK = (200, 120, 180)


def disc(x: float, y: float, radius: float, n: int = 240) -> np.ndarray:
    turn = np.arange(n) * 2 * math.pi / n
    return np.stack([x + radius * np.cos(turn), y + radius * np.sin(turn)], axis=1)


def scattered(seed: int = 0, side: int = 1024, pitch: int = 64) -> Outlines:
    rng = np.random.default_rng(seed)
    places = np.stack(np.meshgrid(*[np.arange(pitch // 2, side, pitch)] * 2), axis=-1).reshape(-1, 2)
    return outlines([disc(*(place + rng.uniform(-8, 8, 2)), rng.uniform(8, 20)) for place in places])


def dataset(*, nuclei: Outlines | Path, side: int = 1024, size: int = 96, slides: int = 3, **options: object):
    splits = ["train", "validation", "test", "train"][:slides]
    sources = [
        SlideSource(f"s{i}", np.full((side, side, 3), PINK, np.uint8), nuclei, f"s{i}", split, power=40.0)
        for i, split in enumerate(splits)
    ]
    return slide_patches(sources, name="t", size=size, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("radius", [3.3, 17.0])
def test_grid_points_inside_a_disc_are_those_within_its_radius(radius):
    x, y = np.arange(-20, 20.0), np.arange(-25, 25.0)
    inside = covered(disc(0.21, -0.37, radius, n=4000), x, y)
    distance = np.hypot(x[None] - 0.21, y[:, None] + 0.37)
    sure = np.abs(distance - radius) > 1e-3
    np.testing.assert_array_equal(inside[sure], (distance < radius)[sure])


@pytest.mark.parametrize("magnification", MAGNIFICATIONS)
def test_counted_nuclei_are_those_of_the_label(magnification):
    nuclei, factor = scattered(), 40 / magnification
    polygons, states = nuclei_in_patch(nuclei, 100, 37, 96, factor=factor)
    drawn = [polygon_area(p) for p, state in zip(polygons, states, strict=True) if state == COUNTED]
    label = areas_in_patch(nuclei, 100, 37, 96, factor=factor)
    np.testing.assert_allclose(np.sort(drawn), np.sort(label), rtol=1e-9)


def test_each_nucleus_has_one_state_and_those_outside_are_not_drawn():
    nuclei = outlines([disc(40, 40, 10), disc(0, 40, 10), disc(70, 70, 1.5), disc(300, 40, 10)])
    polygons, states = nuclei_in_patch(nuclei, 0, 0, 48, factor=2.0)
    assert states == [COUNTED, CUT, SMALL]
    np.testing.assert_allclose(polygons[0].mean(axis=0), [20, 20], atol=1e-9)


def test_a_mask_is_traced_to_outlines_that_give_it_back(tmp_path):
    grey = np.zeros((200, 200), np.uint8)
    yy, xx = np.mgrid[:200, :200]
    for x, y, radius in ((50, 60, 18), (140, 60, 9), (0, 150, 20), (120, 150, 25)):
        grey[np.hypot(xx - x, yy - y) < radius] = 255
    Image.fromarray(grey).save(tmp_path / "mask.png")
    traced = slide_nuclei(tmp_path / "mask.png")
    assert len(traced) == 4
    back = np.zeros((200, 200), bool)
    for polygon in traced.polygons:
        back |= covered(polygon, np.arange(200) + 0.5, np.arange(200) + 0.5)
    np.testing.assert_array_equal(back, grey > 0)
    np.testing.assert_allclose(
        np.sort(traced.areas)[1:], np.sort(areas_in_mask(grey, border="clip"))[1:], rtol=0.03
    )


@pytest.mark.parametrize("factor", [1.0, 4 / 3, 2.0, 8 / 3, 4.0, 5.0])
def test_rules_agree_for_nuclei_that_neither_touch_nor_meet_the_border(factor):
    nuclei = outlines([disc(x, y, 30.0) for x in (90, 220, 350) for y in (90, 220, 350)])
    found = areas_by_rule(nuclei, 8, 8, int(432 / factor), factor=factor)
    exact = polygon_area(disc(0, 0, 30.0)) / factor**2
    for rule, areas in found.items():
        assert len(areas) == 9, rule
        bound = 1e-9 if rule in {"clear", "clip", "centre"} else 0.05
        assert areas.mean() == pytest.approx(exact, rel=bound), rule


def test_only_the_mask_joins_nuclei_that_touch():
    pair = outlines([disc(40, 40, 12), disc(63, 40, 12), disc(110, 110, 12)])
    found = {rule: len(areas) for rule, areas in areas_by_rule(pair, 0, 0, 160, factor=1.0).items()}
    assert found == {"clear": 3, "clip": 3, "centre": 3, "mask": 2, "pixels": 3}


def test_the_reference_rule_is_unbiased_where_the_papers_favours_small_nuclei():
    nuclei = scattered(seed=3, side=2048)
    middle = (nuclei.boxes[:, :2] + nuclei.boxes[:, 2:]) / 2
    truth = nuclei.areas[((middle >= 200) & (middle < 1800)).all(axis=1)].mean()
    rules: dict[str, list[np.ndarray]] = {"centre": [], "clear": [], "clip": []}
    for x in range(200, 1800, 80):
        for y in range(200, 1800, 80):
            found = areas_by_rule_of_borders(nuclei, x, y)
            for rule, areas in found.items():
                rules[rule].append(areas)
    means = {rule: np.concatenate(areas).mean() for rule, areas in rules.items()}
    assert means["centre"] == pytest.approx(truth, rel=1e-9)
    assert means["clear"] < 0.95 * truth
    assert means["clip"] < means["clear"]


def areas_by_rule_of_borders(nuclei: Outlines, x: int, y: int) -> dict[str, np.ndarray]:
    middle = (nuclei.boxes[:, :2] + nuclei.boxes[:, 2:]) / 2
    inside = ((middle >= (x, y)) & (middle < (x + 80, y + 80))).all(axis=1)
    found = areas_by_rule(nuclei, x, y, 80, factor=1.0)
    np.testing.assert_allclose(found["centre"], nuclei.areas[inside])
    return {rule: found[rule] for rule in ("centre", "clear", "clip")}


def test_measured_rows_hold_the_labels_of_the_dataset_and_every_rule():
    data = dataset(nuclei=scattered(), magnifications=[5, 40])
    measured = measure_by_rule(data.images, data.table, per_slide=2)
    assert set(measured.rule) == set(RULES)
    assert measured.groupby(["slide", "magnification", "rule"]).size().max() == 2
    clear = measured[measured.rule == "clear"].merge(data.table, on="image", suffixes=("", "_label"))
    assert len(clear) == measured.image.nunique()
    np.testing.assert_allclose(clear.mean_area_px, clear.mean_area_px_label)
    np.testing.assert_allclose(clear.mean_area_um2, clear.mean_area_um2_label)
    again = measure_by_rule(data.images, data.table, per_slide=2)
    pd.testing.assert_frame_equal(measured, again)


def test_summary_is_the_geometric_mean_of_the_slides_ratios():
    rows = [
        {"image": f"{slide}{i}", "slide": slide, "magnification": 5.0, "rule": rule, "n_nuclei": 1, "mean_area_um2": area}
        for slide, ratio in (("a", 2.0), ("b", 8.0))
        for i in range(2)
        for rule, area in (("centre", 10.0 + i), ("mask", ratio * (10.0 + i)))
    ]  # fmt: skip
    found = rule_summary(pd.DataFrame(rows)).set_index("rule")
    assert found.ratio.to_dict() == pytest.approx({"centre": 1.0, "mask": 4.0})
    assert found.slides.tolist() == [2, 2]
    assert found.loc["mask", "low"] < 4 < found.loc["mask", "high"]
    with pytest.raises(DataError, match="no rule"):
        rule_summary(pd.DataFrame(rows), reference="other")


class TestZoomSeries:
    def test_one_centre_at_every_magnification_and_fields_that_shrink(self):
        data = dataset(nuclei=scattered(), magnifications=[5, 10, 20, 40])
        series = zoom_series(data.images, data.table)
        assert [region.magnification for region in series] == [5, 10, 20, 40]
        assert all(region.centred and region.image.shape == (96, 96, 3) for region in series)
        np.testing.assert_allclose([region.mpp for region in series], [2.0, 1.0, 0.5, 0.25])
        by_mpp = [
            {tuple(np.round((p.mean(axis=0) - 48) * region.mpp, 1)) for p in region.nuclei}
            for region in series
        ]
        near = [{place for place in places if np.hypot(*place) < 8} for places in by_mpp]
        assert near[0]
        assert {len(places) for places in near} == {len(near[0])}

    def test_a_field_that_fits_about_no_patch_is_moved_and_says_so(self):
        corner = outlines([disc(30 + 40 * i, 30, 10) for i in range(4)])
        data = dataset(nuclei=corner, side=800, magnifications=[5, 40], min_area=1)
        series = zoom_series(data.images, data.table)
        assert [region.centred for region in series] == [False, True]

    def test_patches_of_no_known_nuclei_are_refused(self):
        data = dataset(nuclei=scattered(), magnifications=[40])
        bare = PatchImages(data.images.openers, data.table, 96)  # type: ignore[union-attr]
        with pytest.raises(DataError, match="nuclei"):
            zoom_series(bare, data.table)
        with pytest.raises(DataError, match="nuclei"):
            measure_by_rule(bare, data.table)


@pytest.mark.data
@pytest.mark.slow
def test_touching_nuclei_of_real_tissue_make_masks_read_larger_at_low_magnification(monuseg_root):
    data = load_monuseg(monuseg_root.parent, magnifications=[5, 40], max_per_slide=2)
    found = rule_summary(measure_by_rule(data.images, data.table, per_slide=2)).set_index(
        ["rule", "magnification"]
    )
    assert found.low["mask", 5.0] > 1.5
    assert found.ratio["pixels", 5.0] == pytest.approx(found.ratio["clear", 5.0], rel=0.06)
    assert found.high["clip", 40.0] < 0.9
