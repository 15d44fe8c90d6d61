"""Sphinx extension of the book: checks each executed page against its card and says what it is, shows figures of other
pages, and mends what theme and tools leave open, so that pages read offline and by all.

* ``{results}`table.csv` `` becomes a download link to the table beside the page's card; the cell above the first
  one of a table gets an anchor, such as ``#data-table``.
* ``{figure-of} executed/compact/04_layerwise_r2.ipynb curves_figure`` shows the figure that the notebook glues under that
  name, with the alternative text of the cell that made it; MyST-NB's own directive does not copy another page's picture.
* The build fails if a table differs from its card, or if a page was executed from other code than its notebook has now.
"""

from __future__ import annotations

import ast
import base64
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.addnodes import download_reference
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective, SphinxRole

from scalelib.errors import ResultsError
from scalelib.results import Results, code_cells, digest_notebook, read_results

EXECUTED = "book/executed/"
# Attribute of a download link that names its table.
TABLE = "results-table"
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
LAUNCH = {"binderhub_url": "https://mybinder.org", "colab_url": "https://colab.research.google.com"}
LAUNCH["notebook_interface"] = "jupyterlab"


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
    imports = [n for tree in trees for n in ast.walk(tree) if isinstance(n, ast.Import | ast.ImportFrom)]
    imported = {alias.asname or alias.name for node in imports for alias in node.names}
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
            words = f"no table {self.text!r} in the results of {docname}"
            return [nodes.inline(text=self.text)], [self.inliner.reporter.error(words, line=self.lineno)]
        target = f"/results/{docname.removeprefix(EXECUTED)}/{file}"
        link = download_reference("", "", nodes.literal(text=file), reftarget=target, refdoc=docname)
        link[TABLE] = file
        return [link], []


def anchor_of(table: str) -> str:
    """Anchor on a page of the cell above the line that names a table, such as ``data-layerwise-r2``."""
    return f"data-{table.partition('.')[0].replace('_', '-')}"


def add_anchors(_app: Sphinx, doctree: nodes.document) -> None:
    """Put each table's anchor above the cell whose figure it holds the numbers of."""
    downloads = reversed(list(doctree.findall(download_reference)))
    links = {link[TABLE]: link for link in downloads if TABLE in link}
    for table, block in links.items():
        while not isinstance(block.parent, nodes.section | nodes.document):
            block = block.parent
        section, place = block.parent, block.parent.index(block)
        above = [i for i in range(place) if "cell" in section[i].get("classes", [])]
        section.insert(above[-1] if above else place, nodes.target("", "", ids=[anchor_of(table)]))


def add_banner(app: Sphinx, doctree: nodes.document) -> None:
    """Put the tier of an executed page under its title."""
    results = results_of(Path(app.srcdir), app.env.docname)
    section = next(doctree.findall(nodes.section), None)
    if results is None or section is None:
        return
    card = results.card.data
    title, text = TIERS[card["profile"]]
    when = f"Executed {card['date']} in {card['wall_time_s']:.0f} s"
    commit = (card["code"]["commit"] or "no commit")[:12]
    words = f"{text} {when}, at {commit}. The card at the end of the page says the rest."
    classes = ["tier", f"tier-{card['profile']}"]
    tier = nodes.admonition("", nodes.title(text=title), nodes.paragraph(text=words), classes=classes)
    section.insert(1, tier)


