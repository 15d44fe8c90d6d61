"""Notebook 05, the runs: what a profile plans, networks trained whole, from scratch and pruned, and at work on unseen images."""

from __future__ import annotations

import fcntl
import itertools
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from functools import lru_cache, partial
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scalelib.activations import extract
from scalelib.errors import ResultsError, did_you_mean, require, track
from scalelib.images import read_image, resize_image
from scalelib.linear import fit_linear
from scalelib.networks import Network, load_network
from scalelib.pruning import prune
from scalelib.results import write_atomic, write_table
from scalelib.slides.magnification import (
    MagnificationEstimator,
    conformal_quantile,
    image_patches,
    load_described,
)
from scalelib.slides.slide import stated_scale
from studies.plan import rows_and_targets, slug, take_apart
from studies.training import STATE, NotFinite, Schedule, batches_of, predict_batches, train
from studies.transfer_scores import RUN, class_means, score_predictions

SCHEDULE = [field.name for field in fields(Schedule)]
PATCH = ["image", "split", "slide", "magnification", "mpp", "mean_area_px"]


@dataclass(frozen=True)
class TransferNetwork:
    """A network of Table 2: its label, its name and options for `load_network`, where it ends and where the rule cuts it.

    A row is ``pretrained`` or ``scratch``, both whole, ``pruned`` at the rule's tap, or another tap to prune it at.
    `scratch` is what the network from scratch has otherwise: name, options, schedule.
    """

    label: str
    name: str
    full_tap: str
    pruned_tap: str
    weights: str = "imagenet"
    options: Mapping[str, Any] = field(default_factory=dict)
    scratch: Mapping[str, Any] = field(default_factory=dict)

    def run(self, row: str, target: str, seed: int) -> dict[str, Any]:
        """What names one of its runs, as the columns `RUN`: the same for the rule's tap and for a tap that is named."""
        whole = {"pretrained": self.full_tap, "scratch": self.full_tap}
        tap = {**whole, "pruned": self.pruned_tap}.get(row, row)
        kind = row if row in whole else "pruned"
        return dict(zip(RUN, (self.label, kind, tap, target, seed), strict=True))

    def load(self, row: str, *, side: int, seed: int = 0) -> Network:
        """The network for patches of one size, with the weights that a row begins with."""
        given = {"name": self.name, "weights": self.weights, **self.options, "input_size": side}
        if row == "scratch":
            given |= _without(SCHEDULE, self.scratch) | {"weights": "random"}
        if given["weights"] == "random":
            given["weights_seed"] = seed
        return _loaded(json.dumps(given))


@lru_cache(2)  # rows and seeds share the pretrained one; who trains it trains a copy
def _loaded(given: str) -> Network:
    options = json.loads(given)
    return load_network(options.pop("name"), **options)


@dataclass(frozen=True)
class PlannedTransfer:
    """One network of Table 2: its rows with their seeds, its targets, how it is trained, and with which learning rates.

    Of several rates, each row and target takes its own, see `_tuned`.
    """

    network: TransferNetwork
    rows: Mapping[str, tuple[int, ...]]
    targets: tuple[str, ...]
    schedule: Schedule
    rates: tuple[float, ...]

    @property
    def seeds(self) -> tuple[int, ...]:
        """Those of the row that has most."""
        return max(self.rows.values(), key=len, default=())


def chosen_taps(answers: pd.DataFrame, *, weights: str = "imagenet") -> dict[str, str]:
    """Network → tap that the layer-wise notebook's `answers` name, for weights whose label begins so."""
    rows = answers[answers["weights"].astype(str).str.startswith(weights)]
    return dict(zip(rows["network"], rows["peak_tap"], strict=True))


