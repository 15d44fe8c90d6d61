"""Regression concept vectors: recovered directions, storage, and exact derivatives of linear networks."""

from __future__ import annotations

import json
from dataclasses import fields
from types import SimpleNamespace

import numpy as np
import pytest

from scalelib.concepts import RCV, bidirectional_relevance, fit_rcv, load_rcv
from scalelib.errors import DataError, NetworkError, ResultsError
from scalelib.regression import layerwise_r2


def problem(n, d, *, noise=0.2, seed=0):
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


def test_prediction_is_that_of_least_squares_by_pinv():
    X, y, _ = problem(50, 80)
    rcv = fit_rcv(X, y, estimator="ols")
    centre = X.mean(axis=0)
    beta = np.linalg.pinv(X - centre, rcond=1e-12) @ (y - y.mean())
    new = problem(9, 80, seed=1)[0]
    assert rcv.predict(new) == pytest.approx(y.mean() + (new - centre) @ beta)
    assert rcv.direction == pytest.approx(beta / np.linalg.norm(beta))


def test_r2_is_that_of_layerwise_r2():
    X, y, _ = problem(60, 30)
    groups = np.repeat(np.arange(20), 3)
    rcv = fit_rcv(X, y, groups=groups, repeats=4)
    table = layerwise_r2({"tap": X}, y, groups=groups, repeats=4, conditions="true")
    assert rcv.r2 == pytest.approx(table.r2_test.mean())


def test_directions_of_repeats_agree_where_data_are_plenty_and_not_where_they_are_few():
    plenty = fit_rcv(*problem(2000, 5)[:2])
    few = fit_rcv(*problem(40, 300, noise=2.0)[:2], estimator="ols")
    assert plenty.angle < 1
    assert 20 < few.angle < 90


def test_angle_is_the_mean_over_pairs_of_repeats():
    X, y, _ = problem(60, 10, noise=2.0)
    rcv = fit_rcv(X, y, estimator="ols", repeats=3)
    from scalelib.regression import train_test_splits

    directions = []
    for train, _test in train_test_splits(60, repeats=3):
        beta = np.linalg.lstsq(X[train] - X[train].mean(axis=0), y[train] - y[train].mean())[0]
        directions.append(beta / np.linalg.norm(beta))
    pairs = [(0, 1), (0, 2), (1, 2)]
    expected = np.mean([np.degrees(np.arccos(directions[i] @ directions[j])) for i, j in pairs])
    assert rcv.angle == pytest.approx(expected)


def test_where_nothing_is_read_there_is_no_direction():
    X, y, _ = problem(60, 5)
    centred = X - X.mean(axis=0)
    y = y - centred @ np.linalg.lstsq(centred, y)[0]  # no channel correlates with what is left
    with pytest.raises(DataError, match="the best prediction"):
        fit_rcv(X, y, tap="late")
    with pytest.raises(DataError, match="the best prediction"):
        fit_rcv(np.ones((60, 3)), y, estimator="ols")


@pytest.mark.parametrize(
    ("X", "y", "options", "words"),
    [
        (np.eye(10), np.ones(10), {}, "must vary"),
        (np.full((10, 2), np.nan), np.arange(10), {"tap": "mixed8"}, "'mixed8', row 0"),
        (np.eye(10), np.arange(9), {}, "10 rows"),
        (np.eye(10), np.arange(10), {"estimator": "pls"}, "unknown estimator 'pls'"),
    ],
)
def test_fits_that_make_no_sense_are_refused(X, y, options, words):
    with pytest.raises(DataError, match=words):
        fit_rcv(X, y, **options)


def test_prediction_refuses_another_tap():
    rcv = fit_rcv(*problem(30, 4)[:2])
    with pytest.raises(DataError, match=r"4 channels[\s\S]*5"):
        rcv.predict(np.ones((3, 5)))
    with pytest.raises(DataError, match="row 1"):
        rcv.predict([[1, 1, 1, 1], [1, np.nan, 1, 1]])
    with pytest.raises(DataError, match="shape"):
        rcv.predict(np.ones(4))


# ---------------------------------------------------------------- storage


@pytest.mark.parametrize("name", ["scale.npz", "scale.json"])
@pytest.mark.parametrize("estimator", ["ridge", "ols"])
def test_storage_returns_every_bit(tmp_path, name, estimator):
    rcv = fit_rcv(*problem(40, 7)[:2], estimator=estimator, tap="conv5_block3_add")
    rcv.save(tmp_path / name)
    back = load_rcv(tmp_path / name)
    for field in fields(RCV):
        one, two = getattr(rcv, field.name), getattr(back, field.name)
        assert np.array_equal(one, two, equal_nan=field.name in ("alpha", "angle"))
    assert [path.name for path in tmp_path.iterdir()] == [name]  # no partial file stays


