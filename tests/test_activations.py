"""Extraction against single-layer models and the plain forward pass; order, streaming, refusals."""

from __future__ import annotations

import errno
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from scalelib import activations
from scalelib.activations import extract, extract_readable
from scalelib.errors import DataError, NetworkError, ResultsError
from scalelib.graph import keras
from scalelib.images import resize_image
from scalelib.networks import Network, load_network


def small_model(size: int | None = 12, *, seed: int = 0) -> keras.Model:
    """Two convolutions, a vector, probabilities."""
    layers, start = keras.layers, keras.initializers.GlorotUniform
    x = image = keras.Input((size, size, 3), name="image")
    x = layers.Conv2D(5, 3, activation="relu", kernel_initializer=start(seed), name="first")(x)
    x = layers.Conv2D(7, 3, strides=2, kernel_initializer=start(seed + 1), name="second")(x)
    x = layers.GlobalAveragePooling2D(name="vector")(x)
    x = layers.Dense(4, activation="softmax", kernel_initializer=start(seed + 2), name="softmax")(x)
    return keras.Model(image, x, name="small")


def unit(images: np.ndarray) -> np.ndarray:
    return np.asarray(images, np.float32) / 255


TAPS = ["first", "second", "vector", "softmax"]


@pytest.fixture(scope="module")
def small() -> Network:
    return load_network(small_model(), taps=TAPS, preprocess=unit)


@pytest.fixture(scope="module")
def any_size() -> Network:
    return load_network(
        small_model(None), taps=["first", "second", "softmax"], preprocess=unit, input_size="any"
    )


def pictures(n: int, size: tuple[int, int] = (12, 12), *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, *size, 3), dtype=np.uint8)


def single_layer(net: Network, tap: str, images: np.ndarray) -> np.ndarray:
    """What a model with one output gives, pooled by NumPy."""
    model = keras.Model(net.model.inputs[0], net.tensor(tap))
    values = keras.ops.convert_to_numpy(model(net.preprocess(images.astype(np.float32)), training=False))
    return values.reshape(len(values), -1, values.shape[-1]).astype(np.float64).mean(axis=1)


@pytest.mark.parametrize("n", [1, 3, 7, 12])
def test_every_tap_equals_its_single_layer_model(small, n):
    images = pictures(n)
    acts = extract(small, images, batch_size=3)
    assert list(acts) == TAPS
    for tap, values in acts.items():
        assert values.dtype == np.float32
        np.testing.assert_allclose(values, single_layer(small, tap, images), atol=1e-5)


