"""How long the transfer of the profile `compact` takes on more cores, one run a core: from the archived run times.

    python benchmarks/pipeline.py

Computed, not run: jobs are handed to the next free core, in the order of the archive and with the longest first. A run's time
is that of its epochs, as archived; the start of its process, `--start`, is added.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
from common import judge, parser, write_results

from scalelib.results import read_results

ARCHIVE = Path(__file__).parents[1] / "results" / "compact" / "05_histopathology_transfer"
LIMIT_CORES, LIMIT_MINUTES = 16, 20


def makespan(seconds: Iterable[float], cores: int) -> float:
    """When the last job ends, each begun on the core that is free first."""
    free = [0.0] * cores
    for job in seconds:
        heapq.heapreplace(free, free[0] + job)
    return max(free)


def main() -> None:
    """Compute, print, write."""
    arguments = parser(__doc__.splitlines()[0])
    arguments.add_argument("--start", type=float, default=15.0, help="seconds until a job trains")
    options = arguments.parse_args()
    runs = read_results(ARCHIVE).table("runs").seconds + options.start
    orders = {"as archived": runs, "longest first": runs.sort_values(ascending=False)}
    rows = [
        {"cores": cores, "order": order, "minutes": round(makespan(jobs, cores) / 60, 1)}
        for cores in (1, 2, LIMIT_CORES)
        for order, jobs in orders.items()
    ]
    table = pd.DataFrame(rows)
    print(f"{len(runs)} runs, the longest {runs.max() / 60:.1f} minutes\n{table.to_string(index=False)}")
    worst = float(table[table.cores == LIMIT_CORES].minutes.max())
    what, limit = f"Transfer, {len(runs)} runs on {LIMIT_CORES} cores, computed", f"{LIMIT_MINUTES} min"
    bars = [judge(what, f"{worst} min", limit, worst / LIMIT_MINUTES, 1.0)]
    write_results("pipeline", rows, {"bars": bars}, options)


if __name__ == "__main__":
    main()
