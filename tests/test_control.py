"""The control network: its taps, its shipped weights against the model card, and how it is trained."""

from __future__ import annotations

import json

import numpy as np
import pytest
from built import eager, scenes
from sklearn.linear_model import RidgeCV

from scalelib import control
from scalelib.control import ASSETS, INPUT_SIZE, TAPS, WEIGHTS, preprocess
from scalelib.errors import WeightsError
from scalelib.graph import keras
from scalelib.networks import load_network
from scalelib.results import digest_file
from studies.rendered.scenes import CLASSES, SCALES, render_paired_scenes, render_scenes
from studies.s02_resizing import variance_explained_by_scale
from workflow import train_control
from workflow.train_control import CARD, TRAINED_SCALES, Settings, accuracy_by_scale, main, train


def load_control(weights="all_scales", **options):
    return load_network("control", weights=weights, **options).model


@pytest.fixture(scope="module")
def card():
    return json.loads((ASSETS / CARD).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def fresh():
    return scenes()


@pytest.fixture(scope="module")
def networks():
    return {name: load_control(name) for name in (*WEIGHTS, "random")}


def read_taps(model: keras.Model, images: np.ndarray) -> dict[str, np.ndarray]:
    outputs = [model.get_layer(layer).output for layer in TAPS.values()]
    pooled = [keras.layers.GlobalAveragePooling2D()(x) if len(x.shape) == 4 else x for x in outputs]
    features = keras.Model(model.input, pooled).predict(preprocess(images), batch_size=100, verbose=0)
    return dict(zip(TAPS, features, strict=True))


# architecture


def test_taps_run_from_input_to_output_and_end_in_logits_and_probabilities(networks, fresh):
    model = networks["all_scales"]
    assert model.count_params() < 400_000
    assert (model.input_shape, model.output_shape) == ((None, *INPUT_SIZE, 3), (None, len(CLASSES)))
    order = [layer.name for layer in model.layers]
    positions = [order.index(layer) for layer in TAPS.values()]
    assert positions == sorted(positions)
    assert [next(iter(TAPS)), *list(TAPS)[-2:]] == ["conv1", "pre_softmax", "softmax"]
    taps = read_taps(model, fresh.images[:20])
    assert all((taps[tap] >= 0).all() for tap in TAPS if tap.startswith("conv"))
    assert (taps["pre_softmax"] < 0).any()
    e = np.exp(taps["pre_softmax"] - taps["pre_softmax"].max(axis=1, keepdims=True))
    np.testing.assert_allclose(taps["softmax"], e / e.sum(axis=1, keepdims=True), atol=1e-5)


def test_random_weights_come_from_their_seed_alone():
    first = load_control("random", weights_seed=1).get_weights()
    again, other = (load_control("random", weights_seed=seed).get_weights() for seed in (1, 2))
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    kernels = [k for k, w in enumerate(first) if w.ndim > 1]
    assert not any((first[k] == other[k]).all() for k in kernels)
    assert not any(np.array_equal(first[a], first[b]) for a in kernels for b in kernels if a < b)


def test_unknown_absent_and_truncated_weights_are_refused(tmp_path):
    cut = tmp_path / "cut.weights.h5"
    cut.write_bytes((ASSETS / "control_one_scale.weights.h5").read_bytes()[:100_000])
    for weights, rule in (
        ("al_scales", "'all_scales'"),
        (tmp_path / "no.weights.h5", "there is no file"),
        (cut, "damaged"),
    ):
        with pytest.raises(WeightsError, match=rule):
            load_control(weights)


# what ships


@pytest.mark.parametrize("name", WEIGHTS)
def test_shipped_weights_are_those_on_the_card_measured_on_scenes_apart(card, name):
    entry, file = card["networks"][name], ASSETS / f"control_{name}.weights.h5"
    assert (file.name, digest_file(file)) == (entry["file"], entry["sha256"])
    assert file.stat().st_size == entry["bytes"] < 2_000_000
    assert card["classes"] == list(CLASSES)
    assert card["parameters"] == load_control("random").count_params()
    assert entry["scales"] == list(TRAINED_SCALES[name])
    assert entry["environment"]["packages"]["keras"]
    assert entry["held_out"]["random_state"] != entry["training_scenes"]["random_state"]
    assert entry["held_out"]["digest"] != entry["training_scenes"]["digest"]


def test_the_twins_differ_in_the_scales_of_their_training_scenes_alone(card):
    a, b = (card["networks"][name] for name in WEIGHTS)
    assert a["settings"] == b["settings"]
    assert a["training_scenes"]["random_state"] == b["training_scenes"]["random_state"]
    assert a["held_out"]["digest"] == b["held_out"]["digest"]
    assert a["scales"] == list(SCALES)
    low, high = b["scales"]
    assert SCALES[0] < low < high < SCALES[1]
    assert SCALES[1] / SCALES[0] >= 4


def test_the_all_scales_network_names_objects_at_every_scale_as_its_card_says(card, networks, fresh):
    found = accuracy_by_scale(networks["all_scales"], fresh)
    stated = card["networks"]["all_scales"]["held_out"]
    assert min(found["accuracy"], stated["accuracy"]) >= 0.90
    for here, there in zip(found["by_scale"], stated["by_scale"], strict=True):
        assert here["scale"] == there["scale"]
        assert min(here["accuracy"], there["accuracy"]) >= 0.75
        p = there["accuracy"]
        assert abs(here["accuracy"] - p) < 4 * np.sqrt(p * (1 - p) / here["images"]) + 0.01
    counts, parts = np.array([[part["images"], part["accuracy"]] for part in found["by_scale"]]).T
    assert counts.sum() == len(fresh.images) == found["images"]
    assert (counts * parts).sum() / counts.sum() == pytest.approx(found["accuracy"], abs=2e-4)
    named = networks["all_scales"].predict(preprocess(fresh.images), verbose=0).argmax(axis=1)
    right = np.array(CLASSES)[named] == fresh.table.object_class
    assert found["accuracy"] == pytest.approx(right.mean(), abs=1e-3)


def test_the_twin_names_objects_at_its_own_scale_and_not_at_others(networks):
    own = render_scenes(500, scales=TRAINED_SCALES["one_scale"], random_state=31_338)
    small = render_scenes(500, scales=(0.2, 0.25), random_state=31_338)
    own_accuracy = accuracy_by_scale(networks["one_scale"], own, bins=1)["accuracy"]
    assert own_accuracy >= 0.90
    assert accuracy_by_scale(networks["one_scale"], small, bins=1)["accuracy"] < own_accuracy - 0.3


# what training does to scale


def test_training_at_all_scales_takes_scale_out_of_the_last_layers(networks):
    """The causal contrast: same scenes, object scale alone changed, same recipe of training."""
    pairs = render_paired_scenes(100, random_state=31_339)
    table, last = pairs.table, [list(TAPS)[-3], "pre_softmax"]
    shares = {}
    for name in WEIGHTS:
        acts = read_taps(networks[name], pairs.images)
        found = variance_explained_by_scale(
            {tap: acts[tap] for tap in last}, table.scene.to_numpy(), table.scale.to_numpy(),
            within=table.object_class,
        )  # fmt: skip
        shares[name] = found.variance_explained.to_numpy()
    assert (shares["one_scale"] > shares["all_scales"] + 0.3).all()


def test_training_makes_scale_readable_where_random_weights_do_not(networks, fresh):
    scale, rows = fresh.table.sqrt_area_ratio.to_numpy(), np.arange(1400)
    best = {}
    for name in ("all_scales", "random"):
        taps = read_taps(networks[name], fresh.images)
        standard = [(x - x[rows].mean(axis=0)) / (x[rows].std(axis=0) + 1e-9)
                    for tap, x in taps.items() if tap.startswith("conv")]  # fmt: skip
        fits = [RidgeCV(np.logspace(-3, 6, 19)).fit(x[rows], scale[rows]) for x in standard]
        best[name] = max(fit.score(x[1400:], scale[1400:]) for fit, x in zip(fits, standard, strict=True))
    assert best["random"] <= 0.2
    assert best["all_scales"] > best["random"] + 0.2


# training


def tiny(*, classes: int, seed: int = 0) -> keras.Model:
    """In the control network's place, whose training takes seconds to compile."""
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    return keras.Sequential(
        [keras.Input((*INPUT_SIZE, 3)), layers.Conv2D(4, 3, strides=4), layers.BatchNormalization(),
         layers.GlobalAveragePooling2D(), layers.Dense(classes, activation="softmax")]
    )  # fmt: skip


@pytest.mark.parametrize("small", [True, pytest.param(False, marks=pytest.mark.exhaustive)])
@eager()
def test_a_stopped_training_goes_on_to_the_same_weights(tmp_path, monkeypatch, small):
    build = tiny if small else control.build_control
    monkeypatch.setattr(control, "build_control", build)
    settings = Settings(seed=3, images=96, epochs=3, warmup=2)
    whole = train("one_scale", settings=settings, folder=tmp_path / "whole", held_out=50)
    batches = train_control._Batches

    def stop_in_the_third(images, labels, settings, epoch):
        if epoch == 2:
            raise KeyboardInterrupt
        return batches(images, labels, settings, epoch)

    monkeypatch.setattr(train_control, "_Batches", stop_in_the_third)
    with pytest.raises(KeyboardInterrupt):
        train("one_scale", settings=settings, folder=tmp_path / "parts", held_out=50)
    monkeypatch.setattr(train_control, "_Batches", batches)
    assert not (tmp_path / "parts" / whole["file"]).exists()
    resumed = train("one_scale", settings=settings, folder=tmp_path / "parts", held_out=50)
    models = [build(classes=len(CLASSES), seed=seed) for seed in (0, 1)]
    for model, part in zip(models, ("whole", "parts"), strict=True):
        model.load_weights(tmp_path / part / whole["file"])
    for a, b in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)
    assert resumed["held_out"]["accuracy"] == pytest.approx(whole["held_out"]["accuracy"], abs=0.03)
    assert resumed["last_epoch"].keys() == whole["last_epoch"].keys() == {"loss", "accuracy"}
    assert whole["seconds"] > 0
    assert resumed["seconds"] is None
    assert [file.name for file in (tmp_path / "parts").iterdir()] == [whole["file"]]


@eager()
def test_the_command_writes_weights_and_card_and_can_repeat_itself(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(control, "build_control", tiny)
    monkeypatch.setitem(train_control.train.__kwdefaults__, "held_out", 50)
    options = ["--network", "all_scales", "--images", "64", "--epochs", "1", "--seed", "5"]
    assert main([*options, "--folder", str(tmp_path)]) == 0
    card = json.loads((tmp_path / CARD).read_text())
    assert card["networks"]["all_scales"]["sha256"] == digest_file(tmp_path / "control_all_scales.weights.h5")
    again = ["--network", "all_scales", "--again", str(tmp_path / CARD), "--folder", str(tmp_path / "again")]
    assert main(again) == 0
    repeats = json.loads((tmp_path / CARD).read_text())["networks"]["all_scales"]["repeats"]
    assert len(repeats) == 1
    assert f"{0:.2%} from the card's" in capsys.readouterr().out


@pytest.mark.parametrize("options", [["--images", "8"], ["--again", "nowhere.json"]])
def test_too_few_images_and_cards_that_are_none_are_refused(tmp_path, options):
    assert main([*options, "--folder", str(tmp_path)]) == 2
