"""Read-outs against closed forms and independent libraries, on tall, square and wide problems."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import warnings

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import RidgeCV
from sklearn.preprocessing import StandardScaler

from scalelib.errors import DataError
from scalelib.linear import ALPHAS, ESTIMATORS, fit_linear, in_threads, standardise
from scalelib.regression import _targets, layerwise_r2, learning_curve, train_test_splits

SHAPES = pytest.mark.parametrize(
    ("n", "d"), [(200, 8), (60, 42), (60, 59), (40, 400)], ids=["tall", "train=d", "square", "wide"]
)


def problem(n, d, *, seed=0, noise=1.0):
    """Features of unequal scale and offset, and a measure that is linear in them up to noise."""
    rng = np.random.default_rng(seed)
    scale = rng.uniform(0.3, 3, size=d)
    X = rng.normal(size=(n, d)) * scale + rng.uniform(-5, 5, size=d)
    weights = rng.normal(size=d) / scale / np.sqrt(d)
    return X, X @ weights + noise * rng.normal(size=n) * 0.3


def held_out_r2(y, prediction):
    return 1 - np.sum((y - prediction) ** 2) / np.sum((y - np.mean(y)) ** 2)


def one_row(X, y, **options):
    table = layerwise_r2({"tap": X}, y, repeats=1, conditions="true", **options)
    [(train, test)] = train_test_splits(len(y), repeats=1)
    return table.iloc[0], train, test


@SHAPES
def test_ols_is_the_solution_of_least_norm(n, d):
    X, y = problem(n, d)
    row, train, test = one_row(X, y, estimator="ols")
    centre, mean = X[train].mean(axis=0), y[train].mean()
    beta = np.linalg.pinv(X[train] - centre, rcond=1e-12) @ (y[train] - mean)
    prediction = mean + (X[test] - centre) @ beta
    assert row.r2_test == pytest.approx(held_out_r2(y[test], prediction), rel=1e-6)
    assert row.mae_test == pytest.approx(np.abs(y[test] - prediction).mean(), rel=1e-6)
    fitted = mean + (X[train] - centre) @ beta
    assert row.r2_train == pytest.approx(held_out_r2(y[train], fitted), abs=1e-9)
    assert row.dof == min(len(train) - 1, d)
    assert (row.n_train, row.n_test, row.channels) == (len(train), len(test), d)


@SHAPES
def test_ridge_matches_leave_one_out_ridge_of_scikit_learn(n, d):
    X, y = problem(n, d, noise=2.0)
    row, train, test = one_row(X, y, estimator="ridge")
    scaler = StandardScaler().fit(X[train])
    reference = RidgeCV(alphas=d * ALPHAS[:-1]).fit(scaler.transform(X[train]), y[train])
    assert row.alpha == pytest.approx(reference.alpha_)
    prediction = reference.predict(scaler.transform(X[test]))
    assert row.r2_test == pytest.approx(held_out_r2(y[test], prediction), rel=1e-8)
    assert not row.alpha_at_edge


@pytest.mark.parametrize(("n", "d"), [(30, 4), (16, 40)], ids=["tall", "wide"])
def test_alpha_is_that_of_least_error_when_each_row_is_really_left_out(n, d):
    X, y = problem(n, d, noise=2.0)
    Z = (X - X.mean(axis=0)) / X.std(axis=0)
    errors = []
    for alpha in d * ALPHAS:  # the total variance of standardised features is their number
        left_out = []
        for i in range(n):
            keep = np.arange(n) != i
            centre, mean = Z[keep].mean(axis=0), y[keep].mean()
            A = Z[keep] - centre
            inverse = (
                np.linalg.inv(A @ A.T + alpha * np.eye(n - 1)) if np.isfinite(alpha) else np.zeros(n - 1)
            )
            beta = A.T @ (inverse @ (y[keep] - mean) if np.isfinite(alpha) else inverse)
            left_out.append(y[i] - mean - (Z[i] - centre) @ beta)
        errors.append(np.sum(np.square(left_out)))
    assert fit_linear(X, y[:, None], "ridge").alpha[0] == pytest.approx(d * ALPHAS[int(np.argmin(errors))])


@pytest.mark.parametrize("estimator", ["ridge", "ridge_unscaled", "pcr"])
@pytest.mark.parametrize(
    ("n", "d"), [(40, 300), (40, 39), (60, 8), (40, 0)], ids=["wide", "square", "tall", "constant"]
)
def test_of_many_targets_each_gets_what_it_gets_alone(estimator, n, d):
    """Among many, what the candidates lose is put together from fewer vectors."""
    rng = np.random.default_rng(3)
    X = np.column_stack([np.ones(n), rng.normal(size=(n, d)) * np.geomspace(1, 30, d)])
    Y = rng.normal(size=(n, 160)) + X[:, [-1]] * np.linspace(0, 3, 160)
    many = fit_linear(X, Y, estimator)
    for column in range(0, 160, 9):
        alone = fit_linear(X, Y[:, [column]], estimator)
        np.testing.assert_array_equal(many.alpha[column], alone.alpha[0])
        np.testing.assert_array_equal(many.dof[column], alone.dof[0])
        np.testing.assert_allclose(many.fitted[:, column], alone.fitted[:, 0], rtol=1e-9, atol=1e-9)


def test_ridge_dof_is_the_trace_of_the_hat_matrix_minus_one():
    X, y = problem(50, 10, noise=2.0)
    fit = fit_linear(X, y[:, None], "ridge")
    Z = (X - X.mean(axis=0)) / X.std(axis=0)
    hat = Z @ np.linalg.solve(Z.T @ Z + fit.alpha[0] * np.eye(10), Z.T)
    assert fit.dof[0] == pytest.approx(np.trace(hat))


@pytest.mark.parametrize(("n", "d"), [(80, 12), (40, 400)], ids=["tall", "wide"])
def test_principal_components_regression_uses_the_number_of_least_leave_one_out_error(n, d):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 3)) @ rng.normal(size=(3, d)) * 3 + rng.normal(size=(n, d))
    Z = (X - X.mean(axis=0)) / X.std(axis=0)
    scores = np.linalg.svd(Z, full_matrices=False)[0]
    y = scores[:, :3] @ [5.0, 3.0, 4.0] + 0.3 * rng.normal(size=n)
    fit = fit_linear(X, y[:, None], "pcr")

    def left_out_error(k):
        design = np.column_stack([np.ones(n), scores[:, :k]])
        return sum(
            (y[i] - design[i] @ np.linalg.lstsq(np.delete(design, i, 0), np.delete(y, i), rcond=None)[0]) ** 2
            for i in range(n)
        )

    tried = [left_out_error(k) for k in range(min(d, n // 2) + 1)]
    assert fit.dof[0] == np.argmin(tried) >= 3
    design = np.column_stack([np.ones(n), scores[:, : int(fit.dof[0])]])
    expected = design @ np.linalg.lstsq(design, y, rcond=None)[0]
    assert fit.predict(X)[:, 0] == pytest.approx(expected)


def test_principal_components_stop_at_half_the_images_and_say_so():
    X = np.random.default_rng(0).normal(size=(40, 30))
    scores = np.linalg.svd((X - X.mean(axis=0)) / X.std(axis=0), full_matrices=False)[0]
    fit = fit_linear(X, scores[:, :23].sum(axis=1, keepdims=True), "pcr")
    assert (fit.dof[0], bool(fit.at_edge[0])) == (20, True)


def test_ols_uses_every_direction_that_is_more_than_rounding():
    rng = np.random.default_rng(0)
    base, tiny = rng.normal(size=(2, 50))
    X = np.column_stack([base, base + 1e-6 * tiny, base])  # two directions in three channels
    fit = fit_linear(X, tiny[:, None], "ols")
    assert fit.dof[0] == 2
    assert fit.predict(X)[:, 0] == pytest.approx(tiny, abs=1e-6)


def test_a_penalty_at_the_end_of_the_grid_is_flagged_where_a_smaller_one_would_fit_otherwise():
    rng = np.random.default_rng(2)
    common, tiny = rng.normal(size=(2, 100))
    flagged = fit_linear(np.column_stack([common, common + 1e-2 * tiny]), tiny[:, None], "ridge")
    assert flagged.alpha[0] == pytest.approx(2 * ALPHAS[0])
    assert flagged.at_edge[0]
    plain = fit_linear(rng.normal(size=(100, 3)) + common[:, None], common[:, None], "ridge")
    assert not plain.at_edge[0]
    factors = rng.normal(size=(30, 5))  # the smallest penalty is as good as none
    unpenalised = fit_linear(factors @ rng.normal(size=(5, 4000)), factors[:, :1], "ridge")
    assert unpenalised.alpha[0] == pytest.approx(4000 * ALPHAS[0])
    assert not unpenalised.at_edge[0]


def one_channel_an_image():
    """Whatever the penalty, a row that is left out is predicted by the mean."""
    return np.eye(20), np.random.default_rng(0).normal(size=20)


@pytest.mark.parametrize(
    ("X", "y"), [one_channel_an_image(), (problem(60, 5)[0], np.random.default_rng(5).normal(size=60))]
)
def test_where_nothing_is_to_be_read_ridge_predicts_the_mean_and_is_no_edge(X, y):
    fit = fit_linear(X, y[:, None], "ridge")
    assert np.isinf(fit.alpha[0])
    assert not fit.at_edge[0]
    assert fit.predict(X)[:, 0] == pytest.approx(np.full(len(y), y.mean()))


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("factor", [1e-12, 1e-30, 1e12])
def test_the_unit_of_a_tap_does_not_matter(estimator, factor):
    X, y = problem(60, 30)
    plain, scaled = (one_row(values, y, estimator=estimator)[0] for values in (X, X * factor))
    assert scaled.r2_test == pytest.approx(plain.r2_test, rel=1e-6)


@pytest.mark.parametrize("estimator", ["ridge", "pcr"])
@SHAPES
def test_an_affine_map_of_each_channel_moves_no_r2(estimator, n, d):
    """A batch norm behind average pooling, say, over twelve orders of magnitude and with either sign."""
    X, y = problem(n, d, noise=2.0)
    rng = np.random.default_rng(1)
    factor = rng.choice([-1, 1], d) * 10 ** rng.uniform(-6, 6, d)
    mapped = (X - X.mean(axis=0)) * factor + 100 * np.abs(factor) * rng.normal(size=d)
    plain, other = (one_row(values, y, estimator=estimator)[0] for values in (X, mapped))
    assert other.r2_test == pytest.approx(plain.r2_test, abs=1e-6)


@pytest.mark.parametrize("estimator", ["ridge", "ridge_unscaled", "pcr"])
@SHAPES
def test_channels_that_stand_twice_move_no_r2(estimator, n, d):
    X, y = problem(n, d, noise=2.0)
    once, twice = (one_row(values, y, estimator=estimator)[0] for values in (X, np.column_stack([X, X])))
    assert twice.r2_test == pytest.approx(once.r2_test, abs=1e-6)
    if estimator != "pcr":
        assert twice.alpha == pytest.approx(2 * once.alpha)


def test_what_is_turned_down_is_erased_for_the_unscaled_reading_alone():
    rng = np.random.default_rng(0)
    loud, y = rng.normal(size=(200, 20)), rng.normal(size=200)
    X = np.column_stack([loud, 1e-3 * (y[:, None] + 0.3 * rng.normal(size=(200, 5)))])
    free, unscaled = (one_row(X, y, estimator=name)[0].r2_test for name in ("ridge", "ridge_unscaled"))
    assert free > 0.9
    assert unscaled < 0.1
    even = loud / loud.std(axis=0) @ np.eye(20)[:, :15]  # where all vary alike the two are one
    target = even.sum(axis=1) + y
    both = [one_row(even, target, estimator=name)[0].r2_test for name in ("ridge", "ridge_unscaled")]
    assert both[0] == pytest.approx(both[1], abs=0.02)


@pytest.mark.parametrize("n", [51, 52])
def test_one_image_more_than_channels_is_not_read_at_the_interpolation_peak(n):
    """Without a row there is a direction less to fit: leave-one-out sees no peak, the least penalty must avoid it."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, n + 200, 50))
    y = X.sum(axis=2) / 50**0.5 + rng.normal(size=X.shape[:2])
    reads = [[fit_linear(a[:n], b[:n, None], e) for e in ("ridge", "ols")] for a, b in zip(X, y, strict=True)]
    scores = [
        [held_out_r2(b[n:], f.predict(a[n:])[:, 0]) for f in fits]
        for fits, a, b in zip(reads, X, y, strict=True)
    ]
    ridge, ols = np.mean(scores, axis=0)
    assert ols < -1
    assert ridge > 0
    assert np.min(scores, axis=0)[0] > -2


