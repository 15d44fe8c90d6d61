"""Table 2: networks transferred to histopathology, full, from scratch and pruned. What finished transfer runs leave on disk, and all of them as tables. Knows files and tables only. The runs of Table 2 as a profile names them: networks, cut where the layer-wise result says, and their seeds. Finished transfer runs at work on patches that they have never seen. Linear read-out of frozen features at every tap: what a network holds before any training. Pixel pitch of natural photographs: windows cut at known downsamplings, what magnification is to tissue. Images that no network of a study has seen: what they state, and what their pixels say."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scalelib.activations import extract
from scalelib.errors import DataError, ResultsError, did_you_mean, track
from scalelib.images import read_image, resize_image
from scalelib.linear import fit_linear
from scalelib.networks import load_network
from scalelib.pruning import prune
from scalelib.results import write_atomic, write_table
from scalelib.slides.magnification import (
    MagnificationEstimator,
    check_weights,
    conformal_quantile,
    image_patches,
    load_described,
)
from scalelib.slides.slide import stated_scale
from scalelib.validation import check_activations
from studies.training import STATE, Batches, Schedule, target_scaling, train
from studies.transfer_scores import RUN, class_means, score_predictions

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
        In the order of the table; best from :func:`~scalelib.slides.patches.cache_patches`.
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
            f"Received: none for {', '.join(sorted(missing))}.\nSplit by slide or patient; see scalelib.slides.patches."
        )


DONE, PREDICTIONS, HISTORY, WEIGHTS = "run.json", "predictions.csv.gz", "history.csv", "best.weights.h5"
"""Files of a run; the first is written last."""


@dataclass(frozen=True)
class TransferTables:
    """What finished runs have left.

    Parameters
    ----------
    predictions : pandas.DataFrame
        One row per held-out patch and run; see :func:`~studies.transfer_scores.score_predictions`.
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
        See :func:`~studies.transfer_scores.class_means`.
    split : str, default="test"

    Returns
    -------
    pandas.DataFrame
        As :func:`~studies.transfer_scores.score_predictions`, and ``epochs``, ``best_epoch`` and
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


@dataclass(frozen=True)
class PlannedTransfer:
    """One network of Table 2 with its seeds, its targets and how it is trained, the same in all of its rows.

    Parameters
    ----------
    network : TransferNetwork
    seeds : tuple of int
    targets : tuple of str
    schedule : Schedule
    """

    network: TransferNetwork
    seeds: tuple[int, ...]
    targets: tuple[str, ...]
    schedule: Schedule


def plan_transfer(
    specs: Iterable[Mapping[str, Any]],
    chosen: Mapping[str, str],
    *,
    schedule: Mapping[str, Any] | None = None,
) -> list[PlannedTransfer]:
    """Read a profile's entries of networks to transfer.

    Parameters
    ----------
    specs : iterable of mapping
        One entry per network: the arguments of :func:`scalelib.networks.load_network`, ``full_tap`` (the last map
        before the network's global average pooling), and optionally ``label`` (default: its name),
        ``transfer_seeds`` (how many of the paper's ten, in its order; default 10), ``targets`` (default: the paper's,
        ``["area"]``), ``learning_rate`` (in place of the schedule's) and ``weights_label``.
    chosen : mapping of str to str
        Label → tap to cut at; see :func:`chosen_taps`.
    schedule : mapping, optional
        Arguments of :class:`~studies.training.Schedule`, for all networks.

    Returns
    -------
    list of PlannedTransfer

    Raises
    ------
    ResultsError
        If no tap was chosen for a network, or the number of seeds is not 1 to 10.

    Examples
    --------
    >>> spec = {"name": "MobileNet", "alpha": 0.25, "full_tap": "conv_pw_13_relu", "transfer_seeds": 2}
    >>> plan = plan_transfer([spec], {"MobileNet": "conv_pw_11"})
    >>> plan[0].network.pruned_tap, plan[0].seeds
    ('conv_pw_11', (1001, 1003))
    """
    plans = []
    for spec in specs:
        options = {key: value for key, value in spec.items() if key not in {"weights_label", "seeds"}}
        name, full = options.pop("name"), options.pop("full_tap")
        label, count = options.pop("label", name), options.pop("transfer_seeds", len(SEEDS))
        if label not in chosen:
            raise ResultsError(
                f"plan_transfer: no tap was chosen for {label}.\nReceived: taps for {', '.join(chosen) or 'none'}.\n"
                f"{did_you_mean(label, chosen)} Run the layer-wise notebook with this network first."
            )
        if not 1 <= count <= len(SEEDS):
            raise ResultsError(
                f"plan_transfer: transfer_seeds is 1 to {len(SEEDS)}.\nReceived: {count} for {label}."
            )
        targets = tuple(options.pop("targets", ["area"]))
        training = {**(schedule or {})}
        if "learning_rate" in options:
            training["learning_rate"] = options.pop("learning_rate")
        pruned, weights = chosen[label], options.pop("weights", "imagenet")
        options["taps"] = list(dict.fromkeys([pruned, full]))
        plans.append(
            PlannedTransfer(
                TransferNetwork(label, name, full, pruned, weights, options),
                SEEDS[:count],
                targets,
                Schedule(**training),
            )
        )
    return plans


