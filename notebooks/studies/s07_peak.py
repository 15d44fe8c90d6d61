"""A regression problem whose answer is known: Gaussian features, a linear measure, noise. Where plain least squares explodes: held-out R² against training images per dimension. Whether scale is read better at a chosen tap than at the ends of the network, told on other images. The same output as logits, log-probabilities, powers of probabilities and probabilities. Do a printed table's totals add up, and which cells would have to be wrong if they do not?. Axes that several figures share: held-out R² over many decades, training images, depth. Figures of the interpolation peak. Draws tables; computes no result. Figures of what is left of a central peak, of outputs in several forms, and of a printed table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import special

from scalelib.errors import DataError, did_you_mean
from scalelib.linear import one_thread
from scalelib.plotting import COLOURS, MARKERS, WIDTH, colour_of
from scalelib.pruning import OUTPUT_TAPS, best_layer
from scalelib.regression import (
    effective_rank,
    layerwise_r2,
    learning_curve,
    random_projection,
    train_test_splits,
)
from scalelib.statistics import compare_taps, holm
from scalelib.validation import check_problem


def gaussian_problem(
    n: int, d: int, *, noise: float = 1.0, decay: float = 0.0, random_state: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian features of which a known linear function, of variance 1, is seen through noise.

    Parameters
    ----------
    n, d : int
        Number of rows and of features.
    noise : float, default=1.0
        Standard deviation of what the features do not tell.
    decay : float, default=0.0
        Feature j has the standard deviation j^-decay: 0 uses all directions alike, more lowers the
        effective rank at the same width.
    random_state : int, default=0
        Seed.

    Returns
    -------
    features : ndarray of float64, shape (n, d)
    measure : ndarray of float64, shape (n,)

    Examples
    --------
    >>> X, y = gaussian_problem(500, 3, noise=0.0)
    >>> X.shape, bool(0.8 < y.var() < 1.2)
    ((500, 3), True)
    """
    rng = np.random.default_rng(random_state)
    features = rng.normal(size=(n, d))
    direction = rng.normal(size=d)
    measure = features @ direction / np.linalg.norm(direction) + noise * rng.normal(size=n)
    return features * np.arange(1, d + 1) ** -float(decay), measure


def expected_ols_r2(n_train: Any, d: int, *, noise: float = 1.0) -> np.ndarray:
    r"""What least squares scores on new rows of :func:`gaussian_problem` without decay.

    Parameters
    ----------
    n_train : array_like of int
        Training rows.
    d : int
        Features.
    noise : float, default=1.0
        As in :func:`gaussian_problem`.

    Returns
    -------
    ndarray of float64
        1 − (expected squared error) / (variance of the measure); minus infinity within one row of
        the peak, where the expectation does not exist.

    Notes
    -----
    Hastie et al. 2022, "Surprises in high-dimensional ridgeless least squares interpolation", for
    isotropic Gaussian features, with m = n − 1 for the intercept: the error is
    :math:`\sigma^2 (1 + d/(m-d-1))` for m > d + 1 and
    :math:`\sigma^2 (1 + m/(d-m-1)) + 1 - m/d` for m < d − 1, times 1 + 1/n.

    Examples
    --------
    >>> expected_ols_r2([10, 101, 10_000], 100, noise=1.0).round(2).tolist()
    [-0.11, -inf, 0.49]
    """
    n = np.asarray(n_train, float)
    m, variance = n - 1, noise**2
    with np.errstate(divide="ignore", invalid="ignore"):
        tall = variance * (1 + d / (m - d - 1))
        wide = variance * (1 + m / (d - m - 1)) + 1 - m / d
    error = np.where(m > d + 1, tall, np.where(m < d - 1, wide, np.inf)) * (1 + 1 / n)
    return 1 - error / (1 + variance)


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
        As for :func:`scalelib.regression.learning_curve`.

    Returns
    -------
    pandas.DataFrame
        The rows of :func:`scalelib.regression.learning_curve` with ``rank`` (dimensions that the tap's
        features span over all images: at most its channels), ``effective_rank`` (see
        :func:`scalelib.regression.effective_rank`) and ``ratio`` = n_train / rank.

    Raises
    ------
    DataError
        As :func:`scalelib.regression.learning_curve`, and if a tap is constant.

    Examples
    --------
    >>> from studies.s07_peak import gaussian_problem
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
    >>> from studies.s07_peak import gaussian_problem
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


ALL_CLASSES = "mean over classes"


