"""Magnification of an image that does not state it, from features of its patches: an estimate with an interval, or a refusal.

Knows patches, a network's features and arrays; no collection, and nothing of nuclei.
"""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.neighbors import NearestNeighbors

from scalelib.activations import extract
from scalelib.datasets import Dataset
from scalelib.errors import ResultsError, refusing, require
from scalelib.linear import decompose, fit_linear
from scalelib.networks import Network, load_network
from scalelib.results import read_arrays, write_atomic
from scalelib.slides.patches import tissue_mask, tissue_positions
from scalelib.slides.slide import open_slide
from scalelib.validation import check_activations

NEIGHBOURS = 5
COMPONENTS = 32
# Tissue from other laboratories lies farther off than held-out tissue of the same archive: accepted is what lies up to
# this factor beyond the farthest held-out slide. Slides of two other sources lay within 1.27, photographs beyond 1.5, in
# a pilot with features from the middle of MobileNet 0.25. The factor was set after seeing these two slides
# (CMU-1-Small-Region, TCGA-CR-7395): that they are accepted proves nothing.
MARGIN = 1.3
# An estimate beyond the training range by more than this factor is refused.
OUTSIDE = math.sqrt(2)
DEFAULT_NETWORK: dict[str, Any] = {
    "name": "MobileNet", "tap": "conv_pw_5", "weights": "imagenet", "options": {"alpha": 0.25, "include_top": False}
}  # fmt: skip


def conformal_quantile(residuals: np.ndarray, level: float) -> float:
    """Reach of an interval that holds a new residual with at least a given probability; infinite where there are too few.

    The ⌈(n + 1) · level⌉-th smallest absolute held-out error: exact where they are exchangeable (Vovk et al. 2005).
    """
    require(0 < level < 1, "conformal_quantile", "a level lies in (0, 1)", level, error=ResultsError)
    rank = math.ceil((len(residuals) + 1) * level - 1e-9)
    return float(np.sort(residuals)[rank - 1]) if rank <= len(residuals) else math.inf


@dataclass(frozen=True)
class Estimate:
    """What can be said of one image.

    `magnification` is the median over its patches, NaN where `refused` says why there is none; the interval from `low`
    to `high` holds the truth for at least its level of held-out tissue; `novelty` is the median distance of the patches
    from the training tissue, over the largest that is accepted.
    """

    magnification: float
    low: float
    high: float
    patches: int
    novelty: float
    refused: str = ""

    def __str__(self) -> str:
        patches = f"{self.patches} patch{'es' * (self.patches != 1)}"
        if self.refused:
            return f"no estimate from {patches}, {self.refused}"
        middle, low, high = (
            "?" if value in (0, math.inf) else f"{value:.1f}X" if value < 9.95 else f"{value:.0f}X"
            for value in (self.magnification, self.low, self.high)
        )
        return f"about {middle} ({low} to {high}, {patches})"


@dataclass(frozen=True)
class MagnificationEstimator:
    """A ridge read-out of log2 magnification, its calibration, and what tissue looks like to it.

    `centre` is the mean training feature and `offset` the mean training log2 magnification; `residuals` are the absolute
    errors, in octaves, of the median over the patches of each calibration slide at each magnification; `reference` has the
    training features on the whitened principal `axes`, and `threshold` is the largest accepted median over an image's
    patches of the distance to the fifth nearest of them; `limits` are the smallest and largest training magnification.
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
    network: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)

    def estimate(self, features: np.ndarray, *, level: float = 0.9) -> Estimate:
        """The magnification of one image from the features of its patches."""
        centred = np.asarray(features, np.float64) - self.centre
        novelty = float(np.median(_distance(centred @ self.axes, self.reference))) / self.threshold
        middle = float(np.median(centred @ self.coefficients + self.offset))
        reach = conformal_quantile(self.residuals, level)
        value, low, high = (float(2**v) for v in (middle, middle - reach, middle + reach))
        if novelty > 1:
            refused = f"unlike the training tissue ({novelty:.2f} times the accepted distance)"
        elif not self.limits[0] / OUTSIDE <= value <= self.limits[1] * OUTSIDE:
            refused = f"outside the range from {self.limits[0]:g}X to {self.limits[1]:g}X"
        else:
            return Estimate(value, low, high, len(centred), novelty)
        return Estimate(math.nan, math.nan, math.nan, len(centred), novelty, refused)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the estimator as ``.npz``, atomically and without pickle."""
        meta = json.dumps(
            {"patch_size": self.patch_size, "network": dict(self.network), "data": dict(self.data)}
        )
        arrays = {name: np.asarray(getattr(self, name)) for name in _ARRAYS}
        arrays["meta"] = np.frombuffer(meta.encode(), np.uint8)
        packed = io.BytesIO()
        np.savez_compressed(packed, **arrays)  # type: ignore[arg-type]
        write_atomic(path, packed.getvalue())


