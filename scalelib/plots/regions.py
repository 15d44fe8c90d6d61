"""Patches with their nuclei outlined (§3.2). Draws regions; reads no slide."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from scalelib.datasets.patch_nuclei import COUNTED, CUT, SMALL, Region
from scalelib.plots.style import WIDTH

STATE_STYLE: dict[str, dict[str, Any]] = {
    COUNTED: {"color": "#FFE94A", "linestyle": "-"},
    CUT: {"color": "#00D5FF", "linestyle": (0, (2, 1.2))},
    SMALL: {"color": "#FFFFFF", "linestyle": ":"},
}
BAR_LENGTHS = (5, 10, 20, 25, 50, 100, 200, 250, 500)


def zoomed_regions(regions: Sequence[Region], *, columns: int = 4) -> Figure:
    """Patches of one place at rising magnification, with nuclei outlined and a scale bar.

    Parameters
    ----------
    regions : sequence of Region
        From :func:`scalelib.datasets.patch_nuclei.zoom_series`.
    columns : int, default=4

    Returns
    -------
    matplotlib.figure.Figure
        The white square in a panel is the field of the next one, where both have the same centre.
    """
    rows = -(-(len(regions) + 1) // columns)
    fig, axes = plt.subplots(
        rows, columns, figsize=(WIDTH, WIDTH / columns * rows * 1.12), squeeze=False, dpi=170
    )
    for ax in axes.flat:
        ax.set_axis_off()
    following: list[Region | None] = [*regions[1:], None]
    for ax, region, after in zip(axes.flat, regions, following, strict=False):
        _draw_region(ax, region)
        if after is not None and region.centred and after.centred:
            _draw_next_field(ax, region, after)
    seen = [state for state in STATE_STYLE if any(state in region.states for region in regions)]
    handles = [Line2D([], [], lw=2, label=f"nucleus, {state}", **STATE_STYLE[state]) for state in seen]
    handles.append(
        Line2D([], [], color="white", marker="s", mfc="none", ls="none", ms=9, label="next panel's field")
    )
    axes.flat[len(regions)].legend(
        handles=handles, loc="center", fontsize=6.8, facecolor="#8A4F7D", labelcolor="white", frameon=True
    )
    return fig


def _draw_region(ax: Axes, region: Region) -> None:
    size = len(region.image)
    ax.imshow(region.image, extent=(0, size, size, 0))
    for polygon, state in zip(region.nuclei, region.states, strict=True):
        closed = np.concatenate([polygon, polygon[:1]])
        width = float(np.clip(region.magnification / 25, 0.45, 1.2))
        ax.plot(*closed.T, lw=width, scalex=False, scaley=False, **STATE_STYLE[state])
    ax.set(xlim=(0, size), ylim=(size, 0))
    length = max((b for b in BAR_LENGTHS if b <= 0.36 * size * region.mpp), default=1)
    left, low, width = 0.05 * size, 0.93 * size, length / region.mpp
    ax.add_patch(
        Rectangle(
            (0.025 * size, 0.815 * size),
            max(width, 0.25 * size) + 0.05 * size,
            0.16 * size,
            color="black",
            alpha=0.55,
            lw=0,
            zorder=4,
        )
    )
    ax.plot([left, left + width], [low, low], color="white", lw=2.2, solid_capstyle="butt", zorder=5)
    ax.text(left, low - 0.025 * size, f"{length} µm", color="white", fontsize=7, va="bottom", zorder=5)
    counted = region.states.count(COUNTED)
    ax.set_title(
        f"{region.magnification:g}X, {region.mpp:.2f} µm/px\n"
        f"{counted} counted, {region.states.count(CUT)} cut",
        fontsize=8,
        fontweight="normal",
    )


def _draw_next_field(ax: Axes, region: Region, after: Region) -> None:
    size = len(region.image)
    side = size * after.mpp / region.mpp
    corner = (size - side) / 2
    ax.add_patch(Rectangle((corner, corner), side, side, fill=False, color="white", lw=0.9))
