# profile → shared activations, decoded patches, transfer runs → executed notebooks with their results → book.
# What is up to date is not done again; what was killed goes on where it was.
#   make reproduce PROFILE=compact                                                           this machine, all cores
#   snakemake --workflow-profile workflow/profiles/slurm --config profile=paper -- book      a cluster, see book/run.md
# Nothing here imports Keras: every job of a cluster reads this file again.

import hashlib
import itertools
import json
import sys
from pathlib import Path

from snakemake.logging import logger

sys.path[:0] = [str(workflow.basedir), f"{workflow.basedir}/notebooks"]
from scalebook.profiles import check_parameters, load_profile
from studies.plan import rows_and_targets, slug, take_apart
from workflow.progress import Progress

# TensorFlow is told how many threads a job has; Snakemake tells OpenMP, which regressions follow.
shell.prefix("export TF_NUM_INTRAOP_THREADS=$OMP_NUM_THREADS TF_NUM_INTEROP_THREADS=1; ")

PROFILE = config.get("profile", "control")
SHOWN = sorted({"control", PROFILE})  # the book shows the rendered control experiment of this build beside archived runs
SMALL = [name for name in SHOWN if not any(load_profile(f"profiles/{name}.yaml").needs.values())]  # no real data: minutes
LAYERS, TRANSFER, LONG = "04_layerwise_r2", "05_histopathology_transfer", "02_resizing_invariance"
LIBRARY = [str(path) for house in ("scalelib", "notebooks/studies", "scalebook") for path in Path(house).rglob("*.py")]
PAGES = [
    str(path)
    for place in ("_*.yml", "paper/*", "book/*.*", "book/api/*", "book/_static/*", "scalebook/templates/*", "book/executed/compact/*.ipynb", "results/compact/*/*")
    for path in Path().glob(place)
]


def parameters(profile):
    """By notebook, the profile's values and the notebook's own for the rest."""
    given = load_profile(f"profiles/{profile}.yaml").notebooks
    return {name: check_parameters(f"notebooks/{name}.ipynb", own) for name, own in given.items()}


def training_jobs(profile):
    """Label, row, target and seed of each job: one run, or all short ones of a row, which then share a start of Python."""
    for spec in GIVEN[profile][TRANSFER]["networks"]:
        _, options, labels, _ = take_apart(spec)
        rows, targets = rows_and_targets(options)
        for row, seeds in rows.items():
            runs = list(itertools.product(targets, map(str, seeds)))
            if config.get("group_runs", profile in SMALL):
                runs = [("+".join(targets), "+".join(map(str, seeds)))]
            yield from ((slug(labels["network"]), row, *run) for run in runs)


def readings(notebook):
    """What a notebook reads into a cache, by a name for files: a network with one weight seed, images, and the taps asked."""
    for spec in [*notebook["networks"], *notebook.get("prediction", [])]:
        name, options, labels, seeds = take_apart(spec)
        taps = options.pop("taps", [None])
        for seed in seeds if notebook.get("cache") and "full_tap" not in options else []:
            reading = {"network": [name, {**options, "weights_seed": seed}]}
            reading |= {key: notebook[key] for key in ("dataset", "dataset_options", "cache")}
            digest = hashlib.sha256(json.dumps(reading, sort_keys=True).encode()).hexdigest()
            reading["speed"] = spec.get("reading", {})  # as the key of the cache, the name leaves out workers and batches
            yield slug(labels["network"], options["weights"], seed, digest[:6]), reading, taps


GIVEN = {profile: parameters(profile) for profile in SHOWN}
READ = {}  # by profile and name, once for all notebooks, with the union of their taps
for profile, notebooks in GIVEN.items():
    for name, reading, taps in [found for notebook in notebooks.values() if "networks" in notebook for found in readings(notebook)]:
        union = READ.setdefault((profile, name), {**reading, "taps": []})["taps"]
        union += [tap for tap in taps if tap not in union]


def done_before(w):
    """What a notebook finds done."""
    given = GIVEN[w.profile][w.notebook]
    if w.notebook == TRANSFER:
        yield from (f"results/{w.profile}/{LAYERS}/{table}.csv" for table in ("answers", "curves"))
        yield from (f".cache/jobs/{w.profile}/train/{'/'.join(job)}.json" for job in training_jobs(w.profile))
    elif "networks" in given:
        yield from (f".cache/jobs/{w.profile}/read/{name}.json" for name, _, _ in readings(given))


def gpu(w):
    return int(w.profile == "paper" and w.get("notebook") not in ("01_datasets", LAYERS, "07_interpolation_peak"))


def mem_mb(w, attempt):
    return (4000 if w.profile in SMALL else 12000) * attempt


def runtime(w, attempt):
    """In minutes; a job that needs more is tried again with more."""
    return (30 if w.profile in SMALL else 240) * attempt


onstart:
    logger.addHandler(Progress(logger))


localrules: book, executed