_ARRAYS = ("coefficients", "centre", "offset", "residuals", "axes", "reference", "threshold", "limits")


def load_estimator(path: str | os.PathLike[str]) -> MagnificationEstimator:
    """Read an estimator that :meth:`MagnificationEstimator.save` wrote."""
    rule, advice = f"{Path(path).name} is no saved estimator", "Make one with 'scalelib magnification --fit'"
    with refusing("load_estimator", rule, path, advice, error=ResultsError):
        stored = read_arrays(path)
        meta = json.loads(stored["meta"].tobytes())
        arrays: dict[str, Any] = {name: stored[name] for name in _ARRAYS}
        channels, components = arrays["axes"].shape
        shapes = [(channels,), (channels,), (), (), (channels, components), (), (), (2,)]
        for (name, array), shape in zip(arrays.items(), shapes, strict=True):
            fits = name in ("residuals", "reference") or array.shape == shape
            if not (fits and array.dtype.kind == "f" and array.size and np.isfinite(array).all()):
                raise ValueError(f"{name} holds other numbers than it should")
        if arrays["residuals"].ndim != 1 or arrays["reference"].shape[1:] != (components,):
            raise ValueError("residuals or reference have another shape than they should")
        arrays |= {name: float(arrays[name]) for name in ("offset", "threshold")}
        arrays["limits"] = tuple(arrays["limits"].tolist())
        arrays |= {name: dict(meta.get(name, {})) for name in ("network", "data")}
        return MagnificationEstimator(**arrays, patch_size=int(meta["patch_size"]))


def fit_magnification(
    features: np.ndarray, table: pd.DataFrame, *, patch_size: int, **origin: Mapping[str, Any]
) -> MagnificationEstimator:
    """Fit an estimator on pooled features of training patches and calibrate it on validation patches.

    `table` has ``split, slide, magnification`` of the same patches; test patches are not looked at; `origin` says the
    `network` and the `data`. Interval: split
    conformal prediction (Vovk et al. 2005) over slides × magnifications; cells of one slide are not independent, so with
    few slides the level is a guide. Novelty: distance to the fifth nearest training patch on whitened principal components
    (after Sun et al. 2022); the threshold is `MARGIN` times the largest median over the patches of a validation slide at
    one magnification.
    """
    values = check_activations({"features": features}, len(table), operation="fit_magnification")["features"]
    values = values.astype(np.float64)
    train, held_out = (np.flatnonzero(table["split"] == s) for s in ("train", "validation"))
    received = f"{len(train)} and {len(held_out)} of the splits train and validation"
    rule = "patches to train and to calibrate are needed"
    require(len(train) and len(held_out), "fit_magnification", rule, received, error=ResultsError)
    octaves = np.log2(table["magnification"].to_numpy(np.float64))
    fit = fit_linear(values[train], octaves[train, None], "ridge")
    axes = _whitened_axes(values[train])
    reference = (values[train] - fit.centre) @ axes
    cells = table.iloc[held_out][["slide", "magnification"]].assign(
        error=fit.predict(values[held_out])[:, 0] - octaves[held_out],
        novelty=_distance((values[held_out] - fit.centre) @ axes, reference),
    )
    medians = cells.groupby(["slide", "magnification"]).median()
    return MagnificationEstimator(
        coefficients=fit.coefficients[:, 0],
        centre=fit.centre,
        offset=float(fit.offsets[0]),
        residuals=np.sort(medians["error"].abs().to_numpy()),
        axes=axes,
        reference=reference,
        threshold=MARGIN * float(medians["novelty"].max()),
        limits=(float(table["magnification"].min()), float(table["magnification"].max())),
        patch_size=patch_size,
        **origin,
    )


