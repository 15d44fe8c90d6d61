"""Figures of the datasets show what their tables hold."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from test_dataset_tables import patches

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.patches import Rectangle

from studies import s01_datasets
from studies.s01_datasets import COUNTED, CUT, RULES, Region

PAPER = Path(__file__).resolve().parents[1] / "paper" / "table1.csv"


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    plt.close("all")


def title(ax) -> str:
    return ax.get_title() or ax.get_title(loc="left")


def labels(fig) -> list[str]:
    return [text.get_text() for legend in fig.legends for text in legend.get_texts()]


def test_counts_of_every_split_are_drawn_and_none_at_zero():
    beside = s01_datasets.beside_paper(patches(), PAPER)
    fig = s01_datasets.patches_per_magnification(beside)
    assert [title(ax) for ax in fig.axes] == ["train", "validation", "test"]
    theirs, ours = fig.axes[0].lines
    np.testing.assert_array_equal(theirs.get_ydata(), [94, 2174, 4141, 7293, 9002, 10736, 11638])
    np.testing.assert_array_equal(ours.get_ydata(), [160, np.nan, 160, np.nan, np.nan, np.nan, 160])
    assert labels(fig) == ["paper", "ours"]


def test_patches_left_out_by_a_cap_have_a_curve_of_their_own():
    table = patches()
    capped = table.groupby(["slide", "magnification"]).head(10)
    fig = s01_datasets.patches_per_magnification(s01_datasets.beside_paper(capped, PAPER, uncapped=table))
    assert labels(fig) == ["paper", "ours, all patches", "ours, as used"]


def test_areas_are_boxed_by_their_quartiles_in_both_units():
    table = patches()
    areas, means = s01_datasets.area_summary(table), s01_datasets.means_beside_paper(table)
    fig = s01_datasets.area_distributions(areas, means)
    px, um2 = fig.axes
    assert px.get_yscale() == um2.get_yscale() == "log"
    assert (px.get_ylabel(), um2.get_ylabel()) == ("mean nucleus area (px)", "mean nucleus area (µm²)")
    assert [text.get_text() for text in px.get_xticklabels()] == ["5X", "10X", "40X"]
    bars = next(line for line in px.lines if line.get_label() == "class mean (training patches)")
    np.testing.assert_allclose(bars.get_ydata(), means.ours_px)
    boxes = [p for p in px.patches if not isinstance(p, Rectangle)]
    assert len(boxes) == 9
    row = areas[(areas.unit == "px") & (areas.split == "train")].iloc[0]
    heights = boxes[0].get_path().vertices[:, 1]
    assert (heights.min(), heights.max()) == pytest.approx((row.q25, row.q75))


def test_each_slide_has_a_point_a_range_and_its_splits_colour():
    slides = s01_datasets.slide_table(patches())
    fig = s01_datasets.slide_areas(slides, steps={"factor 4": 4.0})
    [ax] = fig.axes
    names = [text.get_text() for text in ax.get_yticklabels()]
    assert names == slides.sort_values("mean_um2", kind="stable").slide.tolist()
    points = {
        line.get_label(): len(line.get_xdata()) for line in ax.lines if line.get_label() in set(slides.split)
    }
    assert points == {"train": 4, "validation": 1, "test": 3}
    [bar] = [line for line in ax.lines if len(line.get_xdata()) == 2 and line.get_color() == "black"]
    assert bar.get_xdata()[1] / bar.get_xdata()[0] == pytest.approx(4)
    assert ax.get_xlim()[1] >= bar.get_xdata()[1]


def test_rules_are_drawn_over_the_reference_which_is_one():
    rows = [
        {"rule": rule, "magnification": m, "ratio": 1 + i / 10, "low": 0.9 + i / 10, "high": 1.2 + i / 10}
        for i, rule in enumerate(RULES)
        for m in (5.0, 40.0)
    ]
    fig = s01_datasets.rules_compared(pd.DataFrame(rows), RULES)
    assert [title(ax) for ax in fig.axes] == ["which nuclei count", "how areas are measured"]
    assert set(labels(fig)) == {words for rule, words in RULES.items() if rule != "centre"}


def test_regions_show_outlines_scale_bars_and_the_next_field():
    square = np.array([[10.0, 10], [20, 10], [20, 20], [10, 20]])
    series = [
        Region(np.full((96, 96, 3), 200, np.uint8), power, 10 / power, [square, square - 15], [COUNTED, CUT])
        for power in (5.0, 20.0)
    ]
    fig = s01_datasets.zoomed_regions(series)
    first, second = fig.axes[:2]
    assert title(first) == "5X, 2.00 µm/px\n1 counted, 1 cut"
    bars = [line.get_xdata() for line in first.lines if line.get_color() == "white"]
    assert np.ptp(bars[0]) * 2.0 == pytest.approx(50)
    fields = [p for p in first.patches if isinstance(p, Rectangle) and not p.get_fill()]
    assert [p.get_width() for p in fields] == [24.0]
    assert not [p for p in second.patches if isinstance(p, Rectangle) and not p.get_fill()]
    outline = first.lines[0]
    assert outline.get_color() == s01_datasets.STATE_STYLE[COUNTED]["color"]
    np.testing.assert_allclose(outline.get_xydata()[:4], square)
