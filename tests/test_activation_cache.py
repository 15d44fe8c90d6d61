"""The cache: what is finished is never computed again, and what is damaged or foreign is never used."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scalelib import activations, results
from scalelib.activations import ActivationCache, extract, identify
from scalelib.errors import DataError, NetworkError, ResultsError
from scalelib.graph import keras
from scalelib.networks import Network, load_network


def unit(images: np.ndarray) -> np.ndarray:
    return np.asarray(images, np.float32) / 255


def make_net(
    *, activation: str = "relu", preprocess: Callable = unit, size: int = 10, seed: int = 0
) -> Network:
    start = keras.initializers.GlorotUniform
    image = keras.Input((size, size, 3), name="image")
    x = keras.layers.Conv2D(6, 3, activation=activation, kernel_initializer=start(seed), name="first")(image)
    x = keras.layers.Conv2D(9, 3, kernel_initializer=start(seed + 1), name="second")(x)
    model = keras.Model(image, x, name="small")
    return load_network(model, taps=["first", "second"], preprocess=preprocess)


def pictures(n: int, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 10, 10, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def net() -> Network:
    return make_net()


@pytest.fixture
def forwarded(monkeypatch) -> list[int]:
    """Number of distinct images of each forward pass made."""
    counts: list[int] = []
    read_taps = activations.read_taps

    def counted(reader, net, images):
        counts.append(len(np.unique(images.reshape(len(images), -1), axis=0)))
        return read_taps(reader, net, images)

    monkeypatch.setattr(activations, "read_taps", counted)
    return counts


def chunks(folder: Path) -> list[Path]:
    return sorted(folder.glob("v*/*/*.npz"))


def assert_same(acts: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert list(acts) == list(expected)
    for tap, values in expected.items():
        np.testing.assert_array_equal(acts[tap], values)


def test_a_second_run_computes_nothing_and_gives_the_same_bits(net, tmp_path, forwarded):
    images = pictures(11)
    plain = extract(net, images, batch_size=4)
    forwarded.clear()
    assert_same(extract(net, images, batch_size=4, cache=tmp_path), plain)
    assert sum(forwarded) == 11
    forwarded.clear()
    assert_same(extract(net, images, batch_size=4, cache=tmp_path), plain)
    assert_same(extract(net, images[::-1], taps="second", cache=tmp_path), {"second": plain["second"][::-1]})
    assert_same(extract(make_net(), iter(images), cache=tmp_path), plain)  # rebuilt: the same network
    assert forwarded == []


def test_only_images_and_taps_that_are_new_are_computed(net, tmp_path, forwarded):
    images = pictures(20)
    extract(net, images[:8], taps="first", cache=tmp_path)
    forwarded.clear()
    grown = extract(net, images, taps="first", batch_size=4, cache=tmp_path)
    assert sum(forwarded) == 12
    np.testing.assert_allclose(grown["first"], extract(net, images)["first"], atol=1e-6)
    forwarded.clear()
    extract(net, images, cache=tmp_path)
    assert sum(forwarded) == 20  # the second tap was missing
    forwarded.clear()
    extract(net, images, cache=tmp_path)
    assert forwarded == []


def test_images_are_known_by_their_bytes_not_by_their_place(net, tmp_path, forwarded):
    paths = []
    for i, image in enumerate(pictures(5)):
        paths.append(tmp_path / f"{i}.png")
        Image.fromarray(image).save(paths[-1])
    first = extract(net, paths, cache=tmp_path / "cache")
    (tmp_path / "moved").mkdir()
    moved = [path.rename(tmp_path / "moved" / path.name) for path in paths]
    forwarded.clear()
    assert_same(extract(net, moved, cache=tmp_path / "cache"), first)
    assert forwarded == []
    Image.fromarray(pictures(1, seed=9)[0]).save(moved[3])
    changed = extract(net, moved, cache=tmp_path / "cache")
    assert sum(forwarded) == 1
    assert not np.array_equal(changed["first"][3], first["first"][3])


def other_weights(net: Network) -> Network:
    other = make_net()
    other.model.set_weights([w + 0.01 for w in other.model.get_weights()])
    return other


@pytest.mark.parametrize(
    ("change", "options"),
    [
        (other_weights, {}),
        (lambda net: make_net(seed=5), {}),
        (lambda net: make_net(activation="tanh"), {}),
        (lambda net: make_net(size=12), {}),
        (lambda net: make_net(preprocess=lambda images: unit(images) - 0.5), {}),
        (lambda net: replace(net, preprocess=lambda images: unit(images)), {}),
        (lambda net: net, {"pooling": "max"}),
        (lambda net: net, {"resize": "crop"}),
        (lambda net: net, {"interpolation": "nearest"}),
        (lambda net: net, {"antialias": False}),
    ],
    ids=[
        "weights",
        "seed",
        "activation",
        "size",
        "preprocess",
        "function",
        "pooling",
        "resize",
        "interpolation",
        "antialias",
    ],
)
def test_anything_that_changes_an_activation_changes_the_key(net, tmp_path, forwarded, change, options):
    extract(net, pictures(4), cache=tmp_path)
    forwarded.clear()
    other = change(net)
    fresh = extract(other, pictures(4), cache=tmp_path, **options)
    assert sum(forwarded) == 4
    assert_same(extract(other, pictures(4), **options), fresh)


def test_weights_changed_in_place_are_noticed(tmp_path, forwarded):
    net = make_net()
    extract(net, pictures(4), cache=tmp_path)
    net.model.set_weights([2 * w for w in net.model.get_weights()])
    forwarded.clear()
    doubled = extract(net, pictures(4), cache=tmp_path)
    assert sum(forwarded) == 4
    assert_same(extract(net, pictures(4)), doubled)


def test_another_format_version_is_never_used(net, tmp_path, forwarded, monkeypatch):
    extract(net, pictures(4), cache=tmp_path)
    monkeypatch.setattr(activations, "FORMAT", 2)
    old, new = chunks(tmp_path)[0].parent, tmp_path / "v2" / "anything"
    shutil.copytree(old, new)
    forwarded.clear()
    extract(net, pictures(4), cache=tmp_path)
    assert sum(forwarded) == 4


def rewritten(path: Path, **arrays: np.ndarray) -> None:
    """Replace a chunk by other arrays under a correct checksum."""
    stream = io.BytesIO()
    with np.load(path, allow_pickle=True) as old:
        np.savez(stream, allow_pickle=True, **{**old, **arrays})
    path.unlink()
    content = stream.getvalue()
    (path.parent / f"{hashlib.sha256(content).hexdigest()}.npz").write_bytes(content)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-300] ^= 1  # the zip's own checksums are not relied on
    path.write_bytes(content)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "one bit": flip,
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-40]),
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("no archive"),
    "renamed": lambda path: path.rename(path.with_stem("0" * 64)),
    "not its own network's": lambda path: rewritten(
        path, meta=np.frombuffer(json.dumps({"identity": "another", "columns": []}).encode(), np.uint8)
    ),
    "pickled": lambda path: rewritten(path, column_0=np.array([{}, None, {}, {}], object)),
    "without its images": lambda path: rewritten(path, digests=np.zeros((0,), np.uint8)),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_or_foreign_chunk_is_never_used(net, tmp_path, forwarded, damage):
    images = pictures(4)
    plain = extract(net, images, cache=tmp_path)
    DAMAGE[damage](chunks(tmp_path)[0])
    forwarded.clear()
    if damage == "without its images":
        again = extract(net, images, cache=tmp_path)
    else:
        with pytest.warns(RuntimeWarning, match="1 damaged or foreign"):
            again = extract(net, images, cache=tmp_path)
    assert_same(again, plain)
    assert sum(forwarded) == 4
    forwarded.clear()
    assert_same(extract(net, images, cache=tmp_path), plain)
    assert forwarded == []


def test_a_chunk_lost_while_running_is_computed_again(net, tmp_path, forwarded):
    extract(net, pictures(4), cache=tmp_path)
    wanted = {"first": "avg", "second": "avg"}
    identity = identify(net, resize="stretch", interpolation="bilinear", antialias=True)
    cache = ActivationCache(tmp_path, net, wanted, identity)
    digest = next(iter(cache._where))
    assert cache.find(digest) is not None
    cache._open.clear()
    chunks(tmp_path)[0].unlink()
    assert cache.find(digest) is None


def test_leftovers_of_a_killed_write_do_not_matter(net, tmp_path, forwarded):
    plain = extract(net, pictures(4), cache=tmp_path)
    whole = chunks(tmp_path)[0]
    (whole.parent / f".{whole.name}.123.partial").write_bytes(whole.read_bytes()[:100])
    forwarded.clear()
    assert_same(extract(net, pictures(4), cache=tmp_path), plain)
    assert forwarded == []


def test_bad_images_stop_the_run_but_lose_nothing(net, tmp_path, forwarded):
    paths = []
    for i, image in enumerate(pictures(9)):
        paths.append(tmp_path / f"{i}.png")
        Image.fromarray(image).save(paths[-1])
    paths[4].write_bytes(b"")
    with pytest.raises(DataError, match=r"1 of 9 images[\s\S]*are in the cache"):
        extract(net, paths, batch_size=2, cache=tmp_path / "cache")
    assert sum(forwarded) == 8
    forwarded.clear()
    acts = extract(net, paths[:4] + paths[5:], batch_size=2, cache=tmp_path / "cache")
    assert len(acts["first"]) == 8
    assert forwarded == []


@pytest.mark.parametrize("stop", [RuntimeError, KeyboardInterrupt])
def test_an_interrupted_run_keeps_its_finished_batches(net, tmp_path, forwarded, stop):
    def source():
        yield from pictures(12)
        raise stop

    with pytest.raises(stop):
        extract(net, source(), batch_size=3, cache=tmp_path)
    finished = sum(forwarded)
    assert finished >= 6
    forwarded.clear()
    extract(net, pictures(12), batch_size=3, cache=tmp_path)
    assert sum(forwarded) == 12 - finished


def test_maps_are_not_cached_but_pooled_taps_beside_them_are(net, tmp_path, forwarded):
    options = {"pooling": {"first": "none"}, "maps_folder": tmp_path / "maps", "cache": tmp_path / "cache"}
    for _ in range(2):
        forwarded.clear()
        mixed = extract(net, pictures(5), **options)
        assert sum(forwarded) == 5
    assert len(chunks(tmp_path / "cache")) == 1
    forwarded.clear()
    alone = extract(net, pictures(5), taps="second", cache=tmp_path / "cache")
    assert forwarded == []
    np.testing.assert_array_equal(alone["second"], mixed["second"])


def test_a_full_disk_warns_once_and_loses_no_result(net, tmp_path, monkeypatch, forwarded):
    plain = extract(net, pictures(10), batch_size=2)
    write_atomic = results.write_atomic

    def full(path, write):
        if path.suffix == ".npz":
            raise OSError(errno.ENOSPC, "No space left on device")
        write_atomic(path, write)

    monkeypatch.setattr(activations, "write_atomic", full)
    monkeypatch.setattr(activations, "CHUNK", 4)
    with pytest.warns(RuntimeWarning, match="no longer cached.*No space left") as warned:
        acts = extract(net, pictures(10), batch_size=2, cache=tmp_path)
    assert sum(one.category is RuntimeWarning for one in warned) == 1
    assert_same(acts, plain)
    assert chunks(tmp_path) == []


def test_an_unwritable_folder_is_refused_before_any_work(net, tmp_path, monkeypatch, forwarded):
    (tmp_path / "file").touch()
    with pytest.raises(ResultsError, match="cache folder cannot be written to"):
        extract(net, pictures(2), cache=tmp_path / "file" / "cache")

    def denied(path, write):
        raise OSError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(activations, "write_atomic", denied)
    with pytest.raises(ResultsError, match="Permission denied"):
        extract(net, pictures(2), cache=tmp_path)
    assert forwarded == []


def test_a_model_that_cannot_be_told_from_others_is_not_cached(net, tmp_path, monkeypatch):
    def no_config():  # what Keras raises for a subclassed model that has none
        raise NotImplementedError("no config")

    monkeypatch.setattr(net.model, "get_config", no_config)
    with pytest.raises(NetworkError, match="serialise"):
        extract(net, pictures(2), cache=tmp_path)
    extract(net, pictures(2))


# A run of its own, killed in the middle.

SCRIPT = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, str(Path({tests!r})))
import numpy as np
import scalelib.activations, scalelib.activations
from scalelib.activations import extract
from test_activation_cache import make_net, pictures

scalelib.activations.CHUNK = 8
read_taps, log, kill_after = scalelib.activations.read_taps, Path({log!r}), {kill_after}
batches = 0

def counted(reader, net, images):
    global batches
    if batches == kill_after:
        os.kill(os.getpid(), signal.SIGKILL)
    batches += 1
    values = read_taps(reader, net, images)
    with log.open("a") as file:
        file.write(str(len(images)) + chr(10))
    return values

scalelib.activations.read_taps = counted
acts = extract(make_net(), pictures(60), batch_size=4, cache={cache!r})
np.savez({out!r}, **acts)
"""


