"""Archived numbers are those that the library computes from the real data today."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from scalelib.datasets import load_dataset
from scalelib.layer_tables import curves
from scalelib.profiles import load_profile
from scalelib.provenance import read_results
from scalelib.study import layerwise_by_class, read_networks

ROOT = Path(__file__).parent.parent
SETTINGS = load_profile(ROOT / "profiles" / "compact.yaml").notebooks["04_layerwise_r2"]
TRAINED = [spec for spec in SETTINGS["networks"] if spec["weights"] != "random"]
TOLERANCE = 0.02


def archived() -> pd.DataFrame:
    return read_results(ROOT / "results" / "compact" / "04_layerwise_r2").table("layerwise_r2")


@pytest.mark.data
@pytest.mark.parametrize("spec", TRAINED, ids=lambda spec: spec["label"])
def test_archived_row_is_recomputed_from_the_photographs(
    spec: dict[str, Any], voc_root: Path, weights_root: Path, keras_models: Path
) -> None:
    table = archived()
    rows = table[(table.network == spec["label"]) & (table.weights == "imagenet")]
    taps = list(dict.fromkeys(rows.tap))
    tap = taps[2 * len(taps) // 3]
    data = load_dataset(SETTINGS["dataset"], **SETTINGS["dataset_options"])
    data = data.select((data.table.object_class == SETTINGS["dataset_options"]["classes"][0]).to_numpy())
    [reading] = read_networks([spec], data.images, taps=[tap])
    today = layerwise_by_class(
        reading.activations, data.table, measures=["sqrt_area_ratio"], estimators=["ridge"], conditions="true"
    )
    keys = ["tap", "object_class", "measure", "estimator", "condition", "repeat"]
    both = today.merge(rows, on=keys, suffixes=("", "_archived"))
    assert len(both) == len(today) == 10
    assert (both.n_train == both.n_train_archived).all()
    assert both.r2_test.to_numpy() == pytest.approx(both.r2_test_archived.to_numpy(), abs=TOLERANCE)


def test_archive_holds_every_network_of_the_profile() -> None:
    table = archived()
    wanted = {
        (spec["label"], spec.get("weights_label", spec["weights"]), seed)
        for spec in SETTINGS["networks"]
        for seed in (spec["seeds"] if spec["weights"] == "random" else [-1])
    }
    assert set(table[["network", "weights", "weights_seed"]].itertuples(index=False, name=None)) == wanted


def test_archived_curves_follow_from_the_archived_rows() -> None:
    stored = read_results(ROOT / "results" / "compact" / "04_layerwise_r2").table("curves")
    again = curves(archived(), estimator="ridge", measure="sqrt_area_ratio")
    keys = ["network", "weights", "curve", "tap"]
    both = stored.merge(again, on=keys, suffixes=("", "_again"))
    assert len(both) == len(stored) == len(again)
    assert both["mean"].to_numpy() == pytest.approx(both.mean_again.to_numpy(), rel=1e-4, abs=1e-4)
