"""What every notebook keeps to, so that papermill, nbval and the book can rely on it."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOKS = {path.stem: path for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}
MOST_LINES = 14

Cells = list[dict[str, Any]]


@pytest.fixture(params=NOTEBOOKS)
def cells(request: pytest.FixtureRequest) -> Cells:
    found = json.loads(NOTEBOOKS[request.param].read_text(encoding="utf-8"))["cells"]
    return [{**cell, "source": "".join(cell["source"])} for cell in found]


@pytest.fixture
def code(cells: Cells) -> Cells:
    return [cell for cell in cells if cell["cell_type"] == "code"]


def tags(cell: dict[str, Any]) -> list[str]:
    return cell["metadata"].get("tags", [])


def is_image(output: dict[str, Any]) -> bool:
    return "image/png" in output.get("data", {})


def is_glued(output: dict[str, Any]) -> bool:
    return "scrapbook" in output.get("metadata", {})


def test_first_code_cell_holds_the_parameters_and_nothing_else_and_the_last_shows_the_card(cells, code):
    first, *others = code
    assert "parameters" in tags(first)
    assert not any("parameters" in tags(cell) for cell in others)
    assert all(isinstance(node, ast.Assign) for node in ast.parse(first["source"]).body)
    assert first["source"].splitlines()[0] == 'profile = "control"'
    assert 'glue("card"' in cells[-1]["source"]


def test_cells_are_short_and_define_no_function_or_class(code):
    for cell in code:
        kinds = {type(node) for node in ast.walk(ast.parse(cell["source"]))}
        assert not kinds & {ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef}, cell["source"]
    for cell in code[1:]:
        lines = [line for line in cell["source"].splitlines() if line.strip()]
        most = MOST_LINES + 2 * (
            "hide-input" in tags(cell)
        )  # folded ones are opened by those who look for them
        assert sum(not line.startswith(("from", "import")) for line in lines) <= most, cell["source"]


def test_outputs_are_stored_and_clean_and_figures_have_alt_text(code):
    outputs = [output for cell in code for output in cell["outputs"]]
    assert outputs, "run workflow/run_notebook.py with --store"
    assert not [o for o in outputs if o["output_type"] == "error" or o.get("name") == "stderr"]
    for cell in code:
        draws = any(line.startswith("fig = ") for line in cell["source"].splitlines())
        assert not draws or any(map(is_image, cell["outputs"])), cell["source"]
        if any(map(is_image, cell["outputs"])):
            assert len(cell["metadata"].get("mystnb", {}).get("image", {}).get("alt", "")) > 20, cell[
                "source"
            ]


def test_only_images_and_glued_outputs_escape_comparison_and_glued_ones_do(code):
    # nbval would compare glued numbers digit by digit, and last digits differ between processors
    for cell in code:
        if "nbval-ignore-output" in tags(cell):
            assert cell["outputs"], cell["source"]
            assert all(is_glued(output) or is_image(output) for output in cell["outputs"]), cell["source"]
        else:
            assert not any(map(is_glued, cell["outputs"])), cell["source"]


def test_glued_numbers_are_no_numpy_scalars_and_have_a_format_where_they_stand(cells, code):
    values = {
        output["metadata"]["scrapbook"]["name"].rpartition("/")[2]: "".join(text)
        for cell in code for output in cell["outputs"] if is_glued(output)
        for mime, text in output["data"].items() if mime.endswith("text/plain")
    }  # fmt: skip
    assert not [name for name, text in values.items() if text.startswith("np.")]
    for cell in cells:
        for piece in cell["source"].split("{glue:text}`")[1:] if cell["cell_type"] == "markdown" else []:
            name, has_format, _ = piece.split("`")[0].split("::")[-1].partition(":")
            assert has_format or values.get(name, "").startswith(("'", '"')), (
                f"{name}: a number without a format"
            )


@pytest.mark.parametrize(
    "page", sorted((ROOT / "book" / "executed" / "compact").glob("*.ipynb")), ids=lambda p: p.stem
)
def test_every_figure_of_an_archived_page_is_there_and_no_warning_of_its_machine(page):
    for cell in json.loads(page.read_text(encoding="utf-8"))["cells"]:
        outputs = cell.get("outputs", [])
        assert not [o for o in outputs if o["output_type"] == "error" or o.get("name") == "stderr"]
        if any(line.startswith("fig = ") for line in "".join(cell["source"]).splitlines()):
            assert any(map(is_image, outputs)), cell["source"]


@pytest.mark.parametrize(
    ("cell", "change", "words"),
    [
        (2, lambda cell: None, "passed"),
        (2, lambda cell: cell["outputs"][0]["data"].update({"text/plain": "another"}), r"04_\w+\.ipynb::Cell 2[\s\S]*another[\s\S]*arrow"),
        (2, lambda cell: cell["outputs"].clear(), r"Cell 2[\s\S]*Missing output fields"),
        (4, lambda cell: cell["outputs"][0]["data"].update({"image/png": "bm9uZQ=="}), "passed"),
        (12, lambda cell: cell["outputs"].clear(), "passed"),  # tagged nbval-ignore-output
        (3, lambda cell: cell.update(source=["another()"]), r"Cell 3[\s\S]*another cell here[\s\S]*another\(\)"),
    ],
    ids=["same", "text", "lost", "picture", "ignored", "source"],
)  # fmt: skip
def test_executed_copies_are_compared_with_stored_outputs_as_nbval_does(tmp_path, cell, change, words):
    source = NOTEBOOKS["04_layerwise_r2"]
    copy = json.loads(source.read_text(encoding="utf-8"))
    change([cell for cell in copy["cells"] if cell["cell_type"] == "code"][cell])
    (tmp_path / source.name).write_text(json.dumps(copy), encoding="utf-8")
    plugin = ["-p", "tests.executed_copies", f"--executed={tmp_path}"]
    command = [sys.executable, "-m", "pytest", "--color=no", *plugin, str(source)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert re.search(words, done.stdout), done.stdout
    assert done.returncode == (words != "passed")