def start(tmp_path: Path, name: str, *, kill_after: int = -1) -> subprocess.Popen:
    log, out = tmp_path / f"{name}.log", tmp_path / f"{name}.npz"
    log.touch()
    script = SCRIPT.format(
        tests=str(Path(__file__).parent),
        log=str(log),
        out=str(out),
        cache=str(tmp_path / "cache"),
        kill_after=kill_after,
    )
    return subprocess.Popen([sys.executable, "-c", script], env=dict(os.environ))


def computed(tmp_path: Path, name: str) -> int:
    return sum(map(int, (tmp_path / f"{name}.log").read_text().split()))


def test_kill_9_loses_at_most_one_chunk_and_the_rerun_gives_the_same_bits(tmp_path):
    killed = start(tmp_path, "killed", kill_after=9)
    assert killed.wait(timeout=120) == -signal.SIGKILL
    assert computed(tmp_path, "killed") == 36
    assert not (tmp_path / "killed.npz").exists()
    assert start(tmp_path, "rerun").wait(timeout=120) == 0
    assert computed(tmp_path, "rerun") == 60 - 32  # four chunks of eight were finished
    plain = extract(make_net(), pictures(60), batch_size=4)
    with np.load(tmp_path / "rerun.npz") as rerun:
        assert_same(dict(rerun), plain)


def test_two_processes_on_the_same_key_do_not_harm_each_other(tmp_path, forwarded):
    both = [start(tmp_path, name) for name in ("one", "two")]
    assert [process.wait(timeout=120) for process in both] == [0, 0]
    plain = extract(make_net(), pictures(60), batch_size=4)
    for name in ("one", "two"):
        with np.load(tmp_path / f"{name}.npz") as acts:
            assert_same(dict(acts), plain)
    forwarded.clear()
    assert_same(extract(make_net(), pictures(60), batch_size=4, cache=tmp_path / "cache"), plain)
    assert forwarded == []
