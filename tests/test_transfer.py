"""Training resumes after any kill, in an order of its own; what a profile plans is what is trained, collected and put to work."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from built import eager
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from scalelib.datasets import Dataset
from scalelib.errors import ResultsError
from scalelib.graph import keras
from scalelib.slides.magnification import fit_estimator
from studies import s05_runs as runs
from studies import training
from studies.plan import SEEDS
from studies.rendered.slide import load_rendered
from studies.s05_transfer import as_published
from studies.training import STATE, NotFinite, Schedule, epoch_order, train, turned
from studies.transfer_scores import class_means

ROOT = Path(__file__).parent.parent
SPEC = {
    "name": "MobileNet", "label": "tiny", "weights": "random", "alpha": 0.25, "include_top": False,
    "full_tap": "conv_pw_2", "transfer_seeds": 2, "targets": ["area", "log2_magnification"],
}  # fmt: skip
TINY = {"name": "control", "label": "tiny", "weights": "random", "full_tap": "conv2", "transfer_seeds": 2,
        "targets": ["area", "log2_magnification"]}  # fmt: skip
CURVE = ["epoch", "loss", "val_loss", "val_mae"]


# one training


def discs(n: int = 96) -> tuple[pd.DataFrame, np.ndarray]:
    """Patches of one dark disc each, whose area is the target; twelve slides, eight of them to train."""
    rng = np.random.default_rng(0)
    magnification = rng.choice([10.0, 20.0, 40.0], n)
    area = magnification**2 / 6 * rng.uniform(0.8, 1.2, n)
    y, x = np.mgrid[:32, :32]
    centre = rng.uniform(13, 19, (n, 2))
    inside = (y - centre[:, :1, None]) ** 2 + (x - centre[:, 1:, None]) ** 2 < (area / np.pi)[:, None, None]
    images = np.repeat((230 - 150 * inside[..., None]).astype(np.uint8), 3, axis=3)
    slide = np.arange(n) % 12
    split = np.where(slide < 8, "train", np.where(slide < 10, "validation", "test"))
    table = pd.DataFrame(
        {"image": [f"p{i}" for i in range(n)], "slide": [f"s{s}" for s in slide], "split": split,
         "magnification": magnification, "mpp": 10 / magnification, "mean_area_px": area}
    )  # fmt: skip
    return table, images


def small_model() -> keras.Model:
    keras.utils.set_random_seed(0)
    layers = keras.layers
    return keras.Sequential(
        [keras.Input((32, 32, 3)), layers.Conv2D(8, 3, strides=2), layers.BatchNormalization(), layers.ReLU(),
         layers.Dropout(0.2), layers.GlobalAveragePooling2D(), layers.Dense(1)]
    )  # fmt: skip


def fit(folder: Path, *, model: keras.Model | None = None, factor: float = 1.0, data: str = "", **options):
    """The learning curve, and what predicts."""
    table, images = discs()
    return train(
        model or small_model(), images, table.mean_area_px.to_numpy() * factor,
        train_rows=np.flatnonzero(table.split == "train"),
        validation_rows=np.flatnonzero(table.split == "validation"),
        preprocess=lambda x: x / 127.5 - 1, folder=folder, name="a run", identity={"data": data}, seed=1,
        schedule=Schedule(**{"epochs": 3, "batch_size": 16, "learning_rate": 1e-2, **options}),
    )  # fmt: skip


def test_order_depends_on_seed_and_epoch_and_is_that_of_the_archived_runs():
    rows = np.arange(50)
    orders = {epoch_order(rows, seed=s, epoch=e)[0].tobytes() for s in (1, 2) for e in (1, 2) for _ in "ab"}
    assert len(orders) == 4
    patches = {turned(np.arange(27).reshape(3, 3, 3), turn).tobytes() for turn in range(8)}
    assert len(patches) == 8
    order, turns = epoch_order(np.arange(6), seed=1001, epoch=1)
    assert (order.tolist(), turns.tolist()) == ([4, 5, 3, 2, 1, 0], [2, 6, 0, 3, 7, 7])


def test_training_learns_and_keeps_the_best_validation_weights(tmp_path):
    history, predict = fit(tmp_path, epochs=10, batchnorm_momentum=0.5)
    table, _ = discs()
    rows = np.flatnonzero(table.split == "validation")
    error = predict(rows) - table.mean_area_px.to_numpy()[rows]
    best = history.loc[history.val_loss.idxmin()]
    assert np.abs(error).mean() == pytest.approx(best.val_mae, rel=1e-4)
    assert best.val_loss < 0.9
    assert history.loss.iloc[-1] < 0.5 * history.loss.iloc[0]


@eager()
def test_patience_stops_after_epochs_without_a_better_one(tmp_path):
    """The same epochs as without patience, up to the stop, and a rerun trains nothing more."""
    options = {"epochs": 12, "learning_rate": 0.3}
    whole, _ = fit(tmp_path / "whole", **options)
    late = whole.epoch - whole.val_loss.cummin().map(lambda best: whole.epoch[whole.val_loss == best].iloc[0])
    expected = int(whole.epoch[late >= 2].min())
    assert expected < 12
    stopped, _ = fit(tmp_path / "stopped", **options, patience=2)
    assert stopped.epoch.max() == expected
    assert np.allclose(stopped.val_loss, whole.val_loss[:expected], rtol=1e-4)
    assert stopped.val_loss.idxmin() == expected - 3
    assert fit(tmp_path / "stopped", **options, patience=2)[0].equals(stopped)


@pytest.mark.parametrize(
    "precision", ["float32", "mixed_bfloat16", pytest.param("mixed_float16", marks=pytest.mark.exhaustive)]
)
def test_going_on_equals_not_having_stopped(tmp_path, precision):
    """Weights, optimiser, dropout's generator, best weights and order; half precision trains close to single."""
    models = small_model(), small_model()
    whole, _ = fit(tmp_path / "whole", model=models[0], epochs=5, augment=True, precision=precision)
    first, _ = fit(tmp_path / "parts", epochs=2, augment=True, precision=precision)
    parts, _ = fit(tmp_path / "parts", model=models[1], epochs=5, augment=True, precision=precision)
    assert parts[:2].equals(first)
    assert np.allclose(whole[CURVE], parts[CURVE], rtol=1e-5)
    for a, b in zip(*(model.get_weights() for model in models), strict=True):
        assert np.allclose(a.astype(float), b.astype(float), rtol=1e-4, atol=1e-6)
    single, _ = fit(tmp_path / "single", epochs=2, augment=True)
    assert whole.loss[:2].to_numpy() == pytest.approx(single.loss.to_numpy(), rel=0.15)
    assert models[0].layers[0].compute_dtype == precision.removeprefix("mixed_")
    assert models[0].layers[-1].compute_dtype == "float32"