def central_peak(
    acts: Mapping[str, Any],
    measures: Any,
    *,
    classes: Any,
    references: Sequence[str] | None = None,
    repeats: int = 10,
    draws: int = 5,
    random_state: int = 0,
) -> pd.DataFrame:
    """The tap chosen on half of the images against reference taps on the other half, and swapped.

    Parameters
    ----------
    acts : mapping of str to array_like, shape (n_images, channels)
        Pooled activations per tap, finite, in the order of the network.
    measures : array_like, shape (n_images,)
        One concept measure per image.
    classes : array_like, shape (n_images,)
        Object classes; each is halved, regressed and compared by itself, and their mean beside them.
    references : sequence of str, optional
        Taps to compare with. Default: the first, the last before the classifier, ``pre_softmax`` and
        ``softmax``, as far as there are such.
    repeats : int, default=10
        Splits within each half.
    draws : int, default=5
        Random projections to the smaller of two widths; their mean is compared.
    random_state : int, default=0
        Seed.

    Returns
    -------
    pandas.DataFrame
        One row per half, reference, matching and class: ``half`` (1, 2: the half that chose),
        ``tap`` (chosen), ``reference``, ``matching`` (``"own width"`` or ``"equal width"``), ``width`` (of the
        narrower tap), ``object_class`` (and ``"mean over classes"``), ``mean_difference`` of held-out
        R² (tap − reference), ``low``, ``high``, ``p`` (corrected paired t test) and ``p_holm``,
        corrected for all references, matchings and both halves of the same class. No row where the
        chosen tap is the reference itself.

    Raises
    ------
    DataError
        As :func:`scalelib.regression.layerwise_r2`; if a reference is no tap.

    Notes
    -----
    Ridge regression. A narrow output loses to a wide layer by its width alone; at equal width
    both are projected at random to the width of the narrower. Nadeau and Bengio 2003 for the test.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = rng.uniform(size=160)
    >>> acts = {"a": rng.normal(size=(160, 8)), "b": y[:, None] + rng.normal(size=(160, 8)) / 9}
    >>> table = central_peak(acts, y, classes=["disc"] * 160, repeats=3, draws=1)
    >>> bool((table.query("reference == 'a'").p_holm < 0.05).all())
    True
    """
    arrays, y, _ = check_problem(acts, measures, groups=None, operation="central_peak")
    labels = np.asarray(classes).astype(str)
    compared = _references(list(arrays), references)
    first = _half(labels, np.random.default_rng([random_state, 4]))
    parts = []
    for half, chooses in ((1, first), (2, ~first)):
        tap = best_layer(_by_class(arrays, y, labels, chooses, repeats, random_state))
        for reference in compared:
            if reference == tap:
                continue
            pair = {name: arrays[name] for name in arrays if name in (tap, reference)}
            width = min(X.shape[1] for X in pair.values())
            projected = [
                random_projection(pair, width, random_state=random_state + 1_000_003 * draw)
                for draw in range(draws)
            ]
            for matching, versions in (("own width", [pair]), ("equal width", projected)):
                tables = [_by_class(v, y, labels, ~chooses, repeats, random_state) for v in versions]
                table = pd.concat([part.assign(draw=draw) for draw, part in enumerate(tables)])
                apart = compare_taps(table, tap, reference, by=["object_class"])
                together = compare_taps(table, tap, reference, by=[]).assign(object_class=ALL_CLASSES)
                part = pd.concat([apart, together]).rename(columns={"a": "tap", "b": "reference"})
                parts.append(part.assign(half=half, matching=matching, width=width))
    result = pd.concat(parts, ignore_index=True)
    result["p_holm"] = result.groupby("object_class")["p"].transform(lambda p: holm(p.to_numpy()))
    columns = ["half", "tap", "reference", "matching", "width", "object_class"]
    return result[[*columns, "mean_difference", "low", "high", "p", "p_holm"]]


def _references(taps: list[str], wanted: Sequence[str] | None) -> list[str]:
    if wanted is None:
        inner = [tap for tap in taps if tap not in OUTPUT_TAPS]
        return list(dict.fromkeys([inner[0], inner[-1], *(tap for tap in taps if tap in OUTPUT_TAPS)]))
    for tap in wanted:
        if tap not in taps:
            raise DataError(
                f"central_peak: no tap {tap!r}.\nReceived: references={list(wanted)}.\n"
                f"{did_you_mean(tap, taps)} Taps are {', '.join(taps)}."
            )
    return list(wanted)


