"""The rule that names the tap to cut at, its worth on images that took no part and the cut itself. Knows tables and networks; knows no data set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import count
from typing import Any

import numpy as np
import pandas as pd

from scalelib.errors import ResultsError, did_you_mean, require
from scalelib.graph import copy_model, keras, seeded
from scalelib.networks import Network, resolve_tap
from scalelib.regression import layerwise_r2
from scalelib.validation import MINIMUM_IMAGES, check_count, check_labels, check_problem

OUTPUT_TAPS = ("pre_softmax", "softmax")


def best_layer(
    table: pd.DataFrame,
    *,
    estimator: str = "ridge",
    measure: str = "sqrt_area_ratio",
    candidates: Iterable[str] | None = None,
) -> str:
    """The tap that holds most scale information: the highest mean over classes of held-out R².

    The rule is fixed before any result is seen: ridge, square root of the area ratio, mean over
    repeats and then over classes, in the ``true`` condition; of equal taps, the earlier.

    Parameters
    ----------
    table : pandas.DataFrame
        From :func:`scalelib.layerwise_r2`, of one network with one set of weights: columns
        ``tap``, ``r2_test`` and, where they matter, ``condition``, ``estimator``, ``measure``,
        ``object_class``. Taps stand in the order of the network.
    estimator, measure : str, default="ridge", "sqrt_area_ratio"
        Rows to use, where the table has these columns.
    candidates : iterable of str, optional
        Taps to choose from. Default: all but ``pre_softmax`` and ``softmax``, since a network is cut
        at its features; where nothing else was read, these.

    Returns
    -------
    str
        A tap. Taps with NaN, or without rows for some class, are out of the running.

    Raises
    ------
    ResultsError
        If the table lacks a column, mixes networks or weights, or leaves no candidate.

    Examples
    --------
    >>> best_layer(pd.DataFrame({"tap": ["a", "b", "c"], "r2_test": [0.1, 0.7, 0.4]}))
    'b'
    """
    missing = [column for column in ("tap", "r2_test") if column not in table]
    rule = f"the table has no column {' and no column '.join(missing)}"
    advice = "Pass the table that layerwise_r2 returns"
    require(not missing, "best_layer", rule, list(table.columns), advice, error=ResultsError)
    rows = table
    for column, value in (("condition", "true"), ("estimator", estimator), ("measure", str(measure))):
        if column in rows:
            there = sorted(set(rows[column].astype(str)))
            other = "" if column == "condition" else f"Pass {column}=… to choose by another than the rule's"
            rule, received = f"the table has no rows with {column} {value!r}", f"{column} {there}"
            advice = f"{did_you_mean(value, there)} {other}".strip()
            require(value in there, "best_layer", rule, received, advice, error=ResultsError)
            rows = rows[rows[column].astype(str) == value]
    for column in ("network", "weights", "weights_seed", "pooling"):
        values = rows[column].unique().tolist() if column in rows else []
        rule = "one network with one set of weights at a time"
        received = f"{len(values)} values of {column}: {', '.join(map(repr, values))}"
        advice = f"Select one first: table[table.{column} == …]"
        require(len(values) < 2, "best_layer", rule, received, advice, error=ResultsError)
    taps = list(dict.fromkeys(rows["tap"]))
    allowed = _allowed(candidates, taps, operation="best_layer")
    classes = rows["object_class"] if "object_class" in rows else pd.Series("all", index=rows.index)
    means = rows["r2_test"].groupby([classes, rows["tap"]]).agg(lambda values: values.mean(skipna=False))
    scores = means.unstack().mean(axis=0, skipna=False)[allowed].dropna()
    rule, received = "no tap has an R² for every class", f"candidates {allowed}, all NaN or incomplete"
    advice = "Every class needs rows for the same taps"
    require(len(scores), "best_layer", rule, received, advice, error=ResultsError)
    return str(scores.idxmax())


def _allowed(candidates: Iterable[str] | None, taps: list[str], *, operation: str) -> list[str]:
    """The candidates in the order of the network; without any, all taps that are features, or, where none is, all."""
    wanted = (set(taps) - set(OUTPUT_TAPS) or set(taps)) if candidates is None else set(candidates)
    for tap in wanted - set(taps):
        advice = f"{did_you_mean(str(tap), taps)} Taps are {', '.join(taps)}".strip()
        received = f"candidates {sorted(wanted)}"
        require(False, operation, f"no tap {tap!r}", received, advice, error=ResultsError)
    return [tap for tap in taps if tap in wanted]


REPORTED = "half tap object_class n_choose n_report r2_choose r2_report r2_report_sd r2_report_best"


def choose_and_report(
    acts: Mapping[str, Any],
    measures: Any,
    *,
    classes: Any = None,
    groups: Any = None,
    estimator: str = "ridge",
    repeats: int = 10,
    test_size: float = 0.3,
    candidates: Iterable[str] | None = None,
    random_state: int = 0,
    n_jobs: int | None = None,
) -> pd.DataFrame:
    """Choose the tap on one half of the images, report its R² on the other half, and swap.

    The highest of several R² is too high by selection; images that took no part in the choice do
    not share that.

    Parameters
    ----------
    acts : mapping of str to array_like, shape (n_images, channels)
        Pooled activations per tap, in the order of the network.
    measures : array_like, shape (n_images,)
        One concept measure per image; the rule wants the square root of the area ratio.
    classes, groups : array_like, shape (n_images,), optional
        Each object class is regressed by itself and halved by itself; rows of one group stay in one
        half, and on one side of every split within it.
    estimator : str, default="ridge"
    repeats : int, default=10
        Splits within a half, both to choose and to report.
    test_size : float, default=0.3
        Share held out in each of them.
    candidates : iterable of str, optional
        See :func:`scalelib.best_layer`.
    random_state : int, default=0
    n_jobs : int, optional
        Threads over taps and splits, as in :func:`scalelib.layerwise_r2`.

    Returns
    -------
    pandas.DataFrame
        One row per half and class: ``half`` (1, 2: the half that chose), ``tap``, ``object_class``,
        ``n_choose``, ``n_report``, ``r2_choose`` and ``r2_report`` (means over repeats within the
        one half and within the other), ``r2_report_sd`` (over repeats), ``r2_report_best`` (the
        highest mean over candidates in the reporting half: what hindsight would have had).

    Raises
    ------
    DataError
        If a half is too small to be split, and as :func:`scalelib.layerwise_r2`.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> size = rng.uniform(size=80)
    >>> acts = {"early": rng.normal(size=(80, 4))}
    >>> acts["late"] = size[:, None] + rng.normal(size=(80, 4)) / 9
    >>> choose_and_report(acts, size, repeats=3).tap.tolist()
    ['late', 'late']
    """
    operation = "choose_and_report"
    arrays, y, units = check_problem(acts, measures, groups=groups, operation=operation)
    check_labels(classes, len(y), name="classes", operation=operation)
    check_count(random_state, name="random_state", operation=operation, minimum=0)
    labels = np.full(len(y), "all") if classes is None else np.asarray(classes).astype(str)
    first = first_half(labels, units, np.random.default_rng([random_state, len(y)]))
    candidates = _allowed(candidates, list(arrays), operation=operation)
    names = np.unique(labels).tolist()
    how: dict[str, Any] = {"estimator": estimator, "repeats": repeats, "random_state": random_state}
    how |= {"conditions": "true", "test_size": test_size, "n_jobs": n_jobs}
    halves = []
    for half in (first, ~first):
        parts = []
        for name in names:
            rows = np.flatnonzero(half & (labels == name))
            rule = f"each half needs {MINIMUM_IMAGES} images of a class"
            advice = "Leave the class out, or bring more images (or more groups)"
            require(len(rows) >= MINIMUM_IMAGES, operation, rule, f"{len(rows)} of class {name!r}", advice)
            part = {tap: array[rows] for tap, array in arrays.items()}
            how["groups"] = None if units is None else units[rows]
            parts.append(layerwise_r2(part, y[rows], **how).assign(object_class=name))
        halves.append(pd.concat(parts, ignore_index=True))
    records = []
    for number, (choosing, reporting) in enumerate((halves, halves[::-1]), 1):
        tap = best_layer(choosing, estimator=estimator, candidates=candidates)
        for name in names:
            chose, report = (half[half.object_class == name] for half in (choosing, reporting))
            sizes = (half.n_train.iloc[0] + half.n_test.iloc[0] for half in (chose, report))
            reported = report.r2_test[report.tap == tap]
            best = report[report.tap.isin(candidates)].groupby("tap").r2_test.mean().max()
            scores = chose.r2_test[chose.tap == tap].mean(), reported.mean(), reported.std(ddof=1), best
            records.append((number, tap, name, *sizes, *scores))
    return pd.DataFrame(records, columns=REPORTED.split())


def first_half(labels: np.ndarray, units: np.ndarray | None, rng: np.random.Generator) -> np.ndarray:
    """A mask of half the images: of each class by itself; of whole groups where there are groups."""
    units = np.arange(len(labels)) if units is None else units
    of_class = labels[:, None] == np.unique(labels)  # (n_images, n_classes)
    first = np.zeros(len(labels), bool)
    lead = np.zeros(of_class.shape[1], int)  # how many more images of a class the first half has
    for unit in rng.permutation(np.unique(units)):
        rows = units == unit
        counts = of_class[rows].sum(axis=0)
        first[rows] = join = bool(lead @ counts < 0 or (lead @ counts == 0 and rng.random() < 0.5))
        lead += counts if join else -counts
    return first


def prune(net: Network, *, at: str, outputs: int = 1, random_state: int = 0) -> keras.Model:
    """The network up to a tap, with a new linear head.

    Parameters
    ----------
    net : Network
        The source; it stays as it is, whatever happens to the result.
    at : str
        The tap to keep as the last one, or its layer's name.
    outputs : int, default=1
        Width of the head.
    random_state : int, default=0
        Seed of the head's weights.

    Returns
    -------
    keras.Model
        Input as the source's, already preprocessed by ``net.preprocess``; then the source's layers
        up to the tap with copied weights, all trainable where they were; for a spatial tap the
        global average ``features``; the linear Dense ``head`` of shape (n, outputs). An ordinary
        Keras model: it saves to ``.keras`` and loads without custom objects.

    Raises
    ------
    NetworkError, DataError
        If there is no such tap, or `outputs` is no positive whole number.

    Notes
    -----
    Graziani et al. 2021, section 3.4.

    Examples
    --------
    >>> from scalelib.networks import load_network
    >>> net = load_network("MobileNet", weights="random", alpha=0.25, input_size=32)
    >>> small = prune(net, at="conv_pw_3")
    >>> small.output_shape, small.count_params() < net.model.count_params()
    ((None, 1), True)
    """
    check_count(outputs, name="outputs", operation="prune")
    tap = resolve_tap(net, at, operation="prune")
    trunk = keras.Model(net.model.inputs[0], net.tensor(tap))
    with seeded(random_state):
        # Keras itself allows other names, and then fails to predict with them
        model, steps = copy_model(trunk, name=f"{net.name}_to_{tap}")
        taken = {step.name for step in steps}
        x = model.outputs[0]
        if len(x.shape) == 4:
            x = keras.layers.GlobalAveragePooling2D(name=_free("features", taken))(x)
        x = keras.layers.Dense(int(outputs), name=_free("head", taken))(x)
        return keras.Model(model.inputs[0], x, name=model.name)


def _free(name: str, taken: set[str]) -> str:
    """The name, or the first of its numbered forms that no layer has yet."""
    return next(free for n in count(1) if (free := f"{name}_{n}" if n > 1 else name) not in taken)
