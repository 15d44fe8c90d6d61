"""What a profile's entries name: networks, and runs of the transfer. Imports no Keras, because every job of Snakemake reads it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

SEEDS = (1001, 1003, 1005, 1006, 1008, 2009, 2020, 994, 747, 1456)  # the paper's ten
ROWS = ("pretrained", "scratch", "pruned")  # of Table 2, for each network


def take_apart(spec: Mapping[str, Any]) -> tuple[str, dict[str, Any], dict[str, str], list[int]]:
    """An entry of a profile as name and options of `load_network`, labels of its rows, and weight seeds."""
    options = {"weights": "imagenet", "seeds": [0], **spec}
    options.pop("reading", None)  # says how `extract` reads it, and changes no network
    name, seeds = options.pop("name"), options.pop("seeds")
    labels = {"network": options.pop("label", name)}
    labels["weights"] = options.pop("weights_label", options["weights"])
    return name, options, labels, seeds


def seeds_and_targets(options: dict[str, Any]) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """With which of the paper's seeds, in its order, and to predict what a network is trained; taken out of its options."""
    seeds = SEEDS[: options.pop("transfer_seeds", len(SEEDS))]
    return seeds, tuple(options.pop("targets", ["area"]))


def slug(*parts: object) -> str:
    """A name for files and folders."""
    return re.sub(r"[^\w.-]", "-", "_".join(map(str, parts)))
