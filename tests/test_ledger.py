"""Cells and claims of the paper beside results: numbers recomputed, honest about what was not run, closed to tampering."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from study_tables import corrected, layerwise

from scalebook.ledger import as_data, build_ledger, headline
from scalebook.ledger_command import MARKS
from scalebook.paper_tables import (
    COLUMNS,
    a1_cells,
    figure_cells,
    order_kept,
    table1_cells,
    table2_cells,
    table_a1_cells,
)
from scalelib import cli
from scalelib.errors import ResultsError
from scalelib.results import Run

ROOT = Path(__file__).parents[1]
PAPER = ROOT / "paper"
LOW, MID, HIGH = [0.10, 0.12, 0.14], [0.40, 0.44, 0.42], [0.80, 0.78, 0.82]
PROTOCOL = {"network": "InceptionV3", "estimator": "ols", "measure": "area_ratio"}


def a1_study() -> pd.DataFrame:
    seeds = [
        layerwise({"mixed0": [v] * 3}, weights="random", seeds=[s], **PROTOCOL)
        for s, v in enumerate((-2.0, -3.0, -4.0))
    ]
    return pd.concat([
        layerwise({"mixed8": HIGH, "mixed9": MID}, **PROTOCOL),
        layerwise({"mixed8": [-0.2, -0.3, -0.1]}, condition="shuffled", **PROTOCOL),
        layerwise({"mixed8": LOW}, **{**PROTOCOL, "estimator": "ridge"}),
        layerwise({"mixed8": LOW}, **{**PROTOCOL, "network": "SqueezeNet"}),
        *seeds,
    ])  # fmt: skip


def archive(root: Path, profile: str, notebook: str, **tables: pd.DataFrame) -> None:
    Run(notebook, profile=profile, parameters={}, folder=root / profile / notebook).write(tables)


class TestTableA1:
    def test_compared_cells_have_our_mean_corrected_interval_and_difference(self):
        cell = (
            a1_cells(PAPER / "table_a1.csv", a1_study())
            .set_index(["tap", "condition"])
            .loc[("mixed8", "imagenet")]
        )
        assert (cell.ours, cell.low, cell.high) == pytest.approx(corrected(HIGH))
        assert (cell.paper, cell.difference) == pytest.approx((0.84, np.mean(HIGH) - 0.84))
        assert (cell.status, cell.same_sign, cell.overlap) == ("compared", True, True)

    def test_random_weights_have_the_seed_as_unit_and_one_far_off_does_not_overlap(self):
        cell = (
            a1_cells(PAPER / "table_a1.csv", a1_study())
            .set_index(["tap", "condition"])
            .loc[("mixed0", "random")]
        )
        assert (cell.ours, cell.low, cell.high) == pytest.approx(corrected([-2, -3, -4], share=0))
        assert (cell.units, cell.same_sign, cell.overlap) == (3, True, False)  # the paper has −283

    def test_other_cells_are_not_run_and_say_what_they_need(self):
        cells = a1_cells(PAPER / "table_a1.csv", a1_study())
        left = cells[cells.status == "not run"]
        assert len(cells) == 39
        assert len(left) == 39 - 4
        assert left.ours.isna().all()
        assert left.overlap.isna().all()
        assert left.needs.str.contains("profile").all()
        assert "random weights" in left.needs[(left.tap == "mixed8") & (left.condition == "random")].item()

    def test_nothing_run_gives_the_same_columns(self):
        assert (
            list(a1_cells(PAPER / "table_a1.csv"))
            == COLUMNS
            == list(a1_cells(PAPER / "table_a1.csv", a1_study()))
        )

    def test_a_page_gets_the_columns_that_vary(self):
        assert {"paper", "ours", "low", "high", "difference", "status"} <= set(
            table_a1_cells(PAPER / "table_a1.csv")
        )


def test_figure_labels_are_one_plus_the_log_of_the_mean_exponential():
    cell = figure_cells(PAPER / "figure_labels.csv", a1_study()).set_index("tap").loc["mixed8"]
    values = np.add.outer(HIGH, (-0.04, 0.04))
    assert cell.ours == pytest.approx(1 + np.log(np.mean(np.exp(values)) / np.e))
    assert cell.paper == 0.85
    assert np.isnan(cell.low)


class TestTable2:
    SEEDS = (50.0, 55.0, 60.0)

    def scores(self) -> pd.DataFrame:
        rows = [
            {"network": "ResNet50", "row": "pruned", "tap": "add15", "target": target, "seed": seed, "slide": slide,
             "mae_px": mae if (slide, target) == ("all", "area") else 1e3, "kappa": 0.5 + seed / 10}
            for seed, mae in enumerate(self.SEEDS) for slide in ("all", "s1") for target in ("area", "log2_magnification")
        ]  # fmt: skip
        return pd.DataFrame(rows)

    def test_published_cells_have_unit_spread_and_source(self):
        table = pd.read_csv(PAPER / "table2.csv")
        assert table.shape == (12, 9)
        assert (
            table.set_index(["network", "row", "score"])["mean"].loc[("InceptionV3", "pruned", "kappa")]
            == 0.571
        )
        assert table.unit.isin(["px", "1"]).all()
        assert table.source.str.contains("10.3390/make3020019").all()

    def test_brackets_over_ten_seeds_become_the_interval_of_a_mean(self):
        cell = (
            table2_cells(PAPER / "table2.csv")
            .set_index(["network", "condition"])
            .loc[("ResNet50", "pruned, mae_px")]
        )
        half = 3.10 / np.sqrt(10) * stats.t.ppf(0.975, 9)
        assert (cell.paper_low, cell.paper_high) == pytest.approx((54.76 - half, 54.76 + half))
        assert cell.status == "not run"
        assert "GPU" in cell.needs

    def test_our_cell_is_the_mean_over_seeds_of_all_patches_and_the_area_target(self):
        cells = table2_cells(PAPER / "table2.csv", self.scores()).set_index(["network", "condition"])
        cell = cells.loc[("ResNet50", "pruned, mae_px")]
        assert (cell.ours, cell.low, cell.high) == pytest.approx(corrected(self.SEEDS, share=0))
        assert cell.overlap
        assert (cells.status == "compared").sum() == 2


def test_table_1_is_not_run_cell_by_cell():
    cells = table1_cells(PAPER / "table1.csv")
    assert len(cells) == 32
    assert set(cells.status) == {"not run"}
    assert cells.needs.str.contains("BCa").all()


def test_table_1_has_our_counts_where_patches_were_cut_and_compares_no_sign():
    published = pd.read_csv(PAPER / "table1.csv")
    ours = published[["split", "magnification"]].assign(ours=published.patches // 10)
    cells = table1_cells(PAPER / "table1.csv", ours).set_index(["condition", "tap"])
    assert set(cells.status) == {"compared"}
    assert cells.ours["validation", "30X"] == 350
    assert cells.difference["validation", "30X"] == 350 - 3504
    assert cells[["same_sign", "overlap", "low"]].isna().all(axis=None)
    assert order_kept(cells.loc["train"]) == (28, 28)
    part = table1_cells(PAPER / "table1.csv", ours[ours.split == "train"])
    assert (part.status == "compared").sum() == 8


def test_order_counts_pairs_and_ignores_what_was_not_run():
    cells = pd.DataFrame(
        {"paper": [1, 2, 3, 9], "ours": [1.0, 3.0, 2.0, np.nan], "status": ["compared"] * 3 + ["not run"]}
    )
    assert order_kept(cells) == (2, 3)


class TestLedger:
    @pytest.fixture
    def results(self, tmp_path: Path) -> Path:
        good = layerwise({"a": LOW, "b": HIGH, "c": MID, "pre_softmax": MID, "softmax": LOW})
        archive(
            tmp_path, "compact", "04_layerwise_r2", **{"layerwise_r2.csv.gz": pd.concat([good, a1_study()])}
        )
        bad = layerwise({"a": HIGH, "b": MID, "pre_softmax": LOW}, weights="all scales")
        archive(tmp_path, "control", "04_layerwise_r2", **{"layerwise_r2.csv.gz": bad})
        sums = pd.DataFrame(
            {"line": ["row"], "name": ["test"], "printed": [3], "sum": [4], "difference": [1]}
        )
        archive(tmp_path, "control", "07_interpolation_peak", table1_sums=sums)
        return tmp_path

    def test_headline_comes_from_real_data_and_profiles_stand_apart(self, results):
        ledger = build_ledger(PAPER, results)
        rows = ledger.verdicts[ledger.verdicts.claim == "interior-peak"].set_index("profile").status
        assert rows.control == "not reproduced"
        assert rows.paper == "not run"
        assert (
            headline(ledger)["interior-peak"] == "reproduced"
        )  # SqueezeNet and InceptionV3 have no ridge rows on s

    def test_a_claim_about_the_paper_itself_counts_whatever_the_profile(self, results):
        assert headline(build_ledger(PAPER, results))["table1-consistent"] == "not reproduced"

    def test_every_claim_and_cell_has_a_status(self, results):
        data = as_data(build_ledger(PAPER, results))
        assert sum(data["counts"]["claims"].values()) == len(data["claims"]) == 19
        assert {table: sum(counts.values()) for table, counts in data["counts"]["cells"].items()} == {
            "1": 32, "2": 12, "A1": 39, "figure": 3}  # fmt: skip
        assert {cell["profile"] for cell in data["cells"] if cell["status"] == "compared"} == {"compact"}

    def test_json_is_plain_and_without_nan(self, results):
        text = json.dumps(as_data(build_ledger(PAPER, results)), allow_nan=False)
        assert json.loads(text)["results"]["compact/04_layerwise_r2"]["profile"] == "compact"

    @pytest.mark.parametrize("profiles", [["control"], ["paper"], ["compact", "control"]])
    def test_any_choice_of_profiles_works(self, results, profiles):
        ledger = build_ledger(PAPER, results, profiles=profiles)
        assert set(ledger.verdicts.profile) == set(profiles)
        assert len(ledger.cells) == 86

    def test_cells_come_from_the_first_profile_that_has_them(self, results):
        archive(results, "paper", "04_layerwise_r2", layerwise_r2=layerwise({"mixed8": MID}, **PROTOCOL))
        cells = build_ledger(PAPER, results).cells.set_index(["table", "tap", "condition"]).sort_index()
        assert cells.loc[("A1", "mixed8", "imagenet"), "profile"] == "paper"
        assert cells.loc[("A1", "mixed9", "imagenet"), "profile"] == "compact"

    def test_an_edited_number_is_refused_by_file(self, results):
        path = results / "control" / "07_interpolation_peak" / "table1_sums.csv"
        path.write_text(path.read_text().replace("4", "3"))
        with pytest.raises(ResultsError, match=r"07_interpolation_peak/table1_sums\.csv"):
            build_ledger(PAPER, results)

    def test_an_edited_threshold_is_refused_by_claim(self, results, tmp_path):
        paper = tmp_path / "paper"
        paper.mkdir()
        for path in PAPER.iterdir():
            (paper / path.name).write_bytes(path.read_bytes())
        claims = (paper / "claims.yaml").read_text(encoding="utf-8")
        (paper / "claims.yaml").write_text(claims.replace("taps_apart: 2", "taps_apart: 5"), encoding="utf-8")
        with pytest.raises(ResultsError, match="chosen-tap-transfers"):
            build_ledger(paper, results)


class TestCommand:
    def run(self, capsys, *arguments: str) -> tuple[int, str, str]:
        status = cli.main(["ledger", "--paper", str(PAPER), *arguments])
        out, error = capsys.readouterr()
        return status, out, error

    def test_prints_every_claim_and_writes_the_same_as_json_and_csv(self, tmp_path, capsys):
        archive(tmp_path, "compact", "04_layerwise_r2", **{"layerwise_r2.csv.gz": a1_study()})
        status, out, _ = self.run(
            capsys,
            "--results",
            str(tmp_path),
            "--json",
            str(tmp_path / "x.json"),
            "--csv",
            str(tmp_path / "x.csv"),
        )
        data = json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))
        words = " ".join(out.split())
        assert status == 0
        for claim in data["claims"]:
            assert claim["claim"] in words
        assert all(f"{count} {name}" in words for name, count in data["counts"]["claims"].items() if count)
        assert "Table A1: 4 compared, 35 not run" in words or "Table A1: 35 not run, 4 compared" in words
        assert len(pd.read_csv(tmp_path / "x.csv")) == sum(
            len(found["networks"]) for claim in data["claims"] for found in claim["profiles"].values()
        )

    def test_every_status_in_the_json_is_the_one_that_is_printed(self, tmp_path, capsys):
        good = layerwise({"a": LOW, "b": HIGH, "c": MID, "pre_softmax": MID, "softmax": LOW})
        tables = {"layerwise_r2.csv.gz": pd.concat([good, a1_study()])}
        archive(tmp_path, "compact", "04_layerwise_r2", **tables)
        _, out, _ = self.run(capsys, "--results", str(tmp_path), "--json", str(tmp_path / "x.json"))
        self.printed_as_in(out, tmp_path / "x.json", at_least={"reproduced", "not run"})

    @pytest.mark.slow
    def test_json_of_the_archived_results_holds_what_is_printed(self, tmp_path, capsys):
        _, out, _ = self.run(capsys, "--results", str(ROOT / "results"), "--json", str(tmp_path / "x.json"))
        self.printed_as_in(out, tmp_path / "x.json", at_least={"reproduced", "not reproduced"})

    def printed_as_in(self, out: str, file: Path, *, at_least: set[str]) -> None:
        data, words = json.loads(file.read_text(encoding="utf-8")), " ".join(out.split())
        assert at_least <= {claim["status"] for claim in data["claims"]}
        for claim in data["claims"]:
            assert f"{MARKS[claim['status']]} {claim['status']} {claim['claim']}" in words, claim["id"]
            for profile, found in claim["profiles"].items():
                for row in found["networks"]:
                    name = f"{profile}, {row['network']}" if row["network"] else profile
                    if row["status"] != "not run":
                        line = " ".join(f"{name}: {row['status']}. {row['evidence']}".split())
                        assert line in words, (claim["id"], name)
        for table in ("1", "2", "A1"):
            own = [cell["status"] for cell in data["cells"] if cell["table"] == table]
            line = next(part for part in out.splitlines() if part.strip().startswith(f"Table {table}:"))
            for status in set(own):
                assert f"{own.count(status)} {status}" in line

    def test_without_results_everything_is_not_run(self, tmp_path, capsys):
        status, out, _ = self.run(capsys, "--results", str(tmp_path))
        assert status == 0
        assert "19 claims, on real data: 19 not run" in out

    def test_a_folder_without_claims_is_refused(self, tmp_path, capsys):
        assert cli.main(["ledger", "--paper", str(tmp_path)]) == 2
        assert "no claims.yaml" in capsys.readouterr().err

    def test_unwritable_output_is_refused_in_one_message(self, tmp_path, capsys):
        status, _, error = self.run(
            capsys, "--results", str(tmp_path), "--json", str(tmp_path / "no" / "x.json")
        )
        assert status == 2
        assert "cannot write" in error
