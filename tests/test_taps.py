"""Where networks are read: default taps of any network, their geometry, and every network of keras.applications."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from built import built

from scalelib.activations import extract
from scalelib.graph import keras
from scalelib.networks import PUBLISHED as FILES
from scalelib.networks import Network, application_names, describe, load_network
from scalelib.pruning import prune

layers = keras.layers
OUTPUTS = ["pre_softmax", "softmax"]
V2_PROJECTIONS = (1, 3, 6, 10, 13, 16)
MOBILENET_V2 = [
    "expanded_conv_project_BN",
    *(f"block_{k}_{'project_BN' if k in V2_PROJECTIONS else 'add'}" for k in range(1, 17)),
    "out_relu",
]
DENSE = [f"conv{s}_block{k}_concat" for s, n in ((2, 6), (3, 12), (4, 24), (5, 16)) for k in range(1, n + 1)]
RESIDUAL = [f"conv{s}_block{k}_out" for s, n in ((2, 3), (3, 4), (4, 6), (5, 3)) for k in range(1, n + 1)]
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
        ("DenseNet121", {"include_top": False}, ["conv1_relu", *DENSE, "relu"]),
        ("ResNet50V2", {"include_top": False}, ["conv1_conv", *RESIDUAL]),
        ("Xception", {"include_top": False}, ["block1_conv2_act", *XCEPTION, "block14_sepconv2_act"]),
    ],
)
def test_taps_are_those_of_the_paper_or_one_a_block(name, options, expected):
    net = built(name, **{"input_size": 96, **options})
    assert list(net.taps) == expected
    if name == "ResNet50":
        additions = [step.name for step in net.steps if isinstance(step.operation, layers.Add)]
        assert [net.taps[f"add{k}"] for k in range(1, 17)] == additions


def test_mobile_networks_are_read_at_every_block():
    first, second = (
        list(built(name, input_size=96, classes=5).taps) for name in ("EfficientNetB0", "MobileNetV3Small")
    )
    blocks = "".join(re.findall(r"block(\d[a-z])_", " ".join(first[:16])))
    assert blocks == "1a2a2b3a3b4a4b4c5a5b5c6a6b6c6d7a"
    assert first[16:] == ["top_activation", *OUTPUTS]
    assert sum(name.startswith("expanded_conv") for name in second) == 11
    assert second[-3:] == ["hidden1", *OUTPUTS]


def plain_stack(x: Any) -> Any:
    """One tap a stage."""
    for stage, width in enumerate((4, 8, 16)):
        for k in range(2):
            x = layers.Conv2D(width, 3, padding="same", activation="relu", name=f"s{stage}_c{k}")(x)
        x = layers.MaxPooling2D(2)(x)
    x = layers.Dense(12, activation="relu")(layers.Flatten()(x))
    return layers.Dense(1)(layers.Dropout(0.5)(x))


def normalised(x: Any) -> Any:
    """Normalisation and activation of their own belong to the stage."""
    x = layers.Rescaling(1 / 255)(x)
    for k in range(2):
        x = layers.Conv2D(4, 3, strides=2, padding="same", use_bias=False, name=f"c{k}")(x)
        x = layers.ReLU(name=f"r{k}")(layers.BatchNormalization(name=f"n{k}")(x))
    return layers.GlobalAveragePooling2D()(x)


def block_of_branches(x: Any) -> Any:
    """Branches inside a block are no taps."""
    stem = layers.Conv2D(4, 3, padding="same", activation="relu", name="stem")(x)
    parts = [layers.Conv2D(4, k, padding="same", name=f"part{k}")(stem) for k in (1, 3)]
    fused = layers.Conv2D(4, 1, name="fuse")(layers.Concatenate(name="inner")(parts))
    return layers.GlobalAveragePooling2D()(layers.Add(name="block")([stem, fused]))


def transformer(x: Any) -> Any:
    """Sequences of tokens are passed over."""
    patches = layers.Conv2D(8, 8, strides=8, name="patches")(x)
    tokens = layers.LayerNormalization()(layers.Reshape((16, 8))(patches))
    tokens = layers.Add()([tokens, layers.MultiHeadAttention(2, 4)(tokens, tokens)])
    tokens = layers.Dense(8, activation="gelu")(tokens)
    return layers.Dense(3, activation="softmax", name="classes")(layers.GlobalAveragePooling1D()(tokens))


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (plain_stack, ["s0_c1", "s1_c1", "s2_c1", "hidden1", "output"]),
        (normalised, ["r0", "r1"]),
        (block_of_branches, ["block"]),
        (transformer, ["patches", *OUTPUTS]),
    ],
)
def test_taps_of_a_model_of_ones_own_stand_where_its_blocks_end(build, expected):
    image = keras.Input((32, 32, 3))
    assert list(load_network(keras.Model(image, build(image))).taps) == expected


# --- geometry ------------------------------------------------------------------------------------

# Layers of the network as its authors count them; receptive field and stride in px of the last feature map by
# Araujo, Norris and Sim 2019.
PUBLISHED = [
    ("ResNet50", {}, 50, "add16", 483, 32),
    ("MobileNet", {"alpha": 0.25}, 28, "conv_pw_13", 315, 32),
    ("MobileNetV2", {"alpha": 0.35}, 53, "out_relu", 491, 32),
    ("InceptionV3", {}, 48, "mixed10", 1311, 32),
    ("VGG16", {"input_size": 32, "classes": 5}, 16, "block5_conv3", 196, 16),
]


@pytest.mark.parametrize(("name", "options", "depth", "tap", "field", "stride"), PUBLISHED)
def test_depth_and_receptive_field_are_the_published_ones(name, options, depth, tap, field, stride):
    table = describe(built(name, **{"input_size": 96, **options})).set_index("tap")
    assert table.depth["pre_softmax"] == depth
    assert (table.receptive_field[tap], table.stride[tap]) == (field, stride)


def test_receptive_fields_of_squeezenet_follow_the_recursion():
    table = describe(built("SqueezeNet", input_size=96)).set_index("tap")
    field, jump, expected = 7, 2, {}
    for name in ("pool1", *(f"fire{k}" for k in range(2, 5)), "pool4", *(f"fire{k}" for k in range(5, 9)), "pool8", "fire9"):  # fmt: skip
        field += 2 * jump
        jump *= 2 if name.startswith("pool") else 1
        expected[name] = (field, jump)
    for tap in table.index[:-2]:
        assert (table.receptive_field[tap], table.stride[tap]) == expected[tap]
    assert table.receptive_field.isna().tolist() == [False] * 9 + [True] * 2


def branched(x: Any) -> Any:
    wide = layers.Conv2D(3, 7, padding="same")(layers.Conv2D(3, 3, padding="same")(x))
    x = layers.Concatenate()([wide, layers.Conv2D(2, 1)(x)])
    return layers.Add()(
        [layers.Conv2D(3, 3, strides=2, padding="same")(x), layers.Conv2D(3, 1, strides=2)(x)]
    )


def off_centre(x: Any) -> Any:
    """Two paths of the same reach whose fields do not coincide: their union is wider than either."""
    return layers.Add()([layers.Conv2D(3, 5)(x), layers.Cropping2D(((4, 0), (4, 0)))(x)])


GRAPHS: dict[str, Callable[[Any], Any]] = {
    "plain": lambda x: keras.Sequential([
        layers.Conv2D(3, 5, strides=2, padding="same"), layers.Conv2D(3, 3, dilation_rate=2), layers.DepthwiseConv2D(3, strides=2),
    ])(x),
    "pooling": lambda x: keras.Sequential([
        layers.Conv2D(3, 3), layers.AveragePooling2D(3, 2, padding="same"), layers.SeparableConv2D(3, 3, padding="same"),
        layers.AveragePooling2D(2),
    ])(x),
    "padded": lambda x: keras.Sequential([
        layers.ZeroPadding2D(((0, 1), (0, 1))), layers.Conv2D(3, 3, strides=2), layers.Cropping2D(1), layers.Conv2D(3, 3, padding="same"),
    ])(x),
    "uneven": lambda x: keras.Sequential([layers.Conv2D(3, (1, 3), padding="same"), layers.Conv2D(3, (7, 1), padding="same")])(x),
    "branched": branched,
    "off centre": off_centre,
}  # fmt: skip


@pytest.mark.parametrize("build", GRAPHS.values(), ids=GRAPHS)
@pytest.mark.parametrize("size", [40, 41])
def test_receptive_field_is_the_set_of_pixels_that_change_a_central_unit(build, size):
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


def test_a_global_gate_widens_no_field_and_what_is_not_known_is_missing():
    image = keras.Input((32, 32, 3))
    x = layers.Conv2D(4, 3, padding="same")(image)
    gate = layers.Dense(4, activation="sigmoid")(layers.GlobalAveragePooling2D(keepdims=True)(x))
    x = layers.Conv2D(4, 3, name="gated")(layers.Multiply()([x, gate]))
    up = layers.Conv2DTranspose(4, 3, strides=2, name="up")(x)
    fields = describe(load_network(keras.Model(image, up), taps=["gated", "up"])).receptive_field
    assert (fields[0], fields.isna().tolist()) == (5, [False, True])


# --- every network of keras.applications ---------------------------------------------------------

LIGHT = ("MobileNet", "VGG16")
SMALLEST = {"InceptionV3": 75, "InceptionResNetV2": 75, "Xception": 71}


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=() if n in LIGHT else pytest.mark.exhaustive) for n in application_names()],
)
def test_a_network_of_keras_loads_is_described_read_cut_and_pruned(name, tmp_path):
    size = SMALLEST.get(name, 32)
    with_top = not name.startswith("VGG")  # its dense layers alone weigh half a gigabyte
    head: dict[str, Any] = {"classes": 7} if with_top else {"include_top": False}
    net = load_network(name, weights="random", input_size=size, **head)
    assert 4 <= len(net.taps) <= 120
    assert list(net.taps)[-2:] == OUTPUTS or not with_top
    table = describe(net)
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
    x = net.preprocess(images)
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
    assert small.count_params() == table.set_index("tap").parameters[tap] + expected.shape[-1] + 1
    small.save(tmp_path / "small.keras")
    again = keras.models.load_model(tmp_path / "small.keras")
    np.testing.assert_array_equal(np.asarray(again(x)), np.asarray(small(x)))
    # everything after a tap depends on it alone
    before = keras.Model(net.model.inputs[0], net.tensor(tap))
    after = keras.Model(net.tensor(tap), net.model.outputs[0])
    np.testing.assert_allclose(np.asarray(after(before(x))), np.asarray(net.model(x)), rtol=1e-3, atol=1e-6)


def pooled(net: Network, tap: str, x: np.ndarray) -> np.ndarray:
    maps = keras.Model(net.model.inputs[0], net.tensor(tap))(x)
    return np.asarray(layers.GlobalAveragePooling2D()(maps))


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "name", [n for n in application_names() if not n.startswith(("VGG", "ConvNeXt", "MobileNetV3"))]
)
def test_default_size_is_that_of_keras_with_its_classifier(name):
    theirs = getattr(keras.applications, name)(weights=None, classes=2)
    assert theirs.input_shape[1] == FILES.get(name, {}).get("side", 224)
