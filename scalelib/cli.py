"""The arguments that name a network on the command line, shared by the commands that read one. The ``scalelib`` command: finds the module of the command that was asked for, and runs it."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from scalelib.errors import ScalelibError

# What each mode means to Keras is what one of its networks uses.
PREPROCESSING = {"none": "raw", "tf": "MobileNetV2", "caffe": "ResNet50", "torch": "DenseNet121"}


def add_network_arguments(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """Describe ``--network`` and what belongs to it."""
    group = parser.add_argument_group("network")
    group.add_argument(
        "--network",
        required=required,
        metavar="NAME|FILE",
        help="a network in keras.applications, SqueezeNet, control, or your own .keras file",
    )
    group.add_argument(
        "--weights",
        metavar="WEIGHTS",
        help="imagenet, random, or a weight file (default: imagenet by name; a file's own weights)",
    )
    group.add_argument("--weights-seed", type=int, metavar="SEED", help="seed of random weights (default: 0)")
    group.add_argument("--alpha", type=float, help="width multiplier of the MobileNets (default: 1)")
    group.add_argument(
        "--no-top",
        action="store_true",
        default=None,
        help="a network by name without its classification layers",
    )
    group.add_argument(
        "--input-size",
        type=int,
        metavar="PX",
        help="side that images are resized to (default: the network's)",
    )
    group.add_argument(
        "--preprocess",
        choices=[*PREPROCESSING, "0-1"],
        help="what the network is fed: none: RGB 0 to 255; 0-1: RGB 0 to 1; tf: -1 to 1; caffe, torch: as "
        "in Keras (default: its own for a network by name; none for a .keras file)",
    )
    group.add_argument("--data-root", metavar="FOLDER", help="where data sets and weights/ lie")


def network_arguments(options: argparse.Namespace) -> dict[str, Any]:
    """What was chosen, as plain values for a card; what was left at its default is left out."""
    names = ("network", "weights", "weights_seed", "alpha", "no_top", "input_size", "preprocess")
    return {name: getattr(options, name) for name in names if getattr(options, name) is not None}


def load(chosen: dict[str, Any], *, taps: list[str] | None = None, data_root: str | None = None) -> Any:
    """The network that :func:`network_arguments` describes.

    Parameters
    ----------
    chosen : dict
        From the command line or from a card.
    taps : list of str, optional
        Taps to read; default: the network's.
    data_root : str, optional
        The data root.

    Returns
    -------
    Network
    """
    from scalelib.networks import load_network

    rest = {key: value for key, value in chosen.items() if key not in ("network", "preprocess", "no_top")}
    if chosen.get("no_top"):
        rest["include_top"] = False
    wanted = chosen.get("preprocess")
    if wanted is not None:
        rest["preprocess"] = scale_to_one if wanted == "0-1" else PREPROCESSING[wanted]
    if "weights" in rest:
        rest["weights"] = as_path(rest["weights"])
    return load_network(as_path(chosen["network"]), taps=taps, data_root=data_root, **rest)


def as_path(name: str) -> str:
    """A model or weight file of the working folder by its full path; a name to be looked up as it is.

    Examples
    --------
    >>> as_path("ResNet50")
    'ResNet50'
    """
    ending = Path(name).suffix
    is_own_file = ending == ".keras" or (ending in (".h5", ".net") and Path(name).is_file())
    return str(Path(name).absolute()) if is_own_file else name


def positive(text: str) -> int:
    """An argument that counts something.

    Examples
    --------
    >>> positive("3")
    3
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number of at least 1 is wanted, not {text!r}")
    return int(text)


def fed_with(net: Any) -> str:
    """What reaches the network's input, in words."""
    how = "as they are" if net.preprocess_name == "raw" else f"after {net.preprocess_name}"
    return f"RGB images, 0 to 255, {how}"


def scale_to_one(images: np.ndarray) -> np.ndarray:
    """RGB 0 to 255 as 0 to 1.

    Examples
    --------
    >>> scale_to_one(np.array([0.0, 51.0])).tolist()
    [0.0, 0.20000000298023224]
    """
    return np.asarray(images, np.float32) / np.float32(255)


# Where a command lives, and what it does. The ledger needs the checkout, where the paper's tables and the results are.
COMMANDS = {
    "fetch": ("scalelib.commands.fetch", "download data sets and weights, checked and resumed"),
    "doctor": (
        "scalelib.commands.doctor",
        "show what is installed, which data and weights are here, and how to get the rest",
    ),
    "quantify": (
        "scalelib.commands.quantify",
        "measure how well each layer of a network reads a measure of your own images",
    ),
    "prune": ("scalelib.commands.prune", "cut a network at a layer and give it a new head"),
    "magnification": (
        "scalelib.slides.command",
        "estimate the magnification of slides and figures that do not state it",
    ),
    "ledger": (
        "scalebook.ledger_command",
        "show which of the paper's claims and numbers are reproduced, and by which results",
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Parameters
    ----------
    arguments : sequence of str, optional
        What stands behind ``scalelib`` on the command line. Default: ``sys.argv[1:]``.

    Returns
    -------
    int
        Exit status: 0 done; 1 done, with something missing or broken; 2 refused, with a message;
        130 stopped.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser(given).parse_args(given)
    try:
        return options.run(options)
    except ScalelibError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nscalelib: stopped.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader, such as head, has gone; keep Python from writing to it at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


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
        command = commands.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if name == wanted:
            module = importlib.import_module(place)
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    return parser


if __name__ == "__main__":
    sys.exit(main())