def test_nearly_collinear_channels_are_read_as_a_singular_value_decomposition_reads_them():
    """The Gram matrix knows a component to the rounding of the largest: nothing beside the least penalty."""
    rng = np.random.default_rng(0)
    spectrum = np.geomspace(1, 1e-7, 40)
    X = rng.normal(size=(60, 40)) * spectrum @ np.linalg.qr(rng.normal(size=(300, 40)))[0].T + 3
    y = X @ rng.normal(size=300)
    fit = fit_linear(X, y[:, None], "ridge")
    Z = (X - X.mean(axis=0)) / X.std(axis=0)
    u, s, vt = np.linalg.svd(Z, full_matrices=False)
    beta = vt.T @ (s / (s**2 + fit.alpha[0]) * (u.T @ (y - y.mean())))
    assert fit.fitted[:, 0] == pytest.approx(y.mean() + Z @ beta, abs=1e-9 * y.std())


def test_constant_channels_and_rounding_noise_on_them_have_no_part_in_the_fit():
    X, y = problem(60, 6)
    constant = np.column_stack([X, np.full(60, 0.1), np.zeros(60), np.full(60, 1e-12)])
    for estimator in ESTIMATORS:
        plain, padded = (one_row(values, y, estimator=estimator)[0] for values in (X, constant))
        assert padded.r2_test == pytest.approx(plain.r2_test, rel=1e-9)
    noise = np.float32(7) * (1 + np.finfo(np.float32).eps * np.random.default_rng(0).integers(0, 2, 60))
    scale = standardise(np.column_stack([X, noise]).astype(np.float32))[1]
    assert np.isinf(scale).tolist() == [False] * 6 + [True]


