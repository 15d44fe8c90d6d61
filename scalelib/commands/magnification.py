"""``scalelib magnification``: the magnification of slides and figures, and the estimator that it takes.

Joins the library's steps and prints what came of them; computes nothing itself.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

from scalelib.commands.magnification_fitting import features_of, fit, fitted_on, save, target
from scalelib.commands.network_arguments import add_network_arguments, as_path, network_arguments
from scalelib.errors import DataError, ResultsError, reason

EXAMPLES = """\
examples:
  once, an estimator of your own, from slides that state their power or microns per pixel:
    scalelib magnification --fit slides/ --out tissue.npz
  then, whatever nobody wrote the magnification of:
    scalelib magnification figure.png scan.svs --estimator tissue.npz
  a check on a slide that states it, at known downsamplings:
    scalelib magnification scan.svs --estimator tissue.npz --downsample 1 2 4 --out check.csv

No estimator ships with scalelib: what one has learned from tissue goes with that tissue's licence.
exit status: 0 every image has an estimate; 1 some were refused or could not be read; 2 wrong call"""

HOW_TO_FIT = """\
Make one, once, from a folder of at least six slides that state their magnification (no outlines needed):
  scalelib magnification --fit FOLDER --out tissue.npz
or from MoNuSeg in the data root (CC BY-NC-SA; 'scalelib fetch monuseg' says where it comes from):
  scalelib magnification --fit monuseg --out tissue.npz
then:
  scalelib magnification IMAGE ... --estimator tissue.npz"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments."""
    parser.epilog = EXAMPLES
    estimate = parser.add_argument_group("estimate")
    estimate.add_argument(
        "images", nargs="*", metavar="IMAGE", help="slides that OpenSlide reads, or figures: TIFF, PNG, JPEG"
    )
    estimate.add_argument("--estimator", metavar="FILE", help="an estimator that --fit wrote")
    estimate.add_argument(
        "--level", type=_level, default=0.9, help="of the intervals, between 0 and 1 (default: 0.9)"
    )
    estimate.add_argument(
        "--downsample",
        type=_factor,
        nargs="+",
        metavar="F",
        help="shrink the images by these factors first, from 1 (default: as they are)",
    )
    fit = parser.add_argument_group(
        "make an estimator",
        "from patches of 96 px, or as many as --input-size says, and features of MobileNet 0.25, or of --network",
    )
    fit.add_argument(
        "--fit",
        metavar="FOLDER|NAME",
        help="a folder of slides that state their magnification; or monuseg or bca, from the data root",
    )
    fit.add_argument("--tap", help="whose features are read (default: conv_pw_5 of MobileNet 0.25)")
    fit.add_argument(
        "--random-state", type=int, default=0, metavar="SEED", help="seed of patches and split (default: 0)"
    )
    add_network_arguments(parser, required=False)
    out = parser.add_argument_group("results")
    out.add_argument("--out", metavar="FILE", help="a .csv of the estimates; with --fit the estimator's .npz")
    out.add_argument("--overwrite", action="store_true", help="replace the file if it exists")


def _level(text: str) -> float:
    return _number(text, lambda value: 0 < value < 1, "a number between 0 and 1")


def _factor(text: str) -> float:
    return _number(text, lambda value: 1 <= value < math.inf, "a number of at least 1")


