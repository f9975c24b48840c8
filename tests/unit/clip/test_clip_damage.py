"""Damaged files give an answer with a warning if possible, otherwise a typed error, and never anything else."""

from __future__ import annotations

import random
import warnings

import numpy as np
import pytest
from av.packet import Packet
from numbered_clips import decode_in_turn, encode, numbers_of, remux

from sefar_serve.clip import (
    Clip,
    ClipError,
    EmptyVideoError,
    NotAVideoError,
    Sampling,
    UndecodableVideoError,
    Video,
    load_clip,
)

ALL_KEYS = {"g": "1"}
FASTSTART = {"movflags": "faststart"}
INDEX_IN_FRONT = {
    "mp4": encode(60, width=96, height=96, options={"g": "12"}, mux_options=FASTSTART),
    "matroska": encode(60, container="matroska", width=96, height=96, options={"g": "12"}),
}


def load(data: bytes) -> Clip:
    return load_clip(data, Sampling(), resize=96, size=96, name="dive.mp4")


def damaged(numbers: set[int], count: int = 64) -> bytes:
    """A video of key frames in which the packets of the given frames are overwritten."""

    def overwrite(number: int, packet: Packet) -> bool:
        if number in numbers:
            packet.update(bytes(packet.size))
        return True

    return remux(encode(count, width=96, height=96, options=ALL_KEYS), "mp4", overwrite)


def test_the_nearest_frame_of_the_segment_replaces_a_damaged_one() -> None:
    # Segments of 8 frames; their middles are 4, 12, 20, … 60.
    clip = load(damaged({20, 21, 19}))
    assert sorted(clip.indices.tolist()) == [4, 12, 18, 28, 36, 44, 52, 60]
    assert numbers_of(clip.frames) == clip.indices.tolist()
    assert clip.times == pytest.approx(clip.indices / 25)
    assert clip.warnings == ("frame 20 does not decode, used frame 18 instead",)
    assert clip.frame_count == 64


def test_a_segment_without_any_frame_is_an_error_that_counts_the_decodable_ones() -> None:
    with pytest.raises(UndecodableVideoError, match=r"frame 20 of dive\.mp4 does not decode") as raised:
        load(damaged(set(range(16, 24))))
    assert raised.value.frames_decoded == 56
    assert "56 of 64 frames decode" in str(raised.value)


def test_reading_by_number_replaces_no_frame_by_default() -> None:
    with Video(damaged({20})) as video:
        assert numbers_of(video.read([19, 21]).pixels) == [19, 21]
        with pytest.raises(UndecodableVideoError, match="frame 20"):
            video.read([19, 20])
        frames = video.read([20, 3], within=[(20, 22), (0, 64)])
        assert frames.indices.tolist() == numbers_of(frames.pixels) == [21, 3]


def test_flagged_frames_are_reported() -> None:
    whole = encode(40, width=96, height=96, options={"g": "40", "bf": "0"})
    reported = []
    for seed in range(12):
        rng = np.random.default_rng(seed)

        def flip(number: int, packet: Packet, rng: np.random.Generator = rng) -> bool:
            if number == 17:
                body = bytearray(bytes(packet))
                for at in rng.integers(len(body) // 3, len(body), 6):
                    body[at] ^= 0xFF
                packet.update(bytes(body))
            return True

        data = remux(whole, "mp4", flip)
        with Video(data) as video:
            frames = video.read([16, 17], within=[(0, 40), (0, 40)])
            assert set(frames.corrupt) <= {17}
            assert (frames.pixels[0] == decode_in_turn(data)[16]).all()
            reported += frames.corrupt
    assert 17 in reported


@pytest.mark.parametrize("kept", [0.9, 0.5, 0.1])
def test_an_mp4_truncated_after_its_index(kept: float) -> None:
    data = INDEX_IN_FRONT["mp4"]
    with pytest.raises((UndecodableVideoError, EmptyVideoError), match=r"truncated|damaged") as raised:
        load(data[: int(len(data) * kept)])
    assert "dive.mp4" in str(raised.value)


def test_an_mp4_without_its_last_frames_can_be_read() -> None:
    data = INDEX_IN_FRONT["mp4"]
    clip = load(data[: int(len(data) * 0.98)])
    assert clip.frame_count == 60
    assert any("looks truncated" in warning for warning in clip.video_warnings)
    assert numbers_of(clip.frames) == clip.indices.tolist()


def test_a_truncated_matroska_gives_a_warning() -> None:
    data = INDEX_IN_FRONT["matroska"]
    clip = load(data[: len(data) // 2])
    assert clip.frame_count < 60
    assert any("it declares 2.4" in warning for warning in clip.video_warnings)


def test_an_mp4_cut_before_its_index() -> None:
    data = encode(20)
    with pytest.raises(NotAVideoError, match=r"dive\.mp4 starts like an MP4 .* truncated"):
        load(data[: len(data) // 2])


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(
    ("codec", "container"),
    [
        ("libx264", "mp4"),
        ("libx264", "matroska"),
        ("mpeg4", "avi"),
        ("libvpx-vp9", "webm"),
        ("libx264", "mpegts"),
        ("libx264", "h264"),
    ],
)
def test_any_damage_gives_an_answer_or_a_typed_error(codec: str, container: str, seed: int) -> None:
    options = {"deadline": "realtime", "cpu-used": "8"} if "vpx" in codec else {"g": "12"}
    whole = encode(24, codec, container, width=64, height=64, options=options)
    rng = random.Random(seed)
    for _ in range(6):
        data = bytearray(whole)
        for _ in range(rng.choice([0, 1, 5, 40])):
            # Headers and indices are at the ends, and small: most damage goes there.
            low, high = rng.choice([(0, len(data)), (0, min(600, len(data))), (max(0, len(data) - 1500), len(data))])
            data[rng.randrange(low, high)] ^= 1 << rng.randrange(8)
        if rng.random() < 0.3:
            del data[rng.randrange(1, len(data)) :]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                clip = load_clip(bytes(data), Sampling(), resize=32, size=32, name="dive.mp4")
            except ClipError as error:
                assert "dive.mp4" in str(error)
            else:
                assert clip.frames.shape == (8, 32, 32, 3)
                assert (np.diff(np.sort(clip.times)) >= 0).all()
