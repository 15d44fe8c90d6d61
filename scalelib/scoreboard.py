"""The scoreboard as HTML: counts, and claims with their evidence. Knows the ledger only; where a page lies it asks."""

from __future__ import annotations

import html
import math
from collections.abc import Callable

import pandas as pd

from scalelib.claims import Claim
from scalelib.judging import overall
from scalelib.ledger import REAL, Ledger, headline
from scalelib.scoreboard_plot import Mark, interval_svg, small_svg
from scalelib.verdicts import NOT_RUN, STATUSES

Link = Callable[[str, Claim], str | None]
"""Address of the place where a profile's page shows the evidence of a claim, or None where the book has no such page."""
SYMBOLS = {"reproduced": "✔", "partly": "◐", "not reproduced": "✘", "inconclusive": "?", "not run": "–"}
WHAT = {
    "reproduced": "the test holds for every network it was put to",
    "partly": "it holds for some networks",
    "not reproduced": "it holds for none, and at least one speaks against it",
    "inconclusive": "the intervals decide nothing",
    "not run": "the data or weights that would decide it were not at hand",
}
PROFILE_WORDS = {
    "paper": "the paper's networks",
    "compact": "real data",
    "control": "rendered control",
}


def glance(ledger: Ledger) -> str:
    """Counts of claims by status: on real data, and in the rendered control experiment.

    Parameters
    ----------
    ledger : Ledger

    Returns
    -------
    str
        An HTML table.
    """
    real, control = headline(ledger), _statuses(ledger, ("control",))
    rows = "".join(
        f'<tr><th scope="row">{badge(status)}</th><td class="count">{(real == status).sum()}</td>'
        f'<td class="count">{(control == status).sum()}</td><td>{WHAT[status]}</td></tr>'
        for status in STATUSES
    )
    return (
        '<div class="scoreboard-scroll" tabindex="0" role="region" aria-label="Counts of claims by status"><table class="glance">'
        f"<caption>{len(ledger.claims)} claims of the paper</caption><thead><tr><th scope='col'>status</th>"
        "<th scope='col'>real data</th><th scope='col'>rendered control</th><th scope='col'>meaning</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
    )


def claims(ledger: Ledger, link: Link) -> str:
    """Every claim on one line, with its evidence behind it, and buttons that filter them.

    Parameters
    ----------
    ledger : Ledger
    link : callable
        See :data:`Link`.

    Returns
    -------
    str
        HTML; the buttons show once ``scoreboard.js`` runs, and without it every claim is shown.
    """
    real, control = headline(ledger), _statuses(ledger, ("control",))
    ordered = sorted(ledger.claims, key=lambda claim: _section(claim.section))
    items = "".join(_item(ledger, claim, real[claim.id], control[claim.id], link) for claim in ordered)
    sections = list(dict.fromkeys(claim.section for claim in ordered))
    groups = [
        _buttons("profile", "Status from", [("real", "real data"), ("control", "rendered control")]),
        _buttons("status", "Status", [("all", "all"), *((s, s) for s in STATUSES)]),
        _buttons("section", "Section", [("all", "all"), *((s, f"§ {s}") for s in sections)]),
    ]
    return (
        f'<div class="scoreboard-filters" hidden>{"".join(groups)}<p role="status" aria-live="polite"></p></div>'
        f'<ul class="scoreboard">{items}</ul>'
    )


def badge(status: str) -> str:
    """A status as symbol, word and colour.

    Examples
    --------
    >>> badge("not run")
    '<span class="status s-not-run"><span aria-hidden="true">–</span> not run</span>'
    """
    return f'<span class="status {_kind(status)}"><span aria-hidden="true">{SYMBOLS[status]}</span> {status}</span>'


def _statuses(ledger: Ledger, profiles: tuple[str, ...]) -> pd.Series:
    rows = ledger.verdicts[ledger.verdicts.profile.isin(profiles)]
    return pd.Series({c.id: overall(rows.status[rows.claim == c.id]) for c in ledger.claims}, dtype=str)


def _section(name: str) -> list[int]:
    return [int(part) for part in name.split(".")]


def _kind(status: str) -> str:
    return "s-" + status.replace(" ", "-")


