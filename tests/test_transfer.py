"""Training: resumable after any kill, deterministic in its order, explicit in every choice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scalelib.errors import ResultsError, ScalelibError
from scalelib.graph import keras
from studies.s05_runs import (
    ROWS,
    SEEDS,
    TransferNetwork,
    collect,
    run_transfer,
    score_runs,
    table_2,
    train_transfer,
)
from studies.training import (
    STATE,
    Batches,
    Schedule,
    epoch_order,
    model_variables,
    read_state,
    train,
    turned,
    values,
)
from studies.transfer_scores import class_means

NETWORK = TransferNetwork(
    "tiny", "MobileNet", "conv_pw_3", "conv_pw_1", weights="random",
    options={"alpha": 0.25, "include_top": False},
)  # fmt: skip


def discs(n: int = 96, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    """Patches of one dark disc each, whose area is the target; twelve slides, eight of them to train."""
    rng = np.random.default_rng(seed)
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


def small_model(seed: int = 0, dropout: float = 0.0) -> keras.Model:
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            keras.layers.Conv2D(8, 3, strides=2),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
            keras.layers.Dropout(dropout),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(1),
        ]
    )


def fit(
    folder: Path, *, model: keras.Model | None = None, seed: int = 1, target_factor: float = 1.0, **options
):
    table, images = discs()
    identity = options.pop("identity", {})
    return train(
        model if model is not None else small_model(dropout=0.2), images,
        table.mean_area_px.to_numpy() * target_factor,
        train_rows=np.flatnonzero(table.split == "train"),
        validation_rows=np.flatnonzero(table.split == "validation"),
        preprocess=lambda x: x / 127.5 - 1, folder=folder, name="a run", identity=identity, seed=seed,
        schedule=Schedule(**{"epochs": 3, "batch_size": 16, "learning_rate": 1e-2, **options}),
    )  # fmt: skip


def test_defaults_are_the_papers():
    schedule = Schedule()
    assert (schedule.epochs, schedule.batch_size, schedule.learning_rate) == (5, 32, 1e-4)
    assert SEEDS == (1001, 1003, 1005, 1006, 1008, 2009, 2020, 994, 747, 1456)
    assert ROWS == ("pretrained", "scratch", "pruned")


@pytest.mark.parametrize("batch_size", [1, 4, 5, 100])
def test_batches_hold_every_row_once_in_order(batch_size):
    images = np.arange(13, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 3), np.uint8)
    order = np.random.default_rng(0).permutation(13)
    data = Batches(images, np.arange(13.0), order, lambda x: x, batch_size=batch_size)
    pixels = np.concatenate([data[i][0][:, 0, 0, 0] for i in range(len(data))])
    targets = np.concatenate([data[i][1][:, 0] for i in range(len(data))])
    assert np.array_equal(pixels, order)
    assert np.array_equal(targets, order)


def test_the_eight_turns_are_different_and_keep_every_pixel():
    patch = np.arange(27).reshape(3, 3, 3)
    turns = [turned(patch, t) for t in range(8)]
    assert len({t.tobytes() for t in turns}) == 8
    assert all(np.array_equal(np.sort(t, axis=None), np.arange(27)) for t in turns)


def test_order_depends_on_seed_and_epoch_and_on_nothing_else():
    rows = np.arange(50)
    assert np.array_equal(epoch_order(rows, seed=1, epoch=2)[0], epoch_order(rows, seed=1, epoch=2)[0])
    orders = {epoch_order(rows, seed=s, epoch=e)[0].tobytes() for s in (1, 2) for e in (1, 2)}
    assert len(orders) == 4


def test_training_learns_and_keeps_the_best_validation_weights(tmp_path):
    trained = fit(tmp_path, epochs=10, batchnorm_momentum=0.5)
    table, images = discs()
    rows = np.flatnonzero(table.split == "validation")
    error = trained.predict(images, rows) - table.mean_area_px.to_numpy()[rows]
    best = trained.history.set_index("epoch").loc[trained.best_epoch]
    assert np.abs(error).mean() == pytest.approx(best.val_mae, rel=1e-4)
    assert best.val_loss == trained.history.val_loss.min() < 0.9
    assert trained.history.loss.iloc[-1] < 0.5 * trained.history.loss.iloc[0]


def test_patience_stops_after_epochs_without_a_better_one(tmp_path):
    """The same epochs as without patience, up to the stop, and a rerun trains nothing more."""
    options = {"epochs": 12, "learning_rate": 0.3}
    whole = fit(tmp_path / "whole", **options).history
    late = whole.epoch - whole.val_loss.cummin().map(lambda best: whole.epoch[whole.val_loss == best].iloc[0])
    expected = int(whole.epoch[late >= 2].min())
    assert expected < 12
    stopped = fit(tmp_path / "stopped", **options, patience=2)
    assert stopped.history.epoch.max() == expected
    assert np.allclose(stopped.history.val_loss, whole.val_loss[:expected], rtol=1e-4)
    assert stopped.best_epoch == expected - 2
    lines = (tmp_path / "stopped" / "log.jsonl").read_text().count("epoch finished")
    fit(tmp_path / "stopped", **options, patience=2)
    assert (tmp_path / "stopped" / "log.jsonl").read_text().count("epoch finished") == lines


def test_going_on_from_a_checkpoint_equals_not_having_stopped(tmp_path):
    """Weights, optimiser, dropout's generator, best weights and order: within 1e-5 after three more epochs."""
    whole = fit(tmp_path / "whole", epochs=5, augment=True)
    fit(tmp_path / "parts", epochs=2, augment=True)
    parts = fit(tmp_path / "parts", epochs=5, augment=True)
    columns = ["loss", "val_loss", "val_mae"]
    assert np.allclose(whole.history[columns], parts.history[columns], rtol=1e-5)
    assert whole.best_epoch == parts.best_epoch
    for a, b in zip(values(model_variables(whole.model)), values(model_variables(parts.model)), strict=True):
        assert np.allclose(a.astype(float), b.astype(float), rtol=1e-4, atol=1e-6)


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    fit(tmp_path, identity={"data": "a"})
    for change in ({"identity": {"data": "b"}}, {"identity": {"data": "a"}, "learning_rate": 1.0}):
        with pytest.raises(ResultsError, match="another run"):
            fit(tmp_path, **change)
    with pytest.raises(ResultsError, match="longer than wanted"):
        fit(tmp_path, identity={"data": "a"}, epochs=1)
    with pytest.raises(ResultsError, match="another network"):
        fit(tmp_path, identity={"data": "a"}, model=keras.Sequential([keras.Input((32, 32, 3)),
            keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(1)]))  # fmt: skip


