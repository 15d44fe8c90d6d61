"""Networks: names, taps, weights, seeds, preprocessing and copies of given models."""

from __future__ import annotations

import json
import random
import socket
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from scalelib.errors import NetworkError, WeightsError
from scalelib.graph import keras
from scalelib.networks import Network, application_names, load_network, resolve_tap

MOBILENET_V2 = [
    "expanded_conv_project_BN",
    "block_1_project_BN",
    "block_2_add",
    "block_3_project_BN",
    "block_4_add",
    "block_5_add",
    "block_6_project_BN",
    "block_7_add",
    "block_8_add",
    "block_9_add",
    "block_10_project_BN",
    "block_11_add",
    "block_12_add",
    "block_13_project_BN",
    "block_14_add",
    "block_15_add",
    "block_16_project_BN",
    "out_relu",
]
OUTPUTS = ["pre_softmax", "softmax"]
PAPER_TAPS: list[tuple[str, dict[str, Any], list[str]]] = [
    ("ResNet50", {}, [*(f"add{k}" for k in range(1, 17)), *OUTPUTS]),
    ("MobileNet", {"alpha": 0.25}, [*(f"conv_pw_{k}" for k in range(1, 14)), *OUTPUTS]),
    ("MobileNet", {"alpha": 0.5, "include_top": False}, [f"conv_pw_{k}" for k in range(1, 14)]),
    ("MobileNetV2", {"alpha": 0.35}, [*MOBILENET_V2, *OUTPUTS]),
    ("MobileNetV2", {"alpha": 1.4, "include_top": False}, MOBILENET_V2),
    ("SqueezeNet", {}, ["pool1", *(f"fire{k}" for k in range(2, 10)), *OUTPUTS]),
]


def small_net(seed: int = 0, **options: Any) -> Network:
    options = {"alpha": 0.25, "input_size": 64, "weights": "random", **options}
    return load_network("MobileNet", weights_seed=seed, **options)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 255, shape).astype(np.float32)


def run(net: Network, tap: str, x: np.ndarray) -> np.ndarray:
    return np.asarray(keras.Model(net.model.inputs[0], net.tensor(tap))(x))


@pytest.mark.parametrize(("name", "options", "taps"), PAPER_TAPS)
def test_taps_are_those_of_the_paper_and_its_companion(
    name: str, options: dict[str, Any], taps: list[str]
) -> None:
    net = load_network(name, weights="random", input_size=96, **options)
    assert list(net.taps) == taps


def test_add_k_is_the_kth_residual_addition_and_answers_to_its_other_names() -> None:
    net = load_network("ResNet50", weights="random", input_size=32, include_top=False)
    additions = [step.name for step in net.steps if isinstance(step.operation, keras.layers.Add)]
    assert len(additions) == 16
    assert [net.taps[f"add{k}"] for k in range(1, 17)] == additions
    for name in ("add16", "add_16", "conv5_block3_add", "Add16"):
        assert resolve_tap(net, name) == "add16"
    assert resolve_tap(net, "conv5_block2_add") == "add15"
    assert net.tensor("conv5_block3_add") is net.tensor("add16")


def test_inception_has_the_papers_taps_and_names_them_when_another_is_asked_for() -> None:
    net = load_network("InceptionV3", weights="random", input_size=75)
    assert list(net.taps) == [*(f"mixed{k}" for k in range(11)), *OUTPUTS]
    assert all(net.taps[f"mixed{k}"] == f"mixed{k}" for k in range(11))
    with pytest.raises(NetworkError) as caught:
        net.tensor("mixed11")
    message = str(caught.value)
    assert "no layer 'mixed11' in InceptionV3; taps are mixed0, mixed1" in message
    assert "Did you mean 'mixed10' or 'mixed1'" in message


def test_an_unknown_network_names_near_matches() -> None:
    with pytest.raises(NetworkError, match=r"Did you mean .*'ResNet50'"):
        load_network("Resnet-50", weights="random")


