"""How far features lie from those seen in training, and how far held-out errors reach. Knows arrays only. Magnification of an image that does not state it, with an interval, or a refusal. Magnification of slides and figures: patches of an image, features of a network, an estimate. An estimator of magnification from patches of slides: a network's features, then the fit."""

from __future__ import annotations

import io
import json
import math
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scalelib.activations import extract
from scalelib.datasets import Dataset
from scalelib.errors import DataError, ResultsError
from scalelib.linear import fit_linear
from scalelib.networks import Network, load_network
from scalelib.results import write_atomic
from scalelib.slides.patches import tissue_mask, tissue_positions
from scalelib.slides.slide import open_slide
from scalelib.validation import check_activations

NEIGHBOURS = 5
COMPONENTS = 32
SMALLEST_SCALE = 1e-2


def conformal_quantile(residuals: np.ndarray, level: float) -> float:
    """Reach of an interval that holds a new residual with at least a given probability.

    Parameters
    ----------
    residuals : ndarray of shape (n,)
        Absolute held-out errors.
    level : float
        In (0, 1).

    Returns
    -------
    float
        The ⌈(n + 1) · level⌉-th smallest; infinite where there are too few for the level.

    Raises
    ------
    ResultsError
        If the level is not in (0, 1).

    Notes
    -----
    Vovk et al. 2005; exact where residuals are exchangeable.

    Examples
    --------
    >>> conformal_quantile(np.arange(1.0, 10.0), 0.9), conformal_quantile(np.arange(1.0, 9.0), 0.9)
    (9.0, inf)
    """
    if not 0 < level < 1:
        raise ResultsError(f"conformal_quantile: a level lies in (0, 1).\nReceived: {level}.")
    rank = math.ceil((len(residuals) + 1) * level - 1e-9)
    return float(np.sort(residuals)[rank - 1]) if rank <= len(residuals) else math.inf


def whitened_axes(centred: np.ndarray) -> np.ndarray:
    """Principal axes of standardised features, scaled so that projections have variance 1.

    Parameters
    ----------
    centred : ndarray of shape (n, channels), float64
        Features less their means.

    Returns
    -------
    ndarray of shape (channels, n_components)
        At most 32 components. A feature that varies less than a hundredth as much as the most
        variable one is divided by that hundredth instead: noise is not blown up.

    Examples
    --------
    >>> values = np.random.default_rng(0).normal(size=(500, 4)) * [1, 10, 5, 2]
    >>> values -= values.mean(axis=0)
    >>> np.round(np.cov((values @ whitened_axes(values)).T), 1).diagonal().tolist()
    [1.0, 1.0, 1.0, 1.0]
    """
    spread = centred.std(axis=0)
    scale = np.maximum(spread, SMALLEST_SCALE * spread.max())
    scale[scale == 0] = 1.0
    _, singular, right = np.linalg.svd(centred / scale, full_matrices=False)
    kept = max(1, min(COMPONENTS, int((singular > 1e-6 * singular[0]).sum())))
    return right[:kept].T / scale[:, None] * (math.sqrt(len(centred)) / np.maximum(singular[:kept], 1e-300))


