"""Do a printed table's totals add up, and which cells would have to be wrong if they do not?

Pure arithmetic on counts with one row and one column of totals; knows nothing of any paper.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np
import pandas as pd

from scalelib.errors import DataError

TOTAL = "total"


def check_sums(table: pd.DataFrame) -> pd.DataFrame:
    """Compare every row and every column with its printed total.

    Parameters
    ----------
    table : pandas.DataFrame of int, shape (rows + 1, columns + 1)
        Counts, with a row and a column called ``"total"``.

    Returns
    -------
    pandas.DataFrame
        One row per line of the table: ``line`` (``"row"`` or ``"column"``), ``name``, ``printed``
        (the total as printed), ``sum`` (of the other cells), ``difference`` (sum minus printed).

    Raises
    ------
    DataError
        If a total is missing, a name stands twice, or a cell is no whole number.

    Examples
    --------
    >>> table = pd.DataFrame({"a": [1, 2, 3], "b": [4, 5, 9], "total": [5, 7, 13]}, ["x", "y", "total"])
    >>> wrong = check_sums(table).query("difference != 0")
    >>> wrong[["line", "name", "difference"]].to_numpy().tolist()
    [['row', 'total', -1], ['column', 'total', -1]]
    """
    counts = _counts(table)
    lines = []
    for line, cells in (("row", counts), ("column", counts.T)):
        sums = cells.drop(columns=TOTAL).sum(axis=1)
        for name in cells.index:
            lines.append((line, name, int(cells.loc[name, TOTAL]), int(sums[name])))
    sums_table = pd.DataFrame(lines, columns=["line", "name", "printed", "sum"])
    return sums_table.assign(difference=sums_table["sum"] - sums_table["printed"])


def smallest_corrections(table: pd.DataFrame, *, max_cells: int = 4) -> pd.DataFrame:
    """The smallest sets of cells whose correction makes every line add up.

    Every cell is suspect, totals included. Sets of one cell are tried first, then of two, and so on;
    the search stops at the first size at which something explains all differences, and returns
    everything of that size.

    Parameters
    ----------
    table : pandas.DataFrame of int, shape (rows + 1, columns + 1)
        Counts, with a row and a column called ``"total"``.
    max_cells : int, default=4
        Largest set that is tried.

    Returns
    -------
    pandas.DataFrame
        One row per corrected cell: ``explanation`` (counted from 1; more than one means that the sums
        cannot tell them apart), ``row``, ``column``, ``printed``, ``corrected``, ``slip``: ``"digits
        swapped"`` (two neighbouring digits), ``"one digit"`` (one digit misread) or ``"other"``.
        Empty if the table adds up.

    Raises
    ------
    DataError
        As :func:`check_sums`, and if no set of at most `max_cells` cells explains the differences.

    Notes
    -----
    A correction δ of one cell changes the difference of its row by δ and that of its column by δ (by −δ
    where the cell is that line's total). A set of cells explains the table if these linear equations
    have a solution with every corrected count at least 0.

    Examples
    --------
    >>> table = pd.DataFrame({"a": [1, 21, 13], "b": [4, 5, 9], "total": [5, 17, 22]}, ["x", "y", "total"])
    >>> smallest_corrections(table)[["row", "column", "printed", "corrected", "slip"]].to_numpy().tolist()
    [['y', 'a', 21, 12, 'digits swapped']]
    """
    counts = _counts(table)
    difference = check_sums(table)["difference"].to_numpy()
    columns = ["explanation", "row", "column", "printed", "corrected", "slip"]
    if not difference.any():
        return pd.DataFrame(columns=columns)
    effects = _effects(counts)
    for size in range(1, max_cells + 1):
        explanations = list(_explanations(counts, effects, difference, size))
        if explanations:
            return pd.DataFrame(
                [(number, *cell) for number, cells in enumerate(explanations, 1) for cell in cells],
                columns=columns,
            )
    wrong = int(np.count_nonzero(difference))
    raise DataError(
        f"smallest_corrections: no {max_cells} cells explain the table.\n"
        f"Received: {wrong} lines that do not add up.\nRaise max_cells."
    )


def _effects(counts: pd.DataFrame) -> np.ndarray:
    """What one unit more in each cell does to each line's difference, (lines, cells)."""
    n_rows, n_columns = counts.shape
    effects = np.zeros((n_rows + n_columns, n_rows * n_columns))
    for cell, (row, column) in enumerate(np.ndindex(n_rows, n_columns)):
        effects[row, cell] = -1 if counts.columns[column] == TOTAL else 1
        effects[n_rows + column, cell] = -1 if counts.index[row] == TOTAL else 1
    return effects


def _explanations(
    counts: pd.DataFrame, effects: np.ndarray, difference: np.ndarray, size: int
) -> Iterator[list[tuple[str, str, int, int, str]]]:
    printed = counts.to_numpy().ravel()
    for cells in combinations(range(printed.size), size):
        chosen = effects[:, cells]
        if not np.abs(chosen).sum(axis=1)[difference != 0].all():  # a wrong line without a suspect
            continue
        change = np.rint(np.linalg.lstsq(chosen, -difference, rcond=None)[0]).astype(int)
        corrected = printed[list(cells)] + change
        if (chosen @ change == -difference).all() and change.all() and (corrected >= 0).all():
            yield [
                (
                    counts.index[cell // counts.shape[1]],
                    counts.columns[cell % counts.shape[1]],
                    int(printed[cell]),
                    int(value),
                    _slip(int(printed[cell]), int(value)),
                )
                for cell, value in zip(cells, corrected, strict=True)
            ]


def _slip(printed: int, corrected: int) -> str:
    a, b = str(printed), str(corrected)
    places = [i for i in range(len(a)) if len(a) == len(b) and a[i] != b[i]]
    if len(places) == 1:
        return "one digit"
    if len(places) == 2 and places[1] == places[0] + 1 and sorted(a) == sorted(b):
        return "digits swapped"
    return "other"


def _counts(table: pd.DataFrame) -> pd.DataFrame:
    for axis, names in (("row", table.index), ("column", table.columns)):
        if TOTAL not in names or names.has_duplicates:
            raise DataError(
                f"check_sums: the table needs one {axis} called {TOTAL!r}, and no name twice.\n"
                f"Received: {axis}s {', '.join(map(str, names))}."
            )
    values = table.to_numpy(dtype=float)
    if not (np.isfinite(values) & (values == np.rint(values))).all():
        raise DataError("check_sums: counts are whole numbers.\nReceived: a fraction or an empty cell.")
    return table.astype(int)
