"""Outlines of nuclei: readers against files written here, areas against closed forms and real data."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from defusedxml import ElementTree

from scalelib.errors import DataError
from scalelib.slides.nuclei import (
    clip_to_box,
    crosses_itself,
    filled_area,
    outlines,
    polygon_area,
    read_outlines,
)

SQUARE = [(0, 0), (4, 0), (4, 4), (0, 4)]
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


def test_area_keeps_its_digits_far_from_the_origin():
    far = np.array(SQUARE, float) + 1e7
    assert polygon_area(far) == 16.0


@pytest.mark.parametrize("seed", range(5))
def test_clipped_area_matches_counting_fine_points(seed):
    rng = np.random.default_rng(seed)
    turns = np.sort(rng.uniform(0, 2 * math.pi, 12))
    radius = rng.uniform(3, 10, 12)  # star-shaped, not convex
    star = np.stack([10 + radius * np.cos(turns), 10 + radius * np.sin(turns)], axis=1)
    box = (6.3, 4.1, 17.7, 12.9)
    grid = np.stack(
        np.meshgrid(np.linspace(box[0], box[2], 801)[:-1] + 11.4 / 1600, np.linspace(box[1], box[3], 801)[:-1]
                    + 8.8 / 1600), axis=-1
    ).reshape(-1, 2)  # fmt: skip
    from matplotlib.path import Path as Outline

    counted = Outline(star).contains_points(grid).mean() * 11.4 * 8.8
    assert polygon_area(clip_to_box(star, box)) == pytest.approx(counted, rel=3e-3)


def test_four_quarters_of_a_polygon_add_up_to_the_whole():
    star = regular_polygon(31, 9.0)
    boxes = [(0, 0, 103, 98), (103, 0, 200, 98), (0, 98, 103, 200), (103, 98, 200, 200)]
    assert sum(polygon_area(clip_to_box(star, b)) for b in boxes) == pytest.approx(
        polygon_area(star), rel=1e-12
    )


def test_polygons_outside_a_box_leave_nothing():
    assert polygon_area(clip_to_box(np.array(SQUARE, float), (5, 5, 9, 9))) == 0.0


def test_open_and_closed_outlines_are_the_same_polygon():
    both = outlines([SQUARE, [*SQUARE, SQUARE[0]]])
    assert both.areas.tolist() == [16.0, 16.0]
    assert [len(p) for p in both.polygons] == [4, 4]


@pytest.mark.parametrize(
    "region", [[], [(1, 1)], [(1, 1), (2, 2)], [(1, 1)] * 5, [(0, 0), (1, 1), (2, 2)]],
    ids=["empty", "point", "line", "one point repeated", "collinear"],
)  # fmt: skip
def test_outlines_without_an_inside_are_left_out_and_counted(region):
    found = outlines([region, SQUARE])
    assert len(found) == 1
    assert found.excluded == {"degenerate": 1}


def test_a_self_crossing_outline_is_left_out_and_a_slight_crossing_kept():
    loop = [
        *[tuple(p) for p in regular_polygon(60, 20.0)],
        (119.7, 101.0),
        (120.2, 100.6),
    ]  # overshoots its start
    assert crosses_itself(np.array(loop))
    found = outlines([BOW_TIE, loop])
    assert found.excluded == {"self_crossing": 1}
    assert found.areas.item() == pytest.approx(math.pi * 400, rel=0.01)


def test_filled_area_agrees_with_the_shoelace_where_nothing_crosses():
    star = regular_polygon(5, 30.0)
    assert filled_area(star) == pytest.approx(polygon_area(star), rel=0.01)


def test_a_vertex_that_is_not_a_number_is_refused():
    with pytest.raises(DataError, match="finite"):
        outlines([[(0, 0), (1, math.nan), (2, 2)]])


def test_aperio_regions_scale_and_negative_regions(tmp_path: Path):
    file = tmp_path / "a.xml"
    file.write_text(aperio([SQUARE], mpp='MicronsPerPixel="0.2527"'))
    found = read_outlines(file)
    assert (found.areas.tolist(), found.mpp, found.excluded) == ([16.0], 0.2527, {})
    file.write_text(aperio([SQUARE], attributes='NegativeROA="1"'))
    assert read_outlines(file).excluded == {"negative_region": 1}
    file.write_text(aperio([SQUARE], attributes='Type="4"'))
    assert read_outlines(file).excluded == {"not_an_outline": 1}


@pytest.mark.parametrize("form", ["collection", "list", "feature", "geometry", "multi", "cell"])
def test_geojson_in_every_form_that_qupath_writes(tmp_path: Path, form: str):
    ring = [[*map(float, p)] for p in [*SQUARE, SQUARE[0]]]
    polygon = {"type": "Polygon", "coordinates": [ring]}
    feature = {"type": "Feature", "geometry": polygon, "properties": {}}
    cell = {"type": "Polygon", "coordinates": [[[-9, -9], [9, -9], [9, 9], [-9, -9]]]}
    content = {
        "collection": {"type": "FeatureCollection", "features": [feature]},
        "list": [feature],
        "feature": feature,
        "geometry": polygon,
        "multi": {"type": "MultiPolygon", "coordinates": [[ring]]},
        "cell": {"type": "Feature", "geometry": cell, "nucleusGeometry": polygon},
    }[form]
    file = tmp_path / "a.geojson"
    file.write_text(json.dumps(content))
    assert read_outlines(file).areas.tolist() == [16.0]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.xml", "<Annotations><Region>"),
        ("a.xml", "<html/>"),
        ("a.xml", aperio([[("x", 1), (2, 2), (3, 1)]])),
        ("a.geojson", "{"),
        ("a.geojson", '{"features": 3}'),
        ("a.geojson", '{"type": "FeatureCollection", "features": [3]}'),
        ("a.txt", "0 0"),
    ],
)
def test_malformed_annotation_files_are_refused_by_name(tmp_path: Path, name: str, content: str):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match="read_outlines"):
        read_outlines(tmp_path / name)


def test_a_missing_annotation_file_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match=r"cannot read none\.xml"):
        read_outlines(tmp_path / "none.xml")


@pytest.mark.data
def test_areas_on_real_slides_are_those_that_aperio_wrote_beside_them(monuseg_root: Path):
    file = monuseg_root / "MoNuSegTrainingData" / "Annotations" / "TCGA-E2-A1B5-01Z-00-DX1.xml"
    stated = [float(r.get("Area")) for r in ElementTree.parse(file).getroot().iter("Region")]
    found = read_outlines(file)
    assert found.excluded == {"degenerate": 1}
    stated = sorted(a for a in stated if a > 0)[-len(found) :]
    assert np.allclose(sorted(found.areas), stated, rtol=1e-3, atol=0.1)
