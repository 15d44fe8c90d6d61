"""The scoreboard, the paper's tables beside ours and the README's badge, from the templates beside this module. Knows
the ledger and tables only; where a page lies it asks."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jinja2
import numpy as np
import pandas as pd

from scalebook.claims import NOT_RUN, STATUSES, Claim, heading, overall
from scalebook.ledger import REAL, Ledger, basis, headline, of_paper
from scalebook.paper_tables import COMPARED, order_kept
from scalebook.predicates import number, span

# Address of the place where a profile's page shows the evidence of a claim, or None where the book has no such page.
Link = Callable[[str, Claim], str | None]
# Beyond this magnitude the axis of a plot is compressed by the inverse hyperbolic sine.
WIDE = 3.0
IN_WORDS = {"imagenet": "ImageNet weights", "random": "random weights", "shuffled": "shuffled measures"}
PROFILE_WORDS = {"paper": "the paper's networks", "compact": "real data", "control": "rendered control"}
TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("scalebook"),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
)
TEMPLATES.globals["STATUSES"] = STATUSES
TEMPLATES.filters["in_words"] = lambda profile: PROFILE_WORDS.get(profile, profile)
TEMPLATES.filters["heading"] = heading
TEMPLATES.filters["kind"] = lambda status: "s-" + status.replace(" ", "-")


def render(template: str, **values: Any) -> str:
    """A template of the book with its values."""
    return TEMPLATES.get_template(template).render(values)


def glance(ledger: Ledger) -> str:
    """Counts of claims by status: on real data, and in the rendered control experiment."""
    real, control = (of_paper(ledger, status) for status in (headline(ledger), _in_control(ledger)))
    return render("glance.html", real=list(real), control=list(control))


def claims(ledger: Ledger, link: Link) -> str:
    """Every claim on one line, with its evidence behind it, and buttons that filter them."""
    real, control = headline(ledger), _in_control(ledger)
    items = []
    for claim in ledger.claims:
        rows = ledger.verdicts[ledger.verdicts.claim == claim.id]
        run = (rows.status != NOT_RUN) | (rows.network != "")
        decided = claim.networks == "none" and (rows.status != NOT_RUN).any()
        pages = [(link(profile, claim), profile) for profile in rows.profile.unique()]
        item = {
            "claim": claim,
            "real": real[claim.id],
            "control": control[claim.id],
            "rows": rows[run].to_dict("records"),
            "plot": plot(rows[run]),
            "missing": [] if decided else rows[~run & rows.profile.isin(REAL)].to_dict("records"),
            "arguments": ", ".join(f"{key} = {_listed(value)}" for key, value in claim.arguments.items()),
            "paper": "; ".join(f"{k.replace('_', ' ')}: {_plain(v)}" for k, v in claim.paper.items()),
            "pages": [page for page in pages if page[0]],
        }
        items.append(item)
    sections = [(name, heading(name)) for name in dict.fromkeys(claim.section for claim in ledger.claims)]
    statuses = [(status, status) for status in STATUSES]
    every = ("all", "all")
    return render("claims.html", items=items, statuses=[every, *statuses], sections=[every, *sections])


def _in_control(ledger: Ledger) -> pd.Series:
    rows = ledger.verdicts[ledger.verdicts.profile == "control"]
    return pd.Series({c.id: overall(rows.status[rows.claim == c.id]) for c in ledger.claims}, dtype=str)


def _listed(value: object) -> str:
    return f"[{_plain(value)}]" if isinstance(value, list) else str(value)


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return " ".join(map(str, value.values()))
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def plot(rows: pd.DataFrame) -> dict[str, Any]:
    """What an interval plot shows of verdicts with an effect: places from 0 to 1 along its axis, and words."""
    shown = rows[np.isfinite(rows.effect)]
    values = shown[["effect", "low", "high", "threshold"]].astype(float)
    bent = bool((values.drop(columns="threshold").abs() > WIDE).any(axis=None))
    places = np.arcsinh(values) if bent else values
    low, high = places.min(axis=None), places.max(axis=None)
    places = ((places - low) / ((high - low) or 1.0)).astype(object).where(places.notna(), None)
    marks = []
    for (_, row), place in zip(shown.iterrows(), places.to_dict("records"), strict=True):
        label = row.network if row.profile in REAL else f"{row.network}, rendered"
        known = math.isfinite(row.low) and math.isfinite(row.high)
        words = span(row.effect, row.low, row.high) if known else number(row.effect)
        marks.append({**place, "label": label, "status": row.status, "words": f"{label} {words}"})
    turns = [number(value) for value in values.threshold.dropna()[:1]]
    quantity = next((row.quantity for row in shown.itertuples() if row.quantity), "")
    words = "; ".join([mark["words"] for mark in marks] + [f"threshold {value}" for value in turns])
    return {
        "marks": marks,
        "threshold": marks[0]["threshold"] if marks else None,
        "turns_at": turns[0] if turns else "",
        "quantity": quantity,
        "bent": bent,
        "words": f"{quantity}: {words}",
    }


def cells(ledger: Ledger, table: str) -> str:
    """One of the paper's tables (1, 2, A1, figure), cell by cell; shaded by value but for counts."""
    rows = ledger.cells[ledger.cells.table == table]
    ordered = rows
    if table == "1":  # ordered by magnification within each split, without its totals
        rows = rows.assign(row=rows.condition, column=rows.tap, head=rows.tap)
        ordered = rows[(rows.tap != "total") & (rows.condition != "total")]
    elif table == "2":
        parts = rows.condition.str.split(", ", expand=True)
        heads = parts[1].map({"mae_px": "MAE, nuclei area (px)", "kappa": "Cohen's kappa"})
        rows = rows.assign(row=parts[0] + " " + rows.network + ", " + rows.tap, column=parts[1], head=heads)
    else:
        several = rows.network.nunique() > 1
        names = rows.network + " " + rows.tap if several else rows.tap
        rows = rows.assign(row=names, column=rows.condition, head=rows.condition.replace(IN_WORDS))
    limits = dict.fromkeys(rows.column, (-1.0, 1.0))
    if table == "2":
        by_column = rows.groupby("column", sort=False).paper
        limits = {column: (part.min(), part.max()) for column, part in by_column}
        limits["mae_px"] = limits["mae_px"][::-1]
    found = {(cell.row, cell.column): _cell(cell, *limits[cell.column]) for _, cell in rows.iterrows()}
    order, signs = _order(ordered), rows.same_sign.notna().any()
    return render(
        "cells.html",
        title=f"Table {table}" if table != "figure" else "Labelled values of the figure",
        done=int((rows.status == COMPARED).sum()),
        cells=len(rows),
        profiles=[profile for profile in rows.profile.unique() if profile],
        heads=list(dict(zip(rows.column, rows["head"], strict=True)).values()),
        rows=[(name, [found.get((name, column)) for column in limits]) for name in rows.row.unique()],
        order=order,
        lead="Order and sign" if signs else "Order",
        needs=[words for words in rows.needs.unique() if words],
    )


