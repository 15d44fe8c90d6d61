"""The shape of the project: who may import whom, how large a house may grow, and that the guide to it names what exists."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Each house: whom it may import besides itself, and how many lines of code and modules it may have.
HOUSES = {
    "scalelib/slides": ({"scalelib"}, 1100, 8),
    "scalelib": (set(), 3300, 28),
    "scalebook": ({"scalelib"}, 1300, 16),
    "notebooks/studies": ({"scalelib", "scalelib/slides", "scalebook"}, 3400, 16),
}


def house_of(name: str) -> str | None:
    """The house of a module's dotted name or of a file's path; slides are within scalelib."""
    path = name.replace(".", "/").removeprefix("notebooks/")
    path = f"notebooks/{path}" if path.startswith("studies") else path
    return next((house for house in HOUSES if f"{path}/".startswith(f"{house}/")), None)


def modules() -> dict[str, Path]:
    """Every module of the houses by its dotted name."""
    found = {}
    for top in ("scalelib", "scalebook", "notebooks/studies"):
        for path in sorted((ROOT / top).rglob("*.py")):
            parts = path.relative_to(ROOT / top).with_suffix("").parts
            found[".".join([top.rpartition("/")[2], *parts]).removesuffix(".__init__")] = path
    return found


MODULES = modules()


def imports(path: Path) -> Iterator[str]:
    """Modules that a file imports anywhere in it, but for type checkers."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing = [n for n in ast.walk(tree) if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"]
    left_out = {inner for block in typing for inner in ast.walk(block)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import) and node not in left_out:
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom) and node not in left_out:
            assert node.level == 0, f"{path.name} imports relatively"
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in MODULES else str(node.module) for name in whole)


def code_lines(path: Path) -> int:
    """Lines that are neither docstring, comment nor blank."""
    text = path.read_text(encoding="utf-8")
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        line
        for node in ast.walk(ast.parse(text))
        if isinstance(node, documented) and ast.get_docstring(node, clean=False)
        for line in range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1)
    }
    lines = enumerate(map(str.strip, text.splitlines()), 1)
    return sum(bool(line) and not line.startswith("#") and i not in docstrings for i, line in lines)


@pytest.mark.parametrize("name", MODULES)
def test_arrows_point_one_way(name: str) -> None:
    mine = house_of(name) or ""
    for imported in imports(MODULES[name]):
        theirs = house_of(imported)
        assert theirs in {None, mine, *HOUSES[mine][0]}, f"{name} imports {imported}"
        assert not re.match(r"notebooks|\d\d_|tests?\b", imported), f"{name} imports {imported}"


def test_imports_make_no_circle() -> None:
    graph = {name: {other for other in imports(path) if other in MODULES} for name, path in MODULES.items()}
    assert len(list(TopologicalSorter(graph).static_order())) == len(MODULES)  # a circle is named


@pytest.mark.parametrize("house", HOUSES)
def test_a_house_stays_small_enough_to_be_known(house: str) -> None:
    lines = [code_lines(path) for name, path in MODULES.items() if house_of(name) == house]
    _, most_lines, most_modules = HOUSES[house]
    assert sum(lines) <= most_lines
    assert sum(count > 0 for count in lines) <= most_modules


def test_lines_are_counted_without_docstrings_comments_and_blanks(tmp_path: Path) -> None:
    path = tmp_path / "one.py"
    text = '"""Doc.\n\nMore."""\n\n# why\nx = """not\na doc"""\n\n\ndef f():\n    """Doc."""\n    return x  # yes\n'
    path.write_text(text)
    assert code_lines(path) == 4


def test_a_checkout_has_every_house_on_its_path_and_a_wheel_scalelib_alone() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    # else an editable install maps scalelib and nothing beside it
    assert setuptools["package-dir"] == {"": "."}
    assert setuptools["packages"]["find"]["include"] == ["scalelib*"]


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "README.md"])
def test_every_file_that_a_guide_names_exists(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    named = re.findall(r"`((?:[\w.*-]+/)+[\w.*-]*|[A-Z]\w+file|[\w-]+\.(?:py|md|yml|yaml|toml|txt))`", text)
    not_ours = {"VOCdevkit/", "CUB_200_2011/", "MoNuSeg/", "slides/", "weights/", "notebooks/08_name.ipynb"}
    assert len(named) > 5
    assert not [name for name in named if not list(ROOT.glob(name.rstrip("/"))) and name not in not_ours]


def test_no_archived_table_or_page_is_larger_than_two_megabytes() -> None:
    archived = [
        path for top in ("results/compact", "book/executed/compact") for path in (ROOT / top).rglob("*.*")
    ]
    assert len(archived) > 50
    assert not [path for path in archived if path.stat().st_size > 2_000_000]