def test_stored_files_hold_no_pickle_and_no_nan(tmp_path):
    rcv = fit_rcv(*problem(40, 7)[:2], estimator="ols", repeats=1)
    rcv.save(tmp_path / "scale.npz")
    rcv.save(tmp_path / "scale.json")
    with np.load(tmp_path / "scale.npz", allow_pickle=False) as stored:
        assert all(stored[name].dtype.kind != "O" for name in stored.files)
    text = (tmp_path / "scale.json").read_text()
    assert json.loads(text, parse_constant=lambda word: pytest.fail(word))["alpha"] is None


def test_a_failed_write_leaves_what_stood_there(tmp_path, monkeypatch):
    rcv = fit_rcv(*problem(40, 7)[:2])
    path = tmp_path / "scale.npz"
    rcv.save(path)
    before = path.read_bytes()

    def full_disk(stream, **arrays):
        stream.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full_disk)
    with pytest.raises(ResultsError, match="No space left"):
        rcv.save(path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["scale.npz"]


@pytest.mark.parametrize("name", ["scale.npz", "scale.json"])
@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"[1, 2]"])
def test_damaged_files_are_refused(tmp_path, name, damage):
    fit_rcv(*problem(40, 7)[:2]).save(tmp_path / name)
    (tmp_path / name).write_bytes(damage((tmp_path / name).read_bytes()))
    with pytest.raises(ResultsError, match=f"load_rcv: {name} holds no regression concept vector"):
        load_rcv(tmp_path / name)


@pytest.mark.parametrize(
    "change", [{"format": 2}, {"direction": [1.0, 1.0]}, {"direction": [[1.0]]}, {"surplus": 1}]
)
def test_files_of_another_kind_are_refused(tmp_path, change):
    path = tmp_path / "scale.json"
    fit_rcv(*problem(40, 7)[:2]).save(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ResultsError, match="load_rcv"):
        load_rcv(path)


def test_names_of_files_are_checked(tmp_path):
    with pytest.raises(ResultsError, match=r"\.npz or \.json"):
        fit_rcv(*problem(40, 7)[:2]).save(tmp_path / "scale.pkl")
    with pytest.raises(ResultsError, match=r"there is no gone\.npz"):
        load_rcv(tmp_path / "gone.npz")


# ---------------------------------------------------------------- relevance


def test_bidirectional_relevance_is_r2_over_the_coefficient_of_variation():
    values = np.array([0.2, 0.4, 0.9])
    assert bidirectional_relevance(values, r2=0.6) == pytest.approx(0.6 * values.mean() / values.std())
    assert bidirectional_relevance(-values, r2=0.6) == -bidirectional_relevance(values, r2=0.6)
    assert bidirectional_relevance([2.0, 2.0], r2=0.6) == np.inf
    assert bidirectional_relevance([0.0, 0.0], r2=0.6) == 0
    for bad in ([1.0], [1.0, np.nan], [[1.0, 2.0]]):
        with pytest.raises(DataError, match="at least two finite"):
            bidirectional_relevance(bad, r2=0.6)


# ---------------------------------------------------------------- sensitivity


@pytest.fixture(scope="module")
def keras():
    from scalelib.graph import keras

    return keras


def network(keras, build, **taps):
    """A model on 6×6 images with named taps, in the form in which sensitivity knows networks."""
    keras.utils.set_random_seed(0)
    image = keras.Input((6, 6, 3))
    model = keras.Model(image, build(image))
    return SimpleNamespace(
        model=model,
        taps=taps,
        input_size=(6, 6),
        preprocess=lambda pixels: pixels / 255,
        tensor=lambda tap: model.get_layer(taps[tap]).output,
    )


@pytest.fixture(scope="module")
def linear_network(keras):
    def build(image):
        x = keras.layers.Conv2D(4, 3, activation="relu", name="conv")(image)
        x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
        return keras.layers.Dense(5, name="logits")(x)

    return network(keras, build, conv="conv", pool="pool", logits="logits")


def vector(d, tap="", seed=0):
    direction = np.random.default_rng(seed).normal(size=d)
    return RCV(direction / np.linalg.norm(direction), 0.0, 1.0, r2=0.5, angle=10.0, tap=tap)


def images(n):
    return np.random.default_rng(0).integers(0, 256, size=(n, 6, 6, 3), dtype=np.uint8)


