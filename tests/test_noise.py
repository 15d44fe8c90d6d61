"""Noise with a known answer: correlation length, spectrum, variance, independence of canvas and pattern."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import brentq
from scipy.special import j1

from studies.readings import padding_probe
from studies.s03_noise import correlation_length, noise_field, noise_r2, render_noise, summarize_noise


@pytest.mark.parametrize("size", [48, 96, 192])
def test_correlation_length_does_not_depend_on_the_canvas(size):
    measured = [
        correlation_length(noise_field(size, correlation_length=3.0, torus=512, random_state=seed))
        for seed in range(20)
    ]
    assert np.mean(measured) == pytest.approx(3.0, rel=0.05)


def test_correlation_length_agrees_with_a_direct_sum_over_pixel_pairs():
    field = noise_field(40, correlation_length=2.5, random_state=3).astype(float)
    assert correlation_length(field) == pytest.approx(direct_correlation_length(field), rel=1e-9)


def direct_correlation_length(field):
    """No Fourier transform: every lag by slicing, every distance by a dictionary."""
    height, width = field.shape
    centred = field - field.mean()
    by_distance: dict[int, list[float]] = {}
    for dy in range(-20, 21):
        for dx in range(-20, 21):
            a = centred[max(0, dy) : height + min(0, dy), max(0, dx) : width + min(0, dx)]
            b = centred[max(0, -dy) : height + min(0, -dy), max(0, -dx) : width + min(0, -dx)]
            by_distance.setdefault(dy * dy + dx * dx, []).append(float((a * b).mean()))
    squared = sorted(by_distance)
    radial = np.array([np.mean(by_distance[s]) for s in squared]) / np.mean(by_distance[0])
    i = int(np.argmax(radial <= np.exp(-1)))
    x0, x1 = np.sqrt(squared[i - 1]), np.sqrt(squared[i])
    return x0 + (radial[i - 1] - np.exp(-1)) / (radial[i - 1] - radial[i]) * (x1 - x0)


def test_white_noise_measures_the_floor_of_the_pixel_grid():
    measured = correlation_length(noise_field(256, kind="white"))
    assert measured == pytest.approx(1 - np.exp(-1), abs=0.02)


@pytest.mark.parametrize("length", [2.0, 5.0])
def test_blob_autocorrelation_follows_the_ring_in_closed_form(length):
    """Autocorrelation along the axes against the Hankel transform of a one-octave ring."""
    fields = np.stack([noise_field(256, correlation_length=length, random_state=s) for s in range(12)])

    def ring(r, f):
        g, h = f / np.sqrt(2), f * np.sqrt(2)
        return (h * j1(2 * np.pi * h * r) - g * j1(2 * np.pi * g * r)) / (np.pi * r * (h**2 - g**2))

    f = brentq(lambda f: ring(length, f) - np.exp(-1), 0.1 / length, 0.4 / length)
    for lag in (1, 2, 4, 7, 11):
        observed = (fields[:, lag:] * fields[:, :-lag]).mean() / (fields**2).mean()
        assert observed == pytest.approx(ring(lag, f), abs=0.04)


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
def test_power_noise_has_the_spectrum_that_was_asked_for(exponent):
    power = np.zeros((256, 129))
    for seed in range(10):
        field = noise_field(256, kind="power", exponent=exponent, torus=256, random_state=seed)
        power += np.abs(np.fft.rfft2(field)) ** 2
    frequency = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.rfftfreq(256)[None, :])
    band = (frequency > 0.03) & (frequency < 0.4)
    slope = np.polyfit(np.log(frequency[band]), np.log(power[band]), 1)[0]
    assert slope == pytest.approx(-exponent, abs=0.05)


@pytest.mark.parametrize("kind", ["white", "power", "blob"])
def test_process_has_zero_mean_and_unit_variance(kind):
    fields = np.stack([noise_field(128, kind=kind, torus=128, random_state=s) for s in range(120)])
    assert fields.mean() == pytest.approx(0.0, abs=0.02)
    assert fields.var() == pytest.approx(1.0, abs=0.03)


def test_canvases_of_one_seed_are_crops_of_one_field():
    large = noise_field(64, torus=256, random_state=7)
    np.testing.assert_array_equal(noise_field(24, torus=256, random_state=7), large[:24, :24])


def test_rendering_is_deterministic_and_seeds_differ():
    first, again, other = (render_noise(6, random_state=seed) for seed in (1, 1, 2))
    assert first.digest == again.digest != other.digest
    assert first.table.equals(again.table)


def test_pixels_hold_no_statistic_that_gives_the_canvas_away():
    noise = render_noise(400, canvas_sizes=(32, 64, 96), random_state=0)
    canvas = noise.table.canvas_size
    assert canvas.value_counts().max() - canvas.value_counts().min() <= 1
    statistics = {
        "mean": [image.mean() for image in noise.images],
        "contrast": [image[..., 0].astype(float).var() for image in noise.images],
        "length": noise.table.correlation_length,
    }
    for name, values in statistics.items():
        assert abs(np.corrcoef(values, canvas)[0, 1]) < 0.12, name  # 0.12 is 2.4 standard errors


@pytest.mark.parametrize("activation", [None, "relu"])
def test_same_padding_leaks_canvas_size_and_valid_padding_does_not(activation):
    """Through the notebook's own functions; the linear case is the closed form: a stationary mean."""
    noise = render_noise(160, canvas_sizes=(24, 32, 40, 48), correlation_lengths=(1.0, 1.5))
    tables = []
    for padding in ("same", "valid"):
        net = padding_probe(padding=padding, activation=activation)
        table = noise_r2(net, noise, measures=["canvas_size"], estimator="ridge", conditions="true")
        tables.append(summarize_noise(table.assign(network=padding, weights="probe", weights_seed=-1)))
    r2 = pd.concat(tables).set_index(["network", "region", "tap"])["mean"]
    assert r2["same", "whole map", "conv3"] > 0.7
    assert r2["same", "border-free", "conv3"] < 0.1
    assert r2["valid", "whole map", "conv3"] < 0.1


def test_random_filters_read_the_correlation_length_of_noise():
    noise = render_noise(120, canvas_sizes=(48, 64), correlation_lengths=(1.0, 4.0))
    net = padding_probe(padding="valid", depth=1, activation="relu")
    table = noise_r2(net, noise, measures=["correlation_length"], estimator="ridge", repeats=5)
    means = table[table.region == "whole map"].groupby("condition").r2_test.mean()
    assert means["true"] > 0.8
    assert means["shuffled"] < 0.1
