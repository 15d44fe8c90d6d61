"""Regression concept vectors: recovered directions, storage, and exact derivatives of linear networks."""

from __future__ import annotations

import io
import subprocess
import sys
from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from scalelib.concepts import RCV, fit_rcv, sensitivity
from scalelib.errors import DataError, NetworkError, ResultsError
from scalelib.graph import keras
from scalelib.networks import Network, load_network
from scalelib.regression import layerwise_r2, train_test_splits


def problem(
    n: int, d: int, *, noise: float = 0.2, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) * rng.uniform(0.5, 2, size=d) + rng.uniform(-3, 3, size=d)
    weights = rng.normal(size=d)
    return X, X @ weights / np.linalg.norm(weights) + noise * rng.normal(size=n), weights


@pytest.mark.parametrize("estimator", ["ols", "ridge", "pcr"])
def test_the_direction_of_growth_is_found_in_the_taps_own_units(estimator):
    X, y, weights = problem(400, 5, noise=0.01)
    rcv = fit_rcv(X, 3 * y + 7, estimator=estimator, tap="late")
    assert np.linalg.norm(rcv.direction) == pytest.approx(1)
    assert rcv.direction == pytest.approx(weights / np.linalg.norm(weights), abs=0.01)
    assert rcv.slope == pytest.approx(3, rel=0.01)
    assert rcv.predict(X) == pytest.approx(3 * y + 7, abs=0.15)
    moved = rcv.predict(X + 0.5 * rcv.direction) - rcv.predict(X)
    assert moved == pytest.approx(np.full(400, 0.5 * rcv.slope))
    assert (rcv.tap, rcv.estimator, rcv.n_images, rcv.repeats) == ("late", estimator, 400, 10)


def test_r2_is_that_of_layerwise_r2():
    X, y, _ = problem(60, 30)
    groups = np.repeat(np.arange(20), 3)
    rcv = fit_rcv(X, y, groups=groups, repeats=4)
    table = layerwise_r2({"tap": X}, y, groups=groups, repeats=4, conditions="true")
    assert rcv.r2 == pytest.approx(table.r2_test.mean())


def test_angle_is_the_mean_over_pairs_of_repeats():
    X, y, _ = problem(60, 10, noise=2.0)
    directions = []
    for train, _test in train_test_splits(60, repeats=3):
        beta = np.linalg.lstsq(X[train] - X[train].mean(axis=0), y[train] - y[train].mean())[0]
        directions.append(beta / np.linalg.norm(beta))
    cosines = [directions[i] @ directions[j] for i, j in ((0, 1), (0, 2), (1, 2))]
    found = fit_rcv(X, y, estimator="ols", repeats=3).angle
    assert found == pytest.approx(np.degrees(np.arccos(cosines)).mean())
    assert fit_rcv(*problem(2000, 5)[:2]).angle < 1 < 20 < found


def no_signal() -> tuple[np.ndarray, np.ndarray]:
    X, y, _ = problem(60, 5)
    centred = X - X.mean(axis=0)
    return X, y - centred @ np.linalg.lstsq(centred, y)[0]  # no channel correlates with what is left


@pytest.mark.parametrize(
    ("X", "y", "options", "words"),
    [
        (np.eye(10), np.ones(10), {}, "must vary"),
        (np.full((10, 2), np.nan), np.arange(10), {"tap": "mixed8"}, "'mixed8' must be finite"),
        (np.eye(10), np.arange(10), {"estimator": "pls"}, "unknown estimator 'pls'"),
        (*no_signal(), {"tap": "late"}, "of 'late'; the mean of the 60 measures is the best prediction"),
        (np.ones((60, 3)), no_signal()[1], {"estimator": "ols"}, "the best prediction"),
    ],
)
def test_fits_that_make_no_sense_and_predictions_of_another_tap_are_refused(X, y, options, words):
    with pytest.raises(DataError, match=words):
        fit_rcv(X, y, **options)
    with pytest.raises(DataError, match=r"3 channels[\s\S]*5"):
        fit_rcv(*problem(30, 3)[:2]).predict(np.ones((3, 5)))


# --- storage ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"estimator": "ols", "repeats": 1}], ids=["numbers", "NaN"])
def test_storage_returns_every_bit_and_holds_no_pickle(tmp_path, options):
    rcv = fit_rcv(*problem(40, 7)[:2], tap="conv5_block3_add", **options)
    rcv.save(tmp_path / "scale.npz")
    back = RCV.load(tmp_path / "scale.npz")
    for field in fields(RCV):
        one, two = getattr(rcv, field.name), getattr(back, field.name)
        assert type(one) is type(two)
        assert np.array_equal(one, two, equal_nan=field.name in ("alpha", "angle"))
    assert [path.name for path in tmp_path.iterdir()] == ["scale.npz"]  # no partial file stays
    with np.load(tmp_path / "scale.npz") as stored:
        assert all(stored[name].dtype.kind != "O" for name in stored.files)


def archive(**arrays: Any) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, allow_pickle=True, **arrays)
    return stream.getvalue()


GOOD = {"direction": np.ones(1), "intercept": 0.0, "slope": 1.0, "r2": 0.5, "angle": 1.0}
DAMAGE = [
    {"direction": np.ones(2)},
    {"direction": np.full(1, np.nan)},
    {"intercept": np.nan},
    {"tap": 3},
    {"surplus": 1},
]