def _half(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A mask of half of each class."""
    first = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        first[rows[: len(rows) // 2]] = True
    return first


def _by_class(
    arrays: Mapping[str, np.ndarray],
    y: np.ndarray,
    labels: np.ndarray,
    among: np.ndarray,
    repeats: int,
    random_state: int,
) -> pd.DataFrame:
    parts = []
    for label in np.unique(labels):
        rows = among & (labels == label)
        part = layerwise_r2(
            {tap: X[rows] for tap, X in arrays.items()},
            y[rows],
            repeats=repeats,
            conditions="true",
            random_state=random_state,
        )
        parts.append(part.assign(object_class=label))
    return pd.concat(parts, ignore_index=True)


EXPONENTS = (0.05, 0.1, 0.25, 0.5, 1.0)


def output_forms(logits: Any, *, exponents: Sequence[float] = EXPONENTS) -> dict[str, np.ndarray]:
    """Logits, log-probabilities, and probabilities raised to powers.

    Parameters
    ----------
    logits : array_like, shape (n_images, classes)
        Before the softmax, finite.
    exponents : sequence of float
        Powers, each above 0; 1 is the probability itself, smaller ones approach the logarithm.

    Returns
    -------
    dict of str to ndarray of float64, shape (n_images, classes)
        ``"logits"``, ``"log p"``, then ``"p^0.05"`` … and ``"p"``. Computed from the logits in double
        precision: nothing is lost to rounding.

    Raises
    ------
    DataError
        If the logits are no finite matrix, or a power is not above 0.

    Examples
    --------
    >>> forms = output_forms(np.log([[1.0, 3.0]]), exponents=[0.5, 1])
    >>> forms["p"].round(6).tolist(), forms["p^0.5"].round(3).tolist()
    ([[0.25, 0.75]], [[0.5, 0.866]])
    """
    z = np.asarray(logits, np.float64)
    if z.ndim != 2 or not np.isfinite(z).all() or not all(power > 0 for power in exponents):
        raise DataError(
            "output_forms: logits are a finite matrix, and powers are above 0.\n"
            f"Received: shape {z.shape}, powers {list(exponents)}.\nPass the activations of pre_softmax."
        )
    log_p = special.log_softmax(z, axis=1)
    powers = {"p" if power == 1 else f"p^{power:g}": np.exp(power * log_p) for power in exponents}
    return {"logits": z, "log p": log_p, **powers}


def channel_spread(forms: Mapping[str, np.ndarray], *, classes: Any = None) -> pd.DataFrame:
    """How variation is spread over the channels of each form.

    Parameters
    ----------
    forms : mapping of str to ndarray, shape (n_images, channels)
        As from :func:`output_forms`.
    classes : array_like, shape (n_images,), optional
        Object classes: each by itself, then the mean over classes. Default: one class.

    Returns
    -------
    pandas.DataFrame
        One row per form: ``form``, ``channels``, ``median_sd`` and ``largest_sd`` (over channels, of the
        standard deviation over images), ``spread_decades`` (log10 of their ratio), ``effective_rank``.

    Examples
    --------
    >>> z = np.random.default_rng(0).normal(0, 5, (50, 20))
    >>> table = channel_spread(output_forms(z, exponents=[1.0])).set_index("form")
    >>> bool(table.spread_decades["p"] > table.spread_decades["logits"])
    True
    """
    return pd.DataFrame([_spread(form, values, classes) for form, values in forms.items()])


def _spread(form: str, values: np.ndarray, classes: Any) -> dict[str, Any]:
    labels = np.zeros(len(values), int) if classes is None else np.asarray(classes)
    own = [values[labels == label] for label in np.unique(labels)]
    deviations = np.array([part.std(axis=0) for part in own])
    middle, largest = np.median(deviations, axis=1), deviations.max(axis=1)
    with np.errstate(divide="ignore"):
        decades = np.log10(largest / middle)
    return {
        "form": form,
        "channels": values.shape[1],
        "median_sd": float(middle.mean()),
        "largest_sd": float(largest.mean()),
        "spread_decades": float(decades.mean()),
        "effective_rank": float(np.mean([effective_rank(part) for part in own])),
    }


TOTAL = "total"


def check_sums(table: pd.DataFrame) -> pd.DataFrame:
    """Compare every row and every column with its printed total.

    Parameters
    ----------
    table : pandas.DataFrame of int, shape (rows + 1, columns + 1)
        Counts, with a row and a column called ``"total"``.

    Returns
    -------
    pandas.DataFrame
        One row per line of the table: ``line`` (``"row"`` or ``"column"``), ``name``, ``printed``
        (the total as printed), ``sum`` (of the other cells), ``difference`` (sum minus printed).

    Raises
    ------
    DataError
        If a total is missing, a name stands twice, or a cell is no whole number.

    Examples
    --------
    >>> table = pd.DataFrame({"a": [1, 2, 3], "b": [4, 5, 9], "total": [5, 7, 13]}, ["x", "y", "total"])
    >>> wrong = check_sums(table).query("difference != 0")
    >>> wrong[["line", "name", "difference"]].to_numpy().tolist()
    [['row', 'total', -1], ['column', 'total', -1]]
    """
    counts = _counts(table)
    lines = []
    for line, cells in (("row", counts), ("column", counts.T)):
        sums = cells.drop(columns=TOTAL).sum(axis=1)
        for name in cells.index:
            lines.append((line, name, int(cells.loc[name, TOTAL]), int(sums[name])))
    sums_table = pd.DataFrame(lines, columns=["line", "name", "printed", "sum"])
    return sums_table.assign(difference=sums_table["sum"] - sums_table["printed"])


def smallest_corrections(table: pd.DataFrame, *, max_cells: int = 4) -> pd.DataFrame:
    """The smallest sets of cells whose correction makes every line add up.

    Every cell is suspect, totals included. Sets of one cell are tried first, then of two, and so on;
    the search stops at the first size at which something explains all differences, and returns
    everything of that size.

    Parameters
    ----------
    table : pandas.DataFrame of int, shape (rows + 1, columns + 1)
        Counts, with a row and a column called ``"total"``.
    max_cells : int, default=4
        Largest set that is tried.

    Returns
    -------
    pandas.DataFrame
        One row per corrected cell: ``explanation`` (counted from 1; more than one means that the sums
        cannot tell them apart), ``row``, ``column``, ``printed``, ``corrected``, ``slip``: ``"digits
        swapped"`` (two neighbouring digits), ``"one digit"`` (one digit misread) or ``"other"``.
        Empty if the table adds up.

    Raises
    ------
    DataError
        As :func:`check_sums`, and if no set of at most `max_cells` cells explains the differences.

    Notes
    -----
    A correction δ of one cell changes the difference of its row by δ and that of its column by δ (by −δ
    where the cell is that line's total). A set of cells explains the table if these linear equations
    have a solution with every corrected count at least 0.

    Examples
    --------
    >>> table = pd.DataFrame({"a": [1, 21, 13], "b": [4, 5, 9], "total": [5, 17, 22]}, ["x", "y", "total"])
    >>> smallest_corrections(table)[["row", "column", "printed", "corrected", "slip"]].to_numpy().tolist()
    [['y', 'a', 21, 12, 'digits swapped']]
    """
    counts = _counts(table)
    difference = check_sums(table)["difference"].to_numpy()
    columns = ["explanation", "row", "column", "printed", "corrected", "slip"]
    if not difference.any():
        return pd.DataFrame(columns=columns)
    effects = _effects(counts)
    for size in range(1, max_cells + 1):
        explanations = list(_explanations(counts, effects, difference, size))
        if explanations:
            return pd.DataFrame(
                [(number, *cell) for number, cells in enumerate(explanations, 1) for cell in cells],
                columns=columns,
            )
    wrong = int(np.count_nonzero(difference))
    raise DataError(
        f"smallest_corrections: no {max_cells} cells explain the table.\n"
        f"Received: {wrong} lines that do not add up.\nRaise max_cells."
    )


def _effects(counts: pd.DataFrame) -> np.ndarray:
    """What one unit more in each cell does to each line's difference, (lines, cells)."""
    n_rows, n_columns = counts.shape
    effects = np.zeros((n_rows + n_columns, n_rows * n_columns))
    for cell, (row, column) in enumerate(np.ndindex(n_rows, n_columns)):
        effects[row, cell] = -1 if counts.columns[column] == TOTAL else 1
        effects[n_rows + column, cell] = -1 if counts.index[row] == TOTAL else 1
    return effects


def _explanations(
    counts: pd.DataFrame, effects: np.ndarray, difference: np.ndarray, size: int
) -> Iterator[list[tuple[str, str, int, int, str]]]:
    printed = counts.to_numpy().ravel()
    for cells in combinations(range(printed.size), size):
        chosen = effects[:, cells]
        if not np.abs(chosen).sum(axis=1)[difference != 0].all():  # a wrong line without a suspect
            continue
        change = np.rint(np.linalg.lstsq(chosen, -difference, rcond=None)[0]).astype(int)
        corrected = printed[list(cells)] + change
        if (chosen @ change == -difference).all() and change.all() and (corrected >= 0).all():
            yield [
                (
                    counts.index[cell // counts.shape[1]],
                    counts.columns[cell % counts.shape[1]],
                    int(printed[cell]),
                    int(value),
                    _slip(int(printed[cell]), int(value)),
                )
                for cell, value in zip(cells, corrected, strict=True)
            ]


def _slip(printed: int, corrected: int) -> str:
    a, b = str(printed), str(corrected)
    places = [i for i in range(len(a)) if len(a) == len(b) and a[i] != b[i]]
    if len(places) == 1:
        return "one digit"
    if len(places) == 2 and places[1] == places[0] + 1 and sorted(a) == sorted(b):
        return "digits swapped"
    return "other"


def _counts(table: pd.DataFrame) -> pd.DataFrame:
    for axis, names in (("row", table.index), ("column", table.columns)):
        if TOTAL not in names or names.has_duplicates:
            raise DataError(
                f"check_sums: the table needs one {axis} called {TOTAL!r}, and no name twice.\n"
                f"Received: {axis}s {', '.join(map(str, names))}."
            )
    values = table.to_numpy(dtype=float)
    if not (np.isfinite(values) & (values == np.rint(values))).all():
        raise DataError("check_sums: counts are whole numbers.\nReceived: a fraction or an empty cell.")
    return table.astype(int)


ESTIMATOR_NAMES = {"ols": "least squares", "ridge": "ridge"}
ESTIMATOR_STYLE = {"ols": (COLOURS[1], "o", "-"), "ridge": (COLOURS[0], "s", "--")}
R2_TICKS = (-100000, -10000, -1000, -100, -10, -1, 0, 1)


def depth_lines(ax: Axes, rows: pd.DataFrame, *, x: str, y: str) -> None:
    """A line per tap, dark for the first and light for the last."""
    taps = list(dict.fromkeys(rows.tap))
    colours = mpl.colormaps["viridis"](np.linspace(0, 0.92, max(len(taps), 2)))
    for colour, tap in zip(colours, taps, strict=False):
        own = rows[rows.tap == tap].sort_values(x)
        ax.plot(own[x], own[y].clip(lower=-1e5), color=colour, lw=1.1, marker=".", ms=4)


def depth_bar(fig: Figure, axes: np.ndarray) -> None:
    """The key to :func:`depth_lines`."""
    mappable = mpl.cm.ScalarMappable(mpl.colors.Normalize(0, 1), mpl.colormaps["viridis"].resampled(256))
    bar = fig.colorbar(mappable, ax=axes, shrink=0.8 if len(axes) == 1 else 0.4, ticks=[0, 1])
    bar.ax.set_yticklabels(["first tap", "last tap"], fontsize=8)


def ratio_axis(ax: Axes, *, label: bool = True, label_text: str = "images per dimension, n / d") -> None:
    """Training images per dimension, with a line at 1."""
    ax.set_xscale("log")
    ax.axvline(1, color="black", lw=0.9, ls=":")
    _plain_ticks(ax, (0.1, 0.2, 0.5, 1, 2, 5, 10))
    if label:
        ax.set_xlabel(label_text)


def size_axis(ax: Axes) -> None:
    """Number of training images."""
    ax.set_xscale("log")
    _plain_ticks(ax, (10, 30, 100, 300, 1000))
    ax.set_xlabel("training images, n")


def row_label(panel: str) -> str:
    """A panel's name, network and weights under one another, for the label of a row."""
    return panel.replace(", ", ",\n", 1)


def _plain_ticks(ax: Axes, ticks: Sequence[float]) -> None:
    low, high = ax.get_xlim()
    ax.set_xticks([t for t in ticks if low <= t <= high], [f"{t:g}" for t in ticks if low <= t <= high])
    ax.xaxis.set_minor_locator(mpl.ticker.NullLocator())


def r2_axis(ax: Axes, lowest: float) -> None:
    """Linear between −1 and 1, logarithmic below."""
    ax.set_yscale("symlog", linthresh=1, linscale=1.2)
    floor = 3.0 * min(float(lowest), -1.0)
    ticks = [tick for tick in (*R2_TICKS, *((-3,) if floor > -30 else ())) if tick >= floor]
    ax.set_ylim(floor, 1.15)
    ax.set_yticks(ticks, [f"{tick:,}".replace("-", "−") for tick in ticks])
    ax.yaxis.set_minor_locator(mpl.ticker.NullLocator())
    ax.axhline(0, color="#777777", lw=0.8)


def known_case(curves: pd.DataFrame, theory: pd.DataFrame) -> Figure:
    """Sweep of a synthetic problem beside what theory expects.

    Parameters
    ----------
    curves : pandas.DataFrame
        Columns ``case, estimator, ratio, median, low, high``.
    theory : pandas.DataFrame
        Columns ``case, ratio, r2``.

    Returns
    -------
    matplotlib.figure.Figure
    """
    cases = list(dict.fromkeys(curves.case))
    fig, axes = plt.subplots(1, len(cases), figsize=(WIDTH, 3), sharey=True, squeeze=False)
    for ax, case in zip(axes.flat, cases, strict=True):
        for estimator, (colour, marker, line) in ESTIMATOR_STYLE.items():
            rows = curves[(curves.case == case) & (curves.estimator == estimator)]
            ax.fill_between(rows.ratio, rows.low, rows.high, color=colour, alpha=0.18, lw=0)
            ax.plot(rows.ratio, rows["median"], color=colour, marker=marker, ls=line,
                    label=ESTIMATOR_NAMES[estimator])  # fmt: skip
        expected = theory[theory.case == case]
        for side in (expected[expected.ratio < 1], expected[expected.ratio > 1]):
            label = "theory, least squares" if side.ratio.min() > 1 else None
            ax.plot(side.ratio, side.r2, color="black", lw=1, ls=":", label=label)
        ratio_axis(ax)
        r2_axis(ax, curves["low"].min())
        ax.set_title(case)
    axes[0, 0].set_ylabel("held-out R²")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8)
    return fig


def sweep(curves: pd.DataFrame) -> Figure:
    """Held-out R² against training images per dimension, a line per tap.

    Parameters
    ----------
    curves : pandas.DataFrame
        Columns ``panel, tap, estimator, ratio, median``; taps in the order of the network.

    Returns
    -------
    matplotlib.figure.Figure
    """
    panels = list(dict.fromkeys(curves.panel))
    fig, axes = plt.subplots(
        len(panels), 2, figsize=(WIDTH, 2.1 * len(panels) + 0.7), sharex=True, sharey=True, squeeze=False
    )
    lowest = max(curves["median"].min(), -1e5)
    for row, panel in enumerate(panels):
        for ax, estimator in zip(axes[row], ESTIMATOR_NAMES, strict=True):
            own = curves[(curves.panel == panel) & (curves.estimator == estimator)]
            depth_lines(ax, own, x="ratio", y="median")
            ratio_axis(ax, label=row == len(panels) - 1)
            r2_axis(ax, lowest)
            if row == 0:
                ax.set_title(ESTIMATOR_NAMES[estimator])
        axes[row, 0].set_ylabel(f"{row_label(panel)}\n\nheld-out R² (median)", fontsize=8.5)
    depth_bar(fig, axes)
    return fig


def moved_peak(curves: pd.DataFrame, *, width: int) -> Figure:
    """Least squares at the taps' own widths beside random projections to one width.

    Parameters
    ----------
    curves : pandas.DataFrame
        Columns ``form`` (``"own width"``, ``"projected"``), ``tap, n_train, median``; least squares.
    width : int
        That of the projections.

    Returns
    -------
    matplotlib.figure.Figure
    """
    fig, axes = plt.subplots(1, 2, figsize=(WIDTH, 3), sharex=True, sharey=True, squeeze=False)
    titles = {"own width": "each tap at its own width", "projected": f"all projected to {width} dimensions"}
    for ax, (form, title) in zip(axes.flat, titles.items(), strict=True):
        depth_lines(ax, curves[curves.form == form], x="n_train", y="median")
        size_axis(ax)
        r2_axis(ax, max(curves["median"].min(), -1e5))
        ax.set_title(title)
    axes[0, 1].axvline(width, color="black", lw=0.9, ls=":")
    axes[0, 1].annotate(f"n = {width}", (width, 0.04), xycoords=("data", "axes fraction"), xytext=(4, 0),
                        textcoords="offset points", fontsize=8)  # fmt: skip
    axes[0, 0].set_ylabel("held-out R² (median)")
    depth_bar(fig, axes)
    return fig


def protocol(points: pd.DataFrame) -> Figure:
    """Every tap and class under the paper's protocol, against training images per channel.

    Parameters
    ----------
    points : pandas.DataFrame
        Columns ``network, estimator, ratio, r2``, one row per network, tap and class.

    Returns
    -------
    matplotlib.figure.Figure
    """
    fig, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.3), sharex=True, sharey=True)
    colours = colour_of(points.network)
    for ax, estimator in zip(axes, ESTIMATOR_NAMES, strict=True):
        own = points[points.estimator == estimator]
        for marker, (network, rows) in zip(MARKERS, own.groupby("network", sort=False), strict=False):
            shown = rows.r2.clip(lower=-1e5)
            ax.scatter(rows.ratio, shown, s=18, color=colours[network], marker=marker, alpha=0.75, lw=0,
                       label=network)  # fmt: skip
        ratio_axis(ax, label_text="training images per channel, n / d")
        r2_axis(ax, max(points.r2.min(), -1e5))
        ax.set_title(ESTIMATOR_NAMES[estimator])
    axes[0].set_ylabel("held-out R², mean over repeats")
    axes[1].legend(fontsize=8, loc="lower right")
    return fig


