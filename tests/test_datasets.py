"""Notebook 01: tables beside the paper's, nuclei drawn over patches and measured by several rules, and the paper's profile."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from scalelib.results import read_results
from scalelib.slides.nuclei import Outlines, areas_in_mask, covered, outlines, polygon_area
from scalelib.slides.patches import MAGNIFICATIONS, SlideSource, areas_in_patch, slide_patches
from studies import s01_datasets
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
)

ROOT = Path(__file__).resolve().parents[1]
PAPER = ROOT / "paper" / "table1.csv"
sys.path.insert(0, str(ROOT / "workflow"))

from run_notebook import run  # noqa: E402

# Tables


def patches(seed: int = 0, per_slide: int = 40) -> pd.DataFrame:
    """Patches whose log area is magnification + slide + noise, with slides twice as large or small as others."""
    rng = np.random.default_rng(seed)
    rows = []
    for i, split in enumerate(["train"] * 4 + ["validation"] + ["test"] * 3):
        for magnification in (5.0, 10.0, 40.0):
            for k in range(per_slide):
                px = (magnification * 0.5) ** 2 * 2.0 ** ((i % 4) - 1.5) * 2 ** rng.normal(0, 0.1)
                mpp = 10 / magnification
                rows.append(
                    {"image": f"{i}:{magnification}:{k}", "slide": f"s{i}", "group": f"p{i // 2}", "split": split,
                     "magnification": magnification, "mpp": mpp, "mpp_stated": i != 2, "n_nuclei": 3,
                     "mean_area_px": px, "mean_area_um2": px * mpp**2}
                )  # fmt: skip
    return pd.DataFrame(rows)


def test_counts_stand_beside_the_printed_ones_in_the_papers_order():
    table = patches()
    beside = s01_datasets.beside_paper(table, PAPER, uncapped=table)
    printed = pd.read_csv(PAPER)
    assert beside[["split", "magnification", "paper"]].to_numpy().tolist() == (
        printed[["split", "magnification", "patches"]].to_numpy().tolist()
    )
    found = beside.set_index(["split", "magnification"])
    for (split, magnification), part in table.groupby(["split", "magnification"]):
        assert found.ours[split, f"{magnification:g}X"] == len(part)
    assert found.ours["total", "total"] == len(table)
    assert found.ours["train", "8X"] == 0
    cells = beside[beside.magnification != "total"]  # shares are of the cells, not of the totals printed
    sums = cells.groupby("split")[["paper_share", "ours_share", "ours_uncapped_share"]].sum()
    np.testing.assert_allclose(sums.to_numpy(), 1.0)


def test_variance_divides_as_it_was_built():
    table = patches(per_slide=200)
    shares = s01_datasets.spread_shares(table)
    log = {
        "magnification": np.var(2 * np.log2([5, 10, 40])),
        "slide": np.var([(i % 4) - 1.5 for i in range(8)]),
        "patch": 0.01,
    }
    total = sum(log.values())
    assert shares.sum() == pytest.approx(1)
    assert shares.to_dict() == pytest.approx({k: v / total for k, v in log.items()}, abs=0.002)


@pytest.fixture
def results():
    return read_results(ROOT / "results" / "compact" / "01_datasets")


def test_counts_of_table_1_add_up_and_agree_with_the_slides(results):
    table1 = results.table("table1").set_index(["split", "magnification"]).ours
    slides = results.table("slides")
    assert table1["total", "total"] == slides.patches.sum()
    for split, part in slides.groupby("split"):
        assert table1[split, "total"] == part.patches.sum()


# Nuclei


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
    return slide_patches(sources, name="t", size=size, **options)


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
            found = areas_by_rule(nuclei, x, y, 80, factor=1.0)
            for rule, areas in rules.items():
                areas.append(found[rule])
    means = {rule: np.concatenate(areas).mean() for rule, areas in rules.items()}
    assert means["centre"] == pytest.approx(truth, rel=1e-9)
    assert means["clear"] < 0.95 * truth
    assert means["clip"] < means["clear"]


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


# The paper's profile, on a small folder in BCa's layout made here


@pytest.fixture
def bca(tmp_path: Path) -> Path:
    """Five patients with one image of discs each, large enough for a patch of 112 px at 5X."""
    folder = tmp_path / "nuclei"
    folder.mkdir()
    side = 900
    y, x = np.mgrid[:90, :90] - 44.5
    for patient in range(5):
        disc = np.hypot(x, y) < 16 + 2 * patient
        inside = np.tile(disc, (side // 90, side // 90))
        pixels = np.where(inside[..., None], (90, 60, 140), (220, 150, 200)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{patient + 8863}_500_original.tif")
        Image.fromarray(inside.astype(np.uint8) * 255).save(folder / f"{patient + 8863}_500_mask.png")
    return tmp_path


@pytest.mark.exhaustive
def test_datasets_notebook_of_the_paper_profile_runs_end_to_end(
    bca: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCALELIB_DATA", str(bca))
    override = {
        "natural": "scenes",
        "natural_options": {"n": 40},
        "rules_per_slide": 1,
        "dataset_options": {"size": 112},
    }
    run("01_datasets", "paper", override=override, label="smoke")
    results = read_results(ROOT / "results" / "smoke" / "01_datasets")
    table1 = results.table("table1").set_index(["split", "magnification"])
    assert table1.loc[("total", "total"), "paper"] == 69019
    assert (table1.loc["train"].ours > 0).all()
    means = results.table("class_means")
    assert means.magnification.tolist() == list(MAGNIFICATIONS)
    assert means.ours_um2.max() / means.ours_um2.min() < 1.25
    slides = results.table("slides")
    assert slides.group.nunique() == 5
    largest = slides.set_index("slide").mean_um2["8867_500"]
    assert largest == pytest.approx(np.pi * 24**2 / 16, rel=0.1)
    rules = results.table("rules").set_index(["rule", "magnification"])
    assert rules.ratio["mask", 20.0] == pytest.approx(1, rel=0.1)
