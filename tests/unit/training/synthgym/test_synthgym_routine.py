"""Routines: a gapless timeline that fits the video it belongs to."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

from sefar_serve.clip import Video
from sefar_training.synthgym import CLASSES, PRESETS, write_routine


def test_the_timeline_fits_the_video(tmp_path: Path) -> None:
    path = tmp_path / "routine.mp4"
    segments = write_routine(path, 3, "easy", 4)
    assert len(segments) == 4
    assert len({segment.action.event for segment in segments}) == 1
    assert segments[0].start == 0
    for one, following in pairwise(segments):
        assert one.start < one.end == following.start
    with Video(path) as video:
        assert video.frame_count == pytest.approx(segments[-1].end * 25, abs=1e-6)


def test_requested_actions_come_in_the_requested_order(tmp_path: Path) -> None:
    wanted = [CLASSES[9], CLASSES[0], CLASSES[9]]
    segments = write_routine(tmp_path / "routine.mp4", 0, "easy", wanted)
    assert [segment.action for segment in segments] == wanted


def test_the_same_seed_gives_the_same_timeline(tmp_path: Path) -> None:
    path = tmp_path / "routine.mp4"
    assert write_routine(path, 8, "easy", 2) == write_routine(path, 8, "easy", 2)


def test_routine_without_actions_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one action"):
        write_routine(tmp_path / "routine.mp4", 0, "easy", 0)
    assert list(tmp_path.iterdir()) == []


def test_a_data_set_holds_routines_with_their_timelines(small_gym: Path) -> None:
    timeline = json.loads((small_gym / "routines" / "timeline.json").read_text())
    assert len(timeline) == PRESETS["easy"].routines
    for name, segments in timeline.items():
        assert (small_gym / name).is_file()
        assert all(CLASSES[segment["label"]].name == segment["name"] for segment in segments)
