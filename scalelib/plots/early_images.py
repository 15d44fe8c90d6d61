"""First kernels, painted images and exciting regions (appendix A.3). Draws arrays; computes no result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from scalelib.plots.style import WIDTH


def kernel_sheet(kernels: Mapping[str, np.ndarray]) -> Figure:
    """First-layer kernels as they act on RGB pixels, each on its own scale.

    Parameters
    ----------
    kernels : mapping of str to ndarray, shape (channels, height, width, 3)
        By network. Grey is no effect; a brighter colour excites, a darker one inhibits.

    Returns
    -------
    matplotlib.figure.Figure
    """
    sheets = {name: _sheet(array) for name, array in kernels.items()}
    heights = [sheet.shape[0] / sheet.shape[1] for sheet in sheets.values()]
    fig, axes = plt.subplots(
        len(sheets), 1, figsize=(WIDTH, WIDTH * sum(heights) + 0.4 * len(heights)), squeeze=False,
        height_ratios=heights,
    )  # fmt: skip
    for ax, (name, sheet) in zip(axes.flat, sheets.items(), strict=True):
        count, height, width = kernels[name].shape[:3]
        ax.imshow(sheet)
        ax.set_axis_off()
        ax.set_title(f"{name}: {count} kernels of {height} × {width} px")
    return fig


@dataclass(frozen=True)
class Gallery:
    """What one network's channels like, for :func:`galleries`.

    Parameters
    ----------
    title : str
        Network and tap.
    painted : ndarray of uint8, shape (channels, side, side, 3)
        Activation-maximisation images.
    crops : ndarray of uint8, shape (channels, ranks, side, side, 3)
        Most exciting regions.
    labels : sequence of str
        One per channel.
    """

    title: str
    painted: np.ndarray
    crops: np.ndarray
    labels: Sequence[str]


def galleries(panels: Sequence[Gallery]) -> Figure:
    """Painted image and most exciting regions, a column per channel.

    Parameters
    ----------
    panels : sequence of Gallery
        One per network, one under the other.

    Returns
    -------
    matplotlib.figure.Figure
    """
    ranks = max(panel.crops.shape[1] for panel in panels)
    columns = max(len(panel.labels) for panel in panels)
    tall = (WIDTH / columns) * (ranks + 1) + 0.75
    fig = plt.figure(figsize=(WIDTH, tall * len(panels)))
    parts = fig.subfigures(len(panels), 1, squeeze=False)[:, 0]
    for part, panel in zip(parts, panels, strict=True):
        part.suptitle(panel.title, fontsize=10, fontweight="bold", x=0.01, ha="left")
        axes = part.subplots(ranks + 1, columns, squeeze=False)
        for ax in axes.flat:
            ax.set_xticks([])
            ax.set_yticks([])
            ax.grid(visible=False)
            ax.spines[:].set_visible(False)
        for column, label in enumerate(panel.labels):
            axes[0, column].imshow(panel.painted[column])
            axes[0, column].set_title(label, fontsize=7.5, fontweight="normal", loc="center")
            for rank in range(panel.crops.shape[1]):
                axes[rank + 1, column].imshow(panel.crops[column, rank])
        for row, name in enumerate(["painted", *(f"region {rank + 1}" for rank in range(ranks))]):
            axes[row, 0].set_ylabel(name, fontsize=8)
    return fig


def _sheet(kernels: np.ndarray) -> np.ndarray:
    """Kernels side by side, one pixel of white between them, grey for no effect."""
    count, height, width = kernels.shape[:3]
    columns = min(count, 24 if count > 16 else 16)
    rows = -(-count // columns)
    sheet = np.ones((rows * (height + 1) - 1, columns * (width + 1) - 1, 3))
    strongest = np.abs(kernels).max(axis=(1, 2, 3), keepdims=True)
    shown = 0.5 + kernels / (2 * np.where(strongest > 0, strongest, 1))
    for index, kernel in enumerate(shown):
        y, x = divmod(index, columns)
        sheet[y * (height + 1) :, x * (width + 1) :][:height, :width] = kernel
    return sheet
