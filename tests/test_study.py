"""The loops of the layer-wise study, on activations whose answer is known and on one small network."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from scalelib.errors import DataError
from scalelib.regression import layerwise_r2
from studies import readings

N = 120


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    scale = rng.uniform(0.1, 0.9, N)
    return pd.DataFrame(
        {"object_class": np.tile(["disc", "star"], N // 2), "sqrt_area_ratio": scale, "area_ratio": scale**2}
    )


def reading(
    table: pd.DataFrame,
    *,
    network: str = "net",
    weights: str = "imagenet",
    taps=("first", "middle", "last"),
    seed: int = -1,
) -> readings.Reading:
    """Taps that read scale from not at all (first) through almost exactly (middle) to roughly (last); logits follow."""
    rng = np.random.default_rng(seed + 5)
    noise = {"first": 50.0, "middle": 0.01, "last": 0.3, "pre_softmax": 0.001}
    acts = {
        tap: (table.sqrt_area_ratio.to_numpy()[:, None] + noise[tap] * rng.normal(size=(N, 12))).astype(
            np.float32
        )
        for tap in taps
    }
    return readings.Reading(
        {"network": network, "weights": weights, "weights_seed": seed}, SimpleNamespace(name=network), acts
    )  # type: ignore[arg-type]


class TestByClass:
    def test_each_class_is_regressed_by_itself_on_its_own_rows(self, table):
        acts = reading(table).activations
        found = readings.layerwise_by_class(acts, table, estimators=["ridge"], repeats=3, random_state=4)
        rows = np.flatnonzero(table.object_class == "star")
        alone = layerwise_r2(
            {t: X[rows] for t, X in acts.items()},
            table.area_ratio.to_numpy()[rows],
            repeats=3,
            random_state=4,
        )
        mine = found[(found.object_class == "star") & (found.measure == "area_ratio")]
        np.testing.assert_allclose(mine.r2_test.to_numpy(), alone.r2_test.to_numpy())

    def test_a_tap_cannot_score_by_telling_classes_apart(self):
        rng = np.random.default_rng(0)
        small = np.arange(N) % 2 == 0
        table = pd.DataFrame(
            {
                "object_class": np.where(small, "ant", "bus"),
                "area_ratio": np.where(small, 0.1, 0.8) + rng.normal(0, 0.02, N),
            }
        )
        names_the_class = {"tap": small[:, None] + rng.normal(0, 0.01, (N, 3))}
        pooled = layerwise_r2(names_the_class, table.area_ratio, repeats=3, conditions="true").r2_test.mean()
        apart = readings.layerwise_by_class(
            names_the_class, table, measures=["area_ratio"], repeats=3, conditions="true"
        ).r2_test.mean()
        assert pooled > 0.9
        assert apart < 0.1

    def test_unknown_measure_is_refused_with_a_hint(self, table):
        with pytest.raises(DataError, match="Did you mean 'area_ratio'"):
            readings.layerwise_by_class(reading(table).activations, table, measures=["area_rato"])


def test_taps_read_counts_seeds_and_channels(table):
    readings = [reading(table), *(reading(table, weights="random", seed=s) for s in (0, 1))]
    found = readings.taps_read(readings).set_index("weights")
    assert found.seeds.to_dict() == {"imagenet": 1, "random": 2}
    assert found.loc["imagenet", ["first", "last", "taps", "channels"]].tolist() == [
        "first",
        "last",
        3,
        "12 to 12",
    ]


def test_equal_width_projects_wide_taps_keeps_narrow_ones_and_reuses_the_splits(table):
    found = readings.equal_width([reading(table)], table, width=4, draws=2, repeats=3)
    assert found.width.unique().tolist() == [4]
    assert (found.width == found.channels).all()
    assert set(found.draw) == {0, 1}
    kept = readings.equal_width([reading(table)], table, width=64, draws=2, repeats=3)
    assert kept.width.unique().tolist() == [12]
    pairs = kept.pivot_table(index=["tap", "object_class", "repeat"], columns="draw", values="r2_test")
    np.testing.assert_allclose(
        pairs[0], pairs[1]
    )  # nothing to project, so the same splits give the same numbers


def test_permutation_by_network_finds_the_tap_that_reads_and_not_the_one_that_does_not(table):
    found = readings.permutation_by_network(
        [reading(table, taps=("first", "middle"))], table, permutations=19, repeats=2
    )
    p = found.set_index("tap").p
    assert found[["network", "weights"]].drop_duplicates().to_numpy().tolist() == [["net", "imagenet"]]
    assert p["middle"] == pytest.approx(1 / 20)
    assert p["first"] > 0.05


class TestChoice:
    def test_both_halves_choose_the_tap_that_reads_best_and_never_the_logits(self, table):
        found = readings.choose_taps(
            [reading(table, taps=("first", "middle", "last", "pre_softmax"))], table, repeats=3
        )
        assert found[["half", "tap", "depth"]].to_numpy().tolist() == [[1, "middle", 0.5], [2, "middle", 0.5]]
        assert (found.r2_report_best >= found.r2_report).all()

    def test_a_network_read_at_one_tap_has_depth_0(self, table):
        found = readings.choose_taps([reading(table, taps=("middle",))], table, repeats=3)
        assert found.depth.tolist() == [0.0, 0.0]

    def test_sensitivity_has_one_choice_per_measure_estimator_and_class_and_their_mean(self, table):
        found = readings.sensitivity_of_choice(
            [reading(table)],
            table,
            measures=["sqrt_area_ratio", "area_ratio"],
            estimators=["ridge", "ols"],
            repeats=3,
        )
        assert len(found.choice) == 2 * 2 * 3
        assert set(found.choice.tap) == {"middle"}
        assert set(found.choice.depth) == {0.5}
        mean = found.r2[
            (found.r2.tap == "middle") & (found.r2.measure == "area_ratio") & (found.r2.estimator == "ols")
        ].r2_test.mean()
        row = found.choice[
            (found.choice.measure == "area_ratio")
            & (found.choice.estimator == "ols")
            & (found.choice.object_class == "mean")
        ]
        assert row.r2_test.item() == pytest.approx(mean)

    def test_sensitivity_of_one_tap_has_depth_0(self, table):
        found = readings.sensitivity_of_choice(
            [reading(table, taps=("last",))], table, measures=["area_ratio"], estimators=["ridge"], repeats=2
        )
        assert set(found.choice.depth) == {0.0}


class TestReadNetworks:
    IMAGES = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)

    def test_one_reading_per_seed_with_labels_and_taps_in_order(self):
        spec = {
            "name": "control",
            "weights": "random",
            "label": "tiny",
            "seeds": [0, 3],
            "taps": ["conv1", "conv2"],
        }
        found = list(readings.read_networks([spec], self.IMAGES))
        assert [r.labels for r in found] == [
            {"network": "tiny", "weights": "random", "weights_seed": s} for s in (0, 3)
        ]
        assert [list(r.activations) for r in found] == [["conv1", "conv2"]] * 2
        assert not np.allclose(found[0].activations["conv2"], found[1].activations["conv2"])

    def test_trained_weights_carry_their_label_and_no_seed(self):
        spec = {"name": "control", "weights": "all_scales", "weights_label": "all scales", "taps": ["conv1"]}
        labels = next(readings.read_networks([spec], self.IMAGES)).labels
        assert labels == {"network": "control", "weights": "all scales", "weights_seed": -1}

    def test_the_profile_is_left_as_it_was(self):
        spec = {"name": "control", "weights": "random", "seeds": [1], "taps": ["conv1"]}
        before = dict(spec)
        list(readings.read_networks([spec], self.IMAGES))
        assert spec == before


def test_examples_are_spread_over_each_classs_range_and_repeat_with_the_seed(table):
    rows = readings.example_rows(table, per_class=4, random_state=2)
    assert rows == readings.example_rows(table, per_class=4, random_state=2)
    for name, part in table.iloc[rows].groupby("object_class"):
        scale = part.sqrt_area_ratio.to_numpy()
        edges = table.sqrt_area_ratio[table.object_class == name].quantile([0.25, 0.5, 0.75])
        assert np.searchsorted(edges, scale).tolist() == [0, 1, 2, 3]


def test_fewer_images_than_examples_are_all_shown_once():
    table = pd.DataFrame({"object_class": ["a"] * 2, "sqrt_area_ratio": [0.5, 0.2]})
    assert readings.example_rows(table, per_class=5) == [1, 0]
