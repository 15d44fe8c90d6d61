"""Weight files: which belongs to which network, round trips, damage, and SqueezeNet's Deep Compression format."""

from __future__ import annotations

import itertools
import socket
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import h5py
import keras.src.utils.file_utils as keras_files
import numpy as np
import pytest
from built import built

from scalelib.activations import extract
from scalelib.errors import NetworkError, WeightsError
from scalelib.graph import keras
from scalelib.networks import Network, application_names, describe, imagenet_file, load_network
from scalelib.pruning import prune
from scalelib.squeezenet import build_squeezenet, read_deep_compression

small_net = partial(load_network, "MobileNet", alpha=0.25, input_size=64, weights="random")
mobilenet = partial(built, "MobileNet", alpha=0.25, input_size=64)
LIGHT = [("MobileNet", {"alpha": 0.25}), ("MobileNet", {"alpha": 0.25, "name": "own"})]
HEAVY: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in application_names()),
    *(("MobileNet", {"alpha": alpha}) for alpha in (0.25, 0.5, 0.75, 1.0)),
    *(("MobileNetV2", {"alpha": alpha}) for alpha in (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)),
    *itertools.product(("MobileNetV3Small", "MobileNetV3Large"), ({"alpha": 0.75}, {"minimalistic": True})),
]


@pytest.mark.filterwarnings("ignore:`input_shape` is undefined")
@pytest.mark.parametrize(
    ("name", "options"),
    [*LIGHT, *(pytest.param(*case, marks=pytest.mark.exhaustive) for case in HEAVY if case not in LIGHT)],
)
def test_files_are_those_that_keras_asks_for(name, options, monkeypatch):
    get_file = Mock(side_effect=InterruptedError)
    monkeypatch.setattr(keras_files, "get_file", get_file)
    sides = (96, 128, 192) if name in ("MobileNet", "MobileNetV2") else ()
    for include_top, side in [(True, None), (False, None), *((False, side) for side in sides)]:
        shape = {"input_shape": (side, side, 3)} if side else {}
        with pytest.raises(InterruptedError):
            getattr(keras.applications, name)(include_top=include_top, **options, **shape)
        (filename, *_), asked = get_file.call_args
        found = imagenet_file(name, include_top=include_top, input_size=side and (side, side), **options)
        assert found[0] == filename
        if digest := asked.get("file_hash"):  # we know one more than Keras
            assert found[1] == f"{'md5' if len(digest) == 32 else 'sha256'}:{digest}"


@pytest.mark.parametrize(
    ("name", "alpha", "words"),
    [
        ("MobileNetV2", 0.25, r"alpha is one of \(0\.35, 0\.5"),
        ("MobileNetV3Small", 0.5, "no published ImageNet weights for MobileNetV3Small"),
        ("MobileNet", 0.3, r"alpha is one of \(0.25, 0.5, 0.75, 1.0\)"),
    ],
)
def test_widths_without_published_weights_are_refused(name, alpha, words):
    with pytest.raises(WeightsError, match=words):
        load_network(name, alpha=alpha)


