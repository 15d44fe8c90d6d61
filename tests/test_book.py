"""Pages that are computed at build, as Sphinx makes them: without results, with results, and refused when something was
tampered with; and what a page can launch."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml

from scalebook.claims import load_claims
from scalelib.datasets import Dataset
from scalelib.results import Run, digest_notebook

pytest.importorskip("sphinx")
from sphinx.errors import ExtensionError, SphinxWarning
from sphinx.search.en import SearchEnglish
from sphinx_page import build_page

from scalebook import sphinx_pages
from scalebook.sphinx_ext import TIERS, add_launch_buttons, calls_of, mend_page

ROOT = Path(__file__).parents[1]
SCOREBOARD = ("glance", "claims", "ours", "table-a1", "figure", "table-2", "table-1", "errata")
CONF = """
import sys
sys.path.insert(0, {folder!r})
extensions = ["scalebook.sphinx_pages"]
html_theme = "sphinx_book_theme"
html_theme_options = {options!r}
html_static_path = [{static!r}]
exclude_patterns = ["results", "profiles"]
"""
NEEDS = {
    "compact": "needs:\n  datasets: [voc2007-test]\n  weights: [{name: SqueezeNet}]\n",
    "control": "",
    "paper": "needs:\n  weights: [{name: InceptionV3}, {name: MobileNet, alpha: 0.25}]\n",
}
PAGES = {"scoreboard": SCOREBOARD, "provenance": tuple(TIERS)}
SUMS = {"line": "row", "name": "test", "printed": 11208, "sum": 11258, "difference": 50}
FIX = {"explanation": 1, "row": "test", "column": "40X", "printed": 3166, "corrected": 3116, "slip": "one"}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A book of the two pages, with the paper's tables, three profiles of two notebooks, and no results."""
    folder = tmp_path / "root"
    for name in ("book", "profiles", "notebooks"):
        (folder / name).mkdir(parents=True)
    shutil.copytree(ROOT / "paper", folder / "paper")
    forget(folder / "paper", "early-rows-foretold")  # it needs another table of the notebook below
    for name, needs in NEEDS.items():
        text = f"description: A profile.\n{needs}notebooks: {{02_sizes: {{}}, 07_interpolation_peak: {{}}}}\n"
        (folder / "profiles" / f"{name}.yaml").write_text(text)
    configure(folder)
    contents = "".join(f"   book/{page}\n" for page in PAGES)
    (folder / "index.rst").write_text(f"Book\n====\n\n.. toctree::\n\n{contents}")
    for page, parts in PAGES.items():
        text = "\n\n".join(f".. {page}:: {part}" for part in parts)
        (folder / "book" / f"{page}.rst").write_text(f"{page}\n{'=' * 20}\n\n{text}\n")
    return folder


def forget(paper: Path, claim: str) -> None:
    claims = yaml.safe_load((paper / "claims.yaml").read_text(encoding="utf-8"))
    (paper / "claims.yaml").write_text(yaml.safe_dump([one for one in claims if one["id"] != claim]))
    record = (paper / "thresholds.sha256").read_text().splitlines()
    (paper / "thresholds.sha256").write_text(
        "\n".join(line for line in record if not line.endswith(f" {claim}"))
    )


def configure(source: Path, **options: str) -> None:
    static = str(ROOT / "book" / "_static")
    (source / "conf.py").write_text(CONF.format(folder=str(ROOT), options=options, static=static))


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    """Each build has a ledger of its own."""
    yield
    sphinx_pages.ledger_of.cache_clear()


