"""What feeding a network from slides costs: training from cached patches against arrays in memory.

    python benchmarks/feeding.py

Patches of slides that the benchmark renders itself, read through OpenSlide. In turns, in one process:
``memory`` trains on batches that are preprocessed and in memory already, the network alone; ``cache``
reads uint8 patches from disk and preprocesses them, as every epoch from the second on does; ``slides``
decodes them anew. Times are medians over epochs, from before the first batch is fetched to the end of the last. What
Keras takes to put its input pipeline away after an epoch is given apart: on TensorFlow it is a timer of up to 1.3
seconds, the same for all three, that says nothing about feeding.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from common import parser, write_results

from scalelib.graph import keras
from scalelib.networks import load_network
from scalelib.pruning import prune
from scalelib.slides.patches import cache_patches
from studies.rendered.slide import load_rendered
from studies.training import Batches

LIMIT = 0.9


def main() -> None:
    """Measure, print, write."""
    arguments = parser(__doc__.splitlines()[0])
    arguments.add_argument("--patches", type=int, default=1024)
    arguments.add_argument("--size", type=int, default=96)
    arguments.add_argument("--epochs", type=int, default=9, help="of each variant, after one not timed")
    options = arguments.parse_args()
    net = load_network("MobileNet", weights="random", alpha=0.25, include_top=False, input_size=options.size)
    model = prune(net, at=list(net.taps)[-1])
    model.compile(optimizer=keras.optimizers.Adam(1e-4), loss="mse", jit_compile=False)
    with tempfile.TemporaryDirectory() as folder:
        data = load_rendered(f"{folder}/slides", n_slides=(2, 1, 1), size=options.size)
        order = np.arange(min(options.patches, len(data.images)))
        cached = cache_patches(data.images, f"{folder}/cache")
        targets = data.table.mean_area_px.to_numpy(np.float32)
        ready = net.preprocess(np.stack([cached[int(i)] for i in order]).astype(np.float32))
        variants: dict[str, Any] = {
            "memory": Ready(ready, targets[order]),
            "cache": Batches(cached, targets, order, net.preprocess),
            "slides": Batches(data.images, targets, order, net.preprocess),
        }
        rows = []
        for epoch in range(options.epochs + 1):
            names: Sequence[str] = list(variants) if epoch % 2 else list(variants)[::-1]
            for name in names:
                watch = Stopwatch()
                model.fit(variants[name], epochs=1, shuffle=False, verbose=0, callbacks=[watch])
                after, seconds = time.perf_counter() - watch.end, watch.end - watch.begin
                if epoch:
                    speed = len(order) / seconds
                    rows.append({"variant": name, "epoch": epoch, "patches_per_s": speed, "after_s": after})
                    print(f"{name:8s} {len(order) / seconds:7.1f} patches/s", flush=True)
    measured = pd.DataFrame(rows)
    table = measured.pivot(index="epoch", columns="variant", values="patches_per_s")
    ratios = table.div(table["memory"], axis=0).median()
    summary = {
        "patches_per_s": table.median().round(1).to_dict(),
        "share_of_memory": ratios.round(3).to_dict(),
        "after_s": measured.groupby("variant").after_s.median().round(2).to_dict(),
        "limit_cache": LIMIT,
        "met": bool(ratios["cache"] >= LIMIT),
    }
    print(summary)
    write_results("feeding", rows, summary, options)


class Stopwatch(keras.callbacks.Callback):
    """When an epoch began, before its first batch was fetched, and when its last batch ended."""

    begin = end = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.begin = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self.end = time.perf_counter()


class Ready(keras.utils.PyDataset):
    """Batches of 32 that need nothing but slicing."""

    def __init__(self, pixels: np.ndarray, targets: np.ndarray) -> None:
        super().__init__(workers=1)
        self.pixels, self.targets = pixels, targets

    def __len__(self) -> int:
        return -(-len(self.pixels) // 32)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        part = slice(32 * index, 32 * index + 32)
        return self.pixels[part], self.targets[part, None]


if __name__ == "__main__":
    main()
