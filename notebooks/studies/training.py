"""How a network is trained: the paper's schedule by default, every choice explicit. Knows no Keras. Batches of patches for any Keras backend, in an order that a seed and an epoch decide. State of a training run on disk: whole or not there, and never another run's. Training of one network on one target: resumable epoch by epoch, best validation weights kept."""

from __future__ import annotations

import io
import json
import logging
import math
import os
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scalelib.errors import ResultsError, ScalelibError
from scalelib.graph import keras
from scalelib.results import write_atomic

PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")


@dataclass(frozen=True)
class Schedule:
    """How a network is trained. The defaults are the paper's, except the standardised target.

    Parameters
    ----------
    epochs : int, default=5
        At most so many.
    patience : int, optional
        Stop after so many epochs without a smaller validation loss. Default: train all epochs.
    batch_size : int, default=32
    learning_rate : float, default=1e-4
        Of Adam.
    target_scaling : {"standard", "none"}, default="standard"
        ``"standard"``: mean 0 and deviation 1 over the training patches; ``"none"``: as it is.
    batchnorm : {"train", "frozen"}, default="train"
        ``"train"``: batch statistics while training, moving averages otherwise; ``"frozen"``: the
        loaded statistics, scales and shifts throughout.
    batchnorm_momentum : float, optional
        Of the moving averages, in [0, 1). Default: the network's own. MobileNetV2's 0.999 needs
        thousands of steps to follow; with fewer, networks from scratch are validated with statistics
        of their first steps.
    augment : bool, default=False
        Flip and turn training patches at random; none of it changes scale.
    precision : {"float32", "mixed_float16", "mixed_bfloat16"}, default="float32"
        Keras's dtype policy; the head stays in float32.
    workers : int, default=1
        Threads that prepare batches; one prepares them in turn with the training itself. More help where the
        network works on a GPU; on few cores they take from it.

    Raises
    ------
    ScalelibError
        If a value is out of range.

    Examples
    --------
    >>> Schedule(epochs=20).batch_size
    32
    """

    epochs: int = 5
    patience: int | None = None
    batch_size: int = 32
    learning_rate: float = 1e-4
    target_scaling: str = "standard"
    batchnorm: str = "train"
    batchnorm_momentum: float | None = None
    augment: bool = False
    precision: str = "float32"
    workers: int = 1

    def __post_init__(self) -> None:
        momentum = self.batchnorm_momentum
        wrong = {
            "epochs": self.epochs < 1,
            "patience": self.patience is not None and self.patience < 1,
            "batch_size": self.batch_size < 1,
            "learning_rate": not self.learning_rate > 0,
            "target_scaling": self.target_scaling not in {"standard", "none"},
            "batchnorm": self.batchnorm not in {"train", "frozen"},
            "batchnorm_momentum": momentum is not None and not 0 <= momentum < 1,
            "precision": self.precision not in PRECISIONS,
            "workers": self.workers < 1,
        }
        for name, is_wrong in wrong.items():
            if is_wrong:
                raise ScalelibError(
                    f"Schedule: {name} is out of range.\nReceived: {name}={getattr(self, name)!r}.\n"
                    "See the docstring of studies.training.Schedule."
                )


class Batches(keras.utils.PyDataset):
    """Preprocessed batches with their targets. A class because Keras feeds from one.

    Parameters
    ----------
    images : sequence of ndarray, each of shape (height, width, 3), uint8
        An array, or anything with ``batch(indices)``, such as cached patches.
    targets : ndarray of shape (n,), float32
    order : ndarray of int
        Rows to visit, in this order.
    preprocess : callable
        From float32 RGB, 0–255, to what the network reads.
    batch_size : int, default=32
        The last batch may be smaller.
    turns : ndarray of int, optional
        For each entry of `order` one of the eight flips and rotations, 0 to 7 (0: as it is).
    workers : int, default=1
        Above one: threads that prepare batches while the network works.

    Examples
    --------
    >>> images = np.zeros((5, 8, 8, 3), np.uint8)
    >>> data = Batches(images, np.arange(5.0), np.array([4, 0, 1]), lambda x: x, batch_size=2)
    >>> len(data), data[0][1].ravel().tolist()
    (2, [4.0, 0.0])
    """

    def __init__(
        self,
        images: Sequence[np.ndarray] | np.ndarray,
        targets: np.ndarray,
        order: np.ndarray,
        preprocess: Callable[[np.ndarray], Any],
        *,
        batch_size: int = 32,
        turns: np.ndarray | None = None,
        workers: int = 1,
    ) -> None:
        super().__init__(workers=workers, use_multiprocessing=False, max_queue_size=8)
        self.images, self.targets, self.order = images, np.asarray(targets, np.float32), np.asarray(order)
        self.preprocess, self.batch_size, self.turns = preprocess, batch_size, turns

    def __len__(self) -> int:
        return math.ceil(len(self.order) / self.batch_size)

    def __getitem__(self, index: int) -> tuple[Any, np.ndarray]:
        part = slice(index * self.batch_size, (index + 1) * self.batch_size)
        rows = self.order[part]
        if isinstance(self.images, np.ndarray):
            pixels = self.images[rows]
        elif hasattr(self.images, "batch"):
            pixels = self.images.batch(rows)
        else:
            pixels = np.stack([self.images[int(row)] for row in rows])
        if self.turns is not None:
            pixels = np.stack([turned(p, int(t)) for p, t in zip(pixels, self.turns[part], strict=True)])
        return self.preprocess(pixels.astype(np.float32)), self.targets[rows][:, None]


