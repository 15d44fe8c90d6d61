"""Linear read-out of frozen features at every tap: what a network holds before any training.

Knows arrays and patch tables; not Keras, not slides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from scalelib.errors import ResultsError
from scalelib.solvers import fit_linear
from scalelib.transfer_scores import class_means, score_predictions
from scalelib.validation import check_activations


def read_out(
    acts: Mapping[str, np.ndarray],
    table: pd.DataFrame,
    *,
    network: str,
    targets: Sequence[str] = ("area", "log2_magnification"),
) -> pd.DataFrame:
    """Predict area and magnification from pooled features, tap by tap.

    Parameters
    ----------
    acts : mapping of str to ndarray of shape (n_patches, channels)
        Pooled features per tap, in the order of the table.
    table : pandas.DataFrame
        One row per patch: ``split, slide, magnification, mpp, mean_area_px``.
    network : str
        Label for the table.
    targets : sequence of str, default=("area", "log2_magnification")

    Returns
    -------
    pandas.DataFrame
        One row per held-out patch, tap and target, in the form that
        :func:`~scalelib.transfer_scores.score_predictions` takes (``row`` is ``read-out``, ``seed`` 0);
        the tap ``mean`` is the mean of the training targets, which any tap must beat.

    Raises
    ------
    DataError
        If features and table differ in length, or a feature is not finite.
    ResultsError
        If there are no training patches.

    Notes
    -----
    Ridge on standardised features, penalty by leave-one-out among training patches
    (:func:`scalelib.solvers.fit_linear`). Not in the paper.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> table = pd.DataFrame({"split": ["train"] * 20 + ["test"] * 10, "slide": "s", "mpp": 1.0,
    ...                       "magnification": np.tile([5.0, 20.0], 15), "mean_area_px": rng.uniform(9, 99, 30)})
    >>> acts = {"tap": np.log2(table[["magnification"]].to_numpy()) + rng.normal(0, 0.01, (30, 1))}
    >>> found = read_out(acts, table, network="n", targets=["log2_magnification"])
    >>> found[found.tap == "tap"].predicted.round(1).unique().tolist()
    [2.3, 4.3]
    """
    features = check_activations(acts, len(table), operation="read_out")
    train = np.flatnonzero(table["split"] == "train")
    held_out = np.flatnonzero(table["split"] != "train")
    if len(train) == 0 or len(held_out) == 0:
        raise ResultsError(
            "read_out: patches to train and to hold out are needed.\n"
            f"Received: {len(train)} and {len(held_out)}."
        )
    values = np.stack(
        [table["mean_area_px"] if t == "area" else np.log2(table["magnification"]) for t in targets], axis=1
    )
    kept = table.iloc[held_out][["split", "slide", "magnification", "mpp", "mean_area_px"]]
    parts = []
    for tap in ("mean", *features):
        if tap == "mean":
            predicted = np.repeat(values[train].mean(axis=0, keepdims=True), len(held_out), axis=0)
        else:
            fit = fit_linear(features[tap][train], values[train], "ridge")
            predicted = fit.predict(features[tap][held_out])
        for column, target in enumerate(targets):
            parts.append(
                kept.assign(
                    network=network,
                    row="read-out",
                    tap=tap,
                    target=target,
                    seed=0,
                    predicted=predicted[:, column],
                )
            )
    return pd.concat(parts, ignore_index=True)


def read_out_scores(predictions: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Scores per tap, with the tap that validation chooses marked.

    Parameters
    ----------
    predictions : pandas.DataFrame
        From :func:`read_out`, of one or several networks.
    table : pandas.DataFrame
        The patches; class means come from its training part.

    Returns
    -------
    pandas.DataFrame
        One row per network, target, tap, split and slide (``all`` too), in the order of the taps:
        the scores of ``score_predictions``, ``split`` and ``chosen``. Chosen is the tap with the
        smallest error (area) or the highest kappa (magnification) over all validation patches; its
        rows of the split ``test`` report it. Exploratory: many taps, few slides.

    Raises
    ------
    ResultsError
        If there is no validation part.
    """
    means = class_means(table)
    scores = pd.concat(
        [score_predictions(predictions, means, split=s).assign(split=s) for s in ("validation", "test")],
        ignore_index=True,
    )
    scores["chosen"] = False
    whole = scores[(scores["split"] == "validation") & (scores["slide"] == "all") & (scores["tap"] != "mean")]
    for (network, target), part in whole.groupby(["network", "target"]):
        best = part["mae_px"].idxmin() if target == "area" else part["kappa"].idxmax()
        scores.loc[
            (scores["network"] == network)
            & (scores["target"] == target)
            & (scores["tap"] == part.loc[best, "tap"]),
            "chosen",
        ] = True
    return scores
