"""The README's badge: how many of the paper's claims are reproduced, as a small SVG.

Knows the ledger only; needs no service and no network.
"""

from __future__ import annotations

import html

from scalelib.ledger import Ledger, basis, headline
from scalelib.verdicts import STATUSES

HEIGHT, STRIP = 22, 3
"""Height of the badge and of the strip of statuses along its lower edge, in SVG units."""
CHARACTER = 6.0
"""Width of a character at 11 px; ``textLength`` makes every font keep to it."""
COLOURS = {
    "reproduced": "#0072b2",
    "partly": "#56b4e9",
    "not reproduced": "#d55e00",
    "inconclusive": "#cc79a7",
    "not run": "#8a8a8a",
}
"""Okabe and Ito's, as on the scoreboard; the words do not depend on them."""


def badge_svg(ledger: Ledger) -> str:
    """The counts of claims as a badge.

    Parameters
    ----------
    ledger : Ledger

    Returns
    -------
    str
        A standalone SVG whose title says every count, for screen readers. Along the lower edge a strip
        is divided among the statuses.

    Examples
    --------
    >>> import tempfile
    >>> from scalelib.ledger import build_ledger
    >>> from scalelib.profiles import CHECKOUT
    >>> with tempfile.TemporaryDirectory() as nothing:
    ...     "0 of 19" in badge_svg(build_ledger(CHECKOUT / "paper", nothing))
    True
    """
    counts = {status: int((headline(ledger) == status).sum()) for status in STATUSES}
    total = sum(counts.values())
    label = "claims reproduced"
    value = f"{counts['reproduced']} of {total}"
    value += f" · {counts['partly']} partly" if counts["partly"] else ""
    left, right = _width(label), _width(value)
    title = html.escape(badge_words(ledger))
    strip, x = "", 0.0
    for status in STATUSES:
        share = (left + right) * counts[status] / max(total, 1)
        if share:
            strip += f'<rect x="{x:.1f}" y="{HEIGHT - STRIP}" width="{share:.1f}" height="{STRIP}" fill="{COLOURS[status]}"/>'
        x += share
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + right}" height="{HEIGHT}" role="img" aria-label="{title}">'
        f"<title>{title}</title>"
        f'<rect width="{left}" height="{HEIGHT}" fill="#333"/>'
        f'<rect x="{left}" width="{right}" height="{HEIGHT}" fill="{COLOURS["reproduced"]}"/>{strip}'
        '<g fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11" text-anchor="middle">'
        f"{_text(label, left / 2)}{_text(value, left + right / 2)}</g></svg>\n"
    )


def badge_words(ledger: Ledger) -> str:
    """What the badge says, in words: the counts of all statuses and what they rest on.

    Parameters
    ----------
    ledger : Ledger

    Returns
    -------
    str
    """
    found = headline(ledger)
    counts = [f"{(found == status).sum()} {status}" for status in STATUSES if (found == status).any()]
    return f"{len(found)} claims of the paper, {basis(ledger)}: {', '.join(counts)}"


def _width(text: str) -> int:
    return round(CHARACTER * len(text)) + 14


def _text(text: str, x: float) -> str:
    return f'<text x="{x:g}" y="14" textLength="{_width(text) - 14}">{html.escape(text)}</text>'