@pytest.mark.parametrize("name", ["MobileNet", "MobileNetV2", "InceptionV3"])
def test_taps_and_their_order_hold_for_whole_architectures(name):
    side = 75 if name == "InceptionV3" else 32
    net = load_network(name, weights="random", input_size=side)
    images = pictures(5, (side, side))
    acts = extract(net, images, batch_size=2)
    assert list(acts) == list(net.taps)
    forward = keras.ops.convert_to_numpy(net.model(net.preprocess(images.astype(np.float32)), training=False))
    np.testing.assert_allclose(acts["softmax"], forward, atol=1e-5)
    for tap in list(net.taps)[:: max(1, len(net.taps) // 4)]:
        expected = single_layer(net, tap, images)
        np.testing.assert_allclose(acts[tap], expected, atol=1e-5 * max(1.0, np.abs(expected).max()))


@pytest.mark.data
def test_real_weights_and_photographs_agree_with_the_plain_forward(keras_models, voc_root):
    net = load_network("MobileNet", alpha=0.25, include_top=False)
    paths = sorted((voc_root / "VOCdevkit" / "VOC2007" / "JPEGImages").glob("*.jpg"))[:7]
    acts = extract(net, paths, batch_size=3, workers=3)
    pixels = np.stack(
        [np.asarray(Image.open(path).resize((224, 224), Image.Resampling.BILINEAR)) for path in paths]
    )
    for tap in ("conv_pw_1", "conv_pw_7", "conv_pw_13"):
        expected = single_layer(net, tap, pixels)
        np.testing.assert_allclose(acts[tap], expected, atol=2e-5 * np.abs(expected).max())


def test_rows_follow_the_images_whatever_form_they_come_in(small, tmp_path):
    images = pictures(11, (20, 17))
    paths = []
    for i, image in enumerate(images):
        paths.append(tmp_path / f"{i}.png")
        Image.fromarray(image).save(paths[-1])
    mixed = [path if i % 2 else image for i, (path, image) in enumerate(zip(paths, images, strict=True))]
    expected = extract(small, images, batch_size=4)
    order = np.random.default_rng(1).permutation(11)
    for given in (paths, [str(path) for path in paths], iter(paths), mixed, images.astype(np.float32)):
        for tap, values in extract(small, given, batch_size=4, workers=4).items():
            np.testing.assert_array_equal(values, expected[tap])
    for tap, values in extract(small, [paths[i] for i in order], batch_size=4).items():
        np.testing.assert_allclose(values, expected[tap][order], atol=1e-6)


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("policy", ["stretch", "crop", "pad"])
def test_resizing_options_reach_the_pixels(small, policy, antialias):
    images = pictures(3, (50, 31))
    options = {"interpolation": "bicubic", "antialias": antialias}
    resized = np.stack([resize_image(image, 12, policy=policy, **options) for image in images])
    got = extract(small, images, resize=policy, taps="second", **options)["second"]
    np.testing.assert_allclose(got, single_layer(small, "second", resized), atol=1e-5)


def test_images_of_differing_sizes_are_read_at_their_own(any_size):
    sizes = [(12, 12), (30, 14), (12, 12), (9, 40), (30, 14), (12, 12), (14, 30)]
    images = [pictures(1, size, seed=i)[0] for i, size in enumerate(sizes)]
    acts = extract(any_size, iter(images), batch_size=2)
    for i, image in enumerate(images):
        for tap, values in acts.items():
            np.testing.assert_allclose(values[i], single_layer(any_size, tap, image[None])[0], atol=1e-5)


def test_maximum_pooling_and_whole_maps(small, tmp_path):
    images = pictures(7)
    pooling = {"first": "max", "second": "none"}
    acts = extract(small, images, pooling=pooling, batch_size=3, maps_folder=tmp_path / "maps")
    model = keras.Model(small.model.inputs[0], [small.tensor("first"), small.tensor("second")])
    first, second = (keras.ops.convert_to_numpy(v) for v in model(unit(images), training=False))
    np.testing.assert_allclose(acts["first"], first.max((1, 2)), atol=1e-5)
    assert isinstance(acts["second"], np.memmap)
    np.testing.assert_allclose(acts["second"], second, atol=1e-5)
    assert list(acts) == TAPS
    assert [path.name for path in (tmp_path / "maps").iterdir()] == ["second.npy"]
    np.testing.assert_array_equal(
        np.load(tmp_path / "maps" / "second.npy", allow_pickle=False), acts["second"]
    )
    np.testing.assert_allclose(acts["vector"], second.mean((1, 2)), atol=1e-5)


def test_maps_of_an_iterator_of_unknown_length_grow_a_valid_file(small, tmp_path):
    images = pictures(33)
    kinds = {"first": "none", "second": "none"}
    acts = extract(small, iter(images), pooling=kinds, taps=list(kinds), batch_size=4, maps_folder=tmp_path)
    assert acts["second"].shape == (33, 4, 4, 7)
    assert acts["first"].shape == (33, 10, 10, 5)
    np.testing.assert_allclose(
        acts["second"][32].mean((0, 1)), extract(small, images)["second"][32], atol=1e-5
    )


def test_taps_are_keyed_as_asked_for_and_older_names_hold(small):
    images = pictures(2)
    assert list(extract(small, images, taps=["softmax", "first"])) == ["softmax", "first"]
    assert list(extract(small, images, taps="vector")) == ["vector"]
    net = load_network(small_model(), taps={"add1": "first", "add2": "second"}, preprocess=unit)
    acts = extract(net, images, taps=["add_2", "second", "add1"])
    assert list(acts) == ["add_2", "second", "add1"]
    np.testing.assert_array_equal(acts["add_2"], acts["second"])


def test_one_forward_pass_a_batch_and_one_shape_for_all_batches(small, monkeypatch):
    shapes = []

    def counted(reader, net, images):
        shapes.append(images.shape)
        return read_taps(reader, net, images)

    read_taps = activations.read_taps
    monkeypatch.setattr(activations, "read_taps", counted)
    for n, batch in ((10, 4), (8, 4), (3, 8)):
        shapes.clear()
        extract(small, pictures(n), batch_size=batch)
        assert len(shapes) == math.ceil(n / batch)
        assert set(shapes) == {(min(n, batch), 12, 12, 3)}


def test_memory_is_bounded_images_are_drawn_only_just_ahead(small, monkeypatch):
    drawn, read, worst = 0, 0, 0

    def source():
        nonlocal drawn, worst
        for image in pictures(200):
            drawn += 1
            worst = max(worst, drawn - read)
            yield image

    def counted(reader, net, images):
        nonlocal read
        values = read_taps(reader, net, images)
        read += len(images)
        return values

    read_taps = activations.read_taps
    monkeypatch.setattr(activations, "read_taps", counted)
    assert len(extract(small, source(), batch_size=5, taps="vector")["vector"]) == 200
    assert worst <= 3 * 5


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="counts TensorFlow's graph traces")
def test_the_graph_is_traced_once_however_many_batches_and_calls(monkeypatch):
    traces = []

    @keras.saving.register_keras_serializable("scalelib_tests")
    class Traced(keras.layers.Layer):
        def call(self, x):
            traces.append(1)
            return x + 0.0

    image = keras.Input((8, 8, 3))
    net = load_network(keras.Model(image, Traced(name="traced")(image)), taps=["traced"])
    extract(net, pictures(4, (8, 8)), batch_size=4)
    traces.clear()
    for n in (4, 30, 41):
        extract(net, pictures(n, (8, 8)), batch_size=4)
    assert not traces


def test_the_source_network_is_left_as_it_was(small):
    before = [w.copy() for w in small.model.get_weights()]
    names = [layer.name for layer in small.model.layers]
    extract(small, pictures(3))
    assert [layer.name for layer in small.model.layers] == names
    for old, new in zip(before, small.model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


# Refusals


@pytest.mark.parametrize(
    ("images", "words"),
    [
        ([], "no image at all"),
        (np.zeros((0, 12, 12, 3), np.uint8), "no image at all"),
        (iter([]), "an iterator that gave nothing"),
        ("photo.jpg", "Write [path]"),
        (Path("photos"), "glob"),
        (np.zeros((12, 12, 3), np.uint8), "image[None]"),
        (SimpleNamespace(images=[]), "give its .images"),
        ({"a": 1}, "its values"),
        (None, "NoneType"),
    ],
)
def test_what_is_no_set_of_images_is_refused(small, images, words):
    with pytest.raises(DataError, match="Received: ") as error:
        extract(small, images)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"taps": ["first", "secnd"]}, NetworkError, "Did you mean 'second'"),
        ({"taps": []}, NetworkError, "at least one tap"),
        ({"pooling": "average"}, NetworkError, "Known: avg, max, none"),
        ({"pooling": {"frist": "max"}}, NetworkError, "Did you mean 'first'"),
        ({"pooling": {"first": "max"}, "taps": "second"}, NetworkError, "not read"),
        ({"pooling": {"first": "none"}}, DataError, "maps_folder="),
        ({"batch_size": 0}, DataError, "batch_size"),
        ({"workers": 1.5}, DataError, "workers"),
        ({"resize": "squash"}, DataError, "Known: stretch, crop, pad"),
        ({"interpolation": "bilinaer"}, DataError, "Did you mean 'bilinear'"),
    ],
)
def test_unknown_options_are_refused_before_any_image_is_read(small, options, error, words):
    def untouched():
        raise AssertionError("an image was asked for")
        yield

    with pytest.raises(error, match="Received: ") as caught:
        extract(small, untouched(), **options)
    assert words in str(caught.value)