wildcard_constraints:
    profile="|".join(SHOWN),
    notebook=f"(?!{LAYERS}|{TRANSFER}|{LONG})[0-9]{{2}}_[a-z0-9_]+",


# From nothing, since incremental builds go stale across glued pages; warnings are errors.
rule book:
    input:
        [f"book/executed/{profile}/{name}.ipynb" for profile in SHOWN for name in GIVEN[profile]],
        [f"results/{profile}/{name}/card.json" for profile in SHOWN for name in GIVEN[profile]],
        LIBRARY + PAGES,
        "book/figures/hero.svg",
    output: "_build/html/index.html"
    log: ".cache/logs/book.log"
    threads: 1
    resources: mem_mb=4000, runtime=30, gpu=0
    shell:
        "rm -rf _build && jupyter-book build . --warningiserror --nitpick --keep-going --all --quiet > {log} 2>&1"


# One figure stands for all that pages name.
rule figures:
    input:
        [f"results/{profile}/{name}/card.json" for profile in SHOWN for name in GIVEN[profile]],
        [path for path in PAGES if path.startswith("results")],
        LIBRARY,
        "workflow/draw_figures.py", "book/example.py", "book/_static/move.json",
    output: "book/figures/hero.svg"
    log: ".cache/logs/figures.log"
    threads: 1
    resources: mem_mb=4000, runtime=30, gpu=0
    shell: "python workflow/draw_figures.py > {log} 2>&1"


rule executed:
    input: [f"book/executed/{PROFILE}/{name}.ipynb" for name in GIVEN[PROFILE]]
    resources: mem_mb=100, runtime=5, gpu=0


# The cache keeps what was read: a job that is killed loses 256 images at most.
rule activations:
    output: ".cache/jobs/{profile}/read/{name}.json"
    log: ".cache/logs/{profile}/read/{name}.log"
    params: reading=lambda w: json.dumps(READ[w.profile, w.name])
    threads: 4
    resources: mem_mb=mem_mb, runtime=runtime, gpu=gpu
    shell: "python workflow/prepare.py read {params.reading:q} {output} > {log} 2>&1"


rule patches:
    input: LIBRARY
    output: ".cache/jobs/{profile}/patches.json"
    log: ".cache/logs/{profile}/patches.log"
    params: data=lambda w: [GIVEN[w.profile][TRANSFER][key] for key in ("dataset", "dataset_options")]
    threads: 1
    priority: 50
    resources: mem_mb=mem_mb, runtime=runtime, gpu=0
    shell: "python workflow/prepare.py patches {wildcards.profile} {output} > {log} 2>&1"


# A run's folder is no output, so that an unfinished one stays. Inputs are only waited for: a run checks data, weights and
# schedule itself, refuses others, and no change of a comma trains networks anew.
rule transfer_run:
    input:
        ancient(f"results/{{profile}}/{LAYERS}/answers.csv"),
        patches=ancient(".cache/jobs/{profile}/patches.json"),
    output: ".cache/jobs/{profile}/train/{label}/{row}/{targets}/{seeds}.json"
    log: ".cache/logs/{profile}/train/{label}/{row}/{targets}/{seeds}.log"
    params:
        given=lambda w: [GIVEN[w.profile][TRANSFER][key] for key in ("networks", "schedule")],
    threads: lambda w: 4 if w.profile == "paper" else 1
    priority: 50
    retries: 3
    resources: mem_mb=mem_mb, runtime=runtime, gpu=gpu
    shell:
        "python workflow/prepare.py train {wildcards.profile} {wildcards.label} {wildcards.row} "
        "{wildcards.targets} {wildcards.seeds} {input.patches} {output} > {log} 2>&1"


rule notebook:
    input:
        "notebooks/{notebook}.ipynb",
        LIBRARY,
        done_before,
    output:
        executed="book/executed/{profile}/{notebook}.ipynb",
        card="results/{profile}/{notebook}/card.json",
    log: ".cache/logs/{profile}/{notebook}.log"
    params: given=lambda w: GIVEN[w.profile][w.notebook]
    threads: lambda w: 1 if w.profile in SMALL else 4
    resources: mem_mb=mem_mb, runtime=runtime, gpu=gpu
    shell: "python workflow/run_notebook.py {wildcards.notebook} --profile {wildcards.profile} > {log} 2>&1"


use rule notebook as transfer with:
    wildcard_constraints: notebook=TRANSFER
    priority: 100


# Not last, when one core would wait for it.
use rule notebook as resizing with:
    wildcard_constraints: notebook=LONG
    priority: 20


# Its tables that another notebook reads are outputs; cards list the others.
use rule notebook as layers with:
    wildcard_constraints: notebook=LAYERS
    priority: 100
    output:
        executed="book/executed/{profile}/{notebook}.ipynb",
        card="results/{profile}/{notebook}/card.json",
        tables=expand("results/{{profile}}/{{notebook}}/{table}.csv", table=("answers", "curves")),
