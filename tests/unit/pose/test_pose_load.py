"""From a video to poses: which frames, in which order, in whose pixels."""

from __future__ import annotations

import numpy as np
import pytest
from coloured_persons import HEIGHT, WIDTH, Person, scene, video, walk, walking_person

from sefar_serve.clip import ClipSpanError, NotAVideoError, Sampling, load_clip
from sefar_serve.pose import JOINTS, load_poses
from sefar_serve.pose.fake import FakeEstimator

HIPS = [JOINTS.index("left_hip"), JOINTS.index("right_hip")]


@pytest.fixture(scope="module")
def walking() -> bytes:
    return walking_person()


def places(found) -> np.ndarray:  # type: ignore[no-untyped-def]
    return found.poses.image[:, 0, HIPS, 0].mean(axis=1)


def test_sixteen_frames_at_segment_centres(walking: bytes, estimator: FakeEstimator) -> None:
    found = load_poses(walking, estimator)
    assert found.indices.tolist() == list(range(1, 32, 2))
    assert found.poses.joints.shape == (16, 1, 15, 4)
    assert places(found) == pytest.approx(40 + 7 * found.indices, abs=5)
    assert found.times == pytest.approx(found.indices / 16)
    assert (found.width, found.height, found.frame_count, found.warnings) == (WIDTH, HEIGHT, 32, ())
    assert found.poses.detected.all()
    assert (found.poses.estimator, found.poses.estimator_sha256) == ("fake", "0" * 64)


@pytest.mark.parametrize("sampling", [Sampling((2, 2, 4)), Sampling((4, 4, 8), "local")])
def test_elements_get_the_frames_that_a_clip_has(walking: bytes, estimator: FakeEstimator, sampling: Sampling) -> None:
    found = load_poses(walking, estimator, sampling)
    assert found.indices.tolist() == load_clip(walking, sampling, resize=64, size=64).indices.tolist()
    assert places(found) == pytest.approx(40 + 7 * found.indices, abs=5)


def test_a_span(walking: bytes, estimator: FakeEstimator) -> None:
    found = load_poses(walking, estimator, Sampling((4,)), start=0.5, end=1.0)
    assert found.indices.tolist() == [9, 11, 13, 15]
    assert found.frame_count == 8


def test_frames_of_a_short_video_repeat_but_are_looked_at_once(estimator: FakeEstimator) -> None:
    found = load_poses(video(scene(Person(walk((100, 120), count=3)), count=3)), estimator)
    assert sorted(set(found.indices.tolist())) == [0, 1, 2]
    assert len(found.poses) == 16
    assert estimator.looks == 3


def test_large_pictures_are_scaled_down_but_joints_are_in_their_pixels(estimator: FakeEstimator) -> None:
    size = (1920, 1080)
    person = Person(walk((900, 600), (40, 0), count=4), height=500)
    found = load_poses(video(scene(person, count=4, size=size)), estimator, Sampling((4,)))
    assert (found.width, found.height) == size
    assert places(found) == pytest.approx([900, 940, 980, 1020], abs=12)


def test_an_empty_room_gives_a_warning_and_zeros(estimator: FakeEstimator) -> None:
    found = load_poses(video(scene()), estimator)
    assert found.warnings == found.poses.warnings == ("no person found",)
    assert not found.poses.joints.any()


def test_a_person_who_leaves_gives_a_warning(estimator: FakeEstimator) -> None:
    found = load_poses(video(scene(Person([(100, 120)] * 6 + [None] * 10))), estimator)
    assert found.warnings == ("no person in 10 of 16 frames",)


def test_dark_frames_give_a_warning(estimator: FakeEstimator) -> None:
    frames = scene(Person(walk((100, 120))))
    frames[:5] = frames[:5] // 5
    found = load_poses(video(frames), estimator)
    assert found.warnings[0] == "5 of 16 frames are dark; joints found in them may be wrong"


def test_two_persons(estimator: FakeEstimator) -> None:
    frames = scene(Person(walk((100, 120)), "red"), Person(walk((220, 120)), "blue", height=80))
    found = load_poses(video(frames), estimator, persons=2)
    assert found.poses.joints.shape == (16, 2, 15, 4)
    assert found.poses.image[:, :, HIPS, 0].mean(axis=(0, 2)) == pytest.approx([100, 220], abs=4)


@pytest.mark.parametrize("persons", [0, 3])
def test_numbers_of_persons_that_cannot_be_followed(walking: bytes, estimator: FakeEstimator, persons: int) -> None:
    with pytest.raises(ValueError, match=f"persons is {persons}; 1 to 2"):
        load_poses(walking, estimator, persons=persons)


def test_errors_of_the_video_are_those_of_clips(walking: bytes, estimator: FakeEstimator) -> None:
    with pytest.raises(NotAVideoError):
        load_poses(b"no video at all", estimator)
    with pytest.raises(ClipSpanError):
        load_poses(walking, estimator, start=5)
