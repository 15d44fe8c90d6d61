"""Notebook 06's archive: what channels answer to comes from weights and photographs, relations from the channels."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from archive_rows import ARCHIVE, agree, archived, network_of, photographs, read_all, recomputes, settings
from scipy import stats

from scalelib.networks import Network, load_network
from scalelib.results import read_results
from studies import s06_early
from studies.s06_early import (
    FREQUENCIES,
    ORIENTATIONS,
    channel_weights,
    exciting_regions,
    first_kernels,
    frequency_tuning,
    maximise_activation,
    preferred_frequency,
)

NAME = "06_early_features"
TRAINED = ["SqueezeNet", "MobileNet 0.25", "MobileNetV2", "InceptionV3"]
SAMPLE = ["SqueezeNet", pytest.param("InceptionV3", marks=pytest.mark.exhaustive)]
WHO = ["network", "weights", "weights_seed"]
CURVE = ["network", "weights", "tap"]
ROUNDING = 1e-3
"""Of a tap's strongest response: a hundred times what another CPU's float32 rounding makes of a sum over a map."""


@cache
def loaded(label: str, weights: str = "imagenet") -> tuple[dict[str, object], Network]:
    """Labels of the rows, and the network with the notebook's taps."""
    spec = network_of(NAME, label, weights)
    name = spec.pop("name")
    labels = {"network": spec.pop("label"), "weights": spec.pop("weights_label", spec["weights"])}
    return labels | {"weights_seed": 0 if weights == "random" else -1}, load_network(
        name, **spec, weights_seed=0
    )


def test_grid_of_gratings_is_that_of_the_archive() -> None:
    tuning = archived(f"{NAME}/tuning")
    assert sorted(tuning.frequency.unique()) == pytest.approx(FREQUENCIES, rel=1e-5)
    assert sorted(tuning.orientation.unique()) == list(ORIENTATIONS)
    channels = tuning.groupby([*WHO, "tap"]).channel.agg(["nunique", "size"])
    assert (channels["size"] == channels["nunique"] * len(FREQUENCIES) * len(ORIENTATIONS)).all()


@recomputes(f"{NAME}/first_kernels")
@pytest.mark.data
def test_kernels_are_those_of_the_weight_files(keras_models: Path, weights_root: Path) -> None:
    again = s06_early.kernel_table({label: first_kernels(loaded(label)[1]) for label in TRAINED})
    # float32, once multiplied
    agree(
        f"{NAME}/first_kernels", again, keys=["network", "channel", "y", "x"], whole=True, rel=1e-5, abs=1e-7
    )


@recomputes(f"{NAME}/tuning")
@pytest.mark.data
@pytest.mark.parametrize(
    ("label", "weights", "frequency", "orientation"),
    [
        ("SqueezeNet", "imagenet", 3, 30),
        pytest.param("MobileNet 0.25", "imagenet", 12, 120, marks=pytest.mark.exhaustive),
        pytest.param("MobileNetV2", "imagenet", 9, 60, marks=pytest.mark.exhaustive),
        ("MobileNet 0.25", "random", 6, 0),
    ],
)
def test_responses_are_those_of_the_networks(
    label: str, weights: str, frequency: int, orientation: int, keras_models: Path, weights_root: Path
) -> None:
    labels, net = loaded(label, weights)
    again = frequency_tuning(
        net, list(net.taps), frequencies=[FREQUENCIES[frequency]], orientations=[orientation]
    ).assign(**labels)
    tuning = archived(f"{NAME}/tuning")
    for tap, rows in again.groupby("tap"):
        stored = tuning[
            (tuning.network == label) & (tuning.weights == labels["weights"]) & (tuning.tap == tap)
        ]
        keys = [*WHO, "tap", "channel", "frequency", "orientation"]
        agree(f"{NAME}/tuning", rows, keys=keys, stored=stored, abs=ROUNDING * stored.response.max())