def test_an_unknown_option_names_the_options() -> None:
    with pytest.raises(NetworkError, match="Options of ResNet50: include_top, classes"):
        load_network("ResNet50", weights="random", alpha=0.5)


@pytest.mark.parametrize("size", [0, -3, (64,), (64, 64, 3), "large", 64.5, (64, "any")])
def test_an_input_size_that_is_none_is_refused(size: Any) -> None:
    with pytest.raises(NetworkError, match="input_size"):
        small_net(input_size=size)


def test_a_size_too_small_for_the_network_is_refused() -> None:
    with pytest.raises(NetworkError, match="InceptionV3 cannot be built"):
        load_network("InceptionV3", weights="random", input_size=20)


@pytest.mark.parametrize("name", ["MobileNet", "MobileNetV2", "SqueezeNet", "VGG16"])
def test_pre_softmax_are_the_logits_of_the_same_network(name: str) -> None:
    net = load_network(name, weights="random", input_size=64)
    x = net.preprocess(noise(2, 64, 64, 3))
    logits, probabilities = run(net, "pre_softmax", x), run(net, "softmax", x)
    assert logits.shape == (2, 1000)
    exp = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(probabilities, exp / exp.sum(axis=1, keepdims=True), rtol=1e-4)
    np.testing.assert_array_equal(probabilities, np.asarray(net.model(x)))
    assert not np.allclose(logits.sum(axis=1), 1)


def test_logits_are_those_of_keras_without_its_softmax() -> None:
    net = load_network("MobileNetV2", weights="random", alpha=0.35, input_size=32)
    state = random.getstate()
    random.seed(0)
    bare = keras.applications.MobileNetV2(
        alpha=0.35, weights=None, input_shape=(32, 32, 3), classifier_activation=None
    )
    random.setstate(state)
    x = noise(2, 32, 32, 3) / 255
    np.testing.assert_allclose(run(net, "pre_softmax", x), np.asarray(bare(x)), rtol=1e-5, atol=1e-6)


def test_the_same_seed_gives_the_same_bits_and_another_seed_others() -> None:
    first, again, other = small_net(seed=3), small_net(seed=3), small_net(seed=4)
    assert first.weights_digest == again.weights_digest != other.weights_digest
    assert first.weights_seed == 3
    x = noise(1, 64, 64, 3)
    np.testing.assert_array_equal(run(first, "conv_pw_13", x), run(again, "conv_pw_13", x))
    pairs = zip(first.model.get_weights(), other.model.get_weights(), strict=True)
    kernels = [(a, b) for a, b in pairs if a.ndim == 4]
    assert all(not np.array_equal(a, b) for a, b in kernels)


def test_loading_leaves_global_random_states_as_they_were() -> None:
    random.seed(11)
    np.random.seed(11)  # noqa: NPY002 the legacy global state is what must not move
    before = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    small_net(seed=1)
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tolist() == before[1]  # noqa: NPY002


def test_a_build_does_not_depend_on_the_global_random_state() -> None:
    random.seed(1)
    first = small_net(seed=2)
    random.seed(99)
    assert small_net(seed=2).weights_digest == first.weights_digest


def test_names_and_digest_are_the_same_however_many_networks_were_built_before() -> None:
    nets = [load_network("Xception", weights="random", input_size=71, classes=5) for _ in range(2)]
    assert nets[0].taps == nets[1].taps
    assert nets[0].weights_digest == nets[1].weights_digest
    assert [step.name for step in nets[0].steps] == [step.name for step in nets[1].steps]


def test_digest_notices_one_changed_weight() -> None:
    source = small_net().model
    before = load_network(source).weights_digest
    assert load_network(source).weights_digest == before
    kernel = source.get_layer("conv_pw_7").get_weights()
    kernel[0][0, 0, 0, 0] = np.nextafter(kernel[0][0, 0, 0, 0], np.float32(9))
    source.get_layer("conv_pw_7").set_weights(kernel)
    assert load_network(source).weights_digest != before