def distance_to_reference(places: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Euclidean distance of each place to its fifth nearest reference.

    Parameters
    ----------
    places : ndarray of shape (n, k)
    reference : ndarray of shape (m, k)
        With fewer than five, the farthest counts.

    Returns
    -------
    ndarray of shape (n,)

    Examples
    --------
    >>> distance_to_reference(np.zeros((1, 1)), np.arange(1.0, 8.0)[:, None]).tolist()
    [5.0]
    """
    distances = np.empty(len(places))
    squares = (reference**2).sum(axis=1)
    nth = min(NEIGHBOURS, len(reference)) - 1
    for start in range(0, len(places), 256):
        part = places[start : start + 256]
        gaps = (part**2).sum(axis=1)[:, None] - 2 * part @ reference.T + squares
        distances[start : start + 256] = np.sqrt(np.maximum(np.partition(gaps, nth, axis=1)[:, nth], 0))
    return distances


MARGIN = 1.3
"""Tissue from other laboratories lies farther off than held-out tissue of the same archive: accepted is
what lies up to this factor beyond the farthest held-out slide. Slides of two other sources lay within
1.27, photographs beyond 1.5, in a pilot with features from the middle of MobileNet 0.25. The factor was
set after seeing these two slides (CMU-1-Small-Region, TCGA-CR-7395): that they are accepted proves nothing."""

OUTSIDE = math.sqrt(2)
"""An estimate beyond the training range by more than this factor is refused."""


@dataclass(frozen=True)
class Estimate:
    """What can be said of one image.

    Parameters
    ----------
    magnification : float
        Median over patches; NaN where refused.
    low, high : float
        Interval that holds the truth for at least `level` of held-out tissue.
    patches : int
        Patches looked at.
    novelty : float
        Median distance of the patches from the training tissue, over the largest that is accepted.
    refused : str
        Why there is no estimate; empty where there is one.
    """

    magnification: float
    low: float
    high: float
    patches: int
    novelty: float
    refused: str = ""


@dataclass(frozen=True)
class MagnificationEstimator:
    """A ridge read-out of log-magnification, its calibration, and what tissue looks like to it.

    Parameters
    ----------
    coefficients : ndarray of shape (channels,)
    centre : ndarray of shape (channels,)
        Mean training feature.
    offset : float
        Mean training log2 magnification.
    residuals : ndarray of shape (n_cells,)
        Sorted absolute errors, in octaves, of the median over the patches of each calibration slide at
        each magnification.
    axes : ndarray of shape (channels, n_components)
        Whitened principal axes of the training features.
    reference : ndarray of shape (n_reference, n_components)
        Training features on these axes.
    threshold : float
        Largest accepted median over an image's patches of the distance to the fifth nearest reference.
    limits : tuple of float
        Smallest and largest training magnification.
    patch_size : int
        Side of a patch in pixels.
    network : dict
        What makes the features: JSON-serialisable, see scalelib.slides.magnification.
    data : dict, default={}
        What it was fitted on: JSON-serialisable.
    """

    coefficients: np.ndarray
    centre: np.ndarray
    offset: float
    residuals: np.ndarray
    axes: np.ndarray
    reference: np.ndarray
    threshold: float
    limits: tuple[float, float]
    patch_size: int
    network: Mapping[str, Any]
    data: Mapping[str, Any] = field(default_factory=dict)

    def octaves(self, features: np.ndarray) -> np.ndarray:
        """Log2 magnification of each patch, of shape (n,)."""
        return (np.asarray(features, np.float64) - self.centre) @ self.coefficients + self.offset

    def novelty(self, features: np.ndarray) -> np.ndarray:
        """Distance of each patch to its fifth nearest training patch, of shape (n,)."""
        return distance_to_reference(
            (np.asarray(features, np.float64) - self.centre) @ self.axes, self.reference
        )

    def estimate(self, features: np.ndarray, *, level: float = 0.9) -> Estimate:
        """Estimate the magnification of one image from the features of its patches.

        Parameters
        ----------
        features : ndarray of shape (n_patches, channels)
        level : float, default=0.9
            Of the interval, in (0, 1).

        Returns
        -------
        Estimate
            Refused where the patches' median distance from the training tissue exceeds the threshold,
            or the estimate lies beyond the training range by more than √2.

        Raises
        ------
        ResultsError
            If there are no features, or not of the training width.
        """
        features = np.asarray(features, np.float64)
        if features.ndim != 2 or len(features) == 0 or features.shape[1] != len(self.centre):
            raise ResultsError(
                f"estimate: features of at least one patch, {len(self.centre)} channels each.\n"
                f"Received: shape {features.shape}."
            )
        novelty = float(np.median(self.novelty(features))) / self.threshold
        middle = float(np.median(self.octaves(features)))
        reach = conformal_quantile(self.residuals, level)
        value, low, high = (float(2**v) for v in (middle, middle - reach, middle + reach))
        if novelty > 1:
            refused = f"unlike the training tissue ({novelty:.2f} times the accepted distance)"
        elif not self.limits[0] / OUTSIDE <= value <= self.limits[1] * OUTSIDE:
            refused = f"outside the range from {self.limits[0]:g}X to {self.limits[1]:g}X"
        else:
            return Estimate(value, low, high, len(features), novelty)
        return Estimate(math.nan, math.nan, math.nan, len(features), novelty, refused)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the estimator as ``.npz``, atomically and without pickle."""
        arrays = {name: np.asarray(getattr(self, name)) for name in _ARRAYS}
        meta = json.dumps(
            {"patch_size": self.patch_size, "network": dict(self.network), "data": dict(self.data)}
        )
        arrays["meta"] = np.frombuffer(meta.encode(), np.uint8)

        def write(stream: io.BufferedIOBase) -> None:
            np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]

        write_atomic(path, write)


_ARRAYS = ("coefficients", "centre", "offset", "residuals", "axes", "reference", "threshold", "limits")