def prediction(curves: pd.DataFrame, peaks: pd.DataFrame, printed: pd.DataFrame) -> Figure:
    """Named taps of a network with random weights against training images, and the printed values.

    Parameters
    ----------
    curves : pandas.DataFrame
        Columns ``tap, estimator, n_train, median, low, high``.
    peaks : pandas.DataFrame
        Columns ``tap, channels, effective_rank``, one row per tap.
    printed : pandas.DataFrame
        Columns ``tap, r2_test``: horizontal lines; may be empty.

    Returns
    -------
    matplotlib.figure.Figure
    """
    taps = list(dict.fromkeys(curves.tap))
    fig, axes = plt.subplots(1, len(taps), figsize=(WIDTH, 3.2), sharex=True, sharey=True, squeeze=False)
    lowest = max(min(curves["low"].min(), printed.r2_test.min() if len(printed) else 0), -1e5)
    for ax, tap in zip(axes.flat, taps, strict=True):
        for estimator, (colour, marker, line) in ESTIMATOR_STYLE.items():
            rows = curves[(curves.tap == tap) & (curves.estimator == estimator)]
            ax.fill_between(
                rows.n_train, rows.low.clip(lower=-1e5), rows.high, color=colour, alpha=0.18, lw=0
            )
            ax.plot(rows.n_train, rows["median"], color=colour, marker=marker, ls=line, ms=3.5,
                    label=ESTIMATOR_NAMES[estimator])  # fmt: skip
        about = peaks[peaks.tap == tap].iloc[0]
        ax.axvline(about.channels, color="black", lw=0.9, ls=":")
        for value in printed[printed.tap == tap].r2_test:
            ax.axhline(value, color="#777777", lw=1.1, ls="-.", label="Table A1, random weights")
        ax.set_title(f"{tap}\nd = {about.channels:.0f}, eff. rank {about.effective_rank:.0f}", fontsize=8.5)
        size_axis(ax)
        r2_axis(ax, lowest)
    axes[0, 0].set_ylabel("held-out R²")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8)
    return fig


