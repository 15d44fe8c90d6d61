"""What reading every tap of a network costs: ``extract`` against one bare forward pass and one pass a tap.

    python benchmarks/one_pass.py --data-root DATA

All variants see the same images in the same process, in turns; times are medians over repeats, and CPU time
stands beside them because other programs on the machine disturb it less. The bare
pass is the network alone on pixels that are decoded and resized already, with nothing read on the way;
``extract`` gets the same pixels, so that nothing but reading the taps is added. Weights are random:
they change no time.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pandas as pd
from common import parser, photographs, write_results

from scalelib.activations import extract, read_taps, tap_reader
from scalelib.images import read_image, resize_image
from scalelib.networks import Network, load_network

LIMIT = 1.10


def main() -> None:
    """Measure, print, write."""
    arguments = parser(__doc__.splitlines()[0])
    arguments.add_argument("--network", default="InceptionV3")
    arguments.add_argument("--images", type=int, default=64)
    arguments.add_argument("--batch-size", type=int, default=16)
    arguments.add_argument("--repeats", type=int, default=7, help="of the bare pass and of extract")
    arguments.add_argument("--peer-repeats", type=int, default=2, help="of one pass a tap, which is slow")
    options = arguments.parse_args()
    net = load_network(options.network, weights="random")
    paths = photographs(options)[: options.images]
    pixels = np.stack([resize_image(read_image(path), net.input_size) for path in paths])
    size = options.batch_size
    readers = {tap: tap_reader(net, {tap: tap}, pooling="avg") for tap in net.taps}
    bare = "bare forward pass"
    variants: dict[str, Callable[[np.ndarray], object]] = {
        bare: lambda images: forward(net, images, size),
        "extract, all taps": lambda images: extract(net, images, batch_size=size),
        "extract, all taps, from JPEG": lambda images: extract(net, paths[: len(images)], batch_size=size),
        "one pass a tap": lambda images: [
            read_taps(reader, net, images[start : start + size])
            for reader in readers.values()
            for start in range(0, len(images), size)
        ],
    }
    for variant in variants.values():
        variant(pixels[:size])  # builds every graph
    rows = []
    for repeat in range(options.repeats):
        turns = list(variants)[: 4 if repeat < options.peer_repeats else 3]
        for name in turns if repeat % 2 else turns[::-1]:
            began, busy = time.perf_counter(), time.process_time()
            variants[name](pixels)
            seconds, busy = time.perf_counter() - began, time.process_time() - busy
            row = {"variant": name, "repeat": repeat, "images": len(pixels)}
            rows.append(row | {"seconds": round(seconds, 3), "cpu_seconds": round(busy, 3)})
            print(f"{name:30s} {seconds:7.2f} s", flush=True)
    wall, cpu = (
        pd.DataFrame(rows).pivot(index="repeat", columns="variant", values=column)
        for column in ("seconds", "cpu_seconds")
    )
    times, ratios = wall.median(), wall.div(wall[bare], axis=0).median()
    cpu_ratios = cpu.div(cpu[bare], axis=0).median()
    print(f"\n{net.name}, {len(net.taps)} taps, {len(pixels)} images")
    print(f"{'':30s} seconds  images/s  × bare  × bare in CPU time")
    for name in variants:
        rate = len(pixels) / times[name]
        print(f"{name:30s} {times[name]:7.2f} {rate:9.1f} {ratios[name]:7.3f} {cpu_ratios[name]:7.3f}")
    ratio = float(ratios["extract, all taps"])
    print(f"limit {LIMIT:.2f}: {'met' if ratio <= LIMIT else 'NOT met'}")
    summary = {
        "network": net.name,
        "taps": len(net.taps),
        "images": len(pixels),
        "median_seconds": times.round(3).to_dict(),
        "median_ratio_to_bare": ratios.round(4).to_dict(),
        "median_cpu_ratio_to_bare": cpu_ratios.round(4).to_dict(),
        "limit": LIMIT,
        "met": ratio <= LIMIT,
    }
    write_results("one_pass", rows, summary, options)


def forward(net: Network, images: np.ndarray, size: int) -> list[np.ndarray]:
    """The network's last output alone, a batch at a time."""
    return [
        net.model.predict_on_batch(net.preprocess(images[start : start + size].astype(np.float32)))
        for start in range(0, len(images), size)
    ]


if __name__ == "__main__":
    main()
