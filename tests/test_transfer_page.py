"""Scores, comparisons, tables and words of the transfer against hand-computed values, full enumeration and spectra."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import cohen_kappa_score

from scalebook import exact_tests
from scalebook.exact_tests import compare_rows, sign_flip_test, subset_interval
from scalelib.errors import DataError, ResultsError
from scalelib.networks import load_network
from studies import s05_runs, s05_transfer
from studies.transfer_scores import (
    agreement,
    confusion,
    nearest_magnification,
    score_predictions,
    with_magnification,
)

PAPER_MEANS = pd.Series(
    {5.0: 21.37, 8.0: 43.15, 10.0: 67.30, 15.0: 142.39, 20.0: 225.70, 30.0: 489.98, 40.0: 913.82}
)


# scores


def test_kappa_and_confusion_of_a_textbook_table():
    """20 yes/yes, 5 yes/no, 10 no/yes, 15 no/no: p_o = 0.7, p_e = 0.5, κ = 0.4. Classes need not be whole numbers."""
    true, named = [2.5] * 25 + [0] * 25, [2.5] * 20 + [0] * 5 + [2.5] * 10 + [0] * 15
    assert agreement(true, named) == pytest.approx({"kappa": 0.4, "kappa_balanced": 0.4, "accuracy": 0.7})
    assert confusion(true, named).to_numpy().tolist() == [[15, 10], [5, 20]]
    assert confusion([1, 1], [1, 2]).to_numpy().tolist() == [[1, 1], [0, 0]]


@pytest.mark.parametrize("seed", range(3))
def test_balanced_kappa_is_that_of_equally_many_patches_of_each_magnification(seed):
    rng = np.random.default_rng(seed)
    true, named = np.repeat([5, 8, 40], 20), rng.choice([5, 8, 40, 20], 60)
    many = [np.concatenate([values, np.repeat(values[:20], 50)]) for values in (true, named)]
    assert agreement(*many)["kappa_balanced"] == pytest.approx(cohen_kappa_score(true, named), rel=1e-12)


def test_nearest_mean_changes_class_halfway_between_the_papers_means():
    halfway = (PAPER_MEANS.to_numpy()[1:] + PAPER_MEANS.to_numpy()[:-1]) / 2
    assert nearest_magnification(halfway - 1e-9, PAPER_MEANS).tolist() == PAPER_MEANS.index[:-1].tolist()
    assert nearest_magnification(halfway + 1e-9, PAPER_MEANS).tolist() == PAPER_MEANS.index[1:].tolist()
    assert nearest_magnification([-100.0, 1e9], PAPER_MEANS).tolist() == [5.0, 40.0]
    with pytest.raises(DataError, match="finite"):
        nearest_magnification([np.nan], PAPER_MEANS)


def predictions(row: str, seed: int, errors: dict[str, float], target: str = "area") -> pd.DataFrame:
    magnification = np.tile([5.0, 20.0, 40.0], len(errors))
    area = PAPER_MEANS[magnification].to_numpy()
    value = area if target == "area" else np.log2(magnification)
    return pd.DataFrame({
        "network": "n", "row": row, "tap": "t", "target": target, "seed": seed, "split": "test",
        "slide": np.repeat(list(errors), 3), "magnification": magnification, "mpp": 10 / magnification,
        "mean_area_px": area, "predicted": value + np.repeat(list(errors.values()), 3),
    })  # fmt: skip


def test_scores_by_hand():
    rows = pd.concat([
        predictions("full", 1, {"a": 3.0, "b": -5.0}),
        predictions("full", 1, {"a": 0.3, "b": -0.1}, target="log2_magnification"),
    ])  # fmt: skip
    found = score_predictions(rows, PAPER_MEANS)
    scores = found[found.target == "area"].set_index("slide")
    assert scores.mae_px.to_dict() == pytest.approx({"all": 4.0, "a": 3.0, "b": 5.0})
    microns = (2.0**2 + 0.5**2 + 0.25**2) / 3
    assert scores.mae_um2.to_dict() == pytest.approx({"all": 4 * microns, "a": 3 * microns, "b": 5 * microns})
    assert scores.kappa.to_dict() == {"all": 1.0, "a": 1.0, "b": 1.0}
    assert scores.n_patches.to_dict() == {"all": 6, "a": 3, "b": 3}
    octaves = found[found.target == "log2_magnification"].set_index("slide")
    assert octaves.mae_octaves.to_dict() == pytest.approx({"all": 0.2, "a": 0.3, "b": 0.1})
    assert octaves.mae_px.isna().all()
    assert scores.mae_octaves.isna().all()
    named = with_magnification(rows, PAPER_MEANS).named_magnification
    assert named.tolist()[6:9] == [5.0, 30.0, 40.0]


# comparisons of rows over slides


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
    assert 0 < sign_flip_test(np.ones(24)) < 1e-4  # drawn, and never zero
    for bad in ([1.0], [1.0, np.nan]):
        with pytest.raises(ResultsError, match="at least two finite differences"):
            sign_flip_test(bad)


@pytest.mark.parametrize("shift", [0.0, 0.4, 1.0])
def test_with_many_slides_drawn_patterns_do_for_all(shift, monkeypatch):
    """Sixteen slides both ways: within four standard errors of 131,072 draws, and intervals within a hundredth."""
    values = np.random.default_rng(5).normal(shift, 1, 16)
    exact, (low, high) = sign_flip_test(values), subset_interval(values)
    monkeypatch.setattr(exact_tests, "MOST_EXACT", 10)
    assert sign_flip_test(values) == pytest.approx(exact, abs=4 * np.sqrt(exact / 2**17) + 2**-16)
    assert subset_interval(values) == pytest.approx((low, high), abs=0.01)


def test_the_interval_holds_exactly_the_centres_that_the_sign_flip_test_accepts():
    values = np.random.default_rng(3).normal(1, 1, 8)
    low, high = subset_interval(values, level=0.95)
    for inside in (low + 1e-6, high - 1e-6):
        assert sign_flip_test(values - inside) > 0.05 - 1e-9
    for outside in (low - 1e-3, high + 1e-3):
        assert sign_flip_test(values - outside) <= 0.05 + 2 / 2**8
    assert subset_interval(values[:5]) == (-np.inf, np.inf)


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


@pytest.mark.parametrize(
    ("pair", "rule"), [(("pruned", "full"), "same slides"), (("scratch", "full"), "scratch")]
)
def test_rows_on_other_slides_or_missing_rows_are_refused(pair, rule):
    rows = [predictions("pruned", 1, {"a": 1.0, "b": 1.0}), predictions("full", 1, {"a": 1.0, "c": 1.0})]
    with pytest.raises(ResultsError, match=rule):
        compare_rows(score_predictions(pd.concat(rows), PAPER_MEANS), pairs=[pair])


# what is told


def test_what_is_told_follows_from_the_tables() -> None:
    runs = pd.DataFrame({"network": "a", "row": ["pretrained", "scratch", "pruned"], "parameters": [200, 200, 50],
                         "seconds": 1800.0, "converged": [True, False, True]})  # fmt: skip
    told = s05_transfer.answers(pd.DataFrame({"network": ["a", "a"]}), runs)
    assert told == {"kept": "25 % of a", "late": 1.0, "n_runs": 3.0, "training_hours": 1.5}
    table = pd.DataFrame(
        {"network": "a", "row": ["cut", "scratch"], "tap": "b", "target": "area", "mae_px": [9.0, 3]}
    )
    assert "patches: a (cut elsewhere, b), of 2 rows" in s05_transfer.no_better_than_mean(table, 8.0)
    assert "patches: none, of 2 rows" in s05_transfer.no_better_than_mean(table, 10.0)


# images at known scales


def test_windows_have_the_pitch_that_the_table_states() -> None:
    """Stripes of 12 px in the image are 12 / 2**octaves px apart in the window: read off the spectrum."""
    stripes = (127 + 100 * np.sin(2 * np.pi * np.arange(400) / 12)).astype(np.uint8)
    image = np.repeat(np.repeat(stripes[None, :, None], 400, axis=0), 3, axis=2)
    windows, table = s05_runs.downsampled_windows([image] * 30, size=96, most=3)
    spectrum = np.abs(np.fft.rfft(windows[:, 48, :, 0].astype(float) - 127, n=4096, axis=1))
    period = 4096 / spectrum.argmax(axis=1)
    expected = 12 / 2**table.log2_downsampling
    assert period == pytest.approx(expected.to_numpy(), rel=0.02)
    assert table.log2_downsampling.between(0, np.log2(3) + 0.02).all()
    assert np.ptp(table.log2_downsampling) > 1


def test_images_too_small_for_every_downsampling_are_left_out() -> None:
    """Else small images would be those of little downsampling, and size would give it away."""
    images = [np.zeros((s, s, 3), np.uint8) for s in [200, 100] * 6]
    assert s05_runs.downsampled_windows(images, size=50, most=3)[1].image.tolist() == list(range(0, 12, 2))


def test_reach_is_that_of_the_worst_slides_when_few_are_there() -> None:
    rows = pd.DataFrame(
        {
            "split": "validation", "slide": np.repeat([f"s{i}" for i in range(9)], 3), "magnification": 8.0,
            "image": [f"i{i}" for i in range(27)], "predicted": 3 + np.repeat(np.arange(1, 10) / 10, 3),
        }
    )  # fmt: skip
    assert s05_runs.slide_reach(rows, level=0.9) == pytest.approx(0.9)
    assert s05_runs.slide_reach(rows, level=0.5) == pytest.approx(0.5)
    assert s05_runs.slide_reach(rows[:6], level=0.9) == float("inf")


def test_costs_count_every_weight_and_activation():
    net = load_network("MobileNet", weights="random", alpha=0.25, include_top=False, input_size=32)
    table = s05_transfer.cost_table(net, ["conv_pw_1", "conv_pw_13"], batch_size=2, repeats=2).set_index(
        "tap"
    )
    # conv1 27·8, norm 4·8; depthwise 9·8, norm 4·8; pointwise 8·16; head 16 + 1
    assert table.parameters["conv_pw_1"] == 27 * 8 + 32 + 72 + 32 + 128 + 17
    assert (table.weights_mib * 2**20 / 4 == table.parameters).all()
    assert (table.forward_ms >= table.forward_ms_min).all()
    assert table.activations_mib["conv_pw_13"] > table.activations_mib["conv_pw_1"] > 0
