"""Every figure of the studies, drawn from the archived tables: each panel shows something, axes and lines are named.

A figure that shows images which no table holds gets small ones made here.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from archive_rows import ROOT, archived
from matplotlib.figure import Figure

from scalebook.ledger import Read
from scalelib import plotting
from studies import s01_datasets, s02_resizing, s03_noise, s04_layerwise, s05_transfer, s06_early, s07_peak

FIGURES: dict[str, Callable[[], Figure]] = {}


def figure(draw: Callable[[], Figure]) -> Callable[[], Figure]:
    """Draw this one too."""
    assert draw.__name__ not in FIGURES
    FIGURES[draw.__name__] = draw
    return draw


def table_of(notebook: str) -> Callable[[str], pd.DataFrame]:
    return lambda table: archived(f"{notebook}/{table}")


datasets = table_of("01_datasets")
resizing = table_of("02_resizing_invariance")
layers = table_of("04_layerwise_r2")
transfer = table_of("05_histopathology_transfer")
early = table_of("06_early_features")
peak = table_of("07_interpolation_peak")


def archived_or_compact(name: str) -> pd.DataFrame:
    """Key figures also show the control experiment, which no archive holds: here, the archive in its place."""
    return archived(name.partition("/")[2])


def pictures(n: int, side: int = 12) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, side, side, 3), np.uint8)


@figure
def datasets_regions() -> Figure:
    square = np.array([[2.0, 2], [5, 2], [5, 5], [2, 5]])
    states = [s01_datasets.COUNTED, s01_datasets.CUT]
    powers = zip((5.0, 20.0), pictures(2), strict=True)
    mask = np.zeros((12, 12), bool)
    mask[2:5, 2:5] = True
    return s01_datasets.zoomed_regions(
        [s01_datasets.Region(image, x, 10 / x, [square, square - 4], states, mask) for x, image in powers]
    )


@figure
def noise_gallery() -> Figure:
    shown = s03_noise.examples([48, 96], [1.5, 8.0])
    return s03_noise.noise_gallery(
        [*shown.values()], [*shown], archived("03_noise_inputs/correlation_lengths")
    )


def noise(**chosen: str) -> pd.DataFrame:
    table = archived("03_noise_inputs/noise_summary").query("condition == 'true'")
    for column, value in chosen.items():
        table = table[table[column] == value]
    return table


def twins_in_place_of_the_control(name: str) -> pd.DataFrame:
    """The archive, and in the control's place one network's rows under the control's name."""
    table = archived_or_compact(name)
    if not name.startswith("control/"):
        return table
    return table[table.network == "SqueezeNet"].assign(network="control")


def under_names_of_the_control(name: str) -> pd.DataFrame:
    """What two key figures read: the archive, and in the control's place rows of it under the control's names."""
    kept = s02_resizing.labels_kept(resizing("predictions_by_size"))
    table = kept if name.endswith("labels_kept") else archived(name.partition("/")[2])
    if name.startswith("compact") or name.endswith("padding_r2"):
        return table
    own = table[table.network == "SqueezeNet"].assign(network="control").replace({"zoom": "rendered"})
    return pd.concat([own.assign(weights=weights) for weights in ("all scales", "one scale")])


@figure
def layers_examples() -> Figure:
    boxes = pd.DataFrame({"box_x0": [2.0], "box_y0": [3.0], "box_x1": [8.0], "box_y1": [7.0]})
    return s04_layerwise.example_images(pictures(1), ["disc, 0.4"], boxes=boxes)


@figure
def early_kernels() -> Figure:
    table = early("first_kernels")
    kernels = {}
    for network, rows in table.groupby("network", sort=False):
        shape = [int(rows[axis].max()) + 1 for axis in ("channel", "y", "x")]
        kernels[network] = rows[["red", "green", "blue"]].to_numpy().reshape(*shape, 3)
    return s06_early.kernel_sheet(kernels)


@figure
def early_galleries() -> Figure:
    crops = pictures(4 * 3).reshape(4, 3, 12, 12, 3)
    one = s06_early.Gallery("net, conv1", pictures(4, 20), crops, [f"{c}: ρ = +0.10" for c in range(4)])
    return s06_early.galleries([one, one])


