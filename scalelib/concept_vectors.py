"""What a regression concept vector is, and how it is stored; fitting it is `scalelib.rcv`.

Knows arrays and files only.
"""

from __future__ import annotations

import json
import os
import zipfile
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from scalelib.errors import DataError, ResultsError
from scalelib.provenance import write_atomic
from scalelib.validation import check_activations

FORMAT = 1
MAY_BE_NAN = ("angle", "alpha")  # JSON has no NaN


@dataclass(frozen=True, eq=False)
class RCV:
    """A regression concept vector: y ≈ intercept + slope · ⟨direction, activation⟩.

    Parameters
    ----------
    direction : ndarray of float64, shape (channels,)
        Unit vector in the tap's own activation space, of growing measure.
    intercept : float
        In the unit of the measure.
    slope : float
        Change of the measure per unit of activation along the direction; positive.
    r2 : float
        Mean held-out R² over repeats.
    angle : float
        Mean angle in degrees between the directions of each two repeats: 0 where they agree, about
        90 where they have nothing in common.
    tap : str
        Where it was fitted; may be empty.
    estimator : str
        One of ``ols``, ``ridge``, ``pcr``.
    alpha : float
        Ridge penalty of the fit to all images; NaN for other estimators.
    n_images : int
        Number of images.
    repeats : int
        Number of random splits.

    Examples
    --------
    >>> rcv = RCV(np.array([0.6, 0.8]), 1.0, 2.0, r2=0.9, angle=5.0)
    >>> rcv.predict([[3.0, 4.0]])
    array([11.])
    """

    direction: np.ndarray
    intercept: float
    slope: float
    r2: float
    angle: float
    tap: str = ""
    estimator: str = "ridge"
    alpha: float = float("nan")
    n_images: int = 0
    repeats: int = 0

    def predict(self, activations: Any) -> np.ndarray:
        """The measure read from pooled activations.

        Parameters
        ----------
        activations : array_like, shape (n_images, channels)
            Of the same tap and pooling as those it was fitted to, finite.

        Returns
        -------
        ndarray of float64, shape (n_images,)

        Raises
        ------
        DataError
            If they are no finite matrix with as many channels as the direction has.
        """
        name = self.tap or "tap"
        array = np.asarray(activations)
        rows = len(array) if array.ndim else 0
        X = check_activations({name: array}, rows, operation="RCV.predict")[name]
        if X.shape[1] != len(self.direction):
            raise DataError(
                f"RCV.predict: activations need the {len(self.direction)} channels that the direction has.\n"
                f"Received: {X.shape[1]} channels."
            )
        return self.intercept + self.slope * (X.astype(np.float64) @ self.direction)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write to a ``.npz`` or ``.json`` file, atomically and without pickle.

        Parameters
        ----------
        path : path-like
            Its suffix decides the format. Numbers come back bit for bit from either.

        Raises
        ------
        ResultsError
            If the suffix is another, or the file cannot be written.
        """
        record: dict[str, Any] = {"format": FORMAT, **asdict(self)}
        direction = np.asarray(record.pop("direction"), np.float64)
        record |= {name: None for name in MAY_BE_NAN if np.isnan(record[name])}
        if _suffix(path, "RCV.save") == ".json":
            record["direction"] = direction.tolist()
            text = json.dumps(record, indent=1, allow_nan=False)
            write_atomic(path, lambda stream: stream.write(text.encode()))
        else:
            text = json.dumps(record, allow_nan=False)
            write_atomic(path, lambda stream: np.savez(stream, direction=direction, record=np.array(text)))


def load_rcv(path: str | os.PathLike[str]) -> RCV:
    """Read what `RCV.save` wrote.

    Parameters
    ----------
    path : path-like
        A ``.npz`` or ``.json`` file.

    Returns
    -------
    RCV

    Raises
    ------
    ResultsError
        If there is no such file, or it is truncated, of another format or holds no unit vector.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     RCV(np.array([0.6, 0.8]), 1.0, 2.0, r2=0.9, angle=5.0).save(Path(folder) / "scale.npz")
    ...     load_rcv(Path(folder) / "scale.npz").direction
    array([0.6, 0.8])
    """
    suffix, path = _suffix(path, "load_rcv"), Path(path)
    try:
        if suffix == ".json":
            record = json.loads(path.read_text(encoding="utf-8"))
        else:
            with np.load(path, allow_pickle=False) as stored:
                record = {**json.loads(stored["record"].item()), "direction": stored["direction"]}
        if record.pop("format") != FORMAT or set(record) != {field.name for field in fields(RCV)}:
            raise KeyError("format")
        record |= {name: float("nan") for name in MAY_BE_NAN if record[name] is None}
        rcv = RCV(**{**record, "direction": np.asarray(record["direction"], np.float64)})
        if rcv.direction.ndim != 1 or not np.isclose(np.linalg.norm(rcv.direction), 1):
            raise ValueError("the direction is no unit vector")
    except FileNotFoundError as error:
        raise ResultsError(f"load_rcv: there is no {path.name}.\nReceived: {path}.") from error
    except (OSError, EOFError, KeyError, TypeError, ValueError, AttributeError, zipfile.BadZipFile) as error:
        raise ResultsError(
            f"load_rcv: {path.name} holds no regression concept vector of format {FORMAT}.\n"
            f"Received: {error}.\nWrite one with RCV.save."
        ) from error
    return rcv


def _suffix(path: str | os.PathLike[str], operation: str) -> str:
    suffix = Path(path).suffix
    if suffix not in (".npz", ".json"):
        raise ResultsError(
            f"{operation}: a regression concept vector lives in a .npz or .json file.\nReceived: {Path(path).name}."
        )
    return suffix
