"""Regression concept vectors: the direction of a tap along which a measure grows, and how an output changes along it. Fitting one needs arrays alone, and no Keras."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scalelib.errors import NetworkError, ResultsError, refusing, require
from scalelib.linear import ESTIMATORS, fit_linear, one_thread
from scalelib.regression import r2, refuse_constant_folds, train_test_splits
from scalelib.results import read_arrays, write_atomic
from scalelib.validation import check_activations, check_choice, check_count, check_problem

if TYPE_CHECKING:
    from scalelib.networks import Network


@dataclass(frozen=True, eq=False)
class RCV:
    """A regression concept vector: y ≈ intercept + slope · ⟨direction, activation⟩.

    Parameters
    ----------
    direction : ndarray of float64, shape (channels,)
        Unit vector in the tap's own activation space, of growing measure.
    intercept, slope : float
        In the unit of the measure; per unit of activation along the direction, positive.
    r2 : float
        Mean held-out R² over repeats.
    angle : float
        Mean angle in degrees between the directions of each two repeats: 0 where they agree, about
        90 where they have nothing in common.
    tap, estimator : str
        Where and how it was fitted; the tap may be empty.
    alpha : float
        Ridge penalty of the fit to all images; NaN for other estimators.
    n_images, repeats : int
        Number of images, and of random splits.

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
        X = check_activations({self.tap: activations}, None, operation="RCV.predict")[self.tap]
        rule = f"activations need the {len(self.direction)} channels that the direction has"
        require(X.shape[1] == len(self.direction), "RCV.predict", rule, f"{X.shape[1]} channels")
        return self.intercept + self.slope * (X.astype(np.float64) @ self.direction)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write to a ``.npz`` file, atomically and without pickle.

        Parameters
        ----------
        path : path-like
            Where; :meth:`load` returns every bit.
        """
        write_atomic(path, lambda stream: np.savez(stream, **asdict(self)))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> RCV:
        """Read what :meth:`save` wrote.

        Parameters
        ----------
        path : path-like

        Raises
        ------
        ResultsError
            If there is no such file, it is damaged, or holds something else.
        """
        rule = f"{Path(path).name} holds no regression concept vector"
        with refusing("RCV.load", rule, path, "Write one with RCV.save", error=ResultsError):
            given: dict[str, Any] = {k: v if v.ndim else v.item() for k, v in read_arrays(path).items()}
            rcv = cls(**given)
            wrong = [k for k, v in vars(rcv).items() if not isinstance(v, _KINDS.get(k, (float, int)))]
            unit = rcv.direction.ndim == 1 and np.isclose(np.linalg.norm(rcv.direction), 1)
            if wrong or not (unit and np.isfinite([rcv.intercept, rcv.slope]).all()):
                raise ValueError(f"no finite reading along a unit vector, or {wrong} of another kind")
            return rcv


_KINDS = {"direction": np.ndarray, "tap": str, "estimator": str, "n_images": int, "repeats": int}


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
    estimator : {"ridge", "ols", "ridge_unscaled", "pcr"}, default="ridge"
        See `scalelib.linear.fit_linear`.
    repeats, test_size, groups, random_state
        Of the random splits, which are those of `layerwise_r2`, for R² and stability.

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
    check_choice((estimator,), ESTIMATORS, name="estimator", operation=operation)
    arrays, y, labels = check_problem({tap: activations}, measures, groups=groups, operation=operation)
    X, target = arrays[tap], y[:, None]
    splits = train_test_splits(len(y), repeats, test_size, labels, random_state, operation)
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
    received = f"{X.shape[1]} channels of {tap!r}; the mean of the {len(y)} measures is the best prediction"
    require(slope, operation, "the activations must tell something about the measure", received)
    intercept, alpha = float(fit.offsets[0] - fit.centre @ coefficients), float(fit.alpha[0])
    held_out: dict[str, Any] = {"r2": float(np.mean(scores)), "angle": _mean_angle(np.array(vectors))}
    about: dict[str, Any] = {"tap": tap, "estimator": estimator, "n_images": len(y), "repeats": len(splits)}
    return RCV(coefficients / slope, intercept, slope, alpha=alpha, **held_out, **about)


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
    >>> images = np.zeros((2, 32, 32, 3), np.uint8)
    >>> sensitivity(net, rcv, images, output=7, of="pre_softmax").shape
    (2,)
    """
    from scalelib.activations import as_images, read_batches, tap_reader

    operation = "sensitivity"
    require(np.isfinite(step) and step > 0, operation, "step must be a positive number", f"step={step!r}")
    check_count(batch_size, name="batch_size", operation=operation)
    where = tap or rcv.tap
    advice = f"Pass tap=, one of {', '.join(net.taps)}"
    require(where, operation, "a direction needs its tap", "rcv.tap is empty, tap=None", advice)
    head = _head(net, where, of, output)
    shape = net.tensor(where).shape
    rule = f"the direction must have as many components as {where!r} has channels"
    require(len(rcv.direction) == shape[-1], operation, rule, f"{len(rcv.direction)} and {shape[-1]}")
    if from_tap:
        maps = np.asarray(images)
        sides = zip(shape[1:], maps.shape[1:], strict=False)
        fits = maps.ndim == len(shape) and all(wanted in (None, side) for wanted, side in sides)
        rule = f"activations must be finite and of the shape of {where!r}, {('n', *shape[1:])}"
        require(fits and np.isfinite(maps).all() and len(maps), operation, rule, f"shape {maps.shape}")
        parts = np.split(np.arange(len(maps)), range(batch_size, len(maps), batch_size))
        batches = iter([(list(part), {where: maps[part]}) for part in parts])
    else:
        given, _ = as_images(images, operation=operation, allow_duplicates=True)
        reader = tap_reader(net, {where: where}, pooling=None)
        batches = read_batches(net, reader, given, batch_size=batch_size)
    slopes: dict[int, float] = {}
    for rows, values in batches:
        slopes.update(zip(rows, _slopes(head, values[where], rcv.direction, output, step), strict=True))
    require(slopes, operation, "at least one image is needed", "none")
    return np.array([slopes[row] for row in sorted(slopes)])


def _slopes(head: Any, maps: np.ndarray, direction: np.ndarray, output: int, step: float) -> np.ndarray:
    lengths = np.linalg.norm(maps.astype(np.float64).mean(axis=tuple(range(1, maps.ndim - 1))), axis=1)
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
    unit = len(end.shape) == 2 and not isinstance(output, bool) and 0 <= output < end.shape[-1]
    received = f"unit {output!r} of an output of shape {tuple(end.shape)}"
    require(unit, "sensitivity", "the output must be one unit of a vector", received, error=NetworkError)
    rule = "the output must lie after the tap"
    require(start is not end, "sensitivity", rule, f"{tap!r} for both", error=NetworkError)
    rule = f"the output must depend on the tap {tap!r} alone"
    received = "an output that another path from the image reaches, or an earlier one"
    advice = "Choose a tap that every path runs through, such as the output of a block"
    with refusing("sensitivity", rule, received, advice, error=NetworkError):
        return keras.Model(start, end)
