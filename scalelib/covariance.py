"""How much of a feature's variance is owed to scale alone, in paired scenes. Knows arrays only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from scalelib.errors import DataError
from scalelib.validation import check_activations, check_labels

__all__ = ["variance_explained_by_scale"]


def variance_explained_by_scale(
    acts: Mapping[str, Any], scene: Any, scale: Any, *, within: Any = None
) -> pd.DataFrame:
    r"""Share of each tap's variance that the main effect of scale explains.

    Parameters
    ----------
    acts : mapping of str to array_like, shape (n_images, channels)
        Pooled activations per tap, finite.
    scene : array_like, shape (n_images,)
        Which scene each row shows, such as ``render_paired_scenes(…).table.scene``.
    scale : array_like, shape (n_images,)
        The scale it is shown at. Every scene comes once at every scale, in any order.
    within : array_like, shape (n_images,), optional
        Labels, such as the object class. The share is then taken within each label and averaged
        over labels, which keeps the variance *between* classes out of the total: near its logits a
        classifier holds little else, so that every other share shrinks there whatever scale does.

    Returns
    -------
    pandas.DataFrame
        One row per tap, in the order of `acts`: ``tap``, ``channels``, ``variance_explained`` in
        [0, 1]. 0 for a tap whose mean over scenes does not change with scale, 1 for one that holds
        nothing else, NaN for one that is constant.

    Raises
    ------
    DataError
        If lengths differ, activations are not finite, there are fewer than two scenes (of every
        label) or two scales, or a scene is not there exactly once at every scale.

    Notes
    -----
    With :math:`\bar x_s` the mean over the scenes at scale :math:`s` and :math:`\bar x` the mean
    over everything, the share is :math:`n \sum_s \lVert \bar x_s - \bar x \rVert^2 / \sum_{i,s}
    \lVert x_{is} - \bar x \rVert^2` (two-way analysis of variance without replicates; Fisher 1925),
    summed over channels, so that channels weigh by their variance. It is the main effect, on
    purpose: variance *within* scenes also holds the interaction of scene and scale, which grows
    with depth in random networks too.

    Examples
    --------
    >>> scene, scale = np.repeat([0, 1], 2), np.tile([0.2, 0.8], 2)
    >>> acts = {"invariant": scene[:, None], "covariant": scale[:, None]}
    >>> variance_explained_by_scale(acts, scene, scale).variance_explained.tolist()
    [0.0, 1.0]
    """
    operation = "variance_explained_by_scale"
    scene, scale = np.asarray(scene), np.asarray(scale)
    if scene.ndim != 1 or scene.shape != scale.shape:
        raise DataError(
            "variance_explained_by_scale: scene and scale have one entry per image each.\n"
            f"Received: shapes {scene.shape} and {scale.shape}.\nPass two columns of the dataset's table."
        )
    acts = check_activations(acts, len(scene), operation=operation)
    labels = check_labels(within, len(scene), name="within", operation=operation)
    parts = (
        [np.arange(len(scene))]
        if labels is None
        else [np.flatnonzero(labels == k) for k in np.unique(labels)]
    )
    shares = np.array([_shares(acts, scene, scale, rows) for rows in parts])
    channels = [activations.shape[1] for activations in acts.values()]
    return pd.DataFrame({"tap": list(acts), "channels": channels, "variance_explained": shares.mean(axis=0)})


def _shares(
    acts: Mapping[str, np.ndarray], scene: np.ndarray, scale: np.ndarray, rows: np.ndarray
) -> list[float]:
    """The share of every tap over some rows."""
    n_scales = _check_paired(scene[rows], scale[rows])
    rows = rows[np.lexsort((scene[rows], scale[rows]))]
    shares = []
    for activations in acts.values():
        by_scale = np.asarray(activations, np.float64)[rows].reshape(n_scales, -1, activations.shape[1])
        deviations = by_scale - by_scale.mean(axis=(0, 1))
        explained = (deviations.mean(axis=1) ** 2).sum() * by_scale.shape[1]
        varies = np.ptp(by_scale, axis=(0, 1)).any()
        shares.append(float(min(explained / (deviations**2).sum(), 1.0)) if varies else np.nan)
    return shares


def _check_paired(scene: np.ndarray, scale: np.ndarray) -> int:
    counts = pd.crosstab(scene, scale).to_numpy()
    if min(counts.shape, default=0) < 2 or not (counts == 1).all():
        raise DataError(
            "variance_explained_by_scale: every scene comes exactly once at every scale, and there are at "
            f"least two of both.\nReceived: {counts.shape[0]} scenes and {counts.shape[-1]} scales in "
            f"{len(scene)} images.\nRender them with render_paired_scenes, or drop incomplete scenes."
        )
    return counts.shape[1]
