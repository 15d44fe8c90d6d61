"""Splits of slides by patient, and the counts of patches that make the paper's Table 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from scalelib.errors import DataError

SPLITS = ("train", "validation", "test")


def draw_groups(groups: Sequence[str], n: int, *, random_state: int = 0) -> set[str]:
    """Draw some groups, for a validation or test part.

    Parameters
    ----------
    groups : sequence of str
        The group (patient or slide) of each slide.
    n : int
        How many groups to draw; at least one must remain.
    random_state : int, default=0

    Returns
    -------
    set of str

    Raises
    ------
    DataError
        If fewer than `n` + 1 different groups are there: a split with one slide cannot be divided.

    Examples
    --------
    >>> len(draw_groups(["a", "b", "c", "c"], 2))
    2
    """
    different = sorted(set(groups))
    if not 1 <= n < len(different):
        raise DataError(
            "draw_groups: a part is drawn from more groups than it has.\n"
            f"Received: n={n} of {len(different)} different groups.\n"
            "Split by patient or slide needs at least two of them; patches of one slide are never divided."
        )
    return set(np.random.default_rng(random_state).permutation(different)[:n].tolist())


def check_splits(slides: Sequence[str], groups: Sequence[str], splits: Sequence[str]) -> None:
    """Refuse slides that occur twice, unknown split names, and groups that lie in two splits.

    Parameters
    ----------
    slides, groups, splits : sequences of str, one entry per slide

    Raises
    ------
    DataError

    Examples
    --------
    >>> check_splits(["s1", "s2"], ["p1", "p2"], ["train", "test"])
    """
    table = pd.DataFrame({"slide": slides, "group": groups, "split": splits}, dtype=str)
    twice = table.slide[table.slide.duplicated()].tolist()
    if twice:
        raise DataError(f"slides: each name occurs once.\nReceived twice: {twice}.")
    unknown = sorted(set(table.split) - set(SPLITS))
    if unknown:
        raise DataError(f"slides: a split is one of {', '.join(SPLITS)}.\nReceived: {unknown}.")
    count = table.groupby("group").split.nunique()
    if (count > 1).any():
        raise DataError(
            "slides: all slides of a patient lie in one split.\n"
            f"Received: {sorted(count.index[count > 1])} in several.\nSplit by group, never by slide or patch."
        )


def count_table(table: pd.DataFrame) -> pd.DataFrame:
    """Patches per split and magnification, with totals, in the form of the paper's Table 1.

    Parameters
    ----------
    table : pandas.DataFrame
        Columns ``split`` and ``magnification``.

    Returns
    -------
    pandas.DataFrame
        Index ``train, validation, test, total`` (those that occur); columns ``5X`` … and ``total``.

    Examples
    --------
    >>> counts = count_table(pd.DataFrame({"split": ["train", "test"], "magnification": [5.0, 40.0]}))
    >>> counts.loc["total"].tolist()
    [1, 1, 2]
    """
    order: list[Any] = [split for split in SPLITS if split in set(table["split"])]
    counts = pd.crosstab(table["split"], table["magnification"]).loc[order]
    counts.columns = pd.Index([f"{m:g}X" for m in counts.columns])
    counts["total"] = counts.sum(axis=1)
    counts.loc["total"] = counts.sum()
    counts.index.name = "split"
    return counts
