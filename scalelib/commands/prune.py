"""Cut a network at one tap, give it a new head, and save it as an ordinary .keras file.

examples:
  scalelib prune --from results/my --out small.keras               at the best tap of a run of quantify
  scalelib prune --network ResNet50 --at add15 --out small.keras   at a tap that you name

The new head is one linear layer with fresh weights: train it, and the rest, on your own task. Images are
to be preprocessed as for the network that was pruned; the command says how.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from scalelib.cli import add_network_arguments, fed_with, load, network_arguments, positive
from scalelib.errors import ResultsError, WeightsError, refusing, require


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments."""
    parser.description = __doc__
    add_network_arguments(parser, required=False)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--at", metavar="TAP", help="the tap that becomes the last one")
    where.add_argument("--from", dest="results", metavar="FOLDER", help="a results folder of quantify")
    parser.add_argument("--outputs", type=positive, default=1, help="width of the new head (default: 1)")
    parser.add_argument("--random-state", type=int, default=0, metavar="SEED", help="seed of the head")
    parser.add_argument("--out", required=True, metavar="FILE", help="where the .keras file goes")
    parser.add_argument("--overwrite", action="store_true", help="replace the file if it exists")


def run(options: argparse.Namespace) -> int:
    """Load, cut, save."""
    out = Path(options.out)
    require(out.suffix == ".keras", "prune", "the model is saved as a .keras file", f"--out {out}")
    free, advice = options.overwrite or not out.exists(), "Choose another name, or add --overwrite"
    require(free, "prune", f"{out} exists", f"--out {out}", advice)
    chosen, tap, taps, digest = network_arguments(options), options.at, [options.at], None
    if options.results:
        recorded, tap, digest = _from_results(Path(options.results))
        taps = recorded.pop("taps", None)
        chosen = recorded | chosen
    advice = "Add --network NAME or --network my.keras"
    require("network" in chosen, "prune", "say which network", "--at without --network", advice)
    net = load(chosen, taps=taps, data_root=options.data_root)
    rule = f"{chosen['network']} has other weights than when {options.results} was made"
    received = f"sha256 {net.weights_digest[:16]}; the card says {str(digest)[:16]}"
    advice = "Run quantify again, or name the tap yourself with --at"
    require(digest in (None, net.weights_digest), "prune", rule, received, advice, error=WeightsError)

    from scalelib.pruning import prune

    model = prune(net, at=tap, outputs=options.outputs, random_state=options.random_state)
    advice = "Free some space or choose another place with --out; what stood there is unchanged"
    with refusing("prune", "cannot write the model", out, advice, error=ResultsError, causes=OSError):
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.stem}.") as folder:
            model.save(Path(folder) / out.name)
            (Path(folder) / out.name).replace(out)
    before, after = net.model.count_params(), model.count_params()
    print(f"Pruned {net.name} at {tap}: {before:,} → {after:,} parameters, output {model.output_shape}.")
    print(f"To be fed with: {fed_with(net)}\nWritten to {out}")
    return 0


def _from_results(folder: Path) -> tuple[dict[str, Any], str, str]:
    """The network of a run of quantify, its best tap, and its weights' digest."""
    from scalelib.pruning import best_layer
    from scalelib.results import read_results

    names = ("network", "weights", "weights_seed", "alpha", "no_top", "input_size", "preprocess", "taps")
    rule = "--from wants a results folder of quantify"
    advice = "Or name the tap with --at and the network with --network"
    with refusing("prune", rule, folder, advice, error=ResultsError):
        results = read_results(folder)
        card = results.card.data
        if card["name"] != "quantify":
            raise ValueError(f"written by {card['name']}")
        given, digest = card["parameters"], str(card["networks"][0]["weights_digest"])
        tap = best_layer(results.table("layerwise_r2"), estimator=given["estimator"])
        return {name: given[name] for name in names if given.get(name)}, tap, digest