def load_estimator(path: str | os.PathLike[str]) -> MagnificationEstimator:
    """Read an estimator that :meth:`MagnificationEstimator.save` wrote.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    MagnificationEstimator

    Raises
    ------
    ResultsError
        If the file is missing or no estimator.

    Examples
    --------
    >>> load_estimator("none.npz")
    Traceback (most recent call last):
    ...
    scalelib.errors.ResultsError: load_estimator: none.npz is no saved estimator.
    ...
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in _ARRAYS}
            meta = json.loads(file["meta"].tobytes())
        return MagnificationEstimator(
            **{name: arrays[name] for name in ("coefficients", "centre", "residuals", "axes", "reference")},
            offset=float(arrays["offset"]),
            threshold=float(arrays["threshold"]),
            limits=(float(arrays["limits"][0]), float(arrays["limits"][1])),
            patch_size=int(meta["patch_size"]),
            network=meta["network"],
            data=meta.get("data", {}),
        )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ResultsError(
            f"load_estimator: {Path(path).name} is no saved estimator.\nReceived: {error}.\n"
            "Make one with fit_magnification(...).save(path)."
        ) from error


def fit_magnification(
    features: np.ndarray,
    table: pd.DataFrame,
    *,
    patch_size: int,
    network: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
) -> MagnificationEstimator:
    """Fit an estimator on training patches and calibrate it on validation patches.

    Parameters
    ----------
    features : ndarray of shape (n_patches, channels)
        Pooled features of one tap.
    table : pandas.DataFrame
        ``split, slide, magnification`` of the same patches; test patches are not looked at.
    patch_size : int
        Side of the patches in pixels.
    network : mapping, optional
        Description of the network, kept with the estimator.
    data : mapping, optional
        Description of the data, kept with the estimator.

    Returns
    -------
    MagnificationEstimator

    Raises
    ------
    DataError
        If features and table differ in length, or a feature is not finite.
    ResultsError
        If there are no training or no validation patches.

    Notes
    -----
    Interval: split conformal prediction (Vovk et al. 2005) over slides × magnifications; cells of one
    slide are not independent, so with few slides the level is a guide. Novelty: distance to the fifth
    nearest training patch on whitened principal components (after Sun et al. 2022); the threshold is
    `MARGIN` times the largest median over the patches of a validation slide at one magnification.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> table = pd.DataFrame({"split": ["train"] * 60 + ["validation"] * 40, "slide": ["a"] * 60 + ["b"] * 40,
    ...                       "magnification": np.tile([5.0, 10.0, 20.0, 40.0], 25)})
    >>> features = np.log2(table[["magnification"]].to_numpy()) + rng.normal(0, 0.05, (100, 3))
    >>> estimator = fit_magnification(features, table, patch_size=96)
    >>> found = estimator.estimate(features[table.magnification == 20])
    >>> found.low < 20 < found.high, found.refused
    (True, '')
    """
    values = check_activations({"features": features}, len(table), operation="fit_magnification")["features"]
    values = values.astype(np.float64)
    train, held_out = (np.flatnonzero(table["split"] == s) for s in ("train", "validation"))
    if min(len(train), len(held_out)) == 0:
        raise ResultsError(
            "fit_magnification: patches to train and to calibrate are needed.\n"
            f"Received: {len(train)} and {len(held_out)} of the splits train and validation."
        )
    octaves = np.log2(table["magnification"].to_numpy(np.float64))
    fit = fit_linear(values[train], octaves[train, None], "ridge")
    error = fit.predict(values[held_out])[:, 0] - octaves[held_out]
    cells = table.iloc[held_out][["slide", "magnification"]].assign(error=error)
    by = ["slide", "magnification"]
    residuals = np.sort(cells.groupby(by)["error"].median().abs().to_numpy())
    axes = whitened_axes(values[train] - fit.centre)
    reference = (values[train] - fit.centre) @ axes
    novelty = distance_to_reference((values[held_out] - fit.centre) @ axes, reference)
    return MagnificationEstimator(
        coefficients=fit.coefficients[:, 0],
        centre=fit.centre,
        offset=float(fit.offsets[0]),
        residuals=residuals,
        axes=axes,
        reference=reference,
        threshold=MARGIN * float(cells.assign(novelty=novelty).groupby(by)["novelty"].median().max()),
        limits=(float(table["magnification"].min()), float(table["magnification"].max())),
        patch_size=patch_size,
        network=dict(network or {}),
        data=dict(data or {}),
    )


def describe_network(
    name: str,
    *,
    tap: str,
    weights: str = "imagenet",
    input_size: int,
    options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What an estimator keeps of its network, so that it can be loaded again.

    Parameters
    ----------
    name : str
        What :func:`~scalelib.networks.load_network` takes.
    tap : str
        Whose pooled features are read.
    weights : str, default="imagenet"
    input_size : int
        Side of the patches in pixels.
    options : mapping, optional
        Further options of ``load_network``; JSON-serialisable.

    Returns
    -------
    dict
        With ``weights_digest`` of the weights as they are now.

    Examples
    --------
    >>> found = describe_network("MobileNet", tap="conv_pw_3", weights="random", input_size=32,
    ...                          options={"alpha": 0.25, "include_top": False})
    >>> sorted(found)
    ['input_size', 'name', 'options', 'tap', 'weights', 'weights_digest']
    """
    wanted = {
        "name": name,
        "tap": tap,
        "weights": weights,
        "input_size": input_size,
        "options": dict(options or {}),
    }
    return {**wanted, "weights_digest": load_described(wanted).weights_digest}