FARTHEST = 1.0
"""Differences in R² beyond this are drawn at the edge."""


def depth_against_rank(peaks: pd.DataFrame) -> Figure:
    """How deep the trough is against the effective rank.

    Parameters
    ----------
    peaks : pandas.DataFrame
        Columns ``network, rank, effective_rank, trough_r2`` (below 0); sweeps that cover the peak.

    Returns
    -------
    matplotlib.figure.Figure
    """
    fig, ax = plt.subplots(figsize=(WIDTH * 0.72, 3.2))
    for marker, (network, rows) in zip(MARKERS, peaks.groupby("network", sort=False), strict=False):
        ax.scatter(rows.effective_rank / rows["rank"], -rows.trough_r2, s=26, marker=marker,
                   lw=0, alpha=0.85, color=colour_of(peaks.network)[network], label=network)  # fmt: skip
    ax.set_yscale("log")
    ax.invert_yaxis()
    ax.yaxis.set_major_formatter(lambda value, _: f"−{value:,.0f}" if value >= 1 else f"−{value:g}")
    ax.set_xlabel("effective rank / rank")
    ax.set_ylabel("lowest median R² of least squares")
    ax.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return fig


def forms_of_output(scores: pd.DataFrame) -> Figure:
    """Held-out R² of the same output in several forms.

    Parameters
    ----------
    scores : pandas.DataFrame
        Columns ``panel, tap`` (the form), ``estimator, median, low, high``.

    Returns
    -------
    matplotlib.figure.Figure
    """
    panels = list(dict.fromkeys(scores.panel))
    fig, axes = plt.subplots(1, len(panels), figsize=(WIDTH, 3.2), sharey=True, squeeze=False)
    for ax, panel in zip(axes.flat, panels, strict=True):
        own = scores[scores.panel == panel]
        forms = list(dict.fromkeys(own.tap))
        for shift, (estimator, (colour, marker, line)) in zip(
            (-0.08, 0.08), ESTIMATOR_STYLE.items(), strict=True
        ):
            rows = own[own.estimator == estimator].set_index("tap").reindex(forms)
            x = np.arange(len(forms)) + shift
            middle = rows["median"].clip(lower=-1e5)
            ax.vlines(x, rows.low.clip(lower=-1e5), rows.high.clip(upper=1), color=colour, lw=1.4)
            ax.plot(x, middle, color=colour, marker=marker, ls=line, lw=1, label=ESTIMATOR_NAMES[estimator])
        r2_axis(ax, max(scores["median"].min(), -1e5))
        ax.set_xticks(range(len(forms)), forms, rotation=60, ha="right", rotation_mode="anchor", fontsize=8)
        ax.set_title(row_label(panel), fontsize=9)
    axes[0, 0].set_ylabel("held-out R²")
    axes[0, 0].legend(fontsize=8, loc="lower left")
    fig.supxlabel("form of the output", fontsize=9)
    return fig


