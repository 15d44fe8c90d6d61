"""Each test of a claim on tables in which the claim holds, is refuted, or is left open."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from study_tables import corrected, layerwise

from scalebook.claims import PREDICATES
from scalebook.predicates import Evidence, MissingRows, Verdict, number
from scalelib.errors import ResultsError
from scalelib.statistics import sign_flip_test

LOW, MID, HIGH = [0.10, 0.12, 0.14], [0.40, 0.44, 0.42], [0.80, 0.78, 0.82]


def judged(name: str, rows: pd.DataFrame, *, trained: str = "imagenet", tables=None, **arguments) -> Verdict:
    return PREDICATES[name](
        Evidence(trained, rows, tables or {}, network="net", everything=rows), **arguments
    )


class TestInteriorPeak:
    ENDS = ("first", "pre_softmax")

    def test_holds_with_the_smallest_difference_and_its_corrected_interval(self):
        rows = layerwise({"a": LOW, "b": HIGH, "c": MID, "pre_softmax": MID, "softmax": LOW})
        verdict = judged("interior_peak", rows, significant_below_peak=self.ENDS)
        mean, low, high = corrected(np.subtract(HIGH, MID))
        assert verdict.status == "reproduced"
        assert (verdict.effect, verdict.low, verdict.high) == pytest.approx((mean, low, high))
        assert "b above a" in verdict.evidence

    @pytest.mark.parametrize("end", ["a", "pre_softmax", "softmax"])
    def test_peak_at_an_end_refutes_and_shows_the_best_inside(self, end):
        taps = {"a": LOW, "b": MID, "c": LOW, "pre_softmax": LOW, "softmax": LOW}
        verdict = judged("interior_peak", layerwise(taps | {end: HIGH}), significant_below_peak=self.ENDS)
        assert verdict.status == "not reproduced"
        assert f"best tap is {end}" in verdict.evidence
        assert verdict.effect == pytest.approx(np.mean(MID) - np.mean(HIGH))

    def test_peak_within_the_noise_of_an_end_is_open(self):
        noisy = {"a": LOW, "b": [0.9, 0.1, 0.5], "pre_softmax": [0.1, 0.9, 0.3]}
        verdict = judged("interior_peak", layerwise(noisy), significant_below_peak=self.ENDS)
        assert verdict.status == "inconclusive"
        assert verdict.low < 0 < verdict.effect

    def test_tie_with_the_first_tap_goes_to_the_earlier_and_refutes(self):
        rows = layerwise({"a": HIGH, "b": HIGH, "pre_softmax": LOW})
        assert judged("interior_peak", rows, significant_below_peak=self.ENDS).status == "not reproduced"

    def test_network_without_logits_is_not_run_unless_its_first_tap_is_best(self):
        with pytest.raises(MissingRows, match="not read at pre_softmax"):
            judged(
                "interior_peak", layerwise({"a": LOW, "b": HIGH, "c": MID}), significant_below_peak=self.ENDS
            )
        rows = layerwise({"a": HIGH, "b": LOW, "c": MID})
        assert judged("interior_peak", rows, significant_below_peak=self.ENDS).status == "not reproduced"

    def test_one_repeat_decides_nothing(self):
        rows = layerwise({"a": [0.1], "b": [0.9], "pre_softmax": [0.2]})
        assert judged("interior_peak", rows, significant_below_peak=self.ENDS).status == "inconclusive"


def projected(taps: dict[str, list[float]], widths: dict[str, int]) -> dict[str, pd.DataFrame]:
    rows = layerwise(taps)
    parts = [rows.assign(draw=draw, width=rows.tap.map(widths), r2_test=rows.r2_test + d)
             for draw, d in enumerate((-0.01, 0.01))]  # fmt: skip
    return {"equal_width": pd.concat(parts, ignore_index=True)}


class TestDrop:
    def test_holds_with_the_paired_interval(self):
        rows = layerwise({"a": LOW, "b": HIGH, "c": MID, "pre_softmax": LOW})
        verdict = judged("drop", rows, start="peak", end="last_feature")
        assert verdict.status == "reproduced"
        assert (verdict.effect, verdict.low, verdict.high) == pytest.approx(corrected(np.subtract(HIGH, MID)))
        assert "b 0.80, c 0.42" in verdict.evidence

    def test_target_that_is_the_peak_refutes(self):
        rows = layerwise({"a": LOW, "b": MID, "c": HIGH})
        assert judged("drop", rows, start="peak", end="last_feature").status == "not reproduced"

    def test_logits_significantly_above_every_feature_tap_refute(self):
        rows = layerwise({"a": LOW, "b": MID, "pre_softmax": HIGH})
        verdict = judged("drop", rows, start="peak", end="pre_softmax")
        assert verdict.status == "not reproduced"
        assert verdict.high < 0

    def test_noise_leaves_it_open(self):
        rows = layerwise({"a": [0.9, 0.2, 0.6], "b": LOW, "c": [0.2, 0.9, 0.3]})
        assert judged("drop", rows, start="peak", end="last_feature").status == "inconclusive"

    def test_equal_width_reads_the_projected_table_and_averages_its_draws(self):
        tables = projected({"a": LOW, "b": HIGH, "c": MID}, {"a": 64, "b": 64, "c": 64})
        verdict = judged(
            "drop", layerwise({"a": LOW}), start="peak", end="last_feature", equal_width=True, tables=tables
        )
        assert (verdict.effect, verdict.low, verdict.high) == pytest.approx(corrected(np.subtract(HIGH, MID)))
        assert "64 dimensions" in verdict.evidence

    def test_narrow_taps_are_no_peak_at_equal_width(self):
        tables = projected({"a": HIGH, "b": MID, "c": LOW}, {"a": 16, "b": 64, "c": 64})
        verdict = judged(
            "drop", layerwise({"a": LOW}), start="peak", end="last_feature", equal_width=True, tables=tables
        )
        assert verdict.evidence.startswith("b 0.42")

    def test_target_narrower_than_the_common_width_is_not_run_and_says_so(self):
        tables = projected({"a": HIGH, "b": MID, "pre_softmax": LOW}, {"a": 32, "b": 32, "pre_softmax": 10})
        with pytest.raises(
            MissingRows, match="pre_softmax has 10 dimensions, fewer than the common width of 32"
        ):
            judged(
                "drop",
                layerwise({"a": LOW}),
                start="peak",
                end="pre_softmax",
                equal_width=True,
                tables=tables,
            )

    def test_missing_tap_or_table_is_not_run(self):
        with pytest.raises(MissingRows, match="not read at pre_softmax"):
            judged("drop", layerwise({"a": LOW, "b": MID}), start="peak", end="pre_softmax")
        with pytest.raises(MissingRows, match="no rows"):
            judged("drop", layerwise({"a": LOW}), start="peak", end="first", equal_width=True)

    def test_other_start_is_refused(self):
        with pytest.raises(ResultsError, match="starts at the peak"):
            judged("drop", layerwise({"a": LOW}), start="first", end="last_feature")


class TestAtMost:
    @pytest.mark.parametrize(
        ("values", "status"),
        [(LOW, "not reproduced"), ([-0.1, -0.2, -0.3], "reproduced"), ([-0.5, 0.4, 0.3], "inconclusive")],
        ids=["significantly above", "below", "above within noise"],
    )
    def test_status_follows_mean_and_lower_limit(self, values, status):
        verdict = judged("at_most", layerwise({"a": values, "b": HIGH}), tap="first", value=0.0)
        assert verdict.status == status
        assert (verdict.effect, verdict.low, verdict.high) == pytest.approx(corrected(values))

    def test_estimator_is_respected(self):
        rows = pd.concat(
            [layerwise({"softmax": HIGH}), layerwise({"softmax": [-9e5, -1e6, -2e6]}, estimator="ols")]
        )
        verdict = judged("at_most", rows, tap="softmax", value=0.0, estimator="ols")
        assert verdict.status == "reproduced"
        assert "−1.3×10⁶" in verdict.evidence

    def test_network_without_the_tap_is_not_run(self):
        with pytest.raises(MissingRows, match="not read at softmax"):
            judged("at_most", layerwise({"a": LOW}), tap="softmax", value=0.0)


class TestAtMostEverywhere:
    def test_shuffled_rows_of_trained_weights_count(self):
        rows = pd.concat([layerwise({"a": HIGH}), layerwise({"a": [-0.1, -0.2, 0.0]}, condition="shuffled")])
        verdict = judged("at_most_everywhere", rows, condition="shuffled", value=0.0)
        assert verdict.status == "reproduced"
        assert verdict.effect == pytest.approx(-0.1)

    def test_random_weights_have_the_seed_as_unit(self):
        seeds = [
            layerwise({"a": [v], "b": [0.0]}, weights="random", seeds=[s])
            for s, v in enumerate((0.2, 0.3, 0.4))
        ]
        verdict = judged("at_most_everywhere", pd.concat(seeds), value=0.1)
        assert (verdict.effect, verdict.low, verdict.high) == pytest.approx(
            corrected([0.2, 0.3, 0.4], share=0)
        )
        assert verdict.status == "inconclusive"

    def test_one_tap_significantly_above_refutes_even_if_a_noisier_tap_is_higher(self):
        rows = layerwise({"sure": [0.30, 0.31, 0.32], "noisy": [1.0, 0.0, 0.5]}, condition="shuffled")
        verdict = judged("at_most_everywhere", rows, condition="shuffled", value=0.0)
        assert verdict.status == "not reproduced"
        assert "Highest at sure" in verdict.evidence
        assert "1 of 2 taps" in verdict.evidence

    def test_no_shuffled_rows_is_not_run(self):
        with pytest.raises(MissingRows, match="shuffled"):
            judged("at_most_everywhere", layerwise({"a": LOW}), condition="shuffled", value=0.0)


class TestBeats:
    TAPS = ("a", "b", "c", "softmax")

    def table(self, trained: dict[str, list[float]], untrained: dict[str, list[float]]) -> pd.DataFrame:
        random = [
            layerwise(
                {tap: [values[seed]] * 3 for tap, values in untrained.items()}, weights="random", seeds=[seed]
            )
            for seed in range(3)
        ]
        return pd.concat([layerwise(trained), *random], ignore_index=True)

    def test_interval_adds_the_variance_of_repeats_and_of_seeds(self):
        seeds = [0.0, 0.1, 0.2]
        rows = self.table(dict.fromkeys(self.TAPS, HIGH), dict.fromkeys(self.TAPS, seeds))
        verdict = judged("beats", rows, other="random", from_depth=0.5, exclude=["softmax"])
        error = np.sqrt((1 / 3 + 3 / 7) * np.var(HIGH, ddof=1) + np.var(seeds, ddof=1) / 3)
        assert verdict.effect == pytest.approx(0.7)
        assert verdict.low == pytest.approx(0.7 - 4.302653 * error)
        assert verdict.status == "reproduced"
        assert "1 of 1 taps" in verdict.evidence or "2 of 2 taps" in verdict.evidence

    def test_taps_before_the_depth_and_excluded_ones_do_not_count(self):
        trained = {"a": LOW, "b": HIGH, "c": HIGH, "softmax": LOW}
        rows = self.table(trained, {"a": [0.9] * 3, "b": [0.0] * 3, "c": [0.0] * 3, "softmax": [0.9] * 3})
        assert (
            judged("beats", rows, other="random", from_depth=0.3, exclude=["softmax"]).status == "reproduced"
        )

    def test_one_tap_significantly_worse_refutes_and_is_named(self):
        rows = self.table(
            dict.fromkeys(self.TAPS, MID),
            {"a": [0] * 3, "b": [0] * 3, "c": [0.9, 0.91, 0.92], "softmax": [0] * 3},
        )
        verdict = judged("beats", rows, other="random", from_depth=0.3, exclude=["softmax"])
        assert verdict.status == "not reproduced"
        assert "least at c" in verdict.evidence

    def test_seeds_that_differ_widely_leave_it_open(self):
        rows = self.table(dict.fromkeys(self.TAPS, HIGH), {tap: [0.0, 0.9, 0.1] for tap in self.TAPS})
        assert judged("beats", rows, other="random", from_depth=0.0).status == "inconclusive"

    def test_without_random_weights_or_with_fewer_taps_it_is_not_run(self):
        with pytest.raises(MissingRows, match="random"):
            judged("beats", layerwise({"a": LOW}), other="random", from_depth=0.5)
        rows = self.table({"a": LOW, "b": HIGH}, {"a": [0.0] * 3})
        with pytest.raises(MissingRows, match="not read at b"):
            judged("beats", rows, other="random", from_depth=0.5)


ORDER = {"order": ["imagenet", "random", "shuffled"], "estimator": "ols", "statistic": "paper_label"}


class TestPeakOrder:
    def table(self, trained: float, random: float, shuffled: float) -> pd.DataFrame:
        one = {"estimator": "ols", "spread": 0.0}
        return pd.concat([
            layerwise({"a": [-5.0] * 2, "b": [trained] * 2}, **one),
            layerwise({"a": [random] * 2, "b": [-9.0] * 2}, weights="random", seeds=[0, 1], **one),
            layerwise({"a": [shuffled] * 2}, condition="shuffled", **one),
        ])  # fmt: skip

    def test_order_holds_and_the_smallest_step_is_the_effect(self):
        verdict = judged("peak_order", self.table(0.8, 0.2, -0.5), **ORDER)
        assert verdict.status == "reproduced"
        assert verdict.effect == pytest.approx(0.6)  # without spread the label is R² itself
        assert "trained weights 0.80 at b" in verdict.evidence

    @pytest.mark.parametrize("values", [(0.2, 0.8, -0.5), (0.8, -0.6, -0.5), (0.8, 0.2, 0.3)])
    def test_any_other_order_refutes(self, values):
        assert judged("peak_order", self.table(*values), **ORDER).status == "not reproduced"


class TestChosenInside:
    @pytest.mark.parametrize(
        ("depths", "status"),
        [((0.8, 0.9), "reproduced"), ((0.8, 1.0), "inconclusive"), ((1.0, 1.0), "not reproduced"), ((0.5, 0.2), "not reproduced")],
    )  # fmt: skip
    def test_status_follows_both_halves(self, depths, status):
        rows = pd.DataFrame(
            {"network": "net", "weights": "imagenet", "half": [1, 2], "tap": ["x", "y"], "depth": depths}
        )
        assert judged("chosen_inside", rows, after_depth=0.5).status == status


class TestAgreement:
    def rows(self, shares: dict[float, float], n: int = 400) -> pd.DataFrame:
        both = [
            pd.DataFrame(
                {"pictures": p, "manipulation": m, "factor": list(shares), "n": n // 2, "agreement": values}
            )
            for p in ("photos", "samples")
            for m, values in (("resize", list(shares.values())), ("zoom", 0.0))
        ]
        return pd.concat(both).assign(network="net", weights="imagenet")

    def test_sizes_outside_the_range_and_other_manipulations_do_not_count(self):
        rows = self.rows({0.25: 0.0, 0.75: 0.8, 1.0: 1.0, 1.5: 0.7, 2.0: 0.1})
        verdict = judged("agreement", rows, within=(0.75, 1.5), at_least=0.5)
        z = 1.959964
        middle, half = (
            (0.7 + z**2 / 800) / (1 + z**2 / 400),
            z * np.sqrt(0.21 / 400 + z**2 / 4 / 400**2) / (1 + z**2 / 400),
        )
        assert verdict.status == "reproduced"
        assert (verdict.effect, verdict.low, verdict.high) == pytest.approx(
            (0.7, middle - half, middle + half), abs=1e-5
        )

    @pytest.mark.parametrize(
        ("share", "status"), [(0.30, "not reproduced"), (0.49, "inconclusive"), (0.50, "reproduced")]
    )
    def test_threshold(self, share, status):
        verdict = judged("agreement", self.rows({0.75: share, 1.25: 0.9}), within=(0.75, 1.5), at_least=0.5)
        assert verdict.status == status
        assert "0.75 times the size" in verdict.evidence


class TestPatternWithoutObject:
    def rows(self, pattern: dict[str, list[float]], **labels) -> pd.DataFrame:
        one = {"spread": 0.0, "classes": ["blob"]}
        parts = [
            layerwise(pattern, measure="correlation_length", **one),
            layerwise({"a": LOW, "b": LOW}, measure="canvas_size", **one),
        ]
        return pd.concat(parts).drop(columns="object_class").assign(kind="blob", region="whole map", **labels)

    @pytest.mark.parametrize(
        ("pattern", "status"),
        [({"a": LOW, "b": HIGH}, "reproduced"), ({"a": LOW, "b": MID}, "not reproduced"), ({"a": [0.9, 0.1, 0.4]}, "inconclusive")],
    )  # fmt: skip
    def test_best_tap_against_the_threshold(self, pattern, status):
        threshold = 0.6 if status == "not reproduced" else 0.5
        verdict = judged("pattern_read_without_object", self.rows(pattern), at_least=threshold)
        assert verdict.status == status
        assert "canvas size at a" in verdict.evidence

    def test_other_noise_and_border_free_maps_do_not_count(self):
        rows = pd.concat(
            [
                self.rows({"a": MID}),
                self.rows(
                    {"a": HIGH},
                ).assign(region="border-free"),
                self.rows({"a": HIGH}).assign(kind="white"),
            ]
        )
        assert judged("pattern_read_without_object", rows, at_least=0.42).effect == pytest.approx(0.42)


def test_sums_that_agree_and_sums_that_do_not():
    rows = pd.DataFrame(
        {
            "line": ["row", "column"],
            "name": ["test", "5X"],
            "printed": [10, 7],
            "sum": [10, 7],
            "difference": 0,
        }
    )
    assert judged("sums_agree", rows).status == "reproduced"
    rows.loc[0, ["sum", "difference"]] = 12, 2
    verdict = judged("sums_agree", rows)
    assert verdict.status == "not reproduced"
    assert "row test sums to 12, printed 10" in verdict.evidence


SLIDES = [f"s{i}" for i in range(10)]


def transfer(gains: dict[str, float], *, network: str = "net", converged: bool = True) -> pd.DataFrame:
    """Scores over ten slides and two seeds; a row is better than the pretrained one by its gain, in px and in hundredths."""
    records = [
        {"network": network, "row": row, "tap": "t", "target": "area", "seed": seed, "slide": slide, "converged": converged,
         "mae_px": 100 - gain + seed + i, "kappa": 0.5 + gain / 100 + i / 50 + seed / 100}
        for row, gain in gains.items() for seed in (0, 1) for i, slide in enumerate(["all", *SLIDES])
    ]  # fmt: skip
    return pd.DataFrame(records)


class TestRowBeats:
    @pytest.mark.parametrize("score", ["mae_px", "kappa"])
    @pytest.mark.parametrize(("gain", "status"), [(20, "reproduced"), (-20, "not reproduced")])
    def test_smaller_error_and_higher_kappa_are_better(self, score, gain, status):
        rows = transfer({"pruned": gain, "pretrained": 0, "scratch": 1})
        verdict = judged("row_beats", rows, row="pruned", other="pretrained", score=score)
        assert verdict.status == status
        assert abs(verdict.effect) == pytest.approx(20 if score == "mae_px" else 0.2)
        assert "10 slides, 2 seeds" in verdict.evidence

    def test_holm_runs_over_networks_and_scores(self):
        mine = transfer({"pruned": 20, "pretrained": 0, "scratch": 1})
        other = transfer({"pruned": 20, "pretrained": 0, "scratch": 1}, network="other")
        both = pd.concat([mine, other])
        test = PREDICATES["row_beats"]
        verdict = test(
            Evidence("imagenet", mine, network="net", everything=both),
            row="pruned",
            other="scratch",
            score="mae_px",
        )
        assert (
            f"p {8 * sign_flip_test(np.ones(10)):.3f}" in verdict.evidence
        )  # 2 networks × 2 scores × 2 pairs

    def test_no_difference_is_open(self):
        rows = transfer({"pruned": 0, "pretrained": 0, "scratch": 1})
        assert (
            judged("row_beats", rows, row="pruned", other="pretrained", score="mae_px").status
            == "inconclusive"
        )

    def test_row_that_has_not_converged_decides_nothing(self):
        rows = transfer({"pruned": 20, "pretrained": 0, "scratch": 1})
        rows.loc[(rows.row == "pretrained") & (rows.seed == 1), "converged"] = False
        verdict = judged("row_beats", rows, row="pruned", other="pretrained", score="mae_px")
        assert verdict.status == "inconclusive"
        assert "not converged: pretrained" in verdict.evidence

    def test_missing_row_is_not_run_and_missing_column_is_refused(self):
        with pytest.raises(MissingRows, match="pruned"):
            judged(
                "row_beats",
                transfer({"pretrained": 0, "scratch": 1}),
                row="pruned",
                other="scratch",
                score="kappa",
            )
        rows = transfer({"pruned": 20, "pretrained": 0, "scratch": 1}).drop(columns="converged")
        with pytest.raises(ResultsError, match="'converged'"):
            judged("row_beats", rows, row="pruned", other="scratch", score="kappa")


class TestChosenTapNearBest:
    def rows(self, errors: dict[str, float], chosen: str) -> pd.DataFrame:
        records = [
            {"network": "net", "target": "area", "tap": tap, "split": split, "slide": slide, "mae_px": error + i,
             "kappa": 1 - error / 100 - i / 100, "scale_chosen": tap == chosen}
            for tap, error in {"mean": 5, **errors}.items() for split in ("validation", "test") for i, slide in enumerate(["all", *SLIDES])
        ]  # fmt: skip
        return pd.DataFrame(records)

    @pytest.mark.parametrize(
        ("best", "gain", "status"),
        [("c", 9, "reproduced"), ("a", 9, "not reproduced"), ("a", 0, "reproduced"), ("d", 5, "reproduced")],
        ids=[
            "two taps away",
            "three away and better",
            "no better than the chosen: the first is named",
            "itself",
        ],
    )
    def test_distance_and_gain_decide_together(self, best, gain, status):
        errors = {"a": 50.0, "b": 50.0, "c": 50.0, "d": 50.0, "e": 50.0}
        errors[best] -= gain
        if best == "a" and gain == 0:
            errors["d"] -= 1
        if best == "c":
            errors["c"] -= 1
        verdict = judged("chosen_tap_near_best", self.rows(errors, "d"), taps_apart=2)
        assert verdict.status == status

    def test_far_but_no_better_on_test_slides_is_open(self):
        rows = self.rows({"a": 40.0, "b": 50.0, "c": 50.0, "d": 50.0}, "d")
        test = (rows.split == "test") & (rows.tap == "a")
        rows.loc[test, "mae_px"] += 10
        rows.loc[test, "kappa"] -= 0.1
        verdict = judged("chosen_tap_near_best", rows, taps_apart=2)
        assert verdict.status == "inconclusive"
        assert verdict.effect == 3

    def test_no_chosen_tap_is_not_run(self):
        with pytest.raises(MissingRows, match="there are 0"):
            judged("chosen_tap_near_best", self.rows({"a": 1.0}, "z"), taps_apart=2)


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0.00"), (-0.125, "−0.12"), (1234.5, "1,234"), (-4.2e13, "−4.2×10¹³")]
)
def test_numbers_in_sentences(value, text):
    assert number(value) == text