def load_described(network: Mapping[str, Any], *, data_root: str | os.PathLike[str] | None = None) -> Network:
    """Load the network that :func:`describe_network` describes.

    Parameters
    ----------
    network : mapping
        ``name, weights, input_size, options``, as an estimator keeps them.
    data_root : path-like, optional
        Where weight files are looked for first.

    Returns
    -------
    Network

    Examples
    --------
    >>> load_described({"name": "MobileNet", "weights": "random", "input_size": 32,
    ...                 "options": {"alpha": 0.25, "include_top": False}}).input_size
    (32, 32)
    """
    return load_network(
        network["name"],
        weights=network["weights"],
        input_size=network["input_size"],
        data_root=data_root,
        **network["options"],
    )


def image_patches(
    image: str | os.PathLike[str] | np.ndarray,
    *,
    size: int,
    downsample: float = 1.0,
    max_patches: int = 64,
    min_tissue: float = 0.5,
    random_state: int = 0,
) -> np.ndarray:
    """Patches of an image at its own or a coarser resolution, whatever it states.

    Parameters
    ----------
    image : path-like or ndarray of shape (height, width, 3), uint8
        A slide, a figure in PNG, JPEG or TIFF, or pixels.
    size : int
        Side of a patch in pixels.
    downsample : float, default=1
        At least 1: pixels of the image per pixel of a patch, by area means.
    max_patches : int, default=64
        At most so many, drawn at random where there are more.
    min_tissue : float, default=0.5
        Patches with less tissue are left out; where none has enough, those with the most colour stay,
        so that the estimator can say that they are no tissue.
    random_state : int, default=0

    Returns
    -------
    ndarray of shape (n, size, size, 3), uint8

    Raises
    ------
    DataError
        If the image cannot be read, is smaller than a patch, or `downsample` is below 1.

    Examples
    --------
    >>> image_patches(np.full((70, 100, 3), (220, 140, 190), np.uint8), size=32).shape
    (6, 32, 32, 3)
    """
    if not downsample >= 1:
        raise DataError(f"image_patches: downsample is at least 1.\nReceived: {downsample}.")
    # The scale is what is asked for: a nominal one makes "magnification" mean pixels of the image.
    with open_slide(image, power=40.0, mpp=0.25) as slide:
        if min(slide.size) < size * downsample:
            raise DataError(
                f"image_patches: a patch of {size * downsample:g} px a side is no larger than the slide or "
                f"image, here {slide.size[0]}×{slide.size[1]} px.\n"
                f"Received: size={size}, downsample={downsample:g}.\nGive a larger image or a smaller downsample."
            )
        nominal = slide.power / downsample
        found = tissue_positions(
            slide,
            tissue_mask(slide.overview()),
            size,
            nominal,
            min_tissue=min_tissue,
            at_most=max_patches,
            random_state=random_state,
        )
        return np.stack([slide.read(x, y, size, magnification=nominal) for x, y, _ in found])


def check_weights(network: Network, estimator: MagnificationEstimator) -> None:
    """Refuse a network whose weights are not those that the estimator was fitted with.

    Raises
    ------
    ResultsError
    """
    fitted = estimator.network["weights_digest"]
    if network.weights_digest != fitted:
        raise ResultsError(
            "estimate_magnification: the weights are not those that the estimator was fitted with.\n"
            f"Received: digest {network.weights_digest[:12]}…, fitted with {fitted[:12]}…."
        )


