"""SqueezeNet v1.0: its shape, its preprocessing and the reader of the Deep Compression format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scalelib.errors import WeightsError
from scalelib.graph import keras
from scalelib.networks import load_network
from scalelib.squeezenet import WEIGHTS_FILE, build_squeezenet, preprocess, read_deep_compression

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


def example(seed: int, density: float) -> tuple[bytes, dict[str, np.ndarray], dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    kernels, biases, codebooks, dense = {}, {}, {}, {}
    for name, shape in SHAPES.items():
        codes = rng.integers(1, 256, shape) * (rng.random(shape) < density)
        kernels[name] = codes
        biases[name] = rng.normal(size=shape[-1]).astype(np.float32)
        codebooks[name] = rng.normal(size=256).astype(np.float32)
        dense[name] = codebooks[name][codes]
    return encode(kernels, biases, codebooks), dense, biases


@pytest.mark.parametrize("density", [0.01, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_reader_recovers_what_an_independent_writer_wrote(tmp_path: Path, seed: int, density: float) -> None:
    content, kernels, biases = example(seed, density)
    file = tmp_path / "net"
    file.write_bytes(content)
    found = read_deep_compression(file, SHAPES)
    for name in SHAPES:
        np.testing.assert_array_equal(found[name][0], kernels[name])
        np.testing.assert_array_equal(found[name][1], biases[name])


def test_a_file_cut_at_any_length_is_refused(tmp_path: Path) -> None:
    content, _, _ = example(0, 0.1)
    file = tmp_path / "cut.net"
    for length in [0, 1, 11, 12, 500, len(content) // 2, len(content) - 1]:
        file.write_bytes(content[:length])
        with pytest.raises(WeightsError, match=r"cut\.net ends early"):
            read_deep_compression(file, SHAPES)


def test_bytes_left_over_are_refused(tmp_path: Path) -> None:
    content, _, _ = example(0, 0.1)
    file = tmp_path / "long.net"
    file.write_bytes(content + b"\0")
    with pytest.raises(WeightsError, match="left over"):
        read_deep_compression(file, SHAPES)


def test_more_entries_than_places_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "wrong.net"
    file.write_bytes(np.array([91, 0, 0], "<u4").tobytes() + bytes(4000))
    with pytest.raises(WeightsError, match="91 stored entries for first, whose kernel has 90"):
        read_deep_compression(file, SHAPES)


def test_an_entry_beyond_the_kernel_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "beyond.net"
    entries = np.array([6], "<u4").tobytes()
    file.write_bytes(entries + bytes(1024) + bytes(20) + bytes(6) + bytes([0xFF] * 3))
    with pytest.raises(WeightsError, match="position 95 of first"):
        read_deep_compression(file, {"first": SHAPES["first"]})


def test_shapes_at_227_px_are_those_of_the_architecture() -> None:
    model = build_squeezenet()
    shapes = {layer.name: layer.output.shape[1:] for layer in model.layers}
    expected = {
        "conv1": (111, 111, 96),
        "pool1": (55, 55, 96),
        "fire2": (55, 55, 128),
        "fire4": (55, 55, 256),
    }
    expected |= {
        "pool4": (27, 27, 256),
        "fire5": (27, 27, 256),
        "fire8": (27, 27, 512),
        "pool8": (13, 13, 512),
    }
    expected |= {"fire9": (13, 13, 512), "conv10": (13, 13, 1000), "pre_softmax": (1000,)}
    assert {name: shapes[name] for name in expected} == expected
    assert model.count_params() == 1_248_424  # Iandola et al. 2016, Table 1


def test_preprocessing_is_bgr_less_the_channel_means_and_leaves_its_input_alone() -> None:
    image = np.zeros((1, 2, 2, 3), np.uint8)
    image[..., 0], image[..., 2] = 255, 10
    kept = image.copy()
    out = preprocess(image)
    assert out.dtype == np.float32
    np.testing.assert_array_equal(out[0, 0, 0], [10 - 104, 0 - 117, 255 - 123])
    np.testing.assert_array_equal(image, kept)


def test_logits_are_averaged_after_the_relu() -> None:
    net = load_network("SqueezeNet", weights="random", input_size=64)
    x = np.random.default_rng(0).normal(size=(2, 64, 64, 3)).astype(np.float32) * 60
    maps = keras.Model(net.model.inputs[0], net.model.get_layer("conv10").output)(x)
    logits = keras.Model(net.model.inputs[0], net.tensor("pre_softmax"))(x)
    assert float(np.min(maps)) == 0
    np.testing.assert_allclose(logits, np.asarray(maps).mean(axis=(1, 2)), rtol=1e-5)


@pytest.mark.data
def test_real_file_agrees_with_a_reader_written_out_entry_by_entry(weights_root: Path) -> None:
    net = load_network("SqueezeNet", data_root=weights_root.parent)
    layers = [step.operation for step in net.steps if isinstance(step.operation, keras.layers.Conv2D)]
    content = (weights_root / WEIGHTS_FILE).read_bytes()
    counts = [int.from_bytes(content[4 * i : 4 * i + 4], "little") for i in range(26)]
    position = 4 * 26
    # the order of the file, not of the graph: squeeze, narrow, wide
    for layer, stored in zip(sorted(layers, key=file_order), counts, strict=True):
        height, width, n_in, n_out = layer.kernel.shape
        book = np.frombuffer(content, "<f4", 256, position)
        bias = np.frombuffer(content, "<f4", n_out, position + 1024)
        codes = content[position + 1024 + 4 * n_out :][:stored]
        nibbles = content[position + 1024 + 4 * n_out + stored :][: -(-stored // 2)]
        flat = np.full(height * width * n_in * n_out, book[0])
        place = -1
        for i in range(stored):
            place += (nibbles[i // 2] >> (4 * (i % 2)) & 15) + 1
            flat[place] = book[codes[i]]
        expected = flat.reshape(n_out, n_in, height, width)
        kernel, found_bias = layer.get_weights()
        np.testing.assert_array_equal(kernel.transpose(3, 2, 0, 1), expected)
        np.testing.assert_array_equal(found_bias, bias)
        position += 1024 + 4 * n_out + stored + -(-stored // 2)
    assert position == len(content)


def file_order(layer: keras.layers.Layer) -> tuple[int, int]:
    if not layer.name.startswith("fire"):
        return (int(layer.name.removeprefix("conv")), 0)
    number, part = layer.name.removeprefix("fire").split("_")
    return (int(number), ["squeeze1x1", "expand1x1", "expand3x3"].index(part))


@pytest.mark.data
def test_a_truncated_real_file_is_refused_by_name(weights_root: Path, tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / WEIGHTS_FILE).write_bytes((weights_root / WEIGHTS_FILE).read_bytes()[:-1000])
    with pytest.raises(WeightsError, match=r"compressed_SqueezeNet\.net ends early"):
        load_network("SqueezeNet", data_root=tmp_path)


def test_own_weights_survive_a_round_trip(tmp_path: Path) -> None:
    first = load_network("SqueezeNet", weights="random", weights_seed=5, input_size=64)
    first.model.save_weights(tmp_path / "own.weights.h5")
    again = load_network("SqueezeNet", weights=tmp_path / "own.weights.h5", input_size=64)
    assert again.weights_digest == first.weights_digest
    assert again.weights == "own.weights.h5"
