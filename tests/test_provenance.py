"""A result is whole and matches its card, or it is refused."""

from __future__ import annotations

import errno
import hashlib
import json
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest

from scalelib import results
from scalelib.datasets import Dataset
from scalelib.errors import ResultsError
from scalelib.results import Run, digest_notebook, read_results

TABLE = pd.DataFrame({"tap": ["a", "b"], "r2_test": [0.25, -1e-9]})


def write(folder: Path, tables: dict[str, pd.DataFrame] | None = None, **options: object) -> results.Card:
    run = Run("04_demo", profile="control", parameters={"repeats": 2}, folder=folder)
    return run.write({"r2": TABLE} if tables is None else tables, **options)  # type: ignore[arg-type]


def test_large_table_is_compressed_to_the_same_bytes_and_found_by_the_name_it_was_given(
    tmp_path: Path,
) -> None:
    large = pd.DataFrame({"x": np.arange(300_000)})
    for folder in ("a", "b"):
        write(tmp_path / folder, {"large": large, "small": TABLE})
    first, second = ((tmp_path / name / "large.csv.gz").read_bytes() for name in "ab")
    assert first == second
    read = read_results(tmp_path / "a")
    assert sorted(read.card.data["tables"]) == ["large.csv.gz", "small.csv"]
    for name in ("large", "large.csv", "large.csv.gz"):
        pd.testing.assert_frame_equal(read.table(name), large)


def test_table_that_stays_large_is_cut_in_parts_and_read_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "LARGE", 10_000)
    words = np.where(np.arange(20_000) < 10_000, "0", 'first, "word"\nof two lines')
    table = pd.DataFrame({"x": np.random.default_rng(0).integers(0, 10**6, 20_000), "word": words})
    write(tmp_path, {"large": table, "large_too": TABLE})
    read = read_results(tmp_path)
    files = read.files("large")
    assert len(files) > 9, "more parts than one digit numbers"
    assert files == sorted(files)
    assert all((tmp_path / file).stat().st_size < 2 * results.LARGE for file in files)
    assert sum(read.card.data["tables"][file]["rows"] for file in files) == len(table)
    assert read.files("large_too") == ["large_too.csv"]
    for name in ("large", "large.csv", "large.csv.gz"):
        pd.testing.assert_frame_equal(read.table(name), table)


def test_a_single_row_is_one_part_however_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "LARGE", 10)
    write(tmp_path, {"r2": TABLE})
    assert [len(read_results(tmp_path).files("r2")), len(read_results(tmp_path).table("r2"))] == [2, 2]


@pytest.mark.parametrize("other", ["r2.csv", "r2.csv.gz", "r2.part01"])
def test_tables_that_would_be_read_as_one_are_refused(tmp_path: Path, other: str) -> None:
    with pytest.raises(ResultsError, match=f"more than their endings.\nReceived: r2, {other}"):
        write(tmp_path, {"r2": TABLE, other: TABLE})
    assert not [*tmp_path.iterdir()]


def test_words_flags_and_missing_values_survive(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {"name": ["None", "NA", "x"], "value": [1.0, np.nan, 2.0], "condition": ["true"] * 3}
    )
    table = table.assign(at_edge=[True, False, True], whole=[1, 2, 3])
    table = table.assign(image=["000012", "000013", "000014"], none=np.nan)
    write(tmp_path, {"t": table, "flags": pd.DataFrame({"ok": [True, None, False]})})
    read = read_results(tmp_path)
    pd.testing.assert_frame_equal(read.table("t"), table)
    assert [flag is True for flag in read.table("flags").ok] == [True, False, False]


