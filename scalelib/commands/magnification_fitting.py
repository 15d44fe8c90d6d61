"""How ``scalelib magnification --fit`` makes an estimator, and the files that the command writes."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scalelib.commands.network_arguments import PREPROCESSING, as_path, network_arguments
from scalelib.errors import DataError, ResultsError, did_you_mean

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
    from scalelib.magnification_fit import fit_estimator
    from scalelib.magnification_images import load_described
    from scalelib.networks import resolve_tap

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
    from scalelib.magnification_fit import DEFAULT_NETWORK

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
    from scalelib.datasets.tissue import load_tissue

    return load_tissue(options.fit, size=size, random_state=options.random_state)


def _accuracy(estimator: Any, level: float) -> str:
    from scalelib.novelty import conformal_quantile

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
