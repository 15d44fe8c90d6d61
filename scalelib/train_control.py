"""Trains the two control networks from scratch: ``python -m scalelib.train_control``.

Writes their weights and the model card. A run that was stopped goes on where it was when started
again; ``--again`` repeats the trainings of a card and says whether the accuracy is the same.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scalelib import control
from scalelib.control_training import TRAINED_SCALES, Settings, train
from scalelib.datasets.scenes import CLASSES
from scalelib.errors import ResultsError, ScalelibError
from scalelib.provenance import write_atomic

__all__ = ["CARD", "TOLERANCE", "main"]

CARD = "control_card.json"
TOLERANCE = 0.01
"""How far the held-out accuracy of a repeated training may lie from that on the card."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Train from the command line.

    Parameters
    ----------
    arguments : sequence of str, optional
        What stands behind ``python -m scalelib.train_control``. Default: ``sys.argv[1:]``.

    Returns
    -------
    int
        Exit status: 0 done; 1 a repeated training gave another accuracy; 2 refused; 130 stopped.
    """
    parser = argparse.ArgumentParser(prog="python -m scalelib.train_control", description=__doc__)
    parser.add_argument("--network", choices=[*TRAINED_SCALES, "both"], default="both")
    parser.add_argument("--folder", type=Path, default=Path("control-weights"), help="where to write")
    for name, about in (("seed", "of everything"), ("images", "to train on"), ("epochs", "passes over them")):
        parser.add_argument(f"--{name}", type=int, default=getattr(Settings, name), help=about)
    parser.add_argument("--again", type=Path, metavar="CARD", help="repeat the trainings of a card, compare")
    options = parser.parse_args(arguments)
    names = list(TRAINED_SCALES) if options.network == "both" else [options.network]
    try:
        if options.again:
            same = [_again(name, options.again, options.folder) for name in names]
            return 0 if all(same) else 1
        settings = Settings(seed=options.seed, images=options.images, epochs=options.epochs)
        for name in names:
            entry = train(name, settings=settings, folder=options.folder)
            _write_card(options.folder / CARD, name, entry)
            print(f"{name}: {entry['held_out']['accuracy']:.1%} of held-out scenes named rightly")
    except ScalelibError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nStopped; the same command goes on after the last whole epoch.", file=sys.stderr)
        return 130
    return 0


def _write_card(path: Path, name: str, entry: dict[str, Any]) -> None:
    """Put a network's entry on the card, beside that of the other network."""
    card = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"networks": {}}
    model = control.build_control(classes=len(CLASSES))
    networks = card["networks"] | {name: entry}
    card = {
        "name": "control network",
        "task": "name the object of a rendered scene (scalelib.datasets.scenes), trained from scratch",
        "licence": "MIT",
        "classes": list(CLASSES),
        "input": [*control.INPUT_SIZE, 3],
        "preprocessing": "x / 127.5 - 1",
        "parameters": model.count_params(),
        "augmentation": "mirroring, permuted colour channels, inversion",
        "networks": {key: networks[key] for key in TRAINED_SCALES if key in networks},
    }
    write_atomic(path, lambda stream: stream.write((json.dumps(card, indent=1) + "\n").encode()))


def _again(name: str, path: Path, folder: Path) -> bool:
    """Train as a card says, and write the outcome on the card beside the first."""
    try:
        first = json.loads(path.read_text(encoding="utf-8"))["networks"][name]
    except (OSError, ValueError, KeyError) as error:
        raise ResultsError(
            f"train_control: {path} is no model card with an entry for {name}.\n"
            f"Received: {type(error).__name__}: {error}.\nGive the {CARD} of a finished training."
        ) from error
    second = train(name, settings=Settings(**first["settings"]), folder=folder)
    away = abs(second["held_out"]["accuracy"] - first["held_out"]["accuracy"])
    kept = ("seconds", "cpu_seconds", "threads", "date", "held_out", "sha256", "environment")
    repeats = [*first.get("repeats", []), {key: second[key] for key in kept}]
    _write_card(path, name, first | {"repeats": repeats})
    print(f"{name}: held-out accuracy {second['held_out']['accuracy']:.1%}, {away:.2%} from the card's")
    return away <= TOLERANCE


if __name__ == "__main__":
    sys.exit(main())
