"""Every archived table has a test that computes rows of it again: from images and weights, or from the table it follows from.

A number that is edited together with its digest is then seen. Derived tables are computed again whole; of tables of
measurements, each test takes a sample of its own. Tests that take long run in `make test-all`.
"""

from __future__ import annotations

import re
import shutil
from importlib import import_module
from pathlib import Path

import pytest
from archive_rows import ARCHIVE, RECOMPUTED_BY, ROOT, agree, archived, settings

from scalelib.errors import ResultsError
from scalelib.results import CARD, read_results

NOTEBOOKS = sorted(path.parent.name for path in ARCHIVE.glob(f"*/{CARD}"))
for module in sorted(ROOT.glob("tests/test_archive_*.py")):
    import_module(module.stem)


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_every_archived_table_is_recomputed_by_some_test(notebook: str) -> None:
    tables = {
        f"{notebook}/{file.split('.')[0]}" for file in read_results(ARCHIVE / notebook).card.data["tables"]
    }
    recomputed = {name for name in RECOMPUTED_BY if name.startswith(f"{notebook}/")}
    assert not tables - recomputed, (
        f"write a test with @recomputes({', '.join(map(repr, sorted(tables - recomputed)))})"
    )
    assert not recomputed - tables, f"no such tables: {sorted(recomputed - tables)}"


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_each_run_of_the_tests_computes_rows_of_every_notebook_from_its_data(notebook: str) -> None:
    tests = {t for name, own in RECOMPUTED_BY.items() if name.startswith(f"{notebook}/") for t in own}
    marks = [{mark.name for mark in getattr(test, "pytestmark", [])} for test in tests]
    assert any("data" in own and "exhaustive" not in own for own in marks)


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_card_has_the_settings_of_the_profile(notebook: str) -> None:
    card = read_results(ARCHIVE / notebook).card.data["parameters"]
    given = {key: value for key, value in settings(notebook).items() if key in card}
    assert given == {key: card[key] for key in given}


def test_archive_holds_every_network_of_the_profile() -> None:
    table = archived("04_layerwise_r2/layerwise_r2")
    wanted = {
        (spec["label"], spec.get("weights_label", spec["weights"]), seed)
        for spec in settings("04_layerwise_r2")["networks"]
        for seed in (spec["seeds"] if spec["weights"] == "random" else [-1])
    }
    assert set(table[["network", "weights", "weights_seed"]].itertuples(index=False, name=None)) == wanted


class TestComparison:
    """The comparison itself can fail, and says where."""

    NAME = "07_interpolation_peak/table1_sums"
    KEYS = ("line", "name")

    def test_a_changed_number_is_named_with_table_row_and_column(self) -> None:
        again = archived(self.NAME)
        again.loc[2, "sum"] += 1
        with pytest.raises(
            AssertionError, match=r"table1_sums: 1 of 12 values of 'sum' .* line=row, name=test: archived"
        ):
            agree(self.NAME, again, keys=self.KEYS, whole=True)

    def test_a_number_within_tolerance_passes_and_one_beyond_fails(self) -> None:
        again = archived(self.NAME)
        agree(self.NAME, again.assign(sum=again["sum"] * 1.009), keys=self.KEYS, whole=True, rel=0.01)
        with pytest.raises(AssertionError, match="12 of 12 values of 'sum'"):
            agree(self.NAME, again.assign(sum=again["sum"] * 1.011), keys=self.KEYS, whole=True, rel=0.01)

    @pytest.mark.parametrize("edit", ["lost", "new", "twice", "column"])
    def test_rows_and_columns_must_be_the_same(self, edit: str) -> None:
        again = archived(self.NAME)
        edited = {
            "lost": again.iloc[1:],
            "new": again.assign(name=again.name.replace("test", "tset")),
            "twice": again.iloc[[0, 0, 1]],
            "column": again.drop(columns="sum"),
        }[edit]
        with pytest.raises(AssertionError, match=r"do not follow|not archived|rows twice|columns"):
            agree(self.NAME, edited, keys=self.KEYS, whole=True)


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_one_changed_byte_of_any_table_is_refused_by_file(notebook: str, tmp_path: Path) -> None:
    folder = tmp_path / notebook
    shutil.copytree(ARCHIVE / notebook, folder)
    for file in read_results(folder).card.data["tables"]:
        whole = (folder / file).read_bytes()
        middle = len(whole) // 2
        (folder / file).write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
        with pytest.raises(
            ResultsError, match=rf"{notebook}/{re.escape(file)} is not the file that the run wrote"
        ):
            read_results(folder)
        (folder / file).write_bytes(whole)