def _number(text: str, holds: Any, wanted: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not holds(value):
        raise argparse.ArgumentTypeError(f"{wanted} is wanted, not {text!r}")
    return value


def run(options: argparse.Namespace) -> int:
    """Fit, or estimate."""
    return fit(options) if options.fit is not None else _estimate(options)


def _estimate(options: argparse.Namespace) -> int:
    if not options.estimator:
        received = f"{len(options.images)} images" if len(options.images) != 1 else options.images[0]
        raise ResultsError(f"magnification: an estimator is needed, and none ships with scalelib.\n"
                           f"Received: {received}, no --estimator.\n{HOW_TO_FIT}")  # fmt: skip
    if not options.images:
        raise ResultsError("magnification: say which images to look at.\nReceived: --estimator and no IMAGE.\n"
                           f"scalelib magnification IMAGE ... --estimator {options.estimator}")  # fmt: skip
    out = target(options, ".csv") if options.out else None
    from scalelib.novelty import conformal_quantile
    from scalelib.progress import track

    estimator, net = _loaded(options)
    print(f"Estimator: fitted on {fitted_on(estimator)}; {features_of(estimator)}")
    print(
        f"  {estimator.limits[0]:g}X to {estimator.limits[1]:g}X, {100 * options.level:g} % intervals",
        flush=True,
    )
    if math.isinf(conformal_quantile(estimator.residuals, options.level)):
        print(
            f"  intervals are open: {len(estimator.residuals)} held-out estimates are too few for this level"
        )
    rows: list[dict[str, Any]] = []
    try:
        for image in track(options.images, label="images", unit="image"):
            rows += _look_at(image, estimator, net, options)
    finally:
        if out and rows:
            _save_csv(out, rows)
    failed = [row for row in rows if row["refused"] or row["unreadable"]]
    if len(rows) > 1:
        unreadable = sum(bool(row["unreadable"]) for row in rows)
        print(f"{len(rows) - len(failed)} of {len(rows)} estimated, {len(failed) - unreadable} refused, "
              f"{unreadable} not read")  # fmt: skip
    if out:
        print(f"Written to {out}")
    return 1 if failed else 0


def _loaded(options: argparse.Namespace) -> tuple[Any, Any]:
    """The estimator and its network, whose file may have moved."""
    chosen = network_arguments(options)
    if not Path(options.estimator).is_file():
        raise ResultsError(
            f"magnification: there is no estimator {options.estimator}.\nReceived: --estimator {options.estimator}.\n"
            f"{HOW_TO_FIT}"
        )
    from scalelib.magnification import load_estimator
    from scalelib.magnification_images import check_weights, load_described

    estimator = load_estimator(options.estimator)
    network = dict(estimator.network)
    if not {"name", "tap", "weights", "weights_digest"} <= set(network):
        raise ResultsError(
            f"magnification: {options.estimator} does not name its network.\nReceived: {network}.\n"
            "Fit it with --fit, or with scalelib.magnification_fit.fit_estimator."
        )
    is_own_file = Path(network["name"]).suffix in (".keras", ".h5")
    if options.tap or set(chosen) - ({"network"} if is_own_file else set()):
        given = [f"--{name.replace('_', '-')}" for name in [*chosen, *(["tap"] if options.tap else [])]]
        raise ResultsError(
            f"magnification: an estimator keeps the network that it was fitted with.\nReceived: {', '.join(given)}.\n"
            "These go with --fit; only for your own model, where its file has moved, --network FILE names it."
        )
    network["name"] = as_path(chosen.get("network", network["name"]))
    net = load_described(network, data_root=options.data_root)
    check_weights(net, estimator)
    return estimator, net


def _look_at(image: str, estimator: Any, net: Any, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Rows of the table for one image, printed as they come; a bad image stops nothing."""
    from scalelib.datasets.stated_scale import StatedScale, stated_scale
    from scalelib.magnification_images import estimate_magnification, estimate_text

    try:
        stated = stated_scale(image)
    except DataError as error:
        print(f"{image}: not read: {reason(error)}", flush=True)
        return [_row(image, None, StatedScale(None, None), None, options.level, reason(error))]
    rows = []
    for factor in options.downsample or [1.0]:
        name = image if factor == 1 else f"{image} shrunk by {factor:g}"
        found, problem = None, ""
        try:
            found = estimate_magnification(
                image, estimator, network=net, downsample=factor, level=options.level
            )
            print(f"{estimate_text(name, found)}; {_beside(stated, factor, found)}", flush=True)
        except DataError as error:
            problem = reason(error)
            print(f"{name}: not read: {problem}; {_beside(stated, factor, None)}", flush=True)
        rows.append(_row(image, factor, stated, found, options.level, problem))
    return rows


def _row(
    image: str, factor: float | None, stated: Any, found: Any, level: float, unreadable: str
) -> dict[str, Any]:
    names = ("magnification", "low", "high", "novelty", "refused")
    return {
        "image": image,
        "downsample": factor,
        **{name: getattr(found, name) if found else None for name in names},
        "patches": found.patches if found else 0,
        "level": level,
        "stated_power": stated.power,
        "stated_mpp": stated.mpp,
        "stated_magnification": _expected(stated, factor or 1.0),
        "unreadable": unreadable,
    }


def _expected(stated: Any, factor: float) -> float | None:
    return stated.magnification / factor if stated.magnification else None


def _beside(stated: Any, factor: float, found: Any) -> str:
    """What the file states, beside the estimate."""
    expected = _expected(stated, factor)
    text = f"the file states {stated}"
    if expected is None:
        return text
    if factor != 1:
        text += f", so {expected:.3g}X here"
    outside = found and not found.refused and not found.low <= expected <= found.high
    return text + (": outside the interval" if outside else "")


def _save_csv(out: Path, rows: list[dict[str, Any]]) -> None:
    import pandas as pd

    from scalelib.transfer_results import write_table

    save(out, lambda path: write_table(path, pd.DataFrame(rows)))
