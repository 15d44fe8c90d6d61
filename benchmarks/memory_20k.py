"""Resident memory while 20,000 images run through ``extract``: flat after warm-up.

    python benchmarks/memory_20k.py --data-root DATA

The photographs at hand are handed on as an iterator, again and again; each is read, decoded, resized and
forwarded every time. One tap is read, so that the result itself stays small; its size is subtracted.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
from common import parser, photographs, write_results

from scalelib.activations import extract
from scalelib.networks import load_network

MIB = 2**20


def main() -> None:
    """Measure, print, write."""
    arguments = parser(__doc__.splitlines()[0])
    arguments.add_argument("--images", type=int, default=20_000)
    arguments.add_argument("--input-size", type=int, default=128, help="smaller than 224 px to save time")
    arguments.add_argument("--batch-size", type=int, default=32)
    arguments.add_argument("--warm-up", type=int, default=2_000, help="images before memory must be flat")
    arguments.add_argument("--allowed", type=float, default=32.0, help="growth after warm-up, in MiB")
    options = arguments.parse_args()
    net = load_network(
        "MobileNet", weights="random", alpha=0.25, include_top=False, input_size=options.input_size
    )
    tap = list(net.taps)[-1]
    bytes_per_image = 4 * int(net.tensor(tap).shape[-1])
    paths = photographs(options)
    rows: list[dict[str, float]] = []
    process, began = psutil.Process(), time.perf_counter()

    def source() -> Iterator[Path]:
        for number, path in enumerate(itertools.islice(itertools.cycle(paths), options.images)):
            if number % 1_000 == 0:
                note(number)
            yield path
        note(options.images)

    def note(number: int) -> None:
        resident, result = process.memory_info().rss / MIB, number * bytes_per_image / MIB
        seconds = time.perf_counter() - began
        rows.append({
            "images": number,
            "seconds": round(seconds, 1),
            "rss_mib": round(resident, 1),
            "result_mib": round(result, 1),
            "rss_less_result_mib": round(resident - result, 1),
        })  # fmt: skip
        print(
            f"{number:7d} images {seconds:7.1f} s   resident {resident:7.1f} MiB, result {result:5.1f} MiB",
            flush=True,
        )

    acts = extract(net, source(), taps=tap, batch_size=options.batch_size)[tap]
    assert acts.shape == (options.images, bytes_per_image // 4)
    repeats = acts[: len(paths)], acts[len(paths) : 2 * len(paths)]
    same = len(acts) < 2 * len(paths) or bool(np.allclose(*repeats, atol=1e-4))
    settled = [row["rss_less_result_mib"] for row in rows if row["images"] >= options.warm_up]
    growth = max(settled) - settled[0]
    slope = float(np.polyfit(np.arange(len(settled)), settled, 1)[0]) if len(settled) > 1 else 0.0
    met = growth <= options.allowed
    print(
        f"after {options.warm_up} images: at most {growth:+.1f} MiB beside the result, {slope:+.2f} MiB per 1,000 "
        f"images; allowed {options.allowed:.0f} MiB: {'met' if met else 'NOT met'}"
    )
    summary = {
        "network": net.name,
        "tap": tap,
        "distinct_images": len(paths),
        "images_per_second": round(options.images / (time.perf_counter() - began), 1),
        "rss_after_warm_up_mib": settled[0],
        "rss_at_most_mib": max(settled),
        "growth_mib": round(growth, 1),
        "slope_mib_per_1000_images": round(slope, 3),
        "repeated_images_agree": same,
        "met": met,
    }
    write_results("memory_20k", rows, summary, options)


if __name__ == "__main__":
    main()
