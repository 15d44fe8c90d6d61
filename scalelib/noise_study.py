"""The loops of section 4.2: noise of several kinds, read at its own size with and without borders.

Here the parts meet: noise is read and regressed. What the parts do is theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from scalelib.datasets.base import Dataset
from scalelib.datasets.noise import correlation_length, noise_field, render_noise
from scalelib.errors import NetworkError
from scalelib.native import border_free, read_by_size
from scalelib.networks import Network
from scalelib.regression import layerwise_r2
from scalelib.statistics import summarize

WHOLE, INNER = "whole map", "border-free"
"""Where a map is averaged: everywhere, or only where no border of the image is seen."""


def check_lengths(
    lengths: Sequence[float], *, size: int = 128, fields: int = 20, random_state: int = 0
) -> pd.DataFrame:
    """Requested against measured correlation length of blob noise.

    Parameters
    ----------
    lengths : sequence of float
        Requested correlation lengths in pixels.
    size : int, default=128
        Side of the canvas in pixels.
    fields : int, default=20
        Fields per length.
    random_state : int, default=0
        Seed.

    Returns
    -------
    pandas.DataFrame
        ``requested``, ``measured`` (mean) and ``sd``, in pixels.

    Examples
    --------
    >>> bool(abs(check_lengths([3.0]).measured.item() - 3.0) < 0.15)
    True
    """
    rng = np.random.default_rng(random_state)
    rows = []
    for length in lengths:
        measured = [
            correlation_length(noise_field(size, correlation_length=length, random_state=rng))
            for _ in range(fields)
        ]
        rows.append({"requested": length, "measured": np.mean(measured), "sd": np.std(measured, ddof=1)})
    return pd.DataFrame(rows)


def examples(
    canvas_sizes: Sequence[int], correlation_lengths: Sequence[float], *, exponent: float = 2.0
) -> dict[str, np.ndarray]:
    """A small and a large canvas of every kind of noise, to look at.

    Parameters
    ----------
    canvas_sizes : sequence of int
        The smallest and the largest, in pixels, are shown.
    correlation_lengths : sequence of float
        Of blob noise, in pixels: the least and the greatest are shown.
    exponent : float, default=2.0
        Of the power spectrum of 1/f noise.

    Returns
    -------
    dict of str to ndarray of uint8, shape (side, side, 3)
        By title.

    Examples
    --------
    >>> [len(image) for image in examples([16, 32], [1.0, 2.0]).values()]
    [16, 16, 16, 32, 32, 32]
    """
    shown = {}
    for size in (min(canvas_sizes), max(canvas_sizes)):
        for length in (min(correlation_lengths), max(correlation_lengths)):
            blob = render_noise(1, canvas_sizes=[size], correlation_lengths=(length, length))
            shown[f"blob, {size} px, length {length:g} px"] = blob.images[0]
        if size == min(canvas_sizes):
            shown[f"white, {size} px"] = render_noise(1, kind="white", canvas_sizes=[size]).images[0]
        else:
            power = render_noise(1, kind="power", canvas_sizes=[size], exponent=exponent)
            shown[f"1/f, {size} px"] = power.images[0]
    return shown


def noise_r2(
    net: Network,
    noise: Dataset,
    *,
    measures: Sequence[str] = ("canvas_size", "correlation_length"),
    regions: Sequence[str] = (WHOLE, INNER),
    **options: Any,
) -> pd.DataFrame:
    """Held-out R² per tap of what noise images differ in.

    Parameters
    ----------
    net : Network
        For any size; see :func:`scalelib.native.any_size`.
    noise : Dataset
        From :func:`scalelib.datasets.noise.render_noise`.
    measures : sequence of str
        Columns of its table, in pixels; those without values for this kind of noise are left out.
    regions : sequence of str
        ``"whole map"``, and ``"border-free"`` for the taps that have positions without a border in the
        smallest canvas.
    **options
        Further options of :func:`scalelib.regression.layerwise_r2`.

    Returns
    -------
    pandas.DataFrame
        Its rows with ``kind``, ``measure`` and ``region``.

    Examples
    --------
    >>> from scalelib.datasets.noise import render_noise
    >>> from scalelib.native import padding_probe
    >>> noise = render_noise(40, canvas_sizes=(16, 32, 48), correlation_lengths=(1.0, 2.0))
    >>> table = noise_r2(padding_probe(padding="same"), noise, repeats=2, estimator="ridge")
    >>> sorted(table.region.unique())
    ['border-free', 'whole map']
    """
    acts = _read_regions(net, noise, regions)
    parts = []
    for measure in measures:
        values = noise.table[measure].to_numpy(dtype=float)
        if np.isnan(values).any():
            continue
        for region, by_tap in acts.items():
            part = layerwise_r2(by_tap, values, **options)
            parts.append(part.assign(kind=noise.table.object_class.iloc[0], measure=measure, region=region))
    return pd.concat(parts, ignore_index=True)


def _read_regions(
    net: Network, noise: Dataset, regions: Sequence[str]
) -> Mapping[str, dict[str, np.ndarray]]:
    """One forward pass for all regions."""
    networks = {WHOLE: net} if WHOLE in regions else {}
    if INNER in regions:
        with suppress(NetworkError):  # where no tap is that early the whole map stands alone
            networks[INNER] = border_free(net, int(noise.table.canvas_size.min()))
    taps = {f"{region}/{tap}": layer for region, one in networks.items() for tap, layer in one.taps.items()}
    steps = networks[INNER].steps if INNER in networks else net.steps
    acts = read_by_size(replace(net, taps=taps, steps=steps), noise.images)
    return {region: {tap: acts[f"{region}/{tap}"] for tap in one.taps} for region, one in networks.items()}


def summarize_noise(table: pd.DataFrame) -> pd.DataFrame:
    """Mean R² and 95 % interval of every curve; for random weights the weight seed is the unit.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows of :func:`noise_r2` with ``network``, ``weights`` and ``weights_seed``.

    Returns
    -------
    pandas.DataFrame
        See :func:`scalelib.statistics.summarize`; by network, weights, kind, measure, region, tap,
        estimator and condition.
    """
    by = ["network", "weights", "kind", "measure", "region", "tap", "estimator", "condition"]
    parts = [
        summarize(rows, by=by, unit="weights_seed" if weights == "random" else "repeat")
        for weights, rows in table.groupby("weights", sort=False)
    ]
    return pd.concat(parts, ignore_index=True)
