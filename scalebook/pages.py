"""Small interval plots as inline SVG: one line per network, the threshold as a vertical rule. Knows numbers only. The scoreboard as HTML: counts, and claims with their evidence. Knows the ledger only; where a page lies it asks. The paper's tables beside ours as HTML, cell by cell, and what does not add up in them. Knows tables only. The README's badge: how many of the paper's claims are reproduced, as a small SVG."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd

from scalebook.claims import Claim, overall
from scalebook.ledger import REAL, Ledger, basis, headline
from scalebook.paper_tables import COMPARED, order_kept
from scalebook.predicates import NOT_RUN, STATUSES, number, span

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


def cells(ledger: Ledger, table: str) -> str:
    """One of the paper's tables, cell by cell: paper, ours with its interval, difference, agreement.

    Parameters
    ----------
    ledger : Ledger
    table : {"1", "2", "A1", "figure"}

    Returns
    -------
    str
        An HTML table with one row per row of the paper's and one cell per column; Table A1 and Table 2 are shaded by value.
    """
    rows = ledger.cells[ledger.cells.table == table]
    columns = list(dict.fromkeys(rows.condition))
    names = list(dict.fromkeys(zip(rows.network, rows.tap, strict=True)))
    if table == "2":
        return _cells_by_score(rows)
    if table == "1":
        columns, names = list(dict.fromkeys(rows.tap)), [("", name) for name in dict.fromkeys(rows.condition)]
        rows = rows.assign(tap=rows.condition, condition=rows.tap)
    found = rows.set_index(["network", "tap", "condition"])
    body = ""
    for network, tap in names:
        name = tap if len({n for n, _ in names}) == 1 else f"{network} {tap}"
        given = [
            _cell(found.loc[(network, tap, c)]) if (network, tap, c) in found.index else "<td></td>"
            for c in columns
        ]
        body += f'<tr><th scope="row">{html.escape(name)}</th>{"".join(given)}</tr>'
    heads = "".join(f'<th scope="col">{html.escape(CONDITION_WORDS.get(c, c))}</th>' for c in columns)
    return _table(table, f"<tr><th scope='col'></th>{heads}</tr>", body, rows)


CONDITION_WORDS = {
    "imagenet": "ImageNet weights",
    "random": "random weights",
    "shuffled": "shuffled measures",
}


def errata(sums: pd.DataFrame, corrections: pd.DataFrame) -> str:
    """Totals of Table 1 that do not add up, and the cells that would explain all of them.

    Parameters
    ----------
    sums : pandas.DataFrame
        From :func:`studies.s07_peak.check_sums`.
    corrections : pandas.DataFrame
        From :func:`studies.s07_peak.smallest_corrections`.

    Returns
    -------
    str
        HTML.
    """
    wrong = sums[sums.difference != 0]
    if wrong.empty:
        return "<p>Every row and column of Table 1 adds up.</p>"
    body = "".join(
        f"<tr><th scope='row'>{line} {html.escape(str(name))}</th><td>{printed}</td><td>{total}</td><td>{gap:+d}</td></tr>"
        for line, name, printed, total, gap in wrong.astype({"difference": int})[
            ["line", "name", "printed", "sum", "difference"]
        ].itertuples(index=False, name=None)
    )
    several = corrections.explanation.nunique()
    cells_words = "; ".join(
        f"{row.row} {row.column} = <strong>{row.corrected}</strong> (printed {row.printed}, {row.slip})"
        for row in corrections[corrections.explanation == corrections.explanation.min()].itertuples()
    )
    only = (
        "No other set of so few cells does" if several == 1 else f"It is one of {several} equally small sets"
    )
    return (
        '<div class="scoreboard-scroll" tabindex="0" role="region" aria-label="Totals of Table 1 that do not add up"><table>'
        f"<caption>{len(wrong)} of {len(sums)} rows and columns of Table 1 do not add up</caption><thead><tr><th scope='col'></th>"
        "<th scope='col'>printed total</th><th scope='col'>sum of cells</th><th scope='col'>difference</th></tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
        f"<p>The smallest set of cells that explains all of them: {cells_words}. {only}. The data file keeps the printed values.</p>"
    )


def _cells_by_score(rows: pd.DataFrame) -> str:
    parts = rows.condition.str.split(", ", expand=True)
    rows = rows.assign(row=parts[0], score=parts[1])
    ranges = rows.groupby("score").paper.agg(["min", "max"])
    body = ""
    for (network, row, tap), part in rows.groupby(["network", "row", "tap"], sort=False):
        given = ""
        for score in ("mae_px", "kappa"):
            low, high = ranges.loc[score]
            worst, best = (high, low) if score == "mae_px" else (low, high)
            given += _cell(part.set_index("score").loc[score], worst=worst, best=best)
        body += f"<tr><th scope='row'>{row} {network}, {tap}</th>{given}</tr>"
    heads = "<tr><th scope='col'></th><th scope='col'>MAE, nuclei area (px)</th><th scope='col'>Cohen's kappa</th></tr>"
    return _table("2", heads, body, rows)


def _cell(cell: pd.Series, *, worst: float = -1.0, best: float = 1.0) -> str:
    """One cell; R² and the scores of Table 2 are shaded between the worst and the best value."""
    digits = {"patches": 0, "px": 1}.get(cell.unit, 2)
    shaded = cell.unit in ("R²", "px", "1")
    shade = (lambda value: f" {_shade((value - worst) / (best - worst))}") if shaded else (lambda value: "")
    words = f'<span class="paper{shade(cell.paper)}">{_value(cell.paper, digits)}</span>'
    if cell.status != COMPARED:
        return f'<td title="needs {html.escape(cell.needs)}">{words}<span class="ours">not run</span></td>'
    interval = (
        f" ({_value(cell.low, digits)} to {_value(cell.high, digits)})" if math.isfinite(cell.low) else ""
    )
    agree = "" if pd.isna(cell.same_sign) else "; same sign" if cell.same_sign else "; other sign"
    if not pd.isna(cell.overlap):
        agree += ", overlaps" if cell.overlap else ", apart"
    gap = ("+" if cell.difference > 0 else "") + _value(cell.difference, digits)
    return (
        f'<td>{words}<span class="ours{shade(cell.ours)}">ours <b>{_value(cell.ours, digits)}</b>{interval}</span>'
        f'<span class="gap">{gap}{agree}</span></td>'
    )


def _shade(place: float) -> str:
    return f"shade-{min(max(int(place * 5), 0), 4)}"


def _value(value: float, digits: int) -> str:
    if abs(value) >= 1e6:
        return number(value)
    return f"{value:,.{digits if abs(value) < 100 else 0}f}".replace("-", "−")


def _table(table: str, head: str, body: str, rows: pd.DataFrame) -> str:
    title = f"Table {table}" if table != "figure" else "Labelled values of the figure"
    done = int((rows.status == COMPARED).sum())
    profiles = ", ".join(PROFILE_WORDS.get(p, p) for p in dict.fromkeys(rows.profile) if p)
    ours = f", ours from {profiles}" if profiles else ""
    needs = "".join(f"<li>{html.escape(words)}</li>" for words in dict.fromkeys(rows.needs) if words)
    left = f"<p>What was not run needs:</p><ul>{needs}</ul>" if needs else ""
    order = _order(rows if table != "1" else _by_split(rows))
    return (
        f'<div class="scoreboard-scroll" tabindex="0" role="region" aria-label="{title}"><table class="cells">'
        f"<caption>{title}: {done} of {len(rows)} cells compared{ours}</caption><thead>{head}</thead><tbody>{body}</tbody></table></div>"
        f"{order}{left}"
    )


def _order(rows: pd.DataFrame) -> str:
    """In which columns of a table our values stand in the paper's order."""
    found = []
    for condition, part in rows.groupby("condition", sort=False):
        kept, pairs = order_kept(part)
        if pairs:
            name = CONDITION_WORDS.get(str(condition), str(condition))
            words = f"{name}: {kept} of {pairs} pairs in the paper's order"
            signs = part.same_sign[part.status == COMPARED].dropna().astype(bool)
            found.append(words + (f", {signs.sum()} of {len(signs)} signs the same" if len(signs) else ""))
    lead = "Order and sign" if rows.same_sign.notna().any() else "Order"
    return f"<p>{lead}. {html.escape('; '.join(found))}.</p>" if found else ""


def _by_split(rows: pd.DataFrame) -> pd.DataFrame:
    """Table 1 without its totals, to be ordered by magnification within each split."""
    rows = rows.assign(condition=rows.tap, tap=rows.condition)
    return rows[(rows.tap != "total") & (rows.condition != "total")]


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
    >>> from scalebook.ledger import build_ledger
    >>> from scalebook.profiles import CHECKOUT
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
