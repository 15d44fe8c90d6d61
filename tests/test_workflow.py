"""What Snakemake plans: which jobs a profile has, what they need, and what makes one run again. Nothing is executed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from scalebook.profiles import check_parameters, load_profile

ROOT = Path(__file__).parent.parent
NOTEBOOKS = ROOT / "notebooks"


def plan(
    *options: str, folder: Path = ROOT, python: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *python, "-m", "snakemake", "--dry-run", "--nolock", *options, "--", "book"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done


def jobs(done: subprocess.CompletedProcess[str]) -> Counter[str]:
    """How many jobs of each rule are planned."""
    return Counter(re.findall(r"^(?:local)?rule (\w+):", done.stdout + done.stderr, re.MULTILINE))


@pytest.mark.parametrize("name", ["control", "compact", "paper"])
def test_a_job_for_each_run_and_each_network_that_is_read_and_each_says_what_it_needs(name: str) -> None:
    given = load_profile(ROOT / "profiles" / f"{name}.yaml").notebooks
    full = {key: check_parameters(NOTEBOOKS / f"{key}.ipynb", own) for key, own in given.items()}
    transfer = full["05_histopathology_transfer"]["networks"]
    given = [(spec.get("transfer_seeds", 10), len(spec.get("targets", ["area"]))) for spec in transfer]
    runs = sum((3 * n if isinstance(n, int) else sum(n.values())) * targets for n, targets in given)
    sharing = [full[key] for key in ("04_layerwise_r2", "06_early_features", "07_interpolation_peak")]
    specs = [
        spec for own in sharing if own["cache"] for spec in [*own["networks"], *own.get("prediction", [])]
    ]
    read = {
        (s["name"], s.get("alpha"), s.get("weights"), seed) for s in specs for seed in s.get("seeds", [0])
    }
    own = 0 if name == "control" else 12  # the control experiment stands in every book
    found = plan("--forceall", "--config", f"profile={name}", "group_runs=")
    count = jobs(found)
    assert (count["transfer_run"], count["activations"]) == (runs + own, len(read))
    notebooks = sum(count[rule] for rule in ("notebook", "resizing", "layers", "transfer"))
    assert notebooks == len(full) + (7 if own else 0)
    needs = re.findall(r"resources: (.*)", found.stdout + found.stderr)
    assert len(needs) == sum(count.values())
    assert all({"mem_mb", "runtime", "gpu"} <= set(re.findall(r"(\w+)=", line)) for line in needs)
    assert any("gpu=1" in line for line in needs) == (name == "paper")


def test_short_runs_share_a_job_at_home() -> None:
    assert jobs(plan("--forceall"))["transfer_run"] == 3


def test_planning_imports_no_keras() -> None:
    imported = plan("--forceall", python=("-X", "importtime")).stderr
    assert re.search(r"\| +studies\.plan$", imported, re.MULTILINE)
    assert not re.search(r"\| +(keras|tensorflow)$", imported, re.MULTILINE)


def test_a_changed_comma_executes_notebooks_and_trains_nothing(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Snakefile", tmp_path)
    for house in ("notebooks", "profiles", "scalebook", "scalelib", "workflow", "book/_static"):
        shutil.copytree(ROOT / house, tmp_path / house, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "book" / "example.py", tmp_path / "book")
    then, now = time.time() - 60, time.time()
    for path in tmp_path.rglob("*"):
        os.utime(path, (then - 60, then - 60))
    made = re.findall(r"^    output: (.*)", plan(folder=tmp_path).stdout, re.MULTILINE)
    for path in [tmp_path / name for names in made for name in names.split(", ")]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.utime(path, (then, then))
    assert not jobs(plan(folder=tmp_path))
    os.utime(tmp_path / "notebooks" / "studies" / "s07_peak.py", (now, now))
    assert jobs(plan(folder=tmp_path)) == {
        "book": 1,
        "figures": 1,
        "patches": 1,
        "notebook": 4,
        "resizing": 1,
        "layers": 1,
        "transfer": 1,
    }
