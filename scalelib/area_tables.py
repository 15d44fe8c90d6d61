"""Nucleus areas of patches, summarised: by magnification, split and slide, by class means, and by rule (§3.2, §3.5).

Knows tables of patches; reads no patch.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from scalelib.dataset_tables import QUANTILES, split_order
from scalelib.datasets.splits import SPLITS
from scalelib.errors import DataError
from scalelib.transfer_scores import agreement, class_means, nearest_magnification

PAPER_CLASS_MEANS = {5: 21.37, 8: 43.15, 10: 67.30, 15: 142.39, 20: 225.70, 30: 489.98, 40: 913.82}
"""Mean nucleus area in px of the paper's training patches at each magnification, from the authors' notebooks
(GitHub medgift/scale_covariant_pruning)."""

PAPER_MPP_TIMES_POWER = 10.0
"""Micrometres per pixel × magnification by convention: the paper's images are 40X with 0.25 µm."""


def area_summary(table: pd.DataFrame) -> pd.DataFrame:
    """Distribution of a patch's mean nucleus area, by magnification and split.

    Parameters
    ----------
    table : pandas.DataFrame
        Patches, with ``split, magnification, mean_area_px, mean_area_um2``.

    Returns
    -------
    pandas.DataFrame
        One row per unit (``px``, ``um2``), split and magnification: ``patches, mean, sd, q05, q25, q50, q75, q95``.
    """
    rows = []
    for unit in ("px", "um2"):
        for (split, magnification), part in table.groupby(["split", "magnification"], sort=True):
            values = part[f"mean_area_{unit}"]
            quantiles = {f"q{100 * q:02.0f}": values.quantile(q) for q in QUANTILES}
            row = {"unit": unit, "split": split, "magnification": magnification, "patches": len(values)}
            rows.append(row | {"mean": values.mean(), "sd": values.std(ddof=1)} | quantiles)
    found = pd.DataFrame(rows)
    return found.sort_values(["unit", "split"], key=split_order, kind="stable").reset_index(drop=True)


def means_beside_paper(table: pd.DataFrame) -> pd.DataFrame:
    """Class means of the training patches beside the paper's, in px and µm².

    Parameters
    ----------
    table : pandas.DataFrame
        Patches.

    Returns
    -------
    pandas.DataFrame
        One row per magnification: ``ours_px, ours_um2, paper_px, paper_um2`` (the paper's by the convention of 0.25 µm
        at 40X; NaN at a magnification that the paper has not).
    """
    px = class_means(table)
    um2 = table[table["split"] == "train"].groupby("magnification")["mean_area_um2"].mean()
    paper = pd.Series(PAPER_CLASS_MEANS, dtype=float).reindex(px.index)
    spacing = PAPER_MPP_TIMES_POWER / px.index.to_numpy(float)
    found = pd.DataFrame({"ours_px": px, "ours_um2": um2, "paper_px": paper, "paper_um2": paper * spacing**2})
    return found.rename_axis("magnification").reset_index()


def spread_shares(table: pd.DataFrame) -> pd.Series:
    """How the variance of the logarithm of a patch's mean area divides.

    Parameters
    ----------
    table : pandas.DataFrame
        Patches, with ``magnification, slide, mean_area_px``.

    Returns
    -------
    pandas.Series
        Shares of the sum of squares that add up to 1: ``magnification`` (between magnifications), ``slide`` (between
        slides at one magnification), ``patch`` (within).

    Examples
    --------
    >>> patches = pd.DataFrame({"magnification": [5, 5, 10, 10], "slide": list("abab"),
    ...                         "mean_area_px": [1.0, 1.0, 4.0, 4.0]})
    >>> spread_shares(patches).to_dict()
    {'magnification': 1.0, 'slide': 0.0, 'patch': 0.0}
    """
    log = np.log2(table["mean_area_px"])
    by_magnification = log.groupby(table["magnification"]).transform("mean")
    by_both = log.groupby([table["magnification"], table["slide"]]).transform("mean")
    parts = {
        "magnification": by_magnification - log.mean(),
        "slide": by_both - by_magnification,
        "patch": log - by_both,
    }
    return pd.Series({name: float((part**2).sum()) for name, part in parts.items()}) / float(
        ((log - log.mean()) ** 2).sum()
    )


def named_by_area(table: pd.DataFrame) -> pd.DataFrame:
    """How well a patch's true mean area names its magnification: what a regression without any error would score.

    Parameters
    ----------
    table : pandas.DataFrame
        Patches.

    Returns
    -------
    pandas.DataFrame
        One row per split: ``patches, kappa, kappa_balanced, accuracy`` of the magnification whose class mean (over
        training patches, §3.5) is nearest to the true area.

    Raises
    ------
    DataError
        If a magnification has no training patches.

    Notes
    -----
    No upper bound: predictions that are wrong about area and lie near the class means name more magnifications
    rightly. A network that scores higher tells the magnification by something else than area.
    """
    means = class_means(table)
    rows = []
    for split in (s for s in SPLITS if s in set(table["split"])):
        part = table[table["split"] == split]
        named, true = nearest_magnification(part["mean_area_px"], means), part["magnification"].to_numpy()
        rows.append({"split": split, "patches": len(part), **agreement(true, named)})
    return pd.DataFrame(rows)


def rule_summary(measured: pd.DataFrame, *, reference: str = "centre") -> pd.DataFrame:
    """How far each rule's mean area lies from a reference rule's, with the slide as unit.

    Parameters
    ----------
    measured : pandas.DataFrame
        From :func:`scalelib.datasets.nuclei_rules.measure_by_rule`.
    reference : str, default="centre"

    Returns
    -------
    pandas.DataFrame
        One row per rule and magnification: ``patches`` and ``slides`` (those where both rules count a nucleus),
        ``n_nuclei`` (mean per patch), ``mean_um2``, and ``ratio`` to the reference with ``low`` and ``high``: the
        geometric mean over slides of the ratio of their means, with a t interval.

    Raises
    ------
    DataError
        If the reference was not measured.
    """
    if reference not in set(measured["rule"]):
        raise DataError(f"rule_summary: no rule {reference!r}.\nReceived: {sorted(set(measured['rule']))}.")
    base = measured[measured["rule"] == reference].set_index("image")["mean_area_um2"]
    both = measured.assign(reference=measured["image"].map(base)).dropna(
        subset=["mean_area_um2", "reference"]
    )
    rows = []
    for (rule, magnification), part in both.groupby(["rule", "magnification"], sort=False):
        slides = part.groupby("slide")[["mean_area_um2", "reference"]].mean()
        log = np.log(slides["mean_area_um2"] / slides["reference"])
        half = (
            log.std(ddof=1) / np.sqrt(len(log)) * stats.t.ppf(0.975, len(log) - 1) if len(log) > 1 else np.nan
        )
        rows.append(
            {
                "rule": rule,
                "magnification": magnification,
                "patches": len(part),
                "slides": len(slides),
                "n_nuclei": part["n_nuclei"].mean(),
                "mean_um2": slides["mean_area_um2"].mean(),
                "ratio": np.exp(log.mean()),
                "low": np.exp(log.mean() - half),
                "high": np.exp(log.mean() + half),
            }
        )
    return pd.DataFrame(rows)
