"""Stride, receptive field, depth and parameters of taps, against published values and by experiment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from scalelib.graph import keras
from scalelib.networks import describe, load_network

layers = keras.layers

# Araujo, Norris and Sim 2019, table of receptive fields (px), at the last feature map
PUBLISHED = [
    ("ResNet50", "add16", 483, 32),
    ("MobileNet", "conv_pw_13", 315, 32),
    ("InceptionV3", "mixed10", 1311, 32),
    ("VGG16", "block5_conv3", 196, 16),
]
KERNEL_LAYERS = [("ResNet50", 50), ("VGG16", 16), ("MobileNet", 28), ("MobileNetV2", 53)]


@pytest.mark.parametrize(("name", "tap", "field", "stride"), PUBLISHED)
def test_receptive_fields_are_the_published_ones(name: str, tap: str, field: int, stride: int) -> None:
    net = load_network(name, weights="random", input_size="any", include_top=False)
    row = describe(net).set_index("tap").loc[tap]
    assert (row.receptive_field, row.stride) == (field, stride)


@pytest.mark.parametrize(("name", "depth"), KERNEL_LAYERS)
def test_depth_of_the_logits_is_the_number_in_the_networks_description(name: str, depth: int) -> None:
    net = load_network(name, weights="random", input_size=96, classes=10)
    assert describe(net).set_index("tap").depth["pre_softmax"] == depth


def test_receptive_fields_of_squeezenet_follow_the_recursion() -> None:
    table = describe(load_network("SqueezeNet", weights="random")).set_index("tap")
    field, jump, expected = 7, 2, {}
    for name in [
        "pool1",
        "fire2",
        "fire3",
        "fire4",
        "pool4",
        *(f"fire{k}" for k in range(5, 9)),
        "pool8",
        "fire9",
    ]:
        field += 2 * jump
        jump *= 2 if name.startswith("pool") else 1
        expected[name] = (field, jump)
    for tap in table.index[:-2]:
        assert (table.receptive_field[tap], table.stride[tap]) == expected[tap]
    assert table.receptive_field.isna().tolist() == [False] * 9 + [True] * 2


@pytest.mark.parametrize("name", ["MobileNet", "SqueezeNet"])
def test_parameters_up_to_a_tap_are_those_of_the_network_cut_there(name: str) -> None:
    net = load_network(name, weights="random", input_size=64, classes=10)
    for row in describe(net).itertuples():
        cut = keras.Model(net.model.inputs[0], net.tensor(row.tap))
        assert row.parameters == cut.count_params()
        assert row.channels == cut.output_shape[-1]
        assert row.layer == net.taps[row.tap]


# --- by experiment: which input pixels change one unit -------------------------------------------


def plain(x: Any) -> Any:
    x = layers.Conv2D(3, 5, strides=2, padding="same")(x)
    x = layers.Conv2D(3, 3, dilation_rate=2)(x)
    return layers.DepthwiseConv2D(3, strides=2)(x)


def pooled(x: Any) -> Any:
    x = layers.Conv2D(3, 3)(x)
    x = layers.AveragePooling2D(3, 2, padding="same")(x)
    x = layers.SeparableConv2D(3, 3, padding="same")(x)
    return layers.AveragePooling2D(2)(x)


def padded(x: Any) -> Any:
    x = layers.ZeroPadding2D(((0, 1), (0, 1)))(x)
    x = layers.Conv2D(3, 3, strides=2)(x)
    x = layers.Cropping2D(1)(x)
    return layers.Conv2D(3, 3, padding="same")(x)


def branched(x: Any) -> Any:
    wide = layers.Conv2D(3, 7, padding="same")(layers.Conv2D(3, 3, padding="same")(x))
    narrow = layers.Conv2D(2, 1)(x)
    x = layers.Concatenate()([wide, narrow])
    return layers.Add()(
        [layers.Conv2D(3, 3, strides=2, padding="same")(x), layers.Conv2D(3, 1, strides=2)(x)]
    )


def off_centre(x: Any) -> Any:
    """Two paths of the same reach whose fields do not coincide: their union is wider than either."""
    left = layers.Conv2D(3, 5)(x)
    right = layers.Cropping2D(((4, 0), (4, 0)))(x)
    return layers.Add()([left, right])


def gated(x: Any) -> Any:
    x = layers.Conv2D(3, 3, padding="same")(x)
    return layers.Conv2D(3, 3, padding="same")(layers.Activation("linear")(x))


def uneven(x: Any) -> Any:
    return layers.Conv2D(3, (7, 1), padding="same")(layers.Conv2D(3, (1, 3), padding="same")(x))


@pytest.mark.parametrize("build", [plain, pooled, padded, branched, off_centre, gated, uneven])
@pytest.mark.parametrize("size", [40, 41])
def test_receptive_field_is_the_set_of_pixels_that_change_a_central_unit(
    build: Callable[[Any], Any], size: int
) -> None:
    image = keras.Input((size, size, 3))
    end = layers.Conv2D(1, 1, name="end")(build(image))
    net = load_network(keras.Model(image, end), taps=["end"])
    for layer in net.model.layers:  # positive weights: no change cancels another
        layer.set_weights([np.abs(array) + 0.1 for array in layer.get_weights()])
    row = describe(net).iloc[0]
    # one image per row and one per column of pixels, against the empty image
    probes = np.zeros((2 * size + 1, size, size, 3), np.float32)
    for i in range(size):
        probes[i, i], probes[size + i, :, i] = 1, 1
    out = np.asarray(net.model(probes))[..., 0]
    centre = out.shape[1] // 2
    changed = np.abs(out[:-1, centre, centre] - out[-1, centre, centre]) > 1e-6
    spans = [np.flatnonzero(part) for part in (changed[:size], changed[size:])]
    assert row.receptive_field == max(span[-1] - span[0] + 1 for span in spans)
    neighbour = np.abs(out[:size, centre + 1, centre] - out[-1, centre + 1, centre]) > 1e-6
    assert row.stride == np.flatnonzero(neighbour)[0] - spans[0][0]


def test_a_global_gate_does_not_widen_the_field() -> None:
    image = keras.Input((32, 32, 3))
    x = layers.Conv2D(4, 3, padding="same")(image)
    gate = layers.Dense(4, activation="sigmoid")(layers.GlobalAveragePooling2D(keepdims=True)(x))
    x = layers.Conv2D(4, 3, name="end")(layers.Multiply()([x, gate]))
    assert describe(load_network(keras.Model(image, x), taps=["end"])).receptive_field.tolist() == [5]


def test_what_is_not_known_is_missing_and_not_guessed() -> None:
    image = keras.Input((32, 32, 3))
    up = layers.Conv2DTranspose(4, 3, strides=2, name="up")(layers.Conv2D(4, 3, name="down")(image))
    table = describe(load_network(keras.Model(image, up), taps=["down", "up"]))
    assert table.receptive_field.isna().tolist() == [False, True]
