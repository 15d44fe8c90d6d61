"""Scoreboard and badge: whole HTML, every claim and cell there, readable without colour, sight or script."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from study_tables import HIGH, LOW, MID, archive, layerwise

from scalebook import pages
from scalebook.claims import STATUSES
from scalebook.ledger import REAL, Ledger, build_ledger, headline, of_paper
from scalelib import cli

ROOT = Path(__file__).parents[1]
PAPER = ROOT / "paper"
STATIC = ROOT / "book" / "_static"
SVG = "{http://www.w3.org/2000/svg}"


def read(text: str) -> tuple[ElementTree.Element, str]:
    """A part of a page, which must be well-formed, and its text."""
    root = ElementTree.fromstring(f"<div>{text}</div>")
    return root, " ".join("".join(root.itertext()).split())


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    taps = {"a": LOW, "b": HIGH, "c": MID, "pre_softmax": MID}
    protocol = {"network": "InceptionV3", "estimator": "ols", "measure": "area_ratio"}
    real = pd.concat([layerwise(taps, network="net <&> co"), layerwise({"mixed8": HIGH}, **protocol)])
    archive(folder, "compact", "04_layerwise_r2", layerwise_r2=real)
    archive(folder, "control", "04_layerwise_r2", layerwise_r2=layerwise(taps, weights="all scales"))
    return folder


@pytest.fixture(scope="module")
def ledger(results: Path) -> Ledger:
    return build_ledger(PAPER, results)


def no_page(profile: str, claim: object) -> None:
    return None


@pytest.mark.parametrize("which", ["ledger", "nothing"])
def test_every_part_is_whole_html_whatever_was_run(which, ledger, tmp_path):
    found = ledger if which == "ledger" else build_ledger(PAPER, tmp_path)
    rows = {t: len(list(read(pages.cells(found, t))[0].iter("tr"))) for t in ("1", "2", "A1", "figure")}
    assert rows == {"1": 5, "2": 7, "A1": 14, "figure": 4}
    counts = [int(n) for n in re.findall(r'class="count">(\d+)<', pages.glance(found))]
    papers = of_paper(found, headline(found))
    assert sum(counts[::2]) == sum(counts[1::2]) == len(papers) == len(found.claims) - 4
    assert counts[::2] == [(papers == status).sum() for status in STATUSES]
    page, text = read(pages.claims(found, no_page))
    assert len(list(page.iter("details"))) == len(found.claims)
    for claim in found.claims:
        assert claim.claim in text
        assert claim.refuted in text


def test_status_is_never_colour_alone_filters_wait_for_the_script_and_pages_in_the_book_are_linked(ledger):
    page, text = read(pages.claims(ledger, lambda p, c: f"{p}/{c.notebook}.html" if p == "compact" else None))
    found = set(headline(ledger))
    assert all(f"{STATUSES[status].symbol} {status}" in text for status in found)
    assert {item.get("data-real") for item in page.iter("li")} - {None} == found
    assert "net <&> co" in text  # escaped, so that it is read as text
    assert page.find("div[@class='scoreboard-filters']").get("hidden") is not None
    pressed = [b.get("data-filter") for b in page.iter("button") if b.get("aria-pressed") == "true"]
    assert pressed == ["profile", "status", "section"]
    links = {str(link.get("href")) for link in page.iter("a")}
    assert "compact/04_layerwise_r2.html" in links
    assert not any("control" in link for link in links)


def test_table_a1_shows_ours_beside_the_paper_and_not_run_elsewhere(ledger):
    _, text = read(pages.cells(ledger, "A1"))
    assert "1 of 39 cells compared, ours from real data" in text
    assert "ours 0.80 (" in text
    assert text.count("not run") >= 38
    assert "−11,077" in text
    assert "17,904" in pages.cells(ledger, "1")


def test_errata_name_lines_and_the_cells_that_explain_them():
    sums = {"line": ["row", "column"], "name": ["test", "5X"], "printed": [9, 7], "sum": [12, 7], "difference": [3, 0]}  # fmt: skip
    fix = {"explanation": 1, "row": "test", "column": "8X", "printed": 6, "corrected": 3, "slip": "one digit"}
    _, text = read(pages.errata(pd.DataFrame(sums), pd.DataFrame([fix])))
    assert "1 of 2 rows and columns" in text
    assert "+3" in text
    assert "test 8X = 3 (printed 6, one digit)." in text
    assert "adds up" in pages.errata(pd.DataFrame(sums).assign(difference=0), pd.DataFrame([fix]))


def verdicts(*effects: tuple[float, float, float], threshold: float = 0.0) -> pd.DataFrame:
    rows = pd.DataFrame(effects, columns=["effect", "low", "high"])
    names = [f"net & {i}" for i in range(len(rows))]
    return rows.assign(threshold=threshold, quantity="R²", network=names, profile="compact", status="partly")


def test_plot_describes_itself_and_its_places_are_linear_in_value():
    plot = pages.plot(verdicts((0.3, 0.1, 0.5), (-0.2, np.nan, np.nan)))
    svg = ElementTree.fromstring(pages.render("interval.svg", plot=plot))
    words = "R²: net & 0 0.30 (0.10 to 0.50); net & 1 −0.20; threshold 0.00"
    assert (svg.get("role"), svg.get("aria-label"), svg.find("title").text) == ("img", words, words)
    a, c = (float(circle.get("cx")) for circle in svg.iter("circle"))
    turn = float(next(line for line in svg.iter("line") if line.get("class") == "threshold").get("x1"))
    assert (a - turn) / (turn - c) == pytest.approx(0.3 / 0.2, abs=0.01)
    assert len([line for line in svg.iter("line") if not line.get("class")]) == 1


def test_vast_values_bend_the_axis_and_nothing_finite_gives_no_plot():
    text = pages.render("interval.svg", plot=pages.plot(verdicts((-1e12, -4e12, 2e12))))
    assert "compressed axis" in text
    assert all(0 <= float(c.get("cx")) <= 400 for c in ElementTree.fromstring(text).iter("circle"))
    nothing = pages.plot(verdicts((np.nan, np.nan, np.nan)))
    assert not any(pages.render(f"{kind}.svg", plot=nothing).strip() for kind in ("interval", "small"))


@pytest.mark.parametrize("threshold", [np.nan, 0.1])
def test_small_plot_has_one_dot_per_network_and_is_not_read_out(threshold):
    plot = pages.plot(verdicts((0.3, 0.1, 0.5), (-0.2, np.nan, np.nan), threshold=threshold))
    svg = ElementTree.fromstring(pages.render("small.svg", plot=plot))
    assert (svg.get("aria-hidden"), len(list(svg.iter("circle")))) == ("true", 2)


def test_colours_of_the_style_sheet_are_those_of_the_statuses():
    css = (STATIC / "scoreboard.css").read_text(encoding="utf-8")
    colours = dict(re.findall(r"\.s-([a-z-]+) { --status: (#[0-9a-f]{6}); }", css))
    assert colours == {name.replace(" ", "-"): status.colour for name, status in STATUSES.items()}


def test_the_committed_badge_counts_the_ledger_in_text_title_and_strip_and_fetches_nothing():
    archived = build_ledger(PAPER, ROOT / "results", profiles=REAL)
    text, words = pages.badge_svg(archived), pages.badge_words(archived)
    assert (STATIC / "claims.svg").read_text(encoding="utf-8") == text, "run: make badge"
    line = f"![{words}](book/_static/claims.svg)"
    assert line in (ROOT / "README.md").read_text(encoding="utf-8"), f"write into README.md: {line}"
    root = ElementTree.fromstring(text)
    counts = of_paper(archived, headline(archived)).value_counts().reindex(list(STATUSES), fill_value=0)
    assert [node.text for node in root.iter(f"{SVG}text")][1].startswith(f"{counts['reproduced']} of 19")
    assert root.find(f"{SVG}title").text == root.get("aria-label") == words
    assert all(f"{count} {status}" in words for status, count in counts.items() if count)
    widths = np.array([float(node.get("width")) for node in root.iter(f"{SVG}rect") if node.get("y")])
    assert widths.sum() == pytest.approx(float(root.get("width")), abs=0.3)
    assert widths / widths.sum() == pytest.approx(counts[counts > 0].to_numpy() / 19, abs=0.01)
    assert "http" not in text.replace('xmlns="http://www.w3.org/2000/svg"', "")


def test_badge_is_written_even_if_the_commands_reader_has_gone(tmp_path, results, monkeypatch):
    def gone(*_: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("builtins.print", gone)
    monkeypatch.setattr("os.dup2", lambda *_: 0)
    target = tmp_path / "badge.svg"
    assert cli.main(["ledger", "--paper", str(PAPER), "--results", str(results), "--badge", str(target)]) == 1
    assert ElementTree.parse(target).getroot().tag == f"{SVG}svg"


@pytest.mark.parametrize(
    ("profiles", "words"),
    [
        (["control"], "in the rendered control experiment: 1 "),
        (["control", "paper"], "on real data: 19 not run"),
    ],
)
def test_the_control_profile_alone_is_not_called_real_data_and_beside_another_counts_nothing(
    profiles, words, results
):
    found = build_ledger(PAPER, results, profiles=profiles)
    assert pages.badge_words(found).startswith(f"19 claims of the paper, {words}")