# --- preprocessing -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("InceptionV3", [255 / 127.5 - 1, 100 / 127.5 - 1, -1]),
        ("MobileNet", [1, 100 / 127.5 - 1, -1]),
        ("ResNet50", [0 - 103.939, 100 - 116.779, 255 - 123.68]),
        ("SqueezeNet", [0 - 104, 100 - 117, 255 - 123]),
        ("DenseNet121", [(1 - 0.485) / 0.229, (100 / 255 - 0.456) / 0.224, -0.406 / 0.225]),
        ("EfficientNetB0", [255, 100, 0]),
    ],
)
def test_preprocessing_is_what_the_network_was_trained_with(name: str, expected: list[float]) -> None:
    net = load_network(small_net().model, preprocess=name)
    image = np.full((1, 2, 2, 3), [255.0, 100.0, 0.0], np.float32)
    kept = image.copy()
    out = net.preprocess(image)
    assert out.dtype == np.float32
    np.testing.assert_allclose(out[0, 1, 1], expected, rtol=1e-5)
    np.testing.assert_array_equal(image, kept)  # Keras's own function writes into its argument


def test_preprocessing_can_be_raw_or_a_function_and_says_which() -> None:
    image = noise(1, 4, 4, 3)
    raw = small_net(preprocess="raw")
    np.testing.assert_array_equal(raw.preprocess(image), image)
    assert raw.preprocess_name == "raw"
    own = small_net(preprocess=np.negative)
    np.testing.assert_array_equal(own.preprocess(image), -image)
    assert "negative" in own.preprocess_name
    assert small_net().preprocess_name == "keras.applications.mobilenet.preprocess_input"
    with pytest.raises(NetworkError, match=r"Did you mean .*'ResNet50'"):
        small_net(preprocess="Resnet50")


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "weights", "least"),
    [("MobileNetV2", "mobilenet_v2_imagenet_int8.weights.h5", 0.80), ("SqueezeNet", "imagenet", 0.50)],
)
def test_top_1_on_imagenet_samples_proves_weights_and_preprocessing(
    name: str,
    weights: str,
    least: float,
    imagenet_samples: list[Path],
    weights_root: Path,
    keras_models: Path,
) -> None:
    index = json.loads((keras_models / "imagenet_class_index.json").read_text())
    number = {wnid: int(key) for key, (wnid, _) in index.items()}
    net = load_network(name, weights=weights, data_root=weights_root.parent)
    assert net.input_size is not None
    side = net.input_size[0]
    images = np.stack([centre_crop(path, side) for path in imagenet_samples])
    truth = np.array([number[path.name.split("_")[0]] for path in imagenet_samples])
    probabilities = net.model.predict(net.preprocess(images), batch_size=50, verbose=0)
    assert len(truth) == 150
    assert np.mean(probabilities.argmax(axis=1) == truth) >= least
    raw = net.model.predict(images, batch_size=50, verbose=0)
    assert np.mean(raw.argmax(axis=1) == truth) < least  # the preprocessing matters


def centre_crop(path: Path, side: int) -> np.ndarray:
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    factor = round(side * 256 / 224) / min(image.size)
    image = image.resize(
        (round(image.width * factor), round(image.height * factor)), Image.Resampling.BILINEAR
    )
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return np.asarray(image.crop((left, top, left + side, top + side)), np.float32)


# --- input sizes ---------------------------------------------------------------------------------


def test_default_input_size_is_the_one_the_network_was_trained_at() -> None:
    assert load_network("MobileNet", weights="random", alpha=0.25).input_size == (224, 224)
    assert load_network("SqueezeNet", weights="random").input_size == (227, 227)
    assert load_network("MobileNet", weights="random", alpha=0.25, include_top=False).input_size == (224, 224)


