"""Notebook 04's archive: base rows come from the photographs, summaries from the base rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from archive_rows import (
    ROOT,
    ROUNDED,
    agree,
    archived,
    network_of,
    photographs,
    read_all,
    recomputes,
    settings,
)

from scalebook.paper_tables import table_a1_cells
from scalelib.pruning import OUTPUT_TAPS, best_layer
from scalelib.regression import r2
from studies import readings, s04_layerwise

NAME = "04_layerwise_r2"
TRAINED = list(dict.fromkeys(spec["label"] for spec in settings(NAME)["networks"]))
R2 = 0.01
"""Another CPU's rounding, 1e-5 of an activation, was seen to move ridge's R² by up to 0.001; ten times that is allowed."""
WHO = ["network", "weights"]
PAPER, CELL = ROOT / "paper", ["network", "tap", "condition"]
FITTED = ["tap", "object_class", "measure", "estimator", "condition", "repeat"]


def base() -> pd.DataFrame:
    return archived(f"{NAME}/layerwise_r2")


def trained_rows(table: pd.DataFrame, *labels: str) -> pd.DataFrame:
    return table[table.network.isin(labels or TRAINED) & table.weights.str.startswith("imagenet")]


@recomputes(f"{NAME}/layerwise_r2")
@pytest.mark.data
@pytest.mark.parametrize(
    ("label", "weights", "seed", "object_class", "share"),
    [
        ("SqueezeNet", "imagenet", -1, "aeroplane", 2 / 3),
        ("InceptionV3", "imagenet", -1, "albatross", 1 / 2),
        *(
            pytest.param(label, "imagenet", -1, "bird", 2 / 3, marks=pytest.mark.exhaustive)
            for label in (
                *(f"MobileNet {alpha}" for alpha in ("0.5", "0.75", "1.0")),
                "DenseNet169",
                "ResNet50",
            )
        ),
        pytest.param("ResNet50 v1.5", "imagenet", -1, "dog", 4 / 5, marks=pytest.mark.exhaustive),
        pytest.param("MobileNet 0.25", "imagenet", -1, "bird", 1 / 3, marks=pytest.mark.exhaustive),
        pytest.param("MobileNetV2", "imagenet", -1, "aeroplane", 2 / 3, marks=pytest.mark.exhaustive),
        ("MobileNet 0.25", "random", 1, "dog", 1 / 2),
    ],
)
def test_rows_are_those_of_the_photographs(
    label, weights, seed, object_class, share, voc_root, keras_models, weights_root
) -> None:
    rows = base()
    kind = rows.weights.str.startswith(weights)
    rows = rows[(rows.network == label) & kind & (rows.weights_seed == seed)]
    taps = list(dict.fromkeys(rows.tap))
    data = photographs()
    data = data.select((data.table.object_class == object_class).to_numpy())
    spec = network_of(NAME, label, weights) | ({"seeds": [seed]} if seed >= 0 else {})
    [reading] = readings.read_networks([spec], data.images, taps=[taps[int(share * len(taps))]])
    conditions = ["true", "shuffled"] if weights == "imagenet" else ["true"]
    again = readings.layerwise_by_class(
        reading.activations,
        data.table,
        measures=["sqrt_area_ratio", "area_ratio"],
        estimators=["ridge", "ridge_unscaled"],
        conditions=conditions,
    )
    again = again[["tap", "channels", "n_train", "n_test", *FITTED[1:], "r2_test"]]
    agree(f"{NAME}/layerwise_r2", again, keys=FITTED, stored=rows, abs=R2)


@recomputes(f"{NAME}/scale_histogram")
@pytest.mark.data
def test_histogram_is_that_of_the_annotations(voc_root: Path) -> None:
    again = s04_layerwise.scale_histogram(photographs().table)
    agree(f"{NAME}/scale_histogram", again, keys=["object_class", "low"], whole=True)


def answers() -> pd.DataFrame:
    return pd.DataFrame(
        {"weights": weights, **s04_layerwise.answer(base(), weights="imagenet", network=label)}
        for label, weights in trained_rows(base()).groupby("network", sort=False).weights.first().items()
    )


def in_units_of_the_figure() -> pd.DataFrame:
    found = s04_layerwise.curves(base(), estimator="ols", measure="area_ratio")
    return found.assign(value=found.exp_r2_over_e)


def agreements() -> pd.DataFrame:
    parts = {"all": base(), "albatross": base()[base().object_class == "albatross"]}
    found = {name: table_a1_cells(PAPER / "table_a1.csv", rows) for name, rows in parts.items()}
    return pd.concat(
        s04_layerwise.agreement_with_paper(cells).assign(classes=name) for name, cells in found.items()
    )


FOLLOW = {
    "curves": (lambda: s04_layerwise.curves(base(), estimator="ridge", measure="sqrt_area_ratio"), [*WHO, "curve", "tap"]),
    "curves_by_class": (lambda: s04_layerwise.curves(base().query("condition == 'true'"), by=["object_class"]), [*WHO, "object_class", "tap"]),
    "estimators": (lambda: s04_layerwise.estimators_beside(base(), weights="imagenet", measure="sqrt_area_ratio"), [*WHO, "curve", "tap"]),
    "figure_units": (in_units_of_the_figure, [*WHO, "curve", "tap"]),
    "table_a1": (lambda: table_a1_cells(PAPER / "table_a1.csv", base()), CELL),
    "table_a1_by_itself": (lambda: table_a1_cells(PAPER / "table_a1.csv", base()[base().object_class == "albatross"]), CELL),
    "side_by_side": (lambda: s04_layerwise.side_by_side(s04_layerwise.curves(base()), settings(NAME)["side_by_side"]), ["curve", "tap"]),
    "agreements": (agreements, ["classes", "condition"]),
    "falls": (lambda: s04_layerwise.falls(base(), paper=PAPER), [*WHO, "estimator"]),
    "answers": (answers, WHO),
}  # fmt: skip


@recomputes(*(f"{NAME}/{name}" for name in FOLLOW))
@pytest.mark.parametrize("name", FOLLOW)
def test_summaries_follow_from_the_rows(name: str) -> None:
    compute, keys = FOLLOW[name]
    agree(f"{NAME}/{name}", compute(), keys=keys, whole=True, **ROUNDED)


@recomputes(f"{NAME}/read_scales")
def test_what_is_read_from_held_out_images_has_the_r2_of_the_first_split() -> None:
    example = settings(NAME)["example"]["label"]
    groups = archived(f"{NAME}/read_scales").groupby(["tap", "object_class"], sort=False)
    scores = groups[["true", "read"]].apply(lambda own: r2(own.true.to_numpy(), own.read.to_numpy()))
    again = scores.rename("r2_test").reset_index()
    rows = trained_rows(base(), example).query(
        "repeat == 0 and estimator == 'ridge' and measure == 'sqrt_area_ratio' and condition == 'true'"
    )
    assert len(again) == len(rows)
    agree(f"{NAME}/layerwise_r2", again, keys=["tap", "object_class"], stored=rows, rel=1e-3, abs=1e-3)


@recomputes(f"{NAME}/extended_r2")
def test_extended_rows_that_the_main_study_has_too_are_the_same() -> None:
    extended, rows = archived(f"{NAME}/extended_r2"), base()
    keys = [*WHO, *FITTED]
    shared = trained_rows(rows)
    shared = shared[(shared.condition == "true") & (shared.estimator != "ridge_unscaled")]
    assert set(shared.measure) < set(extended.measure)
    agree(f"{NAME}/extended_r2", shared, keys=keys, stored=extended, rel=1e-3, abs=1e-5)


@recomputes(f"{NAME}/extended_r2")
@pytest.mark.data
@pytest.mark.exhaustive
def test_extended_rows_are_those_of_the_photographs(voc_root: Path, keras_models: Path) -> None:
    reading, data = read_all("MobileNet 0.25"), photographs()
    acts = {
        "conv_pw_9": reading.activations["conv_pw_9"]
    }  # where the number of components is not a close race
    again = readings.layerwise_by_class(
        acts,
        data.table,
        measures=["box_width_ratio", "box_height_ratio"],
        estimators=["ridge", "pcr"],
        conditions="true",
    )
    again = again[["tap", "channels", "n_train", "n_test", *FITTED[1:], "r2_test"]]
    stored = trained_rows(archived(f"{NAME}/extended_r2"), "MobileNet 0.25")
    agree(f"{NAME}/extended_r2", again, keys=FITTED, stored=stored, abs=R2)


@recomputes(f"{NAME}/sensitivity")
def test_sensitivity_follows_from_the_extended_rows() -> None:
    rows, keys = archived(f"{NAME}/extended_r2"), [*WHO, "measure", "estimator", "object_class"]
    named = archived(f"{NAME}/sensitivity").set_index(keys).tap
    again: list[dict[str, Any]] = []
    for (network, weights, measure, estimator), part in rows.groupby(
        [*WHO, "measure", "estimator"], sort=False
    ):
        features = [tap for tap in dict.fromkeys(part.tap) if tap not in OUTPUT_TAPS]
        for object_class in [*part.object_class.unique(), "mean"]:
            chosen = part if object_class == "mean" else part[part.object_class == object_class]
            labels = {"network": network, "weights": weights, "measure": measure, "estimator": estimator}
            r2 = chosen.groupby("tap").r2_test.mean()
            best = best_layer(chosen, estimator=estimator, measure=measure)
            # Standardised channels are the same before and after a batch norm: two taps tie but for the stored digits.
            tie = named[*labels.values(), object_class]
            tap = tie if r2[best] - r2[tie] < 1e-5 else best
            choice = {"tap": tap, "depth": features.index(tap) / (len(features) - 1), "r2_test": r2[tap]}
            again.append({**labels, "object_class": object_class, **choice})
    agree(
        f"{NAME}/sensitivity",
        pd.DataFrame(again),
        keys=keys,
        whole=True,
        **ROUNDED,
    )


@recomputes(f"{NAME}/equal_width")
def test_taps_too_narrow_to_be_projected_have_the_rows_of_the_main_study() -> None:
    projected = archived(f"{NAME}/equal_width")
    narrow = projected[projected.channels < settings(NAME)["common_width"]]
    again = base().merge(narrow[[*WHO, *FITTED, "draw"]], on=[*WHO, *FITTED])
    assert len(again) == len(narrow) > 0
    assert (projected.width == projected.channels).all()
    agree(f"{NAME}/equal_width", again, keys=[*WHO, *FITTED, "draw"], stored=projected, rel=1e-3, abs=1e-5)


@recomputes(f"{NAME}/equal_width")
@pytest.mark.data
@pytest.mark.exhaustive
def test_equal_width_is_that_of_the_photographs(voc_root: Path, keras_models: Path) -> None:
    reading = read_all("MobileNet 0.25")
    one = readings.Reading(reading.labels, reading.network, {"conv_pw_6": reading.activations["conv_pw_6"]})
    again = readings.equal_width([one], photographs().table, width=settings(NAME)["common_width"])
    again = again[["tap", "channels", "n_train", "n_test", *FITTED[1:], "draw", "width", "r2_test"]]
    stored = trained_rows(archived(f"{NAME}/equal_width"), "MobileNet 0.25")
    agree(f"{NAME}/equal_width", again, keys=[*FITTED, "draw"], stored=stored, abs=R2)


@recomputes(f"{NAME}/permutation")
def test_permutation_observes_the_mean_of_the_rows() -> None:
    stored, rows = archived(f"{NAME}/permutation"), base()
    rows = trained_rows(rows)
    rows = rows[
        (rows.condition == "true") & (rows.estimator == "ridge") & (rows.measure == "sqrt_area_ratio")
    ]
    again = rows.groupby([*WHO, "tap"], sort=False).agg(
        channels=("channels", "first"), r2_test=("r2_test", "mean")
    )
    assert len(stored) == len(again)
    assert (stored.permutations == settings(NAME)["permutations"]).all()
    assert (stored.estimator == "ridge").all()
    assert (stored.p_max >= stored.p).all()
    assert (stored.p >= 1 / (stored.permutations + 1) - 1e-9).all()
    agree(f"{NAME}/permutation", again.reset_index(), keys=[*WHO, "tap"], **ROUNDED)


@recomputes(f"{NAME}/permutation")
@pytest.mark.data
@pytest.mark.exhaustive
def test_permutation_is_that_of_the_photographs(voc_root: Path, keras_models: Path) -> None:
    permutations = settings(NAME)["permutations"]
    again = readings.permutation_by_network(
        [read_all("MobileNet 0.25")], photographs().table, permutations=permutations
    )
    # two of the permutations may be as good as what is observed
    agree(
        f"{NAME}/permutation",
        again,
        keys=[*WHO, "tap"],
        abs=R2 / 4,
        loose={"p": 2 / permutations, "p_max": 2 / permutations},
    )


@recomputes(f"{NAME}/chosen_taps")
@pytest.mark.data
@pytest.mark.exhaustive
def test_chosen_taps_are_those_of_the_photographs(voc_root: Path, keras_models: Path) -> None:
    again = readings.choose_taps([read_all("MobileNet 0.25")], photographs().table)
    agree(f"{NAME}/chosen_taps", again, keys=[*WHO, "half"], abs=R2)