def chosen_taps(answers: pd.DataFrame, *, weights: str = "imagenet") -> dict[str, str]:
    """The tap with the best held-out scale R² of each network, as the layer-wise notebook found it.

    Parameters
    ----------
    answers : pandas.DataFrame
        The table ``answers`` of the layer-wise notebook: ``network, weights, peak_tap``.
    weights : str, default="imagenet"
        Label of the weights whose taps are wanted; labels that begin with it count too.

    Returns
    -------
    dict of str to str

    Examples
    --------
    >>> chosen_taps(pd.DataFrame({"network": ["n"], "weights": ["imagenet"], "peak_tap": ["t"]}))
    {'n': 't'}
    """
    rows = answers[answers["weights"].astype(str).str.startswith(weights)]
    return dict(zip(rows["network"], rows["peak_tap"], strict=True))


def planned_runs(plans: Iterable[PlannedTransfer], *, rows: Sequence[str] = ROWS) -> list[str]:
    """Names of all runs that are planned, as :func:`studies.s05_runs.collect` takes them.

    Parameters
    ----------
    plans : iterable of PlannedTransfer
    rows : sequence of str, default=("pretrained", "scratch", "pruned")

    Returns
    -------
    list of str

    Examples
    --------
    >>> spec = {"name": "SqueezeNet", "full_tap": "conv10", "transfer_seeds": 1}
    >>> planned_runs(plan_transfer([spec], {"SqueezeNet": "fire9"}), rows=["pruned"])
    ['SqueezeNet_pruned_fire9_area_1001']
    """
    found = []
    for plan in plans:
        net = plan.network
        for row, seed, target in itertools.product(rows, plan.seeds, plan.targets):
            tap = net.pruned_tap if row == "pruned" else net.full_tap
            found.append(run_name(network=net.label, row=row, tap=tap, target=target, seed=seed))
    return found


def described(network: TransferNetwork, tap: str) -> dict[str, Any]:
    """A network as :func:`scalelib.slides.magnification.fit_estimator` takes it.

    Parameters
    ----------
    network : TransferNetwork
    tap : str
        Whose pooled features are read.

    Returns
    -------
    dict

    Examples
    --------
    >>> described(TransferNetwork("m", "MobileNet", "conv_pw_13", "conv_pw_11"), "conv_pw_5")["tap"]
    'conv_pw_5'
    """
    options = {key: value for key, value in network.options.items() if key != "taps"}
    return {"name": network.name, "tap": tap, "weights": network.weights, "options": options}


