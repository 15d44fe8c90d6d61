"""Every figure that shows images says below it where they come from, and under which licence, in every profile."""

from __future__ import annotations

import ast
import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest

from scalelib.results import read_results

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
ARCHIVED = sorted((ROOT / "book" / "executed" / "compact").glob("*.ipynb"))
PICTURES = {
    "example_images",
    "galleries",
    "manipulation_grid",
    "noise_gallery",
    "zoomed_regions",
    "_draw_region",
}
"""Functions of the studies that draw photographs, tissue, scenes or noise."""
NUMBERS = {"confusions", "heat_table", "choice_table", "cosine_by_tap", "kernel_sheet"}
"""Those that draw numbers or weights as a grid of colours."""


def cells(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def functions_with_imshow() -> set[str]:
    """Public functions of the studies that draw a grid of pixels, themselves or through a helper of their module."""
    found = set()
    for path in (ROOT / "notebooks" / "studies").glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        bodies = {node.name: ast.unparse(node) for node in tree.body if isinstance(node, ast.FunctionDef)}
        drawing = {name for name, body in bodies.items() if ".imshow(" in body}
        for _ in bodies:
            drawing |= {name for name, body in bodies.items() if any(f"{one}(" in body for one in drawing)}
        found |= {name for name in drawing if not name.startswith("_")}
    return found


def test_every_function_that_draws_a_grid_is_known_to_show_images_or_numbers() -> None:
    found = functions_with_imshow()
    assert found >= PICTURES - {"_draw_region"}
    unknown = found - PICTURES - NUMBERS
    assert not unknown, f"{unknown}: add to PICTURES (source and licence below each figure) or to NUMBERS"


@pytest.mark.parametrize("path", [*NOTEBOOKS, *ARCHIVED], ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_source_and_licence_follow_each_figure_with_images(path: Path) -> None:
    every = cells(path)
    for cell, after in itertools.pairwise(every):
        if cell["cell_type"] == "code" and any(f".{name}(" in source(cell) for name in PICTURES):
            assert after["cell_type"] == "markdown", source(cell)
            assert "Images: " in source(after), source(cell)
            assert re.search(r"\{glue:text\}`source`|\{source\}`|licence", source(after)), source(after)


@pytest.mark.parametrize("path", ARCHIVED, ids=lambda path: path.stem)
def test_the_source_on_an_archived_page_is_that_of_its_card(path: Path) -> None:
    card = read_results(ROOT / "results" / "compact" / path.stem).card.data
    places = re.findall(r"\{source\}`(-?\d+)`", "".join(source(cell) for cell in cells(path)))
    shown = {card["datasets"][int(place)]["source"] for place in places} | {
        "".join(text).strip("'\"")
        for cell in cells(path)
        for output in cell.get("outputs", [])
        if output.get("metadata", {}).get("scrapbook", {}).get("name", "").split("/")[-1] == "source"
        for text in output["data"].values()
    }
    assert shown <= {entry["source"] for entry in card["datasets"]}
    for text in shown:
        assert any(word in text for word in ("research use", "licence", "CC BY")), text
