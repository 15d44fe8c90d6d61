"""Finished transfer runs at work on patches that they have never seen.

Knows networks and finished runs; trains nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scalelib.batches import Batches
from scalelib.errors import ResultsError
from scalelib.networks import load_network
from scalelib.novelty import conformal_quantile
from scalelib.pruning import prune
from scalelib.training import target_scaling
from scalelib.transfer import TransferNetwork, target_values
from scalelib.transfer_results import DONE, WEIGHTS, run_name
from scalelib.transfer_scores import RUN


def predict_images(
    network: TransferNetwork,
    row: str,
    patches: Mapping[str, np.ndarray],
    folder: str | Path,
    table: pd.DataFrame,
    *,
    seeds: Iterable[int],
    target: str = "log2_magnification",
) -> dict[str, np.ndarray]:
    """Predictions of finished runs for the patches of new images.

    Parameters
    ----------
    network : TransferNetwork
    row : {"pretrained", "scratch", "pruned"}
    patches : mapping of str to ndarray of shape (n, side, side, 3), uint8
        By image; of the side that the runs were trained on.
    folder : path-like
        Parent of all runs.
    table : pandas.DataFrame
        The patches that the runs were trained on: their targets' mean and deviation scale the output back.
    seeds : iterable of int
    target : {"area", "log2_magnification"}, default="log2_magnification"

    Returns
    -------
    dict of str to ndarray of float64, shape (n_seeds, n_patches)
        By image, in the target's units. Runs with ``target_scaling="standard"`` are meant.

    Raises
    ------
    ResultsError
        If a run is not finished.
    """
    tap = network.pruned_tap if row == "pruned" else network.full_tap
    pixels = np.concatenate(list(patches.values()))
    side = int(pixels.shape[1])
    net = load_network(
        network.name, weights="random" if row == "scratch" else network.weights, input_size=side,
        **network.options,
    )  # fmt: skip
    model = prune(net, at=tap, outputs=1)
    training = target_values(table, target)[(table["split"] == "train").to_numpy()]
    shift, scale = target_scaling(training, "standard", "predict_images")
    data = Batches(pixels, np.zeros(len(pixels)), np.arange(len(pixels)), net.preprocess, batch_size=64)
    found = []
    for seed in seeds:
        named: dict[str, Any] = dict(zip(RUN, (network.label, row, tap, target, seed), strict=True))
        place = Path(folder) / run_name(**named)
        if not (place / DONE).exists():
            raise ResultsError(
                f"predict_images: no finished run {place.name}.\nReceived: folder {Path(folder).name}.\n"
                "Train it with run_transfer."
            )
        model.load_weights(place / WEIGHTS)
        found.append(np.asarray(model.predict(data, verbose=0), np.float64)[:, 0] * scale + shift)
    ends = np.cumsum([len(own) for own in patches.values()])[:-1]
    return dict(zip(patches, np.split(np.stack(found), ends, axis=1), strict=True))


def slide_reach(predictions: pd.DataFrame, *, level: float = 0.9) -> float:
    """How far the median over a slide's patches may lie from the truth, in octaves, calibrated on validation slides.

    Parameters
    ----------
    predictions : pandas.DataFrame
        Of the target ``log2_magnification``: ``split, slide, magnification, image, predicted``; seeds are averaged.
    level : float, default=0.9

    Returns
    -------
    float
        Infinite where there are too few slides and magnifications for the level.

    Notes
    -----
    Split conformal prediction over slides × magnifications, as in :func:`scalelib.magnification.fit_magnification`.
    """
    held_out = predictions[predictions["split"] == "validation"]
    patches = held_out.groupby(["slide", "magnification", "image"])["predicted"].mean()
    medians = patches.groupby(["slide", "magnification"]).median().reset_index()
    residuals = (medians["predicted"] - np.log2(medians["magnification"])).abs()
    return float(conformal_quantile(np.sort(residuals.to_numpy()), level))


def summarize_images(octaves: Mapping[str, np.ndarray], reach: float) -> pd.DataFrame:
    """One magnification per image from predictions per seed and patch.

    Parameters
    ----------
    octaves : mapping of str to ndarray of shape (n_seeds, n_patches)
        From :func:`predict_images`, by image.
    reach : float
        From :func:`slide_reach`.

    Returns
    -------
    pandas.DataFrame
        One row per image: ``image``, ``patches``, ``transferred`` (median over patches of the mean over seeds),
        ``transferred_low``, ``transferred_high``.

    Examples
    --------
    >>> summarize_images({"a": np.full((2, 5), 4.0)}, 1.0).round(1).to_numpy().tolist()
    [['a', 5, 16.0, 8.0, 32.0]]
    """
    rows = []
    for image, values in octaves.items():
        middle = float(np.median(values.mean(axis=0)))
        rows.append(
            {
                "image": image,
                "patches": values.shape[1],
                "transferred": 2**middle,
                "transferred_low": 2 ** (middle - reach),
                "transferred_high": 2 ** (middle + reach),
            }
        )
    return pd.DataFrame(rows)
