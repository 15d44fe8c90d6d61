"""Extraction against single-layer models and the plain forward pass; order, streaming, cache, refusals."""

from __future__ import annotations

import errno
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image

from scalelib import activations
from scalelib.activations import extract
from scalelib.errors import DataError, NetworkError, ResultsError
from scalelib.graph import keras
from scalelib.images import resize_image
from scalelib.networks import Network, load_network

TAPS = ["first", "second", "vector", "softmax"]


def unit(images: np.ndarray) -> np.ndarray:
    return np.asarray(images, np.float32) / 255


def small_net(
    size: int | None = 12, *, seed: int = 0, activation: str = "relu", preprocess: Callable = unit
) -> Network:
    """Two convolutions, a vector, probabilities."""
    layers, start = keras.layers, keras.initializers.GlorotUniform
    x = image = keras.Input((size, size, 3), name="image")
    x = layers.Conv2D(5, 3, activation=activation, kernel_initializer=start(seed), name="first")(x)
    x = layers.Conv2D(7, 3, strides=2, kernel_initializer=start(seed + 1), name="second")(x)
    x = layers.GlobalAveragePooling2D(name="vector")(x)
    x = layers.Dense(4, activation="softmax", kernel_initializer=start(seed + 2), name="softmax")(x)
    model = keras.Model(image, x, name="small")
    return load_network(model, taps=TAPS, preprocess=preprocess, input_size=None if size else "any")


@pytest.fixture(scope="module")
def net() -> Network:
    return small_net()


@pytest.fixture(scope="module")
def any_size() -> Network:
    return small_net(None)


