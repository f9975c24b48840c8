"""Tracks become arrays: frames without a person are interpolated in time, flagged, and told."""

from __future__ import annotations

import numpy as np
import pytest

from sefar_serve.pose import JOINTS, Landmarks, Region
from sefar_serve.pose.poses import Poses, make_poses
from sefar_serve.pose.tracker import Track

J = len(JOINTS)
TIMES = np.array([0.0, 1.0, 2.0, 4.0])


def landmarks(value: float) -> Landmarks:
    return Landmarks(0.9, np.full((J, 2), value), np.full((J, 3), value / 10), np.full(J, 0.8), Region(0, 0, 1))


def poses(*tracks: Track, order: list[int] | None = None, scale: float = 1.0, dark: int = 0) -> Poses:
    numbers = np.array(order if order is not None else range(len(TIMES)))
    unlit = np.arange(len(numbers)) < dark
    return make_poses(tracks, TIMES, numbers, scale=scale, estimator="fake", estimator_sha256="0", dark=unlit)


def test_shapes_and_types() -> None:
    found = poses({0: landmarks(1)}, {})
    assert (found.joints.shape, found.joints.dtype) == ((4, 2, J, 4), np.float32)
    assert (found.image.shape, found.image.dtype) == ((4, 2, J, 2), np.float32)
    assert (found.presence.shape, found.presence.dtype) == ((4, 2), np.float32)
    assert (found.detected.shape, found.detected.dtype) == ((4, 2), np.bool_)
    assert len(found) == 4


def test_joints_are_interpolated_by_time_and_not_visible() -> None:
    found = poses({0: landmarks(0), 3: landmarks(40)})
    assert found.image[:, 0, 0, 0].tolist() == [0, 10, 20, 40]
    assert found.joints[:, 0, 3, 1] == pytest.approx([0, 1, 2, 4])
    assert found.joints[:, 0, 0, 3] == pytest.approx([0.8, 0, 0, 0.8])
    assert found.presence[:, 0] == pytest.approx([0.9, 0, 0, 0.9])
    assert found.detected[:, 0].tolist() == [True, False, False, True]


def test_before_the_first_and_after_the_last_the_nearest_stands() -> None:
    found = poses({1: landmarks(10), 2: landmarks(20)})
    assert found.image[:, 0, 0, 0].tolist() == [10, 10, 20, 20]


def test_one_frame_stands_for_all() -> None:
    assert poses({2: landmarks(7)}).image[:, 0, 0, 0].tolist() == [7] * 4


def test_nobody_is_all_zeros() -> None:
    found = poses({})
    assert not found.joints.any()
    assert not found.image.any()
    assert not found.detected.any()


def test_frames_come_in_the_order_asked_for_with_repeats() -> None:
    found = poses({0: landmarks(0), 3: landmarks(40)}, order=[3, 0, 0, 1])
    assert found.image[:, 0, 0, 0].tolist() == [40, 0, 0, 10]
    assert found.detected[:, 0].tolist() == [True, True, True, False]


def test_image_joints_are_scaled_to_display_pixels() -> None:
    assert poses({0: landmarks(10)}, scale=3).image[0, 0, 0].tolist() == [30, 30]


@pytest.mark.parametrize(
    ("tracks", "told"),
    [
        (({i: landmarks(1) for i in range(4)},), ()),
        (({i: landmarks(1) for i in range(3)},), ()),
        (({0: landmarks(1)},), ("no person in 3 of 4 frames",)),
        (({},), ("no person found",)),
        (({i: landmarks(1) for i in range(4)}, {}), ("no second person found",)),
        (({}, {}), ("no person found",)),
    ],
)
def test_warnings(tracks: tuple[Track, ...], told: tuple[str, ...]) -> None:
    found = poses(*tracks)
    assert found.warnings == told
    assert found.empty == (told == ("no person found",))


def test_dark_frames_doubt_the_joints_or_say_why_there_are_none() -> None:
    everywhere = {i: landmarks(1) for i in range(4)}
    assert poses(everywhere, dark=2).warnings == ("2 of 4 frames are dark; joints found in them may be wrong",)
    assert poses({}, dark=2).warnings == ("no person found; 2 of 4 frames are dark",)
