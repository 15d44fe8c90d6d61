"""What notebooks share, done before them, a job at a time; Snakemake says when.

    python workflow/prepare.py read READING OUT               activations, into the cache that notebooks share
    python workflow/prepare.py patches PROFILE OUT            the transfer's patches, decoded
    python workflow/prepare.py train PROFILE NETWORK ROW TARGET+... SEED+... PATCHES OUT

Training that was killed goes on with the epoch that it was in. OUT says what was done and is written last; notebooks find
what is finished, check it, and do the rest.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scalebook.profiles import check_parameters, load_profile
from scalelib.activations import extract
from scalelib.datasets import load_dataset
from scalelib.errors import DataError, ScalelibError
from scalelib.networks import load_network
from scalelib.results import read_results, write_atomic
from scalelib.slides.patches import CachedPatches, PatchImages, cache_patches

sys.path.append(str(Path(__file__).resolve().parents[1] / "notebooks"))  # where studies lies
from studies.plan import slug
from studies.s05_runs import chosen_taps, plan_transfer, planned_runs, run_plans

ROOT = Path(__file__).resolve().parents[1]


def read(reading: str) -> bytes:
    """Read a network at all taps that notebooks ask for (null: its own ones); what is in the cache is left alone."""
    given = json.loads(reading)
    name, options = given["network"]
    net = load_network(name, **options)
    if named := [tap for tap in given["taps"] if tap is not None]:
        own = net.taps if None in given["taps"] else []
        net = load_network(name, **options, taps=[*own, *named])
    images = load_dataset(given["dataset"], **given["dataset_options"]).images
    extract(net, images, cache=given["cache"], **given["speed"])
    return _said(weights=net.weights_digest, taps=list(net.taps), images=len(images))


def patches(profile: str) -> bytes:
    """Decode the patches that runs of the transfer share; loading whole slides anew would take longer than a run."""
    settings = _transfer(profile)
    data = load_dataset(settings["dataset"], **settings["dataset_options"])
    if not isinstance(data.images, PatchImages):
        raise DataError(f"{data.name} is not a dataset of patches from slides; name one, such as monuseg")
    cached = cache_patches(data.images, f"{settings['cache']}/patches")
    shards = [str(shard.filename) for shard in cached.shards]
    table, places = data.table.to_dict("list"), cached.places.tolist()
    return _said(digest=data.digest, table=table, shards=shards, places=places)


def train(profile: str, network: str, row: str, targets: str, seeds: str, there: str) -> bytes:
    """Train runs that a profile plans; finished ones are left alone. A loss that is not finite is said, not raised."""
    decoded = json.loads((ROOT / there).read_text(encoding="utf-8"))
    images = CachedPatches(decoded["shards"], np.array(decoded["places"]))
    settings = _transfer(profile)
    answers = read_results(ROOT / "results" / profile / "04_layerwise_r2").table("answers")
    plans = plan_transfer(
        settings["networks"],
        chosen_taps(answers, weights=settings["chosen_for"]),
        schedule=settings["schedule"],
    )
    mine = [
        replace(plan, targets=tuple(targets.split("+")), rows={row: tuple(map(int, seeds.split("+")))})
        for plan in plans
        if slug(plan.network.label) == network
    ]
    failed = run_plans(
        mine, pd.DataFrame(decoded["table"]), images, f"{settings['cache']}/transfer/{profile}",
        data_digest=decoded["digest"],
    )  # fmt: skip
    return _said(runs=planned_runs(mine), failed=failed)


def _transfer(profile: str) -> dict[str, Any]:
    name = "05_histopathology_transfer"
    given = load_profile(ROOT / "profiles" / f"{profile}.yaml").notebooks[name]
    return check_parameters(ROOT / "notebooks" / f"{name}.ipynb", given)


def _said(**what: Any) -> bytes:
    return (json.dumps(what, indent=1) + "\n").encode()


def main(job: str, *arguments: str) -> None:
    """Do one job, in the folder where notebooks run, so that a profile's paths mean the same."""
    os.chdir(ROOT / "notebooks")
    jobs: dict[str, Callable[..., bytes]] = {"read": read, "patches": patches, "train": train}
    write_atomic(ROOT / arguments[-1], jobs[job](*arguments[:-1]))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except ScalelibError as error:
        sys.exit(str(error))
