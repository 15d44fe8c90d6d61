"""Claims are read strictly, keep the thresholds that were written down, and are judged network by network."""

from __future__ import annotations

import inspect
from pathlib import Path

import pandas as pd
import pytest
import yaml
from study_tables import layerwise

from scalebook.claims import (
    PREDICATES,
    check_thresholds,
    judge,
    judge_all,
    load_claims,
    overall,
    threshold_digest,
)
from scalebook.profiles import load_profile
from scalelib.errors import ResultsError
from scalelib.results import Run

ROOT = Path(__file__).parents[1]
CLAIMS = ROOT / "paper" / "claims.yaml"
RECORD = ROOT / "paper" / "thresholds.sha256"
ENTRIES = yaml.safe_load(CLAIMS.read_text(encoding="utf-8"))
LOW, MID, HIGH = [0.10, 0.12, 0.14], [0.40, 0.44, 0.42], [0.80, 0.78, 0.82]


def written(folder: Path, entries: list[dict]) -> Path:
    path = folder / "claims.yaml"
    path.write_text(yaml.safe_dump(entries), encoding="utf-8")
    return path


def claim(name: str):
    return next(one for one in load_claims(CLAIMS) if one.id == name)


def test_every_threshold_is_the_one_that_was_written_down():
    check_thresholds(load_claims(CLAIMS), RECORD)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["id"])
def test_a_changed_threshold_predicate_or_choice_of_networks_is_refused_by_the_claims_name(entry, tmp_path):
    for change in ({"test": entry["test"] | {"value": 0.123}}, {"networks": "others"}):
        changed = [entry | change if one is entry else one for one in ENTRIES]
        with pytest.raises(ResultsError, match=f"another threshold.* for {entry['id']}\\."):
            check_thresholds(load_claims(written(tmp_path, changed)), RECORD)


def test_a_claim_without_a_line_and_a_line_without_a_claim_are_refused(tmp_path):
    with pytest.raises(ResultsError, match="alone: drop-at-logits"):
        check_thresholds([one for one in load_claims(CLAIMS) if one.id != "drop-at-logits"], RECORD)
    with pytest.raises(ResultsError, match="alone: new"):
        check_thresholds(load_claims(written(tmp_path, [*ENTRIES, ENTRIES[0] | {"id": "new"}])), RECORD)


def test_wording_and_place_do_not_change_the_digest(tmp_path):
    moved = ENTRIES[0] | {"claim": "Other words.", "where": {"notebook": "x", "table": "y"}}
    assert threshold_digest(load_claims(written(tmp_path, [moved]))[0]) == threshold_digest(
        load_claims(CLAIMS)[0]
    )


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["id"])
def test_every_claim_names_a_test_and_arguments_that_it_takes(entry):
    arguments = dict(entry["test"])
    function = PREDICATES[arguments.pop("predicate")]
    inspect.signature(function).bind(None, **arguments)


def test_every_claim_is_decided_by_a_table_that_its_notebook_writes():
    for one in load_claims(CLAIMS):
        notebook = ROOT / "notebooks" / f"{one.notebook}.ipynb"
        if not notebook.is_file():
            continue
        stem = one.table.removesuffix(".csv") if one.table.endswith(".csv") else one.table
        assert f'\\"{stem}\\":' in notebook.read_text(encoding="utf-8"), f"{one.id}: {one.table}"
        assert one.notebook in load_profile(ROOT / "profiles" / "control.yaml").notebooks


@pytest.mark.parametrize("key", ["refuted", "paper", "where"])
def test_entry_without_a_key_is_refused_by_id_and_key(key, tmp_path):
    cut = {name: value for name, value in ENTRIES[0].items() if name != key}
    with pytest.raises(ResultsError, match=f"'interior-peak', which differs in {key}"):
        load_claims(written(tmp_path, [cut]))


