"""The object classes: distances, boxes and areas against closed forms and brute force."""

from __future__ import annotations

import numpy as np
import pytest

from studies.rendered.scenes import CLASSES, SHAPES, coverage, half_extents

ROTATIONS = (-30.0, -11.0, 0.0, 19.0, 30.0)


def lens(r: float, d: float) -> float:
    """Area that a unit circle and one of radius r share, centres d apart."""
    a = np.arccos((d * d + 1 - r * r) / (2 * d))
    b = np.arccos((d * d + r * r - 1) / (2 * d * r))
    return a + r * r * b - d * np.sin(a)


def pentagram() -> tuple[float, float]:
    """Area, and area of the upright box, of a pentagram in a unit circle."""
    inner = (3 - np.sqrt(5)) / 2
    width, height = 2 * np.sin(2 * np.pi / 5), 1 + np.cos(np.pi / 5)
    return 5 * inner * np.sin(np.pi / 5), width * height


# Share of the upright box that a shape fills, from elementary geometry.
FILL = {
    "disc": np.pi / 4,
    "ring": np.pi / 4 * (1 - 0.5**2),
    "square": 1.0,
    "triangle": 0.5,
    "star": pentagram()[0] / pentagram()[1],
    "cross": 1 - 0.68**2,
    "crescent": (np.pi - lens(0.8, 0.5)) / (2 * 1.61),
    "heart": (4 + np.pi) / ((2 + np.sqrt(2)) * (1 + np.sqrt(0.5) + np.sqrt(2))),
    "arrow": (0.9 + 0.56) / (1.8 * 2),
    "hourglass": (0.2 + 0.8) * 2 / (1.8 * 2),
}


def test_there_are_at_least_ten_classes_and_each_has_a_known_area():
    assert len(CLASSES) >= 10
    assert set(FILL) == set(CLASSES)


@pytest.mark.parametrize("name", CLASSES)
def test_outline_points_have_distance_zero(name):
    points = SHAPES[name].outline
    assert np.abs(SHAPES[name].distance(points[:, 0], points[:, 1])).max() < 1e-6


@pytest.mark.parametrize("name", CLASSES)
def test_box_encloses_the_rotated_shape_tightly(name):
    grid = np.linspace(-2, 2, 1001)
    x, y = np.meshgrid(grid, grid)
    inside = SHAPES[name].distance(x, y) <= 0
    points = np.stack([x[inside], y[inside]])
    for rotation in ROTATIONS:
        a = np.deg2rad(rotation)
        turned = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]) @ points
        centre, half = half_extents(name, rotation)
        np.testing.assert_allclose(turned.min(axis=1), centre - half, atol=0.015)
        np.testing.assert_allclose(turned.max(axis=1), centre + half, atol=0.015)


@pytest.mark.parametrize("name", CLASSES)
def test_distances_have_slope_at_most_one(name):
    """So that the ramp at the outline is one pixel wide wherever it is straight."""
    grid = np.linspace(-1.5, 1.5, 301)
    distance = SHAPES[name].distance(*np.meshgrid(grid, grid))
    slope = np.hypot(*np.gradient(distance, grid, grid))
    near = np.abs(distance) < 0.1
    assert slope[near].max() < 1.02  # a little over where the grid straddles a crease
    assert np.median(slope[near]) == pytest.approx(1, abs=1e-2)


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("rotation", [0.0, 23.0])
def test_coverage_adds_up_to_the_area_known_from_geometry(name, rotation):
    _, upright = half_extents(name, 0.0)
    _, half = half_extents(name, rotation)
    box = (20.3, 10.7, 20.3 + 60 * half[0], 10.7 + 60 * half[1])  # 30 px to the unit
    expected = FILL[name] * 4 * upright.prod() * 30**2
    assert coverage(name, rotation, box, 160).sum() == pytest.approx(expected, rel=5e-3)


def test_a_square_that_covers_half_pixels_covers_them_by_half():
    np.testing.assert_allclose(coverage("square", 0.0, (1.5, 1.0, 4.5, 4.0), 6)[2], [0, 0.5, 1, 1, 0.5, 0])
