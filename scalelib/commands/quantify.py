"""``scalelib quantify``: own network, own images, own measures; a table, a figure and a card.

Joins the library's steps and prints what came of them; computes nothing itself.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from pathlib import Path
from typing import Any

from scalelib.cli import add_network_arguments, fed_with, load, network_arguments, positive
from scalelib.errors import DataError, ResultsError

EXAMPLES = """\
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
Condition 'shuffled' is the control: the same measures, given to the wrong images."""
CURVES = {"true": "measures", "shuffled": "shuffled measures"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments."""
    parser.epilog = EXAMPLES
    add_network_arguments(parser, required=True)
    data = parser.add_argument_group("images and measures")
    data.add_argument("--images", required=True, metavar="FOLDER", help="folder of images, with subfolders")
    data.add_argument("--measures", required=True, metavar="CSV", help="one row per image, with a header")
    data.add_argument(
        "--image-column",
        default="image",
        metavar="NAME",
        help="column of image paths or names (default: image)",
    )
    data.add_argument("--measure-column", required=True, metavar="NAME", help="column of numbers to be read")
    data.add_argument("--groups", metavar="NAME", help="column (patient, slide …) never split between sides")
    how = parser.add_argument_group("how")
    how.add_argument("--taps", nargs="+", metavar="TAP", help="taps or layers (default: one per block)")
    how.add_argument("--estimator", choices=["ridge", "ols", "pcr"], default="ridge", help="default: ridge")
    how.add_argument("--repeats", type=positive, default=10, help="random 70/30 splits (default: 10)")
    how.add_argument(
        "--random-state", type=int, default=0, metavar="SEED", help="seed of splits (default: 0)"
    )
    how.add_argument(
        "--resize",
        choices=["stretch", "crop", "pad"],
        default="stretch",
        help="how images of another shape are brought to the network's size (default: stretch)",
    )
    how.add_argument("--batch-size", type=positive, default=32, help="images per forward pass (default: 32)")
    parser.add_argument("--out", default="results/my", metavar="FOLDER", help="default: results/my")


def run(options: argparse.Namespace) -> int:
    """Read, regress, write, show."""
    out = Path(options.out)
    _check_writable(out)
    from scalelib.datasets.own import read_measures
    from scalelib.results import Run

    chosen = network_arguments(options)
    names = ("images", "measures", "image_column", "measure_column", "groups", "taps", "estimator",
             "repeats", "random_state", "resize")  # fmt: skip
    record = Run("quantify", "own data", chosen | {name: getattr(options, name) for name in names}, out)
    net = load(chosen, taps=options.taps, data_root=options.data_root)
    size = "any size" if net.input_size is None else "×".join(map(str, net.input_size)) + " px"
    print(
        f"Network: {net.name}, weights: {net.weights}, {len(net.taps)} tap{'s' * (len(net.taps) != 1)}, {size}"
    )
    print(f"Fed with: {fed_with(net)}", flush=True)
    dataset, left_out = read_measures(
        options.images,
        options.measures,
        image_column=options.image_column,
        measure_column=options.measure_column,
        group_column=options.groups,
    )
    print(f"Images: {len(dataset.table)} used{_counts(dataset.excluded)}", flush=True)

    from scalelib.activations import extract

    acts = extract(
        net, dataset.images, batch_size=options.batch_size, resize=options.resize, cache=out / "cache"
    )
    tables = _regress(acts, dataset.table, options)
    record.write(tables | {"excluded": left_out}, datasets=[dataset], networks=[net])
    _draw(tables["summary"], net.name, options.measure_column, out / "layerwise_r2.png")
    _print_result(tables, options.estimator)
    print(f"\nWritten to {out}: {', '.join(f'{name}.csv' for name in [*tables, 'excluded'])}, "
          f"layerwise_r2.png, card.json\nNext: scalelib prune --from {out} --out small.keras")  # fmt: skip
    return 0


def _check_writable(folder: Path) -> None:
    """Refuse before anything is computed that could not be kept."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ResultsError(
            f"quantify: cannot write to the results folder.\nReceived: {folder}: {error.strerror}.\n"
            "Choose another one with --out."
        ) from error


def _counts(excluded: dict[str, int]) -> str:
    if not excluded:
        return ", none left out"
    return "; left out:" + "".join(f"\n  {count:5d} × {reason}" for reason, count in excluded.items())


def _regress(acts: dict[str, Any], table: Any, options: argparse.Namespace) -> dict[str, Any]:
    import pandas as pd

    from scalelib.errors import track
    from scalelib.pruning import choose_and_report
    from scalelib.regression import layerwise_r2
    from scalelib.statistics import summarize

    groups = table.get("group")
    how = {"estimator": options.estimator, "groups": groups, "repeats": options.repeats}
    rows = pd.concat(
        [
            layerwise_r2({tap: values}, table["measure"], random_state=options.random_state, **how)
            for tap, values in track(acts.items(), label="regression", unit="tap")
        ],
        ignore_index=True,
    )
    tables = {"layerwise_r2": rows, "summary": summarize(rows)}
    try:
        tables["choice"] = choose_and_report(acts, table["measure"], random_state=options.random_state, **how)
    except DataError as error:
        print(
            "Too few images to choose a tap on one half and report it on the other:",
            str(error).splitlines()[0],
        )
    return tables


def _draw(summary: Any, network: str, measure: str, path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    from scalelib.plotting import r2_by_tap, use_style
    from scalelib.results import write_atomic

    use_style()
    drawn = summary.assign(network=network, curve=summary.condition.map(CURVES))
    figure = r2_by_tap(drawn)
    figure.axes[0].set_ylabel(f"held-out R² of {measure}")
    content = io.BytesIO()
    figure.savefig(content, format="png")
    plt.close(figure)
    write_atomic(path, lambda stream: stream.write(content.getvalue()))


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
