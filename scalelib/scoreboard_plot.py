"""Small interval plots as inline SVG: one line per network, the threshold as a vertical rule. Knows numbers only."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

from scalelib.verdicts import number, span

LABEL, PLOT, ROW = 150, 250, 20
"""Width of the labels, of the plot, and height of a line, in SVG units."""
WIDE = 3.0
"""Beyond this magnitude the axis is compressed by the inverse hyperbolic sine."""


@dataclass(frozen=True)
class Mark:
    """One line of the plot: a label, an effect and its interval (NaN where there is none), and a CSS class."""

    label: str
    effect: float
    low: float
    high: float
    kind: str


def interval_svg(marks: Sequence[Mark], *, quantity: str, threshold: float) -> str:
    """An interval plot.

    Parameters
    ----------
    marks : sequence of Mark
        Those without a finite effect are left out.
    quantity : str
        What is shown; becomes the caption of the axis and part of the description.
    threshold : float
        Value at which the claim turns; NaN for none.

    Returns
    -------
    str
        An ``svg`` element that describes itself, or an empty string where there is nothing to show.

    Examples
    --------
    >>> text = interval_svg([Mark("net", 0.3, 0.1, 0.5, "s-reproduced")], quantity="R²", threshold=0.0)
    >>> "net 0.30 (0.10 to 0.50)" in text, interval_svg([], quantity="R²", threshold=0.0)
    (True, '')
    """
    shown = [mark for mark in marks if math.isfinite(mark.effect)]
    if not shown:
        return ""
    values = [v for m in shown for v in (m.effect, m.low, m.high) if math.isfinite(v)]
    values += [threshold] if math.isfinite(threshold) else []
    bend = math.asinh if max(map(abs, values)) > WIDE else float
    low, high = bend(min(values)), bend(max(values))
    reach = (high - low) or 1.0

    def x(value: float) -> str:
        return f"{LABEL + 12 + (bend(value) - low) / reach * (PLOT - 24):.1f}"

    bottom = ROW * len(shown)
    parts = [f'<line class="axis" x1="{LABEL}" x2="{LABEL + PLOT}" y1="{bottom}" y2="{bottom}"/>']
    if math.isfinite(threshold):
        at = x(threshold)
        parts.append(f'<line class="threshold" x1="{at}" x2="{at}" y1="0" y2="{bottom + 4}"/>')
        parts.append(f'<text x="{at}" y="{bottom + 15}" text-anchor="middle">{number(threshold)}</text>')
    for i, mark in enumerate(shown):
        y = ROW * i + ROW / 2
        parts.append(
            f'<text x="{LABEL - 6}" y="{y + 4:.0f}" text-anchor="end">{html.escape(mark.label)}</text>'
        )
        tip = f"<title>{html.escape(_words(mark))}</title>"
        line = ""
        if math.isfinite(mark.low) and math.isfinite(mark.high):
            line = f'<line x1="{x(mark.low)}" x2="{x(mark.high)}" y1="{y}" y2="{y}"/>'
        parts.append(
            f'<g class="{mark.kind}">{tip}{line}<circle cx="{x(mark.effect)}" cy="{y}" r="4.5"/></g>'
        )
    scale = ", compressed axis" if bend is math.asinh else ""
    parts.append(
        f'<text x="{LABEL + PLOT}" y="{bottom + 29}" text-anchor="end">{html.escape(quantity + scale)}</text>'
    )
    words = f"{quantity}: {'; '.join(map(_words, shown))}"
    words += f"; threshold {number(threshold)}" if math.isfinite(threshold) else ""
    size = f'viewBox="0 0 {LABEL + PLOT} {bottom + 34}" width="{LABEL + PLOT}"'
    description = html.escape(words, quote=True)
    return (
        f'<svg class="interval" role="img" aria-label="{description}" {size}>'
        f"<title>{description}</title>{''.join(parts)}</svg>"
    )


def _words(mark: Mark) -> str:
    if math.isfinite(mark.low) and math.isfinite(mark.high):
        return f"{mark.label} {span(mark.effect, mark.low, mark.high)}"
    return f"{mark.label} {number(mark.effect)}"