def _buttons(group: str, legend: str, choices: list[tuple[str, str]]) -> str:
    buttons = "".join(
        f'<button type="button" data-filter="{group}" data-value="{value}" aria-pressed="{str(i == 0).lower()}">{words}</button>'
        for i, (value, words) in enumerate(choices)
    )
    return f'<div role="group" aria-label="{legend}"><span>{legend}</span> {buttons}</div>'


def _item(ledger: Ledger, claim: Claim, real: str, control: str, link: Link) -> str:
    rows = ledger.verdicts[ledger.verdicts.claim == claim.id]
    tested = rows[(rows.status != NOT_RUN) | (rows.network != "")]
    networks = "".join(
        f"<li>{badge(row.status)} <b>{html.escape(_name(row))}</b>: {html.escape(row.evidence)}</li>"
        for row in tested.itertuples()
    )
    marks = [
        Mark(_short(row), row.effect, row.low, row.high, _kind(row.status)) for row in tested.itertuples()
    ]
    quantities = [row.quantity for row in tested.itertuples() if row.quantity]
    thresholds = [row.threshold for row in tested.itertuples() if math.isfinite(row.threshold)]
    threshold = thresholds[0] if thresholds else math.nan
    plot = interval_svg(
        marks, quantity=quantities[0] if quantities else "", threshold=threshold
    )  # fmt: skip
    also = "" if claim.networks == "none" else f'<span class="also">control: {badge(control)}</span>'
    return (
        f'<li data-real="{real}" data-control="{control}" data-section="{claim.section}"><details id="claim-{claim.id}"><summary><span class="line">'
        f'{badge(real)} <span class="words">{html.escape(claim.claim)}</span> <span class="where">§ {claim.section}</span> {also}</span>{small_svg(marks, threshold=threshold)}</summary>'
        f'<div class="evidence">{plot}<ul>{networks}</ul>{_needs(claim, rows)}{_test(claim)}{_pages(claim, rows, link)}</div></details></li>'
    )


def _name(row: object) -> str:
    profile, network = row.profile, row.network  # type: ignore[attr-defined]
    words = PROFILE_WORDS.get(profile, profile)
    return f"{network} ({words})" if network else words


def _short(row: object) -> str:
    network, profile = row.network, row.profile  # type: ignore[attr-defined]
    return network if profile in REAL else f"{network}, rendered"


def _needs(claim: Claim, rows: pd.DataFrame) -> str:
    missing = rows[(rows.status == NOT_RUN) & (rows.network == "") & rows.profile.isin(REAL)]
    if missing.empty or (claim.networks == "none" and (rows.status != NOT_RUN).any()):
        return ""
    commands = " or ".join(f"<code>make reproduce PROFILE={profile}</code>" for profile in missing.profile)
    if missing.profile.nunique() < len(REAL):
        names = " and ".join(PROFILE_WORDS[profile] for profile in missing.profile)
        return f"<p>Not run with {names}: that takes {commands} and the weights that the profile names.</p>"
    what = " ".join(dict.fromkeys(html.escape(words) for words in missing.evidence))
    return f"<p>{what} That takes {commands} and the data and weights that the profile names.</p>"


def _test(claim: Claim) -> str:
    arguments = ", ".join(f"{key} = {_listed(value)}" for key, value in claim.arguments.items())
    paper = "; ".join(f"{key.replace('_', ' ')}: {_plain(value)}" for key, value in claim.paper.items())
    return (
        f"<p>Test: <code>{claim.predicate}</code>{html.escape(f' ({arguments})') if arguments else ''}. "
        f"Against it would be: {html.escape(claim.refuted)} In the paper: {html.escape(paper)}.</p>"
    )


def _listed(value: object) -> str:
    return f"[{_plain(value)}]" if isinstance(value, list) else str(value)


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return " ".join(str(part) for part in value.values())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _pages(claim: Claim, rows: pd.DataFrame, link: Link) -> str:
    links = [
        f'<a href="{address}">{claim.notebook}, {PROFILE_WORDS.get(profile, profile)}</a>'
        for profile in dict.fromkeys(rows.profile)
        if (address := link(profile, claim))
    ]
    return f"<p>Decided by <code>{claim.table}</code> of {' and '.join(links) or claim.notebook}.</p>"
