"""Slides: magnification from power and from microns per pixel, and exact area-mean reading."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from scalelib.errors import DataError
from scalelib.slides.slide import StatedScale, area_mean, open_slide, power_from_mpp
from studies.rendered.slide import render_slide

MAGNIFICATIONS = [5, 8, 10, 15, 20, 30, 40]


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def mean_by_integral(
    image: np.ndarray, box: tuple[float, float, float, float], size: tuple[int, int]
) -> np.ndarray:
    """Area means from the integral of the image along either axis, linear between pixel edges."""
    out = image.astype(np.float64)
    for axis, low, high, n in ((0, box[1], box[3], size[1]), (1, box[0], box[2], size[0])):
        total = np.concatenate([np.zeros_like(out.take([0], axis)), out.cumsum(axis)], axis)
        edges = np.linspace(low, high, n + 1)
        at = np.apply_along_axis(lambda line, e=edges: np.interp(e, np.arange(len(line)), line), axis, total)
        out = np.diff(at, axis=axis) * n / (high - low)
    return out


@pytest.mark.parametrize(
    ("box", "size"),
    [((0, 0, 60, 48), (60, 48)), ((0, 0, 60, 48), (15, 12)), ((3, 5, 43, 45), (15, 15)),
     ((0.5, 1.25, 41.0, 37.75), (17, 9)), ((7.3, 2.2, 20.6, 15.5), (10, 10))],
    ids=["same size", "whole factor", "8/3", "fractional box", "4/3 fractional"],
)  # fmt: skip
def test_area_mean_is_the_integral_over_each_new_pixel(box, size):
    image = noise(48, 60)
    found = area_mean(image, size, box=box)
    assert np.abs(found - mean_by_integral(image, box, size)).max() <= 0.55  # Pillow rounds in fixed point


@pytest.mark.parametrize("magnification", MAGNIFICATIONS)
def test_every_magnification_reads_area_means_of_level_zero(magnification):
    image = noise(320, 320)
    factor = 40 / magnification
    extent = 24 * factor
    patch = open_slide(image, power=40).read(16, 40, 24, magnification=magnification)
    expected = mean_by_integral(image, (16, 40, 16 + extent, 40 + extent), (24, 24))
    assert np.abs(patch - expected).max() <= 0.55  # Pillow rounds in fixed point


@pytest.mark.parametrize(
    ("mpp", "power"), [(0.25, 40), (0.2456, 40), (0.5, 20), (0.499, 20), (1.0, 10), (8.0, 1.25), (0.167, 60),
     (0.35, 10 / 0.35)],  # the last is far from any objective
)  # fmt: skip
def test_scanners_scatter_about_the_convention_snaps_to_the_nominal_power(mpp, power):
    assert power_from_mpp(mpp) == pytest.approx(power, rel=1e-12)


def test_a_pyramid_reads_from_the_nearest_level_above(tmp_path: Path):
    path = tmp_path / "levels.tif"
    with tifffile.TiffWriter(path) as file:  # each level has a colour of its own, so that it shows
        for number, width in enumerate((1024, 512, 256)):
            pixels = np.full((width, width, 3), 60 * number + 20, np.uint8)
            file.write(pixels, tile=(128, 128), subfiletype=int(number > 0), resolution=(40000, 40000),
                       resolutionunit="CENTIMETER")  # fmt: skip
    with open_slide(path) as slide:
        assert (slide.power, len(slide.level_sizes), slide.mpp) == (40, 3, pytest.approx(0.25))
        used = {m: int(slide.read(0, 0, 64, magnification=m).mean() // 60) for m in MAGNIFICATIONS}
    assert used == {5: 2, 8: 2, 10: 2, 15: 1, 20: 1, 30: 0, 40: 0}


def test_reading_from_a_lower_level_equals_reading_from_level_zero(tmp_path: Path):
    path = render_slide(tmp_path / "a.svs", size=1024).path
    with open_slide(path) as slide:
        assert len(slide.level_sizes) == 2
        whole = slide.read(0, 0, 1024, magnification=40)
        for magnification, bound in ((5, 0.6), (10, 0.6), (8, 2.0)):  # 8X is no whole factor of the level
            low = slide.read(128, 256, 48, magnification=magnification).astype(int)
            exact = open_slide(whole, power=40).read(128, 256, 48, magnification=magnification)
            assert np.abs(low - exact).mean() <= bound
            assert magnification == 8 or np.abs(low - exact).max() <= 1  # rounded twice instead of once


def test_a_rectangle_and_an_overview_cover_the_slide():
    slide = open_slide(noise(400, 700), power=20)
    assert slide.read(10, 20, (30, 50), magnification=5).shape == (50, 30, 3)
    assert slide.overview(magnification=5).shape == (100, 175, 3)
    assert max(slide.overview(longest=70).shape) == 70


PIXELS = noise(64, 64)


@pytest.mark.parametrize(
    ("use", "message"),
    [
        *[(lambda given=given: open_slide(PIXELS, **given), "slide array: ") for given in (
            {}, {"power": -1.0}, {"mpp": float("nan")}, {"mpp": 352.8}, {"power": 40, "mpp": 0.5})],
        *[(lambda m=m: open_slide(PIXELS, power=40).read(0, 0, 8, magnification=m), "magnification lies in")
          for m in (40.001, 80, 0, -5)],
        *[(lambda c=c: open_slide(PIXELS, power=40).read(*c, 32, magnification=40), "within the slide")
          for c in ((-1, 0), (0, 33), (33, 0))],
        *[(lambda image=image: open_slide(image, power=40), "RGB") for image in (
            np.zeros((4, 4)), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8))],
        (lambda: open_slide("none.svs"), "none.svs does not exist"),
        (lambda: open_slide(Path(__file__).parent), "name its files"),
        (lambda: open_slide(__file__), "cannot use the image test_slides.py"),
    ],
)  # fmt: skip
def test_slides_magnifications_and_regions_that_are_none_are_refused(use, message):
    with pytest.raises(DataError, match=message):
        use()


def test_a_figure_is_a_slide_of_one_level_of_any_depth(tmp_path: Path):
    pixels = noise(50, 40)
    Image.fromarray(pixels).save(tmp_path / "figure.png")
    with open_slide(tmp_path / "figure.png", power=20) as slide:
        assert slide.level_sizes == ((40, 50),)
        assert np.array_equal(slide.read(0, 0, (40, 50), magnification=20), pixels)
    Image.fromarray(np.full((40, 50), 128 * 256 + 7, np.uint16)).save(tmp_path / "deep.png")
    Image.new("RGBA", (50, 40), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    for name, value in (("deep.png", 128), ("clear.png", 255)):
        with open_slide(tmp_path / name, power=20) as slide:
            assert set(slide.overview().ravel().tolist()) == {value}


def test_a_truncated_slide_is_refused(tmp_path: Path):
    whole = render_slide(tmp_path / "whole.svs", size=512).path.read_bytes()
    (tmp_path / "cut.svs").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError), open_slide(tmp_path / "cut.svs", power=40) as slide:
        slide.read(0, 0, 512, magnification=40)


@pytest.mark.parametrize(
    ("stated", "words", "magnification"),
    [
        (StatedScale(), "nothing", None),
        (StatedScale(20.0, 0.5), "20X and 0.5 µm per pixel", 20.0),
        (StatedScale(None, 0.499), "0.499 µm per pixel, which is 20X", 20.0),
        (StatedScale(None, 352.8), "352.8 µm per pixel, a printer's or screen's", None),
    ],
)
def test_what_a_file_states_in_words(stated, words, magnification):
    assert (str(stated), stated.magnification) == (words, magnification)


@pytest.mark.data
def test_real_slides_state_what_they_should(slides_root: Path):
    with open_slide(slides_root / "CMU-1-Small-Region.svs") as slide:  # one level
        assert (slide.power, slide.mpp, len(slide.level_sizes)) == (20, pytest.approx(0.499), 1)
        assert slide.read(500, 500, 224, magnification=5).shape == (224, 224, 3)
        with pytest.raises(DataError, match="Upsampling"):
            slide.read(0, 0, 8, magnification=40)
    with pytest.raises(DataError, match="neither"):
        open_slide(slides_root / "TCGA-CR-7395-01A-01-TS1.svs")
    with open_slide(slides_root / "TCGA-CR-7395-01A-01-TS1.svs", power=40) as slide:
        assert (slide.mpp_stated, len(slide.level_sizes)) == (False, 2)
        assert slide.read(1000, 1000, 96, magnification=10).std() > 1
    with pytest.raises(DataError, match=r"352\.8"):
        open_slide(slides_root / "boxes.tiff")


@pytest.mark.data
@pytest.mark.parametrize("name", ["broken.svs", "unopenable.tiff", "unreadable.svs"])
def test_real_broken_slides_are_refused(slides_root: Path, name: str):
    with pytest.raises(DataError, match=name.split(".")[0]), open_slide(slides_root / "bad" / name) as slide:
        slide.read(0, 0, 16, magnification=slide.power)
