"""Sphinx directive of the scoreboard page: the ledger, computed at build and shown as HTML.

``{scoreboard} glance | claims | table-1 | table-2 | table-a1 | figure | errata``. The build fails if a results file
differs from its card, a claim's threshold from the record, or if the page of a claim's notebook does not show its evidence.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

from scalebook import pages
from scalebook.claims import Claim
from scalebook.ledger import PROFILES, Ledger, build_ledger
from scalebook.sphinx_book import EXECUTED, anchor_of
from scalelib.errors import ScalelibError
from scalelib.results import CARD, read_results

PAGE = "book/scoreboard"
TABLES = {"table-1": "1", "table-2": "2", "table-a1": "A1", "figure": "figure"}
PARTS = ("glance", "claims", "errata", *TABLES)


@cache
def ledger_of(root: Path) -> Ledger:
    """The ledger of this build."""
    try:
        return build_ledger(root / "paper", root / "results")
    except ScalelibError as error:
        raise ExtensionError(f"{PAGE}: {error}") from error


class Scoreboard(SphinxDirective):
    """One part of the scoreboard."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        part = self.arguments[0]
        if part not in PARTS:
            raise self.error(f"scoreboard: no part {part!r}; there are {', '.join(PARTS)}.")
        root = Path(self.env.srcdir)
        ledger = ledger_of(root)
        if part == "glance":
            text = pages.glance(ledger)
        elif part == "claims":
            text = pages.claims(ledger, self._link)
        elif part == "errata":
            text = _errata(root)
        else:
            text = pages.cells(ledger, TABLES[part])
        return [nodes.raw("", text, format="html")]

    def _link(self, profile: str, claim: Claim) -> str | None:
        target = f"{EXECUTED}{profile}/{claim.notebook}"
        if target not in self.env.found_docs:
            return None
        page = self.env.app.builder.get_relative_uri(self.env.docname, target)
        return f"{page}#{anchor_of(claim.shown or claim.table)}"


def check_anchors(app: Sphinx, env: BuildEnvironment) -> None:
    """Refuse a claim that points to a line which an executed page does not have."""
    if PAGE not in env.found_docs:
        return
    claims = ledger_of(Path(app.srcdir)).claims
    for docname in sorted(name for name in env.found_docs if name.startswith(EXECUTED)):
        decided = [claim for claim in claims if docname.endswith(f"/{claim.notebook}")]
        there = {name for node in env.get_doctree(docname).findall(nodes.target) for name in node["ids"]}
        for claim in decided:
            table = claim.shown or claim.table
            if anchor_of(table) not in there:
                raise ExtensionError(
                    f"{docname}: the claim {claim.id!r} is shown beside {table}, which this page does not name. Write "
                    f"{{results}}`{table}` below the evidence, or name another table as 'shown' in paper/claims.yaml."
                )


def _errata(root: Path) -> str:
    for profile in PROFILES:
        folder = root / "results" / profile / "07_interpolation_peak"
        if (folder / CARD).is_file():
            found = read_results(folder)
            return pages.errata(found.table("table1_sums"), found.table("table1_corrections"))
    return "<p>Table 1's sums have not been checked in this build.</p>"


def add_assets(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: object
) -> None:
    """The page's own script; no other page needs it."""
    if pagename == PAGE:
        app.add_js_file("scoreboard.js")
        app.add_css_file("scoreboard.css")


def setup(app: Sphinx) -> dict[str, object]:
    """Register the directive and the page's script and style."""
    app.add_directive("scoreboard", Scoreboard)
    app.connect("env-check-consistency", check_anchors)
    app.connect("html-page-context", add_assets)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
