"""Intervals, paired tests, permutation tests and projections: against formulas and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from scalelib.errors import DataError
from scalelib.permutation import permutation_test
from scalelib.regression import effective_rank, layerwise_r2, random_projection
from scalelib.statistics import compare_taps, summarize


def scores(values, **labels):
    """A table of held-out scores, one repeat a value, 70 images against 30."""
    frame = pd.DataFrame({"tap": "a", "estimator": "ridge", "condition": "true"}, index=range(len(values)))
    frame = frame.assign(repeat=np.arange(len(values)), n_train=70, n_test=30, r2_test=np.asarray(values))
    return frame.assign(**labels)


def signal(n, d, *, seed=0, strength=1.0):
    rng = np.random.default_rng(seed)
    y = rng.uniform(0.1, 1, size=n)
    return strength * y[:, None] * rng.normal(size=d) + rng.normal(size=(n, d)) * 0.3, y


# ---------------------------------------------------------------- summaries


def test_interval_is_the_corrected_resampled_t_interval():
    values = [0.61, 0.52, 0.70, 0.55, 0.66]
    row = summarize(scores(values)).iloc[0]
    mean = sum(values) / 5
    variance = sum((v - mean) ** 2 for v in values) / 4
    half = 2.7764451051977987 * math.sqrt((1 / 5 + 1.4 * 30 / 70) * variance)  # t, 4 degrees of freedom
    assert (row.rows, row.units) == (5, 5)
    assert row["mean"] == pytest.approx(mean)
    assert row.sd == pytest.approx(math.sqrt(variance))
    assert (row.low, row.high) == pytest.approx((mean - half, mean + half))
    assert (row["median"], row["min"]) == (0.61, 0.52)
    two = summarize(pd.concat([scores([0.5]), scores([0.4], tap="Z"), scores([0.3], tap="B")]))
    assert two.tap.tolist() == ["a", "Z", "B"]  # the order of the network
    assert two[["sd", "low", "high"]].isna().all(axis=None)  # one unit has no interval


def test_the_papers_unit_is_the_mean_of_exp_and_its_label_one_plus_its_log():
    row = summarize(scores([0.9, 0.1, -3861.0])).iloc[0]
    expected = (math.exp(0.9) + math.exp(0.1) + 0.0) / 3 / math.e
    assert row.exp_r2_over_e == pytest.approx(expected)
    assert row.paper_label == pytest.approx(1 + math.log(expected))
    perfect = summarize(scores([1.0, 1.0])).iloc[0]
    assert (perfect.exp_r2_over_e, perfect.paper_label) == pytest.approx((1.0, 1.0))
    hopeless = summarize(scores([-5000.0, -5000.0])).iloc[0]  # exp(-5000) is no float
    assert hopeless.paper_label == pytest.approx(-5000.0)
    mae = scores([0.1, 0.2]).rename(columns={"r2_test": "mae_test"})
    assert "paper_label" not in summarize(mae, value="mae_test")


def test_classes_are_averaged_within_each_repeat_and_rows_for_the_papers_unit():
    bird, dog = [0.5, 0.7, 0.6], [0.1, 0.3, 0.5]
    table = pd.concat([scores(bird, object_class="bird"), scores(dog, object_class="dog")])
    row = summarize(table).iloc[0]
    together = summarize(scores([0.3, 0.5, 0.55])).iloc[0]
    assert (row.units, row.rows) == (3, 6)
    assert (row["mean"], row.sd, row.low) == pytest.approx((together["mean"], together.sd, together.low))
    assert row.exp_r2_over_e == pytest.approx(np.exp(bird + dog).mean() / math.e)


def test_seeds_of_random_weights_are_the_unit_without_correction():
    table = pd.concat([scores([m - 0.1, m + 0.1], weights_seed=i) for i, m in enumerate([0.1, 0.2, 0.6])])
    row = summarize(table, unit="weights_seed").iloc[0]
    low, high = stats.t.interval(0.95, 2, loc=0.3, scale=np.std([0.1, 0.2, 0.6], ddof=1) / math.sqrt(3))
    assert (row.units, row["mean"]) == (3, pytest.approx(0.3))
    assert (row.low, row.high) == pytest.approx((low, high))


def mixed(column, first, second):
    return pd.concat([scores([0.1, 0.2], **{column: first}), scores([0.3, 0.4], **{column: second})])


@pytest.mark.parametrize(
    ("table", "options", "words"),
    [
        (mixed("condition", "true", "shuffled"), {"by": ["tap"]}, ["'condition'", "'shuffled'"]),
        (mixed("tap", "a", "b"), {"by": ["estimator"]}, ["'tap'"]),
        (mixed("weights_seed", 0, 1), {}, ["'weights_seed'", "unit='weights_seed'"]),
        (mixed("n_train", 20, 40), {}, ["same labels", "n_train"]),
        (pd.concat([scores([0.1, 0.2])] * 2), {}, ["same labels", "twice"]),
        (
            pd.concat([scores([0.1, 0.2], object_class="a"), scores([0.3], object_class="b")]),
            {},
            ["as many rows", "from 1 to 2"],
        ),
        (scores([0.1, np.nan]), {}, ["1 without a value"]),
        (scores([]), {}, ["0 rows"]),
        (scores([0.1, 0.2]), {"value": "r2_tset"}, ["'r2_tset'", "Did you mean 'r2_test'"]),
        (scores([0.1, 0.2]), {"unit": "repeats"}, ["'repeats'", "Did you mean 'repeat'?"]),
        (scores([0.1, 0.2]), {"level": 95}, ["level"]),
    ],
)
def test_summaries_that_would_mislead_are_refused(table, options, words):
    with pytest.raises(DataError) as caught:
        summarize(table, **options)
    assert str(caught.value).startswith("summarize: ")
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("estimator", "n", "d", "studies"),
    [
        ("ols", 60, 3, 300),
        pytest.param("ridge", 150, 64, 1000, marks=pytest.mark.exhaustive),
        pytest.param("ridge", 150, 30, 1000, marks=pytest.mark.exhaustive),
    ],
)
def test_corrected_interval_covers_what_the_naive_one_misses(estimator, n, d, studies):
    """Simulated studies: the mean held-out R² over ten splits against its expectation."""
    rows = pd.DataFrame([signal_study(seed, estimator, n, d) for seed in range(studies)])
    truth, t, share = rows["mean"].mean(), stats.t.ppf(0.975, 9), 0.3 / 0.7

    def covered(share):
        half = t * rows.sd * math.sqrt(1 / 10 + share)
        return (abs(rows["mean"] - truth) <= half).mean()

    assert covered(0) < 0.78  # repeats are not independent
    assert ((rows.low <= truth) & (truth <= rows.high)).mean() == covered(1.4 * share)
    assert covered(share) < covered(1.4 * share)
    assert 0.925 < covered(1.4 * share) < 0.98


def signal_study(seed, estimator, n, d):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    factors, loadings = rng.normal(size=(n, 8)), np.random.default_rng(d).normal(size=(8, d))
    X = X + factors @ loadings if estimator == "ridge" else X
    y = factors.sum(axis=1) / 8**0.5 if estimator == "ridge" else X.sum(axis=1)
    y += {"ridge": 0.7, "ols": 1.5}[estimator] * rng.normal(size=n)
    return summarize(layerwise_r2({"tap": X}, y, estimator=estimator, conditions="true")).iloc[0]


# ---------------------------------------------------------------- paired comparison


def pair(a, b, **labels):
    return pd.concat([scores(a, tap="a", **labels), scores(b, tap="b", **labels)])


def test_a_score_of_ones_own_is_no_label():
    table = pair([0.6, 0.5, 0.8], [0.5, 0.45, 0.6])
    own = table.assign(score=table.r2_test * 2)
    apart, twice = compare_taps(table, "a", "b"), compare_taps(own, "a", "b", value="score")
    assert twice.mean_difference.item() == pytest.approx(2 * apart.mean_difference.item())
    with pytest.raises(DataError, match="a table came twice"):
        summarize(pd.concat([own, own.assign(score=1.0)]), value="score")


def test_paired_comparison_matches_the_formula():
    a, b = np.array([0.6, 0.5, 0.8, 0.7]), np.array([0.5, 0.45, 0.6, 0.65])
    row = compare_taps(pair(a, b), "a", "b").iloc[0]
    difference = a - b
    error = math.sqrt((1 / 4 + 1.4 * 30 / 70) * difference.var(ddof=1))
    t = difference.mean() / error
    assert (row.units, row.a, row.b, row.estimator) == (4, "a", "b", "ridge")
    assert row.mean_difference == pytest.approx(difference.mean())
    assert row.t == pytest.approx(t)
    assert row.p == pytest.approx(2 * stats.t.sf(abs(t), 3))
    quantile = stats.t.ppf(0.975, 3)
    assert (row.low, row.high) == pytest.approx(
        (difference.mean() - quantile * error, difference.mean() + quantile * error)
    )
    swapped = compare_taps(pair(a, b), "b", "a").iloc[0]
    assert (swapped.mean_difference, swapped.p) == pytest.approx((-row.mean_difference, row.p))
    same = compare_taps(pair(a, a), "a", "b").iloc[0]
    assert (same.mean_difference, same.t, same.p) == (0, 0, 1)


def test_pairs_are_found_by_their_labels_not_by_their_order():
    a, b = [0.6, 0.5, 0.8], [0.5, 0.1, 0.6]
    table = pd.concat(
        [pair(a, b, object_class="bird"), pair(np.multiply(a, 2), b, object_class="dog")]
    ).assign(depth=lambda frame: frame.tap.map({"a": 1, "b": 2}))
    shuffled = table.sample(frac=1, random_state=0)
    one, two = (compare_taps(frame, "a", "b").iloc[0] for frame in (table, shuffled))
    assert one.mean_difference == pytest.approx(np.mean([np.multiply(a, 1.5) - b]))
    assert (one.units, one.t) == pytest.approx((two.units, two.t))


CONDITIONS = pd.concat([pair([0.1, 0.2], [0.3, 0.4], condition=name) for name in ("true", "shuffled")])


@pytest.mark.parametrize(
    ("table", "other", "options", "words"),
    [
        (pair([0.1, 0.2], [0.3, 0.4]), "c", {}, "unknown tap 'c'"),
        (pair([0.1, 0.2], [0.3, 0.4]), "a", {}, "each tap once"),
        (pair([0.1, 0.2], [0.3]), "b", {}, "exactly one of the other"),
        (pd.concat([scores([0.1, 0.2]), scores([0.3, 0.4], tap="b", n_test=20)]), "b", {}, "split"),
        (CONDITIONS, "b", {"by": ["estimator"]}, "'condition'"),
    ],
)
def test_comparisons_that_would_mislead_are_refused(table, other, options, words):
    with pytest.raises(DataError, match=f"^compare_taps: [\\s\\S]*{words}"):
        compare_taps(table, "a", other, **options)


# ---------------------------------------------------------------- permutation test


def test_per_stratum_statistic_is_the_mean_over_classes_of_layerwise_r2():
    X, y = signal(90, 10)
    label = np.array(["bird", "dog", "car"])[np.arange(90) % 3]
    test = permutation_test({"tap": X}, y, strata=label, per_stratum=True, permutations=9, repeats=3)
    apart = [
        layerwise_r2({"tap": X[label == name]}, y[label == name], repeats=3, conditions="true").r2_test.mean()
        for name in ("bird", "dog", "car")
    ]
    assert test.r2_test.item() == pytest.approx(np.mean(apart))


def test_p_values_match_a_permutation_loop_written_out():
    """Every permutation refitted on its own, its penalty chosen anew, with layerwise_r2."""
    X, y = signal(40, 6, strength=0.15)
    acts = {"a": X[:, :3], "b": X}
    test = permutation_test(acts, y, permutations=19, repeats=2, random_state=3).set_index("tap")
    rng = np.random.default_rng([3, 3])
    options = {"repeats": 2, "conditions": "true", "random_state": 3}
    null = []
    for _ in range(19):
        order = rng.permutation(40)
        null.append(layerwise_r2(acts, y[order], **options).groupby("tap").r2_test.mean())
    null = pd.DataFrame(null)
    observed = layerwise_r2(acts, y, **options).groupby("tap").r2_test.mean()
    for tap in acts:
        assert test.p[tap] == pytest.approx(((null[tap] >= observed[tap]).sum() + 1) / 20)
        assert test.p_max[tap] == pytest.approx(((null.max(axis=1) >= observed[tap]).sum() + 1) / 20)
        assert test.null_mean[tap] == pytest.approx(null[tap].mean())
        assert test.r2_test[tap] == pytest.approx(observed[tap])


def test_p_is_uniform_where_there_is_nothing_to_find():
    values, corrected = [], []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        acts = {name: rng.normal(size=(24, 3)) for name in "abc"}
        test = permutation_test(acts, rng.normal(size=24), permutations=19, repeats=2, random_state=seed)
        values.append(test.p.iloc[0])
        corrected.append(test.p_max.min())
    assert stats.kstest(values, "uniform").statistic < 0.14  # steps of 1/20, 200 values
    assert np.mean(np.array(values) <= 0.1) == pytest.approx(0.1, abs=0.06)
    assert np.mean(np.array(corrected) <= 0.1) <= 0.16  # of three taps, at least one found


def test_measures_stay_within_their_class():
    """Class sizes differ and features tell classes apart alone: within classes there is nothing."""
    rng = np.random.default_rng(0)
    label = np.repeat([0, 1], 30)
    y = label + 0.1 * rng.normal(size=60)
    X = label[:, None] + 0.3 * rng.normal(size=(60, 4))
    free = permutation_test({"tap": X}, y, permutations=39, repeats=3)
    within = permutation_test({"tap": X}, y, strata=label, permutations=39, repeats=3)
    assert free.p.item() == 1 / 40
    assert within.p.item() > 0.05
    assert within.null_mean.item() > 0.8  # what the class alone gives stays in the null


def test_groups_stay_whole_and_measures_within_them():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(12), 5)
    y = groups + 0.1 * rng.normal(size=60)
    acts = {"fine": y[:, None] + 0.01 * rng.normal(size=(60, 3)), "only": groups[:, None] + np.zeros((60, 3))}
    found = permutation_test(acts, y, groups=groups, permutations=39, repeats=3).set_index("tap")
    assert found.null_mean["fine"] > 0.9  # group means stay where they are
    assert found.p["fine"] == 1 / 40
    assert found.p["only"] > 0.05
    table = layerwise_r2(acts, y, groups=groups, repeats=3, conditions="true")
    assert found.r2_test.to_dict() == pytest.approx(table.groupby("tap").r2_test.mean().to_dict())


@pytest.mark.parametrize(
    ("y", "options", "words"),
    [
        (
            None,
            {"groups": np.arange(20), "permutations": 39},
            r"40 different orders[\s\S]*Received: 1, within 20",
        ),
        (np.r_[1.0, np.zeros(19)], {"permutations": 39}, "Received: 20"),  # ties
        (None, {"estimator": "rige"}, "Did you mean 'ridge'"),
        (None, {"per_stratum": True}, "per_stratum needs strata"),
        (None, {"permutations": 0}, "permutations"),
    ],
)
def test_permutations_that_would_mislead_are_refused(y, options, words):
    X, measures = signal(20, 3)
    with pytest.raises(DataError, match=words):
        permutation_test({"tap": X}, measures if y is None else y, **options)


# ---------------------------------------------------------------- width


def test_projection_keeps_squared_distances_on_average():
    X = np.random.default_rng(0).normal(size=(20, 400)) * np.geomspace(1, 10, 400)
    Z = (X - X.mean(axis=0)) / X.std(axis=0)
    draws = [random_projection({"tap": X}, 50, random_state=seed)["tap"] for seed in range(40)]
    expected = ((Z[0] - Z[1]) ** 2).sum()
    assert np.mean([((P[0] - P[1]) ** 2).sum() for P in draws]) == pytest.approx(expected, rel=0.1)
    assert not np.allclose(draws[0], draws[1])


def test_projection_will_not_widen_a_tap():
    acts = {"wide": np.random.default_rng(0).normal(size=(20, 40)), "narrow": np.eye(20)[:, :4]}
    with pytest.raises(DataError, match=r"width 10, and 1 narrower taps: {'narrow': 4}[\s\S]*width=4"):
        random_projection(acts, 10)
    kept = random_projection(acts, 10, narrow="keep")
    assert kept["wide"].shape == (20, 10)
    assert (kept["narrow"] == acts["narrow"]).all()
    with pytest.raises(DataError, match="width"):
        random_projection(acts, 0)


def test_projection_heeds_no_other_tap_no_unit_and_no_constant_channel():
    X = np.random.default_rng(0).normal(size=(20, 40))
    X[:, 3] = 7.0
    alone = random_projection({"a": X}, 5)["a"]
    among = random_projection({"b": X, "a": 3 * X + 1}, 5)
    assert np.isfinite(alone).all()
    assert alone == pytest.approx(among["a"])
    assert not np.allclose(among["a"], among["b"])


def test_effective_rank_of_known_spectra():
    rng = np.random.default_rng(0)
    orthonormal = np.linalg.qr(rng.normal(size=(100, 12)))[0]
    orthonormal = np.linalg.qr(orthonormal - orthonormal.mean(axis=0))[0]
    for kind in ("entropy", "participation"):
        assert effective_rank(orthonormal, kind=kind) == pytest.approx(12)
        assert effective_rank(orthonormal[:, :1] * np.ones(7), kind=kind) == pytest.approx(1)
        assert effective_rank(5 + 1e-6 * orthonormal, kind=kind) == pytest.approx(12, rel=1e-6)
    singular = np.array([2.0, 1.0, 1.0])
    X = orthonormal[:, :3] * singular
    shares = singular / 4
    assert effective_rank(X) == pytest.approx(np.exp(-(shares * np.log(shares)).sum()))
    assert effective_rank(X, kind="participation") == pytest.approx(6**2 / (16 + 1 + 1))
    assert effective_rank(np.full((10, 4), 0.1)) == 0
    with pytest.raises(DataError, match="Did you mean 'entropy'"):
        effective_rank(X, kind="entrpy")
