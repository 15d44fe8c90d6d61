"""What each channel is worth to the read-out of a measure, and how that goes with its other properties.

Knows arrays and tables only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from scalelib.errors import DataError
from scalelib.solvers import fit_linear
from scalelib.validation import check_labels, check_problem


def channel_weights(acts: Mapping[str, Any], measures: Any, *, classes: Any = None) -> pd.DataFrame:
    """Each channel's weight in the regression concept vector, and what the channel alone tells.

    Parameters
    ----------
    acts : mapping of str to array_like, shape (n_images, channels)
        Pooled activations per tap, finite.
    measures : array_like, shape (n_images,)
        One concept measure per image.
    classes : array_like, shape (n_images,), optional
        Object classes: each is regressed by itself and the means over classes are given.

    Returns
    -------
    pandas.DataFrame
        One row per tap and channel: ``weight``, change of the measure, in its standard deviations, per
        standard deviation of the channel, all others held fixed (ridge, penalty by leave-one-out);
        ``correlation``, the rank correlation of the channel alone with the measure, which does not
        depend on what other channels there are (0 where the channel is constant).

    Raises
    ------
    DataError
        As :func:`scalelib.regression.layerwise_r2`.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(200, 3))
    >>> channel_weights({"tap": X}, X[:, 0] - X[:, 2]).weight.abs().round(1).tolist()
    [0.7, 0.0, 0.7]
    """
    arrays, y, _ = check_problem(acts, measures, groups=None, operation="channel_weights")
    codes = check_labels(classes, len(y), name="classes", operation="channel_weights")
    codes = np.zeros(len(y), int) if codes is None else codes
    parts = []
    for tap, X in arrays.items():
        weights, correlations = [], []
        for code in np.unique(codes):
            rows = codes == code
            coefficients = fit_linear(X[rows], y[rows, None], "ridge").coefficients[:, 0]
            weights.append(coefficients * X[rows].std(axis=0) / y[rows].std())
            correlations.append([_spearman(channel, y[rows]) for channel in X[rows].T])
        part = {"weight": np.mean(weights, axis=0), "correlation": np.nan_to_num(correlations).mean(axis=0)}
        parts.append(pd.DataFrame({"tap": tap, "channel": np.arange(X.shape[1]), **part}))
    return pd.concat(parts, ignore_index=True)


def relate_to_frequency(
    table: pd.DataFrame,
    value: str,
    *,
    by: Sequence[str] = ("network", "weights", "tap"),
    permutations: int = 999,
    level: float = 0.95,
    random_state: int = 0,
) -> pd.DataFrame:
    """Rank correlation between channels' preferred frequency and something else that channels have.

    Parameters
    ----------
    table : pandas.DataFrame
        One row per channel: ``frequency``, `value` and the columns of `by`.
    value : str
        For instance the channel's weight in a regression concept vector.
    by : sequence of str, default=("network", "weights", "tap")
        One correlation per combination.
    permutations : int, default=999
        Permutations, and bootstrap samples, of channels.
    level : float, default=0.95
        Probability that the interval is to cover.
    random_state : int, default=0
        Seed.

    Returns
    -------
    pandas.DataFrame
        `by`, then ``value``, ``channels``, ``rho`` (Spearman), ``low`` and ``high`` (percentile bootstrap over
        channels), ``p`` (permutation, two-sided), ``p_holm`` (corrected for all rows of the table).

    Raises
    ------
    DataError
        If a combination has fewer than five channels.

    Notes
    -----
    Channels of one layer are no independent draws, so the interval speaks of this network's channels
    alone. p = (b + 1) / (B + 1) (Phipson and Smyth 2010).

    Examples
    --------
    >>> table = pd.DataFrame({"tap": "t", "frequency": np.arange(1, 21), "weight": -np.arange(20.0) ** 3})
    >>> float(relate_to_frequency(table, "weight", by=["tap"], permutations=19).rho.iloc[0].round(6))
    -1.0
    """
    records: list[dict[str, Any]] = []
    for key, group in table.groupby(list(by), sort=False):
        if len(group) < 5:
            raise DataError(
                f"relate_to_frequency: a rank correlation needs at least five channels.\n"
                f"Received: {len(group)} in {key}.\nLeave this tap out."
            )
        rng = np.random.default_rng([random_state, len(records)])
        x, y = group["frequency"].to_numpy(float), group[value].to_numpy(float)
        rho = _spearman(x, y)
        null = np.array([_spearman(x, rng.permutation(y)) for _ in range(permutations)])
        draws = rng.integers(len(x), size=(permutations, len(x)))
        spread = [_spearman(x[rows], y[rows]) for rows in draws]
        low, high = np.nanquantile(spread, [(1 - level) / 2, (1 + level) / 2])
        p = float(((np.abs(null) >= abs(rho) - 1e-12).sum() + 1) / (permutations + 1))
        records.append(
            {
                **dict(zip(by, key, strict=True)),
                "value": value,
                "channels": len(x),
                "rho": rho,
                "low": low,
                "high": high,
                "p": p,
            }
        )
    result = pd.DataFrame(records)
    return result.assign(p_holm=holm(result["p"].to_numpy()))


def holm(p: np.ndarray) -> np.ndarray:
    """p-values corrected for their number, step down (Holm 1979).

    Parameters
    ----------
    p : ndarray, shape (tests,)

    Returns
    -------
    ndarray, shape (tests,)
        At most 1, in the order of `p`.

    Examples
    --------
    >>> holm(np.array([0.04, 0.01, 0.03])).round(2).tolist()
    [0.06, 0.03, 0.06]
    """
    order = np.argsort(p)
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(stepped, 1.0)
    return corrected


def _spearman(x: np.ndarray, y: np.ndarray) -> float:
    a, b = stats.rankdata(x), stats.rankdata(y)
    a, b = a - a.mean(), b - b.mean()
    scale = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / scale) if scale else float("nan")