@pytest.mark.parametrize("name", ["InceptionV3", "NASNetLarge", "SqueezeNet", "ConvNeXtXLarge"])
def test_missing_imagenet_weights_are_an_error_at_once_without_a_network(name, tmp_path, monkeypatch):
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("something tried to reach the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(keras.layers.Layer, "__init__", refuse)  # nor is anything built
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    with pytest.raises(WeightsError) as caught:
        load_network(name, data_root=tmp_path)
    message = str(caught.value)
    assert str(tmp_path / "keras" / "models") in message
    assert f"scalelib fetch --weights {name}" in message
    assert imagenet_file(name)[0] in message


def test_the_weights_without_the_top_are_pointed_out_where_they_lie(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "mobilenet_2_5_224_tf_no_top.h5").touch()
    with pytest.raises(WeightsError, match=r"mobilenet_2_5_224_tf_no_top\.h5 is here"):
        load_network("MobileNet", alpha=0.25, data_root=tmp_path)
    with pytest.raises(WeightsError, match=r"mobilenet_2_5_224_tf_no_top\.h5 is damaged"):
        load_network("MobileNet", alpha=0.25, include_top=False, data_root=tmp_path)


@pytest.mark.data
def test_official_mobilenet_weights_are_those_that_keras_loads(keras_models):
    net = load_network("MobileNet", alpha=0.25, include_top=False)
    theirs = keras.applications.MobileNet(
        alpha=0.25, include_top=False, weights=None, input_shape=(224, 224, 3)
    )
    theirs.load_weights(keras_models / "mobilenet_2_5_224_tf_no_top.h5")
    x = net.preprocess(np.random.default_rng(0).uniform(0, 255, (1, 224, 224, 3)).astype(np.float32))
    np.testing.assert_array_equal(np.asarray(net.model(x)), np.asarray(theirs(x)))
    assert (net.name, net.weights, net.weights_seed) == ("MobileNet 0.25", "imagenet", None)


# --- own files -----------------------------------------------------------------------------------


def saved(net: Network, file: Path) -> Path:
    net.model.save_weights(file) if file.name.endswith(".weights.h5") else net.model.save(file)
    return file


@pytest.mark.parametrize("suffix", [".weights.h5", ".h5", ".keras"])
def test_weights_survive_a_round_trip_through_every_format(tmp_path, suffix):
    first = mobilenet(weights_seed=7)
    file = saved(first, tmp_path / f"own{suffix}")
    again = small_net(weights=file)
    assert again.weights_digest == first.weights_digest
    assert (again.weights, again.weights_seed) == (file.name, None)
    given = load_network(mobilenet().model, weights=file)
    assert (given.weights_digest, given.weights) == (first.weights_digest, file.name)
    if suffix != ".weights.h5":  # a whole model needs no name
        whole = load_network(str(file))
        x = np.random.default_rng(0).uniform(0, 1, (1, 64, 64, 3)).astype(np.float32)
        np.testing.assert_array_equal(np.asarray(whole.model(x)), np.asarray(first.model(x)))
        assert list(whole.taps)[-2:] == ["pre_softmax", "softmax"]


def test_a_bare_file_name_is_found_in_the_data_root_then_in_keras_home(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    for folder, seed in ((tmp_path / "keras" / "models", 1), (tmp_path / "data" / "weights", 2)):
        folder.mkdir(parents=True)
        saved(mobilenet(weights_seed=seed), folder / "own.weights.h5")
    for root, seed in (("data", 2), ("elsewhere", 1)):
        found = small_net(weights="own.weights.h5", data_root=tmp_path / root)
        assert found.weights_digest == mobilenet(weights_seed=seed).weights_digest
    with pytest.raises(WeightsError, match=r"no\.weights\.h5"):
        small_net(weights="no.weights.h5", data_root=tmp_path)


@pytest.mark.parametrize("suffix", [".weights.h5", ".h5", ".keras"])
def test_a_damaged_file_and_one_of_another_network_are_named_with_the_reason(tmp_path, suffix):
    whole = saved(mobilenet(), tmp_path / f"own{suffix}").read_bytes()
    for number, cut in enumerate((b"", b"<html>404</html>", whole[: len(whole) // 2], whole[:-100])):
        (tmp_path / f"damaged{number}{suffix}").write_bytes(cut)
    others = [{"alpha": 0.5}, {"classes": 7}]
    for number, other in enumerate([built("SqueezeNet", input_size=64), *(mobilenet(**o) for o in others)]):
        saved(other, tmp_path / f"other{number}{suffix}")
    refused = [*tmp_path.glob("damaged*"), *tmp_path.glob("other*")]
    assert len(refused) == 7
    for file in refused:
        with pytest.raises(WeightsError, match="do not fit, or are damaged") as caught:
            small_net(weights=file)
        assert file.name in str(caught.value)


# --- files that hold a beginning -----------------------------------------------------------------


def beginning(layer: str, file: Path) -> keras.Model:
    """A MobileNet that ends at a layer, by Keras alone, with fresh weights in a file."""
    whole = keras.applications.MobileNet(alpha=0.25, weights=None, input_shape=(64, 64, 3))
    part = keras.Model(whole.input, whole.get_layer(layer).output)
    part.save_weights(file) if file.name.endswith(".weights.h5") else part.save(file)
    return part


@pytest.mark.parametrize("suffix", [".weights.h5", ".h5", ".keras"])
@pytest.mark.parametrize(
    ("layer", "end"),
    [("conv_pw_6", "conv_pw_6"), ("conv_pw_13_relu", "conv_pw_13"), ("conv1_bn", "conv1_relu")],
)
def test_a_network_ends_where_its_weights_end(tmp_path, suffix, layer, end):
    part = beginning(layer, tmp_path / f"part{suffix}")
    load = partial(small_net, weights=tmp_path / f"part{suffix}")
    if layer == "conv1_bn":  # before the first tap
        with pytest.raises(NetworkError, match="whose weights end at conv1_relu offers none of its own"):
            load()
    net = load(taps=[layer])
    x = np.random.default_rng(0).uniform(-1, 1, (1, 64, 64, 3)).astype(np.float32)
    ours = keras.Model(net.model.inputs[0], net.tensor(layer))(x)
    np.testing.assert_array_equal(np.asarray(ours), np.asarray(part(x)))
    with pytest.raises(
        NetworkError, match=rf"'softmax' in MobileNet 0.25, whose weights end at {end}; taps are"
    ):
        load(taps=["softmax"])


def test_what_a_beginning_lacks_is_said_by_extract_prune_and_tables(tmp_path):
    beginning("conv_pw_6", tmp_path / "part.weights.h5")
    net = small_net(weights=tmp_path / "part.weights.h5")
    assert (net.weights_end, list(net.taps)[-1]) == ("conv_pw_6", "conv_pw_6")
    assert describe(net).tap.tolist() == list(net.taps)
    assert net.model.count_params() == describe(net).parameters.iloc[-1]
    words = r"'conv_pw_9' in MobileNet 0.25, whose weights end at conv_pw_6"
    images = np.zeros((1, 64, 64, 3), np.uint8)
    for ask in (net.tensor, lambda tap: prune(net, at=tap), lambda tap: extract(net, images, taps=tap)):
        with pytest.raises(NetworkError, match=words):
            ask("conv_pw_9")
    assert mobilenet().weights_end is None


@pytest.mark.parametrize("suffix", [".weights.h5", ".h5", ".keras"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused_with_their_layer(tmp_path, suffix, value):
    net = small_net()
    kernel = net.model.get_layer("conv_dw_3").get_weights()
    kernel[0][0, 0, 0, 0] = value
    net.model.get_layer("conv_dw_3").set_weights(kernel)
    file = saved(net, tmp_path / f"own{suffix}")
    for load in (partial(small_net, weights=file), partial(load_network, net.model), *[partial(load_network, str(file))] * (suffix != ".weights.h5")):  # fmt: skip
        with pytest.raises(WeightsError, match="'conv_dw_3' is the first"):
            load()


def test_a_hole_is_refused_and_the_first_missing_layer_named(tmp_path):
    file = saved(small_net(), tmp_path / "own.weights.h5")
    with h5py.File(file, "a") as h5:
        del h5["layers/conv2d_5"], h5["layers/conv2d_9"]
    with pytest.raises(WeightsError, match="layer 'conv_pw_5' is the first without weights that fit"):
        small_net(weights=file)
    file = saved(small_net(), tmp_path / "own.h5")
    with h5py.File(file, "a") as h5:
        names = h5["model_weights"].attrs["layer_names"]
        h5["model_weights"].attrs["layer_names"] = [
            name for name in names if name not in (b"conv_pw_5", "conv_pw_5")
        ]
        del h5["model_weights/conv_pw_5"]
    with pytest.raises(WeightsError, match="layer 'conv_pw_5' is the first without weights that fit"):
        small_net(weights=file)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_code_in_a_model_file_is_not_run(tmp_path, suffix):
    image = keras.Input((8, 8, 3))
    model = keras.Model(image, keras.layers.Lambda(lambda x: x * 2)(keras.layers.Conv2D(2, 3)(image)))
    model.save(tmp_path / f"own{suffix}")
    with pytest.raises(WeightsError, match=r"Requested the deserialization of a `Lambda`"):
        load_network(str(tmp_path / f"own{suffix}"))


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "file", "layer", "end"),
    [
        ("InceptionV3", "inceptionv3_imagenet_2015_to_mixed8.weights.h5", "mixed8", "mixed8"),
        ("ResNet50", "resnet50_imagenet_to_conv4_block6_out.weights.h5", "conv4_block6_out", "add13"),
        ("DenseNet169", "densenet169_imagenet_no_top.weights.h5", "relu", "relu"),
        ("MobileNet", "mobilenet_1.0_224_imagenet_uint8_no_top.weights.h5", "conv_pw_13_relu", "conv_pw_13"),
    ],
)
def test_the_beginnings_at_hand_are_read_as_by_keras_to_the_bit(name, file, layer, end, weights_root):
    net = load_network(name, weights=file, data_root=weights_root.parent)
    side = net.input_size[0]
    theirs = getattr(keras.applications, name)(weights=None, include_top=False, input_shape=(side, side, 3))
    theirs = keras.Model(theirs.input, theirs.get_layer(layer).output)
    theirs.load_weights(weights_root / file)
    assert (net.weights_end, list(net.taps)[-1]) == (end, end)
    tensor = next(step.outputs[0] for step in net.steps if step.name == layer)
    x = net.preprocess(np.random.default_rng(0).uniform(0, 255, (1, side, side, 3)).astype(np.float32))
    ours = keras.Model(net.model.inputs[0], tensor)(x)
    np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs(x)))


@pytest.mark.data
def test_a_flipped_bit_in_a_known_file_is_noticed(tmp_path, weights_root):
    name = "mobilenet_0.5_160_imagenet_uint8.weights.h5"
    content = bytearray((weights_root / name).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / name).write_bytes(content)
    with pytest.raises(WeightsError, match="is damaged"):
        load_network("MobileNet", alpha=0.5, input_size=160, weights=name, data_root=tmp_path)


# --- SqueezeNet ----------------------------------------------------------------------------------

SHAPES = {"first": (3, 3, 2, 5), "second": (1, 1, 40, 6), "third": (2, 3, 4, 7)}


def encode(
    kernels: dict[str, np.ndarray], biases: dict[str, np.ndarray], codebooks: dict[str, np.ndarray]
) -> bytes:
    """Write the format from code tensors, entry by entry: an entry of code 0 wherever a gap exceeds 15."""
    counts, body = [], b""
    for name, codes in kernels.items():
        flat = codes.transpose(3, 2, 0, 1).ravel()
        entries: list[tuple[int, int]] = []
        last = -1
        for place in np.flatnonzero(flat):
            while place - last - 1 > 15:
                last += 16
                entries.append((0, 15))
            entries.append((int(flat[place]), int(place) - last - 1))
            last = int(place)
        counts.append(len(entries))
        gaps = [gap for _, gap in entries] + [0] * (len(entries) % 2)
        packed = bytes(low | high << 4 for low, high in zip(gaps[::2], gaps[1::2], strict=True))
        body += codebooks[name].astype("<f4").tobytes() + biases[name].astype("<f4").tobytes()
        body += bytes(code for code, _ in entries) + packed
    return np.array(counts, "<u4").tobytes() + body


def example(seed: int, density: float) -> tuple[bytes, dict[str, tuple[np.ndarray, np.ndarray]]]:
    """A file's content, and the kernel and biases that each layer has in it."""
    rng = np.random.default_rng(seed)
    codes = {name: rng.integers(1, 256, s) * (rng.random(s) < density) for name, s in SHAPES.items()}
    biases = {name: rng.normal(size=s[-1]).astype(np.float32) for name, s in SHAPES.items()}
    codebooks = {name: rng.normal(size=256).astype(np.float32) for name in SHAPES}
    return encode(codes, biases, codebooks), {n: (codebooks[n][codes[n]], biases[n]) for n in SHAPES}


@pytest.mark.parametrize("density", [0.01, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_reader_recovers_what_an_independent_writer_wrote(tmp_path, seed, density):
    content, expected = example(seed, density)
    file = tmp_path / "net"
    file.write_bytes(content)
    found = read_deep_compression(file, SHAPES)
    for name, arrays in expected.items():
        for ours, theirs in zip(found[name], arrays, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_files_that_do_not_fit_are_refused(tmp_path):
    content, file = example(0, 0.1)[0], tmp_path / "bad.net"
    cuts = [0, 1, 11, 12, 500, len(content) // 2, len(content) - 1]
    cases = [(content[:length], SHAPES, "it ends early") for length in cuts]
    cases += [(content + b"\0", SHAPES, "left over")]
    many = np.array([91, 0, 0], "<u4").tobytes() + bytes(4000)
    cases += [(many, SHAPES, "91 stored entries for first, whose kernel has 90")]
    beyond = np.array([6], "<u4").tobytes() + bytes(1024 + 20 + 6) + bytes([0xFF] * 3)
    cases += [(beyond, {"first": SHAPES["first"]}, "position 95 of first")]
    for written, shapes, words in cases:
        file.write_bytes(written)
        with pytest.raises(ValueError, match=words):
            read_deep_compression(file, shapes)
    with pytest.raises(WeightsError, match=r"'bad\.net' do not fit[\s\S]*it ends early"):
        load_network("SqueezeNet", weights=file, input_size=64)


def test_squeezenet_has_the_shapes_and_the_logits_of_its_architecture():
    network = build_squeezenet()
    shapes = {layer.name: layer.output.shape[1:] for layer in network.layers}
    for side, channels, names in (
        (111, 96, "conv1"), (55, 96, "pool1"), (55, 128, "fire2"), (55, 256, "fire4"), (27, 256, "pool4 fire5"),
        (27, 512, "fire8"), (13, 512, "pool8 fire9"), (13, 1000, "conv10"),
    ):  # fmt: skip
        assert all(shapes[name] == (side, side, channels) for name in names.split()), names
    assert network.count_params() == 1_248_424  # Iandola et al. 2016, Table 1
    net = load_network("SqueezeNet", weights="random", input_size=64, taps=["conv10", "pre_softmax"])
    x = np.random.default_rng(0).normal(size=(2, 64, 64, 3)).astype(np.float32) * 60
    maps, logits = keras.Model(net.model.inputs[0], [net.tensor("conv10"), net.tensor("pre_softmax")])(x)
    assert float(np.min(maps)) == 0  # averaged after the ReLU
    np.testing.assert_allclose(logits, np.asarray(maps).mean(axis=(1, 2)), rtol=1e-5)
