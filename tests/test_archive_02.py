"""Notebook 02's archive: measures under resizing come from the photographs, and agree with one another."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from archive_rows import ARCHIVE, agree, archived, network_of, recomputes, settings

from scalelib.networks import Network
from scalelib.results import read_results
from studies import readings, s02_resizing

NAME = "02_resizing_invariance"
WHO = ["network", "weights", "weights_seed"]
WHERE = ["pictures", "manipulation", "factor"]
COSINE = 2e-3
"""Means over 120 images; another CPU's resizing may round a grey level the other way."""
IMAGES = 3.5 / 120
"""Three images of 120 whose two best classes are as good may change sides on another CPU."""
GREY = 5e-3
"""Mean total variation: less than the share of images that may change sides."""
SHARE = 0.4
FACTORS = [0.5, 0.75, 1.0, 1.5, 2.0]


@cache
def pictures() -> dict[str, s02_resizing.Pictures]:
    """The archived run's pictures: VOC whole, ImageNet samples, windows of VOC."""
    known = s02_resizing.load_pictures(
        settings(NAME)["dataset"], settings(NAME)["n_images"], share=SHARE, factors=FACTORS
    )
    return {source.dataset.name: source for source in known}


def opened(label: str, weights: str = "imagenet") -> tuple[dict[str, Any], Network, int]:
    [found] = readings.open_networks([network_of(NAME, label, weights)])
    return found


def test_defaults_of_the_notebook_are_those_of_the_card() -> None:
    parameters = read_results(ARCHIVE / NAME).card.data["parameters"]
    assert (parameters["share"], parameters["share_factors"]) == (SHARE, FACTORS)


@recomputes(f"{NAME}/variance_by_tap")
@pytest.mark.data
@pytest.mark.slow
@pytest.mark.exhaustive
def test_variance_is_that_of_the_photographs(voc_root: Path, keras_models: Path) -> None:
    labels, net, size = opened("MobileNet 0.25")
    windows = pictures()["VOC2007 test, windows"]
    found = s02_resizing.size_tables(net, windows, size=size, factors={"share": FACTORS}, share=SHARE)
    again = found["variance"].assign(**labels)
    agree(f"{NAME}/variance_by_tap", again, keys=[*WHO, "pictures", "manipulation", "tap"], abs=COSINE)


@recomputes(f"{NAME}/cosine_by_tap")
@pytest.mark.data
@pytest.mark.parametrize(
    ("label", "weights", "manipulation", "factor"),
    [
        ("MobileNet 0.25", "random", "resize", 0.375),
        pytest.param("SqueezeNet", "imagenet", "detail", 0.5, marks=pytest.mark.exhaustive),
    ],
)
def test_cosines_are_those_of_the_photographs(
    label, weights, manipulation, factor, voc_root, keras_models, weights_root
) -> None:
    labels, net, size = opened(label, weights)
    found = s02_resizing.size_tables(
        net, pictures()["VOC2007 test"], size=size, factors={manipulation: [factor, 1.0]}
    )
    agree(f"{NAME}/cosine_by_tap", found["cosine"].assign(**labels), keys=[*WHO, *WHERE, "tap"], abs=COSINE)


@recomputes(f"{NAME}/cosine_by_tap")
def test_a_picture_is_like_itself() -> None:
    table = archived(f"{NAME}/cosine_by_tap")
    told = table.dropna(subset="cosine")  # a tap that gives all images the same has none
    assert len(told) > 0.9 * len(table)
    assert told.cosine[told.factor == 1].to_numpy() == pytest.approx(1, abs=1e-5)
    assert told.cosine.between(-1, 1 + 1e-5).all()
    silent = table.cosine.isna().groupby([table[name] for name in [*WHO, "pictures", "manipulation", "tap"]])
    assert (silent.nunique() == 1).all()


@recomputes(f"{NAME}/predictions_by_size")
@pytest.mark.data
@pytest.mark.exhaustive
def test_predictions_are_those_of_the_photographs(
    voc_root: Path, imagenet_samples: list[Path], keras_models: Path, weights_root: Path
) -> None:
    labels, net, size = opened("SqueezeNet")
    [samples] = [source for source in pictures().values() if source.labels is not None]
    found = s02_resizing.size_tables(net, samples, size=size, factors={"resize": [0.5, 1.0]})
    again = found["predictions"].assign(**labels)
    loose = dict.fromkeys(("agreement", "agreement_low", "agreement_high", "accuracy"), IMAGES)
    agree(f"{NAME}/predictions_by_size", again, keys=[*WHO, *WHERE], abs=GREY, loose=loose)


