"""What a profile plans is what is trained, collected, told in words and put to work on unseen images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scalelib.datasets import Dataset
from scalelib.errors import DataError, ResultsError
from scalelib.slides.magnification import fit_estimator
from studies.rendered.slide import load_rendered
from studies.s05_runs import (
    SEEDS,
    PlannedTransfer,
    chosen_taps,
    collect,
    described,
    downsampled_windows,
    plan_transfer,
    planned_runs,
    predict_images,
    read_out_specs,
    run_plans,
    score_runs,
    slide_reach,
    summarize_images,
    table_2,
    target_values,
    unseen_images,
)
from studies.s05_transfer import (
    answers,
    as_published,
    cost_taps,
    held_out_r2,
    mark_scale_choice,
    read_out_answers,
    three_curves,
    transfer_answer,
)
from studies.training import Schedule
from studies.transfer_scores import class_means

ROOT = Path(__file__).parent.parent
SPEC = {
    "name": "MobileNet", "label": "tiny", "weights": "random", "alpha": 0.25, "include_top": False,
    "full_tap": "conv_pw_2", "transfer_seeds": 2, "targets": ["area", "log2_magnification"],
}  # fmt: skip


Study = tuple[Dataset, list[PlannedTransfer], np.ndarray, Path]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Two seeds of a tiny network, all rows and targets, on rendered slides."""
    folder = tmp_path_factory.mktemp("study")
    data = load_rendered(
        folder / "slides",
        n_slides=(2, 2, 2),
        slide_size=512,
        size=32,
        magnifications=[10, 40],
        max_per_slide=6,
    )
    plans = plan_transfer([SPEC], {"tiny": "conv_pw_1"}, schedule={"epochs": 2, "batchnorm_momentum": 0.5})
    images = np.stack([data.images[i] for i in range(len(data.images))])
    failed = run_plans(plans, data.table, images, folder / "runs", data_digest=data.digest)
    assert failed == {}
    return data, plans, images, folder


# what is planned


def test_plan_takes_the_papers_seeds_in_its_order_and_keeps_what_says_which_network() -> None:
    [plan] = plan_transfer([SPEC], {"tiny": "conv_pw_1"}, schedule={"epochs": 7, "learning_rate": 0.1})
    assert plan.seeds == SEEDS[:2]
    assert plan.targets == ("area", "log2_magnification")
    assert plan.schedule == Schedule(epochs=7, learning_rate=0.1)
    assert plan.network.options == {"alpha": 0.25, "include_top": False, "taps": ["conv_pw_1", "conv_pw_2"]}
    assert (plan.network.full_tap, plan.network.pruned_tap, plan.network.weights) == (
        "conv_pw_2", "conv_pw_1", "random",
    )  # fmt: skip


def test_a_networks_learning_rate_replaces_the_schedules() -> None:
    [plan] = plan_transfer([{**SPEC, "learning_rate": 0.3}], {"tiny": "conv_pw_1"}, schedule={"epochs": 7})
    assert plan.schedule == Schedule(epochs=7, learning_rate=0.3)


def test_one_tap_where_the_rule_chose_the_last_map() -> None:
    [plan] = plan_transfer([SPEC], {"tiny": "conv_pw_2"})
    assert plan.network.options["taps"] == ["conv_pw_2"]


@pytest.mark.parametrize("count", [0, 11, -1])
def test_more_seeds_than_the_paper_has_are_refused(count: int) -> None:
    with pytest.raises(ResultsError, match="transfer_seeds is 1 to 10"):
        plan_transfer([{**SPEC, "transfer_seeds": count}], {"tiny": "conv_pw_1"})


def test_a_network_without_a_chosen_tap_is_refused_by_name() -> None:
    with pytest.raises(ResultsError, match=r"no tap was chosen for tiny\.\nReceived: taps for tinny"):
        plan_transfer([SPEC], {"tinny": "conv_pw_1"})


def test_chosen_taps_are_those_of_the_weights_asked_for() -> None:
    table = pd.DataFrame(
        {
            "network": ["a", "a", "b"],
            "weights": ["imagenet", "random", "imagenet, int8-rounded"],
            "peak_tap": ["x", "y", "z"],
        }
    )
    assert chosen_taps(table) == {"a": "x", "b": "z"}
    assert chosen_taps(table, weights="random") == {"a": "y"}