@pytest.mark.parametrize("value", [0.0, 0.1, 1e-12, 7.3], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_tap_of_constants_predicts_the_mean(value, dtype):
    _, y = problem(60, 6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for estimator in ESTIMATORS:
            row, train, test = one_row(np.full((60, 4), value, dtype), y, estimator=estimator)
            assert row.r2_test == pytest.approx(held_out_r2(y[test], y[train].mean()), abs=1e-9)
            assert row.dof == 0


def test_probabilities_near_zero_on_the_training_images_explode_what_is_free_of_units():
    rng = np.random.default_rng(0)
    logits = 12 * rng.normal(size=(120, 300))
    P = np.exp(logits - logits.max(axis=1, keepdims=True))
    P = (P / P.sum(axis=1, keepdims=True)).astype(np.float32)
    assert np.median(P) < 1e-10
    names = ["ridge", "ridge_unscaled"]
    table = layerwise_r2({"softmax": P}, rng.normal(size=120), estimator=names, conditions="true")
    worst = table.groupby("estimator").r2_test.min()
    assert worst["ridge"] < -1e9
    assert worst["ridge_unscaled"] > -1


def test_leverage_of_one_is_not_taken_for_a_perfect_prediction():
    """A component that one image alone spans says nothing about it once it is left out."""
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.normal(size=20), np.r_[1e4, np.zeros(19)]])
    y = np.r_[50.0, 0.1 * rng.normal(size=19)]
    fit = fit_linear(X, y[:, None], "pcr")
    assert np.isfinite(fit.coefficients).all()
    assert fit.dof[0] < 2  # with both components the first image predicts itself


