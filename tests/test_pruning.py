"""Pruning at a tap, the rule that names the tap, and its worth on images that took no part."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from built import built

from scalelib import pruning
from scalelib.errors import DataError, NetworkError, ResultsError
from scalelib.graph import keras
from scalelib.networks import Network, load_network
from scalelib.pruning import best_layer, choose_and_report, prune
from scalelib.regression import layerwise_r2


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.fixture(scope="module")
def net() -> Network:
    return built("MobileNet", alpha=0.25, input_size=64, classes=10)


def features_of(model: keras.Model) -> keras.Model:
    return keras.Model(model.inputs[0], model.get_layer("head").input)


# --- the cut -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "tap"),
    [
        *(("MobileNet", tap) for tap in ("conv_pw_1", "conv_pw_13", "pre_softmax", "softmax")),
        ("SqueezeNet", "fire5"),
        ("MobileNetV2", "block_6_project_BN"),
    ],
)
def test_features_equal_the_sources_at_the_tap_bit_by_bit(net: Network, name: str, tap: str) -> None:
    source = net if name == "MobileNet" else built(name, input_size=64)
    x = noise(3, 64, 64, 3)
    at_tap = keras.Model(source.model.inputs[0], source.tensor(tap))(x)
    expected = np.asarray(keras.layers.GlobalAveragePooling2D()(at_tap) if len(at_tap.shape) == 4 else at_tap)
    small = prune(source, at=tap)
    np.testing.assert_array_equal(np.asarray(features_of(small)(x)), expected)
    kernel, bias = small.get_layer("head").get_weights()
    np.testing.assert_allclose(np.asarray(small(x)), expected @ kernel + bias, rtol=1e-4, atol=1e-6)


def test_layers_after_the_tap_are_gone_and_keras_predicts_with_the_name(net: Network) -> None:
    small = prune(net, at="conv_pw_3", outputs=2)
    names = [layer.name for layer in small.layers]
    assert names[-3:] == ["conv_pw_3", "features", "head"]
    assert not [name for name in names if "_4" in name]
    cut = keras.Model(net.model.inputs[0], net.tensor("conv_pw_3"))
    assert small.count_params() == cut.count_params() + 2 * (32 + 1)
    assert small.name == "MobileNet_0.25_to_conv_pw_3"
    assert small.predict(noise(2, 64, 64, 3), verbose=0).shape == (2, 2)


def test_training_the_pruned_network_does_not_change_the_source(net: Network) -> None:
    before = [array.copy() for array in net.model.get_weights()]
    small = prune(net, at="conv_pw_5")
    kept = [array.copy() for array in small.get_weights()]
    small.compile(keras.optimizers.Adam(1e-2), "mse", run_eagerly=True)  # two steps
    small.fit(noise(8, 64, 64, 3), noise(8, 1), batch_size=4, epochs=1, verbose=0)
    changed = [not np.array_equal(a, b) for a, b in zip(kept, small.get_weights(), strict=True)]
    assert all(changed)  # every weight was trained, batch statistics included
    for old, new in zip(before, net.model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_the_head_is_seeded_and_global_states_stay(net: Network) -> None:
    state = random.getstate()
    models = [prune(net, at="conv_pw_2", random_state=seed) for seed in (1, 1, 2)]
    heads = [model.get_layer("head").get_weights()[0] for model in models]
    np.testing.assert_array_equal(heads[0], heads[1])
    assert not np.array_equal(heads[0], heads[2])
    assert random.getstate() == state


@pytest.mark.parametrize("name", ["SqueezeNet", "ConvNeXtTiny"])
def test_the_result_saves_and_loads_without_custom_objects(name: str, tmp_path: Path) -> None:
    source = built(name, input_size=64)
    small = prune(source, at=list(source.taps)[3])
    small.save(tmp_path / "small.keras")
    again = keras.models.load_model(tmp_path / "small.keras", safe_mode=True)
    x = noise(2, 64, 64, 3)
    np.testing.assert_array_equal(np.asarray(again(x)), np.asarray(small(x)))
    assert again.get_layer("head").activation is keras.activations.linear


def test_a_network_for_any_size_stays_one() -> None:
    source = load_network("SqueezeNet", weights="random", input_size="any")
    small = prune(source, at="fire4")
    assert small.input_shape == (None, None, None, 3)
    assert np.asarray(small(noise(1, 50, 70, 3))).shape == (1, 1)


def test_names_already_taken_are_left_alone() -> None:
    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(2, 3, name="head")(keras.layers.Conv2D(2, 3, name="features")(image))
    small = prune(load_network(keras.Model(image, x), taps=["head"]), at="head")
    assert [layer.name for layer in small.layers[1:]] == ["features", "head", "features_2", "head_2"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        *(({"at": "conv_pw_1", "outputs": n}, "whole number of at least 1") for n in (0, 1.5, True, "one")),
        ({"at": "conv_pw_14"}, r"^prune: no layer 'conv_pw_14' in MobileNet 0\.25; taps are"),
    ],
)
def test_cuts_that_make_no_sense_are_refused(net: Network, options: dict[str, Any], words: str) -> None:
    with pytest.raises((NetworkError, DataError), match=words):
        prune(net, **options)


# --- the rule ------------------------------------------------------------------------------------


def table_of(scores: dict[str, list[float]], **columns: Any) -> pd.DataFrame:
    rows = [
        {"tap": tap, "r2_test": value, "repeat": k} for tap, v in scores.items() for k, value in enumerate(v)
    ]
    return pd.DataFrame(rows).assign(**columns)


MIXED = pd.concat(
    table_of(dict(zip("ab", scores, strict=True)), condition=condition, estimator=estimator, measure=measure)
    for scores, condition, estimator, measure in (
        ([[0.9], [0.1]], "shuffled", "ridge", "sqrt_area_ratio"),
        ([[0.9], [0.1]], "true", "ols", "sqrt_area_ratio"),
        ([[0.9], [0.1]], "true", "ridge", "area_ratio"),
        ([[0.3], [0.6]], "true", "ridge", "sqrt_area_ratio"),
    )
)
OUTPUTS = table_of({"a": [0.2], "b": [0.3], "pre_softmax": [0.9], "softmax": [0.8]})


def classes(x: dict[str, list[float]], y: dict[str, list[float]]) -> pd.DataFrame:
    return pd.concat([table_of(x, object_class="x"), table_of(y, object_class="y")])


@pytest.mark.parametrize(
    ("table", "options", "tap"),
    [
        # pooling all rows would choose "b": class x has three times as many repeats
        (classes({"a": [0.1] * 6, "b": [0.5] * 6}, {"a": [0.9] * 2, "b": [0.2] * 2}), {}, "a"),
        (MIXED, {}, "b"),
        (MIXED, {"estimator": "ols"}, "a"),
        (MIXED, {"measure": "area_ratio"}, "a"),
        (
            table_of({"late": [0.2, 0.4], "a": [0.4, 0.2], "z": [0.1, 0.1]}),
            {},
            "late",
        ),  # of equal ones the earlier
        (OUTPUTS, {}, "b"),
        (OUTPUTS, {"candidates": ["pre_softmax", "a"]}, "pre_softmax"),
        (table_of({"softmax": [0.1], "pre_softmax": [0.2]}), {}, "pre_softmax"),  # nothing else was read
        (table_of({"a": [0.1], "b": [0.2]}, measure=0), {"measure": 0}, "b"),
        (classes({"a": [0.9, np.nan], "b": [0.8], "c": [0.3]}, {"a": [0.9], "c": [0.3]}), {}, "c"),
        (table_of({"a": [-np.inf, 0.9], "b": [-3.0, -3.0]}), {}, "b"),  # a bad score is no missing one
    ],
)
def test_the_rule_is_the_highest_mean_over_classes_of_what_it_may_read(
    table: pd.DataFrame, options: dict[str, Any], tap: str
) -> None:
    assert best_layer(table, **options) == tap


def several(column: str) -> pd.DataFrame:
    return pd.concat([table_of({"a": [0.2]}, **{column: value}) for value in ("first", "second")])


@pytest.mark.parametrize(
    ("table", "options", "words"),
    [
        (several("network"), {}, r"2 values of network: 'first', 'second'[\s\S]*table\.network"),
        (several("weights_seed"), {}, "2 values of weights_seed"),
        (pd.DataFrame({"tap": ["a"]}), {}, "no column r2_test"),
        (
            table_of({"a": [0.2]}, estimator="ols"),
            {},
            r"no rows with estimator 'ridge'[\s\S]*'ols'[\s\S]*estimator=",
        ),
        (table_of({"a": [0.2]}, condition="shuffled"), {}, "no rows with condition 'true'"),
        (table_of({"a": [np.nan]}), {}, "for every class"),
        (OUTPUTS, {"candidates": ["presoftmax"]}, r"no tap 'presoftmax'[\s\S]*Did you mean 'pre_softmax'"),
    ],
)
def test_tables_that_the_rule_cannot_read_are_refused(
    table: pd.DataFrame, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ResultsError, match=words):
        best_layer(table, **options)


# --- choosing on one half, reporting on the other ------------------------------------------------


def problem(n: int, seed: int, signal: dict[str, float]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    rng = np.random.default_rng(seed)
    size = rng.uniform(0.2, 0.9, n)
    acts = {tap: s * size[:, None] + rng.normal(size=(n, 5)) for tap, s in signal.items()}
    return acts, size


def test_the_tap_that_holds_the_signal_is_chosen_in_both_halves_and_reported() -> None:
    acts, size = problem(200, 0, {"a": 0.5, "b": 6.0, "softmax": 60.0})
    classes = np.repeat(["x", "y"], 100)
    table = choose_and_report(acts, size, classes=classes, repeats=4)
    assert table.tap.tolist() == ["b"] * 4
    assert table.half.tolist() == [1, 1, 2, 2]
    assert table.object_class.tolist() == ["x", "y"] * 2
    assert (table.n_choose == 50).all()
    assert (table.n_report == 50).all()
    assert (table.r2_report > 0.5).all()
    assert np.allclose(table.r2_report[:2], table.r2_choose[2:])  # the same tap: the halves swap
    assert (table.r2_report <= table.r2_report_best + 1e-12).all()
    assert choose_and_report(acts, size, classes=classes, repeats=4).equals(table)


def test_no_image_takes_part_in_both_the_choice_and_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    acts, size = problem(60, 1, {"a": 1.0, "b": 6.0})
    seen: list[tuple[np.ndarray, pd.DataFrame]] = []

    def spy(part: dict[str, np.ndarray], measures: np.ndarray, **options: Any) -> pd.DataFrame:
        table = layerwise_r2(part, measures, **options)
        seen.append((measures, table))
        return table

    monkeypatch.setattr(pruning, "layerwise_r2", spy)
    found = choose_and_report(acts, size, repeats=3)
    (first, table_1), (second, table_2) = seen
    assert sorted([*first, *second]) == sorted(size)
    assert len(first) == len(second) == 30
    for row, table in zip(found.itertuples(), (table_2, table_1), strict=True):
        of_tap = table.r2_test[table.tap == row.tap].to_numpy()
        assert row.r2_report == pytest.approx(of_tap.mean(), rel=1e-12)
        assert row.r2_report_sd == pytest.approx(np.std(of_tap, ddof=1), rel=1e-12)
        assert row.r2_report_best == pytest.approx(table.groupby("tap").r2_test.mean().max(), rel=1e-12)


def test_groups_stay_in_one_half_and_classes_stay_balanced() -> None:
    acts, size = problem(240, 2, {"a": 0.0, "b": 6.0})
    groups = np.repeat(np.arange(60), 4)
    classes = np.repeat(["x", "y", "z"], 80)
    table = choose_and_report(acts, size, classes=classes, groups=groups, repeats=2)
    assert (abs(table.n_choose - table.n_report) <= 4).all()
    assert (table.n_choose % 4 == 0).all()
    assert (table.n_choose + table.n_report == 80).all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"classes": ["common"] * 40 + ["rare"] * 8}, "of class 'rare'"),
        ({"measures": np.ones(48)}, "measures must vary"),
        ({"groups": np.repeat([0, 1], 24)}, "0 and 24 in repeat 0, of 1 groups"),
        ({"random_state": -1}, "random_state must be a whole number of at least 0"),
    ],
)
def test_halves_that_cannot_be_split_are_refused(options: dict[str, Any], words: str) -> None:
    acts, size = problem(48, 3, {"a": 1.0})
    with pytest.raises(DataError, match=words):
        choose_and_report(acts, **{"measures": size, **options})