def plan_transfer(
    specs: Iterable[Mapping[str, Any]],
    chosen: Mapping[str, str],
    *,
    schedule: Mapping[str, Any] | None = None,
) -> list[PlannedTransfer]:
    """Read a profile's entries of networks; their row ``pruned`` is cut at the taps `chosen` by label.

    Beside what `load_network` takes, an entry has ``full_tap`` (the last map before the network's global average pooling)
    and optionally ``label``, ``transfer_seeds`` and ``targets`` (see `rows_and_targets`), anything of `schedule` (of
    ``learning_rate`` several, to choose from), and ``scratch``: what this row has otherwise.
    """
    plans = []
    for spec in specs:
        name, options, labels, _ = take_apart(spec)
        label, weights, full = labels["network"], options.pop("weights"), options.pop("full_tap")
        scratch, (rows, targets) = options.pop("scratch", {}), rows_and_targets(options)
        training = {"learning_rate": Schedule.learning_rate, **(schedule or {}), **_of_schedule(options)}
        options, rates = _without(SCHEDULE, options), training.pop("learning_rate")
        rates = tuple(rates) if isinstance(rates, list) else (rates,)
        advice = f"{did_you_mean(label, chosen)} Run the layer-wise notebook with this network first.".strip()
        rule, received = f"no tap was chosen for {label}", f"taps for {', '.join(chosen) or 'none'}"
        planned = label in chosen or "pruned" not in rows
        require(planned, "plan_transfer", rule, received, advice, error=ResultsError)
        network = TransferNetwork(label, name, full, chosen.get(label, full), weights, options, scratch)
        taps = [network.run(row, "", 0)["tap"] for row in [*reversed(rows), "pretrained"]]
        options["taps"] = list(dict.fromkeys(taps))
        trained = Schedule(**training, learning_rate=rates[0])
        plans.append(PlannedTransfer(network, rows, targets, trained, rates))
    return plans


def _of_schedule(given: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in given.items() if key in SCHEDULE}


def _without(keys: Collection[str], given: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in given.items() if key not in keys}


def planned_runs(plans: Iterable[PlannedTransfer]) -> dict[str, str]:
    """Row of each run that is planned, by the run's name: one pruned at another tap than the rule's is a ``cut``."""
    named = [plan.network.run(row, target, seed) for plan, seed, row, target in _runs(plans)]
    rules = {plan.network.label: plan.network.pruned_tap for plan in plans}
    elsewhere = [run["row"] == "pruned" and run["tap"] != rules[run["network"]] for run in named]
    return {run_name(**run): "cut" if cut else run["row"] for run, cut in zip(named, elsewhere, strict=True)}


def _runs(plans: Iterable[PlannedTransfer]) -> list[tuple[PlannedTransfer, int, str, str]]:
    """Whole comparisons first: all rows with one seed before the next."""
    every = [(p, *run) for p in plans for run in itertools.product(p.seeds, p.rows, p.targets)]
    return [(plan, seed, row, target) for plan, seed, row, target in every if seed in plan.rows[row]]


def run_name(*, network: str, row: str, tap: str, target: str, seed: int) -> str:
    """Folder name of a run."""
    return slug(network, row, tap, target, seed)


RATES, TUNING_EPOCHS, TUNING_SEED = "rates", 3, 1  # none of the paper's seeds


def run_plans(
    plans: Iterable[PlannedTransfer],
    table: pd.DataFrame,
    images: Sequence[np.ndarray] | np.ndarray,
    folder: str | Path,
    *,
    data_digest: str = "",
) -> dict[str, str]:
    """Train what is planned. Returns runs whose loss was not finite, with the reason."""
    failed = {}
    for plan, seed, row, target in track(_runs(plans), label="transfer", unit="run"):
        given: dict[str, Any] = {"target": target, "data_digest": data_digest}
        once = partial(_alone, plan.network, row, table, images, **given)
        try:
            once(folder, seed=seed, schedule=_tuned(plan, row, once, Path(folder) / RATES))
        except NotFinite as error:
            failed[f"{plan.network.label} {row} {target} {seed}"] = str(error)
    return failed


