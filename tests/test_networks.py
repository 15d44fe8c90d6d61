"""Networks: weights, seeds, preprocessing, sizes, copies of given models, and what load_network refuses."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from scalelib.errors import NetworkError
from scalelib.graph import keras
from scalelib.networks import Network, application_names, load_network, resolve_tap

layers = keras.layers
OUTPUTS = ["pre_softmax", "softmax"]


def small_net(seed: int = 0, **options: Any) -> Network:
    options = {"alpha": 0.25, "input_size": 64, "weights": "random", **options}
    return load_network("MobileNet", weights_seed=seed, **options)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 255, shape).astype(np.float32)


def run(net: Network, tap: str, x: np.ndarray) -> np.ndarray:
    return np.asarray(keras.Model(net.model.inputs[0], net.tensor(tap))(x))


def test_all_networks_of_keras_are_known() -> None:
    assert len(application_names()) >= 40
    assert {"VGG16", "ConvNeXtXLarge", "NASNetLarge", "EfficientNetV2L"} <= set(application_names())


def test_weights_and_logits_are_those_that_keras_draws_from_the_seed() -> None:
    net = load_network("MobileNetV2", weights="random", weights_seed=5, alpha=0.35, input_size=32)
    state = random.getstate()
    random.seed(5)
    bare = keras.applications.MobileNetV2(
        alpha=0.35, weights=None, input_shape=(32, 32, 3), classifier_activation=None
    )
    random.setstate(state)
    for ours, theirs in zip(net.model.get_weights(), bare.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    x = noise(2, 32, 32, 3) / 255
    np.testing.assert_allclose(run(net, "pre_softmax", x), np.asarray(bare(x)), rtol=1e-5, atol=1e-6)


def test_the_same_seed_gives_the_same_bits_and_another_seed_others() -> None:
    random.seed(11)
    np.random.seed(11)  # noqa: NPY002 the legacy global state is what must not move
    before = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    first = small_net(seed=3)
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tolist() == before[1]  # noqa: NPY002
    random.seed(99)
    again, other = small_net(seed=3), small_net(seed=4)
    assert first.weights_digest == again.weights_digest != other.weights_digest
    assert first.weights_seed == 3
    x = noise(1, 64, 64, 3)
    np.testing.assert_array_equal(run(first, "conv_pw_13", x), run(again, "conv_pw_13", x))
    pairs = zip(first.model.get_weights(), other.model.get_weights(), strict=True)
    assert all(not np.array_equal(a, b) for a, b in pairs if a.ndim == 4)


@pytest.mark.parametrize(("name", "size"), [("Xception", 71), ("ConvNeXtTiny", 32)])
def test_names_and_digest_are_the_same_however_many_networks_were_built_before(name: str, size: int) -> None:
    first, again = (load_network(name, weights="random", input_size=size, classes=5) for _ in range(2))
    assert first.taps == again.taps
    assert first.weights_digest == again.weights_digest
    assert [step.name for step in first.steps] == [step.name for step in again.steps]


def test_digest_notices_one_changed_weight() -> None:
    source = small_net().model
    before = load_network(source).weights_digest
    assert load_network(source).weights_digest == before
    kernel = source.get_layer("conv_pw_7").get_weights()
    kernel[0][0, 0, 0, 0] = np.nextafter(kernel[0][0, 0, 0, 0], np.float32(9))
    source.get_layer("conv_pw_7").set_weights(kernel)
    assert load_network(source).weights_digest != before


def test_layers_are_built_once_and_keras_predicts_with_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    built = []
    original = layers.Conv2D.__init__
    monkeypatch.setattr(
        layers.Conv2D, "__init__", lambda self, *a, **k: (built.append(k["name"]), original(self, *a, **k))[1]
    )
    net = small_net()
    assert sorted(built) == sorted(set(built))
    assert net.name == "MobileNet 0.25"  # a space, which TensorFlow's names must not have
    x = noise(1, 64, 64, 3) / 255
    np.testing.assert_allclose(net.model.predict(x, verbose=0), np.asarray(net.model(x)), rtol=1e-5)
    early = keras.Model(net.model.inputs[0], net.model.get_layer("conv_pw_1").output)
    np.testing.assert_array_equal(np.asarray(early(x)), run(net, "conv_pw_1", x))


# --- preprocessing and sizes -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "label", "expected"),
    [
        ("InceptionV3", "keras.applications.inception_v3.preprocess_input", [1, 100 / 127.5 - 1, -1]),
        ("ResNet50", "keras.applications.resnet.preprocess_input", [-103.939, 100 - 116.779, 255 - 123.68]),
        ("SqueezeNet", "BGR less (104, 117, 123)", [0 - 104, 100 - 117, 255 - 123]),
        ("control", "scalelib.control.preprocess", [1, 100 / 127.5 - 1, -1]),
        ("raw", "raw", [255, 100, 0]),
        ("0-1", "0-1", [1, 100 / 255, 0]),
        (np.negative, "numpy.negative", [-255, -100, 0]),
    ],
)
def test_preprocessing_is_what_the_network_was_trained_with(
    name: Any, label: str, expected: list[float]
) -> None:
    net = load_network("control", weights="random", preprocess=name)
    image = np.full((1, 2, 2, 3), [255.0, 100.0, 0.0], np.float32)
    kept = image.copy()
    out = net.preprocess(image)
    assert (out.dtype, net.preprocess_name.removeprefix(".")) == (np.float32, label)
    np.testing.assert_allclose(out[0, 1, 1], expected, rtol=1e-5)
    np.testing.assert_array_equal(image, kept)  # Keras's own function writes into its argument


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
    images = np.stack([centre_crop(path, net.input_size[0]) for path in imagenet_samples])
    truth = np.array([number[path.name.split("_")[0]] for path in imagenet_samples])
    assert len(truth) == 150
    right, raw = (
        np.mean(net.model.predict(x, batch_size=50, verbose=0).argmax(axis=1) == truth)
        for x in (net.preprocess(images), images)
    )
    assert right >= least > raw  # the preprocessing matters


def centre_crop(path: Path, side: int) -> np.ndarray:
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    factor = round(side * 256 / 224) / min(image.size)
    width, height = round(image.width * factor), round(image.height * factor)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = (width - side) // 2, (height - side) // 2
    return np.asarray(image.crop((left, top, left + side, top + side)), np.float32)


def test_default_input_size_is_the_one_the_network_was_trained_at() -> None:
    for name, side in (("MobileNet", 224), ("SqueezeNet", 227), ("control", 64)):
        assert load_network(name, weights="random").input_size == (side, side)
    assert load_network("MobileNet", weights="random", include_top=False).input_size == (224, 224)


@pytest.mark.parametrize("name", ["MobileNet", "SqueezeNet", "control"])
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


# --- models that are given -----------------------------------------------------------------------


def classifier(end: str) -> keras.Model:
    """A small network whose softmax is written in one of the ways people write it."""
    image = keras.Input((16, 16, 3))
    x = layers.Conv2D(8, 3, activation="relu", name="stem")(image)
    if end == "convolution":
        x = layers.GlobalAveragePooling2D(keepdims=True)(x)
        return keras.Model(image, layers.Conv2D(4, 1, activation="softmax", name="logits")(x))
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
    averages = run(load_network(source, taps=["stem"]), "stem", x).mean(axis=(1, 2))
    expected = averages @ kernel.reshape(8, 4) + bias
    np.testing.assert_allclose(logits.reshape(3, 4), expected, rtol=1e-4, atol=1e-6)


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


def test_layers_inside_nested_models_are_within_reach() -> None:
    base = keras.applications.MobileNet(alpha=0.25, weights=None, include_top=False, input_shape=(64, 64, 3))
    head = keras.Sequential(
        [layers.Dense(8, activation="relu", name="mix"), layers.Dense(4, activation="softmax", name="d")]
    )
    wrapped = keras.Sequential([keras.Input((64, 64, 3)), layers.Rescaling(1 / 127.5, -1), base])
    image = keras.Input((64, 64, 3))
    source = keras.Model(image, head(layers.GlobalAveragePooling2D()(wrapped(image, training=False))))
    net = load_network(source)
    assert list(net.taps)[-3:] == ["mix", *OUTPUTS]
    pixels = noise(2, 64, 64, 3)
    np.testing.assert_array_equal(np.asarray(net.model(pixels)), np.asarray(source(pixels)))
    inner = keras.Model(base.inputs[0], base.get_layer("conv_pw_5").output)(pixels / 127.5 - 1)
    found = run(load_network(source, taps=["conv_pw_5"]), "conv_pw_5", pixels)
    np.testing.assert_allclose(found, np.asarray(inner), rtol=1e-4, atol=1e-5)
    # the nested network was called with training=False: that stays so in the copy
    np.testing.assert_array_equal(
        np.asarray(net.model(pixels, training=True)), np.asarray(source(pixels, training=True))
    )


def test_a_nested_model_called_twice_keeps_shared_weights() -> None:
    image, block_in = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
    block = keras.Model(block_in, layers.Conv2D(3, 3, padding="same", name="shared")(block_in))
    source = keras.Model(image, layers.GlobalAveragePooling2D()(block(block(image))))
    net = load_network(source, taps=["shared"])
    assert net.model.count_params() == source.count_params() == 84
    x = noise(2, 8, 8, 3)
    np.testing.assert_array_equal(np.asarray(net.model(x)), np.asarray(source(x)))


def test_layers_of_the_same_name_in_two_nested_models_are_told_apart() -> None:
    def part(name: str) -> keras.Model:
        tensor = keras.Input((8, 8, 3))
        return keras.Model(tensor, layers.Conv2D(3, 3, padding="same", name="conv")(tensor), name=name)

    image = keras.Input((8, 8, 3))
    source = keras.Model(image, layers.Conv2D(2, 1, name="last")(part("b")(part("a")(image))))
    net = load_network(source, taps=["conv", "conv__2"])
    x = noise(1, 8, 8, 3)
    first = np.asarray(source.get_layer("a")(x))
    np.testing.assert_array_equal(run(net, "conv", x), first)
    np.testing.assert_array_equal(run(net, "conv__2", x), np.asarray(source.get_layer("b")(first)))


def test_a_model_of_another_input_size_is_built_anew() -> None:
    image = keras.Input((None, None, 3))
    source = keras.Model(image, layers.Lambda(lambda x: x / 2)(layers.Conv2D(2, 3, name="c")(image)))
    assert load_network(source).input_size is None
    net = load_network(source, input_size=32)
    assert net.input_size == (32, 32)
    x = noise(1, 32, 32, 3)
    np.testing.assert_array_equal(np.asarray(net.model(x)), np.asarray(source(x)))


def test_taps_can_be_any_layers_under_any_names() -> None:
    net = small_net(taps=["conv_dw_2_relu", "softmax", "conv_pw_1"])
    assert list(net.taps) == ["conv_pw_1", "conv_dw_2_relu", "softmax"]
    net = small_net(taps={"early": "conv_pw_1_relu", "logits": "pre_softmax"})
    assert net.taps == {"early": "conv_pw_1_relu", "logits": "reshape"}


def test_a_tap_answers_to_its_names_in_the_paper_and_in_older_keras() -> None:
    net = load_network("ResNet50", weights="random", input_size=32)
    for name in ("add16", "add_16", "conv5_block3_add", "Add16"):
        assert resolve_tap(net, name) == "add16"
    assert resolve_tap(net, "conv5_block2_add") == "add15"
    assert resolve_tap(net, "pre-softmax") == resolve_tap(net, "logits") == "pre_softmax"
    assert net.tensor("conv5_block3_add") is net.tensor("add16")


# --- refusals --------------------------------------------------------------------------------------


class Scaled(layers.Layer):
    """A layer with a weight and without get_config: it cannot be made anew."""

    def __init__(self, start: float, **options: Any) -> None:
        super().__init__(**options)
        self.factor = self.add_weight(shape=(), initializer=keras.initializers.Constant(start))

    def call(self, x: Any) -> Any:
        return x * self.factor


class Subclassed(keras.Model):
    def call(self, x: Any) -> Any:
        return x


def model(*sizes: tuple[int, ...], through: Callable[[], Any]) -> keras.Model:
    images = [keras.Input(size) for size in sizes]
    return keras.Model(
        images if len(images) > 1 else images[0], through()(images if len(images) > 1 else images[0])
    )


def uncopyable() -> keras.Model:
    found = model((8, 8, 3), through=lambda: Scaled(2.0, name="scaled"))
    found.get_layer("scaled").get_config = lambda: {"name": "scaled"}
    return found


def flat() -> keras.Model:
    return keras.Sequential([keras.Input((8, 8, 3)), layers.Flatten(), layers.Dense(2, name="d")])


def tokens() -> keras.Model:
    return model((8, 8, 3), through=lambda: layers.Reshape((64, 3), name="tokens"))


@pytest.mark.parametrize(
    ("source", "options", "words"),
    [
        ("Resnet-50", {}, r"Did you mean .*'ResNet50'"),
        ("ResNet50", {"alpha": 0.5}, "Options of ResNet50: include_top, classes"),
        ("control", {"alpha": 0.5}, "Options of control: classes"),
        *[("control", {"input_size": size}, "input_size") for size in (0, -3, (64,), (64, 64, 3), "large", 64.5)],
        ("InceptionV3", {"input_size": 20}, "InceptionV3 cannot be built"),
        ("VGG16", {"input_size": "any"}, "VGG16 cannot be built"),
        ("control", {"preprocess": "Resnet50"}, r"Did you mean .*'ResNet50'"),
        ("control", {"taps": ["conv1x"]}, r"Did you mean .*'conv1'"),
        ("control", {"taps": []}, "at least one tap"),
        (tokens, {}, "at least one tap; functional.* offers none of its own"),
        (tokens, {"taps": ["tokens"]}, "whose output has 2 axes"),
        (flat, {"input_size": 16}, "cannot be"),
        (flat, {"alpha": 0.5}, "takes no options"),
        (uncopyable, {}, r"layer 'scaled' cannot be copied[\s\S]*a Scaled"),
        (Subclassed, {}, r"subclassed keras\.Model, Subclassed"),
        (lambda: [1, 2], {}, "Received: no model, list"),
        (lambda: keras.Sequential([layers.Dense(2)]), {}, "no input shape yet"),
        (lambda: model((8, 8, 3), (8, 8, 3), through=layers.Add), {}, "2 inputs and 1 outputs"),
        (lambda: model((8,), through=lambda: layers.Dense(2)), {}, "reads one image"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_with_the_reason(
    source: Any, options: dict[str, Any], words: str
) -> None:
    given = source() if callable(source) else source
    with pytest.raises(NetworkError, match=rf"^load_network: [\s\S]*{words}") as caught:
        load_network(given, **{} if callable(source) else {"weights": "random"}, **options)
    assert "Received: " in str(caught.value)


def test_an_unknown_tap_names_near_matches_and_all_taps() -> None:
    net = load_network("InceptionV3", weights="random", input_size=75)
    with pytest.raises(NetworkError) as caught:
        net.tensor("mixed11")
    assert "no layer 'mixed11' in InceptionV3; taps are mixed0, mixed1" in str(caught.value)
    assert "Did you mean 'mixed10' or 'mixed1'" in str(caught.value)