@pytest.mark.parametrize("name", ["MobileNet", "SqueezeNet"])
def test_any_size_reads_images_of_every_size_as_a_fixed_network_does(name: str) -> None:
    free = load_network(name, weights="random", input_size="any")
    assert free.input_size is None
    for size in ((64, 96), (96, 64)):
        fixed = load_network(name, weights="random", input_size=size)
        assert fixed.input_size == size
        assert fixed.weights_digest == free.weights_digest
        x = free.preprocess(noise(1, *size, 3))
        np.testing.assert_allclose(
            np.asarray(free.model(x)), np.asarray(fixed.model(x)), rtol=1e-4, atol=1e-7
        )


def test_any_size_is_refused_where_the_classifier_needs_one() -> None:
    with pytest.raises(NetworkError, match="VGG16 cannot be built"):
        load_network("VGG16", weights="random", input_size="any")
    assert load_network("VGG16", weights="random", input_size="any", include_top=False).input_size is None


# --- models that are given -----------------------------------------------------------------------


def classifier(end: str) -> keras.Model:
    """A small network whose softmax is written in one of the ways people write it."""
    layers = keras.layers
    image = keras.Input((16, 16, 3))
    x = layers.Conv2D(8, 3, activation="relu", name="stem")(image)
    if end == "convolution":
        x = layers.Conv2D(4, 1, activation="softmax", name="logits")(
            layers.GlobalAveragePooling2D(keepdims=True)(x)
        )
        return keras.Model(image, x)
    x = layers.GlobalAveragePooling2D()(x)
    if end == "fused":
        return keras.Model(image, layers.Dense(4, activation="softmax", name="logits")(x))
    x = layers.Dense(4, name="logits")(x)
    ways = {
        "layer": layers.Softmax(),
        "activation": layers.Activation("softmax"),
        "operation": keras.ops.softmax,
        "function": keras.activations.softmax,
    }
    return keras.Model(image, ways[end](x))


@pytest.mark.parametrize("end", ["fused", "layer", "activation", "operation", "function", "convolution"])
def test_logits_are_found_however_the_softmax_is_written(end: str) -> None:
    source = classifier(end)
    net = load_network(source)
    assert list(net.taps)[-2:] == OUTPUTS
    assert net.taps["pre_softmax"] == "logits"
    x = noise(3, 16, 16, 3) / 255
    np.testing.assert_array_equal(np.asarray(net.model(x)), np.asarray(source(x)))
    logits = run(net, "pre_softmax", x)
    kernel, bias = (np.asarray(weight) for weight in source.get_layer("logits").get_weights())
    pooled = run(load_network(source, taps=["stem"]), "stem", x).mean(axis=(1, 2))
    np.testing.assert_allclose(
        logits.reshape(3, 4), pooled @ kernel.reshape(8, 4) + bias, rtol=1e-4, atol=1e-6
    )


def test_a_given_model_is_copied_and_stays_as_it_is() -> None:
    source = classifier("fused")
    before = [array.copy() for array in source.get_weights()]
    config = source.to_json()
    net = load_network(source)
    assert net.weights == "given"
    assert net.weights_seed is None
    net.model.compile("sgd", "categorical_crossentropy")
    net.model.fit(noise(4, 16, 16, 3), np.eye(4), verbose=0)
    assert source.to_json() == config
    for kept, array in zip(before, source.get_weights(), strict=True):
        np.testing.assert_array_equal(kept, array)


def test_a_given_model_with_random_weights_keeps_its_shape_and_loses_its_weights() -> None:
    source = classifier("fused")
    first, again, other = (load_network(source, weights="random", weights_seed=s) for s in (0, 0, 1))
    assert first.weights_digest == again.weights_digest
    assert len({load_network(source).weights_digest, first.weights_digest, other.weights_digest}) == 3
    assert first.model.count_params() == source.count_params()


def test_a_sequential_model_is_read() -> None:
    layers = keras.layers
    source = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            layers.Conv2D(4, 3, strides=2, activation="relu", name="one"),
            layers.Conv2D(8, 3, strides=2, activation="relu", name="two"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(3, activation="softmax", name="classes"),
        ]
    )
    net = load_network(source)
    assert list(net.taps) == ["one", "two", *OUTPUTS]
    x = noise(2, 32, 32, 3) / 255
    np.testing.assert_array_equal(np.asarray(net.model(x)), np.asarray(source(x)))