FIGURES |= {
    "datasets_areas": lambda: s01_datasets.area_distributions(datasets("areas"), datasets("class_means")),
    "datasets_slides": lambda: s01_datasets.slide_areas(datasets("slides"), steps={"factor 4": 4.0}),
    "resizing_manipulations": lambda: s02_resizing.manipulation_grid(
        {
            name: dict(zip((0.5, 1.0), pictures(2)[:, None], strict=True))
            for name in s02_resizing.MANIPULATIONS
        }
    ),
    "transfer_learning": lambda: s05_transfer.learning_curves(transfer("history").query("target == 'area'")),
    "transfer_rows": lambda: s05_transfer.rows_of_table_2(
        transfer("transfer").query("target == 'area' and slide == 'all'"),
        pd.read_csv(ROOT / "paper" / "table2.csv"),
        mean_error=79.0,
    ),
    "transfer_slides": lambda: s05_transfer.pruning_by_slide(archived_or_compact, narrow=True),
    "transfer_one_network": lambda: s05_transfer.slide_differences(
        transfer("transfer").query("network == 'SqueezeNet'").assign(kept=0.5), other="scratch"
    ),
    "transfer_confusions": lambda: s05_transfer.confusions(
        dict.fromkeys(
            ("full", "pruned"), pd.DataFrame(np.eye(3, dtype=int), [5.0, 10.0, 40.0], [5.0, 10.0, 40.0])
        )
    ),
    "transfer_layers": lambda: s05_transfer.along_layers(
        *map(transfer, ("readout", "readout_random", "transfer", "three_curves"))
    ),
    "transfer_unseen": lambda: s05_transfer.estimates(transfer("unseen")),
    "resizing_features": lambda: s02_resizing.features_by_tap(
        *(resizing(name).query("network == 'MobileNetV2'") for name in ("variance_by_tap", "cosine_by_tap"))
    ),
    "resizing_key": lambda: s02_resizing.size_is_not_scale(under_names_of_the_control, narrow=False),
    "noise_key": lambda: s03_noise.padding_tells_size(
        lambda name: under_names_of_the_control(name).query("weights != 'one scale'"), narrow=True
    ),
    "resizing_sampling": lambda: s02_resizing.sampling(resizing("sampling")),
    "noise_by_tap": lambda: s03_noise.r2_by_tap(noise(kind="blob", estimator="ridge", network="MobileNetV2")),
    "layers_scale": lambda: s04_layerwise.scale_distribution(layers("scale_histogram")),
    "layers_curves": lambda: s04_layerwise.all_networks(layers("curves")),
    "layers_estimators": lambda: s04_layerwise.by_depth(s04_layerwise.in_full(layers("estimators"))),
    "layers_equal_width": lambda: s04_layerwise.by_depth(
        s04_layerwise.width_beside(layers("layerwise_r2"), layers("equal_width"))
    ),
    "layers_key": lambda: s04_layerwise.where_scale_is_read(twins_in_place_of_the_control, narrow=True),
    "layers_hero": lambda: s04_layerwise.hero(twins_in_place_of_the_control, narrow=False),
    "library_curves": lambda: plotting.r2_by_tap(layers("curves")),
    "early_frequency": lambda: s06_early.frequency_by_tap(early("preferred_by_tap")),
    "early_relation": lambda: s06_early.relation(early("relations")),
    "peak_known_case": lambda: s07_peak.known_case(peak("known_case"), peak("known_case_theory")),
    "peak_moved": lambda: s07_peak.moved_peak(peak("moved_peak"), width=64),
    "peak_contrasts": lambda: s07_peak.contrasts(
        peak("contrasts").query("matching == 'equal width' and object_class == @s07_peak.ALL_CLASSES")
    ),
    **{
        f"{draw.__name__}_{narrow}": partial(draw, archived_or_compact, narrow=narrow)
        for draw in (
            s01_datasets.label_by_rule,
            s04_layerwise.peaks_and_falls,
            s05_transfer.cuts_by_depth,
            s06_early.coarse_or_fine,
            s07_peak.move_peak,
            s07_peak.foretold_rows,
            s07_peak.softmax_forms,
        )
        for narrow in (False, True)
    },
}


@pytest.fixture(params=sorted(FIGURES))
def drawn(request: pytest.FixtureRequest) -> Iterator[Figure]:
    with mpl.rc_context():
        plotting.use_style()
        fig = FIGURES[request.param]()
        fig.draw_without_rendering()
        yield fig
    plt.close("all")