# ---------------------------------------------------------------- splits and the table


def test_splits_are_common_to_taps_conditions_and_estimators():
    X, y = problem(60, 10)
    table = layerwise_r2({"a": X, "b": X, "c": X[:, :4]}, y, estimator=ESTIMATORS, repeats=4)
    wide = table.pivot(index=["estimator", "condition", "repeat"], columns="tap", values="r2_test")
    assert (wide.a == wide.b).all()
    assert (wide.a != wide.c).any()
    again = layerwise_r2({"c": X[:, :4]}, y, estimator="pcr", repeats=2, conditions="shuffled")
    same = table[(table.tap == "c") & (table.estimator == "pcr") & (table.condition == "shuffled")]
    assert again.r2_test.to_numpy() == pytest.approx(same.r2_test.to_numpy()[:2], rel=1e-12)


def test_the_table_is_tidy_in_the_order_received_and_inputs_stay():
    X, y = problem(30, 5)
    before = X.copy(), y.copy()
    table = layerwise_r2({"z": X, "a": X}, y, repeats=3)
    assert (before[0] == X).all()
    assert (before[1] == y).all()
    assert list(table.columns[:7]) == [
        *("tap", "channels", "n_train", "n_test", "estimator", "condition", "repeat")
    ]
    assert table.tap.tolist() == ["z"] * 6 + ["a"] * 6
    assert table.repeat.tolist() == [0, 0, 1, 1, 2, 2] * 2
    assert table.alpha_at_edge.dtype == bool
    assert (layerwise_r2({"z": X, "a": X}, y, repeats=3, random_state=1).r2_test != table.r2_test).all()


