"""Memory that ``extract`` needs: flat over 20,000 images, and at most a fifth more than its result where their number is known.

    python benchmarks/memory.py --data-root DATA

First the photographs at hand are handed on as an iterator, again and again; each is decoded and forwarded every time, and
one tap is read. Then all taps of many small images, as a list and as an iterator, whose number is not known beforehand: the
highest resident memory while they are read, less what was there before, per byte of the result.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from common import judge, parser, photographs, write_results

from scalelib.activations import extract
from scalelib.networks import load_network

MIB, WARM_UP, SMALL = 2**20, 2_000, 16_384  # images before memory must be flat; images of 64 px, for the peak
# MiB of growth; bytes at the peak per byte of result
ALLOWED, PER_BYTE = 32.0, {"a list": 1.2, "an iterator": 2.0}


def main() -> None:
    """Measure, print, write."""
    arguments = parser(__doc__.splitlines()[0])
    arguments.add_argument("--images", type=int, default=20_000)
    options = arguments.parse_args()
    paths = photographs(options)
    net = load_network("MobileNet", weights="random", alpha=0.25, include_top=False, input_size=128)
    rows: list[dict[str, Any]] = []

    def source() -> Iterator[Path]:
        for number, path in enumerate(itertools.islice(itertools.cycle(paths), options.images)):
            if number % 1_000 == 0:
                rows.append({"part": "growth", "images": number, "mib": resident()})
            yield path

    result = next(iter(extract(net, source(), taps=list(net.taps)[-1]).values()))
    per_image = result.nbytes / len(result) / MIB
    beside = [row["mib"] - row["images"] * per_image for row in rows if row["images"] >= WARM_UP]
    growth = max(beside) - beside[0]
    said = f"{growth:.1f} MiB more after {WARM_UP:,}"
    bars = [judge(f"{options.images:,} images", said, f"{ALLOWED:.0f} MiB", growth / ALLOWED, 1.0)]
    net = load_network("MobileNet", weights="random", alpha=0.25, input_size=64)
    small = [np.full((64, 64, 3), value, np.uint8) for value in range(256)]
    extract(net, small)  # what is made once
    for what, images in (("a list", small * (SMALL // 256)), ("an iterator", iter(small * (SMALL // 256)))):
        peak, size = highest(lambda images=images: sum(one.nbytes for one in extract(net, images).values()))
        rows.append({"part": what, "images": SMALL, "mib": peak, "result_mib": size / MIB})
        said, limit = f"{peak:.0f} MiB at the peak", f"{size / MIB:.0f} MiB of result"
        bars.append(judge(f"Activations of {what}", said, limit, peak * MIB / size, PER_BYTE[what]))
    write_results("memory", rows, {"bars": bars}, options)


def resident() -> float:
    """MiB of memory that this process holds."""
    return psutil.Process().memory_info().rss / MIB


def highest(work: Callable[[], Any]) -> tuple[float, Any]:
    """By how many MiB memory grew at most while something was made, and that."""
    before, seen = resident(), [0.0]
    with ThreadPoolExecutor(1) as pool:
        made = pool.submit(work)
        while not made.done():
            seen.append(resident())
            time.sleep(0.005)
    return max(seen) - before, made.result()


if __name__ == "__main__":
    main()
