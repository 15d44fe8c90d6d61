"""Default taps of networks that nobody listed: one a block, from the graph, under lasting names."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from scalelib.graph import keras
from scalelib.networks import describe, load_network

layers = keras.layers
OUTPUTS = ["pre_softmax", "softmax"]


def taps(name: str, **options: Any) -> list[str]:
    return list(load_network(name, weights="random", input_size=options.pop("size", 96), **options).taps)


def test_vgg_is_read_at_the_end_of_its_blocks_and_at_its_hidden_layers() -> None:
    blocks = ["block1_conv2", "block2_conv2", "block3_conv3", "block4_conv3", "block5_conv3"]
    assert taps("VGG16", size=32, classes=5) == [*blocks, "fc1", "fc2", *OUTPUTS]
    assert taps("VGG19", size=32, include_top=False) == [name.replace("conv3", "conv4") for name in blocks]


def test_densenet_is_read_at_every_concatenation() -> None:
    counts = {2: 6, 3: 12, 4: 24, 5: 16}
    expected = [f"conv{stage}_block{k}_concat" for stage, n in counts.items() for k in range(1, n + 1)]
    assert taps("DenseNet121", include_top=False) == ["conv1_relu", *expected]


def test_efficientnet_is_read_at_every_block_and_at_its_last_map() -> None:
    found = taps("EfficientNetB0", classes=5)
    blocks = [re.match(r"block(\d[a-z])_", name).group(1) for name in found[:16]]  # type: ignore[union-attr]
    expected = [
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
    assert blocks == expected
    assert found[16:] == ["top_activation", *OUTPUTS]


def test_residual_networks_with_preactivation_are_read_at_their_additions() -> None:
    counts = {2: 3, 3: 4, 4: 6, 5: 3}
    expected = [f"conv{stage}_block{k}_out" for stage, n in counts.items() for k in range(1, n + 1)]
    assert taps("ResNet50V2", include_top=False) == ["conv1_conv", *expected]


def test_additions_with_made_up_names_are_named_by_place() -> None:
    found = taps("Xception", include_top=False)
    expected = ["block1_conv2_act", "stage2_block1", "stage3_block1"]
    expected += [f"stage4_block{k}" for k in range(1, 10)] + ["stage5_block1", "block14_sepconv2_act"]
    assert found == expected
    net = load_network("Xception", weights="random", input_size=96, include_top=False)
    kinds = {step.name: type(step.operation).__name__ for step in net.steps}
    assert all(kinds[net.taps[tap]] == "Add" for tap in expected[1:-1])


@pytest.mark.exhaustive
def test_nasnet_is_read_at_its_cells() -> None:
    found = taps("NASNetMobile", include_top=False)
    # Keras numbers the cells 0 … 12 and leaves out 4
    assert found[:2] == ["reduction_concat_stem_1", "reduction_concat_stem_2"]
    assert [name for name in found if name.startswith("normal")] == [
        f"normal_concat_{k}" for k in range(13) if k != 4
    ]


def test_mobilenet_v3_is_read_at_every_block() -> None:
    found = taps("MobileNetV3Small", classes=5)
    assert sum(name.startswith("expanded_conv") for name in found) == 11
    assert found[-3:] == ["hidden1", *OUTPUTS]


def test_tap_names_never_come_from_keras_counters() -> None:
    made_up = re.compile(
        r"(add|concatenate|conv2d|activation|re_lu|batch_normalization|dense|custom_scale_layer)(_\d+)?"
    )
    for name in ("ConvNeXtTiny", "MobileNetV3Small"):
        assert not [tap for tap in taps(name, classes=5) if made_up.fullmatch(tap)]


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
    net = load_network(keras.Model(image, out))
    assert list(net.taps) == ["patches", *OUTPUTS]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        pytest.param("DenseNet121", {"size": 64}, marks=pytest.mark.exhaustive),
        ("ConvNeXtTiny", {"size": 64}),
        ("EfficientNetV2B0", {"size": 64}),
        pytest.param("InceptionResNetV2", {"size": 96}, marks=pytest.mark.exhaustive),
    ],
)
def test_everything_after_a_default_tap_depends_on_it_alone(name: str, options: dict[str, Any]) -> None:
    """Feeding the tap's value to the rest gives the output: the network can be cut there."""
    size = options["size"]
    net = load_network(name, weights="random", input_size=size, classes=5)
    x = net.preprocess(np.random.default_rng(0).uniform(0, 255, (1, size, size, 3)).astype(np.float32))
    whole = np.asarray(net.model(x))
    chosen = list(net.taps)[: -2 : max(1, len(net.taps) // 3)]
    for tap in chosen:
        value = keras.Model(net.model.inputs[0], net.tensor(tap))(x)
        rest = keras.Model(net.tensor(tap), net.model.outputs[0])
        np.testing.assert_allclose(np.asarray(rest(value)), whole, rtol=1e-4, atol=1e-7)


def test_strides_and_depths_grow_along_the_taps() -> None:
    for name in ("EfficientNetB0", "ResNet50V2"):
        table = describe(load_network(name, weights="random", input_size=96, classes=5))
        assert table.depth.is_monotonic_increasing
        assert table.stride.dropna().is_monotonic_increasing
        assert table.receptive_field.dropna().is_monotonic_increasing
        assert table.parameters.is_monotonic_increasing