@eager()
def test_the_state_of_another_run_is_refused(tmp_path):
    fit(tmp_path, data="a", epochs=2)
    for change, rule in (
        ({"data": "b"}, "another run than a run.\nReceived: data: 'a' there, 'b' wanted"),
        ({"data": "a", "learning_rate": 1.0}, "another run"),
        ({"data": "a", "epochs": 1}, "longer than wanted"),
    ):
        with pytest.raises(ResultsError, match=rule):
            fit(tmp_path, **change)


@eager()
def test_losses_that_are_not_finite_stop_the_run_and_keep_the_last_good_state(tmp_path, monkeypatch):
    good, _ = fit(tmp_path, epochs=2)
    before = (tmp_path / STATE).read_bytes()
    batches = training.batches_of
    monkeypatch.setattr(
        training, "batches_of", lambda *a, **how: ((x * np.nan, y) for x, y in batches(*a, **how))
    )
    with pytest.raises(NotFinite, match="the loss of a run is not finite in epoch 3"):
        fit(tmp_path, epochs=4)
    monkeypatch.undo()
    assert (tmp_path / STATE).read_bytes() == before
    assert fit(tmp_path, epochs=2)[0].equals(good)


@pytest.mark.parametrize("mode", ["train", "frozen"])
@eager()
def test_frozen_batchnorm_keeps_its_statistics_and_training_moves_them(tmp_path, mode):
    model = small_model()
    norm = model.layers[1]
    before = norm.get_weights()
    fit(tmp_path, model=model, batchnorm=mode, batchnorm_momentum=0.5)
    kept = all(np.array_equal(a, b) for a, b in zip(before, norm.get_weights(), strict=True))
    assert (kept, norm.momentum) == (mode == "frozen", 0.5)


