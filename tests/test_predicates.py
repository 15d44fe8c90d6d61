"""Each test of a claim on tables in which the claim holds, is refuted, or is left open."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from study_tables import HIGH, LOW, MID, corrected, layerwise

from scalebook.exact_tests import sign_flip_test
from scalebook.predicates import PREDICATES, Evidence, MissingRows, Verdict, number
from scalelib.errors import ResultsError

YES, NO, OPEN, NULL = "holds", "does not hold", "undecided", "not contradicted"
PEAK = ("interior_peak", {"significant_below_peak": ("first", "pre_softmax")})
FALL = ("drop", {"start": "peak", "end": "last_feature"})
LOGITS = ("drop", {"start": "peak", "end": "pre_softmax"})
FIRST = ("at_most", {"tap": "first", "value": 0.0})
SHUFFLED = ("at_most_everywhere", {"condition": "shuffled", "value": 0.0})
ORDER = ("peak_order", {"order": ["imagenet", "random", "shuffled"], "estimator": "ols", "statistic": "paper_label"})  # fmt: skip
PATTERN = "pattern_read_without_object"
INSIDE = ("chosen_inside", {"after_depth": 0.5})
NEAR = ("chosen_tap_near_best", {"taps_apart": 2})
ERASED = ("erased", {"end": "last_feature"})
GROWS = ("fall_grows", {"top1": {"p": 50.0, "q": 60.0, "r": 70.0, "s": 80.0}, "end": "last_feature"})
FURTHER = ("falls_further", {"than": "one scale", "end": "pre_softmax"})
FORETOLD = ("worst_where_foretold", {"taps": ["mixed0", "mixed1"], "within": 1.25})
BEATS = ("beats", {"other": "random", "from_depth": 0.3, "exclude": ["softmax"]})


def judged(test: tuple[str, dict], rows: pd.DataFrame, *, everything=None, **tables: pd.DataFrame) -> Verdict:
    name, arguments = test
    every = rows if everything is None else everything
    return PREDICATES[name](Evidence("imagenet", rows, tables, network="net", everything=every), **arguments)


def against_random(trained: dict[str, list[float]], seeds: dict[str, list[float]]) -> pd.DataFrame:
    random = [
        layerwise({tap: [values[seed]] * 3 for tap, values in seeds.items()}, weights="random", seeds=[seed])
        for seed in range(3)
    ]
    return pd.concat([layerwise(trained), *random], ignore_index=True)


def halves(*depths: float) -> pd.DataFrame:
    return pd.DataFrame({"weights": "imagenet", "half": [1, 2], "tap": ["x", "y"], "depth": depths})


def blobs(taps: dict[str, list[float]]) -> pd.DataFrame:
    """Rows of noise in blobs; those of its border-free part and of white noise must not count."""
    one = {"spread": 0.0, "classes": ["blob"]}
    canvas = layerwise({"a": LOW, "b": LOW}, measure="canvas_size", **one)
    rows = pd.concat([layerwise(taps, measure="correlation_length", **one), canvas])
    rows, perfect = rows.assign(kind="blob", region="whole map"), rows.assign(r2_test=1.0)
    others = (
        perfect.assign(kind="blob", region="border-free"),
        perfect.assign(kind="white", region="whole map"),
    )
    return pd.concat([rows, *others])


def peaks(trained: float, random: float, shuffled: float) -> pd.DataFrame:
    """Best taps of three curves without spread, so that a label is R² itself."""
    one = {"estimator": "ols", "spread": 0.0}
    return pd.concat([
        layerwise({"a": [-5.0] * 2, "b": [trained] * 2}, **one),
        layerwise({"a": [random] * 2, "b": [-9.0] * 2}, weights="random", seeds=[0, 1], **one),
        layerwise({"a": [shuffled] * 2}, condition="shuffled", **one),
    ])  # fmt: skip


def sums(*differences: int) -> pd.DataFrame:
    rows = pd.DataFrame({"line": ["row", "column"], "name": ["test", "5X"], "printed": [10, 7]})
    return rows.assign(sum=rows.printed + list(differences), difference=differences)


def two_readings(free: dict[str, list[float]], unscaled: dict[str, list[float]]) -> pd.DataFrame:
    return pd.concat([layerwise(free), layerwise(unscaled, estimator="ridge_unscaled")])


def falling(falls: dict[str, float], weights: str = "imagenet, rounded") -> pd.DataFrame:
    """Networks that fall by so much from their peak to their last features, without spread."""
    one = {"weights": weights, "spread": 0.0}
    parts = [
        layerwise({"a": [0.0] * 2, "b": [0.8] * 2, "c": [0.8 - fall] * 2}, network=name, **one)
        for name, fall in falls.items()
    ]
    return pd.concat(parts, ignore_index=True)


def twins(all_scales: list[float], one_scale: list[float]) -> pd.DataFrame:
    """Both have 0.9 at their peak; the values are those at their logits, by repeat."""
    ends = {"imagenet": all_scales, "one scale": one_scale}
    return pd.concat(
        [layerwise({"a": LOW, "b": [0.9] * 3, "pre_softmax": end}, weights=w) for w, end in ends.items()]
    )


def troughs(*ratios: float, peaked: bool = True, covered: bool = True) -> pd.DataFrame:
    rows = pd.DataFrame(
        {"tap": [f"mixed{i}" for i in range(len(ratios))], "channels": 287, "trough_r2": -9.0}
    )
    return rows.assign(
        trough_n=[288 * ratio for ratio in ratios], peaked=peaked, covered=covered, weights="imagenet"
    )


SLIDES = ["all", *(f"s{i}" for i in range(10))]


def transfer(gain: float, *, network: str = "net", late: str = "") -> pd.DataFrame:
    """Scores over ten slides and two seeds; the pruned row is better by its gain, in px and in hundredths."""
    records = [
        {"network": network, "row": row, "tap": "t", "target": "area", "seed": seed, "slide": slide,
         "converged": (row, seed) != (late, 1),
         "mae_px": 100 - better + seed + i, "kappa": 0.5 + better / 100 + i / 50 + seed / 100}
        for row, better in {"pruned": gain, "pretrained": 0, "scratch": 1}.items() for seed in (0, 1)
        for i, slide in enumerate(SLIDES)
    ]  # fmt: skip
    return pd.DataFrame(records)


def beats_row(score: str, other: str = "pretrained") -> tuple[str, dict]:
    return "row_beats", {"row": "pruned", "other": other, "score": score}


def read_outs(errors: dict[str, float], chosen: str = "d", worse_on_test: str = "") -> pd.DataFrame:
    """Scores of taps in the network's order; one of them may be worse by ten on test slides."""
    records = [
        {"network": "net", "target": "area", "tap": tap, "split": split, "slide": slide, "mae_px": error + late + i,
         "kappa": 1 - (error + late + i) / 100, "scale_chosen": tap == chosen}
        for tap, error in {"mean": 5, **dict.fromkeys("abcd", 50.0), **errors}.items() for split in ("validation", "test")
        for late in [10 * ((split, tap) == ("test", worse_on_test))] for i, slide in enumerate(SLIDES)
    ]  # fmt: skip
    return pd.DataFrame(records)


