"""The rule that names the tap to cut at, and what the tap it names is worth on other images. The cut: a network up to one tap with a new linear head, as an ordinary Keras model. What pruning saves: parameters, forward time and memory of a network cut at each of several taps."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from scalelib.errors import DataError, NetworkError, ResultsError, ScalelibError, did_you_mean
from scalelib.graph import copy_model, keras, seeded
from scalelib.networks import Network, resolve_tap
from scalelib.regression import layerwise_r2
from scalelib.validation import MINIMUM_IMAGES, check_labels, check_problem

OUTPUT_TAPS = ("pre_softmax", "softmax")
_ONE_OF_EACH = ("network", "weights", "weights_seed", "pooling")


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
        From :func:`scalelib.regression.layerwise_r2`: columns ``tap``, ``r2_test`` and, where they
        matter, ``condition``, ``estimator``, ``measure``, ``object_class``, ``network``,
        ``weights``, ``weights_seed``. Taps stand in the order of the network.
    estimator, measure : str, default="ridge", "sqrt_area_ratio"
        Rows to use, where the table has these columns.
    candidates : iterable of str, optional
        Taps to choose from. Default: all but ``pre_softmax`` and ``softmax``, since a network is cut
        at its features.

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
    scores = _class_means(table, estimator=estimator, measure=measure).mean(axis=0, skipna=False)
    allowed = _allowed(candidates, list(scores.index))
    scores = scores[allowed].dropna()
    if scores.empty:
        raise ResultsError(
            "best_layer: no tap has an R² for every class.\n"
            f"Received: candidates {', '.join(allowed) or 'none'}, all NaN or incomplete.\n"
            "Every class needs rows for the same taps."
        )
    return str(scores.index[int(np.argmax(scores.to_numpy()))])


def choose_and_report(
    acts: Mapping[str, Any],
    measures: Any,
    *,
    classes: Any = None,
    groups: Any = None,
    estimator: str = "ridge",
    repeats: int = 10,
    candidates: Iterable[str] | None = None,
    random_state: int = 0,
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
    classes : array_like, shape (n_images,), optional
        Object classes: each is regressed by itself and halved by itself. Default: one class.
    groups : array_like, shape (n_images,), optional
        Rows of one group stay in one half, and on one side of every split within it.
    estimator : str, default="ridge"
    repeats : int, default=10
        Splits within a half, both to choose and to report.
    candidates : iterable of str, optional
        See :func:`best_layer`.
    random_state : int, default=0
        Seed of the halves and of the splits.

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
        If a half is too small to be split, and as :func:`scalelib.regression.layerwise_r2`.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> size = rng.uniform(size=80)
    >>> acts = {"early": rng.normal(size=(80, 4)), "late": size[:, None] + rng.normal(size=(80, 4)) / 9}
    >>> choose_and_report(acts, size, repeats=3).tap.tolist()
    ['late', 'late']
    """
    arrays, y, units = check_problem(acts, measures, groups=groups, operation="choose_and_report")
    codes = check_labels(classes, len(y), name="classes", operation="choose_and_report")
    labels = np.full(len(y), "all") if codes is None else np.asarray(classes).astype(str)
    first = first_half(labels, units, np.random.default_rng([random_state, len(y)]))
    candidates = _allowed(candidates, list(arrays))
    tables = {}
    for half, rows in ((1, first), (2, ~first)):
        parts = []
        for label in np.unique(labels).tolist():
            chosen = _enough(np.flatnonzero(rows & (labels == label)), label)
            part = layerwise_r2(
                {tap: array[chosen] for tap, array in arrays.items()},
                y[chosen],
                estimator=estimator,
                repeats=repeats,
                groups=None if units is None else units[chosen],
                conditions="true",
                random_state=random_state,
            )
            parts.append(part.assign(object_class=label))
        tables[half] = pd.concat(parts, ignore_index=True)
    records = []
    for half, other in ((1, 2), (2, 1)):
        tap = best_layer(tables[half], estimator=estimator, candidates=candidates)
        for label in np.unique(labels).tolist():
            chose = tables[half][tables[half].object_class == label]
            report = tables[other][tables[other].object_class == label]
            reported = report.r2_test[report.tap == tap]
            records.append(
                {
                    "half": half,
                    "tap": tap,
                    "object_class": label,
                    "n_choose": int(chose.n_train.iloc[0] + chose.n_test.iloc[0]),
                    "n_report": int(report.n_train.iloc[0] + report.n_test.iloc[0]),
                    "r2_choose": chose.r2_test[chose.tap == tap].mean(),
                    "r2_report": reported.mean(),
                    "r2_report_sd": reported.std(ddof=1),
                    "r2_report_best": report[report.tap.isin(candidates)].groupby("tap").r2_test.mean().max(),
                }
            )
    return pd.DataFrame(records)


