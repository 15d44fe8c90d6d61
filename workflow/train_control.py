"""Train the two control networks, from scratch: ``python workflow/train_control.py``.

A small CNN learns to name the object of rendered scenes, at all scales or at one. What is shipped can be trained again, and
a training that was stopped goes on after its last whole epoch.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scalelib import control
from scalelib.datasets import Dataset
from scalelib.errors import ScalelibError, require
from scalelib.graph import keras
from scalelib.results import describe_environment, digest_file, write_atomic

sys.path.append(str(Path(__file__).parents[1] / "notebooks"))  # where studies lies
from studies.rendered.scenes import CLASSES, SCALES, render_scenes
from studies.training import fit_resumably

# Range of object sides, as a share of the image side, that each network was trained on.
TRAINED_SCALES = {"all_scales": SCALES, "one_scale": (0.45, 0.55)}
_TRAINING_SCENES, _HELD_OUT_SCENES = 7_000_000, 8_000_000  # first seeds; far from those of any study


@dataclass(frozen=True)
class Settings:
    """One training, completely. The rate of AdamW rises linearly for `warmup` steps and falls as a half cosine to 0."""

    seed: int = 0  # of initial weights, order and augmentation
    images: int = 24_000
    epochs: int = 12
    batch_size: int = 32
    learning_rate: float = 3e-3
    weight_decay: float = 0.02
    warmup: int = 200


def train(name: str, *, settings: Settings, folder: Path, held_out: int = 5000) -> dict[str, Any]:
    """Train one control network, write ``control_NAME.weights.h5``, and return its entry on the model card.

    Accuracy is measured on `held_out` scenes at all scales.
    """
    require(
        settings.images >= settings.batch_size, "train", "at least one batch of images",
        f"{settings.images} images, batches of {settings.batch_size}",
    )  # fmt: skip
    began = time.perf_counter()
    first_scene, fresh_scene = _TRAINING_SCENES + settings.seed, _HELD_OUT_SCENES + settings.seed
    scenes = render_scenes(settings.images, scales=TRAINED_SCALES[name], random_state=first_scene)
    labels = np.array([CLASSES.index(shape) for shape in scenes.table.object_class])
    state = folder / f".control_{name}.npz"
    resumed = state.is_file()
    model = _compiled(settings)
    history = fit_resumably(
        model, lambda epoch: _Batches(scenes.images, labels, settings, epoch - 1), epochs=settings.epochs,
        state=state, name=name, identity={"network": name, "settings": asdict(settings)},
    )  # fmt: skip
    seconds = round(time.perf_counter() - began, 1)
    weights = folder / f"control_{name}.weights.h5"
    bare = control.build_control(classes=len(CLASSES))  # without the optimizer, which triples the file
    bare.set_weights(model.get_weights())
    bare.save_weights(weights)
    state.unlink()
    fresh = render_scenes(held_out, random_state=fresh_scene)
    seen = accuracy_by_scale(model, fresh) | {"random_state": fresh_scene, "digest": fresh.digest}
    about = {"file": weights.name, "bytes": weights.stat().st_size, "sha256": digest_file(weights)}
    about |= {"scales": list(TRAINED_SCALES[name]), "settings": asdict(settings)}
    about["training_scenes"] = {"digest": scenes.digest, "random_state": first_scene}
    about["last_epoch"] = history.iloc[-1].drop(["epoch", "seconds"]).round(4).to_dict()
    about |= {"held_out": seen, "seconds": None if resumed else seconds}
    about["threads"] = os.environ.get("OMP_NUM_THREADS", "all")
    return about | {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": describe_environment(),
    }


def _compiled(settings: Settings) -> keras.Model:
    model = control.build_control(classes=len(CLASSES), seed=settings.seed)
    steps = settings.images // settings.batch_size * settings.epochs
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, max(steps - settings.warmup, 1), warmup_target=settings.learning_rate, warmup_steps=settings.warmup
    )  # fmt: skip
    model.compile(
        keras.optimizers.AdamW(rate, weight_decay=settings.weight_decay), "sparse_categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=keras.backend.backend() == "jax",  # on CPUs the other backends are faster without
    )  # fmt: skip
    return model


class _Batches:
    """One epoch: shuffled, mirrored, colour channels permuted, inverted; from a seed of its own."""

    def __init__(self, images: Any, labels: np.ndarray, settings: Settings, epoch: int) -> None:
        self.images, self.labels, self.settings, self.epoch = images, labels, settings, epoch
        self.order = np.random.default_rng([settings.seed, epoch]).permutation(len(images))

    def __len__(self) -> int:
        return len(self.order) // self.settings.batch_size

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        return map(self.__getitem__, range(len(self)))

    def __getitem__(self, batch: int) -> tuple[np.ndarray, np.ndarray]:
        size = self.settings.batch_size
        rng = np.random.default_rng([self.settings.seed, self.epoch, batch])
        rows = self.order[batch * size : (batch + 1) * size]
        images = self.images[rows][..., rng.permutation(3)]
        mirrored, inverted = rng.uniform(size=(2, len(rows))) < 0.5
        images[mirrored] = images[mirrored, :, ::-1]
        images[inverted] = 255 - images[inverted]
        return control.preprocess(images), self.labels[rows]


def accuracy_by_scale(model: keras.Model, scenes: Dataset, *, bins: int = 5) -> dict[str, Any]:
    """Accuracy over scenes, and in each of several ranges of object scale, of equal width on a log axis."""
    named = model.predict(control.preprocess(np.asarray(scenes.images)), batch_size=100, verbose=0).argmax(1)
    right = np.array(CLASSES)[named] == scenes.table.object_class.to_numpy()
    edges = np.geomspace(*SCALES, bins + 1)
    parts = pd.Series(right).groupby(np.digitize(scenes.table.scale, edges[1:-1])).agg(["size", "mean"])
    by_scale = [
        {"scale": edges[k : k + 2].round(3).tolist(), "images": int(n), "accuracy": round(share, 4)}
        for k, n, share in parts.itertuples()
    ]
    return {"images": len(right), "accuracy": round(float(right.mean()), 4), "by_scale": by_scale}


CARD = "control_card.json"
TOLERANCE = 0.01  # how far the held-out accuracy of a repeated training may lie from that on the card


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 done; 1 a repeated training gave another accuracy; 2 refused; 130 stopped."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[1])
    parser.add_argument("--network", choices=[*TRAINED_SCALES, "both"], default="both")
    parser.add_argument("--folder", type=Path, default=Path("control-weights"), help="where to write")
    for name, about in (("seed", "of everything"), ("images", "to train on"), ("epochs", "passes over them")):
        parser.add_argument(f"--{name}", type=int, default=getattr(Settings, name), help=about)
    parser.add_argument("--again", type=Path, metavar="CARD", help="repeat the trainings of a card, compare")
    options = parser.parse_args(arguments)
    names = list(TRAINED_SCALES) if options.network == "both" else [options.network]
    try:
        return max([_train_or_repeat(name, options) for name in names])
    except ScalelibError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nStopped; the same command goes on after the last whole epoch.", file=sys.stderr)
        return 130


def _train_or_repeat(name: str, options: argparse.Namespace) -> int:
    """Train with the options, or as a card says; the outcome goes onto the card, a repeated one beside the first."""
    path, first = options.again or options.folder / CARD, None
    settings = Settings(seed=options.seed, images=options.images, epochs=options.epochs)
    # what stays the same for every card stands on the one that ships with scalelib
    card = json.loads((control.ASSETS / CARD).read_text(encoding="utf-8")) | {"networks": {}}
    if path.is_file():
        card = json.loads(path.read_text(encoding="utf-8"))
    if options.again:
        rule = "--again takes the card of a finished training"
        require(name in card["networks"], "train_control", rule, path, f"Such as {CARD}.")
        first = card["networks"][name]
        settings = Settings(**first["settings"])
    entry = train(name, settings=settings, folder=options.folder)
    accuracy, away = entry["held_out"]["accuracy"], 0.0
    said = f"{name}: {accuracy:.1%} of held-out scenes named rightly"
    if first:
        away = abs(accuracy - first["held_out"]["accuracy"])
        said += f", {away:.2%} from the card's"
        entry = first | {"repeats": [*first.get("repeats", []), entry]}
    card["networks"][name] = entry
    write_atomic(path, (json.dumps(card, indent=1) + "\n").encode())
    print(said)
    return int(away > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