EVERY = ("a", "b", "c", "softmax")
NOISY = {"a": LOW, "b": [0.9, 0.1, 0.5], "pre_softmax": [0.1, 0.9, 0.3]}
WORSE_AT_C = {"a": [0] * 3, "b": [0] * 3, "c": [0.9, 0.91, 0.92], "softmax": [0] * 3}
ONLY_LATE = {"a": [0.9] * 3, "b": [0.0] * 3, "c": [0.0] * 3, "softmax": [0.9] * 3}
ONE_SURE = {"sure": [0.30, 0.31, 0.32], "noisy": [1.0, 0.0, 0.5]}
CASES = {
    "peak inside": (PEAK, {"a": LOW, "b": HIGH, "c": MID, "pre_softmax": MID, "softmax": LOW}, YES, "b above a"),
    "peak first": (PEAK, {"a": HIGH, "b": MID, "c": LOW, "pre_softmax": LOW}, NO, "best tap is a"),
    "peak at the logits": (PEAK, {"a": LOW, "b": MID, "pre_softmax": HIGH}, NO, "best tap is pre_softmax"),
    "peak behind the softmax": (PEAK, {"a": LOW, "b": MID, "pre_softmax": LOW, "softmax": HIGH}, NO, "best inside, b"),
    "peak within noise": (PEAK, NOISY, OPEN, "b above"),
    "a tie goes to the earlier": (PEAK, {"a": HIGH, "b": HIGH, "pre_softmax": LOW}, NO, "best tap is a"),
    "no logits, but best first": (PEAK, {"a": HIGH, "b": LOW, "c": MID}, NO, "best tap is a"),
    "one repeat": (PEAK, {"a": [0.1], "b": [0.9], "pre_softmax": [0.2]}, OPEN, ""),
    "fall": (FALL, {"a": LOW, "b": HIGH, "c": MID, "pre_softmax": LOW}, YES, "b 0.80, c 0.42"),
    "no fall": (FALL, {"a": LOW, "b": MID, "c": HIGH}, NO, "c is itself the peak"),
    "logits above": (LOGITS, {"a": LOW, "b": MID, "pre_softmax": HIGH}, NO, "b 0.42, pre_softmax 0.80"),
    "fall within noise": (FALL, {"a": [0.9, 0.2, 0.6], "b": LOW, "c": [0.2, 0.9, 0.3]}, OPEN, ""),
    "first significantly above": (FIRST, {"a": LOW, "b": HIGH}, NO, "a: mean R²"),
    "first below": (FIRST, {"a": [-0.1, -0.2, -0.3], "b": HIGH}, NULL, ""),
    "first above within noise": (FIRST, {"a": [-0.5, 0.4, 0.3], "b": HIGH}, OPEN, ""),
    "none above": (SHUFFLED, layerwise({"a": [-0.1, -0.2, 0.0]}, condition="shuffled"), NULL, "at a: −0.10"),
    "one sure tap above": (SHUFFLED, layerwise(ONE_SURE, condition="shuffled"), NO, "at sure: 0.31"),
    "late taps count": (BEATS, against_random({"a": LOW, "b": HIGH, "c": HIGH, "softmax": LOW}, ONLY_LATE), YES, "2 of 2"),
    "one tap is worse": (BEATS, against_random(dict.fromkeys(EVERY, MID), WORSE_AT_C), NO, "least at c"),
    "seeds differ": (BEATS, against_random(dict.fromkeys(EVERY, HIGH), {tap: [0, 0.9, 0.1] for tap in EVERY}), OPEN, ""),
    "three peaks in order": (ORDER, peaks(0.8, 0.2, -0.5), YES, "ImageNet weights 0.80 at b"),
    "random above trained": (ORDER, peaks(0.2, 0.8, -0.5), NO, ""),
    "random below shuffled": (ORDER, peaks(0.8, -0.6, -0.5), NO, ""),
    "shuffled above random": (ORDER, peaks(0.8, 0.2, 0.3), NO, ""),
    "chosen inside by both halves": (INSIDE, halves(0.8, 0.9), YES, ""),
    "chosen inside by one half": (INSIDE, halves(0.8, 1.0), OPEN, ""),
    "chosen last": (INSIDE, halves(1.0, 1.0), NO, ""),
    "chosen early": (INSIDE, halves(0.5, 0.2), NO, ""),
    "pattern read": ((PATTERN, {"at_least": 0.5}), blobs({"a": LOW, "b": HIGH}), YES, "canvas size at a"),
    "pattern not read": ((PATTERN, {"at_least": 0.6}), blobs({"a": LOW, "b": MID}), NO, ""),
    "pattern within noise": ((PATTERN, {"at_least": 0.5}), blobs({"a": [0.9, 0.1, 0.4]}), OPEN, ""),
    "pattern read within noise": ((PATTERN, {"at_least": 0.4}), blobs({"a": [0.9, 0.1, 0.4]}), NULL, ""),
    "sums agree": (("sums_agree", {}), sums(0, 0), YES, ""),
    "a sum that does not": (("sums_agree", {}), sums(2, 0), NO, "row test sums to 12, printed 10"),
    "erased": (ERASED, two_readings({"a": LOW, "b": HIGH, "c": MID}, {"a": LOW, "b": HIGH, "c": LOW}), YES, "Free of units: b 0.80, c 0.42"),
    "turned down": (ERASED, two_readings({"a": LOW, "b": MID, "c": HIGH}, {"a": LOW, "b": HIGH, "c": LOW}), NO, "c is itself the peak"),
    "neither for sure": (ERASED, two_readings({"a": LOW, "b": [0.9, 0.1, 0.5], "c": [0.1, 0.9, 0.3]}, {"a": LOW, "c": HIGH}), OPEN, ""),
    "the better fall more": (GROWS, falling({"p": 0.0, "q": 0.1, "r": 0.2, "s": 0.3}), YES, "1.00 over 4 networks, exact p 0.042"),
    "but for two": (GROWS, falling({"p": 0.0, "q": 0.2, "r": 0.1, "s": 0.3}), OPEN, "exact p 0.167"),
    "the better fall less": (GROWS, falling({"p": 0.3, "q": 0.1, "r": 0.1, "s": 0.0}), NO, "p (50.0 %) 0.30"),
    "falls further": (FURTHER, twins(LOW, MID), YES, "trained at one scale 0.48 from b; 0.30"),
    "falls less far": (FURTHER, twins(MID, LOW), NO, ""),
    "falls alike": (FURTHER, twins(LOW, [0.1, 0.2, 0.0]), OPEN, ""),
    "worst where foretold": (FORETOLD, troughs(0.9, 1.2), YES, "mixed0 foretold 288, worst at 259 with R² −9.00"),
    "worst elsewhere": (FORETOLD, troughs(0.9, 2.0), NO, ""),
    "no trough": (FORETOLD, troughs(1.0, peaked=False), NO, ""),
    "too few images to tell": (FORETOLD, troughs(0.7, peaked=False, covered=False), OPEN, ""),
    "best two taps away": (NEAR, read_outs({"b": 40}), YES, ""),
    "best three taps away": (NEAR, read_outs({"a": 41}), NO, ""),
    "best is the chosen": (NEAR, read_outs({"d": 45}), YES, ""),
    "far, but no better on test slides": (NEAR, read_outs({"a": 40}, worse_on_test="a"), OPEN, ""),
}  # fmt: skip