@pytest.fixture
def shapes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shape of each batch that is read, and how many distinct images are in it in front."""
    seen: list[tuple[int, ...]] = []
    read_taps = activations.read_taps

    def counted(reader: Any, images: np.ndarray) -> dict[str, np.ndarray]:
        seen.append((len(np.unique(images.reshape(len(images), -1), axis=0)), *images.shape))
        return read_taps(reader, images)

    monkeypatch.setattr(activations, "read_taps", counted)
    return seen


def computed(shapes: list[tuple[int, ...]]) -> int:
    """How many images were read since this was last asked."""
    number = sum(shape[0] for shape in shapes)
    shapes.clear()
    return number


def pictures(n: int, size: tuple[int, int] = (12, 12), *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, *size, 3), dtype=np.uint8)


def saved(folder: Path, images: np.ndarray) -> list[Path]:
    paths = [folder / f"{i}.png" for i in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image).save(path)
    return paths


def single_layer(net: Network, tap: str, images: np.ndarray, pool: Callable = np.mean) -> np.ndarray:
    """What a model with one output gives, pooled by NumPy."""
    model = keras.Model(net.model.inputs[0], net.tensor(tap))
    values = keras.ops.convert_to_numpy(model(net.preprocess(images.astype(np.float32)), training=False))
    return pool(values.reshape(len(values), -1, values.shape[-1]).astype(np.float64), axis=1)


def assert_same(acts: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert list(acts) == list(expected)
    for tap, values in expected.items():
        np.testing.assert_array_equal(acts[tap], values)


# --- one pass --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("pooling", "pool"), [("avg", np.mean), ("max", np.max)])
@pytest.mark.parametrize("n", [1, 7, 12])
def test_every_tap_equals_its_single_layer_model(net, n, pooling, pool):
    images = pictures(n)
    acts = extract(net, images, batch_size=3, pooling=pooling)
    assert list(acts) == TAPS
    for tap, values in acts.items():
        assert values.dtype == np.float32
        np.testing.assert_allclose(values, single_layer(net, tap, images, pool), atol=1e-5)


def test_rows_follow_the_images_whatever_form_they_come_in(net, tmp_path):
    images = pictures(11, (20, 17))
    paths = saved(tmp_path, images)
    mixed = [path if i % 2 else image for i, (path, image) in enumerate(zip(paths, images, strict=True))]
    expected = extract(net, images, batch_size=4)
    for given in (paths, [str(path) for path in paths], iter(paths), mixed, images.astype(np.float32)):
        assert_same(extract(net, given, batch_size=4, workers=4), expected)
    order = np.random.default_rng(1).permutation(11)
    for tap, values in extract(net, [paths[i] for i in order], batch_size=4).items():
        np.testing.assert_allclose(values, expected[tap][order], atol=1e-6)


@pytest.mark.parametrize("policy", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("kernel", [{"interpolation": "bicubic"}, {"antialias": False}])
def test_resizing_options_reach_the_pixels(net, policy, kernel):
    images = pictures(3, (50, 31))
    resized = np.stack([resize_image(image, 12, policy=policy, **kernel) for image in images])
    got = extract(net, images, resize=policy, taps="second", **kernel)["second"]
    np.testing.assert_allclose(got, single_layer(net, "second", resized), atol=1e-5)


def test_images_of_differing_sizes_are_read_at_their_own(any_size, tmp_path):
    sizes = [(12, 12), (30, 14), (12, 12), (9, 40), (30, 14), (12, 12), (14, 30)]
    images = [pictures(1, size, seed=i)[0] for i, size in enumerate(sizes)]
    for cache in (None, tmp_path, tmp_path):
        acts = extract(any_size, iter(images), batch_size=2, cache=cache)
        for i, image in enumerate(images):
            for tap, values in acts.items():
                np.testing.assert_allclose(values[i], single_layer(any_size, tap, image[None])[0], atol=1e-5)


def test_the_reader_is_never_compiled_by_the_backends_own_choice(net):
    reader = activations.tap_reader(net, {"first": "first"}, pooling="avg")
    assert reader.jit_compile is (keras.backend.backend() == "jax")
    assert (os.environ["TF_FORCE_GPU_ALLOW_GROWTH"], os.environ["NVIDIA_TF32_OVERRIDE"]) == ("true", "0")


def test_taps_are_keyed_as_asked_for_and_older_names_hold(net):
    named = load_network(net.model, taps={"add1": "first", "add2": "second"}, preprocess=unit)
    acts = extract(named, pictures(2), taps=["add_2", "second", "add1"])
    assert list(acts) == ["add_2", "second", "add1"]
    np.testing.assert_array_equal(acts["add_2"], acts["second"])


def test_one_forward_pass_a_batch_and_one_shape_for_all_batches(net, shapes):
    for n, batch in ((10, 4), (8, 4), (3, 8)):
        extract(net, pictures(n), batch_size=batch)
        assert len(shapes) == math.ceil(n / batch)
        assert {shape[1:] for shape in shapes} == {(min(n, batch), 12, 12, 3)}
        assert computed(shapes) == n


def test_memory_is_bounded_images_are_drawn_only_just_ahead(net, shapes):
    worst = 0

    def source() -> Iterator[np.ndarray]:
        nonlocal worst
        for drawn, image in enumerate(pictures(200), 1):
            worst = max(worst, drawn - 5 * len(shapes))
            yield image

    assert len(extract(net, source(), batch_size=5, taps="vector")["vector"]) == 200
    assert worst <= 3 * 5


# --- refusals --------------------------------------------------------------------------------------


def untouched() -> Iterator[np.ndarray]:
    raise AssertionError("an image was asked for")
    yield


@pytest.mark.parametrize(
    ("images", "options", "error", "words"),
    [
        ([], {}, DataError, "no image at all"),
        (iter([]), {}, DataError, "an iterator that gave nothing"),
        ("photo.jpg", {}, DataError, r"Write \[path\]"),
        (np.zeros((12, 12, 3), np.uint8), {}, DataError, r"image\[None\]"),
        (SimpleNamespace(images=[]), {}, DataError, r"give its \.images"),
        ({"a": 1}, {}, DataError, "dict"),
        (untouched(), {"taps": ["first", "secnd"]}, NetworkError, "Did you mean 'second'"),
        (untouched(), {"taps": []}, NetworkError, "at least one tap"),
        (untouched(), {"pooling": "none"}, DataError, "'avg', 'max'"),
        (untouched(), {"batch_size": 0}, DataError, "batch_size"),
        (untouched(), {"workers": 1.5}, DataError, "workers"),
        (untouched(), {"pooling": ["avg", "max"]}, DataError, "pooling"),
        (untouched(), {"resize": "squash"}, DataError, "'stretch', 'crop', 'pad'"),
        (untouched(), {"interpolation": "bilinaer"}, DataError, "Did you mean 'bilinear'"),
    ],
)
def test_what_makes_no_sense_is_refused_before_any_image_is_read(net, images, options, error, words):
    with pytest.raises(error, match=words):
        extract(net, images, **options)


def test_a_path_listed_twice_is_refused_unless_it_is_meant(net, tmp_path):
    paths = saved(tmp_path, pictures(2))
    twice = [*paths, str(tmp_path / "sub" / ".." / "0.png")]
    (tmp_path / "sub").mkdir()
    with pytest.raises(DataError, match=r"1 of 3 paths more than once: 0\.png"):
        extract(net, twice)
    acts = extract(net, twice, allow_duplicates=True)
    np.testing.assert_array_equal(acts["first"][0], acts["first"][2])


def test_all_bad_images_are_named_at_once_and_the_others_are_kept(net, tmp_path, shapes):
    paths = saved(tmp_path, pictures(9))
    paths[2].write_bytes(paths[2].read_bytes()[:200])
    paths[5].unlink()
    Image.new("RGB", (1, 1)).save(paths[8])
    with pytest.raises(DataError, match="3 images cannot be used") as error:
        extract(net, paths, batch_size=2, cache=tmp_path / "cache")
    for row, why in ((2, ""), (5, "no such file"), (8, "1 x 1 pixels")):
        assert f"row {row}: {paths[row]}: " in str(error.value)
        assert why in str(error.value)
    assert computed(shapes) == 6
    acts = extract(net, [paths[i] for i in (0, 1, 3, 4, 6, 7)], batch_size=2, cache=tmp_path / "cache")
    assert len(acts["first"]) == 6
    assert computed(shapes) == 0


def test_an_image_too_small_for_the_network_is_named(any_size):
    with pytest.raises(
        DataError, match=r"small cannot read images of this size or number.\nReceived: .*\(4, 4\) px"
    ):
        extract(any_size, [pictures(1)[0], pictures(1)[0][:4, :4]])


def test_a_part_of_the_cache_that_cannot_be_read_now_is_kept(net, tmp_path, monkeypatch):
    extract(net, pictures(3), cache=tmp_path)
    monkeypatch.setattr(activations, "read_arrays", Mock(side_effect=MemoryError))
    with pytest.warns(RuntimeWarning, match="computed again"):
        extract(net, pictures(3), cache=tmp_path)
    assert len(parts(tmp_path)) == 1


def test_activations_that_are_no_numbers_are_reported():
    broken = small_net(seed=3)
    weights = broken.model.get_layer("second").get_weights()
    broken.model.get_layer("second").set_weights([np.full_like(weights[0], np.nan), weights[1]])
    with pytest.raises(NetworkError, match="tap 'second' of small are NaN"):
        extract(broken, pictures(3))


# --- the cache -------------------------------------------------------------------------------------


def parts(folder: Path) -> list[Path]:
    return sorted(folder.glob("v*/*/*.npz"))


def test_a_second_run_computes_nothing_and_gives_the_same_bits(net, tmp_path, shapes):
    images = pictures(11)
    plain = extract(net, images, batch_size=4)
    shapes.clear()
    assert_same(extract(net, images, batch_size=4, cache=tmp_path), plain)
    assert computed(shapes) == 11
    assert_same(extract(net, images, batch_size=4, cache=tmp_path), plain)
    assert_same(extract(small_net(), iter(images), cache=tmp_path), plain)  # rebuilt: the same network
    backwards = {tap: values[::-1] for tap, values in plain.items()}
    assert_same(extract(net, images[::-1], cache=tmp_path), backwards)
    assert computed(shapes) == 0
    assert len(extract(net, np.concatenate([images, pictures(3, seed=1)]), cache=tmp_path)["first"]) == 14
    assert computed(shapes) == 3


def test_some_of_the_taps_that_were_read_are_not_read_again_and_more_are(net, tmp_path, shapes):
    images = pictures(5)
    some = extract(net, images, taps=["second"], cache=tmp_path)
    shapes.clear()
    every = extract(net, images, cache=tmp_path)
    assert computed(shapes) == 5
    backwards = list(net.taps)[::-1]
    assert list(extract(net, images, taps=backwards, cache=tmp_path)) == backwards
    assert_same(extract(net, images, taps=["first"], cache=tmp_path), {"first": every["first"]})
    assert_same(
        extract(replace(net, taps={"own": "second"}), images, cache=tmp_path), {"own": some["second"]}
    )
    assert computed(shapes) == 0


def test_images_are_known_by_their_bytes_not_by_their_place(net, tmp_path, shapes):
    paths = saved(tmp_path, pictures(5))
    first = extract(net, paths, cache=tmp_path / "cache")
    moved = [path.rename(path.with_stem(f"moved {path.stem}")) for path in paths]
    shapes.clear()
    assert_same(extract(net, moved, cache=tmp_path / "cache"), first)
    assert computed(shapes) == 0
    Image.fromarray(pictures(1, seed=9)[0]).save(moved[3])
    changed = extract(net, moved, cache=tmp_path / "cache")
    assert computed(shapes) == 1
    assert not np.array_equal(changed["first"][3], first["first"][3])


CHANGES: dict[str, tuple[Callable[[Network], Network], dict[str, Any]]] = {
    "size": (lambda net: small_net(13), {}),
    "preprocess": (lambda net: small_net(preprocess=lambda images: unit(images) - 0.5), {}),
    "function": (lambda net: replace(net, preprocess=lambda images: unit(images)), {}),
    "pooling": (lambda net: net, {"pooling": "max"}),
    "interpolation": (lambda net: net, {"interpolation": "nearest"}),
    "antialias": (lambda net: net, {"antialias": False}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_anything_that_changes_an_activation_changes_the_key(net, tmp_path, shapes, change):
    extract(net, pictures(4), cache=tmp_path)
    shapes.clear()
    changed, options = CHANGES[change]
    other = changed(net)
    fresh = extract(other, pictures(4), cache=tmp_path, **options)
    assert computed(shapes) == 4
    assert_same(extract(other, pictures(4), **options), fresh)


def test_weights_changed_in_place_are_noticed(tmp_path):
    net = small_net()
    extract(net, pictures(4), cache=tmp_path)
    net.model.set_weights([2 * w for w in net.model.get_weights()])
    assert_same(extract(net, pictures(4), cache=tmp_path), extract(net, pictures(4)))


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\1\2") - 1] ^= 1  # the last number before the zip's directory
    path.write_bytes(content)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "one bit": flip,
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-40]),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_part_is_never_used(net, tmp_path, shapes, damage):
    images = pictures(4)
    plain = extract(net, images, cache=tmp_path)
    [part] = parts(tmp_path)
    DAMAGE[damage](part)
    shapes.clear()
    with pytest.warns(RuntimeWarning, match="damaged or gone"):
        assert_same(extract(net, images, cache=tmp_path), plain)
    assert computed(shapes) == 4
    (part.parent / f".{part.name}.123.partial").write_bytes(part.read_bytes()[:100])  # of a killed write
    assert_same(extract(net, images, cache=tmp_path), plain)
    assert computed(shapes) == 0


@pytest.mark.parametrize("stop", [RuntimeError, KeyboardInterrupt])
def test_an_interrupted_run_keeps_its_finished_batches(net, tmp_path, shapes, stop):
    def source() -> Iterator[np.ndarray]:
        yield from pictures(12)
        raise stop

    with pytest.raises(stop):
        extract(net, source(), batch_size=3, cache=tmp_path)
    finished = computed(shapes)
    assert finished >= 6
    extract(net, pictures(12), batch_size=3, cache=tmp_path)
    assert computed(shapes) == 12 - finished


def test_a_full_disk_warns_and_loses_no_result(net, tmp_path, monkeypatch):
    plain = extract(net, pictures(10), batch_size=2)
    full = Mock(side_effect=OSError(errno.ENOSPC, "No space left on device"))
    monkeypatch.setattr(np, "savez", full)
    with pytest.warns(RuntimeWarning, match=r"not cached[\s\S]*No space left"):
        assert_same(extract(net, pictures(10), batch_size=2, cache=tmp_path), plain)
    assert parts(tmp_path) == []


def test_a_folder_that_cannot_be_written_to_is_refused_before_any_work(net, tmp_path, shapes):
    (tmp_path / "file").touch()
    with pytest.raises(ResultsError, match="cannot write identity"):
        extract(net, pictures(2), cache=tmp_path / "file" / "cache")
    assert computed(shapes) == 0


# Runs of their own, one of them killed in the middle, two of them at once.

SCRIPT = """
import os, signal, sys
import numpy as np
from scalelib import activations
from test_activations import pictures, small_net

