"""Estimate the magnification of slides and figures, each with an interval or a refusal.

examples:
  once, an estimator of your own, from slides that state their power or microns per pixel:
    scalelib magnification --fit slides/ --out tissue.npz
  then, whatever nobody wrote the magnification of:
    scalelib magnification figure.png scan.svs --estimator tissue.npz
  a check on a slide that states it, at known downsamplings:
    scalelib magnification scan.svs --estimator tissue.npz --downsample 1 2 4 --out check.csv

No estimator ships with scalelib: what one has learned from tissue goes with that tissue's licence.
exit status: 0 every image has an estimate; 1 some were refused or could not be read; 2 wrong call
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

from scalelib.cli import PREPROCESSING, add_network_arguments, as_path, network_arguments
from scalelib.errors import DataError, ResultsError, did_you_mean, reason, require, say, track

PATCHES_PER_SLIDE = 9  # per magnification, of the collections that go by name
PATCH_SIZE = 96
COLLECTIONS = ("monuseg", "bca")
COLUMNS = "image downsample magnification low high novelty refused patches level stated_power stated_mpp"
HOW_TO_FIT = (
    "Make one, once: 'scalelib magnification --fit FOLDER --out tissue.npz' takes at least six slides that state their "
    "magnification (no outlines needed),\n'scalelib magnification --fit monuseg --out tissue.npz' takes MoNuSeg in the data "
    "root (CC BY-NC-SA; 'scalelib fetch monuseg' says where it comes from).\nThen name it with --estimator tissue.npz."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments."""
    parser.description = __doc__
    add = parser.add_argument_group("estimate").add_argument
    kinds = "slides that OpenSlide reads, or figures: TIFF, PNG, JPEG"
    add("images", nargs="*", metavar="IMAGE", help=kinds)
    add("--estimator", metavar="FILE", help="an estimator that --fit wrote")
    add("--level", type=float, default=0.9, help="of the intervals, between 0 and 1 (default: 0.9)")
    shrunk = "shrink the images by these factors first, from 1 (default: as they are)"
    add("--downsample", type=float, nargs="+", metavar="F", default=[1.0], help=shrunk)
    made_of = "patches of 96 px, or of --input-size, and features of MobileNet 0.25, or of --network"
    add = parser.add_argument_group("make an estimator", f"from {made_of}").add_argument
    source = "a folder of slides that state their magnification; or monuseg or bca, from the data root"
    add("--fit", metavar="FOLDER|NAME", help=source)
    add("--tap", help="whose features are read (default: conv_pw_5 of MobileNet 0.25)")
    add("--random-state", type=int, default=0, metavar="SEED", help="of patches and split (default: 0)")
    add_network_arguments(parser, required=False)
    add = parser.add_argument_group("results").add_argument
    add("--out", metavar="FILE", help="a .csv of the estimates; with --fit the estimator's .npz")
    add("--overwrite", action="store_true", help="replace the file if it exists")


def run(options: argparse.Namespace) -> int:
    """Fit, or estimate."""
    _refuse(0 < options.level < 1, "a level lies between 0 and 1", f"--level {options.level}")
    whole = all(1 <= factor < math.inf for factor in options.downsample)
    _refuse(whole, "images are shrunk by a factor of at least 1", f"--downsample {options.downsample}")
    return _fit(options) if options.fit is not None else _estimate(options)


def _refuse(holds: object, rule: str, received: object, advice: str = "") -> None:
    require(holds, "magnification", rule, received, advice, error=ResultsError)


def _target(options: argparse.Namespace, suffix: str, kind: str) -> Path:
    """Refuse before anything is computed that would be written where it should not."""
    out = Path(options.out)
    _refuse(out.suffix == suffix, f"{kind} is a {suffix} file", f"--out {out}")
    free = options.overwrite or not out.exists()
    _refuse(free, f"{out} exists", f"--out {out}", "Choose another name, or add --overwrite.")
    return out


