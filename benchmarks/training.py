"""What feeding a network costs in training: patches from the cache, and from slides, against the bare step.

    python benchmarks/training.py

Patches of slides that the benchmark renders itself. In turns, in one process: ``bare`` takes steps on batches that are
preprocessed and in memory already; ``cache`` reads uint8 patches from disk and preprocesses them in a thread, as every epoch
from the second on does; ``slides`` decodes them anew through OpenSlide. Wall times, medians over epochs.
"""

from __future__ import annotations

import tempfile
import time

import numpy as np
import pandas as pd
from common import judge, parser, write_results

from scalelib.graph import keras
from scalelib.networks import load_network
from scalelib.pruning import prune
from scalelib.slides.patches import cache_patches
from studies.rendered.slide import load_rendered
from studies.training import batches_of

LIMIT, PATCHES, EPOCHS = 1.10, 1024, 9  # of each variant, after one epoch that is not timed


def main() -> None:
    """Measure, print, write."""
    options = parser(__doc__.splitlines()[0]).parse_args()
    net = load_network("MobileNet", weights="random", alpha=0.25, include_top=False, input_size=96)
    model = prune(net, at=list(net.taps)[-1])
    model.compile(optimizer=keras.optimizers.Adam(1e-4), loss="mse", jit_compile=False)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        data = load_rendered(f"{folder}/slides", n_slides=(2, 1, 1), size=96)
        order = np.arange(min(PATCHES, len(data.images)))
        cached, targets = cache_patches(data.images, f"{folder}/cache"), data.table.mean_area_px.to_numpy()
        ready = list(batches_of(cached, targets, order, net.preprocess))
        sources = {"bare": None, "cache": cached, "slides": data.images}
        for epoch in range(EPOCHS + 1):
            for name in list(sources)[:: 1 if epoch % 2 else -1]:
                began, images = time.perf_counter(), sources[name]
                feed = ready if images is None else batches_of(images, targets, order, net.preprocess)
                for pixels, known in feed:
                    model.train_on_batch(pixels, known)
                rows.append({"variant": name, "epoch": epoch, "seconds": time.perf_counter() - began})
    seconds = pd.DataFrame(rows[3:]).pivot(index="epoch", columns="variant", values="seconds")
    rates, ratios = len(order) / seconds.median(), seconds.div(seconds["bare"], axis=0).median()
    said = {name: f"{name}, {rate:.0f} patches/s" for name, rate in rates.items()}
    bars = [judge("Training, fed with patches", said["cache"], said["bare"], ratios["cache"], LIMIT)]
    write_results("training", rows, {"bars": bars}, options)


if __name__ == "__main__":
    main()