def test_layers_inside_nested_models_are_within_reach() -> None:
    base = keras.applications.MobileNetV2(
        alpha=0.35, weights=None, include_top=False, input_shape=(64, 64, 3)
    )
    head = keras.Sequential(
        [
            keras.layers.Dense(8, activation="relu", name="mix"),
            keras.layers.Dense(4, activation="softmax", name="d"),
        ]
    )
    wrapped = keras.Sequential([keras.Input((64, 64, 3)), keras.layers.Rescaling(1 / 127.5, -1), base])
    image = keras.Input((64, 64, 3))
    x = keras.layers.GlobalAveragePooling2D()(wrapped(image, training=False))
    source = keras.Model(image, head(x))
    net = load_network(source)
    assert list(net.taps) == [*MOBILENET_V2, "mix", *OUTPUTS]
    pixels = noise(2, 64, 64, 3)
    np.testing.assert_array_equal(np.asarray(net.model(pixels)), np.asarray(source(pixels)))
    inner = keras.Model(base.inputs[0], base.get_layer("block_5_add").output)(pixels / 127.5 - 1)
    np.testing.assert_allclose(run(net, "block_5_add", pixels), np.asarray(inner), rtol=1e-4, atol=1e-5)
    # the nested network was called with training=False: that stays so in the copy
    np.testing.assert_array_equal(
        np.asarray(net.model(pixels, training=True)), np.asarray(source(pixels, training=True))
    )


def test_a_nested_model_called_twice_keeps_shared_weights() -> None:
    image = keras.Input((8, 8, 3))
    block_in = keras.Input((8, 8, 3))
    block = keras.Model(block_in, keras.layers.Conv2D(3, 3, padding="same", name="shared")(block_in))
    source = keras.Model(image, keras.layers.GlobalAveragePooling2D()(block(block(image))))
    net = load_network(source, taps=["shared"])
    assert net.model.count_params() == source.count_params() == 84
    x = noise(2, 8, 8, 3)
    np.testing.assert_array_equal(np.asarray(net.model(x)), np.asarray(source(x)))


def test_layers_of_the_same_name_in_two_nested_models_are_told_apart() -> None:
    def part(name: str) -> keras.Model:
        tensor = keras.Input((8, 8, 3))
        return keras.Model(tensor, keras.layers.Conv2D(3, 3, padding="same", name="conv")(tensor), name=name)

    image = keras.Input((8, 8, 3))
    source = keras.Model(image, keras.layers.Conv2D(2, 1, name="last")(part("b")(part("a")(image))))
    net = load_network(source, taps=["conv", "conv__2"])
    x = noise(1, 8, 8, 3)
    first = np.asarray(source.get_layer("a")(x))
    np.testing.assert_array_equal(run(net, "conv", x), first)
    np.testing.assert_array_equal(run(net, "conv__2", x), np.asarray(source.get_layer("b")(first)))


def test_a_model_of_another_input_size_is_built_anew() -> None:
    image = keras.Input((None, None, 3))
    source = keras.Model(image, keras.layers.Conv2D(2, 3, name="c")(image))
    assert load_network(source).input_size is None
    assert load_network(source, input_size=32).input_size == (32, 32)
    flat = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(2, name="d")])
    with pytest.raises(NetworkError, match="cannot be"):
        load_network(flat, input_size=16)


class Scaled(keras.layers.Layer):
    """A layer with a weight and without get_config: it cannot be made anew."""

    def __init__(self, start: float, **options: Any) -> None:
        super().__init__(**options)
        self.factor = self.add_weight(shape=(), initializer=keras.initializers.Constant(start))

    def call(self, x: Any) -> Any:
        return x * self.factor


