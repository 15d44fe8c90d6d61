"""The scoreboard page: whole HTML, every claim and cell on it, readable without colour, sight or script."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from study_tables import layerwise

from scalebook import pages
from scalebook.ledger import Ledger, build_ledger, headline
from scalebook.pages import Mark, interval_svg, small_svg
from scalebook.predicates import STATUSES
from scalelib.results import Run

PAPER = Path(__file__).parents[1] / "paper"
LOW, MID, HIGH = [0.10, 0.12, 0.14], [0.40, 0.44, 0.42], [0.80, 0.78, 0.82]


class Reader(HTMLParser):
    """Fails on tags that do not close in order; keeps tags with their attributes, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.open.append(tag)
        self.found.append((tag, dict(attributes)))

    def handle_startendtag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    results = tmp_path_factory.mktemp("results")
    rows = [layerwise({"a": LOW, "b": HIGH, "c": MID, "pre_softmax": MID}, network="net <&> co"),
            layerwise({"mixed8": HIGH}, network="InceptionV3", estimator="ols", measure="area_ratio")]  # fmt: skip
    Run(
        "04_layerwise_r2", profile="compact", parameters={}, folder=results / "compact" / "04_layerwise_r2"
    ).write({"layerwise_r2.csv.gz": pd.concat(rows)})
    return build_ledger(PAPER, results)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    return build_ledger(PAPER, tmp_path_factory.mktemp("nothing"))


@pytest.mark.parametrize("which", ["ledger", "empty"])
def test_every_part_is_whole_html_whatever_was_run(which, request):
    found = request.getfixturevalue(which)
    Reader(pages.glance(found))
    Reader(pages.claims(found, lambda profile, claim: None))
    for table in ("1", "2", "A1", "figure"):
        Reader(pages.cells(found, table))


def test_every_claim_is_there_with_status_test_and_what_would_refute_it(ledger):
    page = Reader(pages.claims(ledger, lambda profile, claim: None))
    assert len(page.all("details")) == len(ledger.claims)
    for claim in ledger.claims:
        assert claim.claim in page.text
        assert claim.refuted in page.text
    for item in (a for a in page.all("li") if "data-real" in a):
        assert item["data-real"] in STATUSES
        assert item["data-control"] in STATUSES
    assert "net <&> co" in page.text  # escaped, so that it is read as text


def test_counts_at_a_glance_are_those_of_the_claims(ledger):
    counts = [int(n) for n in re.findall(r'class="count">(\d+)<', pages.glance(ledger))]
    assert sum(counts[::2]) == sum(counts[1::2]) == len(ledger.claims)
    assert (
        dict(zip(STATUSES, counts[::2], strict=True))
        == headline(ledger).value_counts().reindex(STATUSES, fill_value=0).to_dict()
    )


def test_status_is_never_colour_alone():
    for status in STATUSES:
        page = Reader(pages.badge(status))
        assert status in page.text
        assert len(page.text) > len(status) + 1  # a symbol too


def test_filters_are_hidden_until_the_script_runs_and_say_what_is_pressed(ledger):
    page = Reader(pages.claims(ledger, lambda profile, claim: None))
    bar = next(a for a in page.all("div") if a.get("class") == "scoreboard-filters")
    assert "hidden" in bar
    pressed = [a["data-filter"] for a in page.all("button") if a["aria-pressed"] == "true"]
    assert pressed == ["profile", "status", "section"]


def test_pages_in_the_book_are_linked_and_others_are_not(ledger):
    linked = pages.claims(ledger, lambda p, c: f"{p}/{c.notebook}.html" if p == "compact" else None)
    assert {a["href"] for a in Reader(linked).all("a")} >= {"compact/04_layerwise_r2.html"}
    assert not any("control" in str(a["href"]) for a in Reader(linked).all("a"))


def test_table_a1_shows_ours_beside_the_paper_and_not_run_elsewhere(ledger):
    page = Reader(pages.cells(ledger, "A1"))
    assert "1 of 39 cells compared" in page.text
    assert "ours 0.80 (" in page.text
    assert page.text.count("not run") >= 38
    assert "−11,077" in page.text


def test_table_2_and_1_have_all_their_rows(ledger):
    assert len(Reader(pages.cells(ledger, "2")).all("tr")) == 7
    assert len(Reader(pages.cells(ledger, "1")).all("tr")) == 5
    assert "17,904" in Reader(pages.cells(ledger, "1")).text


def test_errata_name_lines_and_the_cells_that_explain_them():
    sums = pd.DataFrame(
        {
            "line": ["row", "column"],
            "name": ["test", "5X"],
            "printed": [9, 7],
            "sum": [12, 7],
            "difference": [3, 0],
        }
    )
    fixes = pd.DataFrame(
        {
            "explanation": [1],
            "row": ["test"],
            "column": ["8X"],
            "printed": [6],
            "corrected": [3],
            "slip": ["one digit"],
        }
    )
    page = Reader(pages.errata(sums, fixes))
    assert "1 of 2 rows and columns" in page.text
    assert "+3" in page.text
    assert "test 8X = 3 (printed 6, one digit)" in page.text
    assert "adds up" in pages.errata(sums.assign(difference=0), fixes)


class TestPlot:
    MARKS = (Mark("a & b", 0.3, 0.1, 0.5, "s-reproduced"), Mark("c", -0.2, np.nan, np.nan, "s-inconclusive"))

    def positions(self, text: str, tag: str, key: str) -> list[float]:
        return [
            float(element.get(key)) for element in ElementTree.fromstring(text).iter(tag) if element.get(key)
        ]

    def test_describes_itself_in_words(self):
        root = ElementTree.fromstring(interval_svg(self.MARKS, quantity="R²", threshold=0.0))
        assert root.get("role") == "img"
        assert (
            root.get("aria-label")
            == root.find("title").text
            == "R²: a & b 0.30 (0.10 to 0.50); c −0.20; threshold 0.00"
        )

    def test_positions_are_linear_in_value(self):
        a, c = self.positions(interval_svg(self.MARKS, quantity="", threshold=0.0), "circle", "cx")
        threshold = self.positions(interval_svg(self.MARKS, quantity="", threshold=0.0), "line", "x1")[1]
        assert (a - threshold) / (threshold - c) == pytest.approx(0.3 / 0.2, abs=0.01)

    def test_vast_values_bend_the_axis_and_it_says_so(self):
        text = interval_svg([Mark("n", -1e12, -4e12, 2e12, "")], quantity="R²", threshold=0.0)
        assert "compressed axis" in text
        assert all(0 <= x <= 400 for x in self.positions(text, "circle", "cx"))

    def test_nothing_finite_gives_no_plot(self):
        nothing = [Mark("n", np.nan, np.nan, np.nan, "")]
        assert interval_svg(nothing, quantity="", threshold=0.0) == small_svg(nothing, threshold=0.0) == ""

    @pytest.mark.parametrize("threshold", [np.nan, 0.1])
    def test_small_plot_has_one_dot_per_network_and_is_not_read_out(self, threshold):
        root = ElementTree.fromstring(small_svg(self.MARKS, threshold=threshold))
        assert root.get("aria-hidden") == "true"
        assert len(list(root.iter("circle"))) == 2
