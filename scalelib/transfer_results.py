"""What finished transfer runs leave on disk, and all of them as tables. Knows files and tables only."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from scalelib.errors import ResultsError
from scalelib.provenance import write_atomic
from scalelib.transfer_scores import RUN, score_predictions

DONE, PREDICTIONS, HISTORY, WEIGHTS = "run.json", "predictions.csv.gz", "history.csv", "best.weights.h5"
"""Files of a run; the first is written last."""


@dataclass(frozen=True)
class TransferTables:
    """What finished runs have left.

    Parameters
    ----------
    predictions : pandas.DataFrame
        One row per held-out patch and run; see :func:`~scalelib.transfer_scores.score_predictions`.
    history : pandas.DataFrame
        One row per epoch and run: the learning curves.
    runs : pandas.DataFrame
        One row per run: ``network, row, tap, target, seed, epochs, best_epoch, converged, parameters,
        seconds, weights_digest``.
    """

    predictions: pd.DataFrame
    history: pd.DataFrame
    runs: pd.DataFrame


def collect(folder: str | Path, *, names: Collection[str] | None = None) -> TransferTables:
    """Tables of the finished runs in a folder; unfinished ones are left out.

    Parameters
    ----------
    folder : path-like
    names : collection of str, optional
        Runs that are wanted, see :func:`run_name`. Default: all that are there.

    Returns
    -------
    TransferTables

    Raises
    ------
    ResultsError
        If no run is finished.

    Examples
    --------
    >>> collect("nowhere")
    Traceback (most recent call last):
    ...
    scalelib.errors.ResultsError: collect: no finished run in nowhere.
    ...
    """
    places = sorted(path.parent for path in Path(folder).glob(f"*/{DONE}"))
    places = [place for place in places if names is None or place.name in names]
    if not places:
        raise ResultsError(
            f"collect: no finished run in {Path(folder).as_posix()}.\nReceived: no */{DONE}.\nTrain with run_transfer."
        )
    summaries = [json.loads((p / DONE).read_text(encoding="utf-8"))["summary"] for p in places]
    return TransferTables(
        pd.concat([pd.read_csv(p / PREDICTIONS) for p in places], ignore_index=True),
        pd.concat([pd.read_csv(p / HISTORY) for p in places], ignore_index=True),
        pd.DataFrame(summaries),
    )


def score_runs(tables: TransferTables, means: pd.Series, *, split: str = "test") -> pd.DataFrame:
    """Scores of all runs, overall and slide by slide, with whether each run has converged.

    Parameters
    ----------
    tables : TransferTables
    means : pandas.Series
        See :func:`~scalelib.transfer_scores.class_means`.
    split : str, default="test"

    Returns
    -------
    pandas.DataFrame
        As :func:`~scalelib.transfer_scores.score_predictions`, and ``epochs``, ``best_epoch`` and
        ``converged``: whether the best epoch is not the last.
    """
    scores = score_predictions(tables.predictions, means, split=split)
    return scores.merge(
        tables.runs[[*RUN, "epochs", "best_epoch", "converged"]], on=RUN, validate="many_to_one"
    )


def table_2(scores: pd.DataFrame) -> pd.DataFrame:
    """Scores in the form of the paper's Table 2: mean and standard deviation over seeds.

    Parameters
    ----------
    scores : pandas.DataFrame
        From :func:`score_runs`.

    Returns
    -------
    pandas.DataFrame
        One row per network, row, tap and target: ``seeds``, how many of them ``converged``, and for
        ``mae_px``, ``mae_um2``, ``mae_octaves``, ``kappa`` and ``kappa_balanced`` the mean and, with
        ``_sd``, the standard deviation over seeds (n − 1; NaN for one seed).

    Examples
    --------
    >>> scores = pd.DataFrame({"network": "n", "row": "pruned", "tap": "t", "target": "area", "seed": [1, 2],
    ...     "slide": "all", "converged": [True, False], "mae_px": [50.0, 60.0], "mae_um2": 1.0,
    ...     "mae_octaves": float("nan"), "kappa": [0.5, 0.6], "kappa_balanced": 0.5})
    >>> table_2(scores)[["seeds", "converged", "mae_px", "kappa"]].round(2).to_numpy().tolist()
    [[2.0, 1.0, 55.0, 0.55]]
    """
    values = ["mae_px", "mae_um2", "mae_octaves", "kappa", "kappa_balanced"]
    whole = scores[scores["slide"] == "all"].groupby([c for c in RUN if c != "seed"], sort=False)
    counts = whole.agg(seeds=("seed", "nunique"), converged=("converged", "sum"))
    return counts.join(whole[values].mean()).join(whole[values].std().add_suffix("_sd")).reset_index()


def wide_predictions(predictions: pd.DataFrame) -> pd.DataFrame:
    """Predictions of all runs beside each other, the form in which they are archived.

    Parameters
    ----------
    predictions : pandas.DataFrame
        One row per patch and run, see :class:`TransferTables`.

    Returns
    -------
    pandas.DataFrame
        One row per patch: ``image, split, slide, magnification, mpp, mean_area_px``, and one column per run, by its
        :func:`run_name`.

    Examples
    --------
    >>> rows = pd.DataFrame({"network": "n", "row": "pruned", "tap": "t", "target": "area", "seed": [1, 2],
    ...     "image": "a", "split": "test", "slide": "s", "magnification": 5.0, "mpp": 2.0, "mean_area_px": 10.0,
    ...     "predicted": [12.0, 9.0]})
    >>> wide_predictions(rows)[["image", "n_pruned_t_area_1", "n_pruned_t_area_2"]].to_numpy().tolist()
    [['a', 12.0, 9.0]]
    """
    patch = ["image", "split", "slide", "magnification", "mpp", "mean_area_px"]
    keys = predictions[RUN].drop_duplicates()
    names = keys.assign(name=[run_name(**key) for key in keys.to_dict("records")])
    named = predictions.merge(names, on=RUN)
    return (
        named.pivot(index=patch, columns="name", values="predicted").rename_axis(columns=None).reset_index()
    )


def run_name(*, network: str, row: str, tap: str, target: str, seed: int) -> str:
    """Folder name of a run.

    Examples
    --------
    >>> run_name(network="MobileNet 0.25", row="pruned", tap="conv_pw_11", target="area", seed=1001)
    'MobileNet-0.25_pruned_conv_pw_11_area_1001'
    """
    return re.sub(r"[^\w.-]", "-", f"{network}_{row}_{tap}_{target}_{seed}")


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as CSV, packed where the name ends in ``.gz``, atomically.

    Parameters
    ----------
    path : pathlib.Path
    table : pandas.DataFrame
    """
    compression: Any = {"method": "gzip", "mtime": 0} if path.suffix == ".gz" else None
    write_atomic(path, lambda stream: table.to_csv(stream, index=False, compression=compression))
