"""Tables of the datasets: counts beside the paper's, slides, exclusions, areas, and what they name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from scalelib.results import read_results
from studies import s01_datasets

ROOT = Path(__file__).resolve().parents[1]
PAPER = ROOT / "paper" / "table1.csv"


def patches(seed: int = 0, per_slide: int = 40) -> pd.DataFrame:
    """Patches whose log area is magnification + slide + noise, with slides twice as large or small as others."""
    rng = np.random.default_rng(seed)
    rows = []
    for i, split in enumerate(["train"] * 4 + ["validation"] + ["test"] * 3):
        for magnification in (5.0, 10.0, 40.0):
            for k in range(per_slide):
                px = (magnification * 0.5) ** 2 * 2.0 ** ((i % 4) - 1.5) * 2 ** rng.normal(0, 0.1)
                mpp = 10 / magnification
                rows.append(
                    {"image": f"{i}:{magnification}:{k}", "slide": f"s{i}", "group": f"p{i // 2}", "split": split,
                     "magnification": magnification, "mpp": mpp, "mpp_stated": i != 2, "n_nuclei": 3,
                     "mean_area_px": px, "mean_area_um2": px * mpp**2}
                )  # fmt: skip
    return pd.DataFrame(rows)


class TestTable1:
    def test_counts_stand_beside_the_printed_ones_in_the_papers_order(self):
        table = patches()
        beside = s01_datasets.beside_paper(table, PAPER)
        printed = pd.read_csv(PAPER)
        assert beside[["split", "magnification", "paper"]].to_numpy().tolist() == (
            printed[["split", "magnification", "patches"]].to_numpy().tolist()
        )
        found = beside.set_index(["split", "magnification"])
        for (split, magnification), part in table.groupby(["split", "magnification"]):
            assert found.ours[split, f"{magnification:g}X"] == len(part)
        assert found.ours["total", "total"] == len(table)
        assert found.ours["train", "8X"] == 0

    def test_shares_are_of_the_cells_not_of_the_totals_printed(self):
        found = s01_datasets.beside_paper(patches(), PAPER)
        cells = found[found.magnification != "total"]
        sums = cells.groupby("split")[["paper_share", "ours_share", "ours_uncapped_share"]].sum()
        np.testing.assert_allclose(sums.to_numpy(), 1.0)

    def test_patches_beyond_the_cap_get_a_row_of_their_own(self):
        table = patches()
        capped = table.groupby(["slide", "magnification"]).head(10)
        form = s01_datasets.table1_form(s01_datasets.beside_paper(capped, PAPER, uncapped=table))
        assert form.loc[("total", "ours, all patches"), "total"] == len(table)
        assert form.loc[("total", "ours"), "total"] == len(capped)
        assert list(form.columns) == ["5X", "8X", "10X", "15X", "20X", "30X", "40X", "total"]
        plain = s01_datasets.table1_form(s01_datasets.beside_paper(table, PAPER))
        assert list(plain.index.get_level_values(1).unique()) == ["paper", "ours"]

    def test_the_paper_stands_in_its_own_order(self):
        beside = s01_datasets.beside_paper(patches(), PAPER).assign(
            ours_uncapped=lambda rows: rows["paper"] * 2
        )
        assert s01_datasets.order_of_counts(beside) == (63, 63)
        assert s01_datasets.order_of_counts(beside.assign(ours_uncapped=-beside.paper)) == (0, 63)


def test_slides_and_splits_count_every_patch_and_patient_once():
    table = patches()
    slides = s01_datasets.slide_table(table)
    assert slides.patches.sum() == len(table)
    assert slides.split.tolist() == ["train"] * 4 + ["validation"] + ["test"] * 3
    assert (slides.low_um2 <= slides.mean_um2).all()
    assert (slides.mean_um2 <= slides.high_um2).all()
    splits = s01_datasets.split_table(slides)
    assert splits.slides.to_dict() == {"train": 4, "validation": 1, "test": 3}
    assert splits.patients.to_dict() == {"train": 2, "validation": 1, "test": 2}
    assert splits.without_stated_mpp.to_dict() == {"train": 1, "validation": 0, "test": 0}


def test_every_reason_that_loaders_count_has_words():
    counted = {"background", "no_nuclei", "beyond_max_per_slide", "slides_without_nuclei", "outside_slide",
               "degenerate", "self_crossing", "negative_region", "not_an_outline", "without_mask"}  # fmt: skip
    assert counted <= set(s01_datasets.LEFT_OUT)
    found = s01_datasets.left_out({"tissue": dict.fromkeys(counted, 2), "scenes": {}})
    assert found["count"].tolist() == [2] * len(counted) + [0]


class TestAreas:
    def test_summary_holds_quantiles_of_every_split_in_both_units(self):
        table = patches()
        found = s01_datasets.area_summary(table).set_index(["unit", "split", "magnification"])
        part = table[(table.split == "test") & (table.magnification == 10)]
        row = found.loc[("um2", "test", 10.0)]
        assert row.patches == len(part)
        assert row.q50 == pytest.approx(part.mean_area_um2.median())
        assert row.q95 == pytest.approx(np.quantile(part.mean_area_um2, 0.95))
        assert len(found) == 2 * 3 * 3

    def test_class_means_are_those_of_training_patches_and_the_papers_stand_beside(self):
        table = patches()
        found = s01_datasets.means_beside_paper(table).set_index("magnification")
        train = table[table.split == "train"].groupby("magnification")
        np.testing.assert_allclose(found.ours_px, train.mean_area_px.mean())
        np.testing.assert_allclose(found.ours_um2, train.mean_area_um2.mean())
        assert found.paper_px.tolist() == [21.37, 67.30, 913.82]
        assert found.paper_um2[40.0] == pytest.approx(913.82 / 16)

    def test_variance_divides_as_it_was_built(self):
        table = patches(per_slide=200)
        shares = s01_datasets.spread_shares(table)
        log = {
            "magnification": np.var(2 * np.log2([5, 10, 40])),
            "slide": np.var([(i % 4) - 1.5 for i in range(8)]),
            "patch": 0.01,
        }
        total = sum(log.values())
        assert shares.sum() == pytest.approx(1)
        assert shares.to_dict() == pytest.approx({k: v / total for k, v in log.items()}, abs=0.002)

    def test_true_areas_name_magnifications_where_slides_agree_and_fail_where_they_do_not(self):
        alike = patches().assign(mean_area_px=lambda rows: rows["magnification"] ** 2)
        assert s01_datasets.named_by_area(alike).kappa.tolist() == [1.0, 1.0, 1.0]
        differing = s01_datasets.named_by_area(patches()).set_index("split")
        assert differing.kappa["test"] < 0.9
        assert differing.patches.sum() == len(patches())


def test_scale_counts_have_one_row_per_class_and_one_for_all():
    table = pd.DataFrame({"object_class": ["a", "a", "b"], "sqrt_area_ratio": [0.2, 0.4, 0.9]})
    found = s01_datasets.scale_counts(table).set_index("object_class")
    assert found.images.to_dict() == {"a": 2, "b": 1, "all": 3}
    assert found.q50.to_dict() == pytest.approx({"a": 0.3, "b": 0.9, "all": 0.4})


class TestArchive:
    @pytest.fixture
    def results(self):
        folder = ROOT / "results" / "compact" / "01_datasets"
        if not (folder / "card.json").is_file():
            pytest.skip("the archived run of the compact profile is wanted: results/compact/01_datasets")
        return read_results(folder)

    def test_the_page_shows_the_patches_that_transfer_trains_on(self, results):
        blocks = yaml.safe_load((ROOT / "profiles" / "compact.yaml").read_text())["notebooks"]
        if "05_histopathology_transfer" not in blocks:
            pytest.skip("the compact profile does not run the transfer")
        for name in ("dataset", "dataset_options"):
            assert results.card.data["parameters"][name] == blocks["05_histopathology_transfer"][name]

    def test_its_natural_images_are_those_of_the_layer_wise_analysis(self, results):
        other = read_results(ROOT / "results" / "compact" / "04_layerwise_r2")
        pd.testing.assert_frame_equal(
            results.table("scale"), other.table("scale_histogram"), check_dtype=False
        )
        [theirs] = other.card.data["datasets"]
        assert theirs["digest"] in {entry["digest"] for entry in results.card.data["datasets"]}

    def test_counts_of_table_1_add_up_and_agree_with_the_slides(self, results):
        table1 = results.table("table1").set_index(["split", "magnification"]).ours
        slides = results.table("slides")
        assert table1["total", "total"] == slides.patches.sum()
        for split, part in slides.groupby("split"):
            assert table1[split, "total"] == part.patches.sum()

    def test_no_result_names_a_folder_of_the_machine(self, results):
        assert "/work" not in json.dumps(dict(results.card.data))