def archive(source: Path, profile: str = "compact", *, classes: int = 2, **changes: object) -> Path:
    """Results of the notebook that checks Table 1, with a card on which some facts are changed."""
    folder = source / "results" / profile / "07_interpolation_peak"
    pictures = np.zeros((classes, 2, 2, 3), np.uint8)
    table = pd.DataFrame({"object_class": [f"c{i}" for i in range(classes)]})
    left_out = {"several objects": 3, "none": 0}
    data = Dataset("pictures <&>", pictures, table, excluded=left_out, source="Flickr", digest="ab" * 32)
    net = SimpleNamespace(name="Net", weights="random", weights_seed=5, weights_digest="cd" * 32)
    tables = {
        "table1_sums": pd.DataFrame([SUMS]),
        "peaks": table,
        "table1_corrections": pd.DataFrame([FIX] * 1234),
    }
    Run(folder.name, profile=profile, parameters={}, folder=folder).write(tables, datasets=[data], networks=[net])  # fmt: skip
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps(card | changes))
    return folder


def executed(source: Path, text: str, **changes: object) -> Path:
    """A page in the place of the executed notebook that decides the claim on Table 1, with results behind it."""
    title = {"cell_type": "markdown", "metadata": {}, "source": "# Sums\nof a table"}
    notebook = {"cells": [title, {"cell_type": "code", "metadata": {}, "source": "1", "outputs": []}]}
    page = source / "book" / "executed" / "compact" / "07_interpolation_peak"
    for path in (source / "notebooks" / f"{page.name}.ipynb", page.with_suffix(".ipynb")):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(notebook))
    page.with_suffix(".rst").write_text(f"Peak\n====\n\n{text}\n")
    index = source / "index.rst"
    index.write_text(f"{index.read_text()}   book/executed/compact/{page.name}\n")
    digest = digest_notebook(page.with_suffix(".ipynb"))
    return archive(source, **{"notebook_digest": digest, **changes})


def show(source: Path, text: str) -> str:
    """A page with this text, results and a drawn figure behind it; its words, and the HTML."""
    archive(source)
    (source / "book" / "figures").mkdir()
    for kind in ("", "-narrow"):
        (source / "book" / "figures" / f"sums{kind}.svg").write_text(f"<svg><text>drawn{kind}</text></svg>")
    edit(source / "book" / "provenance.rst", "=\n\n", f"=\n\n{text}\n\n")
    return build_page(source, "provenance")


def test_a_page_takes_numbers_from_tables_and_figures_as_they_were_drawn(source):
    number = "compact/07_interpolation_peak/table1_sums"
    value = f":value:`{number} line=row printed=11208 {{}}`"
    given = ("difference .1f", "sum ,.0f", "name s", "difference .0%")
    page = show(
        source,
        f".. key-figure:: sums\n   :alt: two <bars>\n\n   Is {' and '.join(map(value.format, given))}.",
    )
    assert "Is 50.0 and 11,258 and test and 5000 %." in words(page)
    assert (
        'role="img" aria-label="two &lt;bars&gt;"><svg><text>drawn</text></svg><svg><text>drawn-narrow'
        in page
    )


REFUSED = {
    "a table": (":value:`compact/07_interpolation_peak/none sum .2f`", "no table 'none'"),
    "a run": (":value:`compact/none/none sum .2f`", "card.json"),
    "a column": (":value:`compact/07_interpolation_peak/table1_sums none .2f`", "'none'"),
    "no row": (
        ":value:`compact/07_interpolation_peak/table1_sums line=x sum .2f`",
        "line=x.*one row must match",
    ),
    "two rows": (
        ":value:`compact/07_interpolation_peak/table1_corrections row=test corrected .2f`",
        "row=test.*\n.*1234",
    ),
    "a format": (":value:`compact/07_interpolation_peak/table1_sums line .2f`", "Unknown format code 'f'"),
    "no alternative": (".. key-figure:: sums", "sums has no alternative text"),
    "no drawing": (".. key-figure:: none\n   :alt: none", "no 'none'"),
}


@pytest.mark.parametrize(("text", "message"), REFUSED.values(), ids=REFUSED)
def test_a_number_or_figure_that_is_not_there_fails_the_build(source, text, message):
    with pytest.raises(SphinxWarning, match=message):
        show(source, text)


LINES = "Data: :results:`table1_sums.csv`, :results:`peaks.csv`."