def test_a_damaged_checkpoint_is_refused_by_name(tmp_path):
    fit(tmp_path)
    (tmp_path / STATE).write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(ResultsError, match=r"state\.npz is damaged"):
        fit(tmp_path)


def test_losses_that_are_not_finite_stop_the_run_and_keep_the_last_good_state(tmp_path):
    fit(tmp_path, epochs=2, target_scaling="none")
    before = (tmp_path / STATE).read_bytes()
    broken = small_model(dropout=0.2)
    table, images = discs()
    with pytest.raises(ResultsError, match="the loss of a run is not finite in epoch 3"):
        train(
            broken, images, table.mean_area_px.to_numpy(),
            train_rows=np.flatnonzero(table.split == "train"),
            validation_rows=np.flatnonzero(table.split == "validation"),
            preprocess=lambda x: x * np.float32(np.nan), folder=tmp_path, name="a run", identity={}, seed=1,
            schedule=Schedule(epochs=4, batch_size=16, learning_rate=1e-2, target_scaling="none"),
        )  # fmt: skip
    assert (tmp_path / STATE).read_bytes() == before
    assert json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])["event"] == "not finite"
    meta, groups = read_state(tmp_path)
    assert len(meta["history"]) == 2
    assert all(np.isfinite(a).all() for a in groups["model"])


def test_frozen_batchnorm_keeps_its_statistics_and_training_moves_them(tmp_path):
    def moved(mode: str) -> bool:
        model = small_model()
        norm = model.layers[1]
        before = [np.array(w) for w in norm.get_weights()]
        fit(tmp_path / mode, model=model, batchnorm=mode)
        return not all(np.array_equal(a, b) for a, b in zip(before, norm.get_weights(), strict=True))

    assert moved("train")
    assert not moved("frozen")


def test_batchnorm_momentum_is_set_where_asked(tmp_path):
    trained = fit(tmp_path, batchnorm_momentum=0.5, epochs=1)
    assert trained.model.layers[1].momentum == 0.5


@pytest.mark.parametrize(
    "precision", ["mixed_bfloat16", pytest.param("mixed_float16", marks=pytest.mark.slow)]
)
def test_mixed_precision_trains_close_to_full_precision_and_resumes(tmp_path, precision):
    full = fit(tmp_path / "full", epochs=2)
    fit(tmp_path / "mixed", epochs=1, precision=precision)
    mixed = fit(tmp_path / "mixed", epochs=2, precision=precision)
    assert mixed.history.loss.to_numpy() == pytest.approx(full.history.loss.to_numpy(), rel=0.15)
    assert mixed.model.layers[0].compute_dtype == precision.removeprefix("mixed_")
    assert mixed.model.layers[-1].compute_dtype == "float32"


