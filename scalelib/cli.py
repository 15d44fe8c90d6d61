"""The ``scalelib`` command: finds the module of the command that was asked for, and runs it.

Holds the arguments that name a network, which several commands share; knows nothing of what a command does.
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys
from collections.abc import Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from scalelib.errors import ScalelibError, require, say

# Where a command lives, and what it does.
COMMANDS = {
    "fetch": ("scalelib.commands.fetch", "download data sets and weights, checked"),
    "doctor": ("scalelib.commands.doctor", "show what is installed and here, and how to get the rest"),
    "quantify": ("scalelib.commands.quantify", "say how well each layer reads a measure of your own images"),
    "prune": ("scalelib.commands.prune", "cut a network at a layer and give it a new head"),
    "magnification": ("scalelib.slides.command", "estimate the magnification of slides and figures"),
    "ledger": ("scalebook.ledger_command", "show which of the paper's claims and numbers are reproduced"),
}
# What each mode means to Keras is what one of its networks uses.
PREPROCESSING = {
    "none": "raw", "0-1": "0-1", "tf": "MobileNetV2", "caffe": "ResNet50", "torch": "DenseNet121"
}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status: 0 done; 1 something missing or broken; 2 refused; 130 stopped."""
    given = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what a terminal cannot show is no reason to fail
            stream.reconfigure(errors="replace")
    try:
        options = _parser(given).parse_args(given)
        return options.run(options)
    except KeyboardInterrupt:
        print("\nscalelib: stopped.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader, such as head, has gone; keep Python from writing to it at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ScalelibError, OSError) as error:
        # a command is what was called, not one of our functions
        operation, _, rest = str(error).partition(": ")
        say(f"{given[0]}: {rest}" if operation.isidentifier() else error, file=sys.stderr)
        return 2


def _parser(given: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scalelib",
        description="Where does a CNN linearly encode object scale? Layer-wise regression, pruning, data.",
        epilog="'scalelib COMMAND --help' explains a command, with an example.",
    )
    parser.add_argument("--version", action="version", version=f"scalelib {metadata.version('scalelib')}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    wanted = next((argument for argument in given if not argument.startswith("-")), None)
    for name, (place, summary) in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary)
        command.formatter_class = argparse.RawDescriptionHelpFormatter
        if name == wanted:
            house = find_spec(place.partition(".")[0])
            require(house, f"scalelib {name}", "needs a checkout of the repository, where the results are")
            module = importlib.import_module(place)
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    return parser


def add_network_arguments(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """Describe ``--network`` and what belongs to it."""
    add = parser.add_argument_group("network").add_argument
    known = "as in Keras, SqueezeNet, control, or a .keras file"
    add("--network", required=required, metavar="NAME|FILE", help=known)
    add("--weights", help="imagenet, random, or a weight file (default: imagenet; a file's own)")
    add("--weights-seed", type=int, metavar="SEED", help="seed of random weights (default: 0)")
    add("--alpha", type=float, help="width multiplier of the MobileNets (default: 1)")
    add("--no-top", action="store_true", default=None, help="without the classification layers; by name only")
    add("--input-size", type=int, metavar="PX", help="side that images are resized to (default: its own)")
    fed = "what it is fed: none: RGB 0 to 255; 0-1: RGB 0 to 1; tf: -1 to 1; caffe, torch: as in Keras"
    own = "(default: its own for a network by name; none for a .keras file)"
    add("--preprocess", choices=list(PREPROCESSING), help=f"{fed} {own}")
    add("--data-root", metavar="FOLDER", help="where data sets and weights/ lie")


def network_arguments(options: argparse.Namespace) -> dict[str, Any]:
    """What was chosen, as plain values for a card; what was left at its default is left out."""
    names = ("network", "weights", "weights_seed", "alpha", "no_top", "input_size", "preprocess")
    return {name: getattr(options, name) for name in names if getattr(options, name) is not None}


def load(chosen: dict[str, Any], *, taps: list[str] | None = None, data_root: str | None = None) -> Any:
    """The network that :func:`network_arguments` describes; a file that is not there is said before Keras starts."""
    how = dict(chosen)
    for name in {"network", "weights"} & set(how):
        how[name] = as_path(how[name], data_root)
    from scalelib.networks import load_network

    if how.pop("no_top", False):
        how["include_top"] = False
    if "preprocess" in how:
        how["preprocess"] = PREPROCESSING[how["preprocess"]]
    return load_network(how.pop("network"), taps=taps, data_root=data_root, **how)


def as_path(name: str, root: str | None = None) -> str:
    """A model or weight file by its full path, of the working folder first; a network's name as it is."""
    if Path(name).suffix not in (".keras", ".h5", ".net"):
        return name
    from scalelib.datasets.sources import find_weights

    return str(find_weights(Path(name).absolute() if Path(name).is_file() else name, root=root))


def positive(text: str) -> int:
    """An argument that counts something."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number of at least 1 is wanted, not {text!r}")
    return int(text)


def fed_with(net: Any) -> str:
    """What reaches the network's input, in words."""
    how = "as they are" if net.preprocess_name == "raw" else f"after {net.preprocess_name}"
    return f"RGB images, 0 to 255, {how}"