@recomputes(f"{NAME}/preferred")
@pytest.mark.exhaustive
def test_preferences_follow_from_the_responses() -> None:
    tuning = archived(f"{NAME}/tuning")
    parts = [
        preferred_frequency(rows).assign(**dict(zip(WHO, key, strict=True)))
        for key, rows in tuning.groupby(WHO, sort=False)
    ]
    again, keys = pd.concat(parts, ignore_index=True), [*WHO, "tap", "channel"]
    best = tuning.groupby(keys, sort=False).response.agg(lambda values: values.nlargest(2).nunique() == 1)
    tied = again.merge(best.rename("tied").reset_index(), on=keys).tied  # two best of six digits
    assert tied.sum() < 5
    assert len(again) == len(archived(f"{NAME}/preferred"))
    agree(f"{NAME}/preferred", again[~tied], keys=keys, rel=1e-3)  # a flat top loses digits
    agree(f"{NAME}/preferred", again.loc[tied, [*keys, "response"]], keys=keys, rel=1e-5)


@recomputes(f"{NAME}/preferred_by_tap")
def test_preferences_by_tap_follow() -> None:
    again = s06_early.preference_by_tap(archived(f"{NAME}/preferred"))
    agree(f"{NAME}/preferred_by_tap", again, keys=CURVE, whole=True, rel=1e-5)


@recomputes(f"{NAME}/channels")
def test_channels_have_the_preferences() -> None:
    stored, again = archived(f"{NAME}/channels"), archived(f"{NAME}/preferred")
    assert len(stored) == len(again)
    agree(f"{NAME}/channels", again, keys=[*WHO, "tap", "channel"])


@recomputes(f"{NAME}/channels")
@pytest.mark.data
@pytest.mark.exhaustive
def test_weights_of_channels_are_those_of_the_photographs(voc_root: Path, keras_models: Path) -> None:
    reading = read_all("MobileNet 0.25")
    acts = {tap: reading.activations[tap] for tap in ("conv_pw_2", "conv_pw_5")}
    table = photographs().table
    again = channel_weights(acts, table.sqrt_area_ratio, classes=table.object_class).assign(**reading.labels)
    stored = archived(f"{NAME}/channels")
    known = pd.MultiIndex.from_frame(stored[["network", "weights", "tap", "channel"]])
    again = again[pd.MultiIndex.from_frame(again[["network", "weights", "tap", "channel"]]).isin(known)]
    assert len(again) > 80
    # weights of channels that go together share one effect; ranks may swap where activations tie
    agree(f"{NAME}/channels", again, keys=[*WHO, "tap", "channel"], abs=0.01)


@recomputes(f"{NAME}/relations")
@pytest.mark.exhaustive
def test_relations_follow_from_the_channels() -> None:
    """Ranks, permutations and bootstrap written out for all channels of a tap at once."""
    channels, permutations = archived(f"{NAME}/channels"), settings(NAME)["permutations"]
    rows = []
    for value in ("weight", "correlation"):
        for index, (key, group) in enumerate(channels.groupby(CURVE, sort=False)):
            rng, n = np.random.default_rng([0, index]), len(group)
            x, y = group.frequency.to_numpy(), group[value].to_numpy()
            rho = stats.spearmanr(x, y).statistic
            null = _correlate(
                stats.rankdata(x)[None],
                np.stack([rng.permutation(stats.rankdata(y)) for _ in range(permutations)]),
            )
            drawn = rng.integers(n, size=(permutations, n))
            spread = _correlate(stats.rankdata(x[drawn], axis=1), stats.rankdata(y[drawn], axis=1))
            low, high = np.nanquantile(spread, [0.025, 0.975])
            p = ((np.abs(null) >= abs(rho) - 1e-12).sum() + 1) / (permutations + 1)
            row = {"value": value, "channels": n, "rho": rho, "low": low, "high": high, "p": p}
            rows.append(dict(zip(CURVE, key, strict=True)) | row)
    again = pd.DataFrame(rows)
    steps = again.groupby("value")["p"].transform(_holm)
    # six digits of a channel's numbers can tie two channels: ranks, and two permutations of the many, may differ
    agree(
        f"{NAME}/relations", again.assign(p_holm=steps), keys=[*CURVE, "value"], whole=True, abs=2e-3,
        loose={"p": 2 / permutations, "p_holm": 60 / permutations},
    )  # fmt: skip