def _tuned(plan: PlannedTransfer, row: str, once: Callable[..., Path], folder: Path) -> Schedule:
    """The planned schedule with a row's own learning rate: that of the smallest validation loss in the first epochs.

    With a seed of its own; of equal rates the smaller. Test slides have no part in it.
    """
    losses, planned = {}, plan.schedule
    if row == "scratch":
        planned = replace(planned, **_of_schedule(plan.network.scratch))
    for rate in sorted(plan.rates) if len(plan.rates) > 1 else []:
        short = replace(planned, learning_rate=rate, epochs=TUNING_EPOCHS, patience=None)
        with suppress(NotFinite):
            place = once(folder / f"{rate:g}", seed=TUNING_SEED, schedule=short)
            losses[rate] = pd.read_csv(place / HISTORY)["val_loss"].min()
    best = min(losses, key=losses.__getitem__, default=planned.learning_rate)
    return replace(planned, learning_rate=best)


def _alone(network: TransferNetwork, row: str, *data: Any, seed: int, target: str, **given: Any) -> Path:
    """As `train_transfer`; processes that share the folder wait for each other's runs."""
    place = Path(data[-1]) / run_name(**network.run(row, target, seed))
    place.mkdir(parents=True, exist_ok=True)
    with (place / "lock").open("a") as lock:  # NFS locks no folder; whoever is killed lets go
        with suppress(OSError):  # a disk without locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        return train_transfer(network, row, *data, seed=seed, target=target, **given)


# Files of a finished run; the first is written last.
DONE, PREDICTIONS, HISTORY, WEIGHTS = "run.json", "predictions.csv.gz", "history.csv", "best.weights.h5"


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
    """Train one row of Table 2 with one seed, or go on with it; a finished run is left alone. Returns the run's folder.

    Graziani et al. 2021, section 4.4: global average pooling and one linear output, all weights trained, mean squared
    error, Adam, weights of the best validation epoch. The seed decides the head, the order of patches and, from
    scratch, all weights. `table` has one row per patch, `images` its pixels in the same order.
    """
    schedule = schedule or Schedule()
    named = network.run(row, target, seed)
    place = Path(folder) / run_name(**named)
    net = network.load(row, side=len(images[0]), seed=seed)
    identity = {"run": named, "data": data_digest, "weights": net.weights_digest}
    identity["input"] = net.preprocess_name
    wanted = {**identity, "schedule": {**asdict(schedule), "workers": None}}
    if (place / DONE).exists():
        there = json.loads((place / DONE).read_text(encoding="utf-8"))["wanted"]
        rule = f"{place} holds a finished run of other data or with another schedule"
        received, advice = f"{there} there, {wanted} wanted", "Use another folder"
        require(there == wanted, "train_transfer", rule, received, advice, error=ResultsError)
        return place
    rows = {split: np.flatnonzero(table["split"] == split) for split in ("train", "validation", "test")}
    model = prune(net, at=named["tap"], outputs=1, random_state=seed)
    history, predict = train(
        model, images, target_values(table, target),
        train_rows=rows["train"], validation_rows=rows["validation"], preprocess=net.preprocess, folder=place,
        name=" ".join(map(str, named.values())), identity=identity, seed=seed, schedule=schedule,
    )  # fmt: skip
    held_out = np.concatenate([rows["validation"], rows["test"]])
    predictions = table.iloc[held_out][PATCH].assign(**named, predicted=predict(held_out))
    model.save_weights(place / WEIGHTS)
    write_table(place / PREDICTIONS, predictions)
    write_table(place / HISTORY, history.assign(**named))
    best = int(history.loc[history["val_loss"].idxmin(), "epoch"])
    summary = {**named, "epochs": len(history), "best_epoch": best, "converged": best < len(history)}
    summary |= {"parameters": int(model.count_params()), "seconds": float(history["seconds"].sum())}
    summary |= {"weights_digest": net.weights_digest, "learning_rate": schedule.learning_rate}
    write_atomic(place / DONE, json.dumps({"wanted": wanted, "summary": summary}, indent=1).encode())
    (place / STATE).unlink(missing_ok=True)
    return place


