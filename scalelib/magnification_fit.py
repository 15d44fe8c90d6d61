"""An estimator of magnification from patches of slides: a network's features, then the fit.

Ties datasets and networks to scalelib.magnification; the command line and notebooks use it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from scalelib.activations import extract
from scalelib.datasets.base import Dataset
from scalelib.errors import DataError
from scalelib.magnification import MagnificationEstimator, fit_magnification
from scalelib.magnification_images import load_described
from scalelib.networks import Network

DEFAULT_NETWORK: dict[str, Any] = {
    "name": "MobileNet",
    "tap": "conv_pw_5",
    "weights": "imagenet",
    "options": {"alpha": 0.25, "include_top": False},
}


def fit_estimator(
    patches: Dataset,
    *,
    network: Mapping[str, Any] = DEFAULT_NETWORK,
    loaded: Network | None = None,
) -> MagnificationEstimator:
    """Fit an estimator on the training patches of slides, calibrated on those held out.

    Parameters
    ----------
    patches : Dataset
        Square patches; `table` with ``slide, split, magnification``. Test patches are not looked at.
    network : mapping, default=DEFAULT_NETWORK
        ``name, tap, weights, options`` as :func:`~scalelib.magnification_images.describe_network`
        takes them; the size of the patches becomes its input size.
    loaded : Network, optional
        The network of that description where it is at hand; otherwise it is loaded.

    Returns
    -------
    MagnificationEstimator
        Keeps the network's description and digest, and what the patches were.

    Raises
    ------
    DataError
        If patches are not square, or not of one size.
    NetworkError, WeightsError
        As :func:`~scalelib.networks.load_network`.
    ResultsError
        If there are no training or no validation patches.

    Examples
    --------
    >>> import pandas as pd
    >>> pixels = np.random.default_rng(0).integers(0, 255, (8, 32, 32, 3), dtype=np.uint8)
    >>> table = pd.DataFrame({"slide": list("aaaabbbb"), "split": ["train"] * 4 + ["validation"] * 4,
    ...                       "magnification": [10.0, 10.0, 20.0, 20.0] * 2})
    >>> found = fit_estimator(Dataset("noise", pixels, table), network=DEFAULT_NETWORK | {"weights": "random"})
    >>> found.data["slides"], found.patch_size
    ({'train': 1, 'validation': 1}, 32)
    """
    rows = np.flatnonzero(patches.table["split"] != "test")
    height, width = np.shape(patches.images[int(rows[0])])[:2] if len(rows) else (0, 0)
    if not height == width > 0:
        raise DataError(f"fit_estimator: patches are square.\nReceived: {len(rows)} of {width}×{height} px.")
    table = patches.table.iloc[rows]
    net = loaded or load_described({**network, "input_size": height})
    tap = network["tap"]
    features = extract(net, (patches.images[int(i)] for i in rows), taps=[tap])[tap]
    return fit_magnification(
        features,
        table,
        patch_size=height,
        network={
            **network,
            "input_size": height,
            "weights_label": net.weights,
            "weights_digest": net.weights_digest,
        },
        data={
            "name": patches.name,
            "source": patches.source,
            "digest": patches.digest,
            "slides": {str(k): int(v) for k, v in table.groupby("split")["slide"].nunique().items()},
            "patches": len(table),
        },
    )
