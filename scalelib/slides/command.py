"""How ``scalelib magnification --fit`` makes an estimator, and the files that the command writes. ``scalelib magnification``: the magnification of slides and figures, and the estimator that it takes."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scalelib.cli import PREPROCESSING, add_network_arguments, as_path, network_arguments
from scalelib.errors import DataError, ResultsError, did_you_mean, reason

PATCHES_PER_SLIDE = 9  # per magnification, of the collections that go by name
PATCH_SIZE = 96
COLLECTIONS = ("monuseg", "bca")


def fit(options: argparse.Namespace) -> int:
    """Cut patches, read features, fit, write, and say how well it went."""
    if options.images or options.estimator or options.downsample:
        raise ResultsError(
            "magnification: --fit makes an estimator and looks at no other image.\n"
            f"Received: --fit {options.fit} with images, --estimator or --downsample.\n"
            "Fit first, with --out tissue.npz; then estimate, with --estimator tissue.npz."
        )
    if not options.out:
        raise ResultsError("magnification: say where the estimator goes.\nReceived: --fit without --out.\n"
                           "Add --out tissue.npz.")  # fmt: skip
    out = target(options, ".npz")
    size = options.input_size or PATCH_SIZE
    network = _described(options)
    from scalelib.networks import resolve_tap
    from scalelib.slides.magnification import fit_estimator, load_described

    loaded = load_described({**network, "input_size": size}, data_root=options.data_root)
    if network["tap"] is None:
        raise ResultsError(
            "magnification: say which tap of the network to read.\n"
            f"Received: --network {options.network} without --tap.\n"
            f"One in its middle is a good choice: --tap {list(loaded.taps)[len(loaded.taps) // 2]}, "
            f"of {', '.join(loaded.taps)}."
        )
    resolve_tap(loaded, network["tap"], operation="magnification")  # refused before slides are cut
    patches = _patches(options, size)
    estimator = fit_estimator(patches, network=network, loaded=loaded)
    save(out, estimator.save)
    table = patches.table[patches.table["split"] != "test"]
    powers = ", ".join(f"{power:g}X" for power in sorted(table["magnification"].unique()))
    print(f"Fitted on: {fitted_on(estimator)}, {len(table)} patches of {estimator.patch_size} px at {powers}")
    if options.fit.lower() not in COLLECTIONS:
        for text, count in patches.excluded.items():
            print(f"  left out: {text if ': ' in text else f'{count} × {text}'}")
    print(f"Features: {features_of(estimator)}")
    print(f"On the slides held out: {_accuracy(estimator, options.level)}")
    if patches.source:
        print(f"Holds features of {patches.source}: its terms go with the file.")
    print(f"Written to {out}\nNext: scalelib magnification IMAGE ... --estimator {out}")
    return 0


def _described(options: argparse.Namespace) -> dict[str, Any]:
    """The network that was chosen, in the form that an estimator keeps."""
    from scalelib.slides.magnification import DEFAULT_NETWORK

    chosen = network_arguments(options)
    default = {} if "network" in chosen else DEFAULT_NETWORK["options"]
    given: dict[str, Any] = {key: chosen[key] for key in ("alpha", "weights_seed") if key in chosen}
    if chosen.get("no_top"):
        given["include_top"] = False
    if "preprocess" in chosen:
        given["preprocess"] = PREPROCESSING.get(chosen["preprocess"], chosen["preprocess"])
    return {
        "name": as_path(chosen.get("network", DEFAULT_NETWORK["name"])),
        "tap": options.tap or (None if "network" in chosen else DEFAULT_NETWORK["tap"]),
        "weights": as_path(chosen.get("weights", DEFAULT_NETWORK["weights"])),
        "options": {**default, **given},
    }


def _patches(options: argparse.Namespace, size: int) -> Any:
    name = options.fit.lower()
    if name in COLLECTIONS:
        from scalelib.datasets import load_dataset

        return load_dataset(
            name,
            root=options.data_root,
            size=size,
            max_per_slide=PATCHES_PER_SLIDE,
            random_state=options.random_state,
        )
    if not Path(options.fit).is_dir():
        hint = did_you_mean(name, COLLECTIONS)
        raise DataError(
            f"magnification: nothing to fit on.\nReceived: --fit {options.fit}, no folder and no known collection.\n"
            f"{hint + ' ' if hint else ''}Give a folder of slides that state their magnification, "
            f"or one of {', '.join(COLLECTIONS)}."
        )
    from scalelib.slides.collections import load_tissue

    return load_tissue(options.fit, size=size, random_state=options.random_state)


def _accuracy(estimator: Any, level: float) -> str:
    from scalelib.slides.magnification import conformal_quantile

    errors = estimator.residuals
    half = 2 ** float(errors[(len(errors) - 1) // 2])
    reach = 2 ** conformal_quantile(errors, level)
    interval = "open" if math.isinf(reach) else f"the estimate divided and multiplied by {reach:.2f}"
    return (
        f"half of {len(errors)} estimates (one per slide and magnification) within a factor of {half:.2f}; "
        f"{100 * level:g} % interval: {interval}"
    )


def target(options: argparse.Namespace, suffix: str) -> Path:
    """Refuse before anything is computed that would be written where it should not."""
    out = Path(options.out)
    if out.suffix != suffix:
        raise ResultsError(
            f"magnification: {'an estimator' if suffix == '.npz' else 'the table of estimates'} is a {suffix} file."
            f"\nReceived: --out {out}."
        )
    if out.exists() and not options.overwrite:
        raise ResultsError(
            f"magnification: {out} exists.\nReceived: --out {out}.\nChoose another name, or add --overwrite."
        )
    return out


def save(out: Path, write: Callable[[Path], object]) -> None:
    """Write a file of results; what stood there stays where it cannot be done."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write(out)
    except OSError as error:
        raise ResultsError(
            f"magnification: cannot write.\nReceived: {out}: {error.strerror or error}.\n"
            "Free some space or choose another place with --out; what stood there is unchanged."
        ) from error


def fitted_on(estimator: Any) -> str:
    """The data of an estimator, in words."""
    slides = estimator.data.get("slides", {})
    if not slides:
        return "data that it does not name"
    return (
        f"{estimator.data['name']}, {slides.get('train', 0)} slides to fit and "
        f"{slides.get('validation', 0)} to calibrate"
    )


def features_of(estimator: Any) -> str:
    """The network of an estimator, in words."""
    network = estimator.network
    return f"{Path(network['name']).name}, tap {network['tap']}, weights: {network.get('weights_label', network['weights'])}"


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
    from scalelib.errors import track
    from scalelib.slides.magnification import conformal_quantile

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
    from scalelib.slides.magnification import check_weights, load_described, load_estimator

    estimator = load_estimator(options.estimator)
    network = dict(estimator.network)
    if not {"name", "tap", "weights", "weights_digest"} <= set(network):
        raise ResultsError(
            f"magnification: {options.estimator} does not name its network.\nReceived: {network}.\n"
            "Fit it with --fit, or with scalelib.slides.magnification.fit_estimator."
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
    from scalelib.slides.magnification import estimate_magnification, estimate_text
    from scalelib.slides.slide import StatedScale, stated_scale

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

    from scalelib.results import write_table

    save(out, lambda path: write_table(path, pd.DataFrame(rows)))