@pytest.mark.parametrize(("test", "taps", "status", "words"), CASES.values(), ids=CASES)
def test_status_and_words_follow_the_curve(test, taps, status, words):
    verdict = judged(test, layerwise(taps) if isinstance(taps, dict) else taps)
    assert verdict.status == status
    assert words in verdict.evidence


def projected(taps: dict[str, list[float]], widths: dict[str, int]) -> pd.DataFrame:
    rows = layerwise(taps)
    parts = [rows.assign(draw=draw, width=rows.tap.map(widths), r2_test=rows.r2_test + d)
             for draw, d in enumerate((-0.01, 0.01))]  # fmt: skip
    return pd.concat(parts, ignore_index=True)


WIDE = {"equal_width": True}
SEEDS = pd.concat(
    layerwise({"a": [v], "b": [0.0]}, weights="random", seeds=[s]) for s, v in enumerate((0.2, 0.3, 0.4))
)
INTERVALS = {
    "drop": (FALL, layerwise({"a": LOW, "b": HIGH, "c": MID}), {}, corrected(np.subtract(HIGH, MID))),
    "drop at equal width, over draws": (
        (FALL[0], FALL[1] | WIDE), layerwise({"a": LOW}),
        {"equal_width": projected({"a": LOW, "b": HIGH, "c": MID}, dict.fromkeys("abc", 64))},
        corrected(np.subtract(HIGH, MID)),
    ),
    "narrow taps are no peak": (
        (FALL[0], FALL[1] | WIDE), layerwise({"a": LOW}),
        {"equal_width": projected({"a": HIGH, "b": MID, "c": LOW}, {"a": 16, "b": 64, "c": 64})},
        corrected(np.subtract(MID, LOW)),
    ),
    "at most": (FIRST, layerwise({"a": LOW, "b": HIGH}), {}, corrected(LOW)),
    "by the estimator": (
        ("at_most", {"tap": "softmax", "value": 0.0, "estimator": "ols"}),
        pd.concat([layerwise({"softmax": HIGH}), layerwise({"softmax": [-9e5, -1e6, -2e6]}, estimator="ols")]),
        {}, corrected([-9e5, -1e6, -2e6]),
    ),
    "shuffled": (
        SHUFFLED, pd.concat([layerwise({"a": HIGH}), layerwise({"a": [-0.1, -0.2, 0.0]}, condition="shuffled")]),
        {}, corrected([-0.1, -0.2, 0.0]),
    ),
    "smallest step of an order": (ORDER, peaks(0.8, 0.2, -0.5), {}, (0.6, np.nan, np.nan)),
    "correlation length": ((PATTERN, {"at_least": 0.5}), blobs({"a": LOW, "b": HIGH}), {}, corrected(HIGH)),
    "taps apart": (NEAR, read_outs({"a": 40}), {}, (3, np.nan, np.nan)),
    "seeds": (("at_most_everywhere", {"value": 0.1}), SEEDS, {}, corrected([0.2, 0.3, 0.4], share=0)),
}  # fmt: skip


