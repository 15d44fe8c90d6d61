"""Where plain least squares explodes: held-out R² against training images per dimension.

Knows arrays and tables only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from scalelib.errors import DataError
from scalelib.learning import learning_curve
from scalelib.projection import effective_rank
from scalelib.spectrum import one_thread
from scalelib.splits import train_test_splits
from scalelib.validation import check_problem

RATIOS = (0.15, 0.25, 0.4, 0.6, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 3.0, 4.5, 7.0)
"""Training images per dimension: dense around 1, where the peak is expected."""
FEWEST = 8
DEPTH = 1.0
"""How far R² must fall below both sides; small samples alone dip a little."""


def peak_sweep(
    acts: Mapping[str, Any],
    measures: Any,
    *,
    ratios: Sequence[float] = RATIOS,
    sizes: Sequence[int] | None = None,
    estimators: str | Sequence[str] = ("ols", "ridge"),
    repeats: int = 10,
    test_size: float = 0.3,
    random_state: int = 0,
) -> pd.DataFrame:
    """Learning curve of every tap at training sizes measured in its own dimensions.

    Parameters
    ----------
    acts : mapping of str to array_like, shape (n_images, channels)
        Pooled activations per tap, finite.
    measures : array_like, shape (n_images,)
        One concept measure per image.
    ratios : sequence of float
        Training images per dimension that are wanted.
    sizes : sequence of int, optional
        Numbers of training images, the same for all taps, instead of `ratios`. Either way, those that
        the data cannot give are left out, and the largest training set that they can give is added.
    estimators, repeats, test_size, random_state
        As for :func:`scalelib.learning.learning_curve`.

    Returns
    -------
    pandas.DataFrame
        The rows of :func:`scalelib.learning.learning_curve` with ``rank`` (dimensions that the tap's
        features span over all images: at most its channels), ``effective_rank`` (see
        :func:`scalelib.projection.effective_rank`) and ``ratio`` = n_train / rank.

    Raises
    ------
    DataError
        As :func:`scalelib.learning.learning_curve`, and if a tap is constant.

    Examples
    --------
    >>> from scalelib.known_problem import gaussian_problem
    >>> X, y = gaussian_problem(300, 40)
    >>> sweep = peak_sweep({"tap": X}, y, ratios=[0.5, 1, 3], repeats=3)
    >>> sorted(sweep.n_train.unique().tolist())
    [20, 40, 120, 210]
    """
    arrays, y, _ = check_problem(acts, measures, groups=None, operation="peak_sweep")
    splits = train_test_splits(
        len(y), repeats=repeats, test_size=test_size, random_state=random_state, operation="peak_sweep"
    )
    most = min(len(train) for train, _ in splits)
    parts = []
    for tap, X in arrays.items():
        with one_thread():
            rank = int(np.linalg.matrix_rank(np.asarray(X, np.float64) - X.mean(axis=0, dtype=np.float64)))
            used = effective_rank(X)
        if rank == 0:
            raise DataError(f"peak_sweep: tap {tap!r} is constant over all images.\nReceived: rank 0.")
        wanted = {round(ratio * rank) for ratio in ratios} if sizes is None else set(sizes)
        possible = sorted({size for size in wanted if min(FEWEST, most) <= size <= most} | {most})
        curve = learning_curve(
            {tap: X},
            y,
            train_sizes=possible,
            estimators=estimators,
            repeats=repeats,
            test_size=test_size,
            random_state=random_state,
        )
        parts.append(curve.assign(rank=rank, effective_rank=used, ratio=curve.n_train / rank))
    return pd.concat(parts, ignore_index=True)


def bands(sweep: pd.DataFrame, *, by: Sequence[str] = ("tap", "estimator", "n_train")) -> pd.DataFrame:
    """Median and 10 % and 90 % quantiles of held-out R² over repeats.

    Parameters
    ----------
    sweep : pandas.DataFrame
        From :func:`peak_sweep`, perhaps with further labels.
    by : sequence of str
        One row per combination.

    Returns
    -------
    pandas.DataFrame
        `by`, then ``ratio`` (mean), ``rows``, ``median``, ``low``, ``high``.

    Examples
    --------
    >>> table = pd.DataFrame({"tap": "t", "ratio": 1.0, "r2_test": [-9.0, 0.0, 0.5]})
    >>> float(bands(table, by=["tap"])["median"].iloc[0])
    0.0
    """
    groups = sweep.groupby(list(by), sort=False)
    scores = groups.r2_test
    return pd.DataFrame(
        {
            "ratio": groups.ratio.mean(),
            "rows": scores.size(),
            "median": scores.median(),
            "low": scores.quantile(0.1),
            "high": scores.quantile(0.9),
        }
    ).reset_index()


def locate_peak(sweep: pd.DataFrame, *, by: Sequence[str] = ("tap",)) -> pd.DataFrame:
    """Where plain least squares is worst, how deep it falls, and what ridge does there.

    Parameters
    ----------
    sweep : pandas.DataFrame
        From :func:`peak_sweep`, perhaps with further labels; estimators ``ols`` and ``ridge``.
    by : sequence of str, default=("tap",)
        Columns that tell sweeps apart.

    Returns
    -------
    pandas.DataFrame
        `by`, then ``channels``, ``rank``, ``effective_rank``; ``trough_n``, ``trough_ratio`` and
        ``trough_r2``: training images, images per dimension and median R² of least squares where it
        is lowest; ``before_r2`` and ``after_r2``: its highest median at fewer and at more images
        (NaN where there are none); ``ridge_r2``: median R² of ridge at the trough; ``covered``:
        whether the sweep reaches from a ratio of 0.75 or less to one of 1.25 or more, so that a peak
        at 1 could be seen; ``peaked``: covered, and the trough lies at least 1, a whole variance of
        the measure, below both sides.

    Notes
    -----
    Medians over repeats: the mean near the peak is that of a distribution without one.

    Examples
    --------
    >>> from scalelib.known_problem import gaussian_problem
    >>> X, y = gaussian_problem(400, 40)
    >>> peak = locate_peak(peak_sweep({"tap": X}, y, repeats=5))
    >>> peak[["trough_ratio", "peaked"]].round(1).to_numpy().tolist()
    [[1.0, True]]
    """
    rows = []
    for key, group in sweep.groupby(list(by), sort=False):
        medians = group.groupby(["estimator", "n_train"]).r2_test.median()
        ols, ridge = medians["ols"], medians["ridge"]
        worst, dimensions = ols.idxmin(), group["rank"].iloc[0]
        before, after = ols[ols.index < worst].max(), ols[ols.index > worst].max()
        covered = group.ratio.min() <= 0.75 and group.ratio.max() >= 1.25
        rows.append(
            {
                **dict(zip(by, key, strict=True)),
                "channels": group.channels.iloc[0],
                "rank": dimensions,
                "effective_rank": group.effective_rank.iloc[0],
                "trough_n": worst,
                "trough_ratio": worst / dimensions,
                "trough_r2": ols[worst],
                "before_r2": before,
                "after_r2": after,
                "ridge_r2": ridge[worst],
                "covered": bool(covered),
                "peaked": bool(covered and ols[worst] < min(before, after) - DEPTH),
            }
        )
    return pd.DataFrame(rows)


def nearest_size(curves: pd.DataFrame, printed: pd.DataFrame) -> pd.DataFrame:
    """At which number of training images the medians of several taps come nearest to printed values.

    Parameters
    ----------
    curves : pandas.DataFrame
        Columns ``tap``, ``n_train``, ``median``; the taps at the same sizes.
    printed : pandas.DataFrame
        Columns ``tap``, ``r2_test``; taps without a printed value are left out.

    Returns
    -------
    pandas.DataFrame
        One row per size: ``n_train``, the median of each tap, and ``distance``: mean over taps of the
        absolute difference in log10(1 − R²), the error relative to that of the mean. Nearest first;
        empty if nothing is printed.

    Examples
    --------
    >>> curves = pd.DataFrame({"tap": ["a", "a"], "n_train": [10, 20], "median": [-9.0, -99.0]})
    >>> nearest_size(curves, pd.DataFrame({"tap": ["a"], "r2_test": [-80.0]})).n_train.iloc[0].item()
    20
    """
    values = printed.set_index("tap")["r2_test"]
    known = curves[curves.tap.isin(values.index)]
    wide = known.pivot(index="n_train", columns="tap", values="median").dropna()
    apart = np.log10(1 - wide) - np.log10(1 - values[wide.columns])
    result = wide.assign(distance=apart.abs().mean(axis=1))
    return result.sort_values("distance").rename_axis(columns=None).reset_index()