def _cell(cell: pd.Series, worst: float, best: float) -> dict[str, str | None]:
    digits = {"patches": 0, "px": 1}.get(cell.unit, 2)
    shaded = cell.unit in ("R²", "px", "1")

    def value(x: float) -> str:
        digits_shown = digits if abs(x) < 100 else 0
        return number(x) if abs(x) >= 1e6 else f"{x:,.{digits_shown}f}".replace("-", "−")

    def shade(x: float) -> str:
        return f" shade-{min(max(int((x - worst) / (best - worst) * 5), 0), 4)}" if shaded else ""

    paper = {"paper": value(cell.paper), "paper_shade": shade(cell.paper), "needs": cell.needs}
    if cell.status != COMPARED:
        return {**paper, "ours": None}
    agree = "" if pd.isna(cell.same_sign) else "; same sign" if cell.same_sign else "; other sign"
    agree += "" if pd.isna(cell.overlap) else ", overlaps" if cell.overlap else ", apart"
    return {
        **paper,
        "ours": value(cell.ours),
        "ours_shade": shade(cell.ours),
        "interval": f" ({value(cell.low)} to {value(cell.high)})" if math.isfinite(cell.low) else "",
        "gap": ("+" if cell.difference > 0 else "") + value(cell.difference) + agree,
    }


def _order(rows: pd.DataFrame) -> list[str]:
    """In which columns of a table our values stand in the paper's order."""
    found = []
    for condition, part in rows.groupby("condition", sort=False):
        kept, pairs = order_kept(part)
        if pairs:
            words = f"{IN_WORDS.get(str(condition), condition)}: {kept} of {pairs} pairs in the paper's order"
            words += f" (rank correlation {number(2 * kept / pairs - 1)})"
            signs = part.same_sign[part.status == COMPARED].dropna().astype(bool)
            found.append(words + (f", {signs.sum()} of {len(signs)} signs the same" if len(signs) else ""))
    return found


def errata(sums: pd.DataFrame, corrections: pd.DataFrame) -> str:
    """Totals of Table 1 that do not add up, and the cells that would explain all of them, from notebook 07's tables."""
    wrong = sums[sums.difference != 0]
    smallest = corrections[corrections.explanation == corrections.explanation.min()]
    return render(
        "errata.html",
        wrong=wrong.to_dict("records"),
        lines=len(sums),
        smallest=smallest.to_dict("records"),
        several=corrections.explanation.nunique(),
    )


def badge_svg(ledger: Ledger) -> str:
    """The counts of claims as a badge: a standalone SVG whose title says every count; a strip divided among them."""
    found = of_paper(ledger, headline(ledger))
    counts = {status: int((found == status).sum()) for status in STATUSES}
    value = f"{counts['reproduced']} of {len(found)}"
    value += f" · {counts['partly']} partly" if counts["partly"] else ""
    texts = {"label": "claims reproduced", "value": value, "title": badge_words(ledger)}
    # six units a character; textLength makes every font keep to it
    left, right = (6 * len(words) + 14 for words in (texts["label"], value))
    return render("badge.svg", left=left, right=right, counts=counts, total=len(found), **texts) + "\n"


def badge_words(ledger: Ledger) -> str:
    """What the badge says, in words: the counts of all statuses and what they rest on."""
    found = of_paper(ledger, headline(ledger))
    counts = [f"{(found == status).sum()} {status}" for status in STATUSES if (found == status).any()]
    return f"{len(found)} claims of the paper, {basis(ledger)}: {', '.join(counts)}"
