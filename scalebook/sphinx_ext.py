"""Sphinx extension of the book: checks each executed page against its card and says what it is, shows figures of other
pages, and mends what theme and tools leave open, so that pages read offline and by all.

* ``{results}`table.csv` `` becomes a download link to the table beside the page's card; the cell above the first
  one of a table gets an anchor, such as ``#data-table``. On other pages: ``{results}`compact/04_layerwise_r2/table.csv``.
* ``{value}`compact/04_layerwise_r2/answers network=SqueezeNet object_class='a b' drop .2f` `` is one cell: the table,
  filters that leave one row, the column, its format.
* ``{key-figure} curves`` with ``:alt:`` and a caption shows what ``workflow/draw_figures.py`` drew under that name.
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
import re
import shlex
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.addnodes import download_reference
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective, SphinxRole

from scalebook.ledger import run_of, table_of
from scalelib.errors import ResultsError, require
from scalelib.results import Results, code_cells, digest_notebook

EXECUTED = "book/executed/"
# Attribute of a download link that names its table.
TABLE = "results-table"
TIERS = {
    "control": "Rendered control experiment, run at this build",
    "compact": "Published weights, archived run",
    "paper": "The paper's own networks, archived run",
}
LAUNCH = {"binderhub_url": "https://mybinder.org", "colab_url": "https://colab.research.google.com"}
LAUNCH["notebook_interface"] = "jupyterlab"


def results_of(root: Path, docname: str) -> Results | None:
    """The checked results behind a page, or None for a page that is no executed notebook."""
    profile, _, name = docname.removeprefix(EXECUTED).partition("/")
    if not docname.startswith(EXECUTED):
        return None
    try:
        results = run_of(root, f"{profile}/{name}")
    except ResultsError as error:
        raise ExtensionError(f"{docname}: {error}") from error
    notebook, page = root / "notebooks" / f"{name}.ipynb", root / f"{docname}.ipynb"
    carded = digest_notebook(page) == results.card.data["notebook_digest"]
    if calls_of(page) != calls_of(notebook) or not carded:
        words = f"{docname}: page or card come from other code cells than notebooks/{name}.ipynb has now. Run it again:"
        raise ExtensionError(f"{words} make reproduce PROFILE={profile}")
    return results


def calls_of(notebook: Path) -> list[str]:
    """What the code cells do, wherever the functions live that they call: imports aside, ``module.name`` read as ``name``."""
    trees = [ast.parse(source) for source in code_cells(notebook)]
    imports = [n for tree in trees for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)]
    imported = "|".join(alias.asname or alias.name for node in imports for alias in node.names)
    done = ("\n".join(ast.unparse(n) for n in tree.body if n not in imports) for tree in trees)
    return [re.sub(rf"\b(?:{imported})\.(?=\w)", "", source) for source in done]


class CheckedRole(SphinxRole):
    """What a role shows of tables that are as their run wrote them; the build fails where it cannot."""

    def __init__(self, show: Callable[[Path, str, str], nodes.Node]) -> None:
        self.show = show

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        try:
            return [self.show(Path(self.env.srcdir), self.env.docname, self.text)], []
        except (ResultsError, LookupError, ValueError) as error:
            words = f"{self.text!r} cannot be shown: {error}"
            return [nodes.inline(text=self.text)], [self.inliner.reporter.error(words, line=self.lineno)]


def link_to(root: Path, docname: str, text: str) -> nodes.Node:
    """Download links to a table or its parts: of the page's own results by its name, of others by ``profile/notebook/name``."""
    place, _, name = text.rpartition("/")
    place, links = place or docname.removeprefix(EXECUTED), nodes.inline()
    for file in run_of(root, place).files(name):
        target, words = f"/results/{place}/{file}", nodes.literal(text=file)
        links += [nodes.Text(" "), download_reference("", "", words, refdoc=docname, reftarget=target)]
        links[-1][TABLE] = anchor_of(name)
    return links


def value_of(root: Path, _docname: str, text: str) -> nodes.Node:
    """One cell: its table, as many ``column=value`` as single out a row, the column, and a format."""
    table, *filters, column, form = shlex.split(text)
    rows = table_of(root, table)
    for key, _, value in (one.partition("=") for one in filters):
        rows = rows[rows[key].astype(str).isin((value, f"{value}.0"))]
    found = rows[column].dropna()
    require(len(found) == len(rows) == 1, "value", "one row must match", len(rows), error=ResultsError)
    shown = format(found.item(), form)
    return nodes.Text(shown if form == "s" else shown.replace("-", "−").replace("%", "\N{NO-BREAK SPACE}%"))


def source_of(root: Path, docname: str, text: str) -> nodes.Node:
    """Where images come from, and their licence: the card's dataset of this place, of another run after ``profile/notebook``."""
    place, _, which = text.rpartition(" ")
    card = run_of(root, place or docname.removeprefix(EXECUTED)).card
    return nodes.Text(card.data["datasets"][int(which)]["source"])


def anchor_of(table: str) -> str:
    """Anchor on a page of the cell above the line that names a table, such as ``data-layerwise-r2``."""
    return f"data-{table.partition('.')[0].replace('_', '-')}"


