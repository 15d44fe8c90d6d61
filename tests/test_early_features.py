"""Preferred frequencies, exciting regions and painted images, on kernels whose answer is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from scalelib.graph import keras
from scalelib.networks import Network, load_network
from studies.s06_early import (
    channel_weights,
    exciting_regions,
    first_kernels,
    frequency_tuning,
    gratings,
    maximise_activation,
    preferred_frequency,
    relate_to_frequency,
)

SIDE = 31


def network(kernel: np.ndarray, *, bias: float = 0.0, strides: int = 1, activation: str = "relu") -> Network:
    """One convolution with a given kernel (height, width, 3, channels)."""
    image = keras.Input((96, 96, 3))
    layer = keras.layers.Conv2D(
        kernel.shape[-1],
        kernel.shape[:2],
        strides=strides,
        padding="same",
        activation=activation,
        name="conv",
    )
    model = keras.Model(image, layer(image))
    layer.set_weights([kernel.astype(np.float32), np.full(kernel.shape[-1], bias, np.float32)])
    return load_network(model, taps=["conv"])


def gabor(frequency: float, orientation: float) -> np.ndarray:
    y, x = np.mgrid[-(SIDE // 2) : SIDE // 2 + 1, -(SIDE // 2) : SIDE // 2 + 1]
    angle = np.deg2rad(orientation)
    carrier = np.cos(2 * np.pi * frequency * (np.cos(angle) * x + np.sin(angle) * y))
    window = np.exp(-(x**2 + y**2) / (2 * 6.0**2))
    kernel = window * carrier
    kernel -= window * kernel.sum() / window.sum()
    return np.repeat(kernel[..., None], 3, axis=-1)


KNOWN = [(1 / 16, 0), (0.1, 60), (0.17, 90), (0.25, 120), (0.31, 30)]


@pytest.mark.parametrize("activation", ["relu", pytest.param("linear", marks=pytest.mark.exhaustive)])
def test_gabor_kernels_prefer_the_frequency_and_orientation_they_were_made_with(activation):
    kernel = np.stack([gabor(*known) for known in KNOWN], axis=-1)
    tuning = frequency_tuning(network(kernel, activation=activation), ["conv"])
    found = preferred_frequency(tuning).set_index("channel")
    assert found.frequency.to_numpy() == pytest.approx([f for f, _ in KNOWN], rel=0.06)
    assert found.orientation.tolist() == [o for _, o in KNOWN]
    assert not found.at_edge.any()


def test_preferred_frequency_is_in_input_pixels_behind_a_stride():
    found = preferred_frequency(frequency_tuning(network(gabor(0.17, 0)[..., None], strides=4), ["conv"]))
    assert found.frequency.item() == pytest.approx(0.17, rel=0.06)


def test_blur_prefers_the_lowest_frequency_and_says_that_it_is_at_the_edge():
    blur = np.ones((5, 5, 3, 1)) / 75
    found = preferred_frequency(frequency_tuning(network(blur), ["conv"]))
    assert found.at_edge.item()
    assert found.frequency.item() == pytest.approx(1 / 64, rel=1e-3)


def test_grating_has_its_energy_at_its_frequency():
    wave = gratings(0.125, 90, size=(64, 64), phases=1)[0, :, :, 0]
    energy = np.abs(np.fft.fft2(wave - wave.mean()))
    assert set(zip(*np.nonzero(energy > 0.1 * energy.max()), strict=True)) == {(8, 0), (56, 0)}


def test_crop_is_exactly_what_the_unit_saw():
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (4, 96, 96, 3)).astype(np.uint8)
    kernel = rng.normal(size=(7, 7, 3, 3))
    kernel -= kernel.mean(axis=(0, 1))
    regions = exciting_regions(network(kernel, strides=2), "conv", images, channels=[0, 2], ranks=3)
    for row in regions.table.itertuples():
        crop = regions.crops[[0, 2].index(row.channel), row.rank - 1].astype(float)
        inside = row.top >= 0 and row.left >= 0 and row.top + 7 <= 96 and row.left + 7 <= 96
        if inside:
            assert (crop * kernel[..., row.channel]).sum() == pytest.approx(row.activation, rel=1e-4)
    assert regions.table.groupby("channel").activation.apply(lambda a: a.is_monotonic_decreasing).all()


def test_painted_image_is_the_grating_that_a_gabor_kernel_likes():
    kernel = gabor(1 / 8, 0)[8:-8, 8:-8, :, None]
    kernel = kernel - kernel.mean()
    images, table = maximise_activation(network(kernel), "conv", channels=[0], side=64, steps=100)
    grey = images[0].mean(axis=-1)
    spectrum = np.abs(np.fft.fft2(grey - grey.mean()))
    y, x = np.unravel_index(np.argmax(spectrum), spectrum.shape)
    assert (y, min(x, 64 - x)) == (0, pytest.approx(8, abs=1))
    assert table.after.item() > 10 * max(table.before.item(), 1e-6)


def test_painting_leaves_the_network_as_it_was():
    net = load_network("MobileNet", weights="random", alpha=0.25, input_size=32, include_top=False)
    before = [array.copy() for array in net.model.get_weights()]
    trainable = [layer.trainable for layer in net.model.layers]
    maximise_activation(net, "conv_pw_2", channels=[1], steps=4)
    assert all(np.array_equal(a, b) for a, b in zip(before, net.model.get_weights(), strict=True))
    assert [layer.trainable for layer in net.model.layers] == trainable


def test_first_kernels_undo_the_order_of_channels_and_the_scaling():
    kernel = np.random.default_rng(2).normal(size=(3, 3, 3, 4))
    image = keras.Input((32, 32, 3))
    model = keras.Model(image, keras.layers.Conv2D(4, 3, use_bias=False, name="conv")(image))
    model.set_weights([kernel])
    net = load_network(model, taps=["conv"], preprocess=lambda x: x[..., ::-1] / 127.5 - 1)
    expected = kernel[:, :, ::-1].transpose(3, 0, 1, 2) / 127.5
    np.testing.assert_allclose(first_kernels(net), expected, rtol=1e-4)


def test_rank_correlation_agrees_with_scipy_and_holm_corrects_over_rows():
    rng = np.random.default_rng(0)
    frequency = rng.uniform(0.02, 0.5, 60)
    table = pd.DataFrame(
        {
            "network": "net",
            "weights": "imagenet",
            "tap": ["related"] * 30 + ["unrelated"] * 30,
            "frequency": frequency,
            "weight": np.r_[-frequency[:30] + 0.1 * rng.normal(size=30), rng.normal(size=30)],
        }
    )
    found = relate_to_frequency(table, "weight", permutations=499).set_index("tap")
    for tap, rows in table.groupby("tap"):
        assert found.rho[tap] == pytest.approx(stats.spearmanr(rows.frequency, rows.weight).statistic)
    assert found.high["related"] < 0
    assert found.p_holm["related"] == pytest.approx(2 / 500)
    assert found.low["unrelated"] < 0 < found.high["unrelated"]
    assert found.p["unrelated"] > 0.05


def test_channel_weights_are_signed_standardised_and_taken_within_classes():
    rng = np.random.default_rng(3)
    X = rng.normal(size=(400, 4)) * [1, 10, 1, 1]
    classes = np.repeat(["a", "b"], 200)
    y = X[:, 0] - 0.1 * X[:, 1] + 50 * (classes == "b")
    X[:, 3] += 5 * (classes == "b")  # tells the class, nothing within it
    found = channel_weights({"tap": X}, y, classes=classes).set_index("channel")
    assert found.weight.to_numpy() == pytest.approx([2**-0.5, -(2**-0.5), 0, 0], abs=0.05)
    assert found.correlation[0] > 0.5 > 0.2 > abs(found.correlation[3])