def test_read_outs_read_the_same_networks_with_trained_and_random_weights() -> None:
    trained, random = read_out_specs([SPEC | {"weights": "some.h5"}], size=48)
    assert trained == {
        "name": "MobileNet", "label": "tiny", "weights": "some.h5", "alpha": 0.25, "include_top": False,
        "weights_label": "trained", "input_size": 48,
    }  # fmt: skip
    assert random == {**trained, "weights": "random", "weights_label": "random"}


# what is trained and collected


def test_every_planned_run_is_collected_and_no_other(study: Study) -> None:
    _, plans, _, folder = study
    names = planned_runs(plans)
    assert len(names) == len(set(names)) == 3 * 2 * 2
    assert len(collect(folder / "runs", names=names).runs) == 12
    assert len(collect(folder / "runs", names=names[:5]).runs) == 5
    with pytest.raises(ResultsError, match="no finished run"):
        collect(folder / "runs", names=["another"])


def test_table_2_stands_below_the_papers_in_its_form(study: Study) -> None:
    data, plans, _, folder = study
    scores = score_runs(collect(folder / "runs", names=planned_runs(plans)), class_means(data.table))
    shown = as_published(table_2(scores), pd.read_csv(ROOT / "paper" / "table2.csv"))
    assert shown["source"].tolist() == ["paper"] * 6 + ["ours"] * 3
    assert shown["row"].tolist() == ["full, pretrained", "full, from scratch", "pruned"] * 3
    first = shown.iloc[0]
    assert (first["network"], first["error (px)"], first["kappa"]) == (
        "InceptionV3", "81.85 (11.08)", "0.435 (0.020)",
    )  # fmt: skip
    area = scores[(scores.slide == "all") & (scores.target == "area") & (scores.row == "pruned")]
    expected = f"{area.mae_px.mean():.2f} ({area.mae_px.std(ddof=1):.2f})"
    assert shown["error (px)"].iloc[-1] == expected


def test_transferred_networks_predict_again_what_they_predicted_when_they_were_finished(study: Study) -> None:
    data, plans, images, folder = study
    predictions = collect(folder / "runs", names=planned_runs(plans)).predictions
    rows = np.flatnonzero(data.table.split != "train")
    for target in ("area", "log2_magnification"):
        found = predict_images(
            plans[0].network, "pruned", {"a": images[rows[:5]], "b": images[rows[5:]]}, folder / "runs", data.table,
            seeds=plans[0].seeds, target=target,
        )  # fmt: skip
        assert [found["a"].shape, found["b"].shape] == [(2, 5), (2, len(rows) - 5)]
        for place, seed in enumerate(plans[0].seeds):
            mine = (predictions.row == "pruned") & (predictions.target == target) & (predictions.seed == seed)
            own = predictions[mine].set_index("image")
            stored = own.predicted.loc[data.table.image.iloc[rows]].to_numpy()
            again = np.concatenate([found["a"][place], found["b"][place]])
            assert again == pytest.approx(
                stored, rel=1e-4, abs=1e-4 * np.ptp(target_values(data.table, target))
            )


def test_a_run_that_is_not_finished_is_named(study: Study) -> None:
    data, plans, images, folder = study
    with pytest.raises(ResultsError, match="no finished run tiny_pruned_conv_pw_1_area_1005"):
        predict_images(
            plans[0].network,
            "pruned",
            {"a": images[:1]},
            folder / "runs",
            data.table,
            seeds=[1005],
            target="area",
        )


# what is told


def comparison(**changes) -> pd.DataFrame:
    rows = [
        {"network": n, "score": s, "first": "pruned", "second": o, "difference": -5.0 if s == "mae_px" else 0.1,
         "p_holm": 0.01}
        for n in ("a", "b") for s in ("mae_px", "kappa") for o in ("pretrained", "scratch")
    ]  # fmt: skip
    return pd.DataFrame(rows).assign(**changes)


def three() -> pd.DataFrame:
    curves = {"object scale in images": [0.1, 0.2, 0.9], "pixel pitch of images": [0.9, 0.5, 0.1],
              "magnification of tissue": [0.9, 0.5, 0.1]}  # fmt: skip
    return pd.DataFrame(
        [
            {"network": "a", "tap": t, "curve": c, "r2": v}
            for c, vs in curves.items()
            for t, v in zip("xyz", vs, strict=True)
        ]
    )


