"""Claims keep the thresholds that were written down; claims and cells of the paper stand beside results, recomputed,
honest about what was not run, closed to tampering."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import stats
from study_tables import HIGH, LOW, MID, archive, corrected, layerwise

from scalebook.claims import STATUSES, check_thresholds, load_claims, overall, threshold_digest
from scalebook.ledger import as_data, build_ledger, headline, on_own_networks
from scalebook.paper_tables import COLUMNS, a1_cells, figure_cells, order_kept, table1_cells, table2_cells
from scalebook.predicates import PREDICATES
from scalebook.sentences import sentence
from scalelib import cli
from scalelib.errors import ResultsError

ROOT = Path(__file__).parents[1]
PAPER = ROOT / "paper"
RECORD = PAPER / "thresholds.sha256"
ENTRIES = yaml.safe_load((PAPER / "claims.yaml").read_text(encoding="utf-8"))
PROTOCOL = {"network": "InceptionV3", "estimator": "ols", "measure": "area_ratio"}
SUMS = pd.DataFrame({"line": ["row"], "name": ["test"], "printed": [3], "sum": [4], "difference": [1]})
each_claim = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["id"])


def loaded(folder: Path, entries: list[dict]) -> list:
    (folder / "claims.yaml").write_text(yaml.safe_dump(entries), encoding="utf-8")
    return load_claims(folder / "claims.yaml")


@each_claim
def test_another_test_or_choice_of_networks_is_refused_by_name_and_other_words_are_not(entry, tmp_path):
    reworded = entry | {"claim": "Other words.", "where": {"notebook": "x", "table": "y"}}
    check_thresholds(loaded(tmp_path, [reworded if one is entry else one for one in ENTRIES]), RECORD)
    for change in ({"test": entry["test"] | {"value": 0.123}}, {"networks": "others"}):
        changed = [entry | change if one is entry else one for one in ENTRIES]
        with pytest.raises(ResultsError, match=f"another threshold.* for {entry['id']}\\."):
            check_thresholds(loaded(tmp_path, changed), RECORD)


@each_claim
def test_every_claim_names_a_test_that_takes_its_arguments_and_a_table_that_its_notebook_writes(entry):
    arguments = dict(entry["test"])
    inspect.signature(PREDICATES[arguments.pop("predicate")]).bind(None, **arguments)
    notebook = (ROOT / "notebooks" / f"{entry['where']['notebook']}.ipynb").read_text(encoding="utf-8")
    assert f'\\"{entry["where"]["table"].removesuffix(".csv")}\\":' in notebook


FIRST, NEW = ENTRIES[0], ENTRIES[0] | {"id": "new"}
WITHOUT = {key: {k: v for k, v in FIRST.items() if k != key} for key in ("refuted", "paper", "where")}
MALFORMED = {
    "a line alone": (ENTRIES[1:], "alone: interior-peak"),
    "a claim alone": ([*ENTRIES, NEW], "alone: new"),
    "twice": ([FIRST, FIRST], "'interior-peak' twice"),
    **{key: ([entry], f"'interior-peak', which differs in {key}") for key, entry in WITHOUT.items()},
}


@pytest.mark.parametrize(("entries", "message"), MALFORMED.values(), ids=MALFORMED)
def test_malformed_claims_are_refused_by_name(entries, message, tmp_path):
    with pytest.raises(ResultsError, match=message):
        check_thresholds(loaded(tmp_path, entries), RECORD)


def test_one_status_for_several_networks():
    for statuses, expected in {
        "holds, holds": "holds",
        "holds, not run": "holds",
        "holds, not contradicted": "not contradicted",
        "holds, undecided": "partly",
        "not contradicted, does not hold": "partly",
        "undecided, does not hold": "does not hold",
        "undecided, undecided": "undecided",
        "not run": "not run",
    }.items():
        assert overall(statuses.split(", ")) == expected, statuses


def a1_study() -> pd.DataFrame:
    random = {"weights": "random", **PROTOCOL}
    return pd.concat([
        layerwise({"mixed8": HIGH, "mixed9": MID}, **PROTOCOL),
        layerwise({"mixed8": [-0.2, -0.3, -0.1]}, condition="shuffled", **PROTOCOL),
        layerwise({"mixed8": LOW}, **{**PROTOCOL, "estimator": "ridge"}),
        layerwise({"mixed8": LOW}, **{**PROTOCOL, "network": "SqueezeNet"}),
        *(layerwise({"mixed0": [v] * 3}, seeds=[s], **random) for s, v in enumerate((-2.0, -3.0, -4.0))),
    ])  # fmt: skip


def test_cells_of_table_a1_are_compared_with_our_mean_and_interval_or_say_what_they_need():
    cells = a1_cells(PAPER / "table_a1.csv", a1_study())
    found = cells.set_index(["tap", "condition"])
    for where, paper, ours, overlap in (
        (("mixed8", "imagenet"), 0.84, corrected(HIGH), True),
        (("mixed0", "random"), -283, corrected([-2, -3, -4], share=0), False),  # the weight seed is the unit
    ):
        cell = found.loc[where]
        assert (cell.ours, cell.low, cell.high) == pytest.approx(ours)
        assert (cell.paper, cell.difference) == pytest.approx((paper, ours[0] - paper))
        assert (cell.status, cell.units, cell.same_sign, cell.overlap) == ("compared", 3, True, overlap)
    left = cells[cells.status == "not run"]
    assert (len(cells), len(left)) == (39, 39 - 4)
    assert left[["ours", "overlap"]].isna().all(axis=None)
    assert left.needs.str.contains("profile").all()
    assert list(a1_cells(PAPER / "table_a1.csv")) == COLUMNS == list(cells)


def test_figure_labels_are_one_plus_the_log_of_the_mean_exponential():
    cell = figure_cells(PAPER / "figure_labels.csv", a1_study()).set_index("tap").loc["mixed8"]
    values = np.add.outer(HIGH, (-0.04, 0.04))
    assert (cell.ours, cell.paper) == pytest.approx((1 + np.log(np.mean(np.exp(values)) / np.e), 0.85))
    assert np.isnan(cell.low)


def test_table_2_has_intervals_of_means_over_seeds_on_all_patches_and_the_area_target():
    errors = (50.0, 55.0, 60.0)
    rows = [
        {"network": "ResNet50", "row": "pruned", "tap": "add15", "target": target, "seed": seed, "slide": slide,
         "mae_px": mae if (slide, target) == ("all", "area") else 1e3, "kappa": 0.5 + seed / 10}
        for seed, mae in enumerate(errors) for slide in ("all", "s1") for target in ("area", "log2_magnification")
    ]  # fmt: skip
    cells = table2_cells(PAPER / "table2.csv", pd.DataFrame(rows)).set_index(["network", "condition"])
    cell = cells.loc[("ResNet50", "pruned, mae_px")]
    half = 3.10 / np.sqrt(10) * stats.t.ppf(0.975, 9)
    assert (cell.paper_low, cell.paper_high) == pytest.approx((54.76 - half, 54.76 + half))
    assert (cell.ours, cell.low, cell.high) == pytest.approx(corrected(errors, share=0))
    assert cell.overlap
    assert (cells.status == "compared").sum() == 2
    assert cells.needs[cells.status == "not run"].str.contains("GPU").all()


def test_table_1_has_our_counts_where_patches_were_cut_and_compares_no_sign():
    assert set(table1_cells(PAPER / "table1.csv").status) == {"not run"}
    published = pd.read_csv(PAPER / "table1.csv")
    ours = published[["split", "magnification"]].assign(ours=published.patches // 10)
    cells = table1_cells(PAPER / "table1.csv", ours).set_index(["condition", "tap"])
    assert len(cells) == (cells.status == "compared").sum() == 32
    assert (cells.ours["validation", "30X"], cells.difference["validation", "30X"]) == (350, 350 - 3504)
    assert cells[["same_sign", "overlap", "low"]].isna().all(axis=None)
    assert order_kept(cells.loc["train"]) == (28, 28)
    status = ["compared"] * 3 + ["not run"]
    cells = pd.DataFrame({"paper": [1, 2, 3, 9], "ours": [1, 3, 2, np.nan], "status": status})
    assert (order_kept(cells), order_kept(cells[3:])) == ((2, 3), (0, 0))


@pytest.fixture
def results(tmp_path: Path) -> Path:
    good = layerwise({"a": LOW, "b": HIGH, "c": MID, "pre_softmax": MID, "softmax": LOW})
    bad = layerwise({"a": LOW, "b": MID, "c": MID, "pre_softmax": HIGH}, network="bad")
    headless = layerwise({"a": LOW, "b": HIGH, "c": MID}, network="headless")
    early = layerwise({"a": LOW, "b": HIGH}, network="ResNet50", weights="imagenet, to b")
    rows = pd.concat([good, bad, headless, early, a1_study()])
    chosen = pd.DataFrame({"network": "n", "weights": "imagenet", "half": [1, 2], "tap": "x", "depth": [0.8, 0.9]})  # fmt: skip
    archive(tmp_path, "compact", "04_layerwise_r2", layerwise_r2=rows, chosen_taps=chosen)
    control = layerwise({"a": HIGH, "b": MID, "pre_softmax": LOW}, weights="all scales")
    archive(tmp_path, "control", "04_layerwise_r2", layerwise_r2=control)
    archive(tmp_path, "control", "07_interpolation_peak", table1_sums=SUMS)
    return tmp_path


def test_each_network_is_judged_by_its_own_rows_and_real_data_make_the_headline(results):
    ledger = build_ledger(PAPER, results)
    rows = ledger.verdicts[ledger.verdicts.claim == "interior-peak"].set_index(["profile", "network"]).status
    assert rows.to_dict() == {
        ("paper", ""): "not run", ("control", "net"): "does not hold",  # trained weights bear another label there
        ("compact", "net"): "holds", ("compact", "bad"): "does not hold",
        **{("compact", name): "not run" for name in ("headless", "ResNet50, to b", "InceptionV3", "SqueezeNet")},
    }  # fmt: skip
    found = {
        "interior-peak": "partly",
        "prune-point-inside": "holds",  # its own table
        "table1-consistent": "does not hold",  # about no network: from the control profile
        "chosen-tap-transfers": "not run",
    }
    assert headline(ledger)[list(found)].to_dict() == found
    own = on_own_networks(ledger)  # one of the paper's networks was read as claims ask, though not at its end
    assert set(own.network) == {"ResNet50, to b"}
    assert "early-layers-empty" in set(own.claim)
    assert "interior-peak" not in set(own.claim)


def told(claim_id: str, *verdicts: tuple[str, str, float, str]) -> str:
    rows = pd.DataFrame(verdicts, columns=["network", "status", "effect", "note"]).assign(
        threshold=0.1, evidence="Why."
    )
    return sentence(next(claim for claim in load_claims(PAPER / "claims.yaml") if claim.id == claim_id), rows)


def test_a_claims_sentence_names_few_networks_and_of_many_the_extremes_and_the_papers_own():
    one, two = ("A, to b", "does not hold", 0.25, "x"), ("InceptionV3 (2015)", "does not hold", 0.354, "")
    words = "Random weights alone read scale, at their best layer with R² {}; the claim allows 0.10."
    assert told("random-weights-low", one, two) == words.format("0.25 in A (x) and 0.35 in InceptionV3")
    many = [one, two, *((name, "does not hold", 0.4 + i / 10, "") for i, name in enumerate("BCD"))]
    extremes = "0.25 (A) to 0.60 (D) in 5 networks, 0.35 in InceptionV3"
    assert told("random-weights-low", *many) == words.format(extremes)
    both = told("drop-at-logits", ("A", "holds", 0.3, ""), ("B", "does not hold", 0.0, ""), ("ResNet50, to c", "not run", np.nan, ""))  # fmt: skip
    assert both.endswith("R² falls by 0.30 in A. The logits hold as much as any layer before them in B. "
                         "ResNet50 was not read far enough to decide it.")  # fmt: skip
    found = told(
        "pruned-beats-full-mae", ("A", "undecided", -10.26, "kept"), ("B", "does not hold", 12.0, "")
    )
    assert found.endswith("changes by −10.3 px in A (kept) and +12.0 px in B.")
    assert "falls to 55 % in A." in told("resizing-keeps-predictions", ("A", "not contradicted", 0.55, ""))
    assert told("table1-consistent", ("", "does not hold", np.nan, "4 of 12")).endswith(
        "4 of 12 do not add up."
    )
    assert told("interior-peak", ("A", "not run", np.nan, "")) == "Why."


@each_claim
def test_every_claim_has_words_for_each_thing_that_its_test_may_say(entry):
    assert {"any"} == set(entry["says"]) or {"for", "against"} <= set(entry["says"]) <= {
        "for",
        "undecided",
        "against",
    }


@pytest.mark.parametrize("profiles", [["control"], ["paper"], ["compact", "control"], ["paper", "compact", "control"]])  # fmt: skip
def test_every_claim_and_cell_has_a_status_whatever_the_profiles(results, profiles):
    ledger = build_ledger(PAPER, results, profiles=profiles)
    data = json.loads(json.dumps(as_data(ledger), allow_nan=False))
    assert set(ledger.verdicts.profile) == set(profiles)
    assert sum(data["counts"]["claims"].values()) == len(data["claims"]) - 4 == 19
    cells = data["counts"]["cells"]
    assert {table: sum(cells[table].values()) for table in cells} == {"1": 32, "2": 12, "A1": 39, "figure": 3}
    compared = {cell["profile"] for cell in data["cells"] if cell["status"] == "compared"}
    assert compared == {"compact"} & set(profiles)


def test_cells_come_from_the_first_profile_that_has_them(results):
    archive(results, "paper", "04_layerwise_r2", layerwise_r2=layerwise({"mixed8": MID}, **PROTOCOL))
    cells = build_ledger(PAPER, results).cells.set_index(["table", "tap", "condition"]).sort_index()
    assert cells.loc[("A1", "mixed8", "imagenet"), "profile"] == "paper"
    assert cells.loc[("A1", "mixed9", "imagenet"), "profile"] == "compact"


def test_an_edited_number_and_an_unknown_test_are_refused_by_name(results, tmp_path):
    path = results / "control" / "07_interpolation_peak" / "table1_sums.csv"
    path.write_text(path.read_text().replace("4", "3"))
    with pytest.raises(ResultsError, match=r"07_interpolation_peak/table1_sums\.csv is not the file"):
        build_ledger(PAPER, results)
    (one,) = loaded(tmp_path, [FIRST | {"test": {"predicate": "interior_peek"}}])
    (tmp_path / "thresholds.sha256").write_text(f"{threshold_digest(one)} {one.id}\n")
    with pytest.raises(ResultsError, match="Did you mean 'interior_peak'"):
        build_ledger(tmp_path, tmp_path / "none")


@pytest.mark.parametrize("archived", [False, pytest.param(True, marks=pytest.mark.exhaustive)])
def test_command_prints_and_writes_every_status(results, tmp_path, capsys, archived):
    folder = ROOT / "results" if archived else results
    names = {kind: str(tmp_path / f"x.{kind}") for kind in ("json", "csv")}
    arguments = ["ledger", "--paper", str(PAPER), "--results", str(folder), "--json", names["json"], "--csv", names["csv"]]  # fmt: skip
    assert cli.main(arguments) == 0
    out = capsys.readouterr().out
    data, words = json.loads(Path(names["json"]).read_text(encoding="utf-8")), " ".join(out.split())
    assert {"holds", "does not hold"} <= {claim["status"] for claim in data["claims"]}
    rows = [
        (claim["id"], f"{profile}, {row['network']}" if row["network"] else profile, row)
        for claim in data["claims"] for profile, found in claim["profiles"].items() for row in found["networks"]
    ]  # fmt: skip
    assert len(pd.read_csv(names["csv"])) == len(rows)
    for claim in data["claims"]:
        line = f"{STATUSES[claim['status']].symbol} {claim['status']} {claim['claim']} {claim['evidence']}"
        assert " ".join(line.split()) in words, claim["id"]
    for claim, name, row in rows:
        line = " ".join(f"{name}: {row['status']}. {row['evidence']}".split())
        assert row["status"] == "not run" or line in words, (claim, name)
    for table in ("1", "2", "A1"):
        line = next(part for part in out.splitlines() if part.strip().startswith(f"Table {table}:"))
        own = [cell["status"] for cell in data["cells"] if cell["table"] == table]
        assert all(f"{status} {own.count(status)}" in line for status in own)


def test_command_says_what_it_lacks(tmp_path, capsys):
    assert cli.main(["ledger", "--paper", str(PAPER), "--results", str(tmp_path)]) == 0
    assert "19 claims of the paper, on real data: not run 19" in capsys.readouterr().out
    assert cli.main(["ledger", "--paper", str(tmp_path)]) == 2
    assert "no claims.yaml" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    lost = str(tmp_path / "file" / "x.json")
    assert cli.main(["ledger", "--paper", str(PAPER), "--results", str(tmp_path), "--json", lost]) == 2
    assert "cannot write" in capsys.readouterr().err