def target_values(table: pd.DataFrame, target: str) -> np.ndarray:
    """What a network is to predict for each patch: the mean area in px of the patch, or the magnification in octaves."""
    if target == "log2_magnification":
        return np.log2(table["magnification"].to_numpy(np.float64))
    require(target == "area", "transfer", "a target is area or log2_magnification", repr(target))
    return table["mean_area_px"].to_numpy(np.float64)


@dataclass(frozen=True)
class TransferTables:
    """What finished runs have left: a row per held-out patch and run, a row per epoch and run, a row per run."""

    predictions: pd.DataFrame
    history: pd.DataFrame
    runs: pd.DataFrame


def collect(folder: str | Path, *, names: Collection[str] | None = None) -> TransferTables:
    """Tables of the finished runs in a folder, all or those named, with the rows that `planned_runs` gives them."""
    rows = names if isinstance(names, Mapping) else {}
    places = sorted(path.parent for path in Path(folder).glob(f"*/{DONE}"))
    places = [place for place in places if names is None or place.name in names]
    rule, advice = f"no finished run in {Path(folder).as_posix()}", "Train with workflow/prepare.py"
    require(places, "collect", rule, f"no */{DONE}", advice, error=ResultsError)
    found: list[list[pd.DataFrame]] = [[], [], []]
    for place in places:
        summary = json.loads((place / DONE).read_text(encoding="utf-8"))["summary"]
        tables = pd.read_csv(place / PREDICTIONS), pd.read_csv(place / HISTORY), pd.DataFrame([summary])
        for kind, table in zip(found, tables, strict=True):
            kind.append(table.assign(row=rows.get(place.name, summary["row"])))
    return TransferTables(*(pd.concat(kind, ignore_index=True) for kind in found))


def rates_tried(folder: str | Path, runs: pd.DataFrame) -> pd.DataFrame:
    """Validation losses by which the learning rates of `runs` were chosen: a row per run and epoch, none where nothing was
    to choose."""
    named = runs[["network", "tap", "target"]].drop_duplicates()
    tried = [named.iloc[:0].assign(learning_rate=0.0)]
    for place in sorted(Path(folder).glob(f"{RATES}/*/*/{HISTORY}")):
        tried.append(pd.read_csv(place).assign(learning_rate=float(place.parts[-3])))
    return pd.concat(tried, ignore_index=True).merge(named)


def score_runs(tables: TransferTables, means: pd.Series, *, split: str = "test") -> pd.DataFrame:
    """Scores of all runs, overall and slide by slide, what share of its network's parameters each has, and whether it has
    converged: its best epoch is not its last."""
    scores = score_predictions(tables.predictions, means, split=split)
    ends = tables.runs[[*RUN, "epochs", "best_epoch", "converged"]].assign(kept=kept(tables.runs))
    return scores.merge(ends, on=RUN, validate="many_to_one")


def kept(runs: pd.DataFrame) -> pd.Series:
    """Parameters of each run as a share of those of the network's full pretrained row."""
    full = runs[runs["row"] == "pretrained"].groupby("network")["parameters"].first()
    return runs["parameters"] / runs["network"].map(full)


def table_2(scores: pd.DataFrame) -> pd.DataFrame:
    """Scores in the form of the paper's Table 2: how many seeds, how many converged, means and standard deviations."""
    values = ["mae_px", "mae_um2", "mae_octaves", "kappa", "kappa_balanced"]
    whole = scores[scores["slide"] == "all"].groupby([c for c in RUN if c != "seed"], sort=False)
    counts = whole.agg(seeds=("seed", "nunique"), converged=("converged", "sum"), kept=("kept", "first"))
    return counts.join(whole[values].mean()).join(whole[values].std().add_suffix("_sd")).reset_index()


def wide_predictions(predictions: pd.DataFrame) -> pd.DataFrame:
    """Predictions of all runs beside each other, a column per run by its name: the form in which they are archived."""
    names = [run_name(**key) for key in predictions[RUN].to_dict("records")]
    wide = predictions.assign(run=names).pivot(index=PATCH, columns="run", values="predicted")
    return wide.rename_axis(columns=None).reset_index()


