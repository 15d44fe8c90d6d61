"""Networks at any size: the same function, borders that leak the canvas, and centres that do not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from scalelib.activations import extract
from scalelib.errors import NetworkError
from scalelib.graph import keras
from scalelib.networks import load_network
from studies.readings import any_size, border_free, open_networks, padding_probe, read_by_size
from studies.s02_resizing import load_pictures, sampling_table, size_tables
from studies.s03_noise import noise_r2, render_noise, summarize_noise

MOBILENET = {"name": "MobileNet", "weights": "random", "alpha": 0.25, "input_size": 64}


def noise_images(n, size, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), np.uint8)


def test_opened_network_gives_the_same_at_its_own_size():
    net = load_network("MobileNet", weights="random", alpha=0.25, input_size=64)
    images = noise_images(3, 64)
    ours, theirs = extract(any_size(net), images), extract(net, images)
    for tap in net.taps:
        np.testing.assert_allclose(ours[tap], theirs[tap], rtol=1e-4, atol=1e-5, err_msg=tap)


def test_opened_network_gives_at_another_size_what_one_built_for_that_size_gives():
    opened = any_size(load_network("MobileNet", weights="random", alpha=0.25, input_size=64))
    built = load_network("MobileNet", weights="random", alpha=0.25, input_size=96)
    images = noise_images(2, 96)
    ours, theirs = extract(opened, images), extract(built, images)
    for tap in built.taps:
        np.testing.assert_allclose(ours[tap], theirs[tap], rtol=1e-4, atol=1e-5, err_msg=tap)


def test_opened_network_keeps_its_identity():
    net = load_network("MobileNet", weights="random", alpha=0.25, input_size=64, weights_seed=3)
    opened = any_size(net)
    assert (opened.name, opened.weights_seed, opened.weights_digest) == (net.name, 3, net.weights_digest)


def test_network_that_flattens_a_map_is_refused():
    image = keras.Input((16, 16, 3))
    x = keras.layers.Flatten()(keras.layers.Conv2D(2, 3, name="conv")(image))
    net = load_network(keras.Model(image, keras.layers.Dense(2)(x)), taps=["conv"])
    with pytest.raises(NetworkError):
        any_size(net)


def test_images_of_mixed_sizes_come_back_in_their_order():
    net = padding_probe(padding="same")
    images = [noise_images(1, size, seed)[0] for seed, size in enumerate((24, 16, 24, 32, 16))]
    acts = read_by_size(net, images)
    for row, image in enumerate(images):
        alone = extract(net, image[None])["conv3"][0]
        np.testing.assert_allclose(acts["conv3"][row], alone, rtol=1e-4, atol=1e-5)


def test_fixed_size_network_is_not_read_natively():
    net = load_network("MobileNet", weights="random", alpha=0.25, input_size=64)
    with pytest.raises(NetworkError, match="any size"):
        read_by_size(net, noise_images(2, 32))


@pytest.mark.parametrize("network", ["probe", "mobilenet"])
def test_border_free_positions_do_not_change_when_the_surroundings_do(network):
    """An image on grey and the same image on white: equal inside, different at the border."""
    if network == "probe":
        net = padding_probe(padding="same", depth=3, activation="relu")
    else:
        net = any_size(load_network("MobileNet", weights="random", alpha=0.25, input_size=64))
    size, frame = 96, 32
    inside = noise_images(1, size)[0]
    inner = border_free(net, size)
    alone = extract(inner, inside[None])
    whole = extract(net, inside[None])
    for tap in inner.taps:
        assert not np.allclose(alone[tap], whole[tap], rtol=1e-3), f"{tap}: nothing was cut"
    framed = []
    for level in (128, 255):
        picture = np.full((size + 2 * frame, size + 2 * frame, 3), level, np.uint8)
        picture[frame:-frame, frame:-frame] = inside
        framed.append(picture)
    tap = next(iter(inner.taps))
    layer = inner.step(tap).operation
    stride = 1 if network == "probe" else 2
    extra = layer.cropping[0][0] + frame // stride
    tensor = net.tensor(tap)
    model = keras.Model(net.model.input, keras.layers.Cropping2D(extra)(tensor))
    maps = model.predict(net.preprocess(np.stack(framed).astype(np.float32)), verbose=0)
    np.testing.assert_allclose(maps[0], maps[1], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(maps[0].mean(axis=(0, 1)), alone[tap][0], rtol=1e-3, atol=1e-4)


def test_maps_that_shrink_without_padding_are_cut_only_where_something_is_left():
    """Thirteen valid 3×3 convolutions leave 6 of 32 positions; a margin of 4 on each side leaves none."""
    net = padding_probe(padding="valid", depth=13)
    inner = border_free(net, 32)
    assert "conv13" not in inner.taps
    acts = extract(inner, noise_images(1, 32))
    assert all(np.isfinite(values).all() for values in acts.values())


def test_no_border_free_position_is_said():
    net = padding_probe(padding="same", depth=12)
    late = load_network(net.model, taps=["conv12"], input_size="any")
    with pytest.raises(NetworkError, match="see no border"):
        border_free(late, 16)


@pytest.mark.parametrize("activation", [None, "relu"])
def test_same_padding_leaks_canvas_size_and_valid_padding_does_not(activation):
    """Through the notebook's own functions; the linear case is the closed form: a stationary mean."""
    noise = render_noise(160, canvas_sizes=(24, 32, 40, 48), correlation_lengths=(1.0, 1.5))
    tables = []
    for padding in ("same", "valid"):
        net = padding_probe(padding=padding, activation=activation)
        table = noise_r2(net, noise, measures=["canvas_size"], estimator="ridge", conditions="true")
        tables.append(summarize_noise(table.assign(network=padding, weights="probe", weights_seed=-1)))
    r2 = pd.concat(tables).set_index(["network", "region", "tap"])["mean"]
    assert r2["same", "whole map", "conv3"] > 0.7
    assert r2["same", "border-free", "conv3"] < 0.1
    assert r2["valid", "whole map", "conv3"] < 0.1