def words(page: str) -> str:
    return " ".join(re.sub("<[^>]+>", " ", page).split())


def test_without_results_the_pages_say_so_and_every_claim_is_found_by_search(source):
    board, text = build_page(source, "scoreboard"), words(build_page(source, "provenance"))
    assert board.count("<details") == len(load_claims(source / "paper" / "claims.yaml"))
    assert "have not been checked in this build" in board
    assert "scoreboard.js" in board
    assert "0 of 39 cells compared" in board
    assert text.count("Not run: 02_sizes; 07_interpolation_peak. That takes") == 3
    assert all(f"make reproduce PROFILE={profile}" in text for profile in NEEDS)
    assert "weights: InceptionV3, MobileNet 0.25" in text
    terms = (source.parent / "out" / "searchindex.js").read_text(encoding="utf-8")
    for claim in load_claims(source / "paper" / "claims.yaml"):
        for word in re.findall("[a-z]{6,}", claim.claim.lower()):
            assert f'"{SearchEnglish({}).stem(word)}":' in terms, word


def test_a_row_of_provenance_holds_what_the_card_says_and_links_page_and_files(source):
    machine = {"cpu": "Vega <9>", "cores": 1, "memory_gib": 64.0, "gpus": ["gpu:0"], "backend": "jax"}
    code = {"commit": "0123456789abcdef", "dirty": True}
    executed(source, LINES, date="2031-02-03 04:05 UTC", wall_time_s=600.2, code=code, environment=machine)
    page = build_page(source, "provenance")
    text, out = words(page), source.parent / "out" / "book"
    for fact in (
        "Sums archived 2031-02-03 04:05 UTC 10 min",
        "0123456789ab , with local changes",
        "Vega &lt;9&gt;, 1 core, 64 GiB, gpu:0",
        "pictures &lt;&amp;&gt;: 2 images (c0 1, c1 1); left out: 3 several objects. Flickr",
        f"SHA-256 {'ab' * 32}",
        f"Net, random weights, seed 5. SHA-256 {'cd' * 32}",
        "table1_corrections.csv , 1,234 rows",
    ):
        assert fact in text
    assert 'href="executed/compact/07_interpolation_peak.html"' in page
    downloads = re.findall(r'href="(\.\./_downloads/[^"]+)"', page)
    files = {Path(link).name for link in downloads if (out / link).is_file()}
    assert files == {"card.json", "peaks.csv", "table1_corrections.csv", "table1_sums.csv"}
    boxes = re.findall(r'"provenance-scroll" tabindex="0" role="region" aria-label="([^"]+)"', page)
    assert boxes == [
        f"{TIERS['compact']}: what each notebook was made from"
    ]  # scrolls by keyboard, and is named; profiles without a run have none


def test_results_without_a_page_many_classes_and_a_known_repository(source):
    archive(source, "control", classes=40, code={"commit": "f" * 40, "dirty": False})
    page = build_page(source, "provenance")
    assert "results only, no page" in words(page)
    assert "40 images (40 classes, 1 each)" in words(page)
    assert "/commit/" not in page
    configure(source, repository_url="https://github.com/a/b")
    assert f'href="https://github.com/a/b/commit/{"f" * 40}"' in build_page(source, "provenance")


def test_a_claim_links_to_the_cell_above_the_line_that_names_its_table(source):
    cell = ".. container:: cell\n\n   {}\n\n{}\n"
    other = cell.format("corrections", "Data: :results:`table1_corrections.csv`.")
    executed(source, "\n".join([other, cell.format("sums", LINES), f"Again{LINES}"]))
    board = build_page(source, "scoreboard")
    link = "executed/compact/07_interpolation_peak.html"
    for part in (f'href="{link}#data-table1-sums"', 'data-status="does-not-hold"', "printed 3166, one"):
        assert part in board
    page = (source.parent / "out" / "book" / link).read_text(encoding="utf-8")
    assert page.count('id="data-table1-sums"') == 1
    order = ("corrections</p>", 'id="data-table1-sums"', "<p>sums</p>", "Again")
    assert sorted(order, key=page.index) == list(order)
    assert "Published weights, archived run" in page
    assert "Images and networks: pictures &lt;&amp;&gt;, Net. Executed" in page
    assert "Peak (notebook, photographs)</a>" in board  # as the contents name it


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