def contrasts(table: pd.DataFrame, *, object_class: str) -> Figure:
    """Chosen tap less reference tap, on images that did not choose it.

    Parameters
    ----------
    table : pandas.DataFrame
        From :func:`studies.s07_peak.central_peak`, with ``network`` and ``last``, its last tap before the classifier.
    object_class : str
        The class, or mean over classes, that is drawn.

    Returns
    -------
    matplotlib.figure.Figure
    """
    own = table[table.object_class == object_class]
    networks = list(dict.fromkeys(own.network))
    lines = {network: _in_order(own[own.network == network]) for network in networks}
    counts = [max(len(lines[network]), 1) for network in networks]
    fig, axes = plt.subplots(
        len(networks), 2, figsize=(WIDTH, 0.34 * sum(counts) + 0.7 * len(networks) + 0.8), sharex=True,
        squeeze=False, height_ratios=[count + 0.4 for count in counts],
    )  # fmt: skip
    for row, network in enumerate(networks):
        for ax, matching in zip(axes[row], ("own width", "equal width"), strict=True):
            ax.axvline(0, color="#777777", lw=0.8)
            single = table[(table.network == network) & (table.matching == matching)]
            single = single[single.object_class != object_class]
            for half, (colour, marker, shift) in enumerate(
                ((COLOURS[0], "o", -0.12), (COLOURS[1], "s", 0.12)), start=1
            ):
                rows = own[(own.network == network) & (own.matching == matching) & (own.half == half)]
                dots = single[single.half == half]
                _differences(ax, rows, dots, lines[network], colour, marker, shift)
                tap = rows.tap.iloc[0] if len(rows) else "–"
                if matching == "own width":
                    ax.plot([], [], marker, color=colour, ls="-", label=f"half {half}: {tap}")
            ax.set_yticks(range(len(lines[network])), [f"less {name}" for name in lines[network]], fontsize=8)
            ax.set_ylim(len(lines[network]) - 0.5, -0.5)
            if row == len(networks) - 1:
                ax.set_xlabel(f"difference in held-out R²\nat {matching}")
        axes[row, 0].set_title(network, fontsize=9)
        axes[row, 1].tick_params(labelleft=False)
        handles, labels = axes[row, 0].get_legend_handles_labels()
        axes[row, 1].legend(handles, labels, title="chosen tap", title_fontsize=8, fontsize=8,
                            loc="center left", bbox_to_anchor=(1, 0.5))  # fmt: skip
    for ax in axes[-1]:
        ax.set_xlim(-1.15 * FARTHEST, 1.15 * FARTHEST)
    return fig