def turned(patch: np.ndarray, turn: int) -> np.ndarray:
    """One of the eight flips and rotations of a square patch; none changes its scale.

    Parameters
    ----------
    patch : ndarray of shape (side, side, channels)
    turn : int
        0 to 7: quarter turns, and from 4 on a flip first.

    Returns
    -------
    ndarray of the same shape

    Examples
    --------
    >>> turned(np.arange(4).reshape(2, 2, 1), 1)[..., 0].tolist()
    [[1, 3], [0, 2]]
    """
    return np.rot90(patch[:, ::-1] if turn >= 4 else patch, turn % 4)


def epoch_order(rows: np.ndarray, *, seed: int, epoch: int) -> tuple[np.ndarray, np.ndarray]:
    """Order and turns of one epoch, the same whenever it is run.

    Parameters
    ----------
    rows : ndarray of int
        Training rows.
    seed, epoch : int
        Not negative.

    Returns
    -------
    tuple of ndarray
        The rows shuffled, and for each a turn from 0 to 7.

    Examples
    --------
    >>> order, turns = epoch_order(np.arange(4), seed=1001, epoch=1)
    >>> sorted(order.tolist()), len(turns)
    ([0, 1, 2, 3], 4)
    """
    rng = np.random.default_rng([seed, epoch])
    return rng.permutation(rows), rng.integers(0, 8, len(rows))


STATE = "state.npz"
LOG = "log.jsonl"


def model_variables(model: keras.Model) -> list[Any]:
    """Weights, BatchNorm statistics and random-seed states of a model, without metrics.

    Parameters
    ----------
    model : keras.Model

    Returns
    -------
    list of keras.Variable
        In an order that the model's construction decides.

    Examples
    --------
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> [tuple(v.shape) for v in model_variables(model)]
    [(2, 1), (1,)]
    """
    metrics = {id(v) for v in model.metrics_variables}
    return [v for v in model.variables if id(v) not in metrics]


def values(variables: Sequence[Any]) -> list[np.ndarray]:
    """Copies of variables' values as arrays."""
    return [np.array(v.numpy()) for v in variables]


def assign(variables: Sequence[Any], arrays: Sequence[np.ndarray]) -> None:
    """Put arrays into variables, in order.

    Raises
    ------
    ResultsError
        If their number or a shape differs.
    """
    shapes = [tuple(v.shape) for v in variables], [a.shape for a in arrays]
    if shapes[0] != shapes[1]:
        raise ResultsError(
            "checkpoint: it belongs to another network.\n"
            f"Received: {len(arrays)} arrays for {len(variables)} variables of the model.\n"
            "Use an empty folder."
        )
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)


def write_state(folder: Path, meta: dict[str, Any], groups: dict[str, list[np.ndarray]]) -> None:
    """Write meta data and groups of arrays in one file, atomically.

    Parameters
    ----------
    folder : pathlib.Path
        Exists.
    meta : dict
        JSON-serialisable.
    groups : dict of str to list of ndarray
    """
    arrays = {f"{name}/{i:05d}": a for name, group in groups.items() for i, a in enumerate(group)}
    arrays["meta"] = np.frombuffer(json.dumps(meta).encode(), np.uint8)

    def save(stream: io.BufferedIOBase) -> None:
        np.savez(stream, **arrays)  # type: ignore[arg-type]

    write_atomic(folder / STATE, save)


def read_state(folder: Path) -> tuple[dict[str, Any], dict[str, list[np.ndarray]]] | None:
    """Read what :func:`write_state` wrote, or None where there is nothing.

    Raises
    ------
    ResultsError
        If the file is damaged.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as name:
    ...     write_state(Path(name), {"epoch": 2}, {"best": [np.ones(2)]})
    ...     read_state(Path(name))
    ({'epoch': 2}, {'best': [array([1., 1.])]})
    """
    path = folder / STATE
    if not path.exists():
        return None
    groups: dict[str, list[np.ndarray]] = {}
    try:
        with np.load(path, allow_pickle=False) as file:
            meta = json.loads(file["meta"].tobytes())
            for name in sorted(set(file.files) - {"meta"}):
                groups.setdefault(name.split("/")[0], []).append(file[name])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ResultsError(
            f"checkpoint: {path} is damaged.\nReceived: {error}.\nRemove it; the run starts again."
        ) from error
    return meta, groups


def log(folder: Path, event: str, **details: Any) -> None:
    """Append one line to a run's log, on disk before this returns.

    Parameters
    ----------
    folder : pathlib.Path
    event : str
        Such as ``"epoch finished"``.
    **details
        JSON-serialisable.
    """
    line = json.dumps({"event": event, "time": round(time.time(), 3), "process": os.getpid(), **details})
    with (folder / LOG).open("a", encoding="utf-8") as stream:
        stream.write(line + "\n")
        stream.flush()
        os.fsync(stream.fileno())


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