def _fit(options: argparse.Namespace) -> int:
    """Cut patches, read features, fit, write, and say how well it went."""
    alone = not options.images and not options.estimator and options.downsample == [1.0]
    advice = "Fit first, with --out tissue.npz; then estimate, with --estimator tissue.npz."
    received = f"--fit {options.fit} with images, --estimator or --downsample"
    _refuse(alone, "--fit makes an estimator and looks at no other image", received, advice)
    _refuse(options.out, "say where the estimator goes", "--fit without --out", "Add --out tissue.npz.")
    out = _target(options, ".npz", "an estimator")
    network = _described(options)
    from scalelib.networks import resolve_tap
    from scalelib.slides.magnification import conformal_quantile, fit_estimator, load_described

    size = options.input_size or PATCH_SIZE
    net = load_described({**network, "input_size": size}, data_root=options.data_root)
    advice = f"One in its middle is a good choice: --tap {list(net.taps)[len(net.taps) // 2]}, of {', '.join(net.taps)}."
    received = f"--network {options.network} without --tap"
    _refuse(network["tap"], "say which tap of the network to read", received, advice)
    resolve_tap(net, network["tap"], operation="magnification")  # refused before slides are cut
    patches = _patches(options, size)
    estimator = fit_estimator(patches, network=network, loaded=net)
    estimator.save(out)
    powers = sorted(patches.table.loc[patches.table["split"] != "test", "magnification"].unique())
    cut = f"{estimator.data['patches']} patches of {size} px at {', '.join(f'{p:g}X' for p in powers)}"
    print(f"Fitted on: {_fitted_on(estimator)}, {cut}")
    if options.fit.lower() not in COLLECTIONS:
        for text, count in patches.excluded.items():
            print(f"  left out: {text if ': ' in text else f'{count} × {text}'}")
    print(f"Features: {_features_of(estimator)}")
    errors = estimator.residuals
    half, reach = errors[(len(errors) - 1) // 2], 2 ** conformal_quantile(errors, options.level)
    interval = "open" if math.isinf(reach) else f"the estimate divided and multiplied by {reach:.2f}"
    print(
        f"On the slides held out: half of {len(errors)} estimates (one per slide and magnification) within a "
        f"factor of {2**half:.2f}; {100 * options.level:g} % interval: {interval}"
    )
    if patches.source:
        print(f"Holds features of {patches.source}: its terms go with the file.")
    print(f"Written to {out}\nNext: scalelib magnification IMAGE ... --estimator {out}")
    return 0


def _described(options: argparse.Namespace) -> dict[str, Any]:
    """The network that was chosen, in the form that an estimator keeps."""
    from scalelib.slides.magnification import DEFAULT_NETWORK

    chosen = network_arguments(options)
    default: dict[str, Any] = {"options": {}} if options.network else DEFAULT_NETWORK
    given: dict[str, Any] = {key: chosen[key] for key in ("alpha", "weights_seed") if key in chosen}
    given |= {"include_top": False} if options.no_top else {}
    given |= {"preprocess": PREPROCESSING[options.preprocess]} if options.preprocess else {}
    return {
        "name": as_path(options.network or default["name"]),
        "tap": options.tap or default.get("tap"),
        "weights": as_path(options.weights or "imagenet"),
        "options": default["options"] | given,
    }


def _patches(options: argparse.Namespace, size: int) -> Any:
    name = options.fit.lower()
    how: dict[str, Any] = {"size": size, "random_state": options.random_state}
    if name in COLLECTIONS:
        from scalelib.datasets import load_dataset

        return load_dataset(name, root=options.data_root, max_per_slide=PATCHES_PER_SLIDE, **how)
    received = f"--fit {options.fit}, no folder and no known collection"
    advice = f"Give a folder of slides that state their magnification, or one of {', '.join(COLLECTIONS)}."
    advice = f"{did_you_mean(name, COLLECTIONS)} {advice}".strip()
    _refuse(Path(options.fit).is_dir(), "nothing to fit on", received, advice)
    from scalelib.slides.collections import load_tissue

    return load_tissue(options.fit, **how)


def _fitted_on(estimator: Any) -> str:
    slides = {"train": 0, "validation": 0, **estimator.data.get("slides", {})}
    name = estimator.data.get("name", "data that it does not name")
    return f"{name}, {slides['train']} slides to fit and {slides['validation']} to calibrate"


def _features_of(estimator: Any) -> str:
    network = {"weights_label": estimator.network["weights"], **estimator.network}
    return f"{Path(network['name']).name}, tap {network['tap']}, weights: {network['weights_label']}"


def _estimate(options: argparse.Namespace) -> int:
    received = f"{len(options.images)} images, no --estimator"
    _refuse(options.estimator, "an estimator is needed, and none ships with scalelib", received, HOW_TO_FIT)
    advice = "Name slides or figures before --estimator."
    _refuse(options.images, "say which images to look at", "--estimator and no IMAGE", advice)
    out = _target(options, ".csv", "the table of estimates") if options.out else None
    there = Path(options.estimator).is_file()
    received = f"--estimator {options.estimator}"
    _refuse(there, f"there is no estimator {options.estimator}", received, HOW_TO_FIT)
    import pandas as pd

    from scalelib.results import write_table
    from scalelib.slides.magnification import conformal_quantile, load_estimator

    estimator = load_estimator(options.estimator)
    net = _network_of(estimator, options)
    (low, high), level = estimator.limits, options.level
    print(f"Estimator: fitted on {_fitted_on(estimator)}; {_features_of(estimator)}")
    print(f"  {low:g}X to {high:g}X, {100 * level:g} % intervals", flush=True)
    if math.isinf(conformal_quantile(errors := estimator.residuals, level)):
        print(f"  intervals are open: {len(errors)} held-out estimates are too few for this level")
    rows: list[dict[str, Any]] = []
    try:
        for image in track(options.images, label="images", unit="image"):
            rows += _look_at(image, estimator, net, options)
    finally:
        if out and rows:
            columns = [*COLUMNS.split(), "stated_magnification", "unreadable"]
            write_table(out, pd.DataFrame(rows, columns=columns))
    refused, unreadable = (sum(bool(row.get(name)) for row in rows) for name in ("refused", "unreadable"))
    found = len(rows) - refused - unreadable
    if len(rows) > 1:
        print(f"{found} of {len(rows)} estimated, {refused} refused, {unreadable} not read")
    if out:
        print(f"Written to {out}")
    return int(found < len(rows))


def _network_of(estimator: Any, options: argparse.Namespace) -> Any:
    """The estimator's network, whose file may have moved."""
    from scalelib.slides.magnification import load_described

    network = dict(estimator.network)
    whole = {"name", "tap", "weights", "weights_digest", "input_size", "options"} <= set(network)
    _refuse(whole, f"{options.estimator} does not name its network", network, "Fit it with --fit.")
    chosen = network_arguments(options)
    chosen |= {"tap": options.tap} if options.tap else {}
    moved = {"network"} if Path(network["name"]).suffix in (".keras", ".h5") else set()
    given = ", ".join(f"--{name.replace('_', '-')}" for name in chosen)
    advice = "These go with --fit; only for a model of your own that has moved, --network FILE names it."
    kept = not set(chosen) - moved
    _refuse(kept, "an estimator keeps the network that it was fitted with", given, advice)
    network["name"] = as_path(options.network or network["name"])
    return load_described(network, data_root=options.data_root)


def _look_at(image: str, estimator: Any, net: Any, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Rows of the table for one image, printed as they come; a bad image stops nothing."""
    from scalelib.activations import extract
    from scalelib.slides.magnification import image_patches
    from scalelib.slides.slide import stated_scale

    tap = estimator.network["tap"]
    row = {"image": image, "patches": 0, "level": options.level}
    try:
        stated = stated_scale(image)
    except DataError as error:
        say(f"{image}: not read: {reason(error)}")
        return [row | {"unreadable": reason(error)}]
    rows = []
    row |= {"stated_power": stated.power, "stated_mpp": stated.mpp}
    for factor in options.downsample:
        name = image if factor == 1 else f"{image} shrunk by {factor:g}"
        expected = stated.magnification / factor if stated.magnification else None
        here = f", so {expected:.3g}X here" if expected and factor != 1 else ""
        beside = f"the file states {stated}{here}"
        try:
            patches = image_patches(image, size=estimator.patch_size, downsample=factor)
            found = estimator.estimate(extract(net, patches, taps=[tap])[tap], level=options.level)
            missed = expected and not found.refused and not found.low <= expected <= found.high
            say(f"{name}: {found}; {beside}{': outside the interval' if missed else ''}")
            seen = vars(found)
        except DataError as error:
            say(f"{name}: not read: {reason(error)}; {beside}")
            seen = {"unreadable": reason(error)}
        rows.append(row | {"downsample": factor, "stated_magnification": expected} | seen)
    return rows