class FigureOf(SphinxDirective):
    """A figure of an executed notebook, with a caption, on another page."""

    required_arguments = 2
    has_content = True

    def run(self) -> list[nodes.Node]:
        path, key = self.arguments
        _, notebook = self.env.relfn2path(path)
        if not Path(notebook).is_file():
            raise self.error(f"figure-of: no executed notebook {path}; make reproduce writes it.")
        self.env.note_dependency(notebook)
        cell, png = find_figure(json.loads(Path(notebook).read_text(encoding="utf-8")), key)
        if png is None:
            raise self.error(f"figure-of: {path} glues no figure under the name {key!r}.")
        alt = cell["metadata"].get("mystnb", {}).get("image", {}).get("alt")
        if not alt:
            raise self.error(f"figure-of: the cell of {path} that makes {key!r} has no alternative text.")
        picture = Path(self.env.app.outdir).parent / "figures" / f"{hashlib.sha256(png).hexdigest()}.png"
        picture.parent.mkdir(exist_ok=True, parents=True)
        picture.write_bytes(png)
        page = Path(self.env.doc2path(self.env.docname)).parent
        text, messages = self.state.inline_text(" ".join(self.content), self.lineno)
        image = nodes.image(uri=Path(os.path.relpath(picture, page)).as_posix(), alt=alt)
        return [nodes.figure("", image, nodes.caption("", "", *text)), *messages]


def find_figure(notebook: dict[str, Any], key: str) -> tuple[dict[str, Any], bytes | None]:
    """The cell that glues a figure under this name, and the picture in PNG."""
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            name = output.get("metadata", {}).get("scrapbook", {}).get("name", "")
            if name.removeprefix("application/papermill.record/") == key:
                for kind, data in output["data"].items():
                    if kind.endswith("image/png"):
                        return cell, base64.b64decode(data)
    return {}, None


def add_launch_buttons(_app: Sphinx, config: Config) -> None:
    """Binder and Colab, where it is known what to launch: ``repository: url`` or, on GitHub, its own environment."""
    options = config.html_theme_options
    if not options.get("repository_url") and "GITHUB_REPOSITORY" in os.environ:
        server = os.environ.get("GITHUB_SERVER_URL", "https://github.com")
        options["repository_url"] = f"{server}/{os.environ['GITHUB_REPOSITORY']}"
        options.setdefault("repository_branch", "main")
    if options.get("repository_url"):
        options.setdefault("launch_buttons", LAUNCH)


def launch_url(url: str) -> str:
    """Address of the notebook in ``notebooks/`` instead of its executed copy, which the repository may not hold."""
    before, executed, after = url.partition(EXECUTED)
    return f"{before}notebooks/{after.partition('/')[2]}" if executed else url


def mend_page(_app: Sphinx, _page: str, _template: str, context: dict[str, Any], _doctree: object) -> None:
    """Launch the notebook itself, not an executed copy of it; load no live-code script from outside."""
    for group in context.get("header_buttons", []):
        if group.get("label") == "launch-buttons":
            for button in group["buttons"]:
                button["url"] = launch_url(button["url"])
    for kind in ("script_files", "css_files"):
        context[kind] = [file for file in context[kind] if "thebe" not in _written(file)]
    # Its children are entries of a bibliography and no list items, which a list may not have.
    if "body" in context:
        wrong, right = 'role="list" class="citation-list"', 'class="citation-list"'
        context["body"] = context["body"].replace(wrong, right)


def _written(file: Any) -> str:
    return f"{file.filename} {file.attributes.get('body', '')}" if hasattr(file, "attributes") else str(file)


def drop_live_code(_app: Sphinx, doctree: nodes.document, _docname: str) -> None:
    """Remove the configuration of live code, which the book does not offer, from a page's end."""
    for raw in list(doctree.findall(nodes.raw)):
        if "x-thebe-config" in raw.astext() or raw.astext().startswith("<script>kernelName"):
            raw.parent.remove(raw)


def setup(app: Sphinx) -> dict[str, object]:
    """Register; what mends another extension's work comes after it."""
    app.add_role("results", ResultsRole())
    app.add_directive("figure-of", FigureOf)
    app.connect("doctree-read", add_banner)
    app.connect("doctree-read", add_anchors)
    app.connect("config-inited", add_launch_buttons, priority=100)
    app.connect("doctree-resolved", drop_live_code, priority=900)
    app.connect("html-page-context", mend_page, priority=900)
    app.add_js_file("scalelib.js", loading_method="defer")
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
