"""Magnification of an image that does not state it, with an interval, or a refusal.

Knows features and patch tables only; scalelib.magnification_images reads images and networks.
"""

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

from scalelib.errors import ResultsError
from scalelib.novelty import conformal_quantile, distance_to_reference, whitened_axes
from scalelib.provenance import write_atomic
from scalelib.solvers import fit_linear
from scalelib.validation import check_activations

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
        What makes the features: JSON-serialisable, see scalelib.magnification_images.
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