def _differences(
    ax: Axes,
    rows: pd.DataFrame,
    dots: pd.DataFrame,
    order: list[str],
    colour: str,
    marker: str,
    shift: float,
) -> None:
    """One half's differences; what lies beyond the axis becomes a triangle at its end."""
    for dot in dots.itertuples():
        x = np.clip(dot.mean_difference, -1.08 * FARTHEST, 1.08 * FARTHEST)
        shape = "." if abs(dot.mean_difference) <= FARTHEST else (">" if x > 0 else "<")
        ax.plot(x, order.index(dot.reference) + shift, shape, color="#999999", ms=4, zorder=0)
    for row in rows.itertuples():
        x, y = row.mean_difference, order.index(row.reference) + shift
        ax.hlines(y, row.low, row.high, color=colour, lw=1.4)
        shape = marker if abs(x) <= FARTHEST else (">" if x > 0 else "<")
        filling = colour if row.p_holm < 0.05 else "white"
        ax.plot(np.clip(x, -1.08 * FARTHEST, 1.08 * FARTHEST), y, shape, color=colour, mfc=filling)


def _in_order(rows: pd.DataFrame) -> list[str]:
    """References from input to output: inner taps, the last one, logits, probabilities."""
    last = set(rows["last"])
    place = {"softmax": 3, "pre_softmax": 2, **dict.fromkeys(last, 1)}
    return sorted(dict.fromkeys(rows.reference), key=lambda name: place.get(name, 0))


