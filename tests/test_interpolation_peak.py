"""The interpolation peak where theory has it, output forms, the test of a central peak, and sums of a printed table."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from scalelib.regression import layerwise_r2, random_projection
from studies.s07_peak import (
    ALL_CLASSES,
    central_peak,
    channel_spread,
    check_sums,
    expected_ols_r2,
    gaussian_problem,
    locate_peak,
    output_forms,
    peak_sweep,
    smallest_corrections,
)


@pytest.mark.parametrize("d", [20, 47, 90])
@pytest.mark.parametrize("decay", [0.0, 1.0], ids=["flat spectrum", "steep spectrum"])
def test_peak_stands_at_as_many_training_images_as_dimensions(d, decay):
    X, y = gaussian_problem(400, d, decay=decay, random_state=d)
    peak = locate_peak(peak_sweep({"tap": X}, y, repeats=7)).iloc[0]
    assert peak.peaked
    assert 0.9 <= peak.trough_ratio <= 1.1
    assert peak.trough_r2 < -3
    assert peak.ridge_r2 > -0.1


def test_there_is_no_peak_elsewhere():
    X, y = gaussian_problem(600, 60)
    sweep = peak_sweep({"tap": X}, y, repeats=7)
    ols = sweep[sweep.estimator == "ols"].groupby("ratio").r2_test.median()
    away = ols[(ols.index < 0.5) | (ols.index > 1.6)]
    assert (away > -1.5).all()
    assert away[away.index > 1].is_monotonic_increasing


def test_peak_moves_with_a_projection_to_another_width():
    X, y = gaussian_problem(500, 200, random_state=2)
    narrow = random_projection({"tap": X}, 50)
    assert locate_peak(peak_sweep(narrow, y, repeats=7)).trough_n.item() == pytest.approx(50, rel=0.1)
    assert locate_peak(peak_sweep({"tap": X}, y, repeats=7)).trough_n.item() == pytest.approx(200, rel=0.1)


def test_repeated_channels_count_once():
    X, y = gaussian_problem(400, 50, random_state=3)
    peak = locate_peak(peak_sweep({"tap": np.hstack([X, X])}, y, repeats=7)).iloc[0]
    assert (peak.channels, peak["rank"]) == (100, 50)
    assert peak.trough_n == pytest.approx(50, rel=0.1)


def test_sweep_that_cannot_reach_the_peak_claims_none():
    X, y = gaussian_problem(100, 200)
    peak = locate_peak(peak_sweep({"tap": X}, y, repeats=3)).iloc[0]
    assert not peak.covered
    assert not peak.peaked


@pytest.mark.parametrize("n_train", [25, 60, 160, 240, 400])
def test_expected_score_agrees_with_simulation(n_train):
    d, noise = 80, 0.7
    scores = []
    for seed in range(12):
        X, y = gaussian_problem(n_train + 3000, d, noise=noise, random_state=seed)
        train, test = slice(None, n_train), slice(n_train, None)
        centred = X[train] - X[train].mean(axis=0)
        beta = np.linalg.pinv(centred) @ (y[train] - y[train].mean())
        error = y[test] - y[train].mean() - (X[test] - X[train].mean(axis=0)) @ beta
        scores.append(1 - (error**2).mean() / (1 + noise**2))
    assert np.mean(scores) == pytest.approx(float(expected_ols_r2(n_train, d, noise=noise)), abs=0.12)


def test_log_probabilities_are_logits_less_a_constant_per_image():
    logits = np.random.default_rng(0).normal(0, 30, (20, 7))
    forms = output_forms(logits)
    assert np.ptp(forms["logits"] - forms["log p"], axis=1) == pytest.approx(0, abs=1e-9)
    assert np.exp(forms["log p"]).sum(axis=1) == pytest.approx(1)
    np.testing.assert_allclose(forms["p^0.5"] ** 2, forms["p"], rtol=1e-12)


def test_saturated_softmax_hides_from_least_squares_what_its_logarithm_shows():
    rng = np.random.default_rng(0)
    y = rng.uniform(size=300)
    logits = 12 * rng.normal(size=(300, 12)) + 6 * np.outer(y, rng.normal(size=12))
    forms = output_forms(logits, exponents=[1])
    table = layerwise_r2(forms, y, estimator="ols", conditions="true")
    scores = table.groupby("tap").r2_test.mean()
    assert scores["log p"] > 0.1 > 0.0 > scores["p"]
    spread = channel_spread(forms, classes=["all"] * 300).set_index("form").spread_decades
    assert spread["p"] > spread["log p"]


def test_spread_is_that_within_classes():
    within = np.random.default_rng(1).normal(size=(60, 4)) * [1, 0.1, 0.1, 0.01]
    classes = np.repeat(["a", "b"], 30)
    apart = within + 100 * (classes == "b")[:, None]
    spread = channel_spread({"form": apart}, classes=classes)
    assert spread.spread_decades.item() == pytest.approx(1, abs=0.15)
    assert channel_spread({"form": apart}, classes=["all"] * 60).spread_decades.item() == pytest.approx(
        0, abs=0.01
    )


def network_like(middle: float, end: float, n: int = 360, seed: int = 0):
    """Taps whose shared signal-to-noise is known: weak start, `middle`, `end`, few logits."""
    rng = np.random.default_rng(seed)
    y, classes = rng.uniform(size=n), np.repeat(["a", "b", "c"], n // 3)
    taps = {"start": (0.1, 24), "middle": (middle, 32), "end": (end, 32), "pre_softmax": (end, 8)}
    acts = {
        tap: strength * np.outer(y, rng.normal(size=width)) + rng.normal(size=(n, width))
        for tap, (strength, width) in taps.items()
    }
    return acts, y, classes


def test_planted_peak_is_found_on_images_that_did_not_choose_it():
    acts, y, classes = network_like(middle=3.0, end=0.7)
    table = central_peak(acts, y, classes=classes, repeats=5, draws=2)
    assert set(table.tap) == {"middle"}
    against_end = table[(table.reference == "end") & (table.object_class == ALL_CLASSES)]
    assert (against_end.p_holm < 0.05).all()
    assert (against_end.low > 0).all()


@pytest.mark.exhaustive
def test_without_a_planted_peak_none_is_found_beyond_the_level():
    significant = 0
    for seed in range(6):
        acts, y, classes = network_like(middle=2.0, end=2.0, seed=seed)
        table = central_peak(acts, y, classes=classes, repeats=5, draws=2)
        rows = table[(table.object_class == ALL_CLASSES) & table.reference.isin(["middle", "end"])]
        significant += int((rows.p_holm < 0.05).any())
    assert significant <= 1


def consistent(rows: int = 3, columns: int = 5, seed: int = 0) -> pd.DataFrame:
    cells = np.random.default_rng(seed).integers(100, 9999, (rows, columns))
    cells = np.block([[cells, cells.sum(1, keepdims=True)], [cells.sum(0), cells.sum()]])
    names = [f"r{i}" for i in range(rows)], [f"c{j}" for j in range(columns)]
    return pd.DataFrame(cells, [*names[0], "total"], [*names[1], "total"])


@pytest.mark.parametrize(("rows", "columns"), [(2, 7), (3, 5), (6, 2)])
def test_consistent_table_gives_no_difference_and_no_correction(rows, columns):
    table = consistent(rows, columns)
    assert (check_sums(table).difference == 0).all()
    assert smallest_corrections(table).empty


@pytest.mark.parametrize(("row", "column"), [("r1", "c3"), ("r0", "c0"), ("r2", "total"), ("total", "c1")])
def test_one_planted_error_is_found_in_body_and_totals(row, column):
    table = consistent()
    true = int(table.loc[row, column])
    table.loc[row, column] = true + 37
    found = smallest_corrections(table)
    assert found[["row", "column", "printed", "corrected"]].to_numpy().tolist() == [
        [row, column, true + 37, true]
    ]


def test_two_planted_errors_are_found_and_their_kind_is_named():
    table = consistent()
    table.loc["r0", "c1"], table.loc["r2", "c4"] = 1243, 5176
    for name in ("r0", "r1", "r2"):
        table.loc[name, "total"] = table.loc[name].drop("total").sum()
    table.loc["total"] = table.drop("total").sum()
    table.loc["r0", "c1"], table.loc["r2", "c4"] = 1423, 5186  # 2 and 4 swapped; 7 read as 8
    found = smallest_corrections(table).set_index("row")
    assert found.corrected.to_dict() == {"r0": 1243, "r2": 5176}
    assert found.slip.to_dict() == {"r0": "digits swapped", "r2": "one digit"}


def test_equally_small_explanations_are_all_returned():
    table = consistent()
    table.loc["r0", "c0"] += 50
    table.loc["r1", "c1"] += 50
    found = smallest_corrections(table)
    pairs = {frozenset(zip(g.row, g.column, strict=True)) for _, g in found.groupby("explanation")}
    assert pairs == {frozenset({("r0", "c0"), ("r1", "c1")}), frozenset({("r0", "c1"), ("r1", "c0")})}
