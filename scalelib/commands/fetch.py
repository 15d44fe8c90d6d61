"""Bring data sets and weights to their places, with their size and licence stated, and checked.

examples:
  scalelib fetch --profile paper                 all that the paper profile needs
  scalelib fetch voc2007-test squeezenet         two sources by name
  scalelib fetch --weights InceptionV3 ResNet50  Keras's ImageNet weights, into KERAS_HOME
  scalelib fetch --list                          every source, with size and licence

Data go to --data-root, else SCALELIB_DATA, else the user's cache folder. A download that breaks starts
again when the command is given again; what has arrived stays.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scalelib.datasets.sources import SOURCES, Source, find_source, keras_home
from scalelib.errors import NetworkError, ScalelibError, WeightsError, did_you_mean, refusing, require
from scalelib.results import read_yaml

PROFILES = Path(__file__).parents[2] / "profiles"  # in a checkout
LARGE_MB = 100


@dataclass(frozen=True)
class Weights(Source):
    """ImageNet weights of a network, which Keras itself brings."""

    network: str = ""
    options: dict[str, Any] = field(default_factory=dict)

    def is_present(self, root: str | os.PathLike[str] | None = None) -> bool:
        """Whether they are where :func:`scalelib.networks.load_network` looks."""
        from scalelib.networks import find_imagenet_file

        try:
            return find_imagenet_file(self.network, root, **self.options).is_file()
        except WeightsError:  # missing, damaged, or never published
            return False

    def bring(self, root: str | os.PathLike[str] | None = None) -> Path:
        """Build the network once, so that Keras downloads, checks and loads its file."""
        from scalelib.graph import keras

        models = keras_home() / "models"
        rule = f"Keras does not bring the weights of {self.network}"
        advice = f"Try again later; delete a damaged file in {models}"
        with refusing("fetch", rule, models, advice, error=WeightsError):
            getattr(keras.applications, self.network)(weights="imagenet", **self.options)
        return models


def weights_source(name: str, *, file: str = "", **options: Any) -> Source:
    """Where a network's ImageNet weights come from: Keras, SqueezeNet's authors, or a `file` that is handed over."""
    from scalelib.networks import application_names

    if file:
        return Source(file, f"weights of {name}, handed over", "its owner's", f"weights/{file}", "its owner")
    if name.lower() == "squeezenet":
        return find_source("squeezenet")
    known = [*application_names(), "SqueezeNet"]
    advice = did_you_mean(name, known) or f"Networks are {', '.join(known)}"
    require(name in known, "fetch", f"no network {name!r}", repr(name), advice, error=NetworkError)
    flags = f" --alpha {options['alpha']}" if "alpha" in options else ""
    flags += "" if options.get("include_top", True) else " --no-top"
    page, licence = "https://keras.io/api/applications/", "Apache 2.0, as keras.applications distributes them"
    what = (f"--weights {name}{flags}", f"ImageNet weights of {name}", licence, "models", page)
    return Weights(*what, url=page, store="keras", network=name, options=options)


def needs_of_profile(profile: str) -> list[Source]:
    """Everything that the ``needs:`` of a profile name, so that its run needs no network."""
    known = {path.stem: path for path in sorted(PROFILES.glob("*.yaml"))}
    path = known.get(profile, Path(profile))
    advice = f"{did_you_mean(profile, known)} Give a YAML file, or one of {', '.join(known)}".strip()
    require(path.is_file(), "fetch", f"no profile {profile!r}", repr(profile), advice)
    rule = f"{path} has no 'needs: {{datasets: […], weights: […]}}'"
    with refusing("fetch", rule, path.name, "See profiles/ in the checkout"):
        needs = read_yaml(path)["needs"]
        weights = [weights_source(**entry) for entry in needs.pop("weights")]
        found = [find_source(name) for name in needs.pop("datasets")] + weights
    advice = "Known: datasets, weights"
    require(not needs, "fetch", f"{path} needs what is not known", ", ".join(needs), advice)
    return [*found, find_source("imagenet-classes")] if weights else found


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments."""
    parser.description = __doc__
    parser.add_argument("names", nargs="*", metavar="SOURCE", help=", ".join(SOURCES))
    parser.add_argument("--weights", nargs="+", metavar="NETWORK", default=[], help="networks of Keras")
    parser.add_argument("--alpha", type=float, help="width multiplier of the MobileNets in --weights")
    parser.add_argument("--no-top", action="store_true", help="--weights without the classification layers")
    parser.add_argument("--profile", help="a name in profiles/, or a YAML file")
    parser.add_argument("--data-root", metavar="FOLDER", help="where data sets and weights/ lie")
    parser.add_argument("--yes", action="store_true", help=f"do not ask before more than {LARGE_MB} MB")
    parser.add_argument("--list", action="store_true", help="show all sources and stop")


def run(options: argparse.Namespace) -> int:
    """Fetch what is wanted and is not there yet."""
    root = options.data_root
    chosen: dict[str, Any] = {"alpha": options.alpha} if options.alpha else {}
    chosen |= {"include_top": False} if options.no_top else {}
    wanted = [find_source(name) for name in (SOURCES if options.list else options.names)]
    wanted += [weights_source(name, **chosen) for name in options.weights]
    wanted += needs_of_profile(options.profile) if options.profile else []
    advice = "'scalelib fetch --list' shows all sources; 'scalelib doctor' shows what is missing"
    require(wanted, "fetch", "say what to fetch", "no source, no --weights, no --profile", advice)
    wanted = list({source.name: source for source in wanted}.values())
    missing = [source for source in wanted if not source.is_present(root)]
    for source in wanted:
        state = (
            "here" if source not in missing else "to fetch" if source.url else f"by hand, from {source.page}"
        )
        size = f"{source.megabytes:,} MB" if source.megabytes else "size not published"
        print(
            f"{source.name}: {source.title}\n    {state}: {source.home(root) / source.target / source.marker}"
        )
        print(f"    {size} · {source.licence}")
    if options.list:
        return 0
    _confirm([source for source in missing if source.url], yes=options.yes)
    status = 0
    for source in missing:
        try:
            print(f"{source.name}: now in {source.bring(root)}", flush=True)
        except ScalelibError as error:  # one failure does not keep the others away
            print(f"\n{error}", file=sys.stderr)
            status = max(status, 2 if source.url else 1)
    print("" if missing else "Everything is here.")
    return status


def _confirm(sources: list[Source], *, yes: bool) -> None:
    unknown = ", ".join(source.name for source in sources if source.megabytes is None)
    total = sum(source.megabytes or 0 for source in sources)
    if yes or (total <= LARGE_MB and not unknown):
        return
    more = f", and {unknown} of unknown size," if unknown else ""
    question = f"About {total:,} MB{more} are to be downloaded"
    rule = f"more than {LARGE_MB} MB, or a download of unknown size, wants a yes"
    advice = "Nothing was downloaded. Add --yes if that is what you want"
    require(sys.stdin.isatty(), "fetch", rule, f"{question}; nobody is at the terminal to ask", advice)
    answer = input(f"\n{question}, under the terms stated above. Go on? [y/N] ").strip().lower()
    require(answer in ("y", "yes"), "fetch", "not downloaded", "no yes", "Nothing was changed")
