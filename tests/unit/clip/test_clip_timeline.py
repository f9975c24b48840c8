"""Recordings in which the order of the frames is hard to tell: edited, cut, joined, repeated, hidden."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from av.packet import Packet
from numbered_clips import decode_in_turn, encode, numbers_of, remux

from sefar_serve.clip import ClipLimitError, ClipLimits, Video

B_FRAMES = {"bf": "2", "g": "12"}
OPEN = "open-gop=1:keyint=12:min-keyint=12:bframes=4:scenecut=0"


def exact_numbers(data: bytes) -> list[int]:
    """The numbers of all frames, after checking that each, read alone too, is what decoding in order gives."""
    truth = decode_in_turn(data)
    with Video(data) as video:
        assert video.frame_count == len(truth)
        assert (np.diff(video.times) >= 0).all()
        frames = video.read(range(video.frame_count))
        assert (frames.pixels == truth).all()
        for n in range(video.frame_count):
            assert (video.read([n]).pixels[0] == truth[n]).all(), n
        assert (video.warnings, frames.warnings, frames.corrupt) == ((), (), ())
    return numbers_of(truth)


@pytest.mark.parametrize(
    ("milliseconds", "skipped", "shown"),
    [
        (1200, 0, range(30)),
        (1200, 17, range(17, 47)),
        (2400, 12, range(12, 60)),
        (400, 30, range(30, 40)),
    ],
    ids=["end", "both", "start-at-key", "middle"],
)
def test_edit_lists(milliseconds: int, skipped: int, shown: range) -> None:
    data = bytearray(encode(60, options=B_FRAMES))
    at = data.find(b"elst") + 12
    _, media_time = struct.unpack(">II", data[at : at + 8])
    data[at : at + 8] = struct.pack(">II", milliseconds, media_time + skipped * 512)  # 12800 ticks per second
    assert exact_numbers(bytes(data)) == list(shown)


@pytest.mark.parametrize("container", ["matroska", "mpegts"])
@pytest.mark.parametrize(
    ("codec", "options"),
    [("libx264", {"x264-params": OPEN}), ("libx265", {"x265-params": f"{OPEN}:log-level=none"})],
    ids=["h264", "hevc"],
)
@pytest.mark.parametrize("cut_at_key", [True, False], ids=["at-key", "between"])
def test_a_recording_cut_in_the_middle_of_a_gop(
    codec: str, options: dict[str, str], container: str, cut_at_key: bool
) -> None:
    keys = []

    def keep(number: int, packet: Packet) -> bool:
        if packet.size and packet.is_keyframe:
            keys.append(number)
        return len(keys) >= 2 if cut_at_key else number >= 5

    # The leading pictures of the first whole GOP need frames that were cut off: no player shows them.
    data = remux(encode(60, codec, container, options=options), container, keep)
    assert exact_numbers(data) == list(range(12, 60))


def test_recordings_joined_end_to_end() -> None:
    parts = [encode(n, container="mpegts", options=B_FRAMES) for n in (30, 40)]
    assert exact_numbers(b"".join(parts)) == [*range(30), *range(40)]
    with Video(b"".join(parts)) as video:
        assert video.times == pytest.approx(np.arange(70) / video.average_rate)


def test_repeated_timestamps() -> None:
    def repeat(number: int, packet: Packet) -> bool:
        if packet.pts is not None and number % 7 == 3:
            packet.pts = packet.dts = packet.pts - 40
        return True

    options = {"bf": "0", "g": "12"}
    assert exact_numbers(remux(encode(40, container="matroska", options=options), "matroska", repeat)) == [*range(40)]


def test_hidden_frames_of_vp8_are_decoded_but_not_counted() -> None:
    def hide(number: int, packet: Packet) -> bool:
        if number in (7, 20):
            body = bytearray(bytes(packet))
            body[0] &= ~0x10  # the bit that says "show"
            packet.update(bytes(body))
        return True

    data = remux(encode(40, "libvpx", "webm", options={"deadline": "realtime", "cpu-used": "8"}), "webm", hide)
    assert exact_numbers(data) == [n for n in range(40) if n not in (7, 20)]


def test_too_many_frames() -> None:
    data = encode(20)
    with pytest.raises(ClipLimitError, match="more frames than the limit of 19"):
        Video(data, limits=ClipLimits(max_frames=19))
    with Video(data, limits=ClipLimits(max_frames=20)) as video:
        assert video.frame_count == 20


def test_too_long() -> None:
    with pytest.raises(ClipLimitError, match=r"lasts 0\.8 s"):
        Video(encode(20), limits=ClipLimits(max_duration=0.7))
