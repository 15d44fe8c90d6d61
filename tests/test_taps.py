"""Where networks are read: default taps of any network, their geometry, and every network of keras.applications."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scalelib.activations import extract
from scalelib.graph import keras
from scalelib.networks import _TRAINED_AT, Network, application_names, describe, load_network
from scalelib.pruning import prune

layers = keras.layers
OUTPUTS = ["pre_softmax", "softmax"]
V2_PROJECTIONS = (1, 3, 6, 10, 13, 16)
MOBILENET_V2 = [
    "expanded_conv_project_BN",
    *(f"block_{k}_{'project_BN' if k in V2_PROJECTIONS else 'add'}" for k in range(1, 17)),
    "out_relu",
]
RESIDUAL = {2: 3, 3: 4, 4: 6, 5: 3}
DENSE = {2: 6, 3: 12, 4: 24, 5: 16}
VGG = ["block1_conv2", "block2_conv2", "block3_conv3", "block4_conv3", "block5_conv3"]
XCEPTION = ["stage2_block1", "stage3_block1", *(f"stage4_block{k}" for k in range(1, 10)), "stage5_block1"]


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("InceptionV3", {}, [*(f"mixed{k}" for k in range(11)), *OUTPUTS]),
        ("ResNet50", {}, [*(f"add{k}" for k in range(1, 17)), *OUTPUTS]),
        ("MobileNet", {"alpha": 0.25}, [*(f"conv_pw_{k}" for k in range(1, 14)), *OUTPUTS]),
        ("MobileNetV2", {"alpha": 0.35}, [*MOBILENET_V2, *OUTPUTS]),
        ("SqueezeNet", {}, ["pool1", *(f"fire{k}" for k in range(2, 10)), *OUTPUTS]),
        ("control", {}, [*(f"conv{k}" for k in range(1, 12)), *OUTPUTS]),
        ("VGG16", {"input_size": 32, "classes": 5}, [*VGG, "fc1", "fc2", *OUTPUTS]),
        (
            "DenseNet121",
            {"include_top": False},
            ["conv1_relu", *(f"conv{s}_block{k}_concat" for s, n in DENSE.items() for k in range(1, n + 1))],
        ),
        (
            "ResNet50V2",
            {"include_top": False},
            ["conv1_conv", *(f"conv{s}_block{k}_out" for s, n in RESIDUAL.items() for k in range(1, n + 1))],
        ),
        ("Xception", {"include_top": False}, ["block1_conv2_act", *XCEPTION, "block14_sepconv2_act"]),
    ],
)
def test_taps_are_those_of_the_paper_or_one_a_block(
    name: str, options: dict[str, Any], expected: list[str]
) -> None:
    net = load_network(name, weights="random", **{"input_size": 96, **options})
    assert list(net.taps) == expected
    if name == "ResNet50":
        additions = [step.name for step in net.steps if isinstance(step.operation, layers.Add)]
        assert [net.taps[f"add{k}"] for k in range(1, 17)] == additions


def test_mobile_networks_are_read_at_every_block() -> None:
    net = load_network("EfficientNetB0", weights="random", input_size=96, classes=5)
    found = list(net.taps)
    blocks = [match.group(1) for name in found[:16] if (match := re.match(r"block(\d[a-z])_", name))]
    assert blocks == [
        "1a",
        "2a",
        "2b",
        "3a",
        "3b",
        "4a",
        "4b",
        "4c",
        "5a",
        "5b",
        "5c",
        "6a",
        "6b",
        "6c",
        "6d",
        "7a",
    ]
    assert found[16:] == ["top_activation", *OUTPUTS]
    found = list(load_network("MobileNetV3Small", weights="random", input_size=96, classes=5).taps)
    assert sum(name.startswith("expanded_conv") for name in found) == 11
    assert found[-3:] == ["hidden1", *OUTPUTS]


def test_tap_names_never_come_from_keras_counters() -> None:
    made_up = re.compile(
        r"(add|concatenate|conv2d|activation|re_lu|batch_normalization|dense|layer_scale)(_\d+)?"
    )
    for name in ("ConvNeXtTiny", "MobileNetV3Small"):
        net = load_network(name, weights="random", input_size=64, classes=5)
        assert not [tap for tap in net.taps if made_up.fullmatch(tap)]


def test_a_plain_stack_is_read_once_a_stage() -> None:
    image = x = keras.Input((32, 32, 3))
    for stage, width in enumerate((4, 8, 16)):
        for k in range(2):
            x = layers.Conv2D(width, 3, padding="same", activation="relu", name=f"s{stage}_c{k}")(x)
        x = layers.MaxPooling2D(2)(x)
    x = layers.Dense(12, activation="relu")(layers.Flatten()(x))
    net = load_network(keras.Model(image, layers.Dense(1)(layers.Dropout(0.5)(x))))
    assert list(net.taps) == ["s0_c1", "s1_c1", "s2_c1", "hidden1", "output"]


def test_normalisation_and_activation_of_their_own_belong_to_the_stage() -> None:
    image = keras.Input((32, 32, 3))
    x = layers.Rescaling(1 / 255)(image)
    for k in range(2):
        x = layers.Conv2D(4, 3, strides=2, padding="same", use_bias=False, name=f"c{k}")(x)
        x = layers.ReLU(name=f"r{k}")(layers.BatchNormalization(name=f"n{k}")(x))
    net = load_network(keras.Model(image, layers.GlobalAveragePooling2D()(x)))
    assert list(net.taps) == ["r0", "r1"]


def test_branches_inside_a_block_are_no_taps() -> None:
    image = keras.Input((16, 16, 3))
    stem = layers.Conv2D(4, 3, padding="same", activation="relu", name="stem")(image)
    parts = [layers.Conv2D(4, k, padding="same", name=f"part{k}")(stem) for k in (1, 3)]
    inner = layers.Concatenate(name="inner")(parts)
    block = layers.Add(name="block")([stem, layers.Conv2D(4, 1, name="fuse")(inner)])
    net = load_network(keras.Model(image, layers.GlobalAveragePooling2D()(block)))
    assert list(net.taps) == ["block"]


def test_sequences_of_tokens_are_passed_over() -> None:
    image = keras.Input((32, 32, 3))
    patches = layers.Conv2D(8, 8, strides=8, name="patches")(image)
    tokens = layers.LayerNormalization()(layers.Reshape((16, 8))(patches))
    tokens = layers.Add()([tokens, layers.MultiHeadAttention(2, 4)(tokens, tokens)])
    tokens = layers.Dense(8, activation="gelu")(tokens)
    out = layers.Dense(3, activation="softmax", name="classes")(layers.GlobalAveragePooling1D()(tokens))
    assert list(load_network(keras.Model(image, out)).taps) == ["patches", *OUTPUTS]


# --- geometry ------------------------------------------------------------------------------------

# Araujo, Norris and Sim 2019, table of receptive fields (px), at the last feature map
PUBLISHED = [
    ("ResNet50", "add16", 483, 32),
    ("MobileNet", "conv_pw_13", 315, 32),
    ("InceptionV3", "mixed10", 1311, 32),
    ("VGG16", "block5_conv3", 196, 16),
]


@pytest.mark.parametrize(("name", "tap", "field", "stride"), PUBLISHED)
def test_receptive_fields_are_the_published_ones(name: str, tap: str, field: int, stride: int) -> None:
    net = load_network(name, weights="random", input_size="any", include_top=False)
    row = describe(net).set_index("tap").loc[tap]
    assert (row.receptive_field, row.stride) == (field, stride)


@pytest.mark.parametrize(
    ("name", "depth"), [("ResNet50", 50), ("VGG16", 16), ("MobileNet", 28), ("MobileNetV2", 53)]
)
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
        "fire5",
        "fire6",
        "fire7",
        "fire8",
        "pool8",
        "fire9",
    ]:
        field += 2 * jump
        jump *= 2 if name.startswith("pool") else 1
        expected[name] = (field, jump)
    for tap in table.index[:-2]:
        assert (table.receptive_field[tap], table.stride[tap]) == expected[tap]
    assert table.receptive_field.isna().tolist() == [False] * 9 + [True] * 2


def plain(x: Any) -> Any:
    x = layers.Conv2D(3, 5, strides=2, padding="same")(x)
    x = layers.Conv2D(3, 3, dilation_rate=2)(x)
    return layers.DepthwiseConv2D(3, strides=2)(x)


def pooling(x: Any) -> Any:
    x = layers.Conv2D(3, 3)(x)
    x = layers.AveragePooling2D(3, 2, padding="same")(x)
    x = layers.SeparableConv2D(3, 3, padding="same")(x)
    return layers.AveragePooling2D(2)(x)


def padded(x: Any) -> Any:
    x = layers.Conv2D(3, 3, strides=2)(layers.ZeroPadding2D(((0, 1), (0, 1)))(x))
    return layers.Conv2D(3, 3, padding="same")(layers.Cropping2D(1)(x))


def branched(x: Any) -> Any:
    wide = layers.Conv2D(3, 7, padding="same")(layers.Conv2D(3, 3, padding="same")(x))
    x = layers.Concatenate()([wide, layers.Conv2D(2, 1)(x)])
    return layers.Add()(
        [layers.Conv2D(3, 3, strides=2, padding="same")(x), layers.Conv2D(3, 1, strides=2)(x)]
    )


def off_centre(x: Any) -> Any:
    """Two paths of the same reach whose fields do not coincide: their union is wider than either."""
    return layers.Add()([layers.Conv2D(3, 5)(x), layers.Cropping2D(((4, 0), (4, 0)))(x)])


def uneven(x: Any) -> Any:
    return layers.Conv2D(3, (7, 1), padding="same")(layers.Conv2D(3, (1, 3), padding="same")(x))


@pytest.mark.parametrize("build", [plain, pooling, padded, branched, off_centre, uneven])
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


# --- every network of keras.applications ---------------------------------------------------------

LIGHT = ("MobileNet", "MobileNetV2", "MobileNetV3Small", "VGG16", "ResNet50")
SMALLEST = {"InceptionV3": 75, "InceptionResNetV2": 75, "Xception": 71}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in LIGHT else pytest.mark.exhaustive)
        for name in application_names()
    ],
)
def test_a_network_of_keras_loads_is_described_read_cut_and_pruned(name: str, tmp_path: Path) -> None:
    size = SMALLEST.get(name, 32)
    with_top = not name.startswith("VGG")  # its dense layers alone weigh half a gigabyte
    head: dict[str, Any] = {"classes": 7} if with_top else {"include_top": False}
    net = load_network(name, weights="random", input_size=size, **head)
    assert 4 <= len(net.taps) <= 120
    assert list(net.taps)[-2:] == OUTPUTS or not with_top
    table = describe(net)
    assert table.tap.tolist() == list(net.taps)
    assert table.notna()[["depth", "channels", "parameters"]].all(axis=None)
    assert table.depth.is_monotonic_increasing
    assert table.receptive_field.dropna().is_monotonic_increasing
    maps = [tap for tap in net.taps if len(net.tensor(tap).shape) == 4]
    assert len(maps) >= 4
    images = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), dtype=np.uint8)
    acts = extract(net, images)
    assert list(acts) == list(net.taps)
    for tap, values in acts.items():
        assert values.shape == (2, table.set_index("tap").channels[tap])
        assert np.isfinite(values).all()
    x = net.preprocess(images.astype(np.float32))
    # deep random networks amplify float32 rounding without bound (EfficientNetV2L's blocks 6 and 7 keep hardly a
    # correct digit on 32 px, in any order of summation): values are compared early, bits in the middle
    early, tap = maps[1], maps[len(maps) // 2]
    np.testing.assert_allclose(
        acts[early], pooled(net, early, x), rtol=1e-3, atol=1e-4 * np.abs(acts[early]).max()
    )
    small = prune(net, at=tap)
    expected = pooled(net, tap, x)
    features = keras.Model(small.inputs[0], small.get_layer("features").output)
    np.testing.assert_array_equal(np.asarray(features(x)), expected)
    channels = expected.shape[-1]
    assert small.count_params() == table.set_index("tap").parameters[tap] + channels + 1
    small.save(tmp_path / "small.keras")
    again = keras.models.load_model(tmp_path / "small.keras")
    np.testing.assert_array_equal(np.asarray(again(x)), np.asarray(small(x)))
    # everything after a tap depends on it alone
    value = keras.Model(net.model.inputs[0], net.tensor(tap))(x)
    rest = keras.Model(net.tensor(tap), net.model.outputs[0])(value)
    np.testing.assert_allclose(np.asarray(rest), np.asarray(net.model(x)), rtol=1e-3, atol=1e-6)


def pooled(net: Network, tap: str, x: np.ndarray) -> np.ndarray:
    maps = keras.Model(net.model.inputs[0], net.tensor(tap))(x)
    return np.asarray(layers.GlobalAveragePooling2D()(maps))


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "name", [n for n in application_names() if not n.startswith(("VGG", "ConvNeXt", "MobileNetV3"))]
)
def test_default_size_is_that_of_keras_with_its_classifier(name: str) -> None:
    theirs = getattr(keras.applications, name)(weights=None, classes=2)
    assert theirs.input_shape[1] == _TRAINED_AT.get(name, 224)