@pytest.mark.parametrize(("test", "rows", "tables", "expected"), INTERVALS.values(), ids=INTERVALS)
def test_effect_and_interval_are_those_written_out(test, rows, tables, expected):
    verdict = judged(test, rows, **tables)
    assert (verdict.effect, verdict.low, verdict.high) == pytest.approx(expected, nan_ok=True)


def test_interval_against_random_weights_adds_the_variance_of_repeats_and_of_seeds():
    seeds = [0.0, 0.1, 0.2]
    rows = against_random(dict.fromkeys(EVERY, HIGH), dict.fromkeys(EVERY, seeds))
    error = np.sqrt((1 / 3 + 1.4 * 3 / 7) * np.var(HIGH, ddof=1) + np.var(seeds, ddof=1) / 3)
    verdict = judged(BEATS, rows)
    assert (verdict.effect, verdict.low) == pytest.approx((0.7, 0.7 - 4.302653 * error))


HEADLESS = layerwise({"a": LOW, "b": HIGH, "c": MID})
MISSING = {
    "no logits": (PEAK, HEADLESS, {}, "not read at pre_softmax"),
    "no table": (("drop", FALL[1] | WIDE), HEADLESS, {}, "no rows"),
    "narrower than the common width": (
        ("drop", LOGITS[1] | WIDE), HEADLESS,
        {"equal_width": projected({"a": HIGH, "b": MID, "pre_softmax": LOW}, {"a": 32, "b": 32, "pre_softmax": 10})},
        "pre_softmax has 10 dimensions, fewer than the common width of 32",
    ),
    "another start": (("drop", FALL[1] | {"start": "first"}), HEADLESS, {}, "starts at the peak"),
    "nothing shuffled": (SHUFFLED, HEADLESS, {}, "shuffled"),
    "no random weights": (BEATS, HEADLESS, {}, "random"),
    "nothing that falls": (ERASED, two_readings({"a": LOW, "b": HIGH}, {"a": LOW, "b": HIGH}), {}, "Nothing falls"),
    "a network less": (GROWS, falling({"p": 0.0, "q": 0.1, "r": 0.2}), {}, "network 's'"),
    "no twin": (FURTHER, layerwise({"a": LOW, "pre_softmax": LOW}), {}, "one scale"),
    "other taps": (FORETOLD, troughs(1.0).assign(tap="a"), {}, "not read at mixed0, mixed1"),
    "one seed": (BEATS, against_random({"a": LOW}, {"a": [0.0] * 3}).query("weights_seed < 1"), {}, "With two random seeds"),
    "fewer taps": (BEATS, against_random({"a": LOW, "b": HIGH}, {"a": [0.0] * 3}), {}, "not read at b"),
}  # fmt: skip