def named(fig: Figure, axis: str) -> bool:
    """A label says what is on an axis, or its ticks are names."""
    over_all = fig.get_supxlabel() if axis == "x" else fig.get_supylabel()
    ticks = [text.get_text() for ax in fig.axes for text in getattr(ax, f"get_{axis}ticklabels")()]
    labels = [getattr(ax, f"get_{axis}label")() for ax in fig.axes]
    return bool(over_all) or any(labels) or any(tick[:1].isalpha() for tick in ticks)


def test_figure_shows_something_in_each_panel_and_names_it(drawn: Figure) -> None:
    panels: list[Any] = [
        ax for ax in drawn.axes if ax.get_visible() and (ax.axison or ax.images or ax.tables)
    ]
    assert panels
    for ax in panels:
        assert ax.lines or ax.patches or ax.collections or ax.images or ax.tables, ax.get_title(loc="left")
    if any(ax.lines and ax.axison for ax in panels):
        assert named(drawn, "x"), "no axis says what is drawn from left to right"
        assert named(drawn, "y"), "no axis says what is drawn from bottom to top"
    for legend in [*drawn.legends, *filter(None, (ax.get_legend() for ax in panels))]:
        labels = [text.get_text() for text in legend.get_texts()]
        assert labels
        assert len(labels) == len(set(labels))
        assert all(labels)


def test_a_key_figure_takes_the_colours_of_its_page_and_one_that_fails_keeps_no_other(
    tmp_path, monkeypatch, capsys
):
    def good(read: Read, *, narrow: bool) -> Figure:
        fig, ax = plt.subplots(figsize=(3.73 if narrow else 8.23, 3))
        ax.plot([0, 1], read("compact/run/table").y, "C1", label="curve")
        ax.text(0, 0, "words", color="white")
        return fig

    def bad(read: Read, *, narrow: bool) -> Figure:
        raise ValueError("planted")

    monkeypatch.syspath_prepend(ROOT / "workflow")
    draw_figures = importlib.import_module("draw_figures")
    found = draw_figures.key_figures()
    assert {"hero", "example", "move_peak"} <= set(found)
    monkeypatch.setattr(draw_figures, "ROOT", tmp_path)
    monkeypatch.setattr(draw_figures, "MOVED", {})
    monkeypatch.setattr(draw_figures, "key_figures", lambda: {"bad": bad, "good": good})
    monkeypatch.setattr(draw_figures, "table_of", lambda root, table: pd.DataFrame({"y": [1, 2]}))
    (tmp_path / "book").mkdir()
    assert draw_figures.main() == 1
    assert "planted" in capsys.readouterr().err
    wide, narrow = (
        (tmp_path / "book" / "figures" / f"good{kind}.svg").read_text() for kind in ("", "-narrow")
    )
    assert wide.startswith("<svg ")
    assert 'width="' not in wide.partition(">")[0]
    for part in ("stroke: var(--c1, #", "currentColor", "fill: var(--pst-color-background", ">words</text>"):
        assert part in wide
    ids = [set(re.findall(r'id="([^"]+)"', text)) for text in (wide, narrow)]
    assert ids[0]
    assert not ids[0] & ids[1]
    assert set(re.findall(r"url\(#([^)]+)\)", narrow)) <= ids[1]
    assert "<style" not in wide  # it would hold for the whole page


def test_lines_are_the_values_of_the_table() -> None:
    table = layers("curves")
    fig = plotting.r2_by_tap(table)
    for ax, (_, rows) in zip(fig.axes, table.groupby("network", sort=False), strict=False):
        for curve, own in rows.groupby("curve"):
            [line] = [line for line in ax.lines if line.get_label() == curve]
            np.testing.assert_allclose(line.get_ydata(), own["mean"].clip(lower=-0.6))
        labels = [label.get_text() for label in ax.get_xticklabels()]
        assert labels == [plotting.short_tap(tap) for tap in rows.tap.unique()]


def test_picture_of_the_readme_shows_what_is_archived() -> None:
    drawn = (ROOT / "book" / "_static" / "hero.svg").read_text(encoding="utf-8")
    own = layers("curves").query("network == 'InceptionV3' and curve == 'ImageNet weights'").iloc[::2]
    shown = re.findall(r">(\d\.\d\d)</text>", drawn)
    assert shown == [f"{value:.2f}" for value in own["mean"]], "make picture"
