"""A profile's networks, read at any size, and the loops of section 4.3 on activations whose answer is known."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from built import built

from scalelib.activations import extract
from scalelib.graph import keras
from scalelib.networks import load_network
from scalelib.regression import layerwise_r2
from studies import readings
from studies.readings import any_size, border_free, open_networks, padding_probe
from studies.s02_resizing import load_pictures, sampling_table

N = 120
MOBILENET = {"name": "MobileNet", "weights": "random", "alpha": 0.25, "input_size": 64}


def noise_images(n, size, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), np.uint8)


def mobilenet(**options):
    return built("MobileNet", **{"alpha": 0.25, "input_size": 64, **options})


def test_one_reading_per_seed_with_labels_and_taps_in_order_and_the_profile_left_alone():
    spec = {
        "name": "control",
        "weights": "random",
        "label": "tiny",
        "seeds": [0, 3],
        "taps": ["conv1", "conv2"],
    }
    before = dict(spec)
    found = list(readings.read_networks([spec], noise_images(3, 64)))
    assert [r.labels for r in found] == [
        {"network": "tiny", "weights": "random", "weights_seed": seed} for seed in (0, 3)
    ]
    assert [list(r.activations) for r in found] == [["conv1", "conv2"]] * 2
    assert not np.allclose(found[0].activations["conv2"], found[1].activations["conv2"])
    assert spec == before


def test_opened_networks_keep_their_weights_and_say_the_size_they_were_made_for():
    opened = list(open_networks([{**MOBILENET, "seeds": [0, 1]}]))
    assert [labels["weights_seed"] for labels, _, _ in opened] == [0, 1]
    assert all(net.input_size is None and size == 64 for _, net, size in opened)
    assert [net.weights_digest for _, net, _ in opened] == [
        mobilenet(weights_seed=seed).weights_digest for seed in (0, 1)
    ]


@pytest.mark.parametrize("size", [64, 96])
def test_opened_network_gives_what_one_built_for_that_size_gives(size):
    images, built = noise_images(2, size), mobilenet(input_size=size)
    ours, theirs = extract(any_size(mobilenet()), images), extract(built, images)
    for tap in built.taps:
        np.testing.assert_allclose(ours[tap], theirs[tap], rtol=1e-4, atol=1e-5, err_msg=tap)


def test_images_of_mixed_sizes_come_back_in_their_order():
    net = padding_probe(padding="same")
    images = [noise_images(1, size, seed)[0] for seed, size in enumerate((24, 16, 24, 32, 16))]
    acts = extract(net, images)
    for row, image in enumerate(images):
        alone = extract(net, image[None])["conv3"][0]
        np.testing.assert_allclose(acts["conv3"][row], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("network", ["probe", "mobilenet"])
def test_border_free_positions_do_not_change_when_the_surroundings_do(network):
    """An image on grey and the same image on white: equal inside, different at the border."""
    probe = network == "probe"
    net = padding_probe(padding="same", depth=3, activation="relu") if probe else any_size(mobilenet())
    size, frame = 96, 32
    inside = noise_images(1, size)[0]
    inner = border_free(net, size)
    alone, whole = extract(inner, inside[None]), extract(net, inside[None])
    for tap in inner.taps:
        assert not np.allclose(alone[tap], whole[tap], rtol=1e-3), f"{tap}: nothing was cut"
    framed = []
    for level in (128, 255):
        picture = np.full((size + 2 * frame, size + 2 * frame, 3), level, np.uint8)
        picture[frame:-frame, frame:-frame] = inside
        framed.append(picture)
    tap = next(iter(inner.taps))
    extra = inner.step(tap).operation.cropping[0][0] + frame // (1 if probe else 2)
    model = keras.Model(net.model.input, keras.layers.Cropping2D(extra)(net.tensor(tap)))
    maps = model.predict(net.preprocess(np.stack(framed).astype(np.float32)), verbose=0)
    np.testing.assert_allclose(maps[0], maps[1], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(maps[0].mean(axis=(0, 1)), alone[tap][0], rtol=1e-3, atol=1e-4)


def test_taps_without_a_border_free_position_are_dropped():
    """Thirteen valid 3×3 convolutions leave 6 of 32 positions; a margin of 4 on each side leaves none."""
    inner = border_free(padding_probe(padding="valid", depth=13), 32)
    assert "conv13" not in inner.taps
    assert all(np.isfinite(values).all() for values in extract(inner, noise_images(1, 32)).values())
    late = load_network(padding_probe(padding="same", depth=12).model, taps=["conv12"], input_size="any")
    assert not border_free(late, 16).taps


def test_sampling_table_leaves_out_what_cannot_be_had_and_changes_one_pixel():
    whole, _ = load_pictures("scenes", 3, factors=(0.5, 1.0, 2.0))
    ((_, net, size),) = open_networks([MOBILENET])
    table = sampling_table(net, whole, size=size, factors=(0.5,), interpolations=("nearest", "area"))
    assert set(zip(table.interpolation, table.antialias, strict=True)) == {("nearest", False), ("area", True)}
    assert sorted(table.change_px.unique()) == [-32, 0, 1]


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    scale = np.random.default_rng(1).uniform(0.1, 0.9, N)
    classes = np.tile(["disc", "star"], N // 2)
    return pd.DataFrame({"object_class": classes, "sqrt_area_ratio": scale, "area_ratio": scale**2})


def reading(table, *, weights="imagenet", taps=("first", "middle", "last"), seed=-1) -> readings.Reading:
    """Taps that read scale from not at all (first) through almost exactly (middle) to roughly (last); logits follow."""
    rng = np.random.default_rng(seed + 5)
    noise = {"first": 50.0, "middle": 0.01, "last": 0.3, "pre_softmax": 0.001}
    scale = table.sqrt_area_ratio.to_numpy()[:, None]
    acts = {tap: (scale + noise[tap] * rng.normal(size=(N, 12))).astype(np.float32) for tap in taps}
    labels = {"network": "net", "weights": weights, "weights_seed": seed}
    return readings.Reading(labels, SimpleNamespace(name="net"), acts)  # type: ignore[arg-type]


def test_each_class_is_regressed_by_itself_on_its_own_rows(table):
    acts = reading(table).activations
    found = readings.layerwise_by_class(acts, table, estimators=["ridge"], repeats=3, random_state=4)
    rows = np.flatnonzero(table.object_class == "star")
    chosen = {tap: X[rows] for tap, X in acts.items()}
    alone = layerwise_r2(chosen, table.area_ratio.to_numpy()[rows], repeats=3, random_state=4)
    mine = found[(found.object_class == "star") & (found.measure == "area_ratio")]
    np.testing.assert_allclose(mine.r2_test.to_numpy(), alone.r2_test.to_numpy())


def test_a_tap_cannot_score_by_telling_classes_apart():
    rng = np.random.default_rng(0)
    small = np.arange(N) % 2 == 0
    area = np.where(small, 0.1, 0.8) + rng.normal(0, 0.02, N)
    table = pd.DataFrame({"object_class": np.where(small, "ant", "bus"), "area_ratio": area})
    acts = {"tap": small[:, None] + rng.normal(0, 0.01, (N, 3))}
    pooled = layerwise_r2(acts, area, repeats=3, conditions="true").r2_test.mean()
    apart = readings.layerwise_by_class(acts, table, measures=["area_ratio"], repeats=3, conditions="true")
    assert pooled > 0.9
    assert apart.r2_test.mean() < 0.1


def test_equal_width_projects_wide_taps_keeps_narrow_ones_and_reuses_the_splits(table):
    found = readings.equal_width([reading(table)], table, width=4, draws=2, repeats=3)
    assert found.width.unique().tolist() == [4]
    assert (found.width == found.channels).all()
    assert set(found.draw) == {0, 1}
    kept = readings.equal_width([reading(table)], table, width=64, draws=2, repeats=3)
    assert kept.width.unique().tolist() == [12]
    pairs = kept.pivot_table(index=["tap", "object_class", "repeat"], columns="draw", values="r2_test")
    np.testing.assert_allclose(pairs[0], pairs[1])  # nothing to project: the same splits, the same numbers


def test_both_halves_choose_the_tap_that_reads_best_and_never_the_logits(table):
    one = reading(table, taps=("first", "middle", "last", "pre_softmax"))
    found = readings.choose_taps([one], table, repeats=3)
    assert found[["half", "tap", "depth"]].to_numpy().tolist() == [[1, "middle", 0.5], [2, "middle", 0.5]]
    assert (found.r2_report_best >= found.r2_report).all()


def test_examples_are_spread_over_each_classs_range_and_repeat_with_the_seed(table):
    rows = readings.example_rows(table, per_class=4, random_state=2)
    assert rows == readings.example_rows(table, per_class=4, random_state=2)
    for name, part in table.iloc[rows].groupby("object_class"):
        scale = part.sqrt_area_ratio.to_numpy()
        edges = table.sqrt_area_ratio[table.object_class == name].quantile([0.25, 0.5, 0.75])
        assert np.searchsorted(edges, scale).tolist() == [0, 1, 2, 3]
    few = pd.DataFrame({"object_class": ["a"] * 2, "sqrt_area_ratio": [0.5, 0.2]})
    assert readings.example_rows(few, per_class=5) == [1, 0]
