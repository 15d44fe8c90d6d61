"""Areas of nuclei in a mask, by the paper's label protocol. Knows one mask at a time.

Otsu's threshold and the clearing of the border are a few lines each with SciPy's labelling, which
scalelib has anyway; scikit-image would bring five further packages for them.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from scalelib.errors import DataError

BORDER_RULES = ("clear", "clip")
"""``clear`` (the paper's): nuclei that touch the patch border are left out; ``clip``: they count with
the part inside."""

MIN_AREA = 3.0
"""Smallest component that counts as a nucleus, in pixels of the patch (the paper's)."""

_EIGHT = np.ones((3, 3), bool)


def areas_in_mask(mask: np.ndarray, *, border: str = "clear", min_area: float = MIN_AREA) -> np.ndarray:
    """Areas of the nuclei in a mask.

    Parameters
    ----------
    mask : ndarray of shape (height, width), uint8 or bool
        Bright where there are nuclei; grey values stem from area-resampling and are thresholded.
    border : {"clear", "clip"}, default="clear"
        ``"clear"``, the paper's rule: components that touch the border are left out. ``"clip"``: they
        count with the part inside.
    min_area : float, default=3
        Smaller components are left out, in pixels.

    Returns
    -------
    ndarray of shape (n_nuclei,), float64
        Areas in pixels.

    Raises
    ------
    DataError
        If the mask is not two-dimensional or the rule is unknown.

    Notes
    -----
    Graziani et al. 2021 and their notebooks: Otsu's threshold, closing with a 2×2 square, clear the
    border, 8-connected components, at least 3 px. Nuclei that touch each other count as one, as in
    any mask without instance labels.

    Examples
    --------
    >>> mask = np.zeros((10, 10), np.uint8)
    >>> mask[2:5, 2:6] = 255
    >>> mask[8:, 8:] = 255
    >>> areas_in_mask(mask).tolist(), areas_in_mask(mask, border="clip").tolist()
    ([12.0], [12.0, 4.0])
    """
    check_border_rule(border)
    mask = np.asarray(mask)
    if mask.ndim != 2:
        raise DataError(
            f"areas_in_mask: a mask is two-dimensional.\nReceived: shape {mask.shape}.\nTake one channel."
        )
    if mask.size == 0 or mask.min() == mask.max() == 0:
        return np.empty(0)
    grey = mask.astype(np.uint8) * 255 if mask.dtype == bool else mask
    nuclei = grey > otsu_threshold(grey)
    square = np.ones((2, 2), bool)
    nuclei = ndimage.binary_erosion(ndimage.binary_dilation(nuclei, square), square, border_value=1)
    labels, count = ndimage.label(nuclei, structure=_EIGHT)
    areas = np.bincount(labels.ravel(), minlength=count + 1).astype(np.float64)
    areas[0] = 0
    if border == "clear":
        for edge in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
            areas[edge] = 0
    return areas[areas >= max(min_area, 1)]


def otsu_threshold(grey: np.ndarray) -> float:
    """Threshold that separates the two classes of grey values best; above it is foreground.

    Parameters
    ----------
    grey : ndarray of uint8

    Returns
    -------
    float
        Where several thresholds are equally good, the middle of them: 127 for a mask of 0 and 255.
        For an image of one value that value less 0.5, so that all of it is foreground.

    Notes
    -----
    Otsu 1979: the threshold that maximises the variance between the classes.

    Examples
    --------
    >>> otsu_threshold(np.array([0, 0, 255], np.uint8))
    127.0
    """
    counts = np.bincount(np.asarray(grey, np.uint8).ravel(), minlength=256).astype(np.float64)
    values = np.arange(256.0)
    below, above = counts.cumsum(), counts.sum() - counts.cumsum()
    split = (below > 0) & (above > 0)
    if not split.any():
        return float(np.argmax(counts)) - 0.5
    sums = (counts * values).cumsum()
    difference = sums[split] / below[split] - (sums[-1] - sums[split]) / above[split]
    between = np.zeros(256)
    between[split] = below[split] * above[split] * difference**2
    best = np.flatnonzero(between >= between.max() * (1 - 1e-12))
    return float(best.mean() // 1)


def check_border_rule(border: str) -> None:
    """Refuse an unknown rule for nuclei that the patch border cuts.

    Raises
    ------
    DataError
        If `border` is not one of `BORDER_RULES`.

    Examples
    --------
    >>> check_border_rule("clip")
    """
    if border not in BORDER_RULES:
        raise DataError(
            f"border rule: one of {', '.join(map(repr, BORDER_RULES))}.\nReceived: {border!r}.\n"
            "'clear' leaves out nuclei that touch the patch border (the paper's), 'clip' keeps their part."
        )