def add_anchors(_app: Sphinx, doctree: nodes.document) -> None:
    """Put each table's anchor above the cell whose figure it holds the numbers of."""
    downloads = reversed(list(doctree.findall(download_reference)))
    links = {link[TABLE]: link for link in downloads if TABLE in link}
    for anchor, block in links.items():
        while not isinstance(block.parent, nodes.section | nodes.document):
            block = block.parent
        section, place = block.parent, block.parent.index(block)
        above = [i for i in range(place) if "cell" in section[i].get("classes", [])]
        section.insert(above[-1] if above else place, nodes.target("", "", ids=[anchor]))


def add_banner(app: Sphinx, doctree: nodes.document) -> None:
    """Put the tier of an executed page under its title."""
    results = results_of(Path(app.srcdir), app.env.docname)
    section = next(doctree.findall(nodes.section), None)
    if results is None or section is None:
        return
    card = results.card.data
    used = ", ".join(dict.fromkeys(one["name"] for one in card["datasets"] + card["networks"]))
    when = f"Executed {card['date']} in {card['wall_time_s']:.0f} s, at {(card['code']['commit'] or 'no commit')[:12]}."
    words = nodes.paragraph(text=f"Images and networks: {used}. {when} The card at the end says the rest.")
    classes = ["tier", f"tier-{card['profile']}"]
    section.insert(1, nodes.admonition("", nodes.title(text=TIERS[card["profile"]]), words, classes=classes))
    section[0] += nodes.Text(f" (notebook, {'control' if card['profile'] == 'control' else 'photographs'})")


class CaptionedFigure(SphinxDirective):
    """A figure whose caption is the directive's content, for those who see it, and its alternative text, for all others."""

    has_content = True

    def figure(self, name: str, picture: nodes.Element, alt: str | None) -> list[nodes.Node]:
        if not alt:
            raise self.error(f"{self.name}: {name} has no alternative text.")
        text, messages = self.state.inline_text(" ".join(self.content), self.lineno)
        caption = nodes.caption("", "", *text)
        return [nodes.figure("", picture, caption, ids=[nodes.make_id(f"figure-{name}")]), *messages]


class KeyFigure(CaptionedFigure):
    """A figure that ``workflow/draw_figures.py`` has drawn, wide and narrow; the page shows the one that fits."""

    required_arguments = 1
    option_spec: ClassVar = {"alt": directives.unchanged}

    def run(self) -> list[nodes.Node]:
        name, alt = self.arguments[0], self.options.get("alt", "")
        files = [Path(self.env.srcdir, "book", "figures", f"{name}{kind}.svg") for kind in ("", "-narrow")]
        if not all(file.is_file() for file in files):
            raise self.error(f"key-figure: no {name!r}; workflow/draw_figures.py draws what it lists.")
        drawn = "".join(file.read_text(encoding="utf-8") for file in files)
        html = f'<div class="key-figure" role="img" aria-label="{escape(alt)}">{drawn}</div>'
        return self.figure(name, nodes.raw("", html, format="html"), alt)


class FigureOf(CaptionedFigure):
    """A figure of an executed notebook, with a caption, on another page."""

    required_arguments = 2

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
        picture = Path(self.env.app.outdir).parent / "figures" / f"{hashlib.sha256(png).hexdigest()}.png"
        picture.parent.mkdir(exist_ok=True, parents=True)
        picture.write_bytes(png)
        page = Path(self.env.doc2path(self.env.docname)).parent
        image = nodes.image(uri=Path(os.path.relpath(picture, page)).as_posix(), alt=alt)
        return self.figure(f"{path} {key}", image, alt)


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


def drop_live_code(app: Sphinx, _config: Config) -> None:
    """Switch off the live code of Jupyter Book, which would load scripts from outside."""
    for event in ("env-before-read-docs", "doctree-resolved"):
        heard = app.events.listeners[event]
        heard[:] = [one for one in heard if getattr(one.handler, "__module__", "") != "sphinx_thebe"]


def mend_page(_app: Sphinx, _page: str, _template: str, context: dict[str, Any], _doctree: object) -> None:
    """Launch the notebook itself, not an executed copy of it."""
    for group in context.get("header_buttons", []):
        if group.get("label") == "launch-buttons":
            for button in group["buttons"]:
                button["url"] = re.sub(rf"{EXECUTED}[^/]+", "notebooks", button["url"])


def setup(app: Sphinx) -> dict[str, object]:
    """Register; what mends another extension's work comes after it."""
    app.add_role("results", CheckedRole(link_to))
    app.add_role("value", CheckedRole(value_of))
    app.add_role("source", CheckedRole(source_of))
    app.add_directive("figure-of", FigureOf)
    app.add_directive("key-figure", KeyFigure)
    app.connect("doctree-read", add_banner, priority=400)  # before titles are gathered
    app.connect("doctree-read", add_anchors)
    app.connect("config-inited", add_launch_buttons, priority=100)
    app.connect("config-inited", drop_live_code)
    app.connect("html-page-context", mend_page, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