def _whitened_axes(features: np.ndarray) -> np.ndarray:
    """Principal axes of standardised features, so scaled that projections have variance 1; at most 32."""
    spectrum = decompose(features)
    require(spectrum.singular.size, "fit_magnification", "features differ from patch to patch", "equal ones")
    kept = min(COMPONENTS, int((spectrum.singular > 1e-6 * spectrum.singular[0]).sum()))
    unit = math.sqrt(len(features)) / spectrum.singular[:kept]
    return np.asarray(spectrum.axes @ spectrum.mix[:, :kept] * unit)


def _distance(places: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Distance of each place to its fifth nearest reference, or to the farthest where there are fewer."""
    nearest = NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(reference))).fit(reference)
    return np.asarray(nearest.kneighbors(places)[0][:, -1])


def load_described(network: Mapping[str, Any], *, data_root: str | os.PathLike[str] | None = None) -> Network:
    """Load the network of an estimator, ``name, weights, input_size, options``; refused where the weights have changed."""
    how = {"weights": network["weights"], "input_size": network["input_size"], **network["options"]}
    net = load_network(network["name"], data_root=data_root, **how)
    fitted = network.get("weights_digest", net.weights_digest)
    rule = "the weights are not those that the estimator was fitted with"
    received = f"digest {net.weights_digest[:12]}…, fitted with {fitted[:12]}…"
    require(net.weights_digest == fitted, "magnification", rule, received, error=ResultsError)
    return net


def image_patches(
    image: str | os.PathLike[str] | np.ndarray, *, size: int, downsample: float = 1.0, max_patches: int = 64
) -> np.ndarray:
    """Patches of an image at its own or a coarser resolution, whatever it states: (n, size, size, 3), uint8.

    `downsample` is pixels of the image per pixel of a patch. Patches with less tissue are left out; where none has enough,
    those with the most colour stay, so that the estimator can say that they are no tissue.
    """
    require(downsample >= 1, "image_patches", "downsample is at least 1", downsample)
    # The scale is what is asked for: a nominal one makes "magnification" mean pixels of the image.
    with open_slide(image, power=40.0, mpp=0.25) as slide:
        width, height = slide.size
        extent, received = size * downsample, f"size={size}, downsample={downsample:g}"
        rule = f"a patch of {extent:g} px a side is no larger than the image, here {width}×{height} px"
        advice = "Give a larger image or a smaller downsample."
        require(min(width, height) >= extent, "image_patches", rule, received, advice)
        nominal = slide.power / downsample
        tissue, rng = tissue_mask(slide.overview()), np.random.default_rng(0)
        found = tissue_positions(slide, tissue, size, nominal, rng, at_most=max_patches)
        return np.stack([slide.read(x, y, size, magnification=nominal) for x, y, _ in found])


def fit_estimator(
    patches: Dataset, *, network: Mapping[str, Any] = DEFAULT_NETWORK, loaded: Network | None = None
) -> MagnificationEstimator:
    """Fit an estimator on the training patches of slides, calibrated on those held out.

    Parameters
    ----------
    patches : Dataset
        Square patches; `table` with ``slide, split, magnification``. Test patches are not looked at.
    network : mapping, default=DEFAULT_NETWORK
        ``name, tap, weights, options`` as :func:`~scalelib.networks.load_network` takes them; the size of
        the patches becomes its input size.
    loaded : Network, optional
        The network of that description where it is at hand; otherwise it is loaded.

    Returns
    -------
    MagnificationEstimator
        Keeps the network's description and digest, and what the patches were.
    """
    rows = np.flatnonzero(patches.table["split"] != "test")
    height, width = np.shape(patches.images[int(rows[0])])[:2] if len(rows) else (0, 0)
    require(height == width > 0, "fit_estimator", "patches are square", f"{len(rows)} of {width}×{height} px")
    table = patches.table.iloc[rows]
    net = loaded or load_described({**network, "input_size": height})
    tap = network["tap"]
    kept = {"input_size": height, "weights_label": net.weights, "weights_digest": net.weights_digest}
    slides = {str(k): int(v) for k, v in table.groupby("split")["slide"].nunique().items()}
    data = {name: getattr(patches, name) for name in ("name", "source", "digest")}
    data |= {"slides": slides, "patches": len(table)}
    features = extract(net, (patches.images[int(i)] for i in rows), taps=[tap])[tap]
    return fit_magnification(features, table, patch_size=height, network={**network, **kept}, data=data)
