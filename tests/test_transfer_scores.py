"""Scores and tests of transfer against hand-computed values, scikit-learn and full enumeration."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import cohen_kappa_score, confusion_matrix

from scalelib import statistics
from scalelib.errors import DataError, ResultsError
from scalelib.statistics import compare_rows, sign_flip_test, subset_interval
from studies.transfer_scores import (
    class_means,
    cohen_kappa,
    confusion,
    nearest_magnification,
    score_predictions,
    with_magnification,
)

PAPER_MEANS = pd.Series(
    {5.0: 21.37, 8.0: 43.15, 10.0: 67.30, 15.0: 142.39, 20.0: 225.70, 30.0: 489.98, 40.0: 913.82}
)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("classes", [2, 7])
def test_kappa_and_confusion_are_those_of_scikit_learn(seed, classes):
    rng = np.random.default_rng(seed)
    true = rng.integers(0, classes, 200)
    named = np.where(rng.random(200) < 0.6, true, rng.integers(0, classes, 200))
    assert cohen_kappa(true, named) == pytest.approx(cohen_kappa_score(true, named), rel=1e-12)
    weights = 1 / np.bincount(true, minlength=classes)[true]
    balanced = cohen_kappa_score(true, named, sample_weight=weights)
    assert cohen_kappa(true, named, balanced=True) == pytest.approx(balanced, rel=1e-12)
    assert np.array_equal(confusion(true, named), confusion_matrix(true, named))


def test_kappa_of_a_textbook_table():
    """20 yes/yes, 5 yes/no, 10 no/yes, 15 no/no: p_o = 0.7, p_e = 0.5, κ = 0.4."""
    true = [1] * 25 + [0] * 25
    named = [1] * 20 + [0] * 5 + [1] * 10 + [0] * 15
    assert cohen_kappa(true, named) == pytest.approx(0.4)


def test_kappa_of_one_class_named_throughout_is_undefined():
    assert np.isnan(cohen_kappa([3, 3], [3, 3]))
    assert cohen_kappa([3, 4], [3, 3]) == 0.0


def test_balancing_ignores_how_many_patches_a_magnification_has():
    true, named = np.array([5, 5, 8, 8]), np.array([5, 8, 8, 8])
    many = np.concatenate([true, np.repeat(true[:2], 50)]), np.concatenate([named, np.repeat(named[:2], 50)])
    assert cohen_kappa(*many, balanced=True) == pytest.approx(cohen_kappa(true, named, balanced=True))


def test_nearest_mean_changes_class_halfway_between_the_papers_means():
    halfway = (PAPER_MEANS.to_numpy()[1:] + PAPER_MEANS.to_numpy()[:-1]) / 2
    assert nearest_magnification(halfway - 1e-9, PAPER_MEANS).tolist() == PAPER_MEANS.index[:-1].tolist()
    assert nearest_magnification(halfway + 1e-9, PAPER_MEANS).tolist() == PAPER_MEANS.index[1:].tolist()
    assert nearest_magnification([-100.0, 1e9], PAPER_MEANS).tolist() == [5.0, 40.0]


def test_nan_predictions_are_refused():
    with pytest.raises(ResultsError, match="finite"):
        nearest_magnification([np.nan], PAPER_MEANS)


def test_class_means_come_from_training_patches_alone():
    table = pd.DataFrame({"split": ["train", "test"] * 2, "magnification": [5.0, 5.0, 8.0, 8.0],
                          "mean_area_px": [1.0, 100.0, 2.0, 200.0]})  # fmt: skip
    assert class_means(table).to_dict() == {5.0: 1.0, 8.0: 2.0}
    with pytest.raises(DataError, match="8X"):
        class_means(table[table.index != 2])


def predictions(row: str, seed: int, errors: dict[str, float], target: str = "area") -> pd.DataFrame:
    magnification = np.tile([5.0, 20.0, 40.0], len(errors))
    area = PAPER_MEANS[magnification].to_numpy()
    slide = np.repeat(list(errors), 3)
    value = area if target == "area" else np.log2(magnification)
    return pd.DataFrame({
        "network": "n", "row": row, "tap": "t", "target": target, "seed": seed, "split": "test", "slide": slide,
        "magnification": magnification, "mpp": 10 / magnification, "mean_area_px": area,
        "predicted": value + np.repeat(list(errors.values()), 3),
    })  # fmt: skip


def test_scores_by_hand():
    scores = score_predictions(predictions("full", 1, {"a": 3.0, "b": -5.0}), PAPER_MEANS).set_index("slide")
    assert scores.mae_px.to_dict() == pytest.approx({"all": 4.0, "a": 3.0, "b": 5.0})
    microns = (2.0**2 + 0.5**2 + 0.25**2) / 3
    assert scores.mae_um2.to_dict() == pytest.approx({"all": 4 * microns, "a": 3 * microns, "b": 5 * microns})
    assert scores.kappa.to_dict() == {"all": 1.0, "a": 1.0, "b": 1.0}
    assert scores.n_patches.to_dict() == {"all": 6, "a": 3, "b": 3}


def test_magnification_targets_are_scored_in_octaves_and_named_by_the_nearest_logarithm():
    table = predictions("full", 1, {"a": 0.3, "b": -0.1}, target="log2_magnification")
    scores = score_predictions(table, PAPER_MEANS).set_index("slide")
    assert scores.mae_octaves.to_dict() == pytest.approx({"all": 0.2, "a": 0.3, "b": 0.1})
    assert scores.mae_px.isna().all()
    assert with_magnification(table, PAPER_MEANS).named_magnification.tolist()[:3] == [5.0, 30.0, 40.0]


def test_a_split_without_rows_or_a_missing_column_is_refused():
    table = predictions("full", 1, {"a": 0.0})
    with pytest.raises(ResultsError, match="validation"):
        score_predictions(table, PAPER_MEANS, split="validation")
    with pytest.raises(ResultsError, match="mpp"):
        score_predictions(table.drop(columns="mpp"), PAPER_MEANS)


@pytest.mark.parametrize("n", [2, 5, 10])
def test_sign_flips_are_counted_exactly(n):
    values = np.random.default_rng(n).normal(0.5, 1, n)
    means = [np.mean(np.array(signs) * values) for signs in itertools.product([1, -1], repeat=n)]
    expected = np.mean(np.abs(means) >= abs(values.mean()) - 1e-12)
    assert sign_flip_test(values) == pytest.approx(expected)
    assert sign_flip_test(-values) == sign_flip_test(values * 7)


def test_sign_flip_bounds():
    assert sign_flip_test(np.ones(10)) == 2 / 2**10
    assert sign_flip_test(np.zeros(4)) == 1.0
    for bad in ([1.0], [1.0, np.nan]):
        with pytest.raises(ResultsError, match="at least two finite differences"):
            sign_flip_test(bad)


@pytest.mark.parametrize("shift", [0.0, 0.4, 1.0])
def test_with_many_slides_drawn_patterns_do_for_all(shift, monkeypatch):
    """Sixteen slides both ways: within four standard errors of 131,072 draws, and intervals within a hundredth."""
    values = np.random.default_rng(5).normal(shift, 1, 16)
    exact, (low, high) = sign_flip_test(values), subset_interval(values)
    monkeypatch.setattr(statistics, "MOST_EXACT", 10)
    assert sign_flip_test(values) == pytest.approx(exact, abs=4 * np.sqrt(exact / 2**17) + 2**-16)
    assert subset_interval(values) == pytest.approx((low, high), abs=0.01)


def test_twenty_four_slides_that_agree_cannot_give_a_p_of_zero():
    assert 0 < sign_flip_test(np.ones(24)) < 1e-4


def test_the_interval_holds_exactly_the_centres_that_the_sign_flip_test_accepts():
    values = np.random.default_rng(3).normal(1, 1, 8)
    low, high = subset_interval(values, level=0.95)
    for inside in (low + 1e-6, high - 1e-6):
        assert sign_flip_test(values - inside) > 0.05 - 1e-9
    for outside in (low - 1e-3, high + 1e-3):
        assert sign_flip_test(values - outside) <= 0.05 + 2 / 2**8
    assert subset_interval(values[:5]) == (-np.inf, np.inf)


@pytest.mark.slow
def test_the_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(0)
    held = [low <= 0 <= high for low, high in (subset_interval(rng.laplace(size=10)) for _ in range(2000))]
    assert np.mean(held) == pytest.approx(0.951, abs=0.016)  # 1 - 2·25/1024


def test_rows_are_compared_over_slides_with_seeds_averaged_and_holm_applied():
    slides = list("abcdefgh")
    pruned = [predictions("pruned", s, dict.fromkeys(slides, 1.0 + s)) for s in (0, 1)]
    full = [predictions("pretrained", s, {k: 3.0 + i for i, k in enumerate(slides)}) for s in (0, 1)]
    scratch = [predictions("scratch", s, dict.fromkeys(slides, 1.5)) for s in (0, 1)]
    scores = score_predictions(pd.concat([*pruned, *full, *scratch]), PAPER_MEANS)
    table = compare_rows(scores, values=["mae_px"])
    first, second = table.itertuples()
    assert first.difference == pytest.approx(np.mean([1.5 - 3 - i for i in range(8)]))
    assert (first.n_slides, first.seeds, first.slides_above_zero) == (8, 2, 0)
    assert first.p == 2 / 2**8
    assert (first.p_holm, second.p_holm) == (2 * first.p, 1.0)
    assert first.low < first.difference < first.high < 0


def test_rows_on_other_slides_or_missing_rows_are_refused():
    scores = score_predictions(
        pd.concat(
            [
                predictions("pruned", 1, {"a": 1.0, "b": 1.0}),
                predictions("pretrained", 1, {"a": 1.0, "c": 1.0}),
            ]
        ),
        PAPER_MEANS,
    )
    with pytest.raises(ResultsError, match="same slides"):
        compare_rows(scores, pairs=[("pruned", "pretrained")])
    with pytest.raises(ResultsError, match="scratch"):
        compare_rows(scores, pairs=[("scratch", "pruned")])