def test_whole_maps_of_differing_sizes_are_refused(any_size, tmp_path):
    with pytest.raises(DataError, match="all have one size"):
        extract(any_size, pictures(2), pooling={"first": "none"}, maps_folder=tmp_path)


def test_a_path_listed_twice_is_refused_unless_it_is_meant(small, tmp_path):
    for i, image in enumerate(pictures(2)):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    twice = [tmp_path / "0.png", tmp_path / "1.png", str(tmp_path / "sub" / ".." / "0.png")]
    (tmp_path / "sub").mkdir()
    with pytest.raises(DataError, match=r"1 of 3 paths more than once: 0\.png"):
        extract(small, twice)
    acts = extract(small, twice, allow_duplicates=True)
    np.testing.assert_array_equal(acts["first"][0], acts["first"][2])


@pytest.fixture
def some_bad(tmp_path) -> list[Path]:
    """Nine images of which rows 2, 5 and 8 are truncated, missing and one pixel."""
    paths = [tmp_path / f"{i}.png" for i in range(9)]
    for path, image in zip(paths, pictures(9), strict=True):
        Image.fromarray(image).save(path)
    paths[2].write_bytes(paths[2].read_bytes()[:200])
    paths[5].unlink()
    Image.new("RGB", (1, 1)).save(paths[8])
    return paths