@recomputes(f"{NAME}/predictions_by_size", f"{NAME}/sampling")
@pytest.mark.parametrize("table", ["predictions_by_size", "sampling"])
def test_limits_of_agreement_are_wilsons(table: str) -> None:
    rows = archived(f"{NAME}/{table}")
    z, share = 1.959964, rows.agreement
    assert (rows.n == settings(NAME)["n_images"]).all()
    assert (share * rows.n).to_numpy() == pytest.approx((share * rows.n).round().to_numpy(), abs=1e-3)
    centre = (share + z**2 / (2 * rows.n)) / (1 + z**2 / rows.n)
    half = z / (1 + z**2 / rows.n) * np.sqrt(share * (1 - share) / rows.n + z**2 / (4 * rows.n**2))
    assert rows.agreement_low.to_numpy() == pytest.approx((centre - half).to_numpy(), abs=2e-5)
    assert rows.agreement_high.to_numpy() == pytest.approx((centre + half).to_numpy(), abs=2e-5)
    itself = rows[rows.factor == 1]
    assert (itself.agreement == 1).all()
    assert itself.total_variation.to_numpy() == pytest.approx(0, abs=1e-6)


@recomputes(f"{NAME}/predictions_by_size")
def test_sizes_and_shares_of_predictions_are_those_of_their_factors() -> None:
    rows = archived(f"{NAME}/predictions_by_size")
    for _, own in rows.groupby([*WHO, "pictures", "manipulation"]):
        reference = own.image_size[own.factor == 1].item()
        kept = own.manipulation.isin(["detail", "share"])
        wanted = np.where(kept, reference, (reference * own.factor).round())
        assert own.image_size.to_numpy() == pytest.approx(wanted)
        power = {"share": 1, "canvas": -1}.get(own.manipulation.iloc[0], 0)
        wanted = own.object_share[own.factor == 1].item() * own.factor**power
        assert own.object_share.to_numpy() == pytest.approx(wanted.to_numpy(), rel=1e-5, nan_ok=True)
    whole = rows[rows.manipulation.isin(["resize", "detail"])]
    assert (whole.padded == 0).all()
    assert (rows.groupby([*WHERE]).padded.nunique() == 1).all()
    windows = rows[~rows.manipulation.isin(["resize", "detail"]) & (rows.factor == 1)]
    assert (windows.object_share == SHARE).all()


@recomputes(f"{NAME}/labels_kept")
def test_labels_kept_are_counted_over_all_pictures() -> None:
    again = s02_resizing.labels_kept(archived(f"{NAME}/predictions_by_size"))
    agree(f"{NAME}/labels_kept", again, keys=["network", "weights", *WHERE[1:]], whole=True, abs=1e-5)


@recomputes(f"{NAME}/predictions_by_size")
@pytest.mark.data
def test_share_of_whole_photographs_is_that_of_the_annotations(
    voc_root: Path, imagenet_samples: list[Path]
) -> None:
    rows = archived(f"{NAME}/predictions_by_size")
    shares = pictures()["VOC2007 test"].dataset.table.sqrt_area_ratio
    assert rows.object_share[rows.pictures == "VOC2007 test"].to_numpy() == pytest.approx(
        shares.mean(), rel=1e-5
    )


@recomputes(f"{NAME}/sampling")
def test_plain_sampling_is_the_resizing_of_the_predictions() -> None:
    rows = archived(f"{NAME}/sampling")
    plain = rows[(rows.interpolation == "bilinear") & rows.antialias]
    predictions = archived(f"{NAME}/predictions_by_size")
    labelled = predictions[predictions.accuracy.notna() & (predictions.manipulation == "resize")]
    columns = [*WHO, "factor", "n", "agreement", "total_variation", "accuracy"]
    again = labelled.loc[labelled.factor.isin(plain.factor), columns]
    assert len(again) >= 4
    agree(f"{NAME}/sampling", again, keys=[*WHO, "factor"], stored=plain, abs=1e-5)


@recomputes(f"{NAME}/sampling")
@pytest.mark.data
@pytest.mark.slow
@pytest.mark.exhaustive
def test_sampling_is_that_of_the_photographs(
    voc_root: Path, imagenet_samples: list[Path], keras_models: Path, weights_root: Path
) -> None:
    labels, net, size = opened("MobileNetV2")
    [samples] = [source for source in pictures().values() if source.labels is not None]
    found = s02_resizing.sampling_table(net, samples, size=size, factors=[0.5], interpolations=["nearest"])
    loose = dict.fromkeys(("agreement", "agreement_low", "agreement_high", "accuracy"), IMAGES)
    again = found.assign(**labels)
    keys = [*WHO, "interpolation", "antialias", "factor"]
    agree(f"{NAME}/sampling", again, keys=keys, abs=GREY, loose=loose)
