"""Scores of transferred networks: errors of nuclei areas, magnification classes, Cohen's kappa. Knows tables of predictions only; neither networks nor slides."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.metrics import cohen_kappa_score

from scalelib.errors import require

# Columns that name one trained network in a table of predictions.
RUN = ["network", "row", "tap", "target", "seed"]


def class_means(table: pd.DataFrame) -> pd.Series:
    """Mean nucleus area in px of each magnification, over training patches only (Graziani et al. 2021, section 3.5)."""
    means = table[table["split"] == "train"].groupby("magnification")["mean_area_px"].mean()
    missing = sorted(set(table["magnification"]) - set(means.index))
    require(not missing, "class_means", "every magnification needs training patches", f"none at {missing}")
    return means


def mean_prediction_error(table: pd.DataFrame, *, split: str = "test") -> float:
    """Mean absolute error in px of predicting the mean area of the training patches everywhere, which any network must beat."""
    mean = table.loc[table["split"] == "train", "mean_area_px"].mean()
    return float((table.loc[table["split"] == split, "mean_area_px"] - mean).abs().mean())


def nearest_magnification(predicted: ArrayLike, means: pd.Series) -> np.ndarray:
    """The magnification whose mean is nearest to each predicted value; of two equally near the smaller."""
    values, means = np.asarray(predicted, np.float64), means.sort_index()
    received = f"{(~np.isfinite(values)).sum()} of {values.size} that are not"
    require(np.isfinite(values).all(), "nearest_magnification", "predictions are finite", received)
    nearest = np.abs(values[:, None] - means.to_numpy(np.float64)).argmin(axis=1)
    return means.index.to_numpy(np.float64)[nearest]


def confusion(true: ArrayLike, predicted: ArrayLike) -> pd.DataFrame:
    """Counts of patches by true (rows) and predicted class (columns)."""
    counts = pd.crosstab(np.asarray(true), np.asarray(predicted))
    classes = counts.index.union(counts.columns)
    return counts.reindex(index=classes.rename("true"), columns=classes.rename("predicted"), fill_value=0)


def agreement(true: ArrayLike, named: ArrayLike) -> dict[str, float]:
    """Agreement of named with true classes: Cohen's kappa, kappa with the same total weight for every true class, accuracy.

    Kappa is NaN where chance alone agrees fully (one class).
    """
    classes, codes = np.unique(np.concatenate([true, named]), return_inverse=True)
    given, found = np.split(codes, 2)
    same_weight = 1 / np.bincount(given)[given]
    kappas = [
        float(cohen_kappa_score(given, found, sample_weight=weight)) if len(classes) > 1 else np.nan
        for weight in (None, same_weight)
    ]
    return {"kappa": kappas[0], "kappa_balanced": kappas[1], "accuracy": float((given == found).mean())}


def score_predictions(predictions: pd.DataFrame, means: pd.Series, *, split: str = "test") -> pd.DataFrame:
    """Scores of each trained network, over all patches of a split (slide ``all``) and slide by slide.

    Predictions are in px for the target ``area``, scored in px and µm², and in octaves for ``log2_magnification``; both
    name a magnification, see :func:`with_magnification`, scored by :func:`agreement`.
    """
    scored = with_magnification(predictions[predictions["split"] == split], means)
    area, is_area = (scored["predicted"] - scored["mean_area_px"]).abs(), scored["target"] == "area"
    octaves = (scored["predicted"] - np.log2(scored["magnification"])).abs()
    scored = scored.assign(
        mae_px=area.where(is_area),
        mae_um2=(area * scored["mpp"] ** 2).where(is_area),
        mae_octaves=octaves.mask(is_area),
    )
    records = []
    for key, run in scored.groupby(RUN, sort=False):
        for slide, part in [("all", run), *run.groupby("slide")]:
            errors = part[["mae_px", "mae_um2", "mae_octaves"]].mean()
            classes = agreement(part["magnification"], part["named_magnification"])
            name = dict(zip(RUN, key, strict=True))
            records.append({**name, "slide": slide, "n_patches": len(part), **errors, **classes})
    return pd.DataFrame(records)


def with_magnification(predictions: pd.DataFrame, means: pd.Series) -> pd.DataFrame:
    """Predictions with `named_magnification`: of the nearest class mean for areas, else of the nearest logarithm."""
    octaves = pd.Series(np.log2(means.index.to_numpy(np.float64)), means.index)
    is_area, value = predictions["target"] == "area", predictions["predicted"]
    named = np.where(is_area, nearest_magnification(value, means), nearest_magnification(value, octaves))
    return predictions.assign(named_magnification=named)