RUNS = pd.DataFrame(
    {"network": "a", "row": ["pretrained", "scratch", "pruned"], "parameters": [200, 200, 50], "seconds": 1800.0,
     "converged": [True, False, True]}
)  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "words", "headline"),
    [
        ({}, "better for a and b", "a and b of the 2"),
        ({"difference": 5.0}, "worse for a and b", "none of the 2"),
        (
            {"p_holm": 0.2},
            "not significantly different for a and b",
            "none of the 2",
        ),
    ],
)
def test_words_follow_from_sign_and_p(changes, words: str, headline: str) -> None:
    compared = comparison(**changes)
    assert transfer_answer(compared, score="mae_px", first="pruned", second="pretrained") == words
    if changes.get("difference") != 5.0:
        assert headline in str(answers(compared, three(), RUNS)["headline"])
    told = answers(compared, three(), RUNS)
    assert (told["late"], told["n_runs"], told["training_hours"], told["kept"]) == (
        1.0,
        3.0,
        1.5,
        "25 % of a",
    )


def test_each_network_stands_under_its_own_outcome() -> None:
    compared = comparison()
    compared.loc[compared.network == "a", "difference"] *= -1
    words = transfer_answer(compared, score="mae_px", first="pruned", second="scratch")
    assert words == "better for b; worse for a"


def test_holding_for_the_error_alone_is_not_holding_for_both() -> None:
    compared = comparison()
    compared.loc[(compared.network == "a") & (compared.score == "kappa"), "p_holm"] = 0.5
    assert "b of the 2" in str(answers(compared, three(), RUNS)["headline"])
    assert "a and b" not in str(answers(compared, three(), RUNS)["headline"])


def test_pixel_pitch_explains_tissue_where_its_best_tap_is_nearer() -> None:
    swapped = three().replace(
        {"curve": {"object scale in images": "pixel pitch of images",
                   "pixel pitch of images": "object scale in images"}}
    )  # fmt: skip
    assert "In 1 of 1" in str(answers(comparison(), three(), RUNS)["why"])
    assert "In 0 of 1" in str(answers(comparison(), swapped, RUNS)["why"])


def test_read_out_answers_report_on_test_what_validation_and_scale_chose() -> None:
    rows = [
        {"network": "n", "target": "area", "tap": tap, "split": split, "slide": "all", "mae_px": error,
         "kappa": 0.0, "chosen": tap == "a"}
        for split, errors in (("validation", (9, 3, 4, 5)), ("test", (9, 6, 5, 7)))
        for tap, error in zip(("mean", "a", "b", "c"), errors, strict=True)
    ]  # fmt: skip
    found = read_out_answers(mark_scale_choice(pd.DataFrame(rows), {"n": "c"})).iloc[0]
    assert (found.best_tap, found.best, found.scale_tap, found.scale) == ("a", 6, "c", 7)
    assert (found.last_tap, found["last"], found.mean_predictor, found.taps_apart) == ("c", 7, 9, 2)


def test_r2_is_that_of_the_definition() -> None:
    rng = np.random.default_rng(0)
    rows = pd.DataFrame(
        {"network": "n", "target": "area", "tap": "t", "split": ["test"] * 50 + ["validation"] * 9,
         "magnification": 10.0, "mean_area_px": rng.normal(50, 9, 59)}
    ).assign(predicted=lambda t: t.mean_area_px + rng.normal(0, 5, 59))  # fmt: skip
    test = rows[:50]
    expected = 1 - ((test.mean_area_px - test.predicted) ** 2).mean() / test.mean_area_px.var(ddof=0)
    assert held_out_r2(rows).r2.item() == pytest.approx(expected)


def test_three_curves_keep_only_taps_that_all_three_read() -> None:
    scale = pd.DataFrame(
        {"network": "n", "tap": ["a", "b", "a", "b"], "curve": ["w", "w", "shuffled measures", "shuffled measures"],
         "mean": [0.1, 0.2, 0.0, 0.0]}
    )  # fmt: skip
    pitch = pd.DataFrame({"network": "n", "tap": ["a", "a", "b", "c"], "r2_test": [0.2, 0.4, 0.5, 0.6]})
    tissue = pd.DataFrame(
        {"network": "n", "target": "log2_magnification", "tap": ["mean", "a", "c"], "r2": [0.0, 0.7, 0.8]}
    )
    found = three_curves(scale, pitch, tissue)
    assert found.tap.unique().tolist() == ["a"]
    assert found.r2.tolist() == pytest.approx([0.1, 0.3, 0.7])


