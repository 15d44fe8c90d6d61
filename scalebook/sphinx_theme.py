"""Sphinx extension of the book: mends what theme and tools leave open, so that pages read offline and by all.

It knows HTML and configuration alone, nothing of results.
"""

from __future__ import annotations

import os
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config

from scalebook.sphinx_book import EXECUTED

LAUNCH = {
    "binderhub_url": "https://mybinder.org",
    "colab_url": "https://colab.research.google.com",
    "notebook_interface": "jupyterlab",
}


def add_launch_buttons(_app: Sphinx, config: Config) -> None:
    """Binder and Colab, where it is known what to launch: ``repository: url`` or, on GitHub, its own environment."""
    options = config.html_theme_options
    if not options.get("repository_url") and "GITHUB_REPOSITORY" in os.environ:
        server = os.environ.get("GITHUB_SERVER_URL", "https://github.com")
        options["repository_url"] = f"{server}/{os.environ['GITHUB_REPOSITORY']}"
        options.setdefault("repository_branch", "main")
    if options.get("repository_url"):
        options.setdefault("launch_buttons", LAUNCH)


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
        context["body"] = context["body"].replace(
            'role="list" class="citation-list"', 'class="citation-list"'
        )


def launch_url(url: str) -> str:
    """Address of the notebook in ``notebooks/`` instead of its executed copy, which the repository may not hold."""
    before, executed, after = url.partition(EXECUTED)
    return f"{before}notebooks/{after.partition('/')[2]}" if executed else url


def _written(file: Any) -> str:
    return f"{file.filename} {file.attributes.get('body', '')}" if hasattr(file, "attributes") else str(file)


def drop_live_code(_app: Sphinx, doctree: nodes.document, _docname: str) -> None:
    """Remove the configuration of live code, which the book does not offer, from a page's end."""
    for raw in list(doctree.findall(nodes.raw)):
        if "x-thebe-config" in raw.astext() or raw.astext().startswith("<script>kernelName"):
            raw.parent.remove(raw)


def setup(app: Sphinx) -> dict[str, object]:
    """Register, each after the extension that it mends."""
    app.connect("config-inited", add_launch_buttons, priority=100)
    app.connect("doctree-resolved", drop_live_code, priority=900)
    app.connect("html-page-context", mend_page, priority=900)
    app.add_js_file("scalelib.js", loading_method="defer")
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