def _class_means(table: pd.DataFrame, *, estimator: str, measure: str) -> pd.DataFrame:
    """Mean held-out R² per class and tap; taps in the order in which they first stand."""
    missing = {"tap", "r2_test"} - set(table.columns)
    if missing:
        raise ResultsError(
            f"best_layer: the table has no column {' and no column '.join(sorted(missing))}.\n"
            f"Received: columns {', '.join(map(str, table.columns)) or 'none'}.\n"
            "Pass the table that layerwise_r2 returns."
        )
    rows = table
    for column, value in (("condition", "true"), ("estimator", estimator), ("measure", measure)):
        if column not in table:
            continue
        there = sorted(set(table[column].astype(str)))
        if value not in there:
            other = "" if column == "condition" else f" Pass {column}=… to choose by another than the rule's."
            raise ResultsError(
                f"best_layer: the table has no rows with {column} {value!r}.\n"
                f"Received: {column} {', '.join(map(repr, there))}.\n{did_you_mean(value, there)}{other}"
            )
        rows = rows[rows[column] == value]
    for column in _ONE_OF_EACH:
        if column in rows and rows[column].nunique(dropna=False) > 1:
            values = rows[column].unique()
            raise ResultsError(
                f"best_layer: one network with one set of weights at a time.\n"
                f"Received: {len(values)} values of {column}: {', '.join(map(repr, values.tolist()))}.\n"
                f"Select one first: table[table.{column} == {values.tolist()[0]!r}]."
            )
    order = list(dict.fromkeys(rows["tap"]))
    classes = rows["object_class"] if "object_class" in rows else pd.Series("all", index=rows.index)
    scores = rows["r2_test"].where(rows["r2_test"].notna(), np.nan)
    means = scores.groupby([classes, rows["tap"]]).agg(lambda values: values.mean(skipna=False))
    return means.unstack()[order]


def _allowed(candidates: Iterable[str] | None, taps: list[str]) -> list[str]:
    if candidates is None:
        return [tap for tap in taps if tap not in OUTPUT_TAPS]
    wanted = list(candidates)
    for tap in wanted:
        if tap not in taps:
            raise ResultsError(
                f"best_layer: no tap {tap!r} in the table.\nReceived: candidates={wanted}.\n"
                f"{did_you_mean(str(tap), taps)} Taps are {', '.join(taps)}."
            )
    return [tap for tap in taps if tap in wanted]


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