@pytest.mark.parametrize(("test", "rows", "tables", "words"), MISSING.values(), ids=MISSING)
def test_what_a_test_needs_and_does_not_find_is_named(test, rows, tables, words):
    with pytest.raises(ResultsError, match=words) as raised:
        judged(test, rows, **tables)
    assert isinstance(raised.value, MissingRows) == ("starts" not in words)  # the claim is then not run


@pytest.mark.parametrize(("share", "status"), [(0.30, NO), (0.49, OPEN), (0.50, NULL), (0.70, YES)])
def test_agreement_at_the_lowest_size_in_the_range_with_wilsons_interval(share, status):
    shares = {0.25: 0.0, 0.75: share, 1.0: 1.0, 1.5: 0.8, 2.0: 0.1}
    rows = pd.DataFrame(
        {"pictures": pictures, "manipulation": how, "factor": factor, "n": 200, "agreement": kept * (how == "resize")}
        for pictures in ("photos", "samples") for how in ("resize", "zoom") for factor, kept in shares.items()
    ).assign(network="net", weights="imagenet")  # fmt: skip
    verdict = judged(("agreement", {"within": (0.75, 1.5), "at_least": 0.5}), rows)
    z, n = 1.959964, 400
    middle = (share + z**2 / 2 / n) / (1 + z**2 / n)
    half = z * np.sqrt(share * (1 - share) / n + z**2 / 4 / n**2) / (1 + z**2 / n)
    expected = share, middle - half, middle + half
    assert (verdict.effect, verdict.low, verdict.high) == pytest.approx(expected, abs=1e-5)
    assert verdict.status == status
    assert "0.75 times the size" in verdict.evidence