RESULTS = "results/compact/07_interpolation_peak"
TAMPERED = {
    "a number": (LINES, f"{RESULTS}/table1_sums.csv", "11258", "11208", r"table1_sums\.csv is not the file"),
    "a threshold": (LINES, "paper/claims.yaml", "value: 0.1", "value: 0.9", "random-weights-low"),
    "a cell": (LINES, "notebooks/07_interpolation_peak.ipynb", '"1"', '"2"', "other code cells"),
    "a claim's line": ("No data.", "index.rst", "Book", "Book", r"table1-consistent' is shown beside table1_sums\.csv"),
    "a table's name": ("Data: :results:`table9.csv`.", "index.rst", "Book", "Book", "no table 'table9.csv'"),
    "a part of the scoreboard": (LINES, "book/scoreboard.rst", ":: claims", ":: tables", "there are glance"),
    "a part of provenance": (LINES, "book/provenance.rst", ":: paper", ":: all", "there are control, compact, paper"),
}  # fmt: skip


@pytest.mark.parametrize(("lines", "file", "old", "new", "message"), TAMPERED.values(), ids=TAMPERED)
def test_what_was_tampered_with_fails_the_build_by_name(source, lines, file, old, new, message):
    executed(source, lines)
    edit(source / file, old, new)
    with pytest.raises((ExtensionError, SphinxWarning), match=message):
        build_page(source, "scoreboard")


def test_a_page_and_its_notebook_may_differ_in_imports_and_module_names_alone(tmp_path):
    def calls(*sources: str) -> list[str]:
        cells = [{"cell_type": "code", "metadata": {}, "source": source} for source in sources]
        (tmp_path / "n.ipynb").write_text(json.dumps({"cells": cells}))
        return calls_of(tmp_path / "n.ipynb")

    assert calls("from old import f", "x = f(1)") == calls("from studies import new", "x = new.f(1)")
    assert calls("x = f(1)") != calls("x = f(2)")


def test_launch_buttons_appear_where_it_is_known_what_to_launch(monkeypatch):
    def options(**given: object) -> dict[str, object]:
        config = SimpleNamespace(html_theme_options=given)
        add_launch_buttons(None, config)  # type: ignore[arg-type]
        return config.html_theme_options

    monkeypatch.delenv("GITHUB_REPOSITORY", raising=False)
    assert options() == {}
    monkeypatch.setenv("GITHUB_REPOSITORY", "some/where")
    monkeypatch.setenv("GITHUB_SERVER_URL", "https://github.example")
    found = options()
    assert found["repository_url"] == "https://github.example/some/where"
    assert found["repository_branch"] == "main"
    assert {"binderhub_url", "colab_url"} <= set(found["launch_buttons"])
    given = "https://github.com/mine/own"
    assert options(repository_url=given)["repository_url"] == given


@pytest.mark.parametrize("profile", ["compact", "control"])
def test_the_notebook_itself_is_launched_not_its_executed_copy(profile):
    before = "https://hub.example/v2/gh/some/where/main?urlpath=lab/tree/"
    buttons = [{"url": f"{before}book/{page}"} for page in (f"executed/{profile}/04_x.ipynb", "run.md")]
    mend_page(None, "", "", {"header_buttons": [{"label": "launch-buttons", "buttons": buttons}]}, None)  # type: ignore[arg-type]
    assert [button["url"] for button in buttons] == [f"{before}notebooks/04_x.ipynb", f"{before}book/run.md"]


def test_binder_builds_from_environment_yml():
    # any of these would go before it
    assert not [name for name in ("binder", ".binder", "Dockerfile") if (ROOT / name).exists()]
