"""What reading every tap of a network costs: ``extract`` against the bare network, and against one pass a tap.

    python benchmarks/one_pass.py --data-root DATA

All variants see the same photographs in the same process, in turns. The bare pass is the network alone on pixels that are
decoded and resized already, with nothing read on the way; ``extract`` gets the same pixels, or the files: then the limit is
the bare pass and the decoding, each by itself. CPU time counts, since other programs disturb it less; on a GPU, where it
says little, the ratio of bare to all taps in wall time is the share of time in which the GPU has work. Weights are random:
they change no time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from common import judge, parser, photographs, write_results

from scalelib.activations import extract, read_taps, tap_reader
from scalelib.graph import gpus
from scalelib.images import read_image, resize_image
from scalelib.networks import Network, load_network

OPTIONS: dict[str, dict[str, Any]] = {"MobileNet": {"alpha": 0.25}}
BATCH, COUNTED = (256, "seconds") if gpus() else (32, "cpu_seconds")
LIMIT, LIMIT_JPEG, REPEATS = 1.10, {"MobileNet 0.25": 1.05}, 5  # one pass a tap is made once
IMAGES = {"InceptionV3": 64, "ResNet50": 64, "MobileNet": 192, "SqueezeNet": 96}


def main() -> None:
    """Measure, print, write."""
    arguments = parser(__doc__.splitlines()[0])
    arguments.add_argument("--networks", nargs="+", default=list(IMAGES), choices=IMAGES)
    options = arguments.parse_args()
    rows, bars, photos = [], [], photographs(options)
    for name in options.networks:
        paths = photos[: IMAGES[name]]
        net = load_network(name, weights="random", **OPTIONS.get(name, {}))
        table = pd.DataFrame(measure(net, paths))
        rows += table.assign(network=net.name, images=len(paths)).to_dict("records")
        runs = table.pivot(index="repeat", columns="variant", values=COUNTED)
        rates = (len(paths) / table.groupby("variant").seconds.median()).map("{:.0f} images/s".format)
        ratios = runs.div(runs["bare"], axis=0).median()
        both = (runs["JPEG"] / (runs["bare"] + runs["decode"])).median()
        ours, peer = f"all {len(net.taps)} taps, {rates['arrays']}", f"bare network, {rates['bare']}"
        bars += [
            judge(f"{net.name}, pixels given", ours, peer, ratios["arrays"], LIMIT),
            judge(f"{net.name}, from JPEG", f"{len(net.taps)} taps, {rates['JPEG']}", "bare network + decoding", both,
                  LIMIT_JPEG.get(net.name, LIMIT)),
            judge(f"{net.name}, one pass", ours, f"one pass a tap, {rates['one pass a tap']}",
                  (runs["one pass a tap"] / runs["arrays"]).median(), len(net.taps) / 2, least=True),
        ]  # fmt: skip
    write_results("one_pass", rows, {"bars": bars}, options)


def measure(net: Network, paths: list[Any]) -> list[dict[str, Any]]:
    """Seconds of every variant and repeat, after one pass that is not timed."""
    decode = lambda: [resize_image(read_image(path), net.input_size) for path in paths]  # noqa: E731
    pixels = np.stack(decode())
    batches = [pixels[start : start + BATCH] for start in range(0, len(pixels), BATCH)]
    readers = [tap_reader(net, {tap: tap}, pooling="avg") for tap in net.taps]
    ready: Callable[[np.ndarray], Any] = lambda batch: net.preprocess(batch.astype(np.float32))  # noqa: E731
    variants: dict[str, Callable[[], object]] = {
        "bare": lambda: [net.model.predict_on_batch(ready(batch)) for batch in batches],
        "decode": decode,
        "arrays": lambda: extract(net, pixels, batch_size=BATCH),
        "JPEG": lambda: extract(net, paths, batch_size=BATCH),
        "one pass a tap": lambda: [
            read_taps(reader, ready(batch)) for reader in readers for batch in batches
        ],
    }
    found = []
    for repeat in range(-1, REPEATS):
        turns = [name for name in variants if repeat < 1 or name != "one pass a tap"]
        for name in turns if repeat % 2 else turns[::-1]:
            began, busy = time.perf_counter(), time.process_time()
            variants[name]()
            spent = {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - busy}
            found.append({"variant": name, "repeat": repeat, **spent})
    return found[len(variants) :]


if __name__ == "__main__":
    main()
