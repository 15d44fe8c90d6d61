"""Table 2: networks transferred to histopathology, full, from scratch and pruned.

Knows networks and labelled patches; every run is a folder of its own, so that a killed study goes on
where it stopped and a cluster trains seeds side by side.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scalelib.checkpoints import STATE
from scalelib.errors import ResultsError, did_you_mean
from scalelib.networks import load_network
from scalelib.progress import track
from scalelib.provenance import write_atomic
from scalelib.pruning import prune
from scalelib.schedule import Schedule
from scalelib.training import train
from scalelib.transfer_results import DONE, HISTORY, PREDICTIONS, WEIGHTS, run_name, write_table
from scalelib.transfer_scores import RUN

SEEDS = (1001, 1003, 1005, 1006, 1008, 2009, 2020, 994, 747, 1456)
"""The paper's ten."""

ROWS = ("pretrained", "scratch", "pruned")
"""Rows of Table 2 for each network."""

TARGETS = ("area", "log2_magnification")
"""The paper's mean nucleus area in px, and the magnification's logarithm directly."""


@dataclass(frozen=True)
class TransferNetwork:
    """A network of Table 2 and where it is cut.

    Parameters
    ----------
    label : str
        As tables show it, such as ``"MobileNet 0.25"``.
    name : str
        What :func:`~scalelib.networks.load_network` takes.
    full_tap : str
        The last feature tap: the rows *pretrained* and *scratch*.
    pruned_tap : str
        The tap that the scale analysis chose: the row *pruned*.
    weights : str, default="imagenet"
        Of *pretrained* and *pruned*.
    options : mapping, optional
        Further options of ``load_network``, such as ``{"alpha": 0.25, "include_top": False}``.

    Examples
    --------
    >>> TransferNetwork("MobileNet 0.25", "MobileNet", "conv_pw_13", "conv_pw_11").weights
    'imagenet'
    """

    label: str
    name: str
    full_tap: str
    pruned_tap: str
    weights: str = "imagenet"
    options: Mapping[str, Any] = field(default_factory=dict)


def train_transfer(
    network: TransferNetwork,
    row: str,
    table: pd.DataFrame,
    images: Sequence[np.ndarray] | np.ndarray,
    folder: str | Path,
    *,
    seed: int,
    target: str = "area",
    schedule: Schedule | None = None,
    data_digest: str = "",
) -> Path:
    """Train one row of Table 2 with one seed, or go on with it; a finished run is left alone.

    Parameters
    ----------
    network : TransferNetwork
    row : {"pretrained", "scratch", "pruned"}
    table : pandas.DataFrame
        One row per patch: ``image, split, slide, magnification, mpp, mean_area_px``.
    images : sequence of ndarray, or ndarray of shape (n, side, side, 3), uint8
        In the order of the table; best from :func:`~scalelib.datasets.patch_images.cache_patches`.
    folder : path-like
        Parent of all runs.
    seed : int
        Of the head, the order of patches and, from scratch, all weights.
    target : {"area", "log2_magnification"}, default="area"
        In px of the patch, or in octaves.
    schedule : Schedule, optional
        Default: the paper's five epochs.
    data_digest : str, default=""
        Digest of the dataset; a run on other data is refused.

    Returns
    -------
    pathlib.Path
        The run's folder: ``run.json`` (written last), ``predictions.csv.gz`` for validation and test
        patches, ``history.csv``, ``best.weights.h5``, ``log.jsonl``.

    Raises
    ------
    ResultsError
        If a split is missing, row or target are unknown, the loss is not finite, or the folder holds
        a run of other data or with another schedule.

    Notes
    -----
    Graziani et al. 2021, section 4.4 and Table 2: global average pooling and one linear output, all
    weights trained, mean squared error, Adam, weights of the best validation epoch.
    """
    schedule = schedule or Schedule()
    _check(row, target, table)
    tap = network.pruned_tap if row == "pruned" else network.full_tap
    named: dict[str, Any] = dict(zip(RUN, (network.label, row, tap, target, seed), strict=True))
    place = Path(folder) / run_name(**named)
    side = int(np.shape(images[0])[0])
    scratch = row == "scratch"
    net = load_network(
        network.name, weights="random" if scratch else network.weights, weights_seed=seed, input_size=side,
        **network.options,
    )  # fmt: skip
    identity = {
        "run": named,
        "data": data_digest,
        "weights": net.weights_digest,
        "input": net.preprocess_name,
    }
    wanted = {**identity, "schedule": {**asdict(schedule), "workers": None}}
    if (place / DONE).exists():
        done = json.loads((place / DONE).read_text(encoding="utf-8"))
        if done["wanted"] != wanted:
            raise ResultsError(
                f"train_transfer: {place} holds a finished run of other data or with another schedule.\n"
                f"Received: {done['wanted']} there, {wanted} wanted.\nUse another folder, or remove it."
            )
        return place
    rows = {split: np.flatnonzero(table["split"] == split) for split in ("train", "validation", "test")}
    trained = train(
        prune(net, at=tap, outputs=1, random_state=seed), images, target_values(table, target),
        train_rows=rows["train"], validation_rows=rows["validation"], preprocess=net.preprocess, folder=place,
        name=" ".join(map(str, named.values())), identity=identity, seed=seed, schedule=schedule,
    )  # fmt: skip
    held_out = np.concatenate([rows["validation"], rows["test"]])
    kept = table.iloc[held_out][["image", "split", "slide", "magnification", "mpp", "mean_area_px"]]
    predictions = kept.assign(**named, predicted=trained.predict(images, held_out))
    unfinished = place / f"unfinished-{WEIGHTS}"
    trained.model.save_weights(unfinished)
    unfinished.replace(place / WEIGHTS)
    write_table(place / PREDICTIONS, predictions)
    write_table(place / HISTORY, trained.history.assign(**named))
    last = int(trained.history["epoch"].max())
    summary = {
        **named,
        "epochs": last,
        "best_epoch": trained.best_epoch,
        "converged": trained.best_epoch < last,
        "parameters": int(trained.model.count_params()),
        "seconds": float(trained.history["seconds"].sum()),
        "weights_digest": net.weights_digest,
    }
    content = json.dumps({"wanted": wanted, "summary": summary}, indent=1)
    write_atomic(place / DONE, lambda stream: stream.write(content.encode()))
    (place / STATE).unlink(missing_ok=True)
    return place


