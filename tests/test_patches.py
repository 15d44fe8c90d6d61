"""Patches: labels against exact areas at every magnification, borders, splits, streaming and the cache."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from skimage.filters import threshold_otsu

from scalelib.errors import DataError, ResultsError
from scalelib.slides.collections import load_bca, load_monuseg
from scalelib.slides.nuclei import Outlines, areas_in_mask, outlines, polygon_area, read_outlines
from scalelib.slides.patches import (
    MAGNIFICATIONS,
    SPLITS,
    SlideSource,
    areas_in_patch,
    cache_patches,
    check_splits,
    count_table,
    draw_groups,
    patch_positions,
    slide_patches,
    tissue_mask,
)
from scalelib.slides.slide import open_slide
from studies.rendered.slide import render_slide

PINK = (220, 140, 190)


def ellipse(x: float, y: float, a: float, b: float, angle: float = 0.0, n: int = 200) -> np.ndarray:
    turns = 2 * math.pi * np.arange(n) / n
    u, v = a * np.cos(turns), b * np.sin(turns)
    return np.stack(
        [x + u * math.cos(angle) - v * math.sin(angle), y + u * math.sin(angle) + v * math.cos(angle)], axis=1
    )


def field_of_ellipses(seed: int = 0, side: int = 1024, pitch: int = 80) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    steps = np.arange(pitch // 2, side - pitch // 2, pitch)
    centers = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)
    return [
        ellipse(x + rng.uniform(-4, 4), y + rng.uniform(-4, 4), *rng.uniform(12, 22, 2), rng.uniform(0, 3))
        for x, y in centers
    ]


def painted(polygons: list[np.ndarray], side: int = 1024) -> np.ndarray:
    """A mask, four times finer than the slide and then averaged: no pixel is shifted by rounding."""
    mask = Image.new("L", (4 * side, 4 * side))
    draw = ImageDraw.Draw(mask)
    for polygon in polygons:
        draw.polygon([tuple(p) for p in polygon * 4 - 0.5], fill=255)
    return np.asarray(mask.reduce(4))


def source(nuclei: Outlines | Path, slide: str = "a", split: str = "train", **options: object) -> SlideSource:
    pixels = options.pop("image", np.full((1024, 1024, 3), PINK, np.uint8))
    return SlideSource(slide, pixels, nuclei, slide, split, **{"power": 40.0, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize("magnification", MAGNIFICATIONS)
def test_outlines_give_the_exact_mean_area_at_every_magnification(magnification):
    polygons = field_of_ellipses()
    table = slide_patches(
        [source(outlines(polygons))], name="t", size=96, magnifications=[magnification]
    ).table
    factor = 40 / magnification
    for row in table.itertuples():
        inside = [
            polygon_area(p) / factor**2
            for p in polygons
            if (p > (row.x, row.y)).all() and (p < (row.x + 96 * factor, row.y + 96 * factor)).all()
        ]
        assert row.n_nuclei == len(inside)
        assert row.mean_area_px == pytest.approx(np.mean(inside), rel=1e-12)
        assert row.mean_area_um2 == pytest.approx(row.mean_area_px * (0.25 * factor) ** 2, rel=1e-12)


@pytest.mark.parametrize("magnification", MAGNIFICATIONS)
def test_masks_agree_with_outlines_within_the_discretisation_error(magnification):
    """Mean area from pixels against exact polygons: 10 % at 5X (nuclei of 16 px), 1.5 % from 20X on."""
    polygons = field_of_ellipses()
    with open_slide(np.repeat(painted(polygons)[..., None], 3, axis=2), power=40) as mask:
        size = int(1024 * magnification / 40)
        counted = areas_in_mask(mask.read(0, 0, size, magnification=magnification)[..., 0])
    exact = areas_in_patch(outlines(polygons), 0, 0, size, factor=40 / magnification)
    assert len(counted) == len(exact) == 144
    bound = 0.10 if magnification <= 8 else 0.03 if magnification < 20 else 0.015
    assert counted.mean() == pytest.approx(exact.mean(), rel=bound)


@pytest.fixture(scope="module")
def rendered(tmp_path_factory) -> SlideSource:
    slide = render_slide(tmp_path_factory.mktemp("slide") / "s.svs", size=1024)
    assert np.allclose(np.sort(read_outlines(slide.outlines_path).areas), np.sort(slide.areas), rtol=1e-4)
    return SlideSource("s", slide.path, slide.outlines_path, "s", "train")


@pytest.mark.parametrize("magnification", MAGNIFICATIONS)
def test_rendered_nuclei_have_their_stated_area_in_outlines_and_pixels(rendered, magnification):
    factor = 40 / magnification
    table = slide_patches([rendered], name="t", size=64, magnifications=[magnification]).table
    mean = np.average(table.mean_area_px, weights=table.n_nuclei) * factor**2
    with rendered.open() as opened:
        pixels = opened.read(0, 0, int(1024 / factor), magnification=magnification)
    tissue = tissue_mask(pixels)
    dark = (pixels[..., 0] <= threshold_otsu(pixels[tissue][:, 0])) & tissue
    areas = read_outlines(rendered.nuclei).areas
    assert dark.sum() * factor**2 == pytest.approx(areas.sum(), rel=0.15 if magnification <= 10 else 0.06)
    assert mean == pytest.approx(areas.mean(), rel=0.15)  # border rule favours small ones


def test_border_rules_leave_out_or_clip_what_the_border_cuts():
    cut, whole = ellipse(0, 48, 20, 20), ellipse(48, 48, 10, 20)
    nuclei = outlines([cut, whole])
    image = np.full((96, 96, 3), PINK, np.uint8)
    for border, expected in (("clear", [whole]), ("clip", [whole, cut])):
        one = SlideSource("a", image, nuclei, "a", "train", power=40)
        table = slide_patches([one], name="t", size=96, magnifications=[40], border=border).table
        shares = [polygon_area(p) * (0.5 if p is cut else 1) for p in expected]
        assert table.mean_area_px.item() == pytest.approx(np.mean(shares), rel=1e-9)


def test_magnifications_may_come_one_by_one():
    sources = [source(outlines(field_of_ellipses()), name) for name in "ab"]
    found = slide_patches(sources, name="t", size=128, magnifications=iter([40.0, 20.0])).table
    assert found.groupby("slide").magnification.nunique().to_dict() == {"a": 2, "b": 2}


def test_background_is_left_out_and_counted():
    image = np.full((256, 256, 3), 245, np.uint8)
    image[:, :128] = PINK
    nuclei = outlines([ellipse(x, y, 10, 10) for x in (32, 96, 160, 224) for y in (32, 96, 160, 224)])
    one = SlideSource("a", image, nuclei, "a", "train", power=40)
    found = slide_patches([one], name="t", size=64, magnifications=[40])
    assert len(found.table) == 8
    assert found.excluded == {"background": 8}


def test_nuclei_outside_the_image_are_counted_and_slides_without_nuclei_too():
    far, near = outlines([ellipse(5000, 50, 10, 10), ellipse(50, 50, 10, 10)]), outlines([])
    found = slide_patches([source(far), source(near, slide="b")], name="t", size=128, magnifications=[40])
    assert len(found.table) == 1
    assert (found.excluded["outside_slide"], found.excluded["slides_without_nuclei"]) == (1, 1)


FIELD = outlines(field_of_ellipses())


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda folder: slide_patches([source(FIELD)], name="t", border="keep"), "border rule"),
        (lambda folder: slide_patches([source(FIELD)], name="t", layout="rows"), "layout is"),
        (lambda folder: slide_patches([source(FIELD)], name="t"), "patches of up to 128 px fit"),
        (lambda folder: slide_patches([source(FIELD, power=20.0)], name="t", size=64), "Upsampling"),
        (lambda folder: slide_patches([source(outlines([]))], name="t", size=64), "no patch of t has tissue"),
        (lambda folder: check_splits(["a", "a"], ["p", "p"], ["train", "train"]), "occurs once"),
        (lambda folder: check_splits(["a", "b"], ["p", "p"], ["train", "test"]), "lie in one split"),
        (lambda folder: draw_groups(["only"], 1), "never divided"),
        (lambda folder: load_monuseg(folder), "no folder"),
        (lambda folder: load_bca(folder), r"no \*_original"),
    ],
)
def test_patches_splits_and_collections_that_cannot_be_are_refused(tmp_path, use, message):
    with pytest.raises(DataError, match=message):
        use(tmp_path)


def test_a_mask_of_another_size_than_its_slide_is_refused(tmp_path):
    Image.new("L", (512, 1024)).save(tmp_path / "mask.png")
    with pytest.raises(DataError, match="512×1024 for 1024×1024"):
        slide_patches([source(tmp_path / "mask.png")], name="t", size=64)


def test_all_magnifications_of_a_slide_lie_in_its_split_and_counts_add_up():
    sources = [source(FIELD, slide=part, split=part) for part in SPLITS]
    found = slide_patches(sources, name="t", size=96)
    assert (found.table.groupby("slide").split.nunique() == 1).all()
    counts = count_table(found.table)
    assert list(counts.index) == ["train", "validation", "test", "total"]
    assert counts.loc["total", "total"] == len(found.table) == counts.iloc[:3, :7].to_numpy().sum()
    assert counts.columns[0] == "5X"


@pytest.mark.parametrize("magnification", MAGNIFICATIONS)
@pytest.mark.parametrize("side", [1000, 1024, 1111])
def test_cover_reaches_every_pixel_and_grid_never_overlaps(magnification, side):
    slide = open_slide(np.zeros((side, side, 3), np.uint8), power=40)
    extent = 96 * 40 / magnification
    for layout in ("grid", "cover"):
        seen = np.zeros((side, side), int)
        for x, y in patch_positions(slide, 96, magnification, layout=layout):
            seen[y : math.ceil(y + extent), x : math.ceil(x + extent)] += 1
            slide.read(x, y, 96, magnification=magnification)
        assert (seen.max() == 1) if layout == "grid" else (seen[:-1, :-1].min() >= 1)


def test_draws_of_groups_and_patches_are_seeded_and_bounded():
    assert draw_groups(list("abcdef"), 3, random_state=1) == draw_groups(list("fedcba"), 3, random_state=1)
    options = {"name": "t", "size": 64, "magnifications": [20, 40], "max_per_slide": 10}
    one, same, other = (slide_patches([source(FIELD)], random_state=s, **options) for s in (0, 0, 1))
    assert one.table.groupby("magnification").size().tolist() == [10, 10]
    assert one.digest == same.digest != other.digest
    assert one.excluded["beyond_max_per_slide"] > 0


def test_cached_patches_are_those_of_the_slide_and_half_written_shards_are_ignored(rendered, tmp_path):
    found = slide_patches([rendered], name="t", size=64, magnifications=[10, 15, 40])
    (tmp_path / "x.1.partial").write_bytes(b"half")
    cached = cache_patches(found.images, tmp_path)
    assert len(cached) == len(found.images)
    for i in (0, 7, len(cached) - 1):
        assert np.array_equal(cached[i], found.images[i])
    assert np.array_equal(cached.batch([3, 1]), np.stack([found.images[3], found.images[1]]))
    assert np.array_equal(cached[1:3], found.images[1:3])
    shard = next(tmp_path.glob("*.npy"))
    written = shard.stat().st_mtime_ns
    cache_patches(found.images, tmp_path)
    assert shard.stat().st_mtime_ns == written  # decoded once
    other = slide_patches([rendered], name="t", size=32, magnifications=[10])
    cache_patches(other.images, tmp_path)
    assert len(list(tmp_path.glob("*.npy"))) == 2
    np.save(shard, np.zeros((1, 8, 8, 3), np.uint8))
    with pytest.raises(DataError, match="Remove it"):
        cache_patches(found.images, tmp_path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_said_and_leaves_no_shard(rendered, tmp_path, monkeypatch):
    found = slide_patches([rendered], name="t", size=64, magnifications=[40])
    opened = Path.open
    monkeypatch.setattr(Path, "open", lambda self, mode: opened(Path("/dev/full"), mode.replace("x", "w")))
    with pytest.raises(ResultsError, match="No space left"):
        cache_patches(found.images, tmp_path)
    assert list(tmp_path.glob("*.npy")) == []


def test_a_folder_in_the_layout_of_bca_gives_areas_of_its_masks(tmp_path):
    folder = tmp_path / "nuclei"
    folder.mkdir()
    polygons = field_of_ellipses()
    mask = painted(polygons)
    for patient in range(5):
        Image.fromarray(np.full((1024, 1024, 3), PINK, np.uint8)).save(folder / f"{patient}_500_original.tif")
        if patient != 4:
            Image.fromarray(mask).save(folder / f"{patient}_500_mask.png")
    found = load_bca(tmp_path, size=112, magnifications=[5, 10, 40])
    assert found.excluded["without_mask"] == 1
    assert found.table.groupby("group").split.nunique().max() == 1
    assert set(found.table.split) == {"train", "validation", "test"}
    means = found.table.groupby("magnification").mean_area_um2.mean()
    exact = np.mean([polygon_area(p) for p in polygons]) * 0.25**2
    assert means.loc[5.0] == pytest.approx(exact, rel=0.1)
    assert means.loc[10.0] == pytest.approx(exact, rel=0.05)