def test_costs_are_shown_of_the_pruned_and_the_last_map() -> None:
    taps = [*"abcdefghi", "pre_softmax", "softmax"]
    assert cost_taps("b", taps) == ["b", "d", "g", "i"]


# pixel pitch


def test_windows_have_the_pitch_that_the_table_states() -> None:
    """Stripes of 12 px in the image are 12 / 2**octaves px apart in the window: read off the spectrum."""
    stripes = (127 + 100 * np.sin(2 * np.pi * np.arange(400) / 12)).astype(np.uint8)
    image = np.repeat(np.repeat(stripes[None, :, None], 400, axis=0), 3, axis=2)
    windows, table = downsampled_windows([image] * 30, size=96, most=3)
    spectrum = np.abs(np.fft.rfft(windows[:, 48, :, 0].astype(float) - 127, n=4096, axis=1))
    period = 4096 / spectrum.argmax(axis=1)
    expected = 12 / 2**table.log2_downsampling
    assert period == pytest.approx(expected.to_numpy(), rel=0.02)
    assert table.log2_downsampling.between(0, np.log2(3) + 0.02).all()
    assert np.ptp(table.log2_downsampling) > 1


def test_images_too_small_for_every_downsampling_are_left_out() -> None:
    """Else small images would be those of little downsampling, and size would give it away."""
    sizes = [200, 100] * 6
    images = [np.zeros((s, s, 3), np.uint8) for s in sizes]
    assert downsampled_windows(images, size=50, most=3)[1].image.tolist() == list(range(0, 12, 2))


@pytest.mark.parametrize(("size", "most"), [(0, 2), (16, 1), (16, float("nan")), (60, 3)])
def test_impossible_windows_are_refused(size: int, most: float) -> None:
    with pytest.raises(DataError, match="downsampled_windows"):
        downsampled_windows([np.zeros((100, 100, 3), np.uint8)] * 6, size=size, most=most)


# unseen images


def test_unseen_slides_are_estimated_at_known_downsamplings_and_noise_is_refused(study: Study) -> None:
    data, plans, _, folder = study
    estimator = fit_estimator(data, network=described(plans[0].network, "conv_pw_2"))
    noise = np.random.default_rng(0).integers(0, 255, (128, 128, 3), dtype=np.uint8)
    slide = f"slides/{data.table.slide[data.table.split == 'test'].iloc[0]}.svs"
    table, patches = unseen_images(
        [{"image": slide, "label": "slide", "downsample": [1, 4]}, {"image": noise, "label": "noise"}],
        estimator, root=folder,
    )  # fmt: skip
    assert table.image.tolist() == list(patches) == ["slide", "slide, 4 times smaller", "noise"]
    assert table.magnification.tolist()[:2] == [40.0, 10.0]
    assert np.isnan(table.magnification.iloc[2])
    assert table.refused.iloc[2].startswith("unlike")
    assert table.patches.tolist() == [len(own) for own in patches.values()]
    octaves = predict_images(
        plans[0].network, "pruned", patches, folder / "runs", data.table, seeds=plans[0].seeds
    )
    summary = summarize_images(octaves, 1.0)
    assert np.allclose(summary.transferred_high / summary.transferred_low, 4.0)


def test_reach_is_that_of_the_worst_slides_when_few_are_there() -> None:
    rows = pd.DataFrame(
        {
            "split": "validation", "slide": np.repeat([f"s{i}" for i in range(9)], 3), "magnification": 8.0,
            "image": [f"i{i}" for i in range(27)], "predicted": 3 + np.repeat(np.arange(1, 10) / 10, 3),
        }
    )  # fmt: skip
    assert slide_reach(rows, level=0.9) == pytest.approx(0.9)
    assert slide_reach(rows, level=0.5) == pytest.approx(0.5)
    assert slide_reach(rows[:6], level=0.9) == float("inf")
