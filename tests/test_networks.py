"""Networks: weights, seeds, preprocessing, sizes, copies of given models, and what load_network refuses."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from scalelib.errors import NetworkError
from scalelib.graph import keras
from scalelib.networks import Network, load_network, resolve_tap

layers = keras.layers
OUTPUTS = ["pre_softmax", "softmax"]
small_net = partial(load_network, "MobileNet", alpha=0.25, input_size=64, weights="random")


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 255, shape).astype(np.float32)


def run(net: Network, tap: str, x: np.ndarray) -> np.ndarray:
    return np.asarray(keras.Model(net.model.inputs[0], net.tensor(tap))(x))


def test_weights_and_logits_are_those_that_keras_draws_from_the_seed():
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


def test_the_same_seed_gives_the_same_bits_and_another_seed_others():
    random.seed(11)
    np.random.seed(11)  # noqa: NPY002 the legacy global state is what must not move
    before = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    first = small_net(weights_seed=3)
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tolist() == before[1]  # noqa: NPY002
    random.seed(99)
    again, other = small_net(weights_seed=3), small_net(weights_seed=4)
    assert first.weights_digest == again.weights_digest != other.weights_digest
    assert first.weights_seed == 3
    x = noise(1, 64, 64, 3)
    np.testing.assert_array_equal(run(first, "conv_pw_13", x), run(again, "conv_pw_13", x))
    assert first.name == "MobileNet 0.25"  # a space, which TensorFlow's names must not have
    np.testing.assert_allclose(first.model.predict(x, verbose=0), run(again, "softmax", x), rtol=1e-4)
    pairs = zip(first.model.get_weights(), other.model.get_weights(), strict=True)
    assert all(not np.array_equal(a, b) for a, b in pairs if a.ndim == 4)


@pytest.mark.parametrize(("name", "size"), [("Xception", 71), ("ConvNeXtTiny", 32), ("MobileNetV3Small", 32)])
def test_names_and_digest_are_the_same_however_many_networks_were_built_before(name, size):
    first, again = (load_network(name, weights="random", input_size=size, classes=5) for _ in range(2))
    assert first.taps == again.taps
    assert first.weights_digest == again.weights_digest
    assert [step.name for step in first.steps] == [step.name for step in again.steps]


def test_digest_notices_one_changed_weight():
    source = small_net().model
    before = load_network(source).weights_digest
    assert load_network(source).weights_digest == before
    kernel = source.get_layer("conv_pw_7").get_weights()
    kernel[0][0, 0, 0, 0] = np.nextafter(kernel[0][0, 0, 0, 0], np.float32(9))
    source.get_layer("conv_pw_7").set_weights(kernel)
    assert load_network(source).weights_digest != before


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
def test_preprocessing_is_what_the_network_was_trained_with(name, label, expected):
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
    ("name", "options", "least"),
    [
        ("SqueezeNet", {}, 0.50),
        ("MobileNet", {"weights": "mobilenet_0.5_160_imagenet_uint8.weights.h5", "alpha": 0.5, "input_size": 160}, 0.60),
        *(pytest.param(*case, marks=pytest.mark.exhaustive) for case in (
            ("MobileNetV2", {"weights": "mobilenet_v2_imagenet_int8.weights.h5"}, 0.80),
            ("MobileNet", {"weights": "mobilenet_0.75_192_imagenet_uint8.weights.h5", "alpha": 0.75, "input_size": 192}, 0.79),
            ("resnet50_v1_5_imagenet_int4.keras", {}, 0.89),
        )),
    ],
)  # fmt: skip
def test_top_1_on_imagenet_samples_proves_weights_and_preprocessing(
    name, options, least, imagenet_samples, weights_root, keras_models
):
    index = json.loads((keras_models / "imagenet_class_index.json").read_text())
    number = {wnid: int(key) for key, (wnid, _) in index.items()}
    net = load_network(name, data_root=weights_root.parent, **options)
    fitted = {"method": Image.Resampling.BILINEAR, "bleed": 1 / 16}  # the middle 224 of 256
    pictures = [Image.open(path).convert("RGB") for path in imagenet_samples]
    images = np.stack([ImageOps.fit(p, net.input_size, **fitted) for p in pictures]).astype(np.float32)
    truth = np.array([number[path.name.split("_")[0]] for path in imagenet_samples])
    assert len(truth) == 150
    other = images / 255 if net.preprocess_name == "raw" else images
    right, wrong = (
        np.mean(net.model.predict(x, batch_size=50, verbose=0).argmax(axis=1) == truth)
        for x in (net.preprocess(images), other)
    )
    assert right >= least > wrong  # the preprocessing matters


@pytest.mark.parametrize(("name", "side"), [("MobileNet", 224), ("SqueezeNet", 227), ("control", 64)])
def test_images_are_read_at_the_trained_size_or_at_any_as_by_a_fixed_network(name, side):
    assert load_network(name, weights="random").input_size == (side, side)
    free = load_network(name, weights="random", input_size="any")
    assert free.input_size is None
    for size in ((64, 96), (96, 64)):
        fixed = load_network(name, weights="random", input_size=size)
        assert (fixed.input_size, fixed.weights_digest) == (size, free.weights_digest)
        x = free.preprocess(noise(1, *size, 3))
        ours, theirs = np.asarray(free.model(x)), np.asarray(fixed.model(x))
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-7)


# --- models that are given -----------------------------------------------------------------------


SOFTMAX: dict[str, Callable[[Any], Any]] = {
    "layer": lambda x: layers.Softmax()(layers.Dense(4, name="logits")(x)),
    "activation": lambda x: layers.Activation("softmax")(layers.Dense(4, name="logits")(x)),
    "operation": lambda x: keras.ops.softmax(layers.Dense(4, name="logits")(x)),
    "function": lambda x: keras.activations.softmax(layers.Dense(4, name="logits")(x)),
    "fused": layers.Dense,
    "convolution": layers.Conv2D,
}


def classifier(end: str = "fused") -> keras.Model:
    """A small network whose softmax is written in one of the ways people write it."""
    image = keras.Input((16, 16, 3))
    x = layers.Conv2D(8, 3, activation="relu", name="stem")(image)
    x = layers.GlobalAveragePooling2D(keepdims=end == "convolution")(x)
    size = {"fused": (4,), "convolution": (4, 1)}.get(end)
    last = SOFTMAX[end](*size, activation="softmax", name="logits") if size else SOFTMAX[end]
    return keras.Model(image, last(x))


@pytest.mark.parametrize("end", SOFTMAX)
def test_logits_are_found_however_the_softmax_is_written(end):
    source = classifier(end)
    net = load_network(source)
    assert (list(net.taps)[-2:], net.taps["pre_softmax"]) == (OUTPUTS, "logits")
    x = noise(3, 16, 16, 3) / 255
    np.testing.assert_array_equal(np.asarray(net.model(x)), np.asarray(source(x)))
    kernel, bias = (np.asarray(weight) for weight in source.get_layer("logits").get_weights())
    averages = run(load_network(source, taps=["stem"]), "stem", x).mean(axis=(1, 2))
    logits, expected = run(net, "pre_softmax", x), averages @ kernel.reshape(8, 4) + bias
    np.testing.assert_allclose(logits.reshape(3, 4), expected, rtol=1e-4, atol=1e-6)


def test_a_given_model_is_copied_and_stays_as_it_is():
    source = classifier()
    before, config = [array.copy() for array in source.get_weights()], source.to_json()
    net = load_network(source)
    assert (net.weights, net.weights_seed) == ("given", None)
    net.model.compile("sgd", "categorical_crossentropy")
    net.model.fit(noise(4, 16, 16, 3), np.eye(4), verbose=0)
    assert source.to_json() == config
    for kept, array in zip(before, source.get_weights(), strict=True):
        np.testing.assert_array_equal(kept, array)


def test_a_given_model_with_random_weights_keeps_its_shape_and_loses_its_weights():
    source = classifier()
    first, again, other = (load_network(source, weights="random", weights_seed=s) for s in (0, 0, 1))
    assert first.weights_digest == again.weights_digest
    assert len({load_network(source).weights_digest, first.weights_digest, other.weights_digest}) == 3
    assert first.model.count_params() == source.count_params()


def test_layers_inside_nested_models_are_within_reach():
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


@pytest.mark.parametrize("called", ["aa", "ab"])
def test_a_nested_model_called_twice_shares_weights_and_two_with_layers_of_one_name_do_not(called):
    parts = {}
    for name in called:
        tensor = keras.Input((8, 8, 3))
        parts[name] = keras.Model(tensor, layers.Conv2D(3, 3, padding="same", name="conv")(tensor), name=name)
    first, second = (parts[name] for name in called)
    image = keras.Input((8, 8, 3))
    source = keras.Model(image, layers.Conv2D(2, 1, name="last")(second(first(image))))
    net = load_network(source, taps=["conv", "conv__2"][: len(parts)])
    assert net.model.count_params() == source.count_params() == 84 * len(parts) + 8
    x = noise(1, 8, 8, 3)
    np.testing.assert_array_equal(np.asarray(net.model(x)), np.asarray(source(x)))
    if called == "ab":
        np.testing.assert_array_equal(run(net, "conv", x), np.asarray(first(x)))
        np.testing.assert_array_equal(run(net, "conv__2", x), np.asarray(second(first(x))))


def test_a_model_of_another_input_size_is_built_anew():
    image = keras.Input((None, None, 3))
    source = keras.Model(image, layers.Lambda(lambda x: x / 2)(layers.Conv2D(2, 3, name="c")(image)))
    assert load_network(source).input_size is None
    net = load_network(source, input_size=32)
    assert net.input_size == (32, 32)
    x = noise(1, 32, 32, 3)
    np.testing.assert_array_equal(np.asarray(net.model(x)), np.asarray(source(x)))


def test_taps_can_be_any_layers_under_any_names():
    net = small_net(taps=["conv_dw_2_relu", "softmax", "conv_pw_1"])
    assert list(net.taps) == ["conv_pw_1", "conv_dw_2_relu", "softmax"]
    net = small_net(taps={"early": "conv_pw_1_relu", "logits": "pre_softmax"})
    assert net.taps == {"early": "conv_pw_1_relu", "logits": "reshape"}
    taps = {"kernel": "conv1", "relu": "conv1_relu"}  # "conv1" alone is the tap that reads conv1_relu
    assert load_network("control", taps=taps).taps == taps


def test_fresh_weights_come_from_the_seed_alone_whatever_an_initialiser_says():
    image = keras.Input((8, 8, 3))
    layer = keras.layers.Conv2D(4, 3, kernel_initializer=keras.initializers.HeNormal(seed=1))
    model = keras.Model(image, keras.layers.GlobalAveragePooling2D()(layer(image)))
    nets = [load_network(model, weights="random", weights_seed=seed) for seed in (0, 1, 1)]
    first, second, again = (net.weights_digest for net in nets)
    assert first != second == again
    assert load_network(model).weights_digest not in (first, second)


def test_a_tap_answers_to_its_names_in_the_paper_and_in_older_keras():
    net = load_network("ResNet50", weights="random", input_size=32)
    for name in ("add16", "add_16", "conv5_block3_add", "Add16"):
        assert resolve_tap(net, name) == "add16"
    assert resolve_tap(net, "conv5_block2_add") == "add15"
    assert resolve_tap(net, "pre-softmax") == resolve_tap(net, "logits") == "pre_softmax"
    assert net.tensor("conv5_block3_add") is net.tensor("add16")
    with pytest.raises(
        NetworkError, match=r"'add17' in ResNet50; taps are add1, add2[\s\S]*Did you mean 'add1"
    ):
        net.tensor("add17")


# --- refusals --------------------------------------------------------------------------------------


class Scaled(layers.Layer):
    """A layer whose configuration lacks an argument: it cannot be made anew."""

    def __init__(self, start: float, name: str) -> None:
        super().__init__(name=name)
        self.add_weight(shape=())

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name}

    def call(self, x: Any) -> Any:
        return x


class Subclassed(keras.Model):
    def call(self, x: Any) -> Any:
        return x


def model(*sizes: tuple[int, ...], through: Callable[[], Any]) -> keras.Model:
    images = [keras.Input(size) for size in sizes]
    given = images if len(images) > 1 else images[0]
    return keras.Model(given, through()(given))


def flat() -> keras.Model:
    return model((8, 8, 3), through=lambda: keras.Sequential([layers.Flatten(), layers.Dense(2)]))


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
        (lambda: model((8, 8, 3), through=lambda: Scaled(2.0, name="scaled")), {}, r"Scaled 'scaled' cannot be copied"),
        (Subclassed, {}, r"subclassed keras\.Model, Subclassed"),
        (lambda: [1, 2], {}, "Received: no model, list"),
        (lambda: keras.Sequential([layers.Dense(2)]), {}, "no input shape yet"),
        (lambda: model((8, 8, 3), (8, 8, 3), through=layers.Add), {}, "2 inputs and 1 outputs"),
        (lambda: model((8,), through=lambda: layers.Dense(2)), {}, "reads one RGB image"),
        *[(lambda n=n: model((8, 8, n), through=lambda: layers.Conv2D(2, 3)), {}, "reads one RGB image") for n in (1, 5)],
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_with_the_reason(source, options, words):
    given, weights = (source(), {}) if callable(source) else (source, {"weights": "random"})
    with pytest.raises(NetworkError, match=rf"^load_network: [\s\S]*{words}") as caught:
        load_network(given, **weights, **options)
    assert "Received: " in str(caught.value)
