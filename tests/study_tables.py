"""Synthetic tables in the form of the layer-wise study, and the interval of a mean written out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from scalelib.results import Run

N_TRAIN, N_TEST = 70, 30
LOW, MID, HIGH = [0.10, 0.12, 0.14], [0.40, 0.44, 0.42], [0.80, 0.78, 0.82]


def layerwise(
    taps: Mapping[str, Sequence[float]],
    *,
    network: str = "net",
    weights: str = "imagenet",
    condition: str = "true",
    estimator: str = "ridge",
    measure: str = "sqrt_area_ratio",
    spread: float = 0.04,
    seeds: Sequence[int] = (-1,),
    classes: Sequence[str] = ("bird", "car"),
) -> pd.DataFrame:
    """One row per tap, class, seed and repeat; classes differ by ``spread`` about each value given."""
    offsets = np.linspace(-spread, spread, len(classes)) if len(classes) > 1 else [0.0]
    rows = [
        {"tap": tap, "channels": 8, "n_train": N_TRAIN, "n_test": N_TEST, "repeat": repeat, "r2_test": value + offset,
         "object_class": name, "weights_seed": seed, "network": network, "weights": weights, "condition": condition,
         "estimator": estimator, "measure": measure}
        for seed in seeds
        for name, offset in zip(classes, offsets, strict=True)
        for tap, values in taps.items()
        for repeat, value in enumerate(values)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def corrected(values: Sequence[float], share: float = 1.4 * N_TEST / N_TRAIN) -> tuple[float, float, float]:
    """Mean and 95 % interval with the corrected resampled variance (Nadeau and Bengio 2003, widened)."""
    j = len(values)
    mean = sum(values) / j
    variance = sum((value - mean) ** 2 for value in values) / (j - 1)
    half = stats.t.ppf(0.975, j - 1) * ((1 / j + share) * variance) ** 0.5
    return mean, mean - half, mean + half


def archive(root: Path, profile: str, notebook: str, **tables: pd.DataFrame) -> None:
    """Write tables as one notebook's results, with a card."""
    tables = {"layerwise_r2.csv.gz" if name == "layerwise_r2" else name: t for name, t in tables.items()}
    Run(notebook, profile=profile, parameters={}, folder=root / profile / notebook).write(tables)
