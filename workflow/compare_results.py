"""Compare two runs of one profile: ``python workflow/compare_results.py results/control /tmp/other/control``.

Fails when a table is missing, has other rows or columns, or numbers, times aside, that moved outside the tolerance. For runs of the
same code with other versions of its dependencies, or on other hardware.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd

# A number may move by this much, and by this share of itself: far more than floating point does, and less than
# anything the book says of a number depends on.
ABSOLUTE, RELATIVE = 0.01, 0.02
# Least squares near as many images as channels, and the choice between two near-equal taps, may tip over in a few rows.
SHARE = 0.02
TIMES = ["seconds", "forward_ms", "forward_ms_min"]  # are the machine's


def compare(one: Path, two: Path) -> list[str]:
    """One line for each table or column that differs between two folders of results; empty if nothing does."""
    tables = [{str(path.relative_to(run)) for path in run.rglob("*.csv*")} for run in (one, two)]
    if not tables[0]:
        return [f"compare_results: no table to compare.\nReceived: {one}"]
    found = [f"{name}: only in one of the runs" for name in sorted(tables[0] ^ tables[1])]
    for name in sorted(tables[0] & tables[1]):
        before, after = pd.read_csv(one / name), pd.read_csv(two / name)
        if list(before.columns) != list(after.columns) or len(before) != len(after):
            found.append(f"{name}: {before.shape} against {after.shape} rows and columns, or other columns")
            continue
        for column in before.columns.difference(TIMES, sort=False):
            moved = _moved(before[column], after[column])
            if moved.mean() > SHARE:
                row = int(np.flatnonzero(moved)[0])
                found.append(
                    f"{name}, {column}: {moved.sum()} of {len(moved)} rows differ, "
                    f"first row {row}: {before[column][row]} against {after[column][row]}"
                )
    return found


def _moved(before: pd.Series, after: pd.Series) -> np.ndarray:
    if "f" in (kinds := {before.dtype.kind, after.dtype.kind}) and kinds <= {"f", "i"}:
        return ~np.isclose(after, before, rtol=RELATIVE, atol=ABSOLUTE, equal_nan=True)
    return np.asarray((before != after) & ~(before.isna() & after.isna()), dtype=bool)


def main(arguments: list[str]) -> int:
    """Print what differs; exit 1 if anything does."""
    if len(arguments) != 2 or arguments[0].startswith("-"):
        print(__doc__)
        return 2
    found = compare(*map(Path, arguments))
    print("\n".join(found) or "The two runs agree within the tolerance.")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