def test_random_filters_read_the_correlation_length_of_noise():
    noise = render_noise(120, canvas_sizes=(48, 64), correlation_lengths=(1.0, 4.0))
    net = padding_probe(padding="valid", depth=1, activation="relu")
    table = noise_r2(net, noise, measures=["correlation_length"], estimator="ridge", repeats=5)
    means = table[table.region == "whole map"].groupby("condition").r2_test.mean()
    assert means["true"] > 0.8
    assert means["shuffled"] < 0.1


def test_measure_that_a_kind_of_noise_does_not_have_is_left_out():
    noise = render_noise(30, kind="white", canvas_sizes=(16, 24))
    table = noise_r2(padding_probe(padding="same", depth=1), noise, repeats=2, estimator="ridge")
    assert set(table.measure) == {"canvas_size"}


def test_seeds_give_one_network_each_with_labels_for_its_rows():
    opened = list(open_networks([{**MOBILENET, "label": "tiny", "seeds": [0, 1]}]))
    assert [labels["weights_seed"] for labels, _, _ in opened] == [0, 1]
    assert opened[0][0]["network"] == "tiny"
    assert opened[0][1].weights_digest != opened[1][1].weights_digest
    assert all(net.input_size is None and size == 64 for _, net, size in opened)


def test_size_tables_hold_every_manipulation_with_the_sizes_that_were_read():
    whole, windows = load_pictures("scenes", 4, factors=(0.5, 1.0, 2.0))
    ((labels, net, size),) = open_networks([MOBILENET])
    factors = dict.fromkeys(("resize", "detail", "rendered", "zoom", "share", "canvas"), (0.5, 1.0, 2.0))
    parts = [
        size_tables(net, source, size=size, factors=factors)["predictions"] for source in (whole, windows)
    ]
    sizes = {(row.manipulation, row.factor): row.image_size for part in parts for row in part.itertuples()}
    assert labels["weights"] == "random"
    assert len(sizes) == 18
    for (manipulation, factor), side in sizes.items():
        grows = manipulation in ("resize", "zoom", "canvas")
        assert side == (size * factor if grows else size), manipulation


def test_rendered_series_is_the_paired_scenes_at_the_shares_that_its_factors_say():
    whole, windows = load_pictures("scenes", 3, share=0.4, factors=(0.5, 1.0, 2.0))
    assert whole.dataset.table.scale.tolist() == pytest.approx([0.4] * 3)
    assert windows.dataset.table.scale.tolist() == pytest.approx([0.2] * 3)
    assert sorted(whole.rendered) == [0.5, 1.0, 2.0]


def test_sampling_table_leaves_out_what_cannot_be_had_and_changes_one_pixel():
    whole, _ = load_pictures("scenes", 3, factors=(0.5, 1.0, 2.0))
    ((_, net, size),) = open_networks([MOBILENET])
    table = sampling_table(net, whole, size=size, factors=(0.5,), interpolations=("nearest", "area"))
    assert set(zip(table.interpolation, table.antialias, strict=True)) == {("nearest", False), ("area", True)}
    assert sorted(table.change_px.unique()) == [-32, 0, 1]
