"""What every notebook keeps to, so that papermill, nbval and the book can rely on it."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MOST_LINES = 14


def cells(path: Path, kind: str = "code") -> list[dict[str, Any]]:
    every = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in every if cell["cell_type"] == kind]


def source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def tags(cell: dict[str, Any]) -> list[str]:
    return cell["metadata"].get("tags", [])


def shows_an_image(cell: dict[str, Any]) -> bool:
    return any("image/png" in output.get("data", {}) for output in cell["outputs"])


def is_glued(output: dict[str, Any]) -> bool:
    return "scrapbook" in output.get("metadata", {})


notebooks = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@notebooks
def test_first_code_cell_holds_the_parameters_and_nothing_else(path: Path) -> None:
    first, *others = cells(path)
    assert "parameters" in tags(first)
    assert not any("parameters" in tags(cell) for cell in others)
    assert all(isinstance(node, ast.Assign) for node in ast.parse(source(first)).body)
    assert source(first).splitlines()[0] == 'profile = "control"'


@notebooks
def test_last_cell_shows_the_card(path: Path) -> None:
    last = json.loads(path.read_text(encoding="utf-8"))["cells"][-1]
    assert 'glue("card"' in source(last)


@notebooks
def test_no_function_or_class_is_defined(path: Path) -> None:
    for cell in cells(path):
        kinds = {type(node) for node in ast.walk(ast.parse(source(cell)))}
        assert not kinds & {ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef}, source(cell)


@notebooks
def test_cells_are_short(path: Path) -> None:
    for cell in cells(path)[1:]:
        code = [
            line
            for line in source(cell).splitlines()
            if line.strip() and not line.startswith(("from", "import"))
        ]
        assert len(code) <= MOST_LINES, source(cell)


@notebooks
def test_outputs_are_stored_and_clean(path: Path) -> None:
    outputs = [output for cell in cells(path) for output in cell["outputs"]]
    assert outputs, "run workflow/run_notebook.py with --store"
    for output in outputs:
        assert output["output_type"] != "error"
        assert output.get("name") != "stderr", output


@notebooks
def test_only_images_and_glued_outputs_escape_comparison(path: Path) -> None:
    for cell in cells(path):
        if "nbval-ignore-output" in tags(cell):
            assert cell["outputs"], source(cell)
            for output in cell["outputs"]:
                assert is_glued(output) or "image/png" in output.get("data", {}), source(cell)


@notebooks
def test_every_figure_has_alt_text(path: Path) -> None:
    for cell in cells(path):
        if shows_an_image(cell):
            alt = cell["metadata"].get("mystnb", {}).get("image", {}).get("alt", "")
            assert len(alt) > 20, source(cell)


@notebooks
def test_every_glued_number_has_a_format(path: Path) -> None:
    for cell in cells(path, "markdown"):
        for piece in source(cell).split("{glue:text}`")[1:]:
            key = piece.split("`")[0].split("::")[-1]
            name = key.split(":")[0]
            formatted = ":" in key
            assert formatted or _glued_as_text(path, name), f"{key} is a number without a format"


def _glued_as_text(path: Path, name: str) -> bool:
    for cell in cells(path):
        for output in cell["outputs"]:
            if output.get("metadata", {}).get("scrapbook", {}).get("name", "").endswith(name):
                [text] = [text for mime, text in output["data"].items() if mime.endswith("text/plain")]
                return "".join(text).startswith(("'", '"'))
    return False


@notebooks
def test_glued_values_are_no_numpy_scalars(path: Path) -> None:
    for cell in cells(path):
        for output in filter(is_glued, cell["outputs"]):
            for text in output["data"].values():
                assert not "".join(text).startswith("np."), source(cell)


@notebooks
def test_glued_values_are_left_out_of_comparison(path: Path) -> None:
    # nbval would compare them digit by digit, and last digits differ between processors
    for cell in cells(path):
        if any(map(is_glued, cell["outputs"])):
            assert "nbval-ignore-output" in tags(cell), source(cell)
