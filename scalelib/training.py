"""Training of one network on one target: resumable epoch by epoch, best validation weights kept.

Knows Keras models, patches and targets; knows nothing of rows, tables or histology.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scalelib.backend import keras
from scalelib.batches import Batches, epoch_order
from scalelib.checkpoints import assign, log, model_variables, read_state, values, write_state
from scalelib.errors import ResultsError
from scalelib.schedule import Schedule


@dataclass(frozen=True)
class Trained:
    """A trained network with its best validation weights.

    Parameters
    ----------
    model : keras.Model
    history : pandas.DataFrame
        One row per epoch: ``epoch`` (from 1), ``loss`` and ``val_loss`` (mean squared errors of the
        scaled target), ``val_mae`` (in the target's units), ``seconds``.
    best_epoch : int
    predict : callable
        From images and rows to predictions in the target's units, ``float64`` of shape (n,).
    """

    model: keras.Model
    history: pd.DataFrame
    best_epoch: int
    predict: Callable[[Any, np.ndarray], np.ndarray]


def train(
    model: keras.Model,
    images: Sequence[np.ndarray] | np.ndarray,
    targets: np.ndarray,
    *,
    train_rows: np.ndarray,
    validation_rows: np.ndarray,
    preprocess: Callable[[np.ndarray], Any],
    folder: Path,
    name: str,
    identity: dict[str, Any],
    seed: int,
    schedule: Schedule | None = None,
) -> Trained:
    """Train a model with one output, or go on where a killed run stopped.

    Parameters
    ----------
    model : keras.Model
        Output of shape (n, 1); all weights are trained. It is changed.
    images : sequence of ndarray or ndarray of shape (n, height, width, 3), uint8
    targets : ndarray of shape (n,)
        In their own units.
    train_rows, validation_rows : ndarray of int
    preprocess : callable
        From float32 RGB, 0–255, to what the network reads.
    folder : pathlib.Path
        The run's own: checkpoint and log.
    name : str
        Names the run in errors and in the log.
    identity : dict
        JSON-serialisable; what else makes this run this run (data digest, weights digest). A
        checkpoint with another identity is refused.
    seed : int
        Decides the order of the patches together with the epoch.
    schedule : Schedule, optional

    Returns
    -------
    Trained

    Raises
    ------
    ResultsError
        If the loss or a weight stops being finite: the last good epoch stays in the folder, and the
        message names the run. If the folder holds another run's checkpoint.

    Notes
    -----
    Mean squared error, Adam. After every epoch the folder holds weights, BatchNorm statistics,
    optimiser state, best weights and history in one file that is replaced atomically; the order of
    patches depends on seed and epoch alone. A run that is killed repeats the epoch that it was in and
    no other.
    """
    schedule = schedule or Schedule()
    folder.mkdir(parents=True, exist_ok=True)
    length = dict.fromkeys(("epochs", "patience"))
    identity = {**identity, "seed": seed, "schedule": {**asdict(schedule), **length, "workers": None}}
    shift, scale = target_scaling(targets[train_rows], schedule.target_scaling, name)
    scaled = ((targets - shift) / scale).astype(np.float32)
    model = _prepared(model, schedule)
    variables = model_variables(model)
    best, history = values(variables), list[dict[str, float]]()

    state = read_state(folder)
    if state is not None:
        meta, groups = state
        if meta["identity"] != identity:
            raise ResultsError(
                f"train: {folder} holds a checkpoint of another run than {name}.\n"
                f"Received: {_differences(meta['identity'], identity)}.\nUse another folder, or remove it."
            )
        assign(variables, groups["model"])
        assign(model.optimizer.variables, groups["optimizer"])
        best, history = groups["best"], meta["history"]
        if len(history) > schedule.epochs:
            raise ResultsError(
                f"train: {name} has been trained longer than wanted.\n"
                f"Received: {len(history)} epochs in {folder}, {schedule.epochs} wanted.\nUse another folder."
            )
        log(folder, "resumed", run=name, epochs_finished=len(history))

    def predict(patches: Any, rows: np.ndarray) -> np.ndarray:
        data = Batches(
            patches, np.zeros(len(patches)), rows, preprocess, batch_size=64, workers=schedule.workers
        )
        with _quiet():
            return np.asarray(model.predict(data, verbose=0), np.float64)[:, 0] * scale + shift

    for epoch in range(len(history) + 1, schedule.epochs + 1):
        if _out_of_patience(history, schedule.patience):
            break
        log(folder, "epoch started", run=name, epoch=epoch)
        started = time.perf_counter()
        order, turns = epoch_order(train_rows, seed=seed, epoch=epoch)
        data = Batches(
            images, scaled, order, preprocess, batch_size=schedule.batch_size,
            turns=turns if schedule.augment else None, workers=schedule.workers,
        )  # fmt: skip
        stop = keras.callbacks.TerminateOnNaN()
        loss = float(
            model.fit(data, epochs=1, shuffle=False, verbose=0, callbacks=[stop]).history["loss"][-1]
        )
        error = predict(images, validation_rows) - targets[validation_rows]
        val_loss = float(np.mean((error / scale) ** 2))
        if not np.isfinite([loss, val_loss]).all():
            log(folder, "not finite", run=name, epoch=epoch)
            raise ResultsError(
                f"train: the loss of {name} is not finite in epoch {epoch}.\n"
                f"Received: loss={loss}, validation loss={val_loss}.\n"
                f"The state after epoch {epoch - 1} is kept in {folder}; lower the learning rate, or use "
                "float32 or target_scaling='standard'."
            )
        if all(val_loss < before["val_loss"] for before in history):
            best = values(variables)
        history.append(
            {
                "epoch": epoch,
                "loss": loss,
                "val_loss": val_loss,
                "val_mae": float(np.abs(error).mean()),
                "seconds": round(time.perf_counter() - started, 3),
            }
        )
        groups = {"model": values(variables), "optimizer": values(model.optimizer.variables), "best": best}
        write_state(folder, {"identity": identity, "history": history}, groups)
        log(folder, "epoch finished", run=name, epoch=epoch, loss=loss, val_loss=val_loss)
    assign(variables, best)
    table = pd.DataFrame(history)
    return Trained(model, table, int(table.loc[table["val_loss"].idxmin(), "epoch"]), predict)


def target_scaling(targets: np.ndarray, scaling: str, name: str) -> tuple[float, float]:
    """Shift and scale that bring training targets to what a network learns.

    Parameters
    ----------
    targets : ndarray of shape (n,)
        Of the training patches alone.
    scaling : {"standard", "none"}
    name : str
        Names the run in errors.

    Returns
    -------
    tuple of float
        Mean and standard deviation, or 0 and 1.

    Raises
    ------
    ResultsError
        If the targets do not vary or are not finite.
    """
    spread = float(np.std(targets))
    if not np.isfinite(spread) or spread == 0:
        raise ResultsError(
            f"train: the training targets of {name} are finite and vary.\nReceived: standard deviation {spread}."
        )
    return (float(np.mean(targets)), spread) if scaling == "standard" else (0.0, 1.0)


def _out_of_patience(history: list[dict[str, float]], patience: int | None) -> bool:
    if patience is None or not history:
        return False
    best = min(history, key=lambda epoch: epoch["val_loss"])
    return history[-1]["epoch"] - best["epoch"] >= patience


def _prepared(model: keras.Model, schedule: Schedule) -> keras.Model:
    if schedule.precision != "float32":
        model = _with_precision(model, schedule.precision)
    for layer in model.layers:
        layer.trainable = True
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = schedule.batchnorm == "train"
            if schedule.batchnorm_momentum is not None:
                layer.momentum = schedule.batchnorm_momentum
    optimizer = keras.optimizers.Adam(schedule.learning_rate)
    if schedule.precision == "mixed_float16":  # half precision loses small gradients unless they are scaled
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    model.compile(optimizer=optimizer, loss="mse", jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    return model


def _with_precision(model: keras.Model, precision: str) -> keras.Model:
    """The same model under another dtype policy; its last layer stays in float32."""
    last = model.layers[-1].name

    def rebuilt(layer: Any) -> Any:
        policy = "float32" if layer.name == last else precision
        return layer.__class__.from_config({**layer.get_config(), "dtype": policy})

    copy = keras.models.clone_model(model, clone_function=rebuilt)
    copy.set_weights(model.get_weights())
    return copy


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back TensorFlow's advice on retracing: every network and its last, smaller batch are traced once."""
    logger = logging.getLogger("tensorflow")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _differences(stored: dict[str, Any], wanted: dict[str, Any]) -> str:
    keys = [key for key in {**stored, **wanted} if stored.get(key) != wanted.get(key)]
    return "; ".join(f"{key}: {stored.get(key)!r} there, {wanted.get(key)!r} wanted" for key in keys)