def estimate_magnification(
    image: str | os.PathLike[str] | np.ndarray,
    estimator: MagnificationEstimator,
    *,
    network: Network | None = None,
    downsample: float = 1.0,
    level: float = 0.9,
    max_patches: int = 64,
    random_state: int = 0,
) -> Estimate:
    """Estimate the magnification of an image as its pixels show it.

    Parameters
    ----------
    image : path-like or ndarray of shape (height, width, 3), uint8
    estimator : MagnificationEstimator
    network : Network, optional
        The estimator's network where it is at hand; otherwise it is loaded.
    downsample : float, default=1
        See :func:`image_patches`; the estimate is that of the coarser image.
    level : float, default=0.9
        Of the interval.
    max_patches, random_state
        See :func:`image_patches`.

    Returns
    -------
    Estimate

    Raises
    ------
    DataError
        If the image cannot be read or is smaller than a patch.
    ResultsError
        If the network's weights are not those that the estimator was fitted with.
    """
    network = network or load_described(estimator.network)
    check_weights(network, estimator)
    tap = estimator.network["tap"]
    patches = image_patches(
        image,
        size=estimator.patch_size,
        downsample=downsample,
        max_patches=max_patches,
        random_state=random_state,
    )
    return estimator.estimate(extract(network, patches, taps=[tap])[tap], level=level)


def estimate_text(name: str, found: Estimate) -> str:
    """One line for a person.

    Examples
    --------
    >>> estimate_text("a.svs", Estimate(19.6, 15.2, 25.3, 64, 0.8))
    'a.svs: about 20X (15X to 25X, 64 patches)'
    """
    if found.refused:
        return f"{name}: no estimate from {found.patches} patch{'es' * (found.patches != 1)}, {found.refused}"
    bounds = " to ".join("?" if math.isinf(v) or v == 0 else _rounded(v) for v in (found.low, found.high))
    return f"{name}: about {_rounded(found.magnification)} ({bounds}, {found.patches} patch{'es' * (found.patches != 1)})"


def _rounded(magnification: float) -> str:
    return f"{magnification:.1f}X" if magnification < 9.95 else f"{magnification:.0f}X"


DEFAULT_NETWORK: dict[str, Any] = {
    "name": "MobileNet",
    "tap": "conv_pw_5",
    "weights": "imagenet",
    "options": {"alpha": 0.25, "include_top": False},
}


def fit_estimator(
    patches: Dataset,
    *,
    network: Mapping[str, Any] = DEFAULT_NETWORK,
    loaded: Network | None = None,
) -> MagnificationEstimator:
    """Fit an estimator on the training patches of slides, calibrated on those held out.

    Parameters
    ----------
    patches : Dataset
        Square patches; `table` with ``slide, split, magnification``. Test patches are not looked at.
    network : mapping, default=DEFAULT_NETWORK
        ``name, tap, weights, options`` as :func:`~scalelib.slides.magnification.describe_network`
        takes them; the size of the patches becomes its input size.
    loaded : Network, optional
        The network of that description where it is at hand; otherwise it is loaded.

    Returns
    -------
    MagnificationEstimator
        Keeps the network's description and digest, and what the patches were.

    Raises
    ------
    DataError
        If patches are not square, or not of one size.
    NetworkError, WeightsError
        As :func:`~scalelib.networks.load_network`.
    ResultsError
        If there are no training or no validation patches.

    Examples
    --------
    >>> import pandas as pd
    >>> pixels = np.random.default_rng(0).integers(0, 255, (8, 32, 32, 3), dtype=np.uint8)
    >>> table = pd.DataFrame({"slide": list("aaaabbbb"), "split": ["train"] * 4 + ["validation"] * 4,
    ...                       "magnification": [10.0, 10.0, 20.0, 20.0] * 2})
    >>> found = fit_estimator(Dataset("noise", pixels, table), network=DEFAULT_NETWORK | {"weights": "random"})
    >>> found.data["slides"], found.patch_size
    ({'train': 1, 'validation': 1}, 32)
    """
    rows = np.flatnonzero(patches.table["split"] != "test")
    height, width = np.shape(patches.images[int(rows[0])])[:2] if len(rows) else (0, 0)
    if not height == width > 0:
        raise DataError(f"fit_estimator: patches are square.\nReceived: {len(rows)} of {width}×{height} px.")
    table = patches.table.iloc[rows]
    net = loaded or load_described({**network, "input_size": height})
    tap = network["tap"]
    features = extract(net, (patches.images[int(i)] for i in rows), taps=[tap])[tap]
    return fit_magnification(
        features,
        table,
        patch_size=height,
        network={
            **network,
            "input_size": height,
            "weights_label": net.weights,
            "weights_digest": net.weights_digest,
        },
        data={
            "name": patches.name,
            "source": patches.source,
            "digest": patches.digest,
            "slides": {str(k): int(v) for k, v in table.groupby("split")["slide"].nunique().items()},
            "patches": len(table),
        },
    )
