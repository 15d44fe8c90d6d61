"""Measure how well each layer of a network reads a measure of your own images.

example:
  scalelib quantify --network my.keras --images photos --measures sizes.csv \\
      --image-column file --measure-column size --out results/my

writes, in the folder given with --out:
  layerwise_r2.csv  one row per tap, condition and repeat (R² on held-out images, R² on training images)
  summary.csv       per tap and condition: mean, standard deviation, 95 % interval
  choice.csv        tap chosen on one half of the images, its R² on the other half, and the reverse
  excluded.csv      every row of the measures that could not be used, with the reason
  layerwise_r2.png  the curve from input to output, with intervals
  card.json         what all of it was made from
  cache             the network's activations, so that a second run is quick and a killed one goes on
Condition 'shuffled' is the control: the same measures, given to the wrong images.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from scalelib.cli import add_network_arguments, fed_with, load, network_arguments, positive
from scalelib.errors import DataError, ResultsError, require

CURVES = {"true": "measures", "shuffled": "shuffled measures"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments."""
    parser.description = __doc__
    add_network_arguments(parser, required=True)
    add = parser.add_argument_group("images and measures").add_argument
    add("--images", required=True, metavar="FOLDER", help="folder of images, with subfolders")
    add("--measures", required=True, metavar="CSV", help="one row per image, with a header")
    names = "column of image paths or names (default: image)"
    add("--image-column", default="image", metavar="NAME", help=names)
    add("--measure-column", required=True, metavar="NAME", help="column of numbers to be read")
    add("--groups", metavar="NAME", help="column (patient, slide …) never split between sides")
    add = parser.add_argument_group("how").add_argument
    add("--taps", nargs="+", metavar="TAP", help="taps or layers (default: one per block)")
    add("--estimator", choices=["ridge", "ols", "pcr"], default="ridge", help="default: ridge")
    add("--repeats", type=positive, default=10, help="random 70/30 splits (default: 10)")
    add("--random-state", type=int, default=0, metavar="SEED", help="seed of splits (default: 0)")
    fitted = "how images of another shape are brought to the network's size (default: stretch)"
    add("--resize", choices=["stretch", "crop", "pad"], default="stretch", help=fitted)
    add("--batch-size", type=positive, default=32, help="images per forward pass (default: 32)")
    parser.add_argument("--out", default="results/my", metavar="FOLDER", help="default: results/my")


def run(options: argparse.Namespace) -> int:
    """Read, regress, write, show."""
    out = Path(options.out)
    _check_writable(out)
    from scalelib.activations import extract
    from scalelib.datasets.own import read_measures
    from scalelib.results import Run

    chosen, given = network_arguments(options), vars(options)
    names = "images measures image_column measure_column groups taps estimator repeats random_state resize"
    record = Run("quantify", "own data", chosen | {name: given[name] for name in names.split()}, out)
    net = load(chosen, taps=options.taps, data_root=options.data_root)
    size = "any size" if net.input_size is None else "×".join(map(str, net.input_size)) + " px"
    taps = f"{len(net.taps)} tap{'s' * (len(net.taps) != 1)}"
    reach = f" (they end at {net.weights_end}: later taps are not run)" if net.weights_end else ""
    print(f"Network: {net.name}, weights: {net.weights}{reach}, {taps}, {size}")
    print(f"Fed with: {fed_with(net)}", flush=True)
    columns = (options.image_column, options.measure_column, options.groups)
    dataset, left_out = read_measures(Path(options.images), Path(options.measures), *columns)
    lines = [f"\n  {count:5d} × {reason}" for reason, count in dataset.excluded.items()]
    print(f"Images: {len(dataset.table)} used{'; left out:' if lines else ', none left out'}{''.join(lines)}")
    how = {"batch_size": options.batch_size, "resize": options.resize}
    acts = extract(net, dataset.images, **how, cache=out / "cache")
    tables = _regress(acts, dataset.table, options)
    record.write(tables | {"excluded": left_out}, datasets=[dataset], networks=[net])
    _draw(tables["summary"], net.name, options.measure_column, out / "layerwise_r2.png")
    _print_result(tables, options.estimator)
    print(f"\nWritten to {out}: {', '.join(f'{name}.csv' for name in [*tables, 'excluded'])}, ", end="")
    print(f"layerwise_r2.png, card.json\nNext: scalelib prune --from {out} --out small.keras")
    return 0


def _check_writable(folder: Path) -> None:
    """Refuse before anything is computed that could not be kept."""
    place = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    free, advice = place.is_dir() and os.access(place, os.W_OK), "Choose another one with --out"
    require(free, "quantify", "cannot write to the results folder", folder, advice, error=ResultsError)


def _regress(acts: dict[str, Any], table: Any, options: argparse.Namespace) -> dict[str, Any]:
    from scalelib.pruning import choose_and_report
    from scalelib.regression import layerwise_r2
    from scalelib.statistics import summarize

    how = {name: getattr(options, name) for name in ("estimator", "repeats", "random_state")}
    how["groups"] = table.get("group")
    rows = layerwise_r2(acts, table.measure, **how)
    tables = {"layerwise_r2": rows, "summary": summarize(rows)}
    try:
        tables["choice"] = choose_and_report(acts, table.measure, **how)
    except DataError as error:
        reason = str(error).splitlines()[0]
        print(f"Too few images to choose a tap on one half and report it on the other: {reason}")
    return tables


def _draw(summary: Any, network: str, measure: str, path: Path) -> None:
    import matplotlib.pyplot as plt

    from scalelib.plotting import r2_by_tap, use_style

    use_style()
    figure = r2_by_tap(summary.assign(network=network, curve=summary.condition.map(CURVES)))
    figure.axes[0].set_ylabel(f"held-out R² of {measure}")
    figure.savefig(path)
    plt.close(figure)


def _print_result(tables: dict[str, Any], estimator: str) -> None:
    from scalelib.pruning import best_layer

    summary = tables["summary"].set_index(["condition", "tap"])
    channels = tables["layerwise_r2"].groupby("tap").channels.first()
    print(f"\n{'tap':24} {'channels':>8} {'held-out R²':>12}  {'95 % interval':^17} {'shuffled':>9}")
    for tap, row in summary.loc["true"].iterrows():
        interval = f"{row['low']:7.2f} … {row['high']:5.2f}" if row["units"] > 1 else "one repeat"
        shuffled = summary.loc[("shuffled", tap), "mean"]
        print(f"{tap:24} {channels[tap]:8d} {row['mean']:12.2f}  {interval:^17} {shuffled:9.2f}")
    best = best_layer(tables["layerwise_r2"], estimator=estimator)
    print(f"\nBest tap to prune at: {best}")
    if summary.loc[("true", best), "low"] <= 0:
        print("  but its interval reaches 0: on these images no tap surely reads the measure at all")
    if "choice" in tables:
        for row in tables["choice"].itertuples():
            print(f"  chosen on half {row.half}: {row.tap}; R² on the other half {row.r2_report:.2f}")
