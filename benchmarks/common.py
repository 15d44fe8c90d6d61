"""What the benchmarks share: arguments, real photographs, and results with the machine they come from."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pandas as pd

from scalelib.datasets.voc import load_voc
from scalelib.errors import DataError
from scalelib.results import describe_code, describe_environment, write_atomic

RESULTS = Path(__file__).parent / "results"


def parser(about: str) -> argparse.ArgumentParser:
    """Arguments that every benchmark takes."""
    arguments = argparse.ArgumentParser(description=about)
    arguments.add_argument("--data-root", help="folder with VOCdevkit/ (default: SCALELIB_DATA)")
    arguments.add_argument("--year", type=int, default=2007, help="of PASCAL VOC")
    arguments.add_argument("--split", default="test", help="of PASCAL VOC")
    arguments.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    return arguments


def photographs(arguments: argparse.Namespace) -> list[Path]:
    """Paths of the single-object images of PASCAL VOC; without them the benchmark is not run, and says so."""
    try:
        return list(load_voc(root=arguments.data_root, year=arguments.year, split=arguments.split).images)
    except DataError as error:
        print(f"not run: {error}")
        raise SystemExit(0) from None


def write_results(
    name: str, rows: list[dict[str, Any]], summary: dict[str, Any], arguments: argparse.Namespace
) -> None:
    """``<name>.csv`` with every measurement, ``<name>.json`` with the summary and the machine."""
    arguments.out.mkdir(parents=True, exist_ok=True)
    settings = {key: value for key, value in vars(arguments).items() if key not in ("out", "data_root")}
    record = {
        "benchmark": name,
        "summary": summary,
        "settings": settings,
        "code": describe_code(),
        "environment": describe_environment(),
    }
    table = pd.DataFrame(rows).to_csv(index=False).encode()
    text = (json.dumps(record, indent=1, default=str) + "\n").encode()
    write_atomic(arguments.out / f"{name}.csv", lambda stream: stream.write(table))
    write_atomic(arguments.out / f"{name}.json", lambda stream: stream.write(text))