DAMAGE: dict[str, tuple[str, str | None, str]] = {  # the file, what becomes of it, and what is said
    "table edited": ("r2.csv", "tap,r2_test\na,0.95\n", r"r2\.csv is not the file"),
    "table gone": ("r2.csv", None, "no such file"),
    "no card": ("card.json", None, r"without a whole card\.json is not a result"),
    "half a card": ("card.json", "{", "is not a result"),
    "another format": ("card.json", '{"format": 99}', "not 99"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_the_run_did_not_write_is_refused(tmp_path: Path, damage: str) -> None:
    write(tmp_path)
    name, content, words = DAMAGE[damage]
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(ResultsError, match=words):
        read_results(tmp_path)


def test_second_run_removes_tables_it_does_not_write(tmp_path: Path) -> None:
    write(tmp_path, {"old": TABLE, "r2": TABLE})
    write(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["card.json", "r2.csv"]


@pytest.mark.parametrize("written", range(3))
def test_full_disk_leaves_the_earlier_result_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    """The disk is full when a table, another, or, last, the card is written."""
    write(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    full = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(results.os, "fsync", Mock(side_effect=[*[None] * written, full]))
    with pytest.raises(ResultsError, match="No space left on device"):
        write(tmp_path, {"r2": TABLE * 2, "more": TABLE})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


OUTSIDE = ("../notes.csv", "..", "/tmp/notes.csv", "a/../../notes.csv", "\0.csv", "notes.txt")


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_card_that_names_files_outside_its_folder_moves_nothing(tmp_path: Path, name: str) -> None:
    write(tmp_path / "a")
    (tmp_path / "notes.csv").write_text("precious")
    (tmp_path / "a" / "notes.txt").write_text("precious")
    card = json.loads((tmp_path / "a" / "card.json").read_text())
    card["tables"][name] = {"rows": 1, "sha256": hashlib.sha256(b"precious").hexdigest()}
    (tmp_path / "a" / "card.json").write_text(json.dumps(card))
    with pytest.raises(ResultsError, match="no plain table of the folder"):
        read_results(tmp_path / "a")
    write(tmp_path / "a", {"new": TABLE})
    assert (tmp_path / "notes.csv").read_text() == (tmp_path / "a" / "notes.txt").read_text() == "precious"
    assert read_results(tmp_path / "a").table("new").r2_test.size == 2


def test_parameters_must_be_plain_json_and_the_folder_writable(tmp_path: Path) -> None:
    run = Run("x", profile="control", parameters={"a": object()}, folder=tmp_path)
    with pytest.raises(ResultsError, match="plain JSON"):
        run.write({"r2": TABLE})
    assert not (tmp_path / "card.json").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultsError, match="cannot write r2"):
        write(tmp_path / "file" / "results")


def test_card_counts_images_per_class_and_names_each_network_once(tmp_path: Path) -> None:
    rows = pd.DataFrame({"image": ["1", "2", "3"], "object_class": ["bird", "dog", "bird"]})
    images = np.zeros((3, 2, 2, 3), np.uint8)
    dataset = Dataset("demo", images, rows, excluded={"several objects": 4}, digest="d" * 64)
    net = SimpleNamespace(name="Tiny", weights="random", weights_seed=3, weights_digest="w" * 64)
    card = write(tmp_path, datasets=[dataset], networks=[net, net]).data
    assert card["datasets"][0]["counts"] == {"bird": 2, "dog": 1}
    assert card["datasets"][0]["excluded"] == {"several objects": 4}
    assert [entry["weights_seed"] for entry in card["networks"]] == [3]
    assert "bird 2, dog 1" in results.Card(card)._repr_html_()
    text = (tmp_path / "card.json").read_text()
    assert str(tmp_path) not in text
    assert str(Path.home()) not in text


def notebook(path: Path, *cells: tuple[str, str, list[str]]) -> Path:
    content = [
        {"cell_type": kind, "source": source, "metadata": {"tags": tags}} for kind, source, tags in cells
    ]
    path.write_text(json.dumps({"cells": content}))
    return path


def test_notebook_digest_sees_code_and_nothing_else(tmp_path: Path) -> None:
    code = ("code", "x = 1", [])
    reference = digest_notebook(notebook(tmp_path / "a.ipynb", code))
    parameters = [("code", "profile = 'compact'", ["injected-parameters"]), ("code", "p = 0", ["parameters"])]
    same = notebook(tmp_path / "b.ipynb", ("markdown", "words", []), *parameters, code)
    other = notebook(tmp_path / "c.ipynb", ("code", "x = 2", []))
    assert digest_notebook(same) == reference
    assert digest_notebook(other) != reference
