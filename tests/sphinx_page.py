"""One page of the book built by Sphinx itself, warnings as errors."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

from sphinx import application as sphinx_application
from sphinx.util.docutils import docutils_namespace, patch_docutils


def build_page(source: Path, page: str) -> str:
    """The HTML of a page of a small book whose sources lie in `source`."""
    out, warnings = source.parent / "out", StringIO()
    with patch_docutils(source), docutils_namespace():
        app = sphinx_application.Sphinx(
            source, source, out, out / "doctrees", "html", status=None, warning=warnings, warningiserror=True
        )
        app.build()
    assert warnings.getvalue() == ""
    return (out / "book" / f"{page}.html").read_text(encoding="utf-8")
