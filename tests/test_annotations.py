"""Nuclei: readers of outlines against files written here, areas against closed forms, masks against the paper's protocol."""

from __future__ import annotations

import json
import math
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import shapely
from defusedxml import ElementTree

from scalelib.errors import DataError
from scalelib.slides.nuclei import areas_in_mask, clip_to_box, outlines, polygon_area, read_outlines

SQUARE = [(0, 0), (4, 0), (4, 4), (0, 4)]
RING = [[0.0, 0.0], [4.0, 0.0], [4.0, 4.0], [0.0, 4.0], [0.0, 0.0]]
BOW_TIE = [(0, 0), (10, 10), (10, 0), (0, 9)]


def aperio(regions: list[list[tuple[float, float]]], attributes: str = "", mpp: str = "") -> str:
    inner = "".join(
        f"<Region {attributes}><Vertices>"
        + "".join(f'<Vertex X="{x}" Y="{y}"/>' for x, y in region)
        + "</Vertices></Region>"
        for region in regions
    )
    return f"<Annotations {mpp}><Annotation><Regions>{inner}</Regions></Annotation></Annotations>"


def regular_polygon(n: int, radius: float) -> np.ndarray:
    turns = 2 * math.pi * np.arange(n) / n
    return np.stack([100 + radius * np.cos(turns), 100 + radius * np.sin(turns)], axis=1)


@pytest.mark.parametrize("n", [3, 4, 17, 500])
@pytest.mark.parametrize("direction", [1, -1])
def test_area_of_regular_polygons_is_the_closed_form(n, direction):
    expected = 0.5 * n * 7.0**2 * math.sin(2 * math.pi / n)
    assert polygon_area(regular_polygon(n, 7.0)[::direction]) == pytest.approx(expected, rel=1e-12)
    assert polygon_area(np.array(SQUARE, float) + 1e7) == 16.0, "no digits are lost far from the origin"


@pytest.mark.parametrize("seed", range(5))
def test_clipped_area_is_that_of_shapelys_intersection(seed):
    rng = np.random.default_rng(seed)
    turns, radius = (
        np.sort(rng.uniform(0, 2 * math.pi, 12)),
        rng.uniform(3, 10, 12),
    )  # star-shaped, not convex
    star = np.stack([10 + radius * np.cos(turns), 10 + radius * np.sin(turns)], axis=1)
    for box in ((6.3, 4.1, 17.7, 12.9), (10.5, 0, 11, 30), (40, 40, 50, 50)):
        expected = shapely.Polygon(star).intersection(shapely.box(*box)).area
        assert polygon_area(clip_to_box(star, box)) == pytest.approx(expected, rel=1e-12)


def test_open_and_closed_outlines_are_the_same_polygon():
    both = outlines([SQUARE, RING])
    assert both.areas.tolist() == [16.0, 16.0]
    assert both.boxes.tolist() == [[0, 0, 4, 4]] * 2
    assert [len(p) for p in both.polygons] == [4, 4]


@pytest.mark.parametrize(
    "region", [[], [(1, 1)], [(1, 1), (2, 2)], [(1, 1)] * 5, [(0, 0), (1, 1), (2, 2)]],
    ids=["empty", "point", "line", "one point repeated", "collinear"],
)  # fmt: skip
def test_outlines_without_an_inside_are_left_out_and_counted(region):
    found = outlines([region, SQUARE])
    assert (len(found), found.excluded) == (1, {"degenerate": 1})


def test_a_self_crossing_outline_is_left_out_and_a_slight_crossing_kept():
    overshoots = [*map(tuple, regular_polygon(60, 20.0)), (119.7, 101.0), (120.2, 100.6)]
    assert not shapely.LinearRing(overshoots).is_simple
    found = outlines([BOW_TIE, overshoots])
    assert found.excluded == {"self_crossing": 1}
    assert found.areas.item() == pytest.approx(math.pi * 400, rel=0.01)


def test_outlines_of_many_vertices_take_no_time_whether_they_cross_or_not():
    scribble = np.random.default_rng(0).uniform(0, 100, (20_000, 2))
    tracemalloc.start()
    found = outlines([regular_polygon(20_000, 50.0), scribble])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200e6  # every edge against every other took 1.6 GB
    assert found.excluded == {"self_crossing": 1}


