"""Two runs agree, or the comparison names the table and the column that moved."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from workflow.compare_results import compare

R2 = np.linspace(-300, 1, 100)
MOVED = {
    "r2": (R2 + 8, "r2.csv.gz, r2: "),
    "lost": (np.full(100, np.nan), "r2.csv.gz, r2: 100 of 100 rows differ, first row 0: -300.0 against nan"),
    "n": (np.arange(1, 101), "r2.csv.gz, n: 100 of 100"),
    "tap": (["a", "c"] * 50, "r2.csv.gz, tap: 50 of 100 rows differ, first row 1: b against c"),
    "new": (0, "or other columns"),
}


def write_run(folder: Path, **columns: object) -> Path:
    table = {"tap": ["a", "b"] * 50, "n": np.arange(100), "r2": R2, **columns}
    (folder / "04_layerwise_r2").mkdir(parents=True)
    pd.DataFrame(table).to_csv(folder / "04_layerwise_r2" / "r2.csv.gz", index=False)
    return folder


def test_rounding_one_row_that_tips_over_and_other_times_agree(tmp_path):
    nearly = np.where(np.arange(100) == 3, -900, R2 * (1 + 1e-6))
    one, two = write_run(tmp_path / "one", seconds=1.0), write_run(tmp_path / "two", r2=nearly, seconds=9.0)
    assert compare(one, two) == []


@pytest.mark.parametrize("column", MOVED)
def test_what_moved_is_named(tmp_path, column):
    values, expected = MOVED[column]
    other = write_run(tmp_path / "two", **{"r2" if column == "lost" else column: values})
    (found,) = compare(write_run(tmp_path / "one"), other)
    assert expected in found


def test_a_missing_table_and_an_empty_run_are_named(tmp_path):
    one = write_run(tmp_path / "one")
    assert compare(one, tmp_path / "two") == ["04_layerwise_r2/r2.csv.gz: only in one of the runs"]
    assert "no table to compare" in compare(tmp_path / "two", one)[0]