def run_transfer(
    networks: Iterable[TransferNetwork],
    table: pd.DataFrame,
    images: Sequence[np.ndarray] | np.ndarray,
    folder: str | Path,
    *,
    rows: Sequence[str] = ROWS,
    seeds: Sequence[int] = SEEDS,
    targets: Sequence[str] = ("area",),
    schedule: Schedule | None = None,
    data_digest: str = "",
) -> dict[str, str]:
    """Train all rows of all networks with all seeds; runs that are finished are left alone.

    Parameters
    ----------
    networks : iterable of TransferNetwork
    table, images, folder, schedule, data_digest
        See :func:`train_transfer`.
    rows : sequence of str, default=("pretrained", "scratch", "pruned")
    seeds : sequence of int, default=the paper's ten
        Several processes may each take some of them and share the folder.
    targets : sequence of str, default=("area",)

    Returns
    -------
    dict of str to str
        Runs that failed for losses that are not finite, by name, with the reason; the others are
        trained all the same.
    """
    networks = list(networks)
    runs = [(s, n, r, t) for s in seeds for n in networks for r in rows for t in targets]
    failed = {}
    for seed, network, row, target in track(runs, label="transfer", unit="run"):
        try:
            train_transfer(
                network, row, table, images, folder,
                seed=seed, target=target, schedule=schedule, data_digest=data_digest,
            )  # fmt: skip
        except ResultsError as error:
            if "not finite" not in str(error):
                raise
            failed[f"{network.label} {row} {target} {seed}"] = str(error)
    return failed


def target_values(table: pd.DataFrame, target: str) -> np.ndarray:
    """What a network is to predict for each patch.

    Parameters
    ----------
    table : pandas.DataFrame
        One row per patch: ``magnification, mean_area_px``.
    target : {"area", "log2_magnification"}

    Returns
    -------
    ndarray of float64, shape (n,)
        In px of the patch, or in octaves.

    Examples
    --------
    >>> target_values(pd.DataFrame({"magnification": [5.0, 40.0]}), "log2_magnification").round(2).tolist()
    [2.32, 5.32]
    """
    if target == "log2_magnification":
        return np.log2(table["magnification"].to_numpy(np.float64))
    return table["mean_area_px"].to_numpy(np.float64)


def _check(row: str, target: str, table: pd.DataFrame) -> None:
    for label, value, known in (("row", row, ROWS), ("target", target, TARGETS)):
        if value not in known:
            raise ResultsError(
                f"train_transfer: {label} is one of {', '.join(known)}.\nReceived: {value!r}.\n"
                f"{did_you_mean(value, known)}".rstrip()
            )
    missing = {"train", "validation", "test"} - set(table["split"])
    if missing:
        raise ResultsError(
            "train_transfer: patches to train, validate and test are needed.\n"
            f"Received: none for {', '.join(sorted(missing))}.\nSplit by slide or patient; see scalelib.datasets.splits."
        )