def test_all_bad_images_are_named_at_once(small, some_bad):
    with pytest.raises(DataError, match="3 of 9 images cannot be used") as error:
        extract(small, some_bad, batch_size=2)
    message = str(error.value)
    for row, reason in ((2, ""), (5, "no such file"), (8, "1 x 1 pixels")):
        assert f"row {row}: {some_bad[row]}" in message
        assert reason in message
    assert "extract_readable" in message


def test_bad_images_leave_no_maps_whose_rows_would_be_shifted(small, some_bad, tmp_path):
    with pytest.raises(DataError, match="3 of 9"):
        extract(small, some_bad, pooling={"first": "none"}, maps_folder=tmp_path / "maps")
    assert list((tmp_path / "maps").iterdir()) == []


def test_what_is_left_out_is_said_and_the_rest_keeps_its_rows(small, some_bad, tmp_path):
    acts, rows, problems = extract_readable(small, some_bad, batch_size=2)
    assert rows.tolist() == [0, 1, 3, 4, 6, 7]
    assert list(problems) == [2, 5, 8]
    good = extract(small, [some_bad[i] for i in rows], batch_size=2)
    for tap in TAPS:
        np.testing.assert_allclose(acts[tap], good[tap], atol=1e-6)
    maps, rows, _ = extract_readable(
        small, some_bad, pooling={"first": "none"}, maps_folder=tmp_path / "maps"
    )
    np.testing.assert_allclose(maps["first"].mean((1, 2)), good["first"], atol=1e-5)
    assert len(rows) == 6
    with pytest.raises(DataError, match="not one image to read"):
        extract_readable(small, [some_bad[2], some_bad[5]])


def test_activations_that_are_no_numbers_are_reported(small):
    broken = load_network(small_model(seed=3), taps=TAPS, preprocess=unit)
    weights = broken.model.get_layer("second").get_weights()
    broken.model.get_layer("second").set_weights([np.full_like(weights[0], np.nan), weights[1]])
    with pytest.raises(NetworkError, match="tap 'second' of small are NaN"):
        extract(broken, pictures(3))


def test_an_error_of_the_iterator_itself_comes_out_unchanged(small):
    def source():
        yield from pictures(3)
        raise RuntimeError("the camera was unplugged")

    with pytest.raises(RuntimeError, match="the camera was unplugged"):
        extract(small, source(), batch_size=2)


def test_a_full_disk_leaves_no_half_map_and_the_old_one_in_place(small, tmp_path, monkeypatch):
    options = {"pooling": {"first": "none"}, "taps": "first", "maps_folder": tmp_path}
    old = np.array(extract(small, pictures(3), **options)["first"])

    class FullDisk:
        def __init__(self, stream):
            self.stream, self.left = stream, 2

        def write(self, data):
            self.left -= 1
            if self.left < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            return self.stream.write(data)

        def __getattr__(self, name):
            return getattr(self.stream, name)

    opened = Path.open
    monkeypatch.setattr(Path, "open", lambda self, *mode, **options: FullDisk(opened(self, *mode, **options)))
    with pytest.raises(ResultsError, match="No space left on device"):
        extract(small, pictures(30, seed=1), batch_size=4, **options)
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["first.npy"]
    np.testing.assert_array_equal(np.load(tmp_path / "first.npy"), old)


def test_a_folder_that_cannot_be_made_is_refused_before_any_work(small, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ResultsError, match="cannot write to"):
        extract(small, pictures(2), pooling={"first": "none"}, maps_folder=tmp_path / "file" / "maps")
