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
from scalebook.ledger import REAL, Ledger, build_ledger, counts, headline
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
    early = layerwise({"a": LOW, "b": HIGH}, network="ResNet50", weights="imagenet, to b")
    real = pd.concat([layerwise(taps, network="net <&> co"), early, layerwise({"mixed8": HIGH}, **protocol)])
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
    shown = [int(n) for n in re.findall(r'class="count">(\d+)<', pages.glance(found))]
    assert sum(shown[::2]) == sum(shown[1::2]) == len(found.claims) - 4 == 19
    assert shown[::2] == list(counts(found).values())
    own = (
        "tested on networks that the paper itself uses"
        if which == "ledger"
        else "None of the paper's 19 claims"
    )
    assert own in read(pages.glance(found))[1]
    parts = [read(pages.claims(found, no_page, ours=ours)) for ours in (False, True)]
    assert [len(list(page.iter("details"))) for page, _ in parts] == [19, 4]
    text = " ".join(text for _, text in parts)
    for claim in found.claims:
        assert claim.claim in text
        assert claim.refuted in text


def test_status_is_never_colour_alone_filters_wait_for_the_script_and_pages_in_the_book_are_linked(ledger):
    page, text = read(pages.claims(ledger, lambda p, c: f"{p}/{c.notebook}.html" if p == "compact" else None))
    found = set(headline(ledger))
    assert all(f"{STATUSES[status].symbol} {status}" in text for status in found)
    buttons = [b.get("data-value") for b in page.iter("button") if b.get("data-filter") == "status"]
    assert buttons == ["all", *(status.replace(" ", "-") for status in STATUSES if status in found)]
    groups = {group.get("id"): list(group.iter("details")) for group in page.iter("section")}
    assert list(groups)[:2] == ["where-is-scale-read", "is-it-learned-or-architecture"]
    assert [one.get("id") for one in groups["what-do-early-layers-hold"]] == ["claim-early-layers-low-ols", "claim-early-layers-empty"]  # fmt: skip
    assert "net <&> co" in text  # escaped, so that it is read as text
    assert page.find("div[@class='scoreboard-filters']").get("hidden") is not None
    pressed = [b.get("data-filter") for b in page.iter("button") if b.get("aria-pressed") == "true"]
    assert pressed == ["question", "status"]
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


def verdicts(*effects: tuple[float, float, float], threshold: float = 0.0, side: int = 1) -> pd.DataFrame:
    rows = pd.DataFrame(effects, columns=["effect", "low", "high"])
    names = [f"net & {i}, rounded" for i in range(len(rows))]
    about = {"quantity": "R²", "profile": "compact", "status": "partly", "side": side}
    return rows.assign(threshold=threshold, network=names, **about)


def drawn(rows: pd.DataFrame, *, small: bool = False) -> str:
    return pages.render("interval.svg", plot=pages.plot(rows), small=small)


def test_plot_describes_itself_and_its_places_are_linear_in_value():
    svg = ElementTree.fromstring(drawn(verdicts((0.3, 0.1, 0.5), (-0.2, np.nan, np.nan))))
    words = "R²: net & 0 0.30 (0.10 to 0.50); net & 1 −0.20; for the claim: above 0.00"
    assert (svg.get("role"), svg.get("aria-label"), svg.find("title").text) == ("img", words, words)
    a, c = (float(circle.get("cx")) for circle in svg.iter("circle"))
    turn = float(next(line for line in svg.iter("line") if line.get("class") == "threshold").get("x1"))
    assert (a - turn) / (turn - c) == pytest.approx(0.3 / 0.2, abs=0.01)
    assert len([line for line in svg.iter("line") if not line.get("class")]) == 1


def test_an_interval_without_an_end_leaves_the_other_marks_where_they_are():
    endless, other = pages.plot(verdicts((0.1, -np.inf, np.inf), (0.2, 0.1, 0.3)))["marks"]
    assert endless["at"]["low"] is None is endless["at"]["high"]
    assert [other["at"][name] for name in ("low", "effect", "high")] == sorted(
        other["at"][name] for name in ("low", "effect", "high")
    )


def test_vast_values_bend_the_axis_and_nothing_finite_gives_no_plot():
    text = drawn(verdicts((-1e12, -4e12, 2e12)))
    assert "compressed axis" in text
    assert all(0 <= float(c.get("cx")) <= 400 for c in ElementTree.fromstring(text).iter("circle"))
    nothing = verdicts((np.nan, np.nan, np.nan))
    assert not any(drawn(nothing, small=small).strip() for small in (False, True))


@pytest.mark.parametrize(("side", "words"), [(1, "for →"), (-1, "← for")])
def test_the_side_that_speaks_for_a_claim_is_shaded_and_named_and_a_small_plot_is_not_read_out(side, words):
    rows = verdicts((0.3, 0.2, 0.5), (-0.2, np.nan, np.nan), threshold=0.1, side=side)
    for small in (True, False):
        svg = ElementTree.fromstring(drawn(rows, small=small))
        assert (svg.get("aria-hidden"), len(list(svg.iter("circle")))) == ("true" if small else None, 2)
        shaded = next(box for box in svg.iter("rect") if box.get("class") == "for")
        begin, width = float(shaded.get("x")), float(shaded.get("width"))
        inside = [begin <= float(dot.get("cx")) <= begin + width for dot in svg.iter("circle")]
        assert inside == [side == 1, side == -1]
        assert words in [text.text for text in svg.iter("text")]


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
    found = pd.Series(counts(archived))
    assert [node.text for node in root.iter(f"{SVG}text")][1].startswith(f"holds {found['holds']} · ")
    grounds = [node.get("fill") for node in root.iter(f"{SVG}rect") if not node.get("y")]
    assert not {status.colour for status in STATUSES.values()} & set(grounds)  # it counts, and does not pass
    assert root.find(f"{SVG}title").text == root.get("aria-label") == words
    assert all(f"{status} {count}" in words for status, count in found.items() if count)
    widths = np.array([float(node.get("width")) for node in root.iter(f"{SVG}rect") if node.get("y")])
    assert widths.sum() == pytest.approx(float(root.get("width")), abs=0.3)
    assert widths / widths.sum() == pytest.approx(found[found > 0].to_numpy() / 19, abs=0.01)
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
        (["control"], "in the rendered control experiment: "),
        (["control", "paper"], "on real data: not run 19"),
    ],
)
def test_the_control_profile_alone_is_not_called_real_data_and_beside_another_counts_nothing(
    profiles, words, results
):
    found = build_ledger(PAPER, results, profiles=profiles)
    assert pages.badge_words(found).startswith(f"19 claims of the paper, {words}")
