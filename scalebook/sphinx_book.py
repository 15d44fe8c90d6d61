"""Sphinx extension of the book: checks each executed page against its card, and says what it is.

* ``{results}`table.csv` `` becomes a download link to the table beside the page's card; the cell above the first
  one of a table gets an anchor, such as ``#data-table``.
* Every page under ``book/executed/<profile>/`` gets a banner that names its tier.
* The build fails if a table differs from its card, or if the page was executed from other code than
  the notebook that stands in ``notebooks/`` now.
"""

from __future__ import annotations

import ast
from pathlib import Path

from docutils import nodes
from sphinx.addnodes import download_reference
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxRole

from scalelib.errors import ResultsError
from scalelib.results import Results, code_cells, digest_notebook, read_results

EXECUTED = "book/executed/"
TABLE = "results-table"
"""Attribute of a download link that names its table."""
TIERS = {
    "control": (
        "Rendered control experiment, run at this build",
        "The images are rendered scenes with exactly known object scale; the networks are small ones that ship "
        "with scalelib. Nothing here is a photograph.",
    ),
    "compact": (
        "Real data, archived run",
        "Photographs, tissue and published weights, computed once and archived with code, tables and card; not "
        "computed again at this build.",
    ),
    "paper": (
        "The paper's own networks, archived run",
        "InceptionV3 and ResNet50 as in the paper, computed once and archived with code, tables and card.",
    ),
}


def results_of(root: Path, docname: str) -> Results | None:
    """The checked results behind a page, or None for a page that is no executed notebook."""
    if not docname.startswith(EXECUTED):
        return None
    profile, name = docname.removeprefix(EXECUTED).split("/")
    try:
        results = read_results(root / "results" / profile / name)
    except ResultsError as error:
        raise ExtensionError(f"{docname}: {error}") from error
    notebook, page = root / "notebooks" / f"{name}.ipynb", root / f"{docname}.ipynb"
    for what, same in (
        ("the executed page", calls_of(page) == calls_of(notebook)),
        ("the run's card", digest_notebook(page) == results.card.data["notebook_digest"]),
    ):
        if not same:
            raise ExtensionError(
                f"{docname}: {what} comes from other code cells than notebooks/{name}.ipynb has now. "
                f"Run it again: make reproduce PROFILE={profile}"
            )
    return results


def calls_of(notebook: Path) -> list[str]:
    """What the code cells do, wherever the functions live that they call: imports aside, ``module.name`` read as ``name``."""
    trees = [ast.parse(source) for source in code_cells(notebook)]
    imported = {
        alias.asname or alias.name
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    return [ast.unparse(_Moved(imported).visit(tree)) for tree in trees]


class _Moved(ast.NodeTransformer):
    def __init__(self, imported: set[str]) -> None:
        self.imported = imported

    def visit_Import(self, node: ast.AST) -> None:
        return None

    visit_ImportFrom = visit_Import

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        if isinstance(node.value, ast.Name) and node.value.id in self.imported:
            return ast.copy_location(ast.Name(node.attr, node.ctx), node)
        return self.generic_visit(node)


class ResultsRole(SphinxRole):
    """Download link to one table of the page's results."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        docname = self.env.docname
        results = results_of(Path(self.env.srcdir), docname)
        try:
            file = results.file(self.text) if results else None
        except ResultsError:
            file = None
        if file is None:
            message = self.inliner.reporter.error(
                f"no table {self.text!r} in the results of {docname}", line=self.lineno
            )
            return [nodes.inline(text=self.text)], [message]
        profile, name = docname.removeprefix(EXECUTED).split("/")
        target = f"/results/{profile}/{name}/{file}"
        link = download_reference("", "", nodes.literal(text=file), reftarget=target, refdoc=docname)
        link[TABLE] = file
        return [link], []


def anchor_of(table: str) -> str:
    """Anchor on a page of the cell above the line that names a table.

    >>> anchor_of("layerwise_r2.csv.gz")
    'data-layerwise-r2'
    """
    return f"data-{table.partition('.')[0].replace('_', '-')}"


def add_anchors(_app: Sphinx, doctree: nodes.document) -> None:
    """Put each table's anchor above the cell whose figure it holds the numbers of."""
    known: set[str] = set()
    for link in [node for node in doctree.findall(download_reference) if TABLE in node]:
        anchor = anchor_of(link[TABLE])
        if anchor in known:
            continue
        known.add(anchor)
        block: nodes.Element = link
        while not isinstance(block.parent, nodes.section | nodes.document):
            block = block.parent
        section, place = block.parent, block.parent.index(block)
        above = [i for i in range(place) if "cell" in section[i].get("classes", [])]
        section.insert(above[-1] if above else place, nodes.target("", "", ids=[anchor]))


def add_banner(app: Sphinx, doctree: nodes.document) -> None:
    """Put the tier of an executed page under its title."""
    docname = app.env.docname
    results = results_of(Path(app.srcdir), docname)
    if results is None:
        return
    card = results.card.data
    title, text = TIERS[card["profile"]]
    banner = nodes.admonition(classes=["tier", f"tier-{card['profile']}"])
    banner += nodes.title(text=title)
    when = f"Executed {card['date']} in {card['wall_time_s']:.0f} s"
    commit = (card["code"]["commit"] or "no commit")[:12]
    banner += nodes.paragraph(
        text=f"{text} {when}, at {commit}. The card at the end of the page says the rest."
    )
    for section in doctree.findall(nodes.section):
        section.insert(1, banner)
        break


def setup(app: Sphinx) -> dict[str, object]:
    """Register the role and the banner, which also checks."""
    app.add_role("results", ResultsRole())
    app.connect("doctree-read", add_banner)
    app.connect("doctree-read", add_anchors)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
