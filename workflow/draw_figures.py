"""Draw the book's key figures from checked tables in ``results/``: ``python workflow/draw_figures.py``.

Each is a function ``NAME(read, *, narrow)`` of a study module and becomes ``book/figures/NAME.svg`` and ``NAME-narrow.svg`` for ``{key-figure} NAME``: text stays text, black is the
page's own colour, and the palette's colours can be set by the page's style for the dark scheme. What a reader can move
becomes ``book/figures/move-NAME.html``, which ``book/_static/move.js`` draws.
"""

from __future__ import annotations

import base64
import importlib
import inspect
import io
import json
import re
import runpy
import sys
import traceback
from collections.abc import Callable
from contextlib import chdir, redirect_stdout
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from scalebook.ledger import Read, table_of
from scalelib.plotting import COLOURS, use_style

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "notebooks"))  # where studies lies
# What a reader can move, by name: columns of tables, and how its pictures are rendered.
MOVED = json.loads((ROOT / "book" / "_static" / "move.json").read_text(encoding="utf-8"))
PAGE = """<link rel="stylesheet" href="../_static/move.css"><script defer src="../_static/move.js"></script>
<section class="move" id="move-{0}" hidden></section><script type="application/json" id="move-{0}-data">{1}</script>
"""


def example(read: Read, *, narrow: bool) -> Figure:
    """The figure of the page on use, by running what the page shows; what that prints is kept for the page."""
    script, printed = ROOT / "book" / "example.py", io.StringIO()
    with TemporaryDirectory() as folder, chdir(folder), redirect_stdout(printed):
        axes = runpy.run_path(str(script))["axes"]
    (ROOT / "book" / "figures" / "example.txt").write_text(printed.getvalue(), encoding="utf-8")
    axes.figure.set_size_inches((3.73, 2.9) if narrow else (8.23, 3.6))
    return axes.figure


def key_figures() -> dict[str, Callable[..., Figure]]:
    """By name, the functions of the study modules and of this one that draw one: those that take `read` and `narrow` alone."""
    studies = sorted((ROOT / "notebooks" / "studies").glob("[a-z]*.py"))
    modules = [*(importlib.import_module(f"studies.{path.stem}") for path in studies), sys.modules[__name__]]
    found = [one for module in modules for one in vars(module).items() if inspect.isfunction(one[1])]
    return {name: one for name, one in found if [*inspect.signature(one).parameters] == ["read", "narrow"]}


def draw(name: str, function: Callable[..., Figure], *, narrow: bool) -> None:
    """Draw one figure for pages of one width."""
    use_style()
    with plt.rc_context({"savefig.bbox": None, "svg.fonttype": "none"}):
        figure, file = function(partial(table_of, ROOT), narrow=narrow), f"{name}-narrow" if narrow else name
        written = io.StringIO()
        figure.savefig(written, format="svg", transparent=True)
    drawing = re.sub(r"^.*?(?=<svg)|<(metadata|style).*?</\1>", "", written.getvalue(), flags=re.DOTALL)
    drawing = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{file}-", drawing)
    drawing = re.sub(r' (width|height)="[\d.]+pt"', "", drawing, count=2)  # the page says how wide
    for i, colour in enumerate(COLOURS):
        drawing = drawing.replace(colour.lower(), f"var(--c{i}, {colour})")
    page = {"#000000": "currentColor", "#ffffff": "var(--pst-color-background, #ffffff)"}
    drawing = re.sub("|".join(page), lambda found: page[found[0]], drawing)
    (ROOT / "book" / "figures" / f"{file}.svg").write_text(drawing, encoding="utf-8")
    plt.close("all")


def move(name: str, *, tables: dict[str, list[str]], **rendered: dict[str, Any]) -> None:
    """Write the numbers and pictures of what a reader can move, in HTML that a page includes."""
    runs = {f"{profile}/{table}": table for table in tables for profile in ("compact", "control")}
    cells = {run: table_of(ROOT, run)[tables[table]] for run, table in runs.items()}
    data = {run: json.loads(rows.to_json(orient="values", double_precision=3)) for run, rows in cells.items()}
    for render, options in rendered.items():
        scenes = getattr(importlib.import_module("studies.rendered.scenes"), render)(**options)
        strip = io.BytesIO()
        plt.imsave(strip, np.concatenate(scenes.images, axis=1), format="jpeg")
        data["pictures"] = f"data:image/jpeg;base64,{base64.b64encode(strip.getvalue()).decode()}"
        data["boxes"] = scenes.table[["box_x0", "box_y0", "box_x1", "box_y1"]].to_numpy().tolist()
    html = PAGE.format(name, json.dumps(data, separators=(",", ":")))
    (ROOT / "book" / "figures" / f"move-{name}.html").write_text(html, encoding="utf-8")


def main() -> int:
    """Draw all; a figure that fails keeps no other from being drawn."""
    (ROOT / "book" / "figures").mkdir(exist_ok=True)
    failed = False
    drawn = [partial(draw, *one, narrow=narrow) for one in key_figures().items() for narrow in (False, True)]
    for job in drawn + [partial(move, name, **given) for name, given in MOVED.items()]:
        try:
            job()
        except Exception:
            traceback.print_exc()
            failed = True
    return failed


if __name__ == "__main__":
    sys.exit(main())
