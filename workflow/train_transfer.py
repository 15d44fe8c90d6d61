"""Train the runs of a profile's transfer notebook beforehand, some of them at a time.

    python workflow/train_transfer.py --profile paper --seeds 1001 1003 --networks ResNet50

Several processes, or jobs of a cluster, may each take some seeds, networks, rows or targets and share one cache. The
notebook finds what is finished and trains the rest. A run that was killed goes on with the epoch that it was in.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from scalebook.profiles import check_parameters, load_profile
from scalelib.datasets import load_dataset
from scalelib.errors import DataError, ScalelibError
from scalelib.results import read_results
from scalelib.slides.patches import PatchImages, cache_patches

sys.path.append(str(Path(__file__).parents[1] / "notebooks"))  # where studies lies
from studies.s05_runs import ROWS, chosen_taps, plan_transfer, run_plans

ROOT = Path(__file__).resolve().parent.parent
NAME = "05_histopathology_transfer"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--profile", required=True)
    parser.add_argument("--seeds", type=int, nargs="+", help="default: those that the profile names")
    parser.add_argument("--networks", nargs="+", help="labels; default: all")
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=ROWS)
    parser.add_argument("--targets", nargs="+", help="default: the profile's")
    given = parser.parse_args(arguments)
    settings = load_profile(ROOT / "profiles" / f"{given.profile}.yaml").notebooks[NAME]
    settings = check_parameters(ROOT / "notebooks" / f"{NAME}.ipynb", settings)
    answers = read_results(ROOT / "results" / given.profile / "04_layerwise_r2").table("answers")
    plans = plan_transfer(
        settings["networks"],
        chosen_taps(answers, weights=settings["chosen_for"]),
        schedule=settings["schedule"],
    )
    plans = [
        replace(
            plan,
            seeds=tuple(seed for seed in plan.seeds if seed in (given.seeds or plan.seeds)),
            targets=tuple(target for target in plan.targets if target in (given.targets or plan.targets)),
        )
        for plan in plans
        if plan.network.label in (given.networks or [plan.network.label])
    ]
    cache = (ROOT / "notebooks" / settings["cache"]).resolve()
    data = load_dataset(settings["dataset"], **settings["dataset_options"])
    if not isinstance(data.images, PatchImages):
        raise DataError(f"{data.name} is not a dataset of patches from slides; name one, such as monuseg")
    failed = run_plans(
        plans, data.table, cache_patches(data.images, cache / "patches"), cache / "transfer" / given.profile,
        rows=given.rows, data_digest=data.digest,
    )  # fmt: skip
    for name, reason in failed.items():
        print(f"{name}: {reason}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ScalelibError as error:
        sys.exit(str(error))
