"""Sphinx directives of two pages that are computed at build, from the ledger and from cards, and shown as HTML.

``{scoreboard} glance | claims | ours | table-1 | table-2 | table-a1 | figure | errata``. The build fails if a results file
differs from its card, a claim's threshold from the record, or if the page of a claim's notebook does not show its evidence.

``{provenance} compact | control | paper`` is a table with one row for each notebook of the profile that was run, and a
line for those that were not.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from functools import cache
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective
from sphinx.util.osutil import relative_uri

from scalebook import pages
from scalebook.claims import Claim
from scalebook.ledger import PROFILES, Ledger, build_ledger
from scalebook.profiles import load_profile
from scalebook.sphinx_ext import EXECUTED, TIERS, anchor_of
from scalelib.errors import ScalelibError
from scalelib.results import CARD, read_results

PAGE = "book/scoreboard"
TABLES = {"table-1": "1", "table-2": "2", "table-a1": "A1", "figure": "figure"}
RUN = {"control": "run at this build", "compact": "archived", "paper": "archived"}
WITHOUT_PAGE = "results only, no page"


class Part(SphinxDirective):
    """One part of a page, by name."""

    required_arguments = 1
    parts: tuple[str, ...]

    def run(self) -> list[nodes.Node]:
        part = self.arguments[0]
        if part not in self.parts:
            raise self.error(f"{self.name}: no part {part!r}; there are {', '.join(self.parts)}.")
        return [nodes.raw("", self.html(part, Path(self.env.srcdir)), format="html")]

    @abstractmethod
    def html(self, part: str, root: Path) -> str:
        """HTML of one part of the page."""

    def page_of(self, docname: str) -> str | None:
        """Address of another page, or None where the book has none."""
        if docname not in self.env.found_docs:
            return None
        return self.env.app.builder.get_relative_uri(self.env.docname, docname)


@cache
def ledger_of(root: Path) -> Ledger:
    """The ledger of this build."""
    try:
        return build_ledger(root / "paper", root / "results")
    except ScalelibError as error:
        raise ExtensionError(f"{PAGE}: {error}") from error


class Scoreboard(Part):
    """One part of the scoreboard."""

    parts = ("glance", "claims", "ours", "errata", *TABLES)

    def html(self, part: str, root: Path) -> str:
        ledger = ledger_of(root)
        if part == "glance":
            return pages.glance(ledger)
        if part in ("claims", "ours"):
            return pages.claims(ledger, self._link, ours=part == "ours")
        return _errata(root) if part == "errata" else pages.cells(ledger, TABLES[part])

    def _link(self, profile: str, claim: Claim) -> str | None:
        page = self.page_of(f"{EXECUTED}{profile}/{claim.notebook}")
        return page and f"{page}#{anchor_of(claim.shown or claim.table)}"


def _errata(root: Path) -> str:
    for profile in PROFILES:
        folder = root / "results" / profile / "07_interpolation_peak"
        if (folder / CARD).is_file():
            return pages.errata(*map(read_results(folder).table, ("table1_sums", "table1_corrections")))
    return "<p>Table 1's sums have not been checked in this build.</p>"


def check_anchors(app: Sphinx, env: BuildEnvironment) -> None:
    """Refuse a claim that points to a line which an executed page does not have; let pages link to claims."""
    claims = ledger_of(Path(app.srcdir)).claims if PAGE in env.found_docs else []
    slugs = {f"claim-{claim.id}": (0, f"claim-{claim.id}", claim.claim) for claim in claims}
    env.metadata[PAGE].setdefault("myst_slugs", {}).update(slugs)  # for links such as scoreboard.md#claim-…
    for docname in sorted(name for name in env.found_docs if name.startswith(EXECUTED)):
        there = {name for node in env.get_doctree(docname).findall(nodes.target) for name in node["ids"]}
        for claim in claims:
            table = claim.shown or claim.table
            if docname.endswith(f"/{claim.notebook}") and anchor_of(table) not in there:
                raise ExtensionError(
                    f"{docname}: the claim {claim.id!r} is shown beside {table}, which this page does not name. Write "
                    f"{{results}}`{table}` below the evidence, or name another table as 'shown' in paper/claims.yaml."
                )


class Provenance(Part):
    """One part of the page on provenance."""

    parts = tuple(TIERS)

    def html(self, part: str, root: Path) -> str:
        try:
            profile, runs = load_profile(root / "profiles" / f"{part}.yaml"), self._runs(root, part)
        except ScalelibError as error:
            raise self.error(f"provenance: {error}") from error
        alphas = [(need["name"], need.get("alpha")) for need in profile.needs.get("weights", [])]
        weights = [f"{name} {alpha:g}" if alpha else name for name, alpha in alphas]
        needs = {"data": profile.needs.get("datasets", []), "weights": weights}
        repository = self.config.html_theme_options.get("repository_url")
        values = {"tier": TIERS[part], "profile": part, "needs": needs, "repository": repository}
        return pages.render("provenance.html", runs=runs, **values)

    def _runs(self, root: Path, profile: str) -> list[dict[str, Any]]:
        """Each notebook that the profile names or whose results are there, with its card where it was run."""
        self.env.note_dependency(str(root / "profiles" / f"{profile}.yaml"))
        folder = root / "results" / profile
        written = {path.parent.name for path in folder.glob(f"*/{CARD}")}
        runs = []
        for name in sorted({*load_profile(root / "profiles" / f"{profile}.yaml").notebooks, *written}):
            self.env.note_dependency(str(folder / name / CARD))
            page = self.page_of(f"{EXECUTED}{profile}/{name}")
            notebook, title = root / "notebooks" / f"{name}.ipynb", name
            if notebook.is_file():
                cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
                title = "".join(cells[0]["source"]).partition("\n")[0].strip("# ")
            run: dict[str, Any] = {"title": title, "page": page, "card": None}
            if name in written:
                card = read_results(folder / name).card.data
                rows = {CARD: 0} | {file: about["rows"] for file, about in card["tables"].items()}
                files = [{"name": file, "rows": n, "address": self._download(f"results/{profile}/{name}/{file}")}
                         for file, n in rows.items()]  # fmt: skip
                run |= {"card": card, "files": files, "status": RUN[profile] if page else WITHOUT_PAGE}
            runs.append(run)
        return runs

    def _download(self, file: str) -> str:
        place = f"_downloads/{self.env.dlfiles.add_file(self.env.docname, file)}"
        return relative_uri(self.env.app.builder.get_target_uri(self.env.docname), place)


class Benchmarks(Part):
    """What the benchmarks have measured, from the files that they wrote."""

    parts = ("table",)

    def html(self, part: str, root: Path) -> str:
        files = sorted((root / "benchmarks" / "results").glob("*.json"))
        return pages.render("benchmarks.html", records=[json.loads(f.read_text("utf-8")) for f in files])


def add_assets(app: Sphinx, pagename: str, _template: str, _context: object, _doctree: object) -> None:
    """The scoreboard's own script and style; no other page needs them."""
    if pagename == PAGE:
        app.add_js_file("scoreboard.js")
        app.add_css_file("scoreboard.css")


def setup(app: Sphinx) -> dict[str, object]:
    """Register the directives, and the scoreboard's check, script and style."""
    app.setup_extension("scalebook.sphinx_ext")
    for directive in (Scoreboard, Provenance, Benchmarks):
        app.add_directive(directive.__name__.lower(), directive)
    app.connect("env-check-consistency", check_anchors)
    app.connect("html-page-context", add_assets)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
