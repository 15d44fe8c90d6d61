"""Resumable training: the schedule, batches in an order that seed and epoch decide, one loop. Knows neither Table 2 nor slides."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scalelib.activations import prefetch
from scalelib.errors import ResultsError, refusing, require, track
from scalelib.graph import keras
from scalelib.results import read_arrays, write_atomic

STATE = "unfinished.npz"  # of a run


@dataclass(frozen=True)
class Schedule:
    """How a network is trained. The defaults are the paper's, except the standardised target."""

    epochs: int = 5
    patience: int | None = None  # epochs without a smaller validation loss after which training stops
    batch_size: int = 32
    learning_rate: float = 1e-4  # of Adam
    target_scaling: str = "standard"  # to mean 0 and deviation 1 over the training patches; or "none"
    batchnorm: str = "train"  # or "frozen": the loaded statistics, scales and shifts throughout
    # Of the moving averages; None: the network's own. MobileNetV2's 0.999 needs thousands of steps to follow: with
    # fewer, networks from scratch are validated with statistics of their first steps.
    batchnorm_momentum: float | None = None
    augment: bool = False  # flips and quarter turns; none of it changes scale
    precision: str = "float32"  # or Keras's mixed_float16 and mixed_bfloat16; the head stays in float32
    workers: int = 1  # threads that prepare batches; more help where the network works on a GPU


class NotFinite(ResultsError):
    """A loss is infinite or NaN."""


def batches_of(
    images: Sequence[np.ndarray] | np.ndarray,
    targets: np.ndarray,
    order: np.ndarray,
    preprocess: Callable[[np.ndarray], Any],
    *,
    batch_size: int = 32,
    turns: np.ndarray | None = None,
    workers: int = 1,
) -> Iterator[tuple[Any, np.ndarray]]:
    """Preprocessed batches of the rows in `order`, with their targets, put together in threads; the last may be smaller."""

    def batch(start: int) -> tuple[Any, np.ndarray]:
        part = slice(start, start + batch_size)
        pixels = np.stack([images[int(row)] for row in order[part]])
        if turns is not None:
            pixels = np.stack([turned(p, int(t)) for p, t in zip(pixels, turns[part], strict=True)])
        return preprocess(pixels.astype(np.float32)), targets[order[part]].astype(np.float32)[:, None]

    return prefetch(range(0, len(order), batch_size), batch, workers=workers, ahead=workers + 2)


def predict_batches(model: keras.Model, batches: Iterable[tuple[Any, np.ndarray]]) -> np.ndarray:
    """What a model with one output says of every row."""
    return np.concatenate([np.asarray(model.predict_on_batch(x), np.float64)[:, 0] for x, _ in batches])


def turned(patch: np.ndarray, turn: int) -> np.ndarray:
    """One of the eight flips and rotations of a square patch: quarter turns, and from 4 on a flip first."""
    return np.rot90(patch[:, ::-1] if turn >= 4 else patch, turn % 4)