def test_the_number_of_threads_and_jobs_does_not_change_a_bit():
    code = (
        "import numpy as np; from scalelib import layerwise_r2, permutation_test; r = np.random.default_rng(0);"
        "X = r.normal(size=(300, 500)); y = X[:, 0] + r.normal(size=300); acts = {'a': X, 'b': X[:, :90]}\n"
        "for n in (None, 1, 3):\n"
        "    t = layerwise_r2(acts, y, estimator=['ols', 'ridge', 'pcr'], repeats=3, n_jobs=n)\n"
        "    p = permutation_test(acts, y, permutations=300, repeats=2, n_jobs=n)\n"
        "    print([*t.r2_test.map(float.hex), *t.dof.map(float.hex), *p.null_mean.map(float.hex)])"
    )
    command, answers = [sys.executable, "-c", code], []
    for n in ("1", "2"):
        threads = os.environ | {"OMP_NUM_THREADS": n, "OPENBLAS_NUM_THREADS": n}
        run = subprocess.run(command, env=threads, capture_output=True, text=True, check=True)
        answers += run.stdout.splitlines()
    assert len(answers) == 6
    assert len(set(answers)) == 1


def test_jobs_are_threads_as_many_as_the_context_says():
    meet = threading.Barrier(3)  # broken unless three tasks run at a time
    with joblib.parallel_config(n_jobs=3):
        assert sorted(in_threads(lambda: meet.wait(timeout=20), [()] * 3)) == [0, 1, 2]


