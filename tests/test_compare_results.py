"""Two runs agree, or the comparison names the table and the column that moved."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

PATH = Path(__file__).parent.parent / "workflow" / "compare_results.py"


@pytest.fixture
def compare():
    spec = importlib.util.spec_from_file_location("compare_results", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.compare


def write_run(folder: Path, **columns: object) -> Path:
    table = {"tap": ["a", "b"] * 50, "n": np.arange(100), "r2": np.linspace(-300, 1, 100), **columns}
    (folder / "04_layerwise_r2").mkdir(parents=True)
    pd.DataFrame(table).to_csv(folder / "04_layerwise_r2" / "r2.csv.gz", index=False)
    return folder


def test_rounding_and_one_row_that_tips_over_agree(compare, tmp_path):
    r2 = np.linspace(-300, 1, 100) * (1 + 1e-6)
    r2[3] = -900
    assert compare(write_run(tmp_path / "one"), write_run(tmp_path / "two", r2=r2)) == []


@pytest.mark.parametrize(
    ("column", "values", "expected"),
    [
        ("r2", np.linspace(-300, 1, 100) + 8, "r2.csv.gz, r2: "),
        ("r2", [np.nan] * 100, "r2.csv.gz, r2: 100 of 100 rows differ, first row 0: -300.0 against nan"),
        ("n", np.arange(1, 101), "r2.csv.gz, n: 100 of 100"),
        ("tap", ["a", "c"] * 50, "r2.csv.gz, tap: 50 of 100 rows differ, first row 1: b against c"),
        ("new", 0, "or other columns"),
    ],
    ids=["moved", "lost", "counts", "names", "columns"],
)
def test_what_moved_is_named(compare, tmp_path, column, values, expected):
    (found,) = compare(write_run(tmp_path / "one"), write_run(tmp_path / "two", **{column: values}))
    assert expected in found


def test_a_missing_table_and_an_empty_run_are_named(compare, tmp_path):
    one = write_run(tmp_path / "one")
    (tmp_path / "two").mkdir()
    assert compare(one, tmp_path / "two") == ["04_layerwise_r2/r2.csv.gz: only in one of the runs"]
    assert "no table to compare" in compare(tmp_path / "two", one)[0]
