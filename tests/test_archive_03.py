"""Notebook 03's archive: rows come from rendered noise and real weights, summaries from the rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
from archive_rows import ARCHIVE, ROUNDED, agree, archived, network_of, recomputes, settings

from scalelib.results import read_results
from studies import readings, s03_noise
from studies.s03_noise import render_noise

NAME = "03_noise_inputs"
R2 = 0.01
"""Another CPU's rounding, 1e-5 of an activation, was seen to move ridge's R² by up to 0.001; ten times that is allowed."""
WHO = ["network", "weights", "weights_seed"]
CURVE = ["kind", "measure", "region", "tap", "estimator", "condition"]


def parameters() -> dict[str, Any]:
    """What the run's profile says, and what it left to the notebook, from the card."""
    card = read_results(ARCHIVE / NAME).card.data["parameters"]
    given = {key: value for key, value in settings(NAME).items() if key in card}
    assert given == {key: card[key] for key in given}
    return card


@recomputes(f"{NAME}/correlation_lengths")
def test_correlation_lengths_are_measured_again() -> None:
    low, high = settings(NAME)["correlation_lengths"]
    lengths = [low, (low * high) ** 0.5, high, 2 * high]
    again = s03_noise.check_lengths(lengths, random_state=parameters()["random_state"])
    agree(
        f"{NAME}/correlation_lengths", again, keys=["requested"], whole=True, rel=1e-4
    )  # FFT and rounding only


@recomputes(f"{NAME}/padding_r2")
def test_padding_rows_are_those_of_the_small_networks() -> None:
    given = parameters()
    noise = render_noise(
        given["probe_images"], kind="blob", canvas_sizes=given["probe_sizes"], correlation_lengths=(1.0, 1.5),
        random_state=given["random_state"],
    )  # fmt: skip
    parts = []
    for padding in ("same", "valid"):
        for words, activation in (("linear", None), ("with ReLU", "relu")):
            net = readings.padding_probe(padding=padding, depth=4, activation=activation)
            table = s03_noise.noise_r2(
                net, noise, measures=["canvas_size"], estimator="ridge", repeats=given["repeats"]
            )
            parts.append(table.assign(network=net.name, weights=words, weights_seed=-1))
    again = s03_noise.summarize_noise(pd.concat(parts))
    agree(f"{NAME}/padding_r2", again, keys=["network", "weights", *CURVE], whole=True, abs=R2)


@recomputes(f"{NAME}/noise_summary")
@pytest.mark.exhaustive
def test_summary_follows() -> None:
    again = s03_noise.summarize_noise(archived(f"{NAME}/noise_r2"))
    agree(f"{NAME}/noise_summary", again, keys=["network", "weights", *CURVE], whole=True, **ROUNDED)


@recomputes(f"{NAME}/best_taps")
def test_best_taps_follow_from_the_summary() -> None:
    again = s03_noise.best_taps(archived(f"{NAME}/noise_summary"))
    keys = ["network", "weights", *CURVE[:3], "condition"]
    agree(f"{NAME}/best_taps", again, keys=keys, whole=True, **ROUNDED)


@recomputes(f"{NAME}/noise_r2")
@pytest.mark.data
@pytest.mark.parametrize(
    ("label", "weights", "seed", "kind", "positions"),
    [
        pytest.param("MobileNet 0.25", "imagenet", -1, "blob", (2, -1), marks=pytest.mark.exhaustive),
        ("SqueezeNet", "random", 2, "power", (1,)),
    ],
)
def test_noise_rows_are_those_of_the_networks(
    label, weights, seed, kind, positions, keras_models, weights_root
) -> None:
    given = parameters()
    noise = render_noise(
        given["n_blob"] if kind == "blob" else given["n_other"], kind=kind, canvas_sizes=given["canvas_sizes"],
        correlation_lengths=tuple(given["correlation_lengths"]) if kind == "blob" else (1.0, 4.0),
        exponent=given["exponent"], random_state=given["random_state"],
    )  # fmt: skip
    spec = network_of(NAME, label, weights) | ({"seeds": [seed]} if seed >= 0 else {})
    [(labels, net, _)] = readings.open_networks([spec])
    taps = [list(net.taps)[at] for at in positions]
    net = replace(net, taps={tap: net.taps[tap] for tap in taps})
    table = s03_noise.noise_r2(net, noise, estimator="ridge", repeats=given["repeats"])
    keys = [*WHO, *CURVE, "repeat"]
    again = table.assign(**labels)[[*keys, "channels", "n_train", "n_test", "r2_test"]]
    agree(f"{NAME}/noise_r2", again, keys=keys, abs=R2)
