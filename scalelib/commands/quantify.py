"""Measure how well each layer of a network reads a measure of your own images.

examples:
  scalelib quantify --network my.keras --list-taps
  scalelib quantify --network my.keras --images photos --measures sizes.csv \\
      --image-column file --measure-column size --out results/my

writes, in the folder given with --out:
  layerwise_r2.csv  one row per tap, condition and repeat (R² on held-out images, R² on training images)
  summary.csv       per tap and condition: mean, standard deviation, 95 % interval
  columns.csv       what the columns of these tables mean
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
import shlex
from importlib import resources
from itertools import count
from pathlib import Path
from typing import Any, cast

from scalelib.cli import add_network_arguments, fed_with, load, network_arguments, positive
from scalelib.errors import DataError, ResultsError, require

CURVES = {"true": "measures", "shuffled": "shuffled measures"}
FEW = 30  # images, under which intervals say little
WIDEST = 2.0  # an interval of R² that decides anything is narrower


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments."""
    parser.description = __doc__
    add_network_arguments(parser, required=True)
    parser.add_argument("--list-taps", action="store_true", help="show what can be read, and stop")
    add = parser.add_argument_group("images and measures").add_argument
    add("--images", metavar="FOLDER", help="folder of images, with subfolders")
    add("--measures", metavar="CSV", help="one row per image, with a header")
    add("--image-column", default="image", metavar="NAME", help="column of image names (default: image)")
    add("--measure-column", metavar="NAME", help="column of numbers to be read")
    add("--groups", metavar="NAME", help="column (patient, slide …) never split between sides")
    add = parser.add_argument_group("how").add_argument
    add("--taps", nargs="+", metavar="TAP", help="taps or layers (default: one per block)")
    add("--pooling", choices=["avg", "max"], default="avg", help="over positions (default: avg)")
    estimators = ["ridge", "ols", "ridge_unscaled", "pcr"]
    add("--estimator", choices=estimators, default="ridge", help="default: ridge")
    add("--repeats", type=positive, default=10, help="random splits (default: 10)")
    add("--test-size", type=float, default=0.3, metavar="SHARE", help="held out in a split (default: 0.3)")
    add("--random-state", type=int, default=0, metavar="SEED", help="seed of splits (default: 0)")
    add("--resize", choices=["stretch", "crop", "pad"], default="stretch", help="default: stretch")
    add("--batch-size", type=positive, help="images per forward pass (default: 32; on a GPU 256)")
    add("--workers", type=positive, help="threads that prepare images (default: one a core, at most 16)")
    add("--no-cache", action="store_true", help="keep no activations beside the results")
    parser.add_argument("--out", default="results/my", metavar="FOLDER", help="default: results/my")
    parser.add_argument("--overwrite", action="store_true", help="replace results that are there")


def run(options: argparse.Namespace) -> int:
    """Read, regress, write, show."""
    chosen, out, given = network_arguments(options), Path(options.out), vars(options)
    if options.list_taps:
        net = load(chosen, taps=options.taps, data_root=options.data_root)
        from scalelib.networks import describe

        print(describe(net).to_string(index=False))
        return 0
    _check(options, out)
    from scalelib.datasets.own import read_measures, read_rows
    from scalelib.results import Run

    columns = (options.image_column, options.measure_column, options.groups)
    table = (Path(options.images), Path(options.measures), *columns)
    read_rows(*table)  # before Keras starts; images are looked at when the network is known to be there
    names = "images measures image_column measure_column groups taps pooling estimator repeats test_size"
    settings = {name: given[name] for name in [*names.split(), "random_state", "resize"]}
    record = Run("quantify", "own data", chosen | settings, out)
    net = load(chosen, taps=options.taps, data_root=options.data_root)
    from scalelib.activations import extract

    size = "any size" if net.input_size is None else "×".join(map(str, net.input_size)) + " px"
    taps = f"{len(net.taps)} tap{'s' * (len(net.taps) != 1)}"
    reach = f" (they end at {net.weights_end}: later taps are not run)" if net.weights_end else ""
    print(f"Network: {net.name}, weights: {net.weights}{reach}, {taps}, {size}")
    print(f"Fed with: {fed_with(net)}", flush=True)
    dataset, left_out = read_measures(*table)
    lines = [f"\n  {count:5d} × {reason}" for reason, count in dataset.excluded.items()]
    lines += [f"\n  under {FEW}: intervals are wide and rough"] if len(dataset.table) < FEW else []
    print(f"Images: {len(dataset.table)} used{'; left out:' if left_out.size else ''}{''.join(lines)}")
    how: dict[str, Any] = {name: given[name] for name in ("batch_size", "workers", "resize", "pooling")}
    acts = extract(net, dataset.images, cache=None if options.no_cache else out / "cache", **how)
    tables = _regress(acts, dataset.table, options)
    record.write(tables | {"excluded": left_out}, datasets=[dataset], networks=[net])
    _draw(tables["summary"], net.name, options.measure_column, out / "layerwise_r2.png")
    print(f"\nWritten to {out}: {', '.join(f'{name}.csv' for name in [*tables, 'excluded'])}, ", end="")
    print("layerwise_r2.png, card.json")
    if _print_result(tables, options.estimator):
        free = next(name for n in count() if not Path(name := f"small{n or ''}.keras").exists())
        root = ["--data-root", options.data_root] if options.data_root else []
        print("Next:", shlex.join(["scalelib", "prune", "--from", str(out), *root, "--out", free]))
    return 0