def read_out_specs(specs: Iterable[Mapping[str, Any]], *, size: int) -> list[dict[str, Any]]:
    """The same networks as :func:`studies.readings.read_networks` takes them, with trained and with random weights.

    Parameters
    ----------
    specs : iterable of mapping
        See :func:`plan_transfer`.
    size : int
        Side of the patches in pixels.

    Returns
    -------
    list of dict

    Examples
    --------
    >>> specs = read_out_specs([{"name": "SqueezeNet", "full_tap": "conv10"}], size=96)
    >>> [spec["weights_label"] for spec in specs], specs[0]["input_size"]
    (['trained', 'random'], 96)
    """
    found = []
    for spec in specs:
        kept = {key: value for key, value in spec.items() if key not in _TRAINING}
        for label in ("trained", "random"):
            weights = kept.get("weights", "imagenet") if label == "trained" else "random"
            found.append({**kept, "weights": weights, "weights_label": label, "input_size": size})
    return found


_TRAINING = {"full_tap", "transfer_seeds", "targets", "learning_rate", "weights_label", "seeds"}
"""Keys of an entry that say how a network is trained, not which it is."""


def run_plans(
    plans: Iterable[PlannedTransfer],
    table: pd.DataFrame,
    images: Sequence[np.ndarray] | np.ndarray,
    folder: str | Path,
    *,
    rows: Sequence[str] = ROWS,
    data_digest: str = "",
) -> dict[str, str]:
    """Train what is planned; runs that are finished are left alone.

    Parameters
    ----------
    plans : iterable of PlannedTransfer
    table, images, folder, rows, data_digest
        See :func:`studies.s05_runs.run_transfer`.

    Returns
    -------
    dict of str to str
        Runs whose loss was not finite, with the reason.
    """
    failed: dict[str, str] = {}
    for plan in plans:
        failed |= run_transfer(
            [plan.network], table, images, folder,
            rows=rows, seeds=plan.seeds, targets=plan.targets, schedule=plan.schedule, data_digest=data_digest,
        )  # fmt: skip
    return failed


def predict_images(
    network: TransferNetwork,
    row: str,
    patches: Mapping[str, np.ndarray],
    folder: str | Path,
    table: pd.DataFrame,
    *,
    seeds: Iterable[int],
    target: str = "log2_magnification",
) -> dict[str, np.ndarray]:
    """Predictions of finished runs for the patches of new images.

    Parameters
    ----------
    network : TransferNetwork
    row : {"pretrained", "scratch", "pruned"}
    patches : mapping of str to ndarray of shape (n, side, side, 3), uint8
        By image; of the side that the runs were trained on.
    folder : path-like
        Parent of all runs.
    table : pandas.DataFrame
        The patches that the runs were trained on: their targets' mean and deviation scale the output back.
    seeds : iterable of int
    target : {"area", "log2_magnification"}, default="log2_magnification"

    Returns
    -------
    dict of str to ndarray of float64, shape (n_seeds, n_patches)
        By image, in the target's units. Runs with ``target_scaling="standard"`` are meant.

    Raises
    ------
    ResultsError
        If a run is not finished.
    """
    tap = network.pruned_tap if row == "pruned" else network.full_tap
    pixels = np.concatenate(list(patches.values()))
    side = int(pixels.shape[1])
    net = load_network(
        network.name, weights="random" if row == "scratch" else network.weights, input_size=side,
        **network.options,
    )  # fmt: skip
    model = prune(net, at=tap, outputs=1)
    training = target_values(table, target)[(table["split"] == "train").to_numpy()]
    shift, scale = target_scaling(training, "standard", "predict_images")
    data = Batches(pixels, np.zeros(len(pixels)), np.arange(len(pixels)), net.preprocess, batch_size=64)
    found = []
    for seed in seeds:
        named: dict[str, Any] = dict(zip(RUN, (network.label, row, tap, target, seed), strict=True))
        place = Path(folder) / run_name(**named)
        if not (place / DONE).exists():
            raise ResultsError(
                f"predict_images: no finished run {place.name}.\nReceived: folder {Path(folder).name}.\n"
                "Train it with run_transfer."
            )
        model.load_weights(place / WEIGHTS)
        found.append(np.asarray(model.predict(data, verbose=0), np.float64)[:, 0] * scale + shift)
    ends = np.cumsum([len(own) for own in patches.values()])[:-1]
    return dict(zip(patches, np.split(np.stack(found), ends, axis=1), strict=True))