@eager()
def test_standardised_targets_do_not_depend_on_their_units(tmp_path):
    (px, _), (other, _) = fit(tmp_path / "px"), fit(tmp_path / "other", factor=1000.0)
    assert np.allclose(px.loss, other.loss, rtol=1e-4)
    assert np.allclose(px.val_mae * 1000, other.val_mae, rtol=1e-4)


# what is planned


def test_plan_takes_the_papers_seeds_in_its_order_and_keeps_what_says_which_network() -> None:
    given = {**SPEC, "seeds": [3], "weights_label": "x"}
    [plan] = runs.plan_transfer([given], {"tiny": "conv_pw_1"}, schedule={"epochs": 7, "learning_rate": 0.1})
    assert plan.seeds == SEEDS[:2]
    assert plan.targets == ("area", "log2_magnification")
    assert plan.schedule == Schedule(epochs=7, learning_rate=0.1)
    assert plan.network.options == {"alpha": 0.25, "include_top": False, "taps": ["conv_pw_1", "conv_pw_2"]}
    assert (plan.network.full_tap, plan.network.pruned_tap) == ("conv_pw_2", "conv_pw_1")
    assert (plan.network.label, plan.network.weights) == ("tiny", "random")
    [own] = runs.plan_transfer(
        [{**SPEC, "learning_rate": 0.3}], {"tiny": "conv_pw_2"}, schedule={"epochs": 7}
    )
    assert own.schedule == Schedule(epochs=7, learning_rate=0.3)
    assert own.network.options["taps"] == ["conv_pw_2"]
    with pytest.raises(ResultsError, match=r"no tap was chosen for tiny\.\nReceived: taps for tinny"):
        runs.plan_transfer([SPEC], {"tinny": "conv_pw_1"})


def test_rows_have_their_own_seeds_and_a_tap_is_a_row_pruned_there() -> None:
    given = {**SPEC, "transfer_seeds": {"pretrained": 2, "conv_pw_1": 1}, "targets": ["area"]}
    [plan] = runs.plan_transfer([given], {})
    first, second = SEEDS[:2]
    assert plan.rows == {"pretrained": (first, second), "conv_pw_1": (first,)}
    cut, full = f"tiny_pruned_conv_pw_1_area_{first}", "tiny_pretrained_conv_pw_2_area"
    expected = {f"{full}_{first}": "pretrained", cut: "cut", f"{full}_{second}": "pretrained"}
    assert list(runs.planned_runs([plan]).items()) == list(expected.items())  # one seed after the other
    by_rule = {"pruned": 1, "conv_pw_1": 1}
    [rule] = runs.plan_transfer([{**given, "transfer_seeds": by_rule}], {"tiny": "conv_pw_1"})
    assert runs.planned_runs([rule]) == {cut: "pruned"}  # the same run, whoever chose its tap


def test_networks_that_are_only_read_are_planned_without_runs_and_random_ones_are_those_trained_from_scratch() -> (
    None
):
    scratch = {"name": "ResNet50", "include_top": False, "target_scaling": "standard"}
    given = {
        "name": "some.keras",
        "label": "some",
        "full_tap": "add16",
        "scratch": scratch,
        "transfer_seeds": {},
    }
    [plan] = runs.plan_transfer([{**given, "target_scaling": "none"}], {})
    assert (plan.seeds, runs.planned_runs([plan]), plan.schedule.target_scaling) == ((), {}, "none")
    trained, random = runs.read_out_specs([given], size=96)
    assert trained == {
        "name": "some.keras",
        "label": "some",
        "weights": "imagenet",
        "weights_label": "trained",
        "input_size": 96,
    }
    assert random == {
        **trained,
        "name": "ResNet50",
        "include_top": False,
        "weights": "random",
        "weights_label": "random",
    }


