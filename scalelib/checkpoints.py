"""State of a training run on disk: whole or not there, and never another run's.

Knows arrays, Keras variables and files; nothing of what is trained.
"""

from __future__ import annotations

import io
import json
import os
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scalelib.backend import keras
from scalelib.errors import ResultsError
from scalelib.provenance import write_atomic

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