activations.PART = 8
read_taps, kill_after = activations.read_taps, int(sys.argv[3])
batches = 0

def counted(reader, images):
    global batches
    if batches == kill_after:
        os.kill(os.getpid(), signal.SIGKILL)
    batches += 1
    return read_taps(reader, images)

activations.read_taps = counted
acts = activations.extract(small_net(), pictures(60), batch_size=4, cache=sys.argv[1])
np.savez(sys.argv[2], batches=batches, **acts)
"""


def start(folder: Path, name: str, *, kill_after: int = -1) -> subprocess.Popen:
    command = [sys.executable, "-c", SCRIPT, str(folder / "cache"), str(folder / name), str(kill_after)]
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    return subprocess.Popen(command, env=os.environ | {"PYTHONPATH": path})


def test_kill_9_loses_at_most_one_part_and_two_reruns_at_once_give_the_same_bits(tmp_path, shapes):
    assert start(tmp_path, "killed", kill_after=9).wait(timeout=120) == -signal.SIGKILL
    assert not (tmp_path / "killed.npz").exists()
    assert len(parts(tmp_path / "cache")) == 4  # of nine batches of four, parts of eight images
    both = [start(tmp_path, name) for name in ("one", "two")]
    assert [process.wait(timeout=120) for process in both] == [0, 0]
    plain = extract(small_net(), pictures(60), batch_size=4)
    for name in ("one", "two"):
        with np.load(tmp_path / f"{name}.npz") as arrays:
            acts = dict(arrays)
        assert acts.pop("batches") <= (60 - 32) / 4
        assert_same(acts, plain)
    shapes.clear()
    assert_same(extract(small_net(), pictures(60), batch_size=4, cache=tmp_path / "cache"), plain)
    assert computed(shapes) == 0