# What frozen networks hold, and where they hold it


def described(network: TransferNetwork, tap: str) -> dict[str, Any]:
    """A network as :func:`scalelib.slides.magnification.fit_estimator` takes it, to be read at a tap."""
    options = _without(["taps"], network.options)
    return {"name": network.name, "tap": tap, "weights": network.weights, "options": options}


def read_out_specs(specs: Iterable[Mapping[str, Any]], *, size: int) -> list[dict[str, Any]]:
    """A profile's entries as :func:`studies.readings.read_networks` takes them, with trained and with random weights."""
    training = {"full_tap", "transfer_seeds", "targets", "scratch", "weights_label", "seeds", *SCHEDULE}
    found = []
    for spec in specs:
        own = _without(training, spec) | {"input_size": size}
        random = own | _without(training, spec.get("scratch", {}))
        found.append({"weights": "imagenet", **own, "weights_label": "trained"})
        found.append({**random, "weights": "random", "weights_label": "random"})
    return found


def read_out(acts: Mapping[str, np.ndarray], table: pd.DataFrame, *, network: str) -> pd.DataFrame:
    """Predict both targets of held-out patches from pooled features by ridge, tap by tap, as rows of predictions.

    The tap ``mean`` is the mean of the training targets, which any tap must beat. Not in the paper.
    """
    training, targets = (table["split"] == "train").to_numpy(), ("area", "log2_magnification")
    values = np.stack([target_values(table, target) for target in targets], axis=1)
    predicted = {"mean": np.broadcast_to(values[training].mean(axis=0), (sum(~training), len(targets)))}
    for tap, features in acts.items():
        fit = fit_linear(features[training], values[training], "ridge")
        predicted[tap] = fit.predict(features[~training])
    kept = table.loc[~training, PATCH[1:]].assign(network=network, row="read-out", seed=0)
    parts = [
        kept.assign(tap=tap, target=target, predicted=found[:, column])
        for tap, found in predicted.items()
        for column, target in enumerate(targets)
    ]
    return pd.concat(parts, ignore_index=True)


