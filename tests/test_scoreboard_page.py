"""The scoreboard as a Sphinx build makes it: without results, with results, and refused when something was tampered with."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pandas as pd
import pytest

from scalelib.provenance import Run

sphinx_application = pytest.importorskip("sphinx.application")
from sphinx.errors import ExtensionError, SphinxWarning  # noqa: E402
from sphinx.util.docutils import docutils_namespace, patch_docutils  # noqa: E402

ROOT = Path(__file__).parents[1]
PARTS = ("glance", "claims", "table-a1", "figure", "table-2", "table-1", "errata")
CONF = """
import sys
sys.path.insert(0, {folder!r})
extensions = ["scalelib_scoreboard"]
html_static_path = [{static!r}]
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A book of one page, the scoreboard, with the paper's tables and no results."""
    folder = tmp_path / "root"
    (folder / "book").mkdir(parents=True)
    shutil.copytree(ROOT / "paper", folder / "paper")
    places = {"folder": str(ROOT / "book" / "_ext"), "static": str(ROOT / "book" / "_static")}
    (folder / "conf.py").write_text(CONF.format(**places))
    (folder / "index.rst").write_text("Book\n====\n\n.. toctree::\n\n   book/scoreboard\n")
    parts = "\n\n".join(f".. scoreboard:: {part}" for part in PARTS)
    (folder / "book" / "scoreboard.rst").write_text(f"Scoreboard\n==========\n\n{parts}\n")
    return folder


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    """Each build has a ledger of its own."""
    yield
    import sys

    if module := sys.modules.get("scalelib_scoreboard"):
        module.ledger_of.cache_clear()  # type: ignore[attr-defined]


def build(source: Path) -> str:
    out, warnings = source.parent / "out", StringIO()
    with patch_docutils(source), docutils_namespace():
        app = sphinx_application.Sphinx(
            source, source, out, out / "doctrees", "html", status=None, warning=warnings, warningiserror=True
        )
        app.build()
    assert warnings.getvalue() == ""
    return (out / "book" / "scoreboard.html").read_text(encoding="utf-8")


def archive(source: Path) -> Path:
    folder = source / "results" / "compact" / "07_interpolation_peak"
    sums = pd.DataFrame(
        {"line": ["row"], "name": ["test"], "printed": [11208], "sum": [11258], "difference": [50]}
    )
    fixes = pd.DataFrame(
        {
            "explanation": [1],
            "row": ["test"],
            "column": ["40X"],
            "printed": [3166],
            "corrected": [3116],
            "slip": ["one digit"],
        }
    )
    Run(folder.name, profile="compact", parameters={}, folder=folder).write(
        {"table1_sums": sums, "table1_corrections": fixes}
    )
    return folder


def test_without_results_the_page_says_so_and_brings_its_script(source):
    page = build(source)
    assert page.count("<details") == 19
    assert "have not been checked in this build" in page
    assert "scoreboard.js" in page
    assert "0 of 39 cells compared" in page


def test_with_some_results_those_count(source):
    archive(source)
    page = build(source)
    assert "printed 3166, one digit" in page
    assert 'data-real="not reproduced"' in page


def test_an_edited_result_fails_the_build_by_file_name(source):
    path = archive(source) / "table1_sums.csv"
    path.write_text(path.read_text().replace("11258", "11208"))
    with pytest.raises(ExtensionError, match=r"table1_sums\.csv is not the file that the run wrote"):
        build(source)


def test_an_edited_threshold_fails_the_build_by_claim(source):
    path = source / "paper" / "claims.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("value: 0.1}", "value: 0.9}"), encoding="utf-8")
    with pytest.raises(ExtensionError, match="random-weights-low"):
        build(source)


def test_an_unknown_part_is_refused_with_those_that_there_are(source):
    (source / "book" / "scoreboard.rst").write_text("Scoreboard\n==========\n\n.. scoreboard:: tables\n")
    with pytest.raises(SphinxWarning, match="there are glance"):
        build(source)
