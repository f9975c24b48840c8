"""Raw outputs of both models are read in pixels of the picture, however the region is turned."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sefar_serve.pose import JOINTS, Region
from sefar_serve.pose.blazepose import ANCHORS, LANDMARKS, read_detections, read_landmarks

WITHIN = Region(160, 120, 320)


def detector_output(*persons: tuple[float, tuple[float, float], float, list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """What the detector would give for persons (logit, hips in [0, 1], height of the circle, anchors that fire)."""
    boxes, logits = np.zeros((2254, 12), np.float32), np.full((2254, 1), -20, np.float32)
    for logit, (x, y), reach, fired in persons:
        keys = np.array([(x, y), (x, y - reach), (x, y - 0.4 * reach), (x, y - 0.8 * reach)])
        for anchor in fired:
            boxes[anchor, 4:] = ((keys - ANCHORS[anchor]) * 224).ravel()
            logits[anchor] = logit
    return boxes, logits


def test_anchors_are_centres_of_cells() -> None:
    assert ANCHORS.shape == (2254, 2)
    assert ANCHORS[0].tolist() == ANCHORS[1].tolist() == [0.5 / 28, 0.5 / 28]
    assert ANCHORS[2].tolist() == [1.5 / 28, 0.5 / 28]  # x runs first
    assert ANCHORS[-1].tolist() == [6.5 / 7, 6.5 / 7]


def test_nothing_found() -> None:
    assert read_detections(*detector_output(), WITHIN) == []


def test_anchors_of_one_person_are_one_detection_in_pixels() -> None:
    boxes, logits = detector_output((2.0, (0.5, 0.5), 0.2, [700, 701, 2000]))
    [found] = read_detections(boxes, logits, WITHIN)
    assert found.score == pytest.approx(1 / (1 + math.exp(-2)))
    assert found.hips == pytest.approx((160, 120), abs=1e-3)
    assert found.shoulders == pytest.approx((160, 120 - 0.08 * 320), abs=1e-3)
    assert found.region.size == pytest.approx(2 * 1.25 * 0.2 * 320, rel=1e-4)
    assert found.region.angle == pytest.approx(0, abs=1e-4)


def test_two_persons_are_two_detections_the_surest_first() -> None:
    output = detector_output((1.0, (0.2, 0.5), 0.2, [700, 702]), (3.0, (0.8, 0.5), 0.2, [720]))
    found = read_detections(*output, WITHIN)
    assert [round(d.hips[0]) for d in found] == [256, 64]


@given(st.floats(-math.pi, math.pi), st.floats(20, 500))
def test_landmarks_follow_the_region(angle: float, size: float) -> None:
    rng = np.random.default_rng(0)
    points, world = rng.uniform(0, 256, (39, 5)), rng.normal(size=(39, 3))
    points[:, 3], points[:, 4] = 20, rng.uniform(-3, 3, 39)
    region = Region(100, 80, size, angle)
    found = read_landmarks(
        points.ravel().astype(np.float32), np.float32([0.8]), world.ravel().astype(np.float32), region
    )
    assert found.presence == pytest.approx(0.8)
    chosen = list(LANDMARKS)
    assert np.allclose(region.to_crop(found.image), points[chosen, :2] / 256, atol=1e-5)
    upright = read_landmarks(
        points.ravel().astype(np.float32), np.float32([0.8]), world.ravel().astype(np.float32), Region(100, 80, size)
    )
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    assert np.allclose(found.world[:, :2], upright.world[:, :2] @ turn.T, atol=1e-5)
    assert np.allclose(found.world[:, 2], upright.world[:, 2])
    assert np.allclose(found.world[[9, 10]].mean(axis=0), 0, atol=1e-6)
    assert np.allclose(found.visibility, 1 / (1 + np.exp(-points[chosen, 4])), atol=1e-5)
    assert len(found.image) == len(JOINTS)


def test_the_next_region_is_round_the_circle_of_the_last_two_points() -> None:
    points = np.zeros((39, 5), np.float32)
    points[33, :2], points[34, :2] = (128, 128), (192, 128)
    found = read_landmarks(points.ravel(), np.float32([1]), np.zeros(117, np.float32), Region(50, 50, 256))
    assert (found.region.x, found.region.y) == pytest.approx((50, 50))
    assert found.region.size == pytest.approx(2 * 1.25 * 64)
    assert found.region.angle == pytest.approx(math.pi / 2)