def read_out_scores(predictions: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Scores per network, target, tap, split and slide, with the tap marked that validation chooses, by error or by kappa.

    Its rows of the split ``test`` report it. Exploratory: many taps, few slides.
    """
    means = class_means(table)
    parts = [score_predictions(predictions, means, split=s).assign(split=s) for s in ("validation", "test")]
    scores = pd.concat(parts, ignore_index=True)
    whole = scores[(scores["split"] == "validation") & (scores["slide"] == "all") & (scores["tap"] != "mean")]
    best = {
        key: part.loc[part["mae_px"].idxmin() if key[1] == "area" else part["kappa"].idxmax(), "tap"]
        for key, part in whole.groupby(["network", "target"])
    }
    runs = zip(scores["network"], scores["target"], scores["tap"], strict=True)
    return scores.assign(chosen=[best[network, target] == tap for network, target, tap in runs])


def downsampled_windows(
    images: Sequence[Any], *, size: int, most: float, random_state: int = 0
) -> tuple[np.ndarray, pd.DataFrame]:
    """One square window per image, at a place and a downsampling of 1 to `most` drawn at random, uniform in octaves.

    Images whose shorter side is below ``size * most`` px are left out, so that downsampling and image size are
    independent. The table has each window's image and downsampling in octaves.
    """
    rng = np.random.default_rng(random_state)
    windows, rows = [], []
    for place, image in enumerate(images):
        pixels = read_image(image)
        octaves, left, top = rng.uniform(0, np.log2(most)), rng.random(), rng.random()
        height, width = pixels.shape[:2]
        if min(height, width) < size * most:
            continue
        side = size * 2**octaves
        x, y, end = int(left * (width - side)), int(top * (height - side)), round(side)
        window = resize_image(pixels[y : y + end, x : x + end], size, interpolation="area")
        windows.append(window.astype(np.uint8))
        rows.append({"image": place, "log2_downsampling": float(np.log2(end / size))})
    return np.stack(windows), pd.DataFrame(rows)


# Images whose magnification nobody wrote down


def unseen_images(
    specs: Iterable[Mapping[str, Any]],
    estimator: MagnificationEstimator,
    *,
    root: str | PathLike[str] = ".",
) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Estimate the magnification of images at known downsamplings: one row each, and the patches that were looked at.

    A spec has ``image`` (a path below `root`, or pixels), ``label``, and optionally ``downsample``, by default ``[1]``.
    """
    network, tap = load_described(estimator.network), estimator.network["tap"]
    rows, patches = [], {}
    for spec in specs:
        is_file = not isinstance(spec["image"], np.ndarray)
        image = Path(root) / spec["image"] if is_file else spec["image"]
        stated = stated_scale(image) if is_file else None
        for factor in spec.get("downsample", [1]):
            name = spec["label"] + (f", {factor:g} times smaller" if factor != 1 else "")
            patches[name] = image_patches(image, size=estimator.patch_size, downsample=factor)
            found = estimator.estimate(extract(network, patches[name], taps=[tap])[tap])
            magnification = (stated.magnification if stated else None) or np.nan
            row = {"image": name, "stated": str(stated or "nothing"), "magnification": magnification / factor}
            rows.append({**asdict(found), "estimate": found.magnification, **row})
    columns = ["patches", "estimate", "low", "high", "novelty", "refused"]
    return pd.DataFrame(rows)[["image", "stated", "magnification", *columns]], patches


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
    """Predictions of finished runs with standardised targets for the patches of each image, seeds × patches."""
    pixels = np.concatenate(list(patches.values()))
    net = network.load(row, side=pixels.shape[1])
    model = prune(net, at=network.run(row, target, 0)["tap"], outputs=1)
    known = target_values(table, target)[(table["split"] == "train").to_numpy()]
    order = np.arange(len(pixels))
    found = []
    for seed in seeds:
        model.load_weights(Path(folder) / run_name(**network.run(row, target, seed)) / WEIGHTS)
        batches = batches_of(pixels, order, order, net.preprocess, batch_size=64)
        found.append(predict_batches(model, batches) * known.std() + known.mean())
    ends = np.cumsum([len(own) for own in patches.values()])[:-1]
    return dict(zip(patches, np.split(np.stack(found), ends, axis=1), strict=True))


def slide_reach(predictions: pd.DataFrame, *, level: float = 0.9) -> float:
    """How far the median over a slide's patches may lie from the truth, in octaves: conformal over validation slides.

    Seeds are averaged; infinite where there are too few slides and magnifications for the level.
    """
    held_out = predictions[predictions["split"] == "validation"]
    patches = held_out.groupby(["slide", "magnification", "image"])["predicted"].mean()
    medians = patches.groupby(["slide", "magnification"]).median().reset_index()
    residuals = (medians["predicted"] - np.log2(medians["magnification"])).abs()
    return float(conformal_quantile(np.sort(residuals.to_numpy()), level))


def summarize_images(octaves: Mapping[str, np.ndarray], reach: float) -> pd.DataFrame:
    """One magnification per image, the median over patches of the mean over seeds, with its interval."""
    middle = np.array([np.median(values.mean(axis=0)) for values in octaves.values()])
    patches = [values.shape[1] for values in octaves.values()]
    found = pd.DataFrame({"image": list(octaves), "patches": patches, "transferred": 2**middle})
    return found.assign(transferred_low=2 ** (middle - reach), transferred_high=2 ** (middle + reach))


def beside_transferred(found: pd.DataFrame, transferred: pd.DataFrame) -> pd.DataFrame:
    """Estimates with those of transferred networks, which refuse nothing themselves: where one is refused, both are."""
    columns = ["transferred", "transferred_low", "transferred_high"]
    both = found.merge(transferred[["image", *columns]], on="image", validate="one_to_one")
    both.loc[both["refused"] != "", columns] = np.nan
    return both
