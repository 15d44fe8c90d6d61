# profile → executed notebooks and results → book. What is up to date is not done again.
#   snakemake --cores 1 --config profile=compact -- book
# On a cluster: add --executor slurm (pip install snakemake-executor-plugin-slurm); each notebook is one job.

import sys
from pathlib import Path

sys.path.insert(0, str(workflow.basedir))
from scalebook.profiles import load_profile

PROFILE = config.get("profile", "control")
# The book shows the rendered control experiment of this build beside the archived runs.
SHOWN = sorted({"control", PROFILE})
NOTEBOOKS = {name: list(load_profile(f"profiles/{name}.yaml").notebooks) for name in SHOWN}
# Notebooks that read what another one wrote.
AFTER = {"05_histopathology_transfer": ["04_layerwise_r2"]}

LIBRARY = [str(path) for house in ("scalelib", "notebooks/studies", "scalebook") for path in Path(house).rglob("*.py")]


wildcard_constraints:
    profile="[a-z]+",
    notebook="[0-9]{2}_[a-z0-9_]+",


rule book:
    input:
        [f"book/executed/{profile}/{name}.ipynb" for profile in SHOWN for name in NOTEBOOKS[profile]],
    shell:
        "python workflow/build_book.py"


rule executed:
    input:
        [f"book/executed/{PROFILE}/{name}.ipynb" for name in NOTEBOOKS[PROFILE]],


rule notebook:
    input:
        notebook="notebooks/{notebook}.ipynb",
        library=LIBRARY,
        earlier=lambda w: [f"results/{w.profile}/{name}/card.json" for name in AFTER.get(w.notebook, [])],
    output:
        executed="book/executed/{profile}/{notebook}.ipynb",
        card="results/{profile}/{notebook}/card.json",
    params:
        settings=lambda w: load_profile(f"profiles/{w.profile}.yaml").notebooks[w.notebook],
    shell:
        "python workflow/run_notebook.py {wildcards.notebook} --profile {wildcards.profile}"