def epoch_order(rows: np.ndarray, *, seed: int, epoch: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows shuffled and for each a turn from 0 to 7: the same whenever this epoch of this seed is run."""
    rng = np.random.default_rng([seed, epoch])
    return rng.permutation(rows), rng.integers(0, 8, len(rows))


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
    identity: Mapping[str, Any],
    seed: int,
    schedule: Schedule,
) -> tuple[pd.DataFrame, Callable[[np.ndarray], np.ndarray]]:
    """Train a model with one output on `targets` by mean squared error and Adam, or go on where a killed run stopped.

    Returns the learning curve, with losses in units of the scaled target, and what predicts rows of `images`.
    """
    known = targets[train_rows]
    shift, scale = {"standard": (known.mean(), known.std()), "none": (0.0, 1.0)}[schedule.target_scaling]
    scaled = (targets - shift) / scale
    _prepare(model, schedule)

    feed = partial(batches_of, images, scaled, preprocess=preprocess, workers=schedule.workers)

    def batches(epoch: int) -> Iterator[tuple[Any, np.ndarray]]:
        order, turns = epoch_order(train_rows, seed=seed, epoch=epoch)
        return feed(order, turns=turns if schedule.augment else None, batch_size=schedule.batch_size)

    def predict(rows: np.ndarray) -> np.ndarray:
        return predict_batches(model, feed(rows, batch_size=64)) * scale + shift

    def validate() -> dict[str, float]:
        error = predict(validation_rows) - targets[validation_rows]
        return {"val_loss": float(np.mean((error / scale) ** 2)), "val_mae": float(np.abs(error).mean())}

    settings = {**asdict(schedule), **dict.fromkeys(("epochs", "patience", "workers"))}
    history = fit_resumably(
        model, batches, epochs=schedule.epochs, patience=schedule.patience, validate=validate,
        state=folder / STATE, name=name, identity={**identity, "seed": seed, "schedule": settings},
    )  # fmt: skip
    return history, predict


def _prepare(model: keras.Model, schedule: Schedule) -> None:
    for layer in model.layers:
        layer.dtype_policy = schedule.precision if layer is not model.layers[-1] else "float32"
        layer.trainable = True
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = {"train": True, "frozen": False}[schedule.batchnorm]
            if schedule.batchnorm_momentum is not None:
                layer.momentum = schedule.batchnorm_momentum
    optimizer = keras.optimizers.Adam(schedule.learning_rate)
    if schedule.precision == "mixed_float16":  # half precision loses small gradients unless they are scaled
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    model.compile(optimizer=optimizer, loss="mse", jit_compile=False)


def fit_resumably(
    model: keras.Model,
    batches: Callable[[int], Iterable[tuple[Any, np.ndarray]]],
    *,
    epochs: int,
    state: Path,
    name: str,
    identity: Mapping[str, Any],
    patience: int | None = None,
    validate: Callable[[], dict[str, float]] = dict,
) -> pd.DataFrame:
    """Train a compiled model epoch by epoch; it ends with the weights of the best one, without validation of the last.

    After every epoch `state` holds weights, optimiser, best weights and history, replaced as a whole, so a run that is
    killed repeats the epoch that it was in and no other, given `batches` that depend on the epoch alone.
    """
    state.parent.mkdir(parents=True, exist_ok=True)
    model.optimizer.build(model.trainable_variables)
    metrics = {id(variable) for variable in model.metrics_variables}
    weights = [variable for variable in model.variables if id(variable) not in metrics]
    variables = [*weights, *model.optimizer.variables]
    history, best = list[dict[str, float]](), list[np.ndarray]()
    if state.exists():
        history, arrays = _read(state, name, identity)
        best = arrays[len(variables) :]
        _assign(variables, arrays[: len(variables)])
    rule = f"{state.parent} has been trained longer than wanted"
    received = f"{len(history)} epochs, {epochs} wanted"
    require(len(history) <= epochs, "train", rule, received, "Use another folder.", error=ResultsError)
    for epoch in track(range(len(history) + 1, epochs + 1), label=name, unit="epoch"):
        if patience and history and epoch - 1 - _best(history)["epoch"] >= patience:
            break
        started = time.perf_counter()
        # not by fit, which builds an input pipeline for every epoch and takes it down again
        steps = [(model.train_on_batch(x, y, return_dict=True), len(y)) for x, y in batches(epoch)]
        losses, sizes = zip(*steps, strict=True)
        means = {key: float(np.average([one[key] for one in losses], weights=sizes)) for key in losses[0]}
        row = {"epoch": epoch, **means, **validate()}
        rule, good = f"the loss of {name} is not finite in epoch {epoch}", np.isfinite([*row.values()]).all()
        advice = f"The state after epoch {epoch - 1} is kept in {state.parent}; lower the learning rate, or use float32 or "
        require(good, "train", rule, row, f"{advice}target_scaling='standard'.", error=NotFinite)
        history.append({**row, "seconds": round(time.perf_counter() - started, 3)})
        arrays = [np.array(variable.numpy()) for variable in variables]
        best = arrays[: len(weights)] if _best(history) is history[-1] else best
        _write(state, {"identity": identity, "history": history}, [*arrays, *best])
    _assign(weights, best)
    return pd.DataFrame(history)


def _best(history: list[dict[str, float]]) -> dict[str, float]:
    return min(history, key=lambda row: row.get("val_loss", -row["epoch"]))


def _assign(variables: Sequence[Any], arrays: Sequence[np.ndarray]) -> None:
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)


def _write(state: Path, meta: Mapping[str, Any], arrays: Sequence[np.ndarray]) -> None:
    named = {f"{i:05d}": array for i, array in enumerate(arrays)}
    write_atomic(state, lambda stream: np.savez(stream, meta=json.dumps(meta), **named))  # type: ignore[arg-type]


def _read(
    state: Path, name: str, identity: Mapping[str, Any]
) -> tuple[list[dict[str, float]], list[np.ndarray]]:
    rule, advice = f"the state of {name} is damaged", "Remove it: the run then starts anew."
    with refusing("train", rule, state, advice, error=ResultsError):
        file = read_arrays(state)
        meta = json.loads(str(file.pop("meta")))
        arrays = [file[key] for key in sorted(file)]
        there, history = dict(meta["identity"]), [dict(row) for row in meta["history"]]
    differ = [key for key in identity if there.get(key) != identity[key]]
    rule = f"{state.parent} holds the state of another run than {name}"
    advice = "Use another folder, or remove it."
    received = "; ".join(f"{key}: {there.get(key)!r} there, {identity[key]!r} wanted" for key in differ)
    require(not differ, "train", rule, received, advice, error=ResultsError)
    return history, arrays
