"""Small interval plots as inline SVG: one line per network, the threshold as a vertical rule. Knows numbers only."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from scalelib.verdicts import number, span

LABEL, PLOT, ROW = 150, 250, 20
"""Width of the labels, of the plot, and height of a line, in SVG units."""
SMALL, SMALL_ROW = 110, 9
"""Width of the plot at the end of a line, and height of a network in it."""
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
    x = _axis(shown, threshold, left=LABEL + 12, width=PLOT - 24)
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
        parts.append(_mark(mark, x, y=y, radius=4.5, tip=tip))
    scale = ", compressed axis" if _bend(shown) is math.asinh else ""
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


def small_svg(marks: Sequence[Mark], *, threshold: float) -> str:
    """The same plot for the end of a line: no words, and hidden from screen readers, since the full one follows.

    Examples
    --------
    >>> small_svg([Mark("net", 0.3, 0.1, 0.5, "s-reproduced")], threshold=0.0).count("<circle")
    1
    """
    shown = [mark for mark in marks if math.isfinite(mark.effect)]
    if not shown:
        return ""
    x = _axis(shown, threshold, left=5, width=SMALL - 10)
    height = SMALL_ROW * len(shown)
    rule = ""
    if math.isfinite(threshold):
        at = x(threshold)
        rule = f'<line class="threshold" x1="{at}" x2="{at}" y1="0" y2="{height}"/>'
    marks_drawn = "".join(
        _mark(mark, x, y=SMALL_ROW * i + SMALL_ROW / 2, radius=2.5) for i, mark in enumerate(shown)
    )
    return (
        f'<svg class="interval small" aria-hidden="true" viewBox="0 0 {SMALL} {height}" width="{SMALL}" height="{height}">'
        f"{rule}{marks_drawn}</svg>"
    )


def _axis(shown: Sequence[Mark], threshold: float, *, left: float, width: float) -> Callable[[float], str]:
    bend = _bend(shown)
    values = [v for m in shown for v in (m.effect, m.low, m.high, threshold) if math.isfinite(v)]
    low, high = bend(min(values)), bend(max(values))
    return lambda value: f"{left + (bend(value) - low) / ((high - low) or 1.0) * width:.1f}"


def _bend(shown: Sequence[Mark]) -> Callable[[float], float]:
    values = [v for m in shown for v in (m.effect, m.low, m.high) if math.isfinite(v)]
    return math.asinh if max(map(abs, values)) > WIDE else float


def _mark(mark: Mark, x: Callable[[float], str], *, y: float, radius: float, tip: str = "") -> str:
    line = ""
    if math.isfinite(mark.low) and math.isfinite(mark.high):
        line = f'<line x1="{x(mark.low)}" x2="{x(mark.high)}" y1="{y}" y2="{y}"/>'
    return f'<g class="{mark.kind}">{tip}{line}<circle cx="{x(mark.effect)}" cy="{y}" r="{radius}"/></g>'


def _words(mark: Mark) -> str:
    if math.isfinite(mark.low) and math.isfinite(mark.high):
        return f"{mark.label} {span(mark.effect, mark.low, mark.high)}"
    return f"{mark.label} {number(mark.effect)}"