def slide_reach(predictions: pd.DataFrame, *, level: float = 0.9) -> float:
    """How far the median over a slide's patches may lie from the truth, in octaves, calibrated on validation slides.

    Parameters
    ----------
    predictions : pandas.DataFrame
        Of the target ``log2_magnification``: ``split, slide, magnification, image, predicted``; seeds are averaged.
    level : float, default=0.9

    Returns
    -------
    float
        Infinite where there are too few slides and magnifications for the level.

    Notes
    -----
    Split conformal prediction over slides × magnifications, as in :func:`scalelib.slides.magnification.fit_magnification`.
    """
    held_out = predictions[predictions["split"] == "validation"]
    patches = held_out.groupby(["slide", "magnification", "image"])["predicted"].mean()
    medians = patches.groupby(["slide", "magnification"]).median().reset_index()
    residuals = (medians["predicted"] - np.log2(medians["magnification"])).abs()
    return float(conformal_quantile(np.sort(residuals.to_numpy()), level))


def summarize_images(octaves: Mapping[str, np.ndarray], reach: float) -> pd.DataFrame:
    """One magnification per image from predictions per seed and patch.

    Parameters
    ----------
    octaves : mapping of str to ndarray of shape (n_seeds, n_patches)
        From :func:`predict_images`, by image.
    reach : float
        From :func:`slide_reach`.

    Returns
    -------
    pandas.DataFrame
        One row per image: ``image``, ``patches``, ``transferred`` (median over patches of the mean over seeds),
        ``transferred_low``, ``transferred_high``.

    Examples
    --------
    >>> summarize_images({"a": np.full((2, 5), 4.0)}, 1.0).round(1).to_numpy().tolist()
    [['a', 5, 16.0, 8.0, 32.0]]
    """
    rows = []
    for image, values in octaves.items():
        middle = float(np.median(values.mean(axis=0)))
        rows.append(
            {
                "image": image,
                "patches": values.shape[1],
                "transferred": 2**middle,
                "transferred_low": 2 ** (middle - reach),
                "transferred_high": 2 ** (middle + reach),
            }
        )
    return pd.DataFrame(rows)


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
        :func:`~studies.transfer_scores.score_predictions` takes (``row`` is ``read-out``, ``seed`` 0);
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
    (:func:`scalelib.linear.fit_linear`). Not in the paper.

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


def downsampled_windows(
    images: Sequence[Any], *, size: int, most: float, random_state: int = 0
) -> tuple[np.ndarray, pd.DataFrame]:
    """One square window per image, at a downsampling and a place drawn at random.

    Parameters
    ----------
    images : sequence of path-like or ndarray of shape (height, width, 3), uint8
    size : int
        Side of a window in pixels.
    most : float
        Largest downsampling; drawn between 1 and this, uniformly in octaves. Images whose shorter side is below
        ``size * most`` px are left out, so that downsampling and image size are independent.
    random_state : int, default=0

    Returns
    -------
    windows : ndarray of uint8, shape (n, size, size, 3)
        Downsampled by area means.
    table : pandas.DataFrame
        One row per window: ``image`` (its position in `images`), ``log2_downsampling`` in octaves.

    Raises
    ------
    DataError
        If a number is out of range, or fewer than five images are large enough.

    Examples
    --------
    >>> photos = np.random.default_rng(0).integers(0, 255, (6, 64, 80, 3), dtype=np.uint8)
    >>> windows, table = downsampled_windows(photos, size=16, most=4)
    >>> windows.shape, bool(table.log2_downsampling.between(0, 2).all())
    ((6, 16, 16, 3), True)
    """
    if size < 1 or not most > 1:
        raise DataError(
            f"downsampled_windows: size of at least 1 and most above 1.\nReceived: size={size}, most={most}."
        )
    rng = np.random.default_rng(random_state)
    windows, rows = [], []
    for place, image in enumerate(images):
        pixels = read_image(image)
        octaves, left, top = rng.uniform(0, np.log2(most)), rng.random(), rng.random()
        height, width = pixels.shape[:2]
        if min(height, width) < size * most:
            continue
        side = size * 2**octaves
        x, y = int(left * (width - side)), int(top * (height - side))
        end = round(side)
        window = pixels[y : y + end, x : x + end]
        windows.append(resize_image(window, size, interpolation="area").astype(np.uint8))
        rows.append({"image": place, "log2_downsampling": float(np.log2(end / size))})
    if len(windows) < 5:
        raise DataError(
            f"downsampled_windows: at least five images of {size * most:g} px or more on the shorter side.\n"
            f"Received: {len(windows)} of {len(images)}.\nUse a smaller size or a smaller downsampling."
        )
    return np.stack(windows), pd.DataFrame(rows)


