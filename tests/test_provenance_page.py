"""The page on provenance as a Sphinx build makes it: one row per notebook, all facts from cards, refused when edited."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from scalelib.datasets import Dataset
from scalelib.results import Run

pytest.importorskip("sphinx")
from sphinx.errors import SphinxWarning
from sphinx_page import build_page

ROOT = Path(__file__).parents[1]
CONF = """
import sys
sys.path.insert(0, {folder!r})
extensions = ["scalebook.sphinx_provenance"]
html_theme = "sphinx_book_theme"
html_theme_options = {options!r}
exclude_patterns = ["results", "profiles"]
"""
PROFILES = {
    "compact": "needs:\n  datasets: [voc2007-test]\n  weights: [{name: SqueezeNet}]\n",
    "control": "",
    "paper": "needs:\n  weights: [{name: InceptionV3}, {name: MobileNet, alpha: 0.25}]\n",
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A book with the page, one executed page that stands in for a notebook's, and three profiles."""
    folder = tmp_path / "root"
    for name in ("book/executed/compact", "profiles"):
        (folder / name).mkdir(parents=True)
    for name, needs in PROFILES.items():
        text = f"description: A profile.\n{needs}notebooks:\n  02_sizes: {{}}\n  04_layers: {{}}\n"
        (folder / "profiles" / f"{name}.yaml").write_text(text)
    (folder / "conf.py").write_text(CONF.format(folder=str(ROOT), options={}))
    pages = "   book/provenance\n   book/executed/compact/04_layers\n"
    (folder / "index.rst").write_text(f"Book\n====\n\n.. toctree::\n\n{pages}")
    (folder / "book/executed/compact/04_layers.rst").write_text("Layers\n======\n")
    parts = "\n\n".join(f".. provenance:: {part}" for part in ("summary", *PROFILES))
    (folder / "book" / "provenance.rst").write_text(f"Provenance\n==========\n\n{parts}\n")
    return folder


def archive(source: Path, profile: str = "compact", name: str = "04_layers", *, classes: int = 2) -> Path:
    folder = source / "results" / profile / name
    table = pd.DataFrame({"object_class": [f"c{i}" for i in range(classes)]})
    data = Dataset(
        "pictures <&>",
        np.zeros((classes, 2, 2, 3), np.uint8),
        table,
        excluded={"several objects": 3, "none": 0},
        source="Flickr",
        digest="ab" * 32,
    )
    net = SimpleNamespace(name="Net", weights="random", weights_seed=5, weights_digest="cd" * 32)
    run = Run(name, profile=profile, parameters={}, folder=folder)
    run.write({"r2": pd.DataFrame({"x": range(1234)})}, datasets=[data], networks=[net])
    return folder


def edit_card(folder: Path, **changes: object) -> None:
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps({**card, **changes}))


build = partial(build_page, page="provenance")


def words(page: str) -> str:
    return " ".join(re.sub("<[^>]+>", " ", page).split())


def test_without_results_every_notebook_of_every_profile_is_not_run(source):
    text = words(build(source))
    assert "6 runs are named by the profiles: 6 not run." in text
    for profile in PROFILES:
        assert f"make reproduce PROFILE= {profile}" in text or f"make reproduce PROFILE={profile}" in text
    assert "weights: InceptionV3, MobileNet 0.25" in text


def test_a_row_holds_what_the_card_says(source):
    folder = archive(source)
    edit_card(
        folder,
        date="2031-02-03 04:05 UTC",
        wall_time_s=600.2,
        code={"commit": "0123456789abcdef", "dirty": True},
        environment={"cpu": "Vega <9>", "cores": 1, "memory_gib": 64.0, "gpus": ["gpu:0"], "backend": "jax"},
    )
    page = build(source)
    text = words(page)
    assert "1 archived, 5 not run" in text
    assert "archived 2031-02-03 04:05 UTC 10 min" in text
    assert "0123456789ab , with local changes" in text
    assert "Vega &lt;9&gt;, 1 core, 64 GiB, gpu:0" in text
    assert "pictures &lt;&amp;&gt;: 2 images (c0 1, c1 1); left out: 3 several objects. Flickr" in text
    assert f"SHA-256 {'ab' * 32}" in text
    assert f"Net, random weights, seed 5. SHA-256 {'cd' * 32}" in text
    assert "r2.csv , 1,234 rows" in text


def test_page_card_and_tables_are_linked_and_the_files_are_in_the_book(source):
    archive(source)
    page = build(source)
    out = source.parent / "out" / "book"
    assert 'href="executed/compact/04_layers.html"' in page
    downloads = re.findall(r'href="(\.\./_downloads/[^"]+)"', page)
    assert sorted(Path(link).name for link in downloads) == ["card.json", "r2.csv"]
    assert all((out / link).is_file() for link in downloads)


def test_results_without_a_page_are_listed_as_such(source):
    archive(source, "control")
    assert "1 results only, no page" in words(build(source))


def test_many_classes_are_summed_up(source):
    archive(source, classes=40)
    assert "40 images (40 classes, 1 each)" in words(build(source))


def test_commit_is_a_link_once_the_repository_is_known(source):
    edit_card(archive(source), code={"commit": "f" * 40, "dirty": False})
    assert "/commit/" not in build(source)
    options = {"repository_url": "https://github.com/a/b"}
    (source / "conf.py").write_text(CONF.format(folder=str(ROOT), options=options))
    assert f'href="https://github.com/a/b/commit/{"f" * 40}"' in build(source)


def test_tables_scroll_by_keyboard_and_are_named(source):
    boxes = re.findall(
        r'<div class="provenance-scroll" tabindex="0" role="region" aria-label="([^"]+)"', build(source)
    )
    assert len(set(boxes)) == 3


def test_an_edited_table_fails_the_build_by_file_name(source):
    (archive(source) / "r2.csv").write_text("x\n7\n")
    with pytest.raises(SphinxWarning, match=r"04_layers/r2\.csv is not the file that the run wrote"):
        build(source)


def test_an_unknown_part_is_refused_with_those_that_there_are(source):
    (source / "book" / "provenance.rst").write_text("Provenance\n==========\n\n.. provenance:: all\n")
    with pytest.raises(SphinxWarning, match="there are summary, control, compact, paper"):
        build(source)