@eager()
def test_each_row_takes_the_rate_with_the_smallest_validation_loss_and_keeps_it(tmp_path: Path) -> None:
    own = {"learning_rate": [0.1, 1e-9, 0.01], "scratch": {"batchnorm": "frozen"}}
    given = {**TINY, **own, "targets": ["area"], "transfer_seeds": {"scratch": 1}}
    [plan] = runs.plan_transfer([given], {}, schedule={"epochs": 1})
    assert runs.run_plans([plan], *discs(48), tmp_path) == {}
    losses = {
        float(path.parts[-3]): pd.read_csv(path).val_loss for path in tmp_path.glob("rates/*/*/history.csv")
    }
    assert sorted(losses) == [1e-9, 0.01, 0.1]
    assert all(len(found) == runs.TUNING_EPOCHS for found in losses.values())
    [done] = tmp_path.glob("*/run.json")
    schedule = json.loads(done.read_text("utf-8"))["wanted"]["schedule"]
    assert schedule["learning_rate"] == min(losses, key=lambda rate: losses[rate].min()) != 1e-9
    assert (schedule["epochs"], schedule["batchnorm"]) == (1, "frozen")
    trained = runs.collect(tmp_path).runs
    assert runs.rates_tried(tmp_path, trained.assign(network="another")).empty
    tried = runs.rates_tried(tmp_path, trained)
    assert {rate: part.val_loss.tolist() for rate, part in tried.groupby("learning_rate")} == {
        rate: found.tolist() for rate, found in losses.items()
    }


# what is trained and collected