@pytest.mark.parametrize("damage", DAMAGE, ids=str)
def test_files_that_hold_something_else_are_refused(tmp_path, damage):
    path = tmp_path / "scale.npz"
    path.write_bytes(archive(**GOOD | damage))
    with pytest.raises(ResultsError, match=r"RCV\.load: scale\.npz holds no regression concept vector"):
        RCV.load(path)


# --- sensitivity -----------------------------------------------------------------------------------


def vector(d: int, tap: str = "") -> RCV:
    direction = np.random.default_rng(0).normal(size=d)
    return RCV(direction / np.linalg.norm(direction), 0.0, 1.0, r2=0.5, angle=10.0, tap=tap)


def images(n: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, size=(n, 6, 6, 3), dtype=np.uint8)


def network(*last: Any, inside: bool = False) -> Network:
    keras.utils.set_random_seed(0)
    image = keras.Input((6, 6, 3))
    x = keras.layers.Conv2D(4, 3, padding="same" if inside else "valid", activation="relu", name="conv")(
        image
    )
    if inside:
        x = keras.layers.Concatenate(name="block")([x, image])
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    for layer in last:
        x = layer(x)
    names = ["conv", *(["block"] if inside else []), "pool", *(layer.name for layer in last)]
    return load_network(keras.Model(image, x), taps=names, preprocess="0-1")


@pytest.fixture(scope="module")
def linear() -> Network:
    return network(keras.layers.Dense(5, name="logits"))


@pytest.mark.parametrize("tap", ["conv", "pool"])
@pytest.mark.parametrize("step", [0.001, 0.5])
def test_a_network_that_is_linear_after_the_tap_gives_the_exact_derivative(linear, tap, step):
    kernel = np.asarray(linear.model.get_layer("logits").get_weights()[0], np.float64)
    for output in range(5):
        found = sensitivity(linear, vector(4, tap), images(3), output=output, step=step)
        expected = vector(4).direction @ kernel[:, output]
        assert found == pytest.approx(np.full(3, expected), rel=2e-3, abs=1e-4)


def test_a_curved_network_gives_the_derivative_by_the_chain_rule():
    net = network(keras.layers.Dense(3, name="logits"), keras.layers.Softmax(name="softmax"))
    kernel, bias = (np.asarray(w, np.float64) for w in net.model.get_layer("logits").get_weights())
    reader = keras.Model(net.model.inputs[0], net.tensor("pool"))
    pooled = np.asarray(reader.predict(images(3) / np.float32(255), verbose=0), np.float64)
    p = np.exp(pooled @ kernel + bias)
    p /= p.sum(axis=1, keepdims=True)
    along = vector(4).direction @ kernel
    expected = p[:, 1] * (along[1] - p @ along)
    for several in (images(3), list(images(3)[::-1])):
        found = sensitivity(net, vector(4, "conv"), several, output=1, batch_size=2)
        assert found == pytest.approx(expected, rel=1e-2, abs=1e-4)
        expected = expected[::-1]


def test_activations_of_the_tap_serve_as_well_as_images_of_any_size(linear):
    reader = keras.Model(linear.model.inputs[0], linear.tensor("conv"))
    maps = np.asarray(reader.predict(images(5) / np.float32(255), verbose=0))
    one = sensitivity(linear, vector(4, "conv"), images(5), output=2)
    two = sensitivity(linear, vector(4, "conv"), maps, output=2, from_tap=True, batch_size=2)
    assert two == pytest.approx(one, rel=1e-3)
    dead = sensitivity(linear, vector(4, "conv"), np.zeros((1, 4, 4, 4)), output=2, from_tap=True)
    assert np.isfinite(dead).all()
    pictures = [np.zeros((9, 12, 3), np.uint8), np.full((6, 6, 3), 200, np.uint8)]
    assert sensitivity(linear, vector(4, "conv"), pictures, output=0).shape == (2,)


def test_what_lies_beside_the_tap_is_refused():
    net = network(keras.layers.Dense(2, name="logits"), inside=True)
    assert sensitivity(net, vector(7, "block"), images(2), output=0).shape == (2,)
    with pytest.raises(NetworkError, match="depend on the tap 'conv' alone"):
        sensitivity(net, vector(4, "conv"), images(2), output=0)


@pytest.mark.parametrize(
    ("rcv", "options", "error", "words"),
    [
        (vector(4), {}, DataError, "rcv.tap is empty"),
        (vector(5, "conv"), {}, DataError, "Received: 5 and 4"),
        (vector(4, "conv"), {"output": 5}, NetworkError, "unit 5"),
        (vector(5, "logits"), {}, NetworkError, "after the tap"),
        (vector(4, "logits"), {"of": "pool"}, NetworkError, "alone"),
        (vector(4, "conv"), {"step": 0.0}, DataError, "step"),
        (vector(4, "conv"), {"from_tap": True}, DataError, "4, 4, 4"),
        (vector(4, "conv"), {"images": iter([])}, DataError, "at least one image"),
    ],
)
def test_sensitivities_that_make_no_sense_are_refused(linear, rcv, options, error, words):
    with pytest.raises(error, match=words):
        sensitivity(linear, rcv, **{"images": images(2), "output": 0, **options})


def test_fitting_needs_no_keras():
    code = "import sys; import scalelib.regression, scalelib.concepts; sys.exit('keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
