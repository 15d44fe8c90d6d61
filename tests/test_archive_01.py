"""Notebook 01's archive: counts, sizes and areas come from the annotations of the slides and of the photographs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from archive_rows import ARCHIVE, ROOT, agree, archived, patches, photographs, recomputes, settings

from scalelib.datasets import load_dataset
from scalelib.results import CARD, read_results
from scalelib.slides.patches import MAGNIFICATIONS
from studies import s01_datasets
from studies.s01_datasets import measure_by_rule

NAME = "01_datasets"
pytestmark = pytest.mark.skipif(
    not (ARCHIVE / NAME / CARD).is_file(), reason="no archived run of this notebook"
)
DIGITS = {"rel": 1e-5, "abs": 1e-5}
"""Areas of polygons in float64: nothing but the six digits that are kept."""


FOLLOW = {
    "areas": (s01_datasets.area_summary, ["unit", "split", "magnification"]),
    "class_means": (s01_datasets.means_beside_paper, ["magnification"]),
    "named_by_area": (s01_datasets.named_by_area, ["split"]),
    "slides": (s01_datasets.slide_table, ["slide"]),
    "spread": (lambda table: s01_datasets.spread_shares(table).rename("share").rename_axis("between").reset_index(), ["between"]),
}  # fmt: skip


@recomputes(*(f"{NAME}/{name}" for name in FOLLOW))
@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize("name", FOLLOW)
def test_areas_and_slides_are_those_of_the_annotations(name: str, more_slides: None) -> None:
    compute, keys = FOLLOW[name]
    agree(f"{NAME}/{name}", compute(patches().table), keys=keys, whole=True, **DIGITS)


@pytest.mark.data
@pytest.mark.slow
def test_monuseg_is_split_by_patient_with_all_seven_magnifications(more_slides: None) -> None:
    data, table = patches(), patches().table
    assert table.groupby("split").slide.nunique().to_dict() == {"test": 10, "train": 15, "validation": 5}
    assert table.groupby("group").split.nunique().max() == 1
    assert sorted(table.magnification.unique()) == list(MAGNIFICATIONS)
    assert table.groupby("slide").mpp_stated.first().value_counts().to_dict() == {True: 29, False: 1}
    spread = table.groupby("magnification").mean_area_um2.mean()
    assert spread.max() / spread.min() < 1.2  # a nucleus is as large at every magnification
    assert np.asarray(data.images[0]).shape == (96, 96, 3)
    assert [data.excluded[reason] for reason in ("degenerate", "self_crossing")] == [2, 1]


@pytest.mark.data
@pytest.mark.slow
def test_more_training_slides_leave_the_patches_of_the_others_as_they_are(more_slides: None) -> None:
    given = {
        key: value
        for key, value in settings(NAME)["dataset_options"].items()
        if key not in ("more", "validation")
    }
    fewer, found = load_dataset("monuseg", **given).table, patches().table
    names = ["image", "mean_area_px", "mean_area_um2", "tissue"]
    assert fewer.groupby("split").slide.nunique().to_dict() == {"test": 10, "train": 10, "validation": 3}
    pd.testing.assert_frame_equal(found[names].iloc[: len(fewer)], fewer[names])
    tested = (table[table.split == "test"].reset_index(drop=True) for table in (found, fewer))
    pd.testing.assert_frame_equal(*tested)


@recomputes(f"{NAME}/table1")
@pytest.mark.data
@pytest.mark.slow
def test_counts_beside_table_1_are_those_of_the_patches(more_slides: None) -> None:
    stored = archived(f"{NAME}/table1")
    again = s01_datasets.beside_paper(
        patches().table, ROOT / "paper" / "table1.csv", uncapped=patches().table
    )
    again = again[["split", "magnification", "paper", "ours", "paper_share", "ours_share"]]
    assert len(stored) == len(again)
    agree(f"{NAME}/table1", again, keys=["split", "magnification"], **DIGITS)
    inner = stored[
        (stored.split != stored.split.iloc[-1]) & (stored.magnification != stored.magnification.iloc[-1])
    ]
    assert inner.ours.sum() == len(patches().table)
    assert inner.ours_uncapped.sum() == len(patches().table) + patches().excluded["beyond_max_per_slide"]
    assert (stored.ours_uncapped >= stored.ours).all()
    for axis, other in (("split", "magnification"), ("magnification", "split")):  # margins are sums
        total = stored[other].iloc[-1]
        cells = inner.groupby(axis).ours_uncapped.sum()
        margin = stored[stored[other] == total].set_index(axis).ours_uncapped
        assert margin[cells.index].to_dict() == cells.to_dict()
    whole = stored[stored.magnification == stored.magnification.iloc[-1]].set_index("split").ours_uncapped
    share = stored.ours_uncapped / stored.split.map(whole)
    assert stored.ours_uncapped_share.to_numpy() == pytest.approx(share.to_numpy(), rel=1e-5)


@recomputes(f"{NAME}/excluded")
@pytest.mark.data
@pytest.mark.slow
def test_what_was_left_out_is_left_out_again(more_slides: None, voc_root: Path) -> None:
    data, objects = patches(), photographs()
    again = s01_datasets.left_out({data.name: data.excluded, objects.name: objects.excluded})
    agree(f"{NAME}/excluded", again, keys=["dataset", "reason"], whole=True)


@recomputes(f"{NAME}/rules")
@pytest.mark.data
@pytest.mark.slow
@pytest.mark.exhaustive
def test_rules_are_measured_again(more_slides: None) -> None:
    given = read_results(ARCHIVE / NAME).card.data["parameters"]
    data = patches()
    measured = measure_by_rule(
        data.images, data.table, per_slide=given["rules_per_slide"], random_state=given["random_state"]
    )
    again = s01_datasets.rule_summary(measured)
    agree(f"{NAME}/rules", again, keys=["rule", "magnification"], whole=True, **DIGITS)


@recomputes(f"{NAME}/scale_counts")
@pytest.mark.data
def test_scales_are_those_of_the_annotations(voc_root: Path) -> None:
    assert settings(NAME)["natural_options"] == settings("04_layerwise_r2")["dataset_options"]
    again = s01_datasets.scale_counts(photographs().table)
    agree(f"{NAME}/scale_counts", again, keys=["object_class"], whole=True, **DIGITS)
