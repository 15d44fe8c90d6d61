"""The scoreboard, the paper's tables beside ours and the README's badge, from the templates beside this module. Knows
the ledger and tables only; where a page lies it asks."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jinja2
import numpy as np
import pandas as pd

from scalebook.claims import BEYOND, NOT_RUN, STATUSES, Claim
from scalebook.ledger import REAL, Ledger, basis, counts, deciding, headline, on_own_networks
from scalebook.paper_tables import COMPARED, order_kept
from scalebook.predicates import CURVES, NO_TEST, PREDICATES, number, span
from scalebook.sentences import KINDS, bare, sentence

# Address of the place where a profile's page shows the evidence of a claim, or None where the book has no such page.
Link = Callable[[str, Claim], str | None]
# Beyond this magnitude the axis of a plot is compressed by the inverse hyperbolic sine.
WIDE = 3.0
# Share of a plot's values that each side of the threshold is given at least.
ROOM = 0.4
IN_WORDS = {name: words for name, (words, *_) in CURVES.items()}
PROFILE_WORDS = {"paper": "the paper's networks", "compact": "real data", "control": "rendered control"}
TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("scalebook"),
    autoescape=jinja2.select_autoescape(["html", "svg"]),
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
)
TEMPLATES.globals |= {"STATUSES": STATUSES, "number": number, "span": span}
TEMPLATES.filters["in_words"] = lambda profile: PROFILE_WORDS.get(profile, profile)
TEMPLATES.filters["slug"] = lambda words: "-".join(re.findall("[a-z]+", words.lower()))


def render(template: str, **values: Any) -> str:
    """A template of the book with its values."""
    return TEMPLATES.get_template(template).render(values)


def glance(ledger: Ledger) -> str:
    """What was decided on the paper's own networks, and counts of claims by status: on real data, and in the control."""
    control, own = ledger.verdicts[ledger.verdicts.profile == "control"], on_own_networks(ledger)
    both = {"real": counts(ledger), "control": counts(replace(ledger, verdicts=control))}
    networks = {name: part.claim.nunique() for name, part in own.groupby("network", sort=False)}
    return render("glance.html", **both, own=own.claim.nunique(), networks=networks)


def claims(ledger: Ledger, link: Link, *, ours: bool = False) -> str:
    """Every claim of the paper, or of ours, by the reader's question, with its evidence, and buttons that filter them."""
    real, own = headline(ledger), set(on_own_networks(ledger).claim)
    groups: dict[str, list[dict[str, Any]]] = {}
    for claim in ledger.claims:
        rows, counted = ledger.verdicts[ledger.verdicts.claim == claim.id], deciding(ledger, claim)
        pages = [(link(profile, claim), profile) for profile in rows.profile.unique()]
        good = counted[counted.status.map(KINDS) == "for"]
        item = {
            "claim": claim,
            "status": real[claim.id],
            "own": claim.id in own,
            "hollow": len(good) > 0 and good.note.str.contains(NO_TEST).all(),
            "evidence": sentence(claim, counted),
            "rows": rows[(rows.status != NOT_RUN) | (rows.network != "")].to_dict("records"),
            "small": plot(counted),
            "plot": plot(rows),
            "test": (PREDICATES[claim.predicate].__doc__ or "").split("\n\n")[0],
            "pages": [page for page in pages if page[0]],
        }
        if (claim.section == BEYOND) == ours:
            groups.setdefault(claim.question, []).append(item)
    questions = dict.fromkeys(claim.question for claim in ledger.claims)
    return render("claims.html", groups=groups, ours=ours, found=set(real), questions=questions)


def plot(rows: pd.DataFrame) -> dict[str, Any]:
    """What an interval plot shows of verdicts with an effect: each with its places, from 0 to 1 along the axis."""
    shown = rows[np.isfinite(rows.effect)]
    values = shown[["effect", "low", "high", "threshold"]].astype(float).replace([np.inf, -np.inf], np.nan)
    bent = bool((values.drop(columns="threshold").abs() > WIDE).any(axis=None))
    places = np.arcsinh(values) if bent else values
    low, high, turn = places.min(axis=None), places.max(axis=None), places.threshold.max()
    room = ROOM * (high - low) or 1.0
    low, high = min(low, turn - room), max(high, turn + room)
    places = ((places - low) / (high - low)).astype(object).where(places.notna(), None)
    names = bare(shown.network).where(shown.profile.isin(REAL), bare(shown.network) + ", rendered")
    marks = shown.assign(label=names, at=places.to_dict("records")).to_dict("records")
    return {"marks": marks, "bent": bent}


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
    limits = {"R²": (-1.0, 1.0)} if table == "A1" else {}
    if table == "2":  # errors are better the smaller they are
        limits = {head: (part.min(), part.max()) for head, part in rows.groupby("head", sort=False).paper}
        limits |= {head: limits[head][::-1] for head in rows["head"][rows.column == "mae_px"]}
    records = rows.astype(object).where(rows.notna(), None).to_dict("records")
    return render(
        "cells.html",
        title=f"Table {table}" if table != "figure" else "Labelled values of the figure",
        done=int((rows.status == COMPARED).sum()),
        profiles=[profile for profile in rows.profile.unique() if profile],
        heads=dict(zip(rows.column, rows["head"], strict=True)),
        limits=limits,
        names=rows.row.unique(),
        cells={(cell["row"], cell["column"]): cell for cell in records},
        order=_order(ordered),
        lead="Order and sign" if rows.same_sign.notna().any() else "Order",
        needs=[words for words in rows.needs.unique() if words],
    )


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
    return render("badge.svg", counts=counts(ledger), title=badge_words(ledger)) + "\n"


def badge_words(ledger: Ledger) -> str:
    """What the badge says, in words: the counts of all statuses and what they rest on."""
    found = counts(ledger)
    shown = ", ".join(f"{status} {count}" for status, count in found.items() if count)
    return f"{sum(found.values())} claims of the paper, {basis(ledger)}: {shown}"