@pytest.mark.parametrize(
    ("attributes", "mpp", "areas", "excluded"),
    [
        ("", 'MicronsPerPixel="0.2527"', [16.0], {}),
        ('NegativeROA="1"', "", [], {"negative_region": 1}),
        ('Type="4"', "", [], {"not_an_outline": 1}),
    ],
)
def test_aperio_regions_scale_and_negative_regions(tmp_path: Path, attributes, mpp, areas, excluded):
    (tmp_path / "a.xml").write_text(aperio([SQUARE], attributes, mpp))
    found = read_outlines(tmp_path / "a.xml")
    assert (found.areas.tolist(), found.mpp, found.excluded) == (areas, 0.2527 if mpp else None, excluded)


POLYGON = {"type": "Polygon", "coordinates": [RING]}
FEATURE = {"type": "Feature", "geometry": POLYGON, "properties": {}}
CELL = {"type": "Polygon", "coordinates": [[[-9, -9], [9, -9], [9, 9], [-9, -9]]]}
FORMS = {
    "collection": {"type": "FeatureCollection", "features": [FEATURE]},
    "list": [FEATURE],
    "feature": FEATURE,
    "geometry": POLYGON,
    "multi": {"type": "MultiPolygon", "coordinates": [[RING]]},
    "cell": {"type": "Feature", "geometry": CELL, "nucleusGeometry": POLYGON},
}


@pytest.mark.parametrize("form", FORMS)
def test_geojson_in_every_form_that_qupath_writes(tmp_path: Path, form: str):
    (tmp_path / "a.geojson").write_text(json.dumps(FORMS[form]))
    assert read_outlines(tmp_path / "a.geojson").areas.tolist() == [16.0]


def one_polygon(*points: object) -> str:
    return json.dumps({"type": "Polygon", "coordinates": [[*RING[:3], *points]]})


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("a.xml", "<html/>", "ImageScope: writes <Annotations>"),
        ("a.xml", aperio([[(math.inf, 1), (2, 2), (3, 1)]]), "finite"),
        ("a.xml", aperio([SQUARE], mpp='MicronsPerPixel="nan"'), "microns per pixel are positive"),
        ("a.xml", '<!DOCTYPE a [<!ENTITY b "c">]><Annotations>&b;</Annotations>', "EntitiesForbidden"),
        ("a.geojson", "{", "JSONDecodeError"),
        ("a.geojson", '{"features": 3}', "KeyError"),
        ("a.geojson", '{"type": "MultiPolygon", "coordinates": [[]]}', "IndexError"),
        ("a.geojson", one_polygon([math.nan, 1]), "finite"),
        ("none.xml", None, "FileNotFoundError"),
    ],
)
def test_annotation_files_that_are_none_are_refused_by_name(tmp_path: Path, name, content, why):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match="read_outlines: cannot read") as refused:
        read_outlines(tmp_path / name)
    message = str(refused.value)
    assert name in message
    assert why in message
    assert len(message) < 500 + len(str(tmp_path))


def test_mask_protocol_closes_clears_and_drops_as_the_paper_says():
    mask = np.zeros((40, 40), np.uint8)
    mask[5:9, 5:9] = 255
    mask[5:9, 10:14] = 255  # a gap of one pixel: closing with 2×2 bridges it
    mask[20:22, 20] = 255  # two pixels: dropped
    mask[30:33, 30] = 255  # three pixels: kept
    mask[0:4, 20:24] = 255  # touches the border: cleared
    for nuclei in (mask, mask > 0):
        assert sorted(areas_in_mask(nuclei)) == [3.0, 36.0]
        assert sorted(areas_in_mask(nuclei, border="clip")) == [3.0, 16.0, 36.0]
        assert sorted(areas_in_mask(nuclei, min_area=1)) == [2.0, 3.0, 36.0]


@pytest.mark.parametrize(("value", "clipped"), [(0, []), (255, [64.0])])
def test_a_mask_of_one_value_holds_no_whole_nucleus(value, clipped):
    mask = np.full((8, 8), value, np.uint8)
    assert areas_in_mask(mask).tolist() == []
    assert areas_in_mask(mask, border="clip").tolist() == clipped


@pytest.mark.data
def test_areas_on_real_slides_are_those_that_aperio_wrote_beside_them(monuseg_root: Path):
    file = monuseg_root / "MoNuSegTrainingData" / "Annotations" / "TCGA-E2-A1B5-01Z-00-DX1.xml"
    stated = [float(r.get("Area")) for r in ElementTree.parse(file).getroot().iter("Region")]
    found = read_outlines(file)
    assert found.excluded == {"degenerate": 1}
    stated = sorted(a for a in stated if a > 0)[-len(found) :]
    assert np.allclose(sorted(found.areas), stated, rtol=1e-3, atol=0.1)