def _enough(rows: np.ndarray, label: str) -> np.ndarray:
    if len(rows) < MINIMUM_IMAGES:
        raise DataError(
            f"choose_and_report: each half needs at least {MINIMUM_IMAGES} images of a class.\n"
            f"Received: {len(rows)} of class {label!r} in one half.\n"
            "Leave the class out, or bring more images (or more groups)."
        )
    return rows


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
    NetworkError
        If there is no such tap or `outputs` is no positive whole number.

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
    if isinstance(outputs, bool) or not isinstance(outputs, int | np.integer) or outputs < 1:
        raise NetworkError(
            f"prune: the head needs a positive whole number of outputs.\nReceived: outputs={outputs!r}.\n"
            "One output reads one measure."
        )
    tap = resolve_tap(net, at, operation="prune")
    trunk = keras.Model(net.model.inputs[0], net.tensor(tap))
    with seeded(random_state):
        model, steps = copy_model(trunk, name=re.sub(r"[^\w.]+", "_", f"{net.name}_to_{tap}"))
        taken = {step.name for step in steps}
        x = model.outputs[0]
        if len(x.shape) == 4:
            x = keras.layers.GlobalAveragePooling2D(name=_free("features", taken))(x)
        x = keras.layers.Dense(int(outputs), name=_free("head", taken))(x)
        return keras.Model(model.inputs[0], x, name=model.name)


def _free(name: str, taken: set[str]) -> str:
    """The name, or the first of its numbered forms that no layer has yet."""
    number, free = 1, name
    while free in taken:
        number, free = number + 1, f"{name}_{number + 1}"
    return free


def cost_table(net: Network, taps: Iterable[str], *, batch_size: int = 32, repeats: int = 5) -> pd.DataFrame:
    """Cost of a network pruned at some taps, one linear output on top.

    Parameters
    ----------
    net : Network
        With a fixed input size.
    taps : iterable of str
        Where to cut; the last feature tap is the full network.
    batch_size : int, default=32
    repeats : int, default=5
        Timed passes after one that is not timed, in turn over all taps so that a busy machine slows
        all of them alike.

    Returns
    -------
    pandas.DataFrame
        One row per tap: ``tap``, ``parameters``, ``weights_mib``, ``activations_mib`` (outputs of all
        layers for one image in float32, which backpropagation keeps: it grows with the batch),
        ``forward_ms`` per image (the median pass) and ``forward_ms_min``.

    Raises
    ------
    ScalelibError
        If no tap is given, a number is below 1, or the network takes any size.
    NetworkError
        If a tap is unknown.

    Examples
    --------
    >>> from scalelib.networks import load_network
    >>> net = load_network("MobileNet", weights="random", alpha=0.25, include_top=False, input_size=32)
    >>> table = cost_table(net, ["conv_pw_1", "conv_pw_13"], batch_size=2, repeats=1)
    >>> bool(table.parameters.is_monotonic_increasing)
    True
    """
    taps = list(taps)
    if not taps or min(batch_size, repeats) < 1 or net.input_size is None:
        raise ScalelibError(
            "cost_table: at least one tap, batch_size and repeats of at least 1, and a fixed input size.\n"
            f"Received: taps={taps}, batch_size={batch_size}, repeats={repeats}, input_size={net.input_size}."
        )
    models = [prune(net, at=tap) for tap in taps]
    batch = np.random.default_rng(0).normal(size=(batch_size, *net.input_size, 3)).astype(np.float32)
    times = np.empty((repeats + 1, len(models)))
    for repeat in range(repeats + 1):
        for place, model in enumerate(models):
            started = time.perf_counter()
            model.predict_on_batch(batch)
            times[repeat, place] = time.perf_counter() - started
    per_image = times[1:] * 1000 / batch_size
    return pd.DataFrame(
        {
            "tap": taps,
            "parameters": [model.count_params() for model in models],
            "weights_mib": [4 * model.count_params() / 2**20 for model in models],
            "activations_mib": [_activations(model) / 2**20 for model in models],
            "forward_ms": np.median(per_image, axis=0),
            "forward_ms_min": per_image.min(axis=0),
        }
    )


def _activations(model: keras.Model) -> int:
    """Bytes of all layers' outputs for one image in float32."""
    tensors = [tensor for layer in model.layers for tensor in keras.tree.flatten(layer.output)]
    return 4 * sum(int(np.prod(tensor.shape[1:])) for tensor in tensors)
