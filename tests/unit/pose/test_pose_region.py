"""Regions: points go to the crop and back, and the pixels of a crop are where the points say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sefar_serve.pose import Picture, Region

angles = st.floats(-2 * math.pi, 2 * math.pi)
regions = st.builds(Region, st.floats(-500, 2500), st.floats(-500, 2500), st.floats(1, 4000), angles)
points = st.lists(st.tuples(st.floats(-3000, 3000), st.floats(-3000, 3000)), min_size=1, max_size=5).map(np.array)


@given(regions, points)
def test_points_come_back(region: Region, there: np.ndarray) -> None:
    assert np.allclose(region.to_picture(region.to_crop(there)), there, atol=1e-6)


@given(regions)
def test_corners_of_the_crop_are_corners_of_a_square_of_the_regions_size(region: Region) -> None:
    corners = region.to_picture(np.array([(0, 0), (1, 0), (1, 1), (0, 1)], float))
    sides = np.linalg.norm(np.roll(corners, -1, axis=0) - corners, axis=1)
    assert np.allclose(sides, region.size)
    assert np.allclose(corners.mean(axis=0), (region.x, region.y), atol=1e-6)


@given(st.floats(60, 240), st.floats(60, 180), st.floats(10, 300), angles)
def test_a_person_stands_upright_in_the_crop(x: float, y: float, reach: float, angle: float) -> None:
    centre = np.array([x, y])
    top = centre + reach * np.array([math.sin(angle), -math.cos(angle)])
    region = Region.around(centre, top, 1.25)
    assert np.allclose(region.to_crop(np.stack([centre, top])), [(0.5, 0.5), (0.5, 0.5 - 0.5 / 1.25)])


@settings(deadline=None)
@given(st.floats(40, 280), st.floats(40, 200), st.floats(80, 1500), angles, st.sampled_from([64, 128, 256]))
def test_pixels_of_a_crop_are_where_points_say(x: float, y: float, size: float, angle: float, side: int) -> None:
    pixels = np.zeros((240, 320, 3), np.uint8)
    rows, columns = np.mgrid[:240, :320] + 0.5
    pixels[np.hypot(columns - 160, rows - 120) < 20] = 255
    region = Region(160 + (x - 160) * size / 1000, 120 + (y - 120) * size / 1000, size, angle)
    where = region.to_crop(np.array([[160.0, 120.0]]))[0]
    crop = Picture(pixels).crop(region, side).astype(float)[..., 0]
    reach = 20 / size
    if not (reach < where.min() and where.max() < 1 - reach):
        return  # the disc is cut off
    rows, columns = np.mgrid[:side, :side] + 0.5
    seen = np.array([(columns * crop).sum(), (rows * crop).sum()]) / crop.sum() / side
    assert np.abs(seen - where).max() < 0.5 / side
    # The area, in crops where the disc has pixels enough.
    if reach * side > 4:
        assert crop.sum() / 255 == pytest.approx(math.pi * (reach * side) ** 2, rel=0.06)


def test_outside_the_picture_is_black() -> None:
    picture = Picture(np.full((100, 200, 3), 200, np.uint8))
    crop = picture.crop(picture.whole, 224)
    assert crop.shape == (224, 224, 3)
    assert not crop[:55].any()
    assert not crop[-55:].any()
    assert (crop[57:-57] == 200).all()


def test_large_pictures_are_averaged_before_they_are_scaled_down() -> None:
    stripes = np.zeros((1024, 1024, 3), np.uint8)
    stripes[:, ::2] = 255
    crop = Picture(stripes).crop(Region(512, 512, 1024), 128)
    assert np.abs(crop.astype(int) - 127).max() <= 2


@given(regions, regions)
def test_overlap_is_symmetrical_and_1_for_equal_regions(a: Region, b: Region) -> None:
    assert a.overlap(b) == pytest.approx(b.overlap(a))
    assert 0 <= a.overlap(b) <= 1
    assert a.overlap(a) == 1


def test_regions_half_a_side_apart_do_not_overlap() -> None:
    assert Region(0, 0, 100).overlap(Region(50, 0, 100)) == 0
    assert Region(0, 0, 100).overlap(Region(25, 0, 100)) == pytest.approx(0.5)
    assert Region(0, 0, 100).overlap(Region(0, 0, 50)) == pytest.approx(0.5)
