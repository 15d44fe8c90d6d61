"""Archived tables beside what is computed today: reading, a registry of who recomputes what, and the comparison.

Knows result folders and tables; the tests know what they mean.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from scalebook.profiles import load_profile
from scalelib.datasets import Dataset, load_dataset
from scalelib.results import read_results
from studies.readings import Reading, read_networks

ROOT = Path(__file__).parents[1]
ARCHIVE = ROOT / "results" / "compact"
RECOMPUTED_BY: dict[str, list[Callable[..., None]]] = {}
"""Tests by the table that they recompute, such as ``04_layerwise_r2/curves``."""
ROUNDED = {"rel": 1e-4, "abs": 1e-4}
"""For what follows from an archived table: its numbers are kept to six digits, and sums of them lose one or two."""

Test = TypeVar("Test", bound=Callable[..., None])


def recomputes(*tables: str) -> Callable[[Test], Test]:
    """Say which tables, ``notebook/table``, a test recomputes rows of."""

    def register(test: Test) -> Test:
        for name in tables:
            RECOMPUTED_BY.setdefault(name, []).append(test)
        return test

    return register


def archived(name: str) -> pd.DataFrame:
    """A table of the archive, ``notebook/table``; its folder's files are checked against the card."""
    return _read(name).copy()


@cache
def _read(name: str) -> pd.DataFrame:
    notebook, table = name.split("/")
    return read_results(ARCHIVE / notebook).table(table)


@cache
def settings(notebook: str) -> dict[str, Any]:
    """The parameters that the archived run of a notebook was given by its profile."""
    return dict(load_profile(ROOT / "profiles" / "compact.yaml").notebooks[notebook])


def network_of(notebook: str, label: str, weights: str = "imagenet") -> dict[str, Any]:
    """One network of a notebook's profile; trained ones by ``imagenet``, whatever file they come from."""
    kinds = {
        "imagenet": lambda spec: spec["weights"] != "random",
        "random": lambda spec: spec["weights"] == "random",
    }
    [spec] = [
        spec for spec in settings(notebook)["networks"] if spec["label"] == label and kinds[weights](spec)
    ]
    return dict(spec)


@cache
def photographs() -> Dataset:
    """The photographs of all classes that notebooks 04, 06 and 07 read."""
    options = settings("04_layerwise_r2")["dataset_options"]
    assert all(
        settings(name)["dataset_options"] == options
        for name in ("06_early_features", "07_interpolation_peak")
    )
    return load_dataset(settings("04_layerwise_r2")["dataset"], **options)


@cache
def patches() -> Dataset:
    """The patches of tissue that notebooks 01 and 05 read; cut from annotations, no pixel is read but to find tissue."""
    one, other = (settings(name) for name in ("01_datasets", "05_histopathology_transfer"))
    assert one["dataset_options"] == other["dataset_options"]
    return load_dataset(one["dataset"], **one["dataset_options"])


@cache
def read_all(label: str, *, also: tuple[str, ...] = ()) -> Reading:
    """All photographs read once by one trained network at the taps of notebook 04, and those of `also` first."""
    spec = network_of("04_layerwise_r2", label)
    [probe] = read_networks([spec], photographs().images[:1])
    [reading] = read_networks([spec], photographs().images, taps=[*also, *probe.activations])
    return reading


def agree(
    name: str,
    again: pd.DataFrame,
    *,
    keys: Sequence[str],
    stored: pd.DataFrame | None = None,
    whole: bool = False,
    rel: float = 0.0,
    abs: float = 0.0,
    loose: dict[str, float] | None = None,
) -> None:
    """Fail, naming table, row, column and both numbers, unless recomputed rows are those of the archive.

    Parameters
    ----------
    name : str
        ``notebook/table``.
    again : DataFrame
        Recomputed rows; every one must be in the archive, with all columns that `again` has.
    keys : sequence of str
        Columns that tell rows apart, compared exactly (numbers to six digits).
    stored : DataFrame, optional
        The archived rows that are meant. Default: the whole table.
    whole : bool
        Whether `again` must have every archived row and column.
    rel, abs : float
        Tolerance of numbers: the larger of `rel` × the archived number, and `abs`. Words, flags and NaN are exact.
    loose : dict of str to float, optional
        Absolute tolerance of single columns instead.
    """
    stored = archived(name) if stored is None else stored
    left, right = _keyed(stored, keys), _keyed(again, keys)
    for what, table in (("archived", left), ("recomputed", right)):
        assert table.index.is_unique, (
            f"{name}: {what} rows twice, the first {_where(keys, table.index[table.index.duplicated()][0])}"
        )
    missing = right.index.difference(left.index, sort=False)
    assert not len(missing), (
        f"{name}: {len(missing)} recomputed rows are not archived, the first {_where(keys, missing[0])}"
    )
    if whole:
        extra = left.index.difference(right.index, sort=False)
        assert not len(extra), (
            f"{name}: {len(extra)} archived rows do not follow, the first {_where(keys, extra[0])}"
        )
        assert set(left.columns) == set(right.columns), f"{name}: columns {sorted(set(left) ^ set(right))}"
    left = left.loc[right.index]
    assert len(left), f"{name}: nothing to compare"
    for column in right.columns:
        allowed = (
            {"rel": 0.0, "abs": loose[column]} if loose and column in loose else {"rel": rel, "abs": abs}
        )
        wrong = _differ(left[column], right[column], **allowed)
        if wrong.any():
            at = int(np.flatnonzero(wrong)[0])
            raise AssertionError(
                f"{name}: {int(wrong.sum())} of {len(left)} values of {column!r} are not what is computed today, the first at "
                f"{_where(keys, left.index[at])}: archived {left[column].iloc[at]!r}, recomputed {right[column].iloc[at]!r}"
            )


def _keyed(table: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    index = [[f"{v:.6g}" if isinstance(v, float) else str(v) for v in table[key]] for key in keys]
    return table.drop(columns=list(keys)).set_axis(pd.MultiIndex.from_arrays(index), axis=0)


def _where(keys: Sequence[str], row: Any) -> str:
    return ", ".join(f"{key}={value}" for key, value in zip(keys, row, strict=True))


def _differ(a: pd.Series, b: pd.Series, *, rel: float, abs: float) -> np.ndarray:
    if not (pd.api.types.is_numeric_dtype(a) and pd.api.types.is_numeric_dtype(b)):
        return ~((a.isna() & b.isna()) | (a.astype(str) == b.astype(str))).to_numpy()
    x, y = a.to_numpy(float), b.to_numpy(float)
    with np.errstate(invalid="ignore"):
        near = np.abs(x - y) <= np.maximum(rel * np.abs(x), max(abs, 1e-12))
    # archived numbers have six digits; what is equal before rounding is equal
    return ~(near | (x == y) | (np.isnan(x) & np.isnan(y)) | np.isclose(x, y, rtol=6e-6, atol=0))