@pytest.mark.parametrize("tap", ["conv", "pool"])
@pytest.mark.parametrize("step", [0.001, 0.5])
def test_a_network_that_is_linear_after_the_tap_gives_the_exact_derivative(linear_network, tap, step):
    from scalelib.concepts import sensitivity

    rcv = vector(4, tap)
    kernel = np.asarray(linear_network.model.get_layer("logits").get_weights()[0], np.float64)
    for output in range(5):
        found = sensitivity(linear_network, rcv, images(3), output=output, step=step)
        expected = rcv.direction @ kernel[:, output]
        assert found == pytest.approx(np.full(3, expected), rel=2e-3, abs=1e-4)


def test_a_curved_network_gives_the_derivative_by_the_chain_rule(keras):
    from scalelib.concepts import sensitivity

    def build(image):
        x = keras.layers.Conv2D(4, 3, name="conv")(image)
        x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
        return keras.layers.Dense(3, activation="softmax", name="softmax")(x)

    net = network(keras, build, conv="conv", pool="pool")
    rcv = vector(4, "conv")
    kernel, bias = (np.asarray(w, np.float64) for w in net.model.get_layer("softmax").get_weights())
    reader = keras.Model(net.model.inputs[0], net.tensor("pool"))
    pooled = np.asarray(reader.predict(images(3) / np.float32(255), verbose=0), np.float64)
    logits = pooled @ kernel + bias
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    along = rcv.direction @ kernel
    expected = p[:, 1] * (along[1] - p @ along)
    assert sensitivity(net, rcv, images(3), output=1) == pytest.approx(expected, rel=1e-2, abs=1e-4)


def test_activations_of_the_tap_serve_as_well_as_images(linear_network, keras):
    from scalelib.concepts import sensitivity

    reader = keras.Model(linear_network.model.inputs[0], linear_network.tensor("conv"))
    maps = np.asarray(reader.predict(images(5) / np.float32(255), verbose=0))
    one = sensitivity(linear_network, vector(4, "conv"), images(5), output=2)
    two = sensitivity(linear_network, vector(4, "conv"), maps, output=2, from_tap=True, batch_size=2)
    assert two == pytest.approx(one, rel=1e-3)
    dead = sensitivity(linear_network, vector(4, "conv"), np.zeros((1, 4, 4, 4)), output=2, from_tap=True)
    assert np.isfinite(dead).all()


def test_images_of_other_sizes_and_lists_are_read(linear_network):
    from scalelib.concepts import sensitivity

    pictures = [np.zeros((9, 12, 3), np.uint8), np.full((6, 6, 3), 200, np.uint8)]
    assert sensitivity(linear_network, vector(4, "conv"), pictures, output=0).shape == (2,)


def test_what_lies_beside_the_tap_is_refused(keras):
    from scalelib.concepts import sensitivity

    def build(image):
        x = keras.layers.Conv2D(4, 3, padding="same", name="inside")(image)
        x = keras.layers.Concatenate(name="block")([x, image])
        x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
        return keras.layers.Dense(2, name="logits")(x)

    net = network(keras, build, inside="inside", block="block", logits="logits")
    assert sensitivity(net, vector(7, "block"), images(2), output=0).shape == (2,)
    with pytest.raises(NetworkError, match="depend on the tap 'inside' alone"):
        sensitivity(net, vector(4, "inside"), images(2), output=0)


@pytest.mark.parametrize(
    ("rcv", "options", "error", "words"),
    [
        (vector(4), {}, DataError, "rcv.tap is empty"),
        (vector(5, "conv"), {}, DataError, "Received: 5 and 4"),
        (vector(4, "conv"), {"output": 5}, NetworkError, "unit 5"),
        (vector(4, "conv"), {"output": -1}, NetworkError, "unit -1"),
        (vector(4, "conv"), {"of": "conv"}, NetworkError, "one unit of a vector"),
        (vector(5, "logits"), {}, NetworkError, "after the tap"),
        (vector(4, "logits"), {"of": "pool"}, NetworkError, "alone"),
        (vector(4, "conv"), {"step": 0.0}, DataError, "step"),
        (vector(4, "conv"), {"from_tap": True}, DataError, "any, any, 4|4, 4, 4"),
    ],
)
def test_sensitivities_that_make_no_sense_are_refused(linear_network, rcv, options, error, words):
    from scalelib.concepts import sensitivity

    with pytest.raises(error, match=words):
        sensitivity(linear_network, rcv, images(2), **{"output": 0, **options})


def test_no_image_at_all_is_refused(linear_network):
    from scalelib.concepts import sensitivity

    with pytest.raises(DataError):
        sensitivity(linear_network, vector(4, "conv"), iter([]), output=0)


def test_fitting_needs_no_keras():
    import subprocess
    import sys

    code = "import sys; import scalelib.regression, scalelib.concepts; sys.exit('keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