def test_an_id_that_stands_twice_is_refused(tmp_path):
    with pytest.raises(ResultsError, match="Received twice: interior-peak"):
        load_claims(written(tmp_path, [ENTRIES[0], ENTRIES[0]]))


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        (["reproduced", "reproduced"], "reproduced"),
        (["reproduced", "not run"], "reproduced"),
        (["reproduced", "inconclusive"], "partly"),
        (["reproduced", "not reproduced"], "partly"),
        (["inconclusive", "not reproduced"], "not reproduced"),
        (["inconclusive", "inconclusive"], "inconclusive"),
        (["not run"], "not run"),
        ([], "not run"),
    ],
)
def test_overall_status(statuses, expected):
    assert overall(pd.Series(statuses, dtype=str)) == expected


def archive(folder: Path, notebook: str = "04_layerwise_r2", **tables: pd.DataFrame) -> Path:
    Run(notebook, profile="compact", parameters={}, folder=folder / notebook).write(
        {"layerwise_r2.csv.gz" if name == "layerwise_r2" else name: table for name, table in tables.items()}
    )
    return folder


def test_each_network_is_judged_by_its_own_rows(tmp_path):
    good = layerwise({"a": LOW, "b": HIGH, "c": MID, "pre_softmax": MID}, network="good")
    bad = layerwise({"a": LOW, "b": MID, "c": MID, "pre_softmax": HIGH}, network="bad")
    headless = layerwise({"a": LOW, "b": HIGH, "c": MID}, network="headless")
    random = layerwise({"a": LOW, "b": LOW}, network="untrained", weights="random", seeds=[0])
    folder = archive(tmp_path, layerwise_r2=pd.concat([good, bad, headless, random]))
    found = judge(claim("interior-peak"), folder).set_index("network").status
    assert found.to_dict() == {"good": "reproduced", "bad": "not reproduced", "headless": "not run"}
    assert overall(found) == "partly"


def test_label_of_trained_weights_can_be_another(tmp_path):
    rows = layerwise({"a": LOW, "b": HIGH, "pre_softmax": MID}, weights="all scales")
    found = judge(claim("interior-peak"), archive(tmp_path, layerwise_r2=rows), trained="all scales")
    assert found.status.tolist() == ["reproduced"]
    assert judge(claim("interior-peak"), tmp_path).status.tolist() == ["not run"]


def test_a_claim_about_its_own_table_is_judged(tmp_path):
    chosen = pd.DataFrame(
        {"network": "n", "weights": "imagenet", "half": [1, 2], "tap": "x", "depth": [0.8, 0.9]}
    )
    folder = archive(tmp_path, layerwise_r2=layerwise({"a": LOW}), chosen_taps=chosen)
    assert judge(claim("prune-point-inside"), folder).status.tolist() == ["reproduced"]


def test_a_claim_about_no_network_is_judged_once(tmp_path):
    sums = pd.DataFrame({"line": ["row"], "name": ["test"], "printed": [3], "sum": [4], "difference": [1]})
    found = judge(claim("table1-consistent"), archive(tmp_path, "07_interpolation_peak", table1_sums=sums))
    assert found[["network", "status"]].to_numpy().tolist() == [["", "not reproduced"]]


def test_what_was_not_run_says_so(tmp_path):
    found = judge_all(load_claims(CLAIMS), tmp_path)
    assert len(found) == len(ENTRIES)
    assert set(found.status) == {"not run"}
    assert found.evidence.str.contains("has not been run with this profile").all()


def test_an_edited_table_is_refused_by_name(tmp_path):
    folder = archive(tmp_path, chosen_taps=pd.DataFrame({"depth": [0.75]}))
    path = folder / "04_layerwise_r2" / "chosen_taps.csv"
    path.write_text(path.read_text().replace("0.75", "0.85"))
    with pytest.raises(
        ResultsError, match=r"04_layerwise_r2/chosen_taps\.csv is not the file that the run wrote"
    ):
        judge(claim("prune-point-inside"), folder)


def test_an_unknown_test_is_refused_with_the_nearest_name(tmp_path):
    entry = ENTRIES[0] | {"test": {"predicate": "interior_peek"}}
    with pytest.raises(ResultsError, match="Did you mean 'interior_peak'"):
        judge(load_claims(written(tmp_path, [entry]))[0], tmp_path)