def test_layers_that_cannot_be_copied_are_named_and_lambdas_are_kept() -> None:
    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(2, 3, name="c")(keras.layers.Lambda(lambda pixels: pixels / 2)(image))
    source = keras.Model(image, x)
    pixels = noise(1, 8, 8, 3)
    np.testing.assert_array_equal(np.asarray(load_network(source).model(pixels)), np.asarray(source(pixels)))
    positional = keras.Model(image, Scaled(2.0, name="scaled")(x))
    positional.get_layer("scaled").get_config = lambda: {"name": "scaled"}
    with pytest.raises(NetworkError, match=r"layer 'scaled' cannot be copied[\s\S]*a Scaled"):
        load_network(positional)


def test_a_network_without_a_place_for_taps_says_so() -> None:
    image = keras.Input((8, 8, 3))
    source = keras.Model(image, keras.layers.Reshape((64, 3), name="tokens")(image))
    with pytest.raises(NetworkError, match="offers itself as a tap"):
        load_network(source)


class Subclassed(keras.Model):
    def call(self, x: Any) -> Any:
        return x


def test_what_has_no_graph_is_refused_with_the_reason() -> None:
    with pytest.raises(NetworkError, match=r"subclassed keras\.Model \(Subclassed\)"):
        load_network(Subclassed())
    with pytest.raises(NetworkError, match="Received: list"):
        load_network([1, 2])
    with pytest.raises(NetworkError, match="no input shape yet"):
        load_network(keras.Sequential([keras.layers.Dense(2)]))
    pair = [keras.Input((8, 8, 3)), keras.Input((8, 8, 3))]
    with pytest.raises(NetworkError, match="2 inputs and 1 outputs"):
        load_network(keras.Model(pair, keras.layers.Add()(pair)))
    vector = keras.Input((8,))
    with pytest.raises(NetworkError, match="one image"):
        load_network(keras.Model(vector, keras.layers.Dense(2)(vector)))
    with pytest.raises(NetworkError, match="takes no options"):
        load_network(classifier("fused"), alpha=0.5)


def test_taps_can_be_any_layers_under_any_names() -> None:
    net = small_net(taps=["conv_dw_2_relu", "softmax", "conv_pw_1"])
    assert list(net.taps) == ["conv_pw_1", "conv_dw_2_relu", "softmax"]
    net = small_net(taps={"early": "conv_pw_1_relu", "logits": "pre_softmax"})
    assert net.taps == {"early": "conv_pw_1_relu", "logits": "reshape"}
    with pytest.raises(NetworkError, match=r"Did you mean .*'conv_pw_1'"):
        small_net(taps=["conv_pw_1x"])
    with pytest.raises(NetworkError, match="at least one tap"):
        small_net(taps=[])
    source = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Reshape((64, 3), name="tokens"),
            keras.layers.Dense(2, name="d"),
        ]
    )
    with pytest.raises(NetworkError, match="whose output has 2 axes"):
        load_network(source, taps=["tokens"])


# --- weight files --------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".weights.h5", ".h5", ".keras"])
def test_weights_survive_a_round_trip_through_every_format(tmp_path: Path, suffix: str) -> None:
    first = small_net(seed=7)
    file = tmp_path / f"own{suffix}"
    first.model.save(file) if suffix != ".weights.h5" else first.model.save_weights(file)
    again = small_net(weights=file)
    assert again.weights_digest == first.weights_digest
    assert again.weights == file.name
    assert again.weights_seed is None
    if suffix != ".weights.h5":  # a whole model needs no name
        whole = load_network(str(file))
        x = noise(1, 64, 64, 3) / 255
        np.testing.assert_array_equal(np.asarray(whole.model(x)), np.asarray(first.model(x)))
        assert list(whole.taps)[-2:] == OUTPUTS


