"""What the benchmarks share: arguments, real photographs, the judgement, and results with the machine they come from."""

from __future__ import annotations

import argparse
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from scalelib.datasets.voc import load_voc
from scalelib.errors import DataError
from scalelib.results import describe_code, describe_environment, write_atomic

sys.path.append(str(Path(__file__).parents[1] / "notebooks"))  # where studies lies
RESULTS = Path(__file__).parent / "results"


def parser(about: str) -> argparse.ArgumentParser:
    """Arguments that every benchmark takes."""
    arguments = argparse.ArgumentParser(description=about)
    arguments.add_argument("--data-root", help="folder with VOCdevkit/ (default: SCALELIB_DATA)")
    arguments.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    return arguments


def photographs(arguments: argparse.Namespace) -> list[Path]:
    """Paths of the single-object images of PASCAL VOC; without them the benchmark is not run, and says so."""
    try:
        return list(load_voc(root=arguments.data_root).images)
    except DataError as error:
        print(f"not run: {error}")
        raise SystemExit(0) from None


def judge(
    what: str, ours: str, peer: str, ratio: float, bar: float, *, least: bool = False
) -> dict[str, Any]:
    """A line of the book's page on speed: a ratio of ours to a peer or limit of the same run, at most or at least the bar."""
    met = bool(ratio >= bar if least else ratio <= bar)
    asked = f"{'at least' if least else 'at most'} {bar:g}"
    print(f"{what}: {ours}; {peer}; ratio {ratio:.3g}, {asked}: {'met' if met else 'NOT met'}", flush=True)
    return {
        "what": what,
        "ours": ours,
        "peer": peer,
        "ratio": float(f"{ratio:.4g}"),
        "bar": asked,
        "met": met,
    }


def write_results(
    name: str, rows: list[dict[str, Any]], summary: dict[str, Any], arguments: argparse.Namespace
) -> None:
    """``<name>.csv`` with every measurement, ``<name>.json`` with the summary and the machine."""
    settings = {key: value for key, value in vars(arguments).items() if key not in ("out", "data_root")}
    record = {
        "benchmark": name,
        "summary": summary,
        "settings": settings,
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "code": describe_code(),
        "environment": describe_environment(),
    }
    write_atomic(arguments.out / f"{name}.csv", pd.DataFrame(rows).to_csv(index=False).encode())
    write_atomic(arguments.out / f"{name}.json", (json.dumps(record, indent=1, default=str) + "\n").encode())