def unseen_images(
    specs: Iterable[Mapping[str, Any]],
    estimator: MagnificationEstimator,
    *,
    root: str | PathLike[str] = ".",
    level: float = 0.9,
) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Estimate the magnification of images at known downsamplings.

    Parameters
    ----------
    specs : iterable of mapping
        ``image`` (a path below `root`, or pixels), ``label``, and optionally ``downsample`` (default ``[1]``): pixels
        of the image per pixel of a patch, each at least 1.
    estimator : MagnificationEstimator
    root : path-like, default="."
    level : float, default=0.9
        Of the intervals.

    Returns
    -------
    table : pandas.DataFrame
        One row per image and downsampling: ``image`` (label and downsampling), ``stated`` (in words),
        ``magnification`` (stated, divided by the downsampling; NaN where nothing is stated), ``patches``, ``estimate``,
        ``low``, ``high``, ``novelty``, ``refused``.
    patches : dict of str to ndarray of shape (n, side, side, 3), uint8
        What was looked at, by ``image``.

    Raises
    ------
    DataError
        If an image cannot be read, or is smaller than a patch.
    ResultsError
        If the network's weights are not those that the estimator was fitted with.
    """
    network = load_described(estimator.network)
    check_weights(network, estimator)
    tap = estimator.network["tap"]
    rows, patches = [], {}
    for spec in specs:
        is_file = not isinstance(spec["image"], np.ndarray)
        image = Path(root) / spec["image"] if is_file else spec["image"]
        stated = stated_scale(image) if is_file else None
        for factor in spec.get("downsample", [1]):
            name = spec["label"] + (f", {factor:g} times smaller" if factor != 1 else "")
            patches[name] = image_patches(image, size=estimator.patch_size, downsample=factor)
            found = estimator.estimate(extract(network, patches[name], taps=[tap])[tap], level=level)
            magnification = (stated.magnification if stated else None) or np.nan
            rows.append(
                {
                    "image": name,
                    "stated": str(stated) if stated else "nothing",
                    "magnification": magnification / factor,
                    "patches": found.patches,
                    "estimate": found.magnification,
                    "low": found.low,
                    "high": found.high,
                    "novelty": found.novelty,
                    "refused": found.refused,
                }
            )
    return pd.DataFrame(rows), patches


def beside_transferred(found: pd.DataFrame, transferred: pd.DataFrame) -> pd.DataFrame:
    """Estimates with those of transferred networks, which refuse nothing themselves: where one is refused, both are.

    Parameters
    ----------
    found : pandas.DataFrame
        From :func:`unseen_images`.
    transferred : pandas.DataFrame
        From :func:`studies.s05_runs.summarize_images`.

    Returns
    -------
    pandas.DataFrame
        With ``transferred, transferred_low, transferred_high``; NaN where refused.

    Examples
    --------
    >>> found = pd.DataFrame({"image": ["a", "b"], "refused": ["", "unlike tissue"]})
    >>> values = dict.fromkeys(["transferred", "transferred_low", "transferred_high"], [10.0, 20.0])
    >>> beside_transferred(found, pd.DataFrame({"image": ["a", "b"], **values})).transferred.tolist()
    [10.0, nan]
    """
    columns = ["transferred", "transferred_low", "transferred_high"]
    both = found.merge(transferred[["image", *columns]], on="image", validate="one_to_one")
    both.loc[both["refused"] != "", columns] = np.nan
    return both