def test_a_bare_file_name_is_found_in_the_data_root_then_in_keras_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    for folder, seed in ((tmp_path / "keras" / "models", 1), (tmp_path / "data" / "weights", 2)):
        folder.mkdir(parents=True)
        small_net(seed=seed).model.save_weights(folder / "own.weights.h5")
    found = small_net(weights="own.weights.h5", data_root=tmp_path / "data")
    assert found.weights_digest == small_net(seed=2).weights_digest
    found = small_net(weights="own.weights.h5", data_root=tmp_path / "elsewhere")
    assert found.weights_digest == small_net(seed=1).weights_digest


@pytest.mark.parametrize("suffix", [".weights.h5", ".h5", ".keras"])
@pytest.mark.parametrize("damage", ["empty", "text", "half", "tail"])
def test_a_damaged_weight_file_is_named_with_the_reason(tmp_path: Path, suffix: str, damage: str) -> None:
    file = tmp_path / f"own{suffix}"
    model = small_net().model
    model.save(file) if suffix != ".weights.h5" else model.save_weights(file)
    content = file.read_bytes()
    cut = {
        "empty": b"",
        "text": b"<html>404</html>",
        "half": content[: len(content) // 2],
        "tail": content[:-100],
    }
    file.write_bytes(cut[damage])
    with pytest.raises(WeightsError, match=r"own.*\.(h5|keras)") as caught:
        small_net(weights=file)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("suffix", [".weights.h5", ".h5", ".keras"])
def test_weights_of_another_network_are_refused(tmp_path: Path, suffix: str) -> None:
    others = [small_net(alpha=0.5), small_net(include_top=False), small_net(classes=7)]
    others.append(load_network("SqueezeNet", weights="random", input_size=64))
    for number, model in enumerate(net.model for net in others):
        file = tmp_path / f"other{number}{suffix}"
        model.save(file) if suffix != ".weights.h5" else model.save_weights(file)
        with pytest.raises(WeightsError, match=f"other{number}"):
            small_net(weights=file)


def test_a_missing_weight_file_lists_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no\.weights\.h5"):
        small_net(weights="no.weights.h5", data_root=tmp_path)


@pytest.mark.parametrize("name", ["InceptionV3", "ResNet50", "NASNetLarge", "SqueezeNet", "ConvNeXtXLarge"])
def test_missing_imagenet_weights_are_an_error_at_once_without_a_network(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("something tried to reach the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    start = time.perf_counter()
    with pytest.raises(WeightsError) as caught:
        load_network(name, data_root=tmp_path)
    assert time.perf_counter() - start < 1
    message = str(caught.value)
    assert str(tmp_path / "keras" / "models") in message
    assert f"scalelib fetch --weights {name}" in message
    assert ".h5" in message or ".net" in message


def test_the_weights_without_the_top_are_pointed_out_where_they_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "mobilenet_2_5_224_tf_no_top.h5").touch()
    with pytest.raises(WeightsError, match=r"mobilenet_2_5_224_tf_no_top\.h5 is here"):
        load_network("MobileNet", alpha=0.25, data_root=tmp_path)
    with pytest.raises(WeightsError, match=r"alpha is one of \(0.25, 0.5, 0.75, 1.0\)"):
        load_network("MobileNet", alpha=0.3, data_root=tmp_path)


@pytest.mark.data
def test_official_mobilenet_weights_are_those_that_keras_loads(keras_models: Path) -> None:
    net = load_network("MobileNet", alpha=0.25, include_top=False)
    theirs = keras.applications.MobileNet(
        alpha=0.25, include_top=False, weights=None, input_shape=(224, 224, 3)
    )
    theirs.load_weights(keras_models / "mobilenet_2_5_224_tf_no_top.h5")
    x = net.preprocess(noise(1, 224, 224, 3))
    np.testing.assert_array_equal(np.asarray(net.model(x)), np.asarray(theirs(x)))
    assert net.name == "MobileNet 0.25"
    assert net.weights == "imagenet"
    assert net.weights_seed is None


def test_all_networks_of_keras_are_known() -> None:
    assert len(application_names()) >= 40
    assert {"VGG16", "ConvNeXtXLarge", "NASNetLarge", "EfficientNetV2L"} <= set(application_names())
