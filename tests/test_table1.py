"""The check of a printed table's sums, on tables whose errors are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from studies.s07_peak import check_sums, smallest_corrections

PAPER = Path(__file__).resolve().parents[1] / "paper"


def consistent(rows: int = 3, columns: int = 5, seed: int = 0) -> pd.DataFrame:
    cells = np.random.default_rng(seed).integers(100, 9999, (rows, columns))
    cells = np.block([[cells, cells.sum(1, keepdims=True)], [cells.sum(0), cells.sum()]])
    names = [f"r{i}" for i in range(rows)], [f"c{j}" for j in range(columns)]
    return pd.DataFrame(cells, [*names[0], "total"], [*names[1], "total"])


@pytest.mark.parametrize(("rows", "columns"), [(2, 7), (3, 5), (6, 2)])
def test_consistent_table_gives_no_difference_and_no_correction(rows, columns):
    table = consistent(rows, columns)
    assert (check_sums(table).difference == 0).all()
    assert smallest_corrections(table).empty


@pytest.mark.parametrize(("row", "column"), [("r1", "c3"), ("r0", "c0"), ("r2", "total"), ("total", "c1")])
def test_one_planted_error_is_found_in_body_and_totals(row, column):
    table = consistent()
    true = int(table.loc[row, column])
    table.loc[row, column] = true + 37
    found = smallest_corrections(table)
    assert found[["row", "column", "printed", "corrected"]].to_numpy().tolist() == [
        [row, column, true + 37, true]
    ]


def test_two_planted_errors_are_found_and_their_kind_is_named():
    table = consistent()
    table.loc["r0", "c1"], table.loc["r2", "c4"] = 1243, 5176
    for name in ("r0", "r1", "r2"):
        table.loc[name, "total"] = table.loc[name].drop("total").sum()
    table.loc["total"] = table.drop("total").sum()
    table.loc["r0", "c1"], table.loc["r2", "c4"] = 1423, 5186  # 2 and 4 swapped; 7 read as 8
    found = smallest_corrections(table).set_index("row")
    assert found.corrected.to_dict() == {"r0": 1243, "r2": 5176}
    assert found.slip.to_dict() == {"r0": "digits swapped", "r2": "one digit"}


def test_equally_small_explanations_are_all_returned():
    table = consistent()
    table.loc["r0", "c0"] += 50
    table.loc["r1", "c1"] += 50
    found = smallest_corrections(table)
    pairs = {frozenset(zip(g.row, g.column, strict=True)) for _, g in found.groupby("explanation")}
    assert pairs == {frozenset({("r0", "c0"), ("r1", "c1")}), frozenset({("r0", "c1"), ("r1", "c0")})}


def test_published_table_1_has_four_wrong_lines_and_one_explanation_in_two_cells():
    table = pd.read_csv(PAPER / "table1.csv").pivot(index="split", columns="magnification", values="patches")
    wrong = check_sums(table).query("difference != 0").set_index("name")
    assert wrong["sum"].to_dict() == {"validation": 13183, "test": 11258, "30X": 17042, "40X": 17954}
    found = smallest_corrections(table).sort_values("row", ascending=False)
    assert found.drop(columns="explanation").to_numpy().tolist() == [
        ["validation", "30X", 3504, 3054, "digits swapped"],
        ["test", "40X", 3166, 3116, "one digit"],
    ]


def test_table_a1_keeps_the_printed_values():
    table = pd.read_csv(PAPER / "table_a1.csv")
    wide = table.pivot(index="tap", columns="condition", values="r2_test")
    assert wide.shape == (13, 3)
    assert wide.loc["mixed1"].to_dict() == {"imagenet": -2.39, "random": -331, "shuffled": -20.1}
    assert wide.loc["softmax"].to_dict() == {"imagenet": -3861, "random": -0.13, "shuffled": -11077}