def test_standardised_targets_do_not_depend_on_their_units(tmp_path):
    px, other = fit(tmp_path / "px"), fit(tmp_path / "other", target_factor=1000.0)
    assert np.allclose(px.history.loss, other.history.loss, rtol=1e-4)
    assert np.allclose(px.history.val_mae * 1000, other.history.val_mae, rtol=1e-4)


@pytest.mark.parametrize(
    "wrong",
    [{"epochs": 0}, {"batch_size": 0}, {"learning_rate": float("nan")}, {"target_scaling": "minmax"},
     {"batchnorm": "auto"}, {"batchnorm_momentum": 1.0}, {"precision": "float16"}, {"workers": 0}],
    ids=lambda d: next(iter(d)),
)  # fmt: skip
def test_schedules_out_of_range_are_refused(wrong):
    with pytest.raises(ScalelibError, match=next(iter(wrong))):
        Schedule(**wrong)


def test_constant_training_targets_are_refused(tmp_path):
    with pytest.raises(ResultsError, match="vary"):
        fit(tmp_path, target_factor=0.0)


def test_three_rows_give_a_table_and_finished_runs_are_left_alone(tmp_path):
    table, images = discs()
    schedule = Schedule(epochs=1)
    arguments = (table, images, tmp_path)
    assert run_transfer([NETWORK], *arguments, seeds=[1], schedule=schedule, data_digest="d") == {}
    found = collect(tmp_path)
    assert sorted(found.runs.row) == sorted(ROWS)
    pruned = found.runs.set_index("row")
    assert pruned.parameters["pruned"] < pruned.parameters["scratch"] == pruned.parameters["pretrained"]
    assert not found.runs.converged.any()  # one epoch: the best is the last
    assert set(found.predictions.split) == {"validation", "test"}
    scores = score_runs(found, class_means(table))
    assert len(scores) == 3 * (1 + 2)
    assert (
        table_2(scores).set_index("row").mae_px.to_dict()
        == scores[scores.slide == "all"].set_index("row").mae_px.to_dict()
    )
    stamps = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    run_transfer([NETWORK], *arguments, seeds=[1], schedule=schedule, data_digest="d")
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()} == stamps
    assert not list(tmp_path.glob(f"*/{STATE}"))
    with pytest.raises(ResultsError, match="other data or with another schedule"):
        train_transfer(NETWORK, "pruned", *arguments, seed=1, schedule=schedule, data_digest="e")


def test_unknown_rows_targets_and_missing_splits_are_refused(tmp_path):
    table, images = discs(24)
    for change in ({"row": "prunned"}, {"target": "size"}):
        with pytest.raises(ResultsError, match="is one of"):
            train_transfer(NETWORK, change.get("row", "pruned"), table, images, tmp_path, seed=1,
                           target=change.get("target", "area"))  # fmt: skip
    with pytest.raises(ResultsError, match="none for validation"):
        train_transfer(NETWORK, "pruned", table.assign(split="train").assign(
            split=["train", "test"] * 12), images, tmp_path, seed=1)  # fmt: skip


SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
from test_transfer import NETWORK, discs
from studies.training import Schedule
from studies.s05_runs import run_transfer
table, images = discs()
run_transfer([NETWORK], table, images, sys.argv[1], rows=["pruned"], seeds=[1], schedule=Schedule(epochs=6, workers=1))
"""


@pytest.mark.slow
def test_a_run_killed_in_the_middle_of_training_ends_as_if_it_had_not_been(tmp_path):
    script = SCRIPT.format(tests=str(Path(__file__).parent))
    table, images = discs()
    run_transfer([NETWORK], table, images, tmp_path / "whole", rows=["pruned"], seeds=[1],
                 schedule=Schedule(epochs=6, workers=1))  # fmt: skip
    killed = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "killed")])
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        logs = list((tmp_path / "killed").glob("*/log.jsonl"))
        if logs and '"epoch finished"' in logs[0].read_text() and '"epoch": 3' in logs[0].read_text():
            break
        time.sleep(0.002)
    os.kill(killed.pid, signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    assert not list((tmp_path / "killed").glob("*/run.json"))
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "killed")], check=True)

    events = [json.loads(line) for line in logs[0].read_text().splitlines()]
    finished = [(e["epoch"], e["process"]) for e in events if e["event"] == "epoch finished"]
    assert [epoch for epoch, _ in finished] == [1, 2, 3, 4, 5, 6]  # each exactly once
    assert len({process for _, process in finished}) == 2
    whole, again = collect(tmp_path / "whole"), collect(tmp_path / "killed")
    assert np.allclose(whole.predictions.predicted, again.predictions.predicted, rtol=1e-4)
    columns = ["epoch", "loss", "val_loss", "val_mae"]
    assert np.allclose(whole.history[columns], again.history[columns], rtol=1e-4)
