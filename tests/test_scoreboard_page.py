"""The scoreboard as a Sphinx build makes it: without results, with results, and refused when something was tampered with."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pandas as pd
import pytest

from scalebook.claims import load_claims
from scalelib.results import Run, digest_notebook

pytest.importorskip("sphinx")
from sphinx.errors import ExtensionError, SphinxWarning
from sphinx.search.en import SearchEnglish
from sphinx_page import build_page

ROOT = Path(__file__).parents[1]
PARTS = ("glance", "claims", "table-a1", "figure", "table-2", "table-1", "errata")
CONF = """
import sys
sys.path.insert(0, {folder!r})
extensions = ["scalebook.sphinx_book", "scalebook.sphinx_scoreboard"]
html_static_path = [{static!r}]
exclude_patterns = ["results"]
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A book of one page, the scoreboard, with the paper's tables and no results."""
    folder = tmp_path / "root"
    (folder / "book").mkdir(parents=True)
    shutil.copytree(ROOT / "paper", folder / "paper")
    places = {"folder": str(ROOT), "static": str(ROOT / "book" / "_static")}
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

    if module := sys.modules.get("scalebook.sphinx_scoreboard"):
        module.ledger_of.cache_clear()  # type: ignore[attr-defined]


build = partial(build_page, page="scoreboard")


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


def executed_page(source: Path, text: str) -> None:
    """A page in the place of the executed notebook that decides the claim on Table 1, with results behind it."""
    folder = archive(source)
    notebook = {"cells": [{"cell_type": "code", "metadata": {}, "source": "1", "outputs": []}]}
    page = source / "book" / "executed" / "compact" / folder.name
    for path in (source / "notebooks" / f"{folder.name}.ipynb", page.with_suffix(".ipynb")):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(notebook))
    card = json.loads((folder / "card.json").read_text())
    card["notebook_digest"] = digest_notebook(page.with_suffix(".ipynb"))
    (folder / "card.json").write_text(json.dumps(card))
    page.with_suffix(".rst").write_text(f"Peak\n====\n\n{text}\n")
    index = source / "index.rst"
    index.write_text(f"{index.read_text()}   book/executed/compact/{folder.name}\n")


def test_a_claim_links_to_the_cell_above_the_line_that_names_its_table(source):
    cells = ".. container:: cell\n\n   {}\n\n{}\n"
    lines = [
        cells.format("corrections", "Data: :results:`table1_corrections.csv`."),
        cells.format("sums", "Data: :results:`table1_sums.csv`."),
        "Again: :results:`table1_sums.csv`.",
    ]
    executed_page(source, "\n".join(lines))
    assert 'href="executed/compact/07_interpolation_peak.html#data-table1-sums"' in build(source)
    page = (source.parent / "out/book/executed/compact/07_interpolation_peak.html").read_text(
        encoding="utf-8"
    )
    assert page.count('id="data-table1-sums"') == 1
    order = [
        page.index(words) for words in ("corrections</p>", 'id="data-table1-sums"', "<p>sums</p>", "Again")
    ]
    assert order == sorted(order)


def test_a_page_without_the_line_of_a_claim_fails_the_build_by_claim_and_table(source):
    executed_page(source, "Data: :results:`table1_corrections.csv`.")
    with pytest.raises(ExtensionError, match=r"table1-consistent' is shown beside table1_sums\.csv"):
        build(source)


def test_words_of_every_claim_are_in_the_index_of_the_search(source):
    build(source)
    stem = SearchEnglish({}).stem
    terms = (source.parent / "out" / "searchindex.js").read_text(encoding="utf-8")
    for claim in load_claims(source / "paper" / "claims.yaml"):
        for word in re.findall("[a-z]{6,}", claim.claim.lower()):
            assert f'"{stem(word)}":' in terms, word
