"""Sphinx directive that shows a figure of an executed notebook on another page.

    ```{figure-of} executed/compact/04_layerwise_r2.ipynb curves_figure
    The caption.
    ```

The figure is the one that the notebook glues under that name; its alternative text comes from the cell that made it.
MyST-NB's own directive does not copy the picture when the notebook is another page's.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


class FigureOf(SphinxDirective):
    """A figure with its caption."""

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
        try:
            alt = cell["metadata"]["mystnb"]["image"]["alt"]
        except KeyError:
            raise self.error(
                f"figure-of: the cell of {path} that makes {key!r} has no alternative text."
            ) from None

        picture = Path(self.env.app.outdir).parent / "figures" / f"{hashlib.sha256(png).hexdigest()}.png"
        picture.parent.mkdir(exist_ok=True, parents=True)
        picture.write_bytes(png)
        page = Path(self.env.doc2path(self.env.docname)).parent
        figure = nodes.figure("", nodes.image(uri=Path(os.path.relpath(picture, page)).as_posix(), alt=alt))
        caption = nodes.caption()
        text, messages = self.state.inline_text(" ".join(self.content), self.lineno)
        caption += text
        figure += caption
        return [figure, *messages]


def find_figure(notebook: dict[str, Any], key: str) -> tuple[dict[str, Any], bytes | None]:
    """The cell that glues a figure under this name, and the picture in PNG."""
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            name = output.get("metadata", {}).get("scrapbook", {}).get("name", "")
            if name.removeprefix("application/papermill.record/") != key:
                continue
            for kind, data in output["data"].items():
                if kind.endswith("image/png"):
                    return cell, base64.b64decode(data)
    return {}, None


def setup(app: Sphinx) -> dict[str, object]:
    """Register the directive."""
    app.add_directive("figure-of", FigureOf)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