def printed_table(table: pd.DataFrame, corrections: pd.DataFrame, wrong: pd.DataFrame) -> Figure:
    """A table of counts as printed, with totals that do not add up and the cells that explain them.

    Parameters
    ----------
    table : pandas.DataFrame of int
        As printed, totals included.
    corrections : pandas.DataFrame
        From :func:`studies.s07_peak.smallest_corrections`.
    wrong : pandas.DataFrame
        Rows of :func:`studies.s07_peak.check_sums` that do not add up.

    Returns
    -------
    matplotlib.figure.Figure
    """
    fig, ax = plt.subplots(figsize=(WIDTH, 1.9))
    ax.set_axis_off()
    drawn = ax.table(cellText=[[f"{v:,}" for v in row] for row in table.to_numpy()], rowLabels=list(table.index),
                     colLabels=list(table.columns), loc="center", cellLoc="right")  # fmt: skip
    drawn.auto_set_font_size(False)
    drawn.set_fontsize(8.5)
    drawn.scale(1, 1.35)
    for cell in drawn.get_celld().values():
        cell.set_edgecolor("#cccccc")
    place = (
        {name: i for i, name in enumerate(table.index, 1)},
        {name: j for j, name in enumerate(table.columns)},
    )
    for row in wrong.itertuples():
        y, x = (
            (place[0][row.name], place[1]["total"])
            if row.line == "row"
            else (place[0]["total"], place[1][row.name])
        )
        drawn[y, x].set_facecolor("#F7E3B5")
    for row in corrections.itertuples():
        cell = drawn[place[0][row.row], place[1][row.column]]
        cell.set_facecolor("#B9D6EC")
        cell.get_text().set_text(f"{row.printed:,}\n→ {row.corrected:,}")
        cell.get_text().set_fontsize(7.5)
    names = (("#F7E3B5", "total that does not add up"), ("#B9D6EC", "cell whose correction explains it"))
    ax.legend([mpl.patches.Patch(color=colour) for colour, _ in names], [name for _, name in names],
              loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=2, fontsize=8)  # fmt: skip
    return fig
