"""The ``scalelib`` command: finds the module of the command that was asked for, and runs it.

Imports that one module and nothing heavy, so that help is there at once. A command is a module in
:mod:`scalelib.commands` with ``add_arguments(parser)`` and ``run(options) -> int``.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from importlib import metadata

from scalelib.errors import ScalelibError

COMMANDS = {
    "fetch": "download data sets and weights, checked and resumed",
    "doctor": "show what is installed, which data and weights are here, and how to get the rest",
    "quantify": "measure how well each layer of a network reads a measure of your own images",
    "prune": "cut a network at a layer and give it a new head",
    "magnification": "estimate the magnification of slides and figures that do not state it",
    "ledger": "show which of the paper's claims and numbers are reproduced, and by which results",
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
    for name, summary in COMMANDS.items():
        command = commands.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if name == wanted:
            module = importlib.import_module(f"scalelib.commands.{name}")
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    return parser


if __name__ == "__main__":
    sys.exit(main())