def _check(options: argparse.Namespace, out: Path) -> None:
    """Refuse before anything is computed, and before Keras starts."""
    missing = [f"--{name}" for name in ("images", "measures", "measure-column")
               if getattr(options, name.replace("-", "_")) is None]  # fmt: skip
    advice = "'scalelib quantify --help' has an example"
    require(not missing, "quantify", "say what to measure", f"no {', no '.join(missing)}", advice)
    rule, received = "the share held out lies between 0 and 1", f"--test-size {options.test_size}"
    require(0 < options.test_size < 1, "quantify", rule, received)
    place = next(path for path in (out.absolute(), *out.absolute().parents) if path.exists())
    free, advice = place.is_dir() and os.access(place, os.W_OK), "Choose another one with --out"
    require(free, "quantify", "cannot write to the results folder", out, advice, error=ResultsError)
    free, advice = options.overwrite or not (out / "card.json").exists(), f"{advice}, or add --overwrite"
    require(free, "quantify", f"{out} holds results", f"--out {out}", advice, error=ResultsError)


def _regress(acts: dict[str, Any], table: Any, options: argparse.Namespace) -> dict[str, Any]:
    import pandas as pd

    from scalelib.pruning import choose_and_report
    from scalelib.regression import layerwise_r2
    from scalelib.statistics import summarize

    how = {name: getattr(options, name) for name in ("estimator", "repeats", "test_size", "random_state")}
    how["groups"] = table.get("group")
    rows = layerwise_r2(acts, table.measure, **how)
    summary = summarize(rows).drop(columns=["exp_r2_over_e", "paper_label"])
    with resources.files("scalelib").joinpath("assets", "columns.csv").open(encoding="utf-8") as file:
        tables = {"layerwise_r2": rows, "summary": summary, "columns": pd.read_csv(file)}
    try:
        tables["choice"] = choose_and_report(acts, table.measure, **how)
    except DataError as error:
        reason = str(error).splitlines()[0]
        print(f"Too few images to choose a tap on one half and report it on the other: {reason}")
    return tables


def _draw(summary: Any, network: str, measure: str, path: Path) -> None:
    import matplotlib.pyplot as plt

    from scalelib.plotting import r2_by_tap, use_style
    from scalelib.results import write_atomic

    use_style()
    figure = r2_by_tap(summary.assign(network=network, curve=summary.condition.map(CURVES)))
    figure.axes[0].set_ylabel(f"held-out R² of {measure}")
    write_atomic(path, lambda stream: figure.savefig(cast(Any, stream), format="png"))
    plt.close(figure)


def _print_result(tables: dict[str, Any], estimator: str) -> bool:
    """Show what was found; whether there is a tap to prune at."""
    from scalelib.pruning import best_layer

    summary = tables["summary"].set_index(["condition", "tap"])
    channels = tables["layerwise_r2"].groupby("tap").channels.first()
    wide = max(map(len, channels.index))
    print(f"\n{'tap':{wide}} {'channels':>8} {'held-out R²':>12}  {'95 % interval':^17} {'shuffled':>9}")
    for tap, row in summary.loc["true"].iterrows():
        interval = f"{row['low']:7.2f} … {min(row['high'], 1):5.2f}" if row["units"] > 1 else "one repeat"
        interval = "undecided" if row["high"] - row["low"] > WIDEST else interval
        shuffled = summary.loc[("shuffled", tap), "mean"]
        print(f"{tap:{wide}} {channels[tap]:8d} {row['mean']:12.2f}  {interval:^17} {shuffled:9.2f}")
    best = best_layer(tables["layerwise_r2"], estimator=estimator)
    read = summary.loc[("true", best)]
    if read["mean"] <= 0:
        print("\nNo tap reads the measure better than its mean would: there is nothing to prune for.")
        return False
    print(f"\nBest tap to prune at: {best}")
    if read["low"] <= 0 or read["high"] - read["low"] > WIDEST:
        print("  but its interval reaches 0: on these images no tap surely reads the measure at all")
    if "choice" in tables:
        for row in tables["choice"].itertuples():
            print(f"  chosen on half {row.half}: {row.tap}; R² on the other half {row.r2_report:.2f}")
    return True
