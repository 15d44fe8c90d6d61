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


def rows_and_targets(options: dict[str, Any]) -> tuple[dict[str, tuple[int, ...]], tuple[str, ...]]:
    """The rows of Table 2, each with as many of the paper's seeds as asked for, and what is predicted; taken out of options.

    ``transfer_seeds`` is a number for `ROWS`, or numbers by row: one that is none of `ROWS` is a tap to cut at.
    """
    asked = options.pop("transfer_seeds", len(SEEDS))
    numbers = dict.fromkeys(ROWS, asked) if isinstance(asked, int) else asked
    return {row: SEEDS[:number] for row, number in numbers.items()}, tuple(options.pop("targets", ["area"]))


def slug(*parts: object) -> str:
    """A name for files and folders."""
    return re.sub(r"[^\w.-]", "-", "_".join(map(str, parts)))
