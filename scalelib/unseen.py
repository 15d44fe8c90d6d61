"""Images that no network of a study has seen: what they state, and what their pixels say.

Ties images, the linear estimator and transferred networks together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scalelib.activations import extract
from scalelib.datasets.stated_scale import stated_scale
from scalelib.magnification import MagnificationEstimator
from scalelib.magnification_images import check_weights, image_patches, load_described


def unseen_images(
    specs: Iterable[Mapping[str, Any]],
    estimator: MagnificationEstimator,
    *,
    root: str | PathLike[str] = ".",
    level: float = 0.9,
) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Estimate the magnification of images at known downsamplings.

    Parameters
    ----------
    specs : iterable of mapping
        ``image`` (a path below `root`, or pixels), ``label``, and optionally ``downsample`` (default ``[1]``): pixels
        of the image per pixel of a patch, each at least 1.
    estimator : MagnificationEstimator
    root : path-like, default="."
    level : float, default=0.9
        Of the intervals.

    Returns
    -------
    table : pandas.DataFrame
        One row per image and downsampling: ``image`` (label and downsampling), ``stated`` (in words),
        ``magnification`` (stated, divided by the downsampling; NaN where nothing is stated), ``patches``, ``estimate``,
        ``low``, ``high``, ``novelty``, ``refused``.
    patches : dict of str to ndarray of shape (n, side, side, 3), uint8
        What was looked at, by ``image``.

    Raises
    ------
    DataError
        If an image cannot be read, or is smaller than a patch.
    ResultsError
        If the network's weights are not those that the estimator was fitted with.
    """
    network = load_described(estimator.network)
    check_weights(network, estimator)
    tap = estimator.network["tap"]
    rows, patches = [], {}
    for spec in specs:
        is_file = not isinstance(spec["image"], np.ndarray)
        image = Path(root) / spec["image"] if is_file else spec["image"]
        stated = stated_scale(image) if is_file else None
        for factor in spec.get("downsample", [1]):
            name = spec["label"] + (f", {factor:g} times smaller" if factor != 1 else "")
            patches[name] = image_patches(image, size=estimator.patch_size, downsample=factor)
            found = estimator.estimate(extract(network, patches[name], taps=[tap])[tap], level=level)
            magnification = (stated.magnification if stated else None) or np.nan
            rows.append(
                {
                    "image": name,
                    "stated": str(stated) if stated else "nothing",
                    "magnification": magnification / factor,
                    "patches": found.patches,
                    "estimate": found.magnification,
                    "low": found.low,
                    "high": found.high,
                    "novelty": found.novelty,
                    "refused": found.refused,
                }
            )
    return pd.DataFrame(rows), patches


def beside_transferred(found: pd.DataFrame, transferred: pd.DataFrame) -> pd.DataFrame:
    """Estimates with those of transferred networks, which refuse nothing themselves: where one is refused, both are.

    Parameters
    ----------
    found : pandas.DataFrame
        From :func:`unseen_images`.
    transferred : pandas.DataFrame
        From :func:`scalelib.transferred.summarize_images`.

    Returns
    -------
    pandas.DataFrame
        With ``transferred, transferred_low, transferred_high``; NaN where refused.

    Examples
    --------
    >>> found = pd.DataFrame({"image": ["a", "b"], "refused": ["", "unlike tissue"]})
    >>> values = dict.fromkeys(["transferred", "transferred_low", "transferred_high"], [10.0, 20.0])
    >>> beside_transferred(found, pd.DataFrame({"image": ["a", "b"], **values})).transferred.tolist()
    [10.0, nan]
    """
    columns = ["transferred", "transferred_low", "transferred_high"]
    both = found.merge(transferred[["image", *columns]], on="image", validate="one_to_one")
    both.loc[both["refused"] != "", columns] = np.nan
    return both
