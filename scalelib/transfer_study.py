"""The runs of Table 2 as a profile names them: networks, cut where the layer-wise result says, and their seeds.

Here the parts meet: entries of a profile, results of another notebook, training. What the parts do is theirs.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scalelib.errors import ResultsError, did_you_mean
from scalelib.schedule import Schedule
from scalelib.transfer import ROWS, SEEDS, TransferNetwork, run_transfer
from scalelib.transfer_results import run_name


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
        Arguments of :class:`~scalelib.schedule.Schedule`, for all networks.

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
    """Names of all runs that are planned, as :func:`scalelib.transfer_results.collect` takes them.

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
    """A network as :func:`scalelib.magnification_fit.fit_estimator` takes it.

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
    """The same networks as :func:`scalelib.study_reading.read_networks` takes them, with trained and with random weights.

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
        See :func:`scalelib.transfer.run_transfer`.

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
