"""Scores of transferred networks: errors of nuclei areas, magnification classes, Cohen's kappa.

Knows tables of predictions only; neither networks nor slides.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from scalelib.errors import DataError, ResultsError

RUN = ["network", "row", "tap", "target", "seed"]
"""Columns that name one trained network in a table of predictions."""


def class_means(table: pd.DataFrame) -> pd.Series:
    """Mean nucleus area of each magnification, over training patches only.

    Parameters
    ----------
    table : pandas.DataFrame
        Columns ``split, magnification, mean_area_px``, one row per patch.

    Returns
    -------
    pandas.Series
        Mean area in px, indexed by magnification, ascending.

    Raises
    ------
    DataError
        If there are no training patches, or a magnification of the table has none.

    Notes
    -----
    Graziani et al. 2021, section 3.5. Their means for the seven magnifications are 21.37 … 913.82 px.

    Examples
    --------
    >>> rows = pd.DataFrame({"split": ["train", "train", "test"], "magnification": [5.0, 5.0, 5.0],
    ...                      "mean_area_px": [10.0, 20.0, 99.0]})
    >>> class_means(rows).to_dict()
    {5.0: 15.0}
    """
    means = table[table["split"] == "train"].groupby("magnification")["mean_area_px"].mean()
    missing = sorted(set(table["magnification"]) - set(means.index))
    if missing:
        raise DataError(
            "class_means: every magnification needs training patches.\n"
            f"Received: none at {', '.join(f'{m:g}X' for m in missing)}."
        )
    return means.sort_index()


def mean_prediction_error(table: pd.DataFrame, *, split: str = "test") -> float:
    """Mean absolute error of predicting the mean area of the training patches everywhere, which any network must beat.

    Parameters
    ----------
    table : pandas.DataFrame
        Columns ``split, mean_area_px``, one row per patch.
    split : str, default="test"

    Returns
    -------
    float
        In px.

    Examples
    --------
    >>> mean_prediction_error(pd.DataFrame({"split": ["train", "train", "test"], "mean_area_px": [1.0, 3.0, 7.0]}))
    5.0
    """
    mean = table.loc[table["split"] == "train", "mean_area_px"].mean()
    return float((table.loc[table["split"] == split, "mean_area_px"] - mean).abs().mean())


def nearest_magnification(predicted: ArrayLike, means: pd.Series) -> np.ndarray:
    """The magnification whose class mean is nearest to each predicted value.

    Parameters
    ----------
    predicted : array-like of float, shape (n,)
        Finite predicted areas (or other values in the units of `means`).
    means : pandas.Series
        Value of each class, indexed by magnification; of two equally near the smaller is taken.

    Returns
    -------
    ndarray of float64, shape (n,)

    Raises
    ------
    ResultsError
        If a prediction is not finite.

    Examples
    --------
    >>> nearest_magnification([0.0, 34.0, 1e6], pd.Series({5.0: 20.0, 8.0: 40.0, 40.0: 900.0})).tolist()
    [5.0, 8.0, 40.0]
    """
    values = np.asarray(predicted, np.float64)
    if not np.isfinite(values).all():
        raise ResultsError(
            "nearest_magnification: predictions are finite.\n"
            f"Received: {int((~np.isfinite(values)).sum())} of {values.size} that are not."
        )
    means = means.sort_index()
    nearest = np.abs(values[:, None] - means.to_numpy(np.float64)).argmin(axis=1)
    return means.index.to_numpy(np.float64)[nearest]


def confusion(true: ArrayLike, predicted: ArrayLike, *, labels: Sequence[Any] | None = None) -> pd.DataFrame:
    """Counts of patches by true and predicted class.

    Parameters
    ----------
    true, predicted : array-like of shape (n,)
    labels : sequence, optional
        Classes and their order. Default: all that occur, sorted.

    Returns
    -------
    pandas.DataFrame
        Rows are true classes, columns predicted ones.

    Raises
    ------
    DataError
        If a class is not among the labels, or lengths differ.

    Examples
    --------
    >>> confusion([5, 5, 8], [5, 8, 8]).to_numpy().tolist()
    [[1, 1], [0, 1]]
    """
    given, named = np.asarray(true), np.asarray(predicted)
    if labels is None:
        labels = np.unique(np.concatenate([given, named])).tolist()
    position = {label: i for i, label in enumerate(labels)}
    if len(given) != len(named) or not set(given.tolist()) | set(named.tolist()) <= set(position):
        raise DataError(
            "confusion: true and predicted classes are equally many and all among the labels.\n"
            f"Received: {len(given)} and {len(named)} values; labels {list(labels)}."
        )
    counts = np.zeros((len(position), len(position)), np.int64)
    np.add.at(counts, ([position[v] for v in given.tolist()], [position[v] for v in named.tolist()]), 1)
    names = pd.Index(list(labels))
    return pd.DataFrame(counts, names.rename("true"), names.rename("predicted"))


def cohen_kappa(true: ArrayLike, predicted: ArrayLike, *, balanced: bool = False) -> float:
    """Cohen's kappa: agreement beyond what the marginal frequencies give by chance.

    Parameters
    ----------
    true, predicted : array-like of shape (n,)
        Classes, without order (the coefficient is unweighted).
    balanced : bool, default=False
        Give every true class the same total weight, so that a magnification with few patches counts
        as much as one with many.

    Returns
    -------
    float
        1 for full agreement, 0 for chance; NaN where chance alone agrees fully (one class).

    Notes
    -----
    Cohen 1960: κ = (o − e) / (1 − e), with o the share of agreement and e the one that both marginal frequencies give.

    Examples
    --------
    >>> round(cohen_kappa([0, 0, 0, 1], [0, 0, 1, 1]), 3), cohen_kappa([0, 1], [0, 1])
    (0.5, 1.0)
    """
    share = confusion(true, predicted).to_numpy(np.float64, copy=True)
    if balanced:
        share /= np.maximum(share.sum(axis=1, keepdims=True), 1)
    share /= max(share.sum(), 1.0)
    expected = float(share.sum(axis=1) @ share.sum(axis=0))
    if expected > 1 - 1e-12 or share.size == 0:
        return float("nan")
    return float((np.trace(share) - expected) / (1 - expected))


def agreement(true: ArrayLike, named: ArrayLike) -> dict[str, float]:
    """How well named classes agree with the true ones.

    Parameters
    ----------
    true, named : array-like of shape (n,)

    Returns
    -------
    dict of str to float
        ``kappa`` and ``kappa_balanced``, see :func:`cohen_kappa`, and ``accuracy``.

    Examples
    --------
    >>> agreement([5, 5, 8, 8], [5, 8, 8, 8])["accuracy"]
    0.75
    """
    return {
        "kappa": cohen_kappa(true, named),
        "kappa_balanced": cohen_kappa(true, named, balanced=True),
        "accuracy": float((np.asarray(true) == np.asarray(named)).mean()),
    }


def score_predictions(predictions: pd.DataFrame, means: pd.Series, *, split: str = "test") -> pd.DataFrame:
    """Scores of each trained network, over all patches of a split and slide by slide.

    Parameters
    ----------
    predictions : pandas.DataFrame
        One row per patch and trained network: ``network, row, tap, target, seed, split, slide,
        magnification, mpp, mean_area_px, predicted``. ``predicted`` is in px for the target ``area``
        and in octaves for ``log2_magnification``.
    means : pandas.Series
        See :func:`class_means`.
    split : str, default="test"

    Returns
    -------
    pandas.DataFrame
        One row per network and slide, and one with slide ``all``: ``n_patches``, ``mae_px``,
        ``mae_um2`` (NaN for the target log2_magnification), ``mae_octaves`` (NaN for areas),
        ``kappa``, ``kappa_balanced`` and ``accuracy`` of the magnification class.

    Raises
    ------
    ResultsError
        If a column is missing or the split is empty.

    Examples
    --------
    >>> rows = pd.DataFrame({"network": "n", "row": "pruned", "tap": "t", "target": "area", "seed": 1,
    ...     "split": "test", "slide": ["a", "b"], "magnification": [5.0, 10.0], "mpp": [2.0, 1.0],
    ...     "mean_area_px": [10.0, 40.0], "predicted": [12.0, 36.0]})
    >>> score_predictions(rows, pd.Series({5.0: 10.0, 10.0: 40.0}))[["slide", "mae_px", "mae_um2"]]
      slide  mae_px  mae_um2
    0   all     3.0      6.0
    1     a     2.0      8.0
    2     b     4.0      4.0
    """
    needed = [*RUN, "split", "slide", "magnification", "mpp", "mean_area_px", "predicted"]
    missing = [column for column in needed if column not in predictions]
    rows = predictions[predictions["split"] == split] if not missing else predictions
    if missing or rows.empty:
        raise ResultsError(
            f"score_predictions: a table of predictions with rows of the split {split!r}.\n"
            f"Received: {len(predictions)} rows; missing columns: {missing}."
        )
    scored = with_magnification(rows, means)
    records: list[dict[str, Any]] = []
    for key, run in scored.groupby(RUN, sort=False):
        name = dict(zip(RUN, key, strict=True))
        records.append({**name, "slide": "all", **_scores(run)})
        records += [{**name, "slide": s, **_scores(part)} for s, part in run.groupby("slide", sort=True)]
    return pd.DataFrame(records)


def with_magnification(predictions: pd.DataFrame, means: pd.Series) -> pd.DataFrame:
    """Predictions with the magnification class that they name.

    Parameters
    ----------
    predictions : pandas.DataFrame
        Columns ``target`` and ``predicted``.
    means : pandas.Series
        See :func:`class_means`.

    Returns
    -------
    pandas.DataFrame
        With ``named_magnification``: the nearest class mean for areas, the nearest logarithm for
        ``log2_magnification``.

    Examples
    --------
    >>> rows = pd.DataFrame({"target": ["log2_magnification"], "predicted": [3.2]})
    >>> with_magnification(rows, pd.Series({8.0: 1.0, 10.0: 2.0})).named_magnification.item()
    10.0
    """
    is_area = (predictions["target"] == "area").to_numpy()
    value = predictions["predicted"].to_numpy(np.float64)
    octaves = pd.Series(np.log2(means.index.to_numpy(np.float64)), means.index)
    named = np.empty(len(value))
    named[is_area] = nearest_magnification(value[is_area], means)
    named[~is_area] = nearest_magnification(value[~is_area], octaves)
    return predictions.assign(named_magnification=named)


def _scores(rows: pd.DataFrame) -> dict[str, float]:
    area = (rows["predicted"] - rows["mean_area_px"]).abs()
    octaves = (rows["predicted"] - np.log2(rows["magnification"])).abs()
    is_area = rows["target"].iloc[0] == "area"
    true, named = rows["magnification"].to_numpy(), rows["named_magnification"].to_numpy()
    return {
        "n_patches": len(rows),
        "mae_px": float(area.mean()) if is_area else float("nan"),
        "mae_um2": float((area * rows["mpp"] ** 2).mean()) if is_area else float("nan"),
        "mae_octaves": float("nan") if is_area else float(octaves.mean()),
        **agreement(true, named),
    }
