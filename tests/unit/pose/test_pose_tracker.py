"""Persons are chosen over the whole clip and kept, found again after a loss, and never made up."""

from __future__ import annotations

import numpy as np
import pytest
from coloured_persons import HEIGHT, TIMES, WIDTH, Person, scene, walk

from sefar_serve.pose import JOINTS, Tracker
from sefar_serve.pose.fake import FakeEstimator
from sefar_serve.pose.tracker import Track

HIPS = [JOINTS.index("left_hip"), JOINTS.index("right_hip")]


def follow(frames: np.ndarray, estimator: FakeEstimator, persons: int = 1) -> list[Track]:
    return Tracker(frames, TIMES[: len(frames)], estimator).follow(persons)


def hips(track: Track) -> dict[int, tuple[float, float]]:
    return {frame: tuple(found.image[HIPS].mean(axis=0).tolist()) for frame, found in sorted(track.items())}


def is_at(track: Track, person: Person) -> None:
    """The track has the person in every frame that shows them, and in no other."""
    there = {frame: place for frame, place in enumerate(person.places) if place is not None}
    found = hips(track)
    assert found.keys() == there.keys()
    for frame, place in there.items():
        assert found[frame] == pytest.approx(place, abs=4), frame


def test_one_person_is_followed_with_few_searches(estimator: FakeEstimator) -> None:
    person = Person(walk((80, 120), (8, 2)))
    [track] = follow(scene(person), estimator)
    is_at(track, person)
    assert estimator.detections == 8  # whole and middle of four frames
    assert estimator.looks == 16


def test_nobody(estimator: FakeEstimator) -> None:
    assert follow(scene(), estimator, persons=2) == [{}, {}]
    assert estimator.looks == 0


def test_a_clip_of_one_frame(estimator: FakeEstimator) -> None:
    person = Person([(100, 100)])
    [track] = follow(scene(person, count=1), estimator)
    is_at(track, person)


def test_the_large_person_in_the_middle_is_the_main_one(estimator: FakeEstimator) -> None:
    player = Person(walk((140, 120), (3, 0)), "red", height=120)
    coach = Person(walk((290, 70)), "green", height=60)
    first, second = follow(scene(coach, player), estimator, persons=2)
    is_at(first, player)
    is_at(second, coach)


def test_the_person_who_is_there_throughout_is_taken_over_one_who_passes(estimator: FakeEstimator) -> None:
    player = Person(walk((120, 120), (2, 0)), "red")
    passing = Person([None] * 5 + [(200, 120)] * 2 + [None] * 9, "green", height=140)
    is_at(follow(scene(player, passing), estimator)[0], player)


def test_who_moves_is_taken_over_who_stands_still(estimator: FakeEstimator) -> None:
    """Both as large and as central; the block that changes its place is the player."""
    coach = Person(walk((120, 120)), "green")
    player = Person([(200 + (8 if i % 2 else -8), 120) for i in range(16)], "red")
    for order in ((coach, player), (player, coach)):
        is_at(follow(scene(*order), estimator)[0], player)


def test_a_person_keeps_their_identity_where_another_crosses_in_front(estimator: FakeEstimator) -> None:
    player = Person(walk((80, 120), (10, 0)), "red", height=130)
    other = Person(walk((240, 120), (-10, 0)), "blue")
    [track] = follow(scene(player, other), estimator)
    for frame, place in hips(track).items():
        # In the frames where the two overlap the joints may be off, but never those of the other.
        if abs(player.places[frame][0] - other.places[frame][0]) > 50:
            assert place == pytest.approx(player.places[frame], abs=4), frame
    assert len(track) >= 12


def test_colours_tell_persons_apart_where_places_do_not(estimator: FakeEstimator) -> None:
    """The player leaves at once; a bystander stands where the player was."""
    player = Person([(150, 120)] * 11 + [None] * 5, "red")
    bystander = Person([None] * 11 + [(155, 122)] * 5, "blue")
    [track] = follow(scene(player, bystander), estimator)
    is_at(track, player)


def test_a_person_who_jumps_is_found_again_by_the_detector(estimator: FakeEstimator) -> None:
    person = Person([(100, 120)] * 6 + [(210, 120)] * 10, "red", height=80)
    [track] = follow(scene(person), estimator)
    assert hips(track)[15] == pytest.approx((210, 120), abs=4) or hips(track)[0] == pytest.approx((100, 120), abs=4)


def test_frames_without_the_person_are_left_out(estimator: FakeEstimator) -> None:
    places = walk((100, 120), (5, 0))
    person = Person([None if i in (0, 6, 7, 8) else place for i, place in enumerate(places)])
    is_at(follow(scene(person), estimator)[0], person)


def test_a_person_is_found_though_no_scout_frame_shows_them(estimator: FakeEstimator) -> None:
    person = Person([None] * 12 + [(150, 120)] + [None] * 3)
    is_at(follow(scene(person), estimator)[0], person)


def test_a_body_imagined_in_the_dark_is_nobody(estimator: FakeEstimator) -> None:
    assert follow(scene(Person(walk((150, 120)), "dark red")), estimator) == [{}]
    assert estimator.looks > 0


def test_behind_an_imagined_body_there_may_be_a_real_person(estimator: FakeEstimator) -> None:
    person = Person(walk((60, 120)), "green", height=70)
    [track] = follow(scene(Person(walk((160, 120)), "dark red", height=150), person), estimator)
    is_at(track, person)


def test_small_persons_are_found_on_closer_squares() -> None:
    class Coarse(FakeEstimator):
        """Sees persons of at least a fifth of what it looks at."""

        def detect(self, picture, within):  # type: ignore[no-untyped-def]
            return [d for d in super().detect(picture, within) if d.region.size > within.size / 5]

    person = Person(walk((300, 120)), height=45)
    estimator = Coarse()
    is_at(follow(scene(person), estimator)[0], person)
    assert estimator.detections == 4 * 4  # whole, middle and both ends


def test_specks_are_no_persons(estimator: FakeEstimator) -> None:
    assert follow(scene(Person(walk((150, 120)), height=20)), estimator) == [{}]


def test_one_body_is_not_two_persons(estimator: FakeEstimator) -> None:
    player = Person(walk((150, 120)), "red")
    first, second = follow(scene(player), estimator, persons=2)
    is_at(first, player)
    assert second == {}


def test_two_persons_who_hug_do_not_become_one(estimator: FakeEstimator) -> None:
    one = Person([(80 + 10 * min(i, 7), 120) for i in range(16)], "red")
    other = Person([(240 - 9 * min(i, 7), 120) for i in range(16)], "blue")
    tracks = follow(scene(one, other), estimator, persons=2)
    for frame in range(16):
        places = [hips(track).get(frame) for track in tracks]
        if None not in places:
            assert np.hypot(*np.subtract(*places)) > 8, frame


def test_the_frames_size_is_told() -> None:
    assert Tracker(scene(), TIMES, FakeEstimator()).size == (WIDTH, HEIGHT)
