"""Large videos: only what is wanted is read again, and only once for each file is all of it read."""

from __future__ import annotations

import io
import os
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from numbered_clips import encode, numbers_of

from sefar_serve.clip import ClipLimitError, ClipLimits, UndecodableVideoError, Video, packets, remembered, video

COUNT = 200
NOISY = {"g": "10", "bf": "2", "qp": "4"}


class Counting(io.BytesIO):
    """Counts the bytes that are read."""

    count = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.count += len(data)
        return data


@pytest.fixture(scope="module")
def clip() -> bytes:
    return encode(COUNT, width=192, height=144, options=NOISY)


@pytest.fixture(scope="module")
def frames(clip: bytes) -> np.ndarray:
    with Video(clip) as opened:
        return opened.read(range(COUNT)).pixels


@pytest.fixture
def nothing_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packets, "HELD", 0)
    monkeypatch.setattr(packets, "NEAR", 0)


@pytest.fixture
def path(clip: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(remembered, "WORTHWHILE", 0)
    monkeypatch.setattr(remembered, "_kept", {})
    path = tmp_path / "clip.mp4"
    path.write_bytes(clip)
    return path


@pytest.mark.usefixtures("nothing_held")
def test_only_the_wanted_groups_of_pictures_are_read_again(clip: bytes, frames: np.ndarray) -> None:
    file = Counting(clip)
    with Video(file) as opened:
        for number in (150, 20, 199, 0):
            file.count = 0
            assert (opened.read([number]).pixels[0] == frames[number]).all()
            # One group is a twentieth of the file; the first jump opens it again, or reads ahead.
            assert file.count < len(clip) / 3 or number == 0
        assert not file.closed


@pytest.mark.usefixtures("nothing_held")
@pytest.mark.parametrize("suffix", ["path", "bytes", "file"])
def test_frames_read_again_are_the_same(suffix: str, clip: bytes, frames: np.ndarray, path: Path) -> None:
    with Video({"path": path, "bytes": clip, "file": io.BytesIO(clip)}[suffix]) as opened:
        assert (opened.read(range(COUNT)).pixels == frames).all()
        for chosen in ([3, 190, 77], [199], [0, 1], [100, 99, 98]):
            assert (opened.read(chosen).pixels == frames[chosen]).all()


def test_a_file_that_was_opened_before_is_not_read_whole_again(path: Path, frames: np.ndarray) -> None:
    Video(path).close()
    with patch.object(video, "read_packets", side_effect=AssertionError("read again")), Video(path) as opened:
        assert opened.frame_count == COUNT
        assert (opened.read([180, 3]).pixels == frames[[180, 3]]).all()


def test_a_file_that_has_changed_is_read_again(path: Path) -> None:
    Video(path).close()
    path.write_bytes(encode(30))
    with Video(path) as opened:
        assert numbers_of(opened.read(range(30)).pixels) == list(range(30))
    os.utime(path, (1, 1))
    with (
        patch.object(video, "read_packets", side_effect=AssertionError("read again")),
        pytest.raises(AssertionError, match="read again"),
    ):
        Video(path)


def test_other_limits_are_checked_again(path: Path) -> None:
    Video(path).close()
    with pytest.raises(ClipLimitError, match="limit of 10"):
        Video(path, limits=ClipLimits(max_frames=10))


@pytest.mark.usefixtures("nothing_held")
def test_a_file_that_changes_while_it_is_open_is_an_error(path: Path) -> None:
    with Video(path) as opened:
        path.write_bytes(encode(COUNT, width=192, height=144, options={**NOISY, "qp": "30"}))
        with pytest.raises(UndecodableVideoError, match="changed while it was read"):
            opened.read([150])


def test_what_is_known_of_files_is_forgotten_in_time(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remembered, "KEPT_PACKETS", 2 * COUNT)
    for number in range(3):
        copy = tmp_path / f"{number}.mp4"
        copy.write_bytes(path.read_bytes())
        Video(copy).close()
    assert len(remembered._kept) == 2
    assert remembered.recall(remembered.file_key(tmp_path / "0.mp4", ClipLimits())) is None
    assert remembered.recall(remembered.file_key(tmp_path / "2.mp4", ClipLimits())) is not None
