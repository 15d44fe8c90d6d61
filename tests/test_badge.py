"""The README's badge says what the ledger says now, in words as well as in colours."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pytest
from study_tables import layerwise

from scalebook.ledger import REAL, Ledger, build_ledger, headline
from scalebook.pages import COLOURS, badge_svg, badge_words
from scalebook.predicates import STATUSES
from scalelib import cli
from scalelib.results import Run

ROOT = Path(__file__).parents[1]
PAPER = ROOT / "paper"
BADGE = ROOT / "book" / "_static" / "claims.svg"
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def archived() -> Ledger:
    return build_ledger(PAPER, ROOT / "results", profiles=REAL)


@pytest.fixture
def control(tmp_path: Path) -> Path:
    rows = layerwise({"a": [0.1, 0.2, 0.1], "b": [0.8, 0.7, 0.8], "c": [0.2, 0.3, 0.2]}, weights="all scales")
    folder = tmp_path / "control" / "04_layerwise_r2"
    Run(folder.name, profile="control", parameters={}, folder=folder).write({"layerwise_r2": rows})
    return tmp_path


def test_the_committed_badge_is_the_one_that_the_ledger_makes_now(archived):
    assert BADGE.read_text(encoding="utf-8") == badge_svg(archived), "run: make badge"


def test_the_readme_shows_it_with_its_words(archived):
    line = f"![{badge_words(archived)}](book/_static/claims.svg)"
    assert line in (ROOT / "README.md").read_text(encoding="utf-8"), f"write into README.md: {line}"


def test_counts_stand_in_text_and_title_and_add_up(archived):
    root = ElementTree.fromstring(badge_svg(archived))
    counts = headline(archived).value_counts()
    texts = [node.text for node in root.iter(f"{SVG}text")]
    assert texts[1].startswith(f"{counts['reproduced']} of {len(archived.claims)}")
    title = root.find(f"{SVG}title").text
    assert title == root.get("aria-label") == badge_words(archived)
    assert root.get("role") == "img"
    for status, count in counts.items():
        assert f"{count} {status}" in title


def test_strip_is_divided_by_the_counts(archived):
    root = ElementTree.fromstring(badge_svg(archived))
    strip = [node for node in root.iter(f"{SVG}rect") if node.get("y")]
    counts = [n for n in (int((headline(archived) == status).sum()) for status in STATUSES) if n]
    widths = [float(node.get("width")) for node in strip]
    assert sum(widths) == pytest.approx(float(root.get("width")), abs=0.3)
    assert [w / sum(widths) for w in widths] == pytest.approx([n / sum(counts) for n in counts], abs=0.01)


def test_nothing_is_fetched_and_words_have_contrast(archived):
    text = badge_svg(archived)
    assert "http" not in text.replace('xmlns="http://www.w3.org/2000/svg"', "")
    for ground in (COLOURS["reproduced"], "#333333"):
        assert 1.05 / (luminance(ground) + 0.05) >= 4.5


def luminance(colour: str) -> float:
    """WCAG 2 relative luminance."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_command_writes_the_badge_even_if_its_reader_has_gone(tmp_path, control, monkeypatch):
    def gone(*_: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("builtins.print", gone)
    monkeypatch.setattr("os.dup2", lambda *_: 0)
    target = tmp_path / "badge.svg"
    arguments = ["ledger", "--paper", str(PAPER), "--results", str(control), "--badge", str(target)]
    assert cli.main(arguments) == 1
    assert ElementTree.parse(target).getroot().tag == f"{SVG}svg"


def test_the_control_profile_alone_is_not_called_real_data(control, capsys):
    ledger = build_ledger(PAPER, control, profiles=["control"])
    assert badge_words(ledger).startswith("19 claims of the paper, in the rendered control experiment: ")
    assert (headline(ledger) != "not run").any()
    cli.main(["ledger", "--paper", str(PAPER), "--results", str(control), "--profile", "control"])
    assert capsys.readouterr().out.startswith("19 claims, in the rendered control experiment: ")


@pytest.mark.parametrize("profiles", [["compact"], ["control", "paper"], ["paper", "compact", "control"]])
def test_with_a_real_profile_only_real_data_count(profiles, control):
    ledger = build_ledger(PAPER, control, profiles=profiles)
    assert badge_words(ledger) == "19 claims of the paper, on real data: 19 not run"
    assert pd.unique(headline(ledger)).tolist() == ["not run"]
