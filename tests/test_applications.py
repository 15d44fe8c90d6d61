"""Every network of keras.applications loads, names its taps, is described, read and pruned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scalelib.activations import extract
from scalelib.graph import keras
from scalelib.networks import _TRAINED_AT, Network, application_names, describe, load_network
from scalelib.pruning import prune

LIGHT = ("MobileNet", "MobileNetV2", "MobileNetV3Small", "VGG16", "ResNet50")
SMALLEST = {"InceptionV3": 75, "InceptionResNetV2": 75, "Xception": 71}


def check(name: str, folder: Path) -> None:
    size = SMALLEST.get(name, 32)
    with_top = not name.startswith("VGG")  # its dense layers alone weigh half a gigabyte
    net = (
        load_network(name, weights="random", input_size=size, classes=7)
        if with_top
        else load_network(name, weights="random", input_size=size, include_top=False)
    )
    assert 4 <= len(net.taps) <= 120
    assert list(net.taps)[-2:] == ["pre_softmax", "softmax"] or not with_top
    table = describe(net)
    assert table.tap.tolist() == list(net.taps)
    assert table.notna()[["depth", "channels", "parameters"]].all(axis=None)
    assert table.depth.is_monotonic_increasing
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
    small.save(folder / "small.keras")
    again = keras.models.load_model(folder / "small.keras")
    np.testing.assert_array_equal(np.asarray(again(x)), np.asarray(small(x)))


def pooled(net: Network, tap: str, x: np.ndarray) -> np.ndarray:
    maps = keras.Model(net.model.inputs[0], net.tensor(tap))(x)
    return np.asarray(keras.layers.GlobalAveragePooling2D()(maps))


@pytest.mark.parametrize("name", LIGHT)
def test_a_network_of_keras_loads_is_described_and_pruned(name: str, tmp_path: Path) -> None:
    check(name, tmp_path)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", [name for name in application_names() if name not in LIGHT])
def test_every_network_of_keras_loads_is_described_and_pruned(name: str, tmp_path: Path) -> None:
    check(name, tmp_path)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "name", [n for n in application_names() if not n.startswith(("VGG", "ConvNeXt", "MobileNetV3"))]
)
def test_default_size_is_that_of_keras_with_its_classifier(name: str) -> None:
    theirs = getattr(keras.applications, name)(weights=None, classes=2)
    assert theirs.input_shape[1] == _TRAINED_AT.get(name, 224)
