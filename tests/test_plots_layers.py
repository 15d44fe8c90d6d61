"""Figures of the layer-wise analysis show what the tables hold: values, panels, labels, legends."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from study_tables import layerwise

from scalelib import plotting

mpl.use("Agg")

import matplotlib.pyplot as plt

from studies import s04_layerwise

LOW, MID, HIGH = [0.10, 0.12, 0.14], [0.40, 0.44, 0.42], [0.80, 0.78, 0.82]
TAPS = {"a": LOW, "b": HIGH, "c": MID}


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    plt.close("all")


def panels(fig) -> list:
    return [ax for ax in fig.axes if ax.axison and ax.get_title(loc="left") + ax.get_title()]


def title(ax) -> str:
    return ax.get_title() or ax.get_title(loc="left")


def line(ax, label: str):
    return next(one for one in ax.lines if one.get_label() == label)


def summary(*parts: pd.DataFrame) -> pd.DataFrame:
    return s04_layerwise.curves(pd.concat(parts))


class TestR2ByTap:
    def test_one_panel_per_network_with_the_means_of_its_curves(self):
        random = [
            layerwise({t: [v] * 3 for t in TAPS}, weights="random", seeds=[s])
            for s, v in enumerate((0.0, 0.2))
        ]
        fig = plotting.r2_by_tap(summary(layerwise(TAPS), *random, layerwise(TAPS, network="two")))
        assert [title(ax) for ax in panels(fig)] == ["net", "two"]
        first = panels(fig)[0]
        np.testing.assert_allclose(line(first, "ImageNet weights").get_ydata(), [0.12, 0.80, 0.42])
        np.testing.assert_allclose(line(first, "random weights").get_ydata(), [0.1] * 3)
        assert [label.get_text() for label in first.get_xticklabels()] == list(TAPS)
        assert first.get_ylabel() == "held-out R²"

    def test_values_below_the_floor_stand_at_it_with_their_number(self):
        fig = plotting.r2_by_tap(summary(layerwise({"a": [-40.0] * 3, "b": HIGH}, spread=0.0)), floor=-0.6)
        ax = panels(fig)[0]
        assert line(ax, "ImageNet weights").get_ydata()[0] == -0.6
        assert "-40" in {text.get_text().replace("−", "-") for text in ax.texts}

    def test_legend_names_every_curve_once_whichever_panel_it_stands_in(self):
        fig = plotting.r2_by_tap(
            summary(layerwise(TAPS), layerwise(TAPS, network="two", weights="all scales"))
        )
        assert [text.get_text() for text in fig.legends[0].get_texts()] == [
            "ImageNet weights",
            "trained at all scales",
        ]

    def test_bands_can_be_left_out(self):
        table = summary(layerwise(TAPS))
        assert len(panels(plotting.r2_by_tap(table))[0].collections) == 1
        assert len(panels(plotting.r2_by_tap(table, bands=False))[0].collections) == 0

    def test_networks_with_other_taps_keep_their_own(self):
        fig = plotting.r2_by_tap(summary(layerwise(TAPS), layerwise({"x": LOW, "y": MID}, network="two")))
        assert [[t.get_text() for t in ax.get_xticklabels()] for ax in panels(fig)] == [
            ["a", "b", "c"],
            ["x", "y"],
        ]


def test_one_curve_per_object_class():
    fig = s04_layerwise.r2_by_class(s04_layerwise.curves(layerwise(TAPS, spread=0.05), by=["object_class"]))
    np.testing.assert_allclose(line(panels(fig)[0], "car").get_ydata(), [0.17, 0.85, 0.47])


def test_scale_distribution_has_a_panel_per_class_with_all_of_its_images():
    table = pd.DataFrame(
        {"object_class": ["x"] * 5 + ["y"] * 3, "sqrt_area_ratio": np.linspace(0.05, 0.95, 8)}
    )
    fig = s04_layerwise.scale_distribution(s04_layerwise.scale_histogram(table, bins=10))
    shown = [ax for ax in fig.axes if ax.axison]
    assert len(shown) == 2
    assert "images" in fig.get_supylabel()
    assert [sum(bar.get_height() for bar in ax.patches) for ax in shown] == [5, 3]
    assert [title(ax) for ax in shown] == ["x (5)", "y (3)"]


def test_examples_show_their_boxes_in_pixels():
    boxes = pd.DataFrame({"box_x0": [2.0], "box_y0": [3.0], "box_x1": [8.0], "box_y1": [7.0]})
    fig = s04_layerwise.example_images([np.zeros((10, 12, 3), np.uint8)], ["disc, 0.4"], boxes=boxes)
    frame = fig.axes[0].patches[0]
    assert (frame.get_x(), frame.get_y(), frame.get_width(), frame.get_height()) == (1.5, 2.5, 6, 4)
    assert title(fig.axes[0]) == "disc, 0.4"


class TestPaperFigure:
    def figure(self):
        ours = s04_layerwise.curves(
            layerwise(TAPS, estimator="ols", measure="area_ratio"), estimator="ols", measure="area_ratio"
        )
        published = pd.DataFrame(
            {"curve": ["ImageNet weights"] * 2, "depth": [0.0, 1.0], "value": [0.2, 0.8]}
        )
        labelled = published.tail(1).assign(label="0.85 mixed8")
        return s04_layerwise.paper_figure(ours.assign(value=ours.exp_r2_over_e), published, labelled)

    def test_ours_stand_beside_the_papers_points(self):
        ax = panels(self.figure())[0]
        drawn = line(ax, "net")
        np.testing.assert_allclose(drawn.get_xdata(), [0, 0.5, 1])
        expected = np.mean(np.exp(np.add.outer(HIGH, (-0.04, 0.04)))) / np.e
        assert drawn.get_ydata()[1] == pytest.approx(expected)
        np.testing.assert_allclose(line(ax, "paper, exp(Table A1)/e").get_ydata(), [0.2, 0.8])
        assert "0.85 mixed8" in {text.get_text() for text in ax.texts}

    def test_axes_and_legend_say_what_is_shown(self):
        fig = self.figure()
        assert "exp(R²)/e" in panels(fig)[0].get_ylabel()
        assert {"net", "paper, labelled point"} <= {text.get_text() for text in fig.legends[0].get_texts()}


def test_heat_table_prints_every_finite_value_readably():
    table = pd.DataFrame({"x": [0.95, np.nan], "y": [-12345.0, 0.0]}, index=["r", "s"])
    fig = s04_layerwise.heat_table(table)
    texts = {text.get_text(): text.get_color() for text in fig.axes[0].texts}
    assert set(texts) == {"0.95", "-12,345", "0.00"}
    assert texts["0.95"] == "white"
    assert texts["0.00"] == "black"


def test_choice_table_names_the_tap_of_each_measure_and_estimator():
    rows = [{"network": n, "weights": "imagenet", "measure": m, "estimator": e, "object_class": c, "tap": f"{m[0]}{e[0]}{c[0]}", "depth": 0.5}
            for n in ("net", "two") for m in ("sqrt", "area") for e in ("ridge", "ols") for c in ("bird", "mean")]  # fmt: skip
    fig = s04_layerwise.choice_table(pd.DataFrame(rows))
    shown = panels(fig)
    assert [title(ax) for ax in shown] == ["net", "two"]
    assert {text.get_text() for text in shown[0].texts} == {
        f"{m}{e}{c}" for m in "sa" for e in "ro" for c in "bm"
    }
    labels = [label.get_text() for label in shown[0].get_yticklabels()]
    assert sorted(labels) == ["area, ols", "area, ridge", "sqrt, ols", "sqrt, ridge"]
    texts = {tuple(int(v) for v in t.get_position()): t.get_text() for t in shown[0].texts}
    for row, label in enumerate(labels):
        measure, estimator = label.split(", ")
        assert texts[0, row] == f"{measure[0]}{estimator[0]}b"