@recomputes(f"{NAME}/relations")
def test_ranks_and_steps_of_holm_follow_from_the_channels() -> None:
    groups = archived(f"{NAME}/channels").groupby(CURVE, sort=False)
    again = pd.DataFrame(
        dict(zip(CURVE, key, strict=True))
        | {"value": value, "rho": own.frequency.corr(own[value], "spearman")}
        for value in ("weight", "correlation")
        for key, own in groups
    )
    agree(f"{NAME}/relations", again, keys=[*CURVE, "value"], abs=2e-3)
    stored = archived(f"{NAME}/relations")
    assert len(stored) == len(again)
    assert stored.p_holm.to_numpy() == pytest.approx(
        stored.groupby("value")["p"].transform(_holm).to_numpy(), abs=1e-5
    )


@recomputes(f"{NAME}/relation_summary")
def test_summary_counts_the_relations() -> None:
    again = s06_early.summarise_relations(archived(f"{NAME}/relations"))
    agree(f"{NAME}/relation_summary", again, keys=["value", "kind"], whole=True)


def _correlate(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
    scale = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    return np.divide((a * b).sum(axis=1), scale, out=np.full(len(scale), np.nan), where=scale > 0)


def _holm(p: pd.Series) -> pd.Series:
    ordered = p.sort_values()
    return (ordered * np.arange(len(p), 0, -1)).cummax().clip(upper=1).reindex(p.index)


@recomputes(f"{NAME}/regions")
@pytest.mark.data
@pytest.mark.parametrize("label", SAMPLE)
def test_regions_are_the_most_exciting_of_their_photographs(
    label: str, voc_root: Path, keras_models: Path, weights_root: Path
) -> None:
    """Among the photographs that the table names and forty others, the same excite a channel most."""
    stored = archived(f"{NAME}/regions")
    stored = stored[stored.network == label]
    _, net = loaded(label)
    channels = list(dict.fromkeys(stored.channel))
    images = photographs().images
    named = np.union1d(stored.image, np.arange(11, len(images), 20))
    found = exciting_regions(
        net, stored.tap.iloc[0], [images[at] for at in named], channels=channels, ranks=2
    ).table
    again = found.assign(image=named[found.image], network=label)
    assert len(stored) == len(again)
    agree(
        f"{NAME}/regions", again, keys=["network", "channel", "rank"], rel=1e-3
    )  # one activation, not pooled


@recomputes(f"{NAME}/regions")
def test_regions_are_of_the_extreme_channels() -> None:
    channels, given = archived(f"{NAME}/channels"), read_results(ARCHIVE / NAME).card.data["parameters"]
    channels = channels[channels.weights != "random"]
    stored = archived(f"{NAME}/regions")
    for label, tap in settings(NAME)["gallery_taps"].items():
        own = channels[(channels.network == label) & (channels.tap == tap)]
        wanted = s06_early.extreme_channels(own, number=given["gallery_channels"])
        rows = stored[stored.network == label]
        assert (rows.tap == tap).all()
        assert list(dict.fromkeys(rows.channel)) == wanted.channel.tolist()
        assert (
            rows.groupby("channel", sort=False)["rank"].agg(tuple) == tuple(range(1, given["ranks"] + 1))
        ).all()
        assert (rows.groupby("channel")[["before", "after"]].nunique() == 1).all(axis=None)


@recomputes(f"{NAME}/regions")
@pytest.mark.data
@pytest.mark.parametrize("label", SAMPLE)
def test_painting_starts_and_ends_where_it_did(label: str, keras_models: Path, weights_root: Path) -> None:
    steps = 128 if label == "InceptionV3" else 1
    stored = archived(f"{NAME}/regions")
    stored = stored[(stored.network == label) & (stored["rank"] == 1)]
    _, net = loaded(label)
    _, again = maximise_activation(net, stored.tap.iloc[0], channels=stored.channel, steps=steps)
    if steps == 1:
        again = again.drop(columns="after")
    # 128 steps of Adam carry rounding along: a hundredth of what they gain
    again = again.assign(network=label)
    agree(f"{NAME}/regions", again, keys=["network", "tap", "channel"], stored=stored, rel=0.01, abs=1e-3)