def test_several_measures_have_the_rows_that_each_has_alone():
    X, y = problem(60, 90)
    table = pd.DataFrame({"width": y, "area": y**2, "noise": X[:, 3]}, index=np.arange(60)[::-1])
    options = {"estimator": ESTIMATORS, "repeats": 3}
    found = layerwise_r2({"a": X, "b": X[:, :7]}, table, **options)
    unnamed = layerwise_r2({"a": X, "b": X[:, :7]}, table.to_numpy(), **options)
    assert unnamed.measure.unique().tolist() == [0, 1, 2]
    for place, name in enumerate(table):
        alone = layerwise_r2({"a": X, "b": X[:, :7]}, table[name], **options)
        for several, key in ((found, name), (unnamed, place)):
            rows = several[several.measure == key].drop(columns="measure").reset_index(drop=True)
            pd.testing.assert_frame_equal(rows, alone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("offset", [1e-3, 1.0])
def test_rounding_of_the_mean_is_no_direction_to_fit(offset):
    """Features that vary little about a common value, as a softmax of random weights."""
    X, y = problem(60, 300)
    row, train, _ = one_row(offset + 1e-9 * (X - X.mean(axis=0)), y, estimator="ols")
    assert row.dof == len(train) - 1
    plain = one_row(X, y, estimator="ols")[0]
    assert row.r2_test == pytest.approx(plain.r2_test, rel=1e-4)


@pytest.mark.parametrize(("n", "d"), [(150, 20), (150, 300)], ids=["tall", "wide"])
def test_shuffled_measures_are_not_readable_where_true_ones_are(n, d):
    X, y = problem(n, d, noise=0.5)
    table = layerwise_r2({"tap": X}, y, estimator=ESTIMATORS)
    means = table.groupby(["estimator", "condition"]).r2_test.mean()
    for estimator in ("ridge", "pcr") if d > n else ESTIMATORS:
        assert means[estimator, "shuffled"] <= 0
        assert means[estimator, "true"] > 0.3 if estimator != "pcr" else means[estimator, "true"] > 0


def test_shuffled_measures_are_in_another_order_each_time_but_the_same_for_every_tap():
    y = np.arange(30.0)
    table = layerwise_r2({"a": y[:, None], "b": y[:, None]}, y, estimator="ols", conditions="shuffled")
    values = table.pivot(index="repeat", columns="tap", values="r2_test")
    assert (values.a == values.b).all()
    assert table.r2_train.max() < 0.5
    orders = [_targets(y[:, None], ("shuffled", "true"), 0, repeat) for repeat in range(3)]
    assert all((np.sort(columns, axis=0) == y[:, None]).all() for columns in orders)
    assert all((columns[:, 1] == y).all() for columns in orders)
    assert len({tuple(columns[:, 0]) for columns in [*orders, orders[0]]} - {tuple(y)}) == 3


def test_a_split_is_a_partition_with_the_stated_share_held_out():
    for n in (5, 10, 131, 188):
        for train, test in train_test_splits(n, repeats=3):
            assert np.array_equal(np.sort(np.concatenate([train, test])), np.arange(n))
            assert len(test) == int(np.ceil(np.round(0.3 * n, 9)))
    held_out = np.concatenate([test for _, test in train_test_splits(20, repeats=2000)])
    assert np.bincount(held_out) / 2000 == pytest.approx(
        np.full(20, 0.3), abs=0.05
    )  # each as often as another


@pytest.mark.parametrize("dtype", [int, str, object])
def test_groups_never_stand_on_both_sides(dtype):
    sizes = np.random.default_rng(0).integers(1, 12, size=15)
    groups = np.random.default_rng(1).permutation(np.repeat(np.arange(15), sizes)).astype(dtype)
    for train, test in train_test_splits(len(groups), repeats=20, groups=groups):
        assert not set(groups[train]) & set(groups[test])
        assert len(set(groups[test])) == 5
        assert len(train) + len(test) == len(groups)


# ---------------------------------------------------------------- learning curve


def test_least_squares_peaks_where_training_images_equal_channels_and_nowhere_else():
    rng = np.random.default_rng(0)
    d, noise = 50, 1.0
    X = rng.normal(size=(700, d))
    y = X @ (rng.normal(size=d) / np.sqrt(d)) + noise * rng.normal(size=700)
    sizes = [10, 25, 40, 51, 65, 100, 200, 400]
    curve = learning_curve({"tap": X}, y, train_sizes=sizes)
    ols, ridge = (curve[curve.estimator == name].groupby("n_train").r2_test for name in ("ols", "ridge"))
    error = 1 - ols.mean()
    assert error.idxmax() == 51
    assert (error.diff().dropna().loc[:51] > 0).all()  # up to the peak, and down from there
    assert (error.diff().dropna().loc[65:] < 0).all()
    assert error[51] > 5 * error.drop(51).max()
    for n in (100, 200, 400):  # the expectation for Gaussian features, intercept included
        expected = noise**2 * (1 + 1 / n) * (1 + d / (n - d - 2)) / y.var()
        assert error[n] == pytest.approx(expected, rel=0.12)
    assert (1 - ridge.mean()).max() < 1.15  # tuned within the training fold there is no peak
    assert ridge.mean().is_monotonic_increasing


def test_learning_curve_holds_out_the_same_images_at_every_size():
    X, y = problem(100, 5)
    curve = learning_curve({"tap": X}, y, train_sizes=[20, 70], repeats=3, estimators="ols")
    full = layerwise_r2({"tap": X}, y, estimator="ols", repeats=3, conditions="true")
    at_full = curve[curve.n_train == 70].reset_index(drop=True)
    pd.testing.assert_frame_equal(at_full, full)
    assert (curve.n_test == 30).all()


@pytest.mark.parametrize("sizes", [[71], [], [2], [10.5]])
def test_learning_curve_refuses_sizes_that_do_not_fit(sizes):
    X, y = problem(100, 5)
    with pytest.raises(DataError, match=r"^learning_curve: .*(training sizes|train_sizes)"):
        learning_curve({"tap": X}, y, train_sizes=sizes)


# ---------------------------------------------------------------- refusals


def holed(value, row=7, column=2):
    X = problem(30, 5)[0]
    X[row, column] = value
    return {"good": problem(30, 5)[0], "bad": X}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"X": holed(np.nan)}, ["'bad'", "row 7", "channel 2"]),
        ({"X": {"tap": np.ones((29, 5))}}, ["'tap'", "29 rows", "30 measures"]),
        ({"X": {}}, ["at least one tap"]),
        ({"X": np.zeros((30, 5))}, ["mapping", "ndarray"]),
        ({"X": {"map": np.ones((30, 4, 4, 5))}}, ["'map'", "(30, 4, 4, 5)", "Pool"]),
        ({"X": {"none": np.ones((30, 0))}}, ["'none'", "(30, 0)"]),
        ({"X": {"ragged": [[1.0], [1.0, 2.0]]}}, ["'ragged'", "real numbers"]),
        ({"y": [0.1] * 4 + [np.nan] + [0.2] * 4 + [np.inf] + [0.3] * 20}, ["row 4", "2 such rows"]),
        ({"y": np.full(30, -3e200)}, ["must vary"]),
        ({"y": np.where(np.arange(30) % 2, 0.3, 0.1 + 0.2)}, ["must vary"]),  # rounding alone
        ({"y": (np.arange(30) == 3).astype(float)}, ["within each fold", "all with the measure 0"]),
        ({"y": [1.0, 2.0, 3.0, 4.0]}, ["at least 5", "4 measures"]),
        ({"y": ["a"] * 30}, ["measures", "real numbers"]),
        ({"y": pd.DataFrame({"a": np.arange(30.0), "flat": 1.0})}, ["measure 'flat' must vary"]),
        ({"y": np.ones((30, 0))}, ["at least one measure", "(30, 0)"]),
        ({"y": pd.DataFrame(np.eye(30)[:, :2], columns=["a", "a"])}, ["a name of its own", "(30, 2)"]),
        ({"groups": pd.Series(["a"] * 29 + [pd.NA], dtype="string")}, ["groups", "none in row 29 (1 "]),
        ({"estimator": "rigde"}, ["'rigde'", "Did you mean 'ridge'?", "'ols'"]),
        ({"estimator": ["ols", "ols"]}, ["once"]),
        ({"conditions": "shufled"}, ["'shufled'", "Did you mean 'shuffled'?"]),
        ({"random_state": None}, ["random_state"]),
        ({"test_size": 1}, ["test_size"]),
        ({"test_size": 0.01}, ["2 test images", "29 and 1"]),
        ({"test_size": 0.95}, ["3 training", "1 and 29"]),
        ({"groups": [0] * 30}, ["groups", "1 group"]),
        ({"groups": [0] * 29}, ["groups", "(29,)"]),
        ({"groups": ["a"] * 29 + [None]}, ["missing", "row 29"]),
        ({"groups": [1.0] * 29 + [np.nan]}, ["missing", "row 29"]),
    ],
)
def test_what_breaks_a_rule_is_refused_by_name(given, words):
    X, y = problem(30, 5)
    given = {"X": {"tap": X}, "y": y, **given}
    with pytest.raises(DataError, match=r"^layerwise_r2: [\s\S]*Received: ") as caught:
        layerwise_r2(given.pop("X"), given.pop("y"), **given)
    assert [word for word in words if word not in str(caught.value)] == []
