"""What a regression concept vector is, and how it is stored; fitting it is `scalelib.concepts`. Regression concept vectors: the direction of a tap along which a measure grows. How a network's output changes along a concept's direction at a tap, by finite differences."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scalelib.errors import DataError, NetworkError, ResultsError
from scalelib.linear import ESTIMATORS, fit_linear, one_thread
from scalelib.regression import r2, refuse_constant_folds, train_test_splits
from scalelib.results import write_atomic
from scalelib.validation import check_activations, check_choice, check_problem

if TYPE_CHECKING:
    from scalelib.networks import Network


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


def fit_rcv(
    activations: Any,
    measures: Any,
    *,
    tap: str = "",
    estimator: str = "ridge",
    repeats: int = 10,
    test_size: float = 0.3,
    groups: Any = None,
    random_state: int = 0,
) -> RCV:
    """Fit a regression concept vector to one tap.

    Parameters
    ----------
    activations : array_like, shape (n_images, channels)
        Pooled activations, finite.
    measures : array_like, shape (n_images,)
        One concept measure per image.
    tap : str, default=""
        Name of the tap, kept with the vector.
    estimator : {"ridge", "ols", "pcr"}, default="ridge"
        See `scalelib.linear.fit_linear`.
    repeats : int, default=10
        Number of random splits, the same as those of `layerwise_r2`, for R² and stability.
    test_size : float, default=0.3
        Share held out, in (0, 1).
    groups : array_like, shape (n_images,), optional
        Rows of one group stay on one side of every split.
    random_state : int, default=0
        Seed.

    Returns
    -------
    RCV
        Direction, slope and intercept are fitted to all images; R² and angle come from the repeats.

    Raises
    ------
    DataError
        As `layerwise_r2`, and if no direction is found: the training mean predicts best.

    Notes
    -----
    Graziani, Andrearczyk and Müller 2018, "Regression concept vectors for bidirectional
    explanations in histopathology", section 2.2: the direction is the normalised vector of
    regression coefficients, here in activation space (not that of standardised features), so that
    moving an activation along it is what it says. A repeat in which the mean predicts best has no
    direction and counts as being at 90° to the others.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(50, 3))
    >>> rcv = fit_rcv(X, 5 * X[:, 1] + 2, estimator="ols")
    >>> rcv.direction.round(6) + 0.0, round(rcv.slope, 6), round(rcv.intercept, 6)
    (array([0., 1., 0.]), 5.0, 2.0)
    """
    operation = "fit_rcv"
    [estimator] = check_choice((estimator,), ESTIMATORS, name="estimator", operation=operation)
    name = tap or "tap"
    arrays, y, labels = check_problem({name: activations}, measures, groups=groups, operation=operation)
    X, target = arrays[name], y[:, None]
    splits = train_test_splits(
        len(y),
        repeats=repeats,
        test_size=test_size,
        groups=labels,
        random_state=random_state,
        operation=operation,
    )
    scores, vectors = [], []
    with one_thread():
        for repeat, (train, test) in enumerate(splits):
            refuse_constant_folds(target, train, test, operation=operation, where=f"repeat {repeat}")
            part = fit_linear(X[train], target[train], estimator)
            scores.append(r2(target[test], part.predict(X[test])).item())
            vectors.append(part.coefficients[:, 0])
        fit = fit_linear(X, target, estimator)
    coefficients = fit.coefficients[:, 0]
    slope = float(np.linalg.norm(coefficients))
    if slope == 0:
        raise DataError(
            f"{operation}: the activations must tell something about the measure.\n"
            f"Received: {X.shape[1]} channels of {name!r}; the mean of the {len(y)} measures is the best "
            "prediction."
        )
    return RCV(
        direction=coefficients / slope,
        intercept=float(fit.offsets[0] - fit.centre @ coefficients),
        slope=slope,
        r2=float(np.mean(scores)),
        angle=_mean_angle(np.array(vectors)),
        tap=tap,
        estimator=estimator,
        alpha=float(fit.alpha[0]),
        n_images=len(y),
        repeats=len(splits),
    )


def bidirectional_relevance(sensitivities: Any, r2: float) -> float:
    """Relevance of a concept for an output over a set of images.

    Parameters
    ----------
    sensitivities : array_like, shape (n_images,)
        Of the output along the concept's direction, for at least two images.
    r2 : float
        How well the concept is read: held-out R² of the regression concept vector.

    Returns
    -------
    float
        Br = R² · mean / standard deviation of the sensitivities; positive where the output grows
        with the concept, infinite where all images agree exactly.

    Raises
    ------
    DataError
        If there are fewer than two sensitivities, or one is not finite.

    Notes
    -----
    Graziani, Andrearczyk and Müller 2018, section 2.3; Graziani et al. 2020, "Concept attribution",
    eq. 6: R² over the coefficient of variation. The standard deviation has divisor n.

    Examples
    --------
    >>> bidirectional_relevance([1.0, 3.0], r2=0.5)
    1.0
    """
    values = np.asarray(sensitivities, np.float64)
    if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all():
        raise DataError(
            "bidirectional_relevance: sensitivities must be a vector of at least two finite numbers.\n"
            f"Received: shape {values.shape}, {int((~np.isfinite(values)).sum())} not finite."
        )
    mean, deviation = values.mean(), values.std()
    if deviation == 0:
        return float(np.copysign(np.inf, r2 * mean)) if r2 * mean else 0.0
    return float(r2 * mean / deviation)


def _mean_angle(vectors: np.ndarray) -> float:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    units = vectors / np.where(norms > 0, norms, 1)
    cosines = np.clip(units @ units.T, -1, 1)[np.triu_indices(len(units), 1)]
    return float(np.degrees(np.arccos(cosines)).mean()) if len(cosines) else float("nan")


def sensitivity(
    net: Network,
    rcv: RCV,
    images: Any,
    *,
    output: int,
    of: str | None = None,
    tap: str | None = None,
    step: float = 0.01,
    from_tap: bool = False,
    batch_size: int = 32,
) -> np.ndarray:
    """Derivative of one output along a concept's direction, per image.

    Parameters
    ----------
    net : Network
        The network that the concept vector was fitted to.
    rcv : RCV
        The direction, with as many components as the tap has channels.
    images : ndarray of shape (n, height, width, 3), list of paths or arrays, or iterable
        RGB, 0–255; stretched to the network's input size. One image is a list of one.
    output : int
        Unit of the output, from 0.
    of : str, optional
        The tap read as the output, such as ``"pre_softmax"``. Default: the model's last output.
    tap : str, optional
        Where the direction lies. Default: ``rcv.tap``.
    step : float, default=0.01
        Half the distance between the two evaluations, as a share of the length of the image's
        pooled activation.
    from_tap : bool, default=False
        `images` are the tap's own activations already, not pooled, as an array.
    batch_size : int, default=32
        Images per forward pass.

    Returns
    -------
    ndarray of float64, shape (n,)
        Change of the output per unit of pooled activation along the direction.

    Raises
    ------
    DataError
        If there are no images, they do not fit, or the direction has another length than the tap.
    NetworkError
        If a tap or unit is unknown, or the output does not depend on the tap alone.

    Notes
    -----
    (f(a + h v) − f(a − h v)) / 2h with the network f from the tap on (Graziani, Andrearczyk and
    Müller 2018, section 2.3, has the derivative). At a tap with positions h v is added to each of
    them, which moves the average-pooled activation by h v. Where a ReLU switches within the step,
    the result is the mean slope of both sides.

    Examples
    --------
    >>> from scalelib.networks import load_network
    >>> net = load_network("MobileNet", weights="random", alpha=0.25, input_size=32)
    >>> direction = np.eye(256)[0]
    >>> rcv = RCV(direction, 0.0, 1.0, r2=0.5, angle=10.0, tap="conv_pw_13")
    >>> sensitivity(net, rcv, np.zeros((2, 32, 32, 3), np.uint8), output=7, of="pre_softmax").shape
    (2,)
    """
    if not np.isfinite(step) or step <= 0 or batch_size < 1:
        raise DataError(
            "sensitivity: step must be a positive number and batch_size at least 1.\n"
            f"Received: step={step!r}, batch_size={batch_size!r}."
        )
    where = tap or rcv.tap
    if not where:
        raise DataError(
            "sensitivity: a direction needs its tap.\nReceived: rcv.tap is empty, tap=None.\n"
            f"Pass tap=, one of {', '.join(net.taps)}."
        )
    head = _head(net, where, of, output)
    channels = int(net.tensor(where).shape[-1])
    if len(rcv.direction) != channels:
        raise DataError(
            f"sensitivity: the direction must have as many components as {where!r} has channels.\n"
            f"Received: {len(rcv.direction)} and {channels}."
        )
    batches = _given(net, where, images, batch_size) if from_tap else _read(net, where, images, batch_size)
    slopes = [_slopes(head, batch, rcv.direction, output, step) for batch in batches]
    if not slopes:
        raise DataError("sensitivity: at least one image is needed.\nReceived: none.")
    return np.concatenate(slopes)


def _slopes(head: Any, maps: np.ndarray, direction: np.ndarray, output: int, step: float) -> np.ndarray:
    pooled = maps.astype(np.float64).mean(axis=tuple(range(1, maps.ndim - 1)))
    lengths = np.linalg.norm(pooled, axis=1)
    half = step * np.where(lengths > 0, lengths, 1.0)
    along = half.reshape(-1, *[1] * (maps.ndim - 1)) * direction
    ahead, behind = (
        np.asarray(head.predict_on_batch((maps + sign * along).astype(np.float32)), np.float64)[:, output]
        for sign in (1, -1)
    )
    return (ahead - behind) / (2 * half)


def _head(net: Network, tap: str, of: str | None, output: int) -> Any:
    """The network from a tap to an output of shape (n, units)."""
    from scalelib.graph import keras

    start = net.tensor(tap)
    end = net.model.outputs[0] if of is None else net.tensor(of)
    if len(end.shape) != 2 or isinstance(output, bool) or not 0 <= output < end.shape[-1]:
        raise NetworkError(
            "sensitivity: the output must be one unit of a vector.\n"
            f"Received: unit {output!r} of an output of shape {tuple(end.shape)}."
        )
    if start is end:
        raise NetworkError(f"sensitivity: the output must lie after the tap.\nReceived: {tap!r} for both.")
    try:
        return keras.Model(start, end)
    except (ValueError, KeyError) as error:
        raise NetworkError(
            f"sensitivity: the output must depend on the tap {tap!r} alone.\n"
            f"Received: an output that another path from the image reaches, or an earlier one.\n"
            "Choose a tap that every path runs through, such as the output of a block."
        ) from error


def _given(net: Network, tap: str, activations: Any, batch_size: int) -> Iterator[np.ndarray]:
    maps, shape = np.asarray(activations), net.tensor(tap).shape
    fits = maps.ndim == len(shape) and all(
        b is None or a == b for a, b in zip(maps.shape[1:], shape[1:], strict=True)
    )
    if not fits or not np.isfinite(maps).all():
        raise DataError(
            f"sensitivity: activations must be finite and of the shape of {tap!r}, (n, "
            f"{', '.join('any' if side is None else str(side) for side in shape[1:])}).\n"
            f"Received: shape {maps.shape}."
        )
    for first in range(0, len(maps), batch_size):
        yield maps[first : first + batch_size]


def _read(net: Network, tap: str, images: Any, batch_size: int) -> Iterator[np.ndarray]:
    from scalelib.activations import as_images
    from scalelib.graph import keras
    from scalelib.images import read_image, resize_image

    reader = keras.Model(net.model.inputs[0], net.tensor(tap))
    remaining = iter(as_images(images, operation="sensitivity", allow_duplicates=True)[0])
    size = 1 if net.input_size is None else batch_size  # images of any size do not stack
    while batch := [read_image(image) for image in islice(remaining, size)]:
        if net.input_size is not None:
            batch = [resize_image(image, net.input_size) for image in batch]
        pixels = net.preprocess(np.stack(batch).astype(np.float32))
        yield np.asarray(reader.predict_on_batch(pixels))