Study = tuple[Dataset, list[runs.PlannedTransfer], np.ndarray, Path]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Two seeds of a tiny network, all rows and targets, on rendered slides."""
    folder = tmp_path_factory.mktemp("study")
    cut = {"slide_size": 512, "size": 32, "magnifications": [10, 40], "max_per_slide": 6}
    data = load_rendered(folder / "slides", n_slides=(2, 2, 2), **cut)
    plans = runs.plan_transfer([TINY], {"tiny": "conv1"}, schedule={"epochs": 2, "batchnorm_momentum": 0.5})
    images = np.stack([data.images[i] for i in range(len(data.images))])
    with eager():
        assert runs.run_plans(plans, data.table, images, folder / "runs", data_digest=data.digest) == {}
    return data, plans, images, folder / "runs"


def test_every_planned_run_is_trained_collected_and_left_alone(study: Study) -> None:
    data, plans, images, folder = study
    names = runs.planned_runs(plans)
    assert len(names) == len(set(names)) == 3 * 2 * 2
    assert len(runs.collect(folder, names=list(names)[:5]).runs) == 5
    found = runs.collect(folder, names=names)
    assert len(found.runs) == 12
    pruned = runs.kept(found.runs).groupby(found.runs.row).first()
    assert pruned["pruned"] < pruned["scratch"] == pruned["pretrained"] == 1
    elsewhere = runs.collect(folder, names=dict.fromkeys(names, "cut"))
    assert all(set(t.row) == {"cut"} for t in (elsewhere.predictions, elsewhere.history, elsewhere.runs))
    assert set(found.predictions.split) == {"validation", "test"}
    assert not list(folder.glob(f"*/{STATE}"))
    stamps = {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}
    runs.run_plans(plans, data.table, images, folder, data_digest=data.digest)
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()} == stamps
    with pytest.raises(ResultsError, match="other data or with another schedule"):
        runs.train_transfer(plans[0].network, "pruned", data.table, images, folder, seed=SEEDS[0],
                       schedule=plans[0].schedule, data_digest="another")  # fmt: skip
    with pytest.raises(ResultsError, match="no finished run"):
        runs.collect(folder, names=["another"])
    with pytest.raises(ValueError, match="'size'"):
        runs.target_values(data.table, "size")


@eager()
def test_a_run_whose_loss_is_not_finite_is_named_and_the_others_are_trained(
    study: Study, tmp_path: Path
) -> None:
    data, [plan], images, _ = study
    table = data.table.assign(mean_area_px=np.nan)
    only = replace(plan, rows={"pruned": plan.seeds})
    failed = runs.run_plans([only], table, images, tmp_path)
    assert list(failed) == [f"tiny pruned area {seed}" for seed in plan.seeds]
    assert set(runs.collect(tmp_path).runs.target) == {"log2_magnification"}


def test_a_run_is_trained_by_one_process_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def another_process(*_: object, **__: object) -> None:
        [lock] = tmp_path.glob("*/lock")
        with lock.open("a") as own, pytest.raises(BlockingIOError):
            fcntl.flock(own, fcntl.LOCK_EX | fcntl.LOCK_NB)
        tried.append(lock.parent.name)

    monkeypatch.setattr(runs, "train_transfer", another_process)
    [plan] = runs.plan_transfer([SPEC | {"transfer_seeds": 1, "targets": ["area"]}], {"tiny": "conv_pw_1"})
    only = replace(plan, rows={"pruned": plan.seeds})
    runs.run_plans([only], pd.DataFrame(), [], tmp_path)
    assert tried == list(runs.planned_runs([only]))


def test_table_2_stands_below_the_papers_in_its_form(study: Study) -> None:
    data, plans, _, folder = study
    scores = runs.score_runs(runs.collect(folder, names=runs.planned_runs(plans)), class_means(data.table))
    shown = as_published(runs.table_2(scores), pd.read_csv(ROOT / "paper" / "table2.csv"))
    assert shown["source"].tolist() == ["paper"] * 6 + ["ours"] * 3
    assert shown["row"].tolist() == ["full, pretrained", "full, from scratch", "pruned"] * 3
    first = shown.iloc[0][["network", "error (px)", "kappa"]].tolist()
    assert first == ["InceptionV3", "81.85 (11.08)", "0.435 (0.020)"]
    area = scores[(scores.slide == "all") & (scores.target == "area") & (scores.row == "pruned")]
    expected = f"{area.mae_px.mean():.2f} ({area.mae_px.std(ddof=1):.2f})"
    assert shown["error (px)"].iloc[-1] == expected


def test_transferred_networks_predict_again_what_they_predicted_when_they_were_finished(study: Study) -> None:
    data, [plan], images, folder = study
    predictions = runs.collect(folder).predictions
    rows = np.flatnonzero(data.table.split != "train")
    patches = {"a": images[rows[:5]], "b": images[rows[5:]]}
    for target in plan.targets:
        found = runs.predict_images(
            plan.network, "pruned", patches, folder, data.table, seeds=plan.seeds, target=target
        )
        assert [found["a"].shape, found["b"].shape] == [(2, 5), (2, len(rows) - 5)]
        for place, seed in enumerate(plan.seeds):
            one = (predictions.row == "pruned") & (predictions.target == target) & (predictions.seed == seed)
            stored = predictions[one].set_index("image").predicted.loc[data.table.image.iloc[rows]].to_numpy()
            again = np.concatenate([found["a"][place], found["b"][place]])
            spread = np.ptp(runs.target_values(data.table, target))
            assert again == pytest.approx(stored, rel=1e-4, abs=1e-4 * spread)


def test_unseen_slides_are_estimated_at_known_downsamplings_and_noise_is_refused(study: Study) -> None:
    data, [plan], _, folder = study
    estimator = fit_estimator(data, network=runs.described(plan.network, "conv2"))
    noise = np.random.default_rng(0).integers(0, 255, (128, 128, 3), dtype=np.uint8)
    slide = f"slides/{data.table.slide[data.table.split == 'test'].iloc[0]}.svs"
    specs = [{"image": slide, "label": "slide", "downsample": [1, 4]}, {"image": noise, "label": "noise"}]
    table, patches = runs.unseen_images(specs, estimator, root=folder.parent)
    assert table.image.tolist() == list(patches) == ["slide", "slide, 4 times smaller", "noise"]
    assert table.magnification.tolist()[:2] == [40.0, 10.0]
    assert np.isnan(table.magnification.iloc[2])
    assert table.refused.iloc[2].startswith("unlike")
    assert table.patches.tolist() == [len(own) for own in patches.values()]
    octaves = runs.predict_images(plan.network, "pruned", patches, folder, data.table, seeds=plan.seeds)
    summary = runs.summarize_images(octaves, 1.0)
    assert np.allclose(summary.transferred_high / summary.transferred_low, 4.0)


def train_one(folder: Path) -> None:
    spec = TINY | {"transfer_seeds": {"pruned": 1}, "targets": ["area"]}
    plans = runs.plan_transfer([spec], {"tiny": "conv1"}, schedule={"epochs": 6})
    runs.run_plans(plans, *discs(), folder)


@pytest.mark.slow
def test_a_run_killed_in_the_middle_of_training_ends_as_if_it_had_not_been(tmp_path):
    train_one(tmp_path / "whole")
    script = "import pathlib, sys; from test_transfer import train_one; train_one(pathlib.Path(sys.argv[1]))"
    paths = os.pathsep.join([str(ROOT / "tests"), str(ROOT / "notebooks"), *sys.path])
    command = [sys.executable, "-c", script, str(tmp_path / "killed")]
    killed = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": paths})
    stored, deadline = 0, time.monotonic() + 90
    while stored < 3 and time.monotonic() < deadline:
        time.sleep(0.002)
        states = list((tmp_path / "killed").glob(f"*/{STATE}"))
        stored = len(epochs_of(states[0])) if states else 0
    os.kill(killed.pid, signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    assert not list((tmp_path / "killed").glob("*/run.json"))
    before = epochs_of(states[0])
    assert 3 <= len(before) < 6
    train_one(tmp_path / "killed")
    whole, again = runs.collect(tmp_path / "whole"), runs.collect(tmp_path / "killed")
    # what was trained before the kill was not trained again: not even its times differ
    assert again.history.seconds.tolist()[: len(before)] == [row["seconds"] for row in before]
    assert np.allclose(whole.predictions.predicted, again.predictions.predicted, rtol=1e-4)
    assert np.allclose(whole.history[CURVE], again.history[CURVE], rtol=1e-4)


def epochs_of(state: Path) -> list[dict[str, float]]:
    with np.load(state) as file:
        return json.loads(str(file["meta"]))["history"]


# read-outs


def read_outs(**noise: float) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    magnification, slide = np.tile([5.0, 8.0, 10.0, 15.0, 20.0, 30.0, 40.0], 60), np.arange(420) // 7 % 10
    split = np.where(slide < 5, "train", np.where(slide < 8, "validation", "test"))
    area = magnification**2 * rng.uniform(0.4, 0.6, 420)
    table = pd.DataFrame({"split": split, "slide": [f"s{s}" for s in slide], "magnification": magnification,
                          "mpp": 10 / magnification, "mean_area_px": area})  # fmt: skip
    octaves = np.log2(magnification)[:, None] * rng.normal(1, 0.3, (1, 12))
    return table, {tap: octaves + rng.normal(0, scale, (420, 12)) for tap, scale in noise.items()}


def test_read_out_is_ridge_on_standardised_features_of_training_patches_only():
    table, acts = read_outs(tap=1.0)
    found = runs.read_out(acts, table, network="n").query("target == 'area'")
    found = found[found.tap == "tap"]
    train = (table.split == "train").to_numpy()
    scaled = StandardScaler().fit(acts["tap"][train]).transform(acts["tap"])
    worst = [
        np.abs(Ridge(alpha=alpha).fit(scaled[train], table.mean_area_px[train]).predict(scaled[~train])
               - found.predicted.to_numpy()).max()
        for alpha in 12 * 10.0 ** np.arange(-3, 4.0625, 0.125)  # shares of the variance of 12 channels
    ]  # fmt: skip
    assert min(worst) < 1e-4  # one penalty of the grid gives these very predictions
    acts["tap"][419] = 9  # a test patch
    other = runs.read_out(acts, table, network="n").query("target == 'area'")
    assert np.allclose(other[other.tap == "tap"].predicted[:-1], found.predicted[:-1])