@pytest.mark.parametrize("score", ["mae_px", "kappa"])
@pytest.mark.parametrize(
    ("gain", "late", "status", "words"),
    [(20, "", YES, "10 slides, 2 seeds"), (-20, "", NO, ""), (0, "", OPEN, ""), (20, "pretrained", OPEN, "not converged: pretrained")],
)  # fmt: skip
def test_smaller_error_and_higher_kappa_are_better_once_converged(score, gain, late, status, words):
    verdict = judged(beats_row(score), transfer(gain, late=late))
    assert verdict.status == status
    assert abs(verdict.effect) == pytest.approx(abs(gain) if score == "mae_px" else abs(gain) / 100)
    assert words in verdict.evidence


@pytest.mark.parametrize(("left", "words"), [(50, "25 % of parameters kept"), (190, "95 % of parameters kept, no test of pruning")])  # fmt: skip
def test_what_is_kept_of_a_network_is_said_and_changes_no_status(left, words):
    runs = pd.DataFrame(
        {"row": ["pretrained", "scratch", "pruned", "pruned"], "parameters": [200, 200, left, left]}
    )
    verdict = judged(beats_row("kappa"), transfer(20), runs=runs)
    assert verdict.status == YES
    assert verdict.evidence.endswith(f"; {words}.")
    assert verdict.note == words


def test_holm_runs_over_networks_and_scores():
    everything = pd.concat([transfer(20), transfer(20, network="other"), transfer(20).query("row == 'pruned'").assign(network="part")])  # fmt: skip
    verdict = judged(beats_row("mae_px", "scratch"), transfer(20), everything=everything)
    assert f"p {8 * sign_flip_test(np.ones(10)):.3f}" in verdict.evidence  # 2 networks × 2 scores × 2 pairs


def test_a_row_that_was_not_trained_and_a_tap_that_was_not_chosen_are_not_run():
    with pytest.raises(MissingRows, match="pruned"):
        judged(beats_row("kappa", "scratch"), transfer(20).query("row != 'pruned'"))
    with pytest.raises(MissingRows, match="there are 0"):
        judged(NEAR, read_outs({"a": 1.0}, chosen="z"))


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.514, "0.51"), (-0.125, "−0.12"), (1234.5, "1,234"), (-11077.3, "−11,077"), (-4.2e13, "−4.2×10¹³")],
)
def test_numbers_in_sentences(value, text):
    assert number(value) == text


def test_where_weights_end_early_nothing_says_that_the_rule_cuts_well() -> None:
    with pytest.raises(MissingRows, match=r"to mixed8\): a later tap might win"):
        PREDICATES[NEAR[0]](Evidence("imagenet, to mixed8", pd.DataFrame()), **NEAR[1])
