"""Frame i is the i-th frame presented, in every codec and container, read alone or with others."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path
from unittest.mock import patch

import av
import numpy as np
import pytest
from av.video.frame import PictureType
from numbered_clips import decode_in_turn, encode, numbers_of, picture

from sefar_serve.clip import ClipLimits, EmptyVideoError, NoVideoStreamError, Video
from sefar_serve.clip.decoder import Decoder

COUNT = 40
OPEN = "keyint=10:min-keyint=10:bframes=4:scenecut=0"
X264_OPEN = {"x264-params": f"open-gop=1:{OPEN}"}
X264_PYRAMID = {"x264-params": f"open-gop=1:b-pyramid=normal:{OPEN}"}
X265_OPEN = {"x265-params": f"open-gop=1:{OPEN}:log-level=none"}
X265_RADL = {"x265-params": f"open-gop=0:radl=2:{OPEN}:log-level=none"}
B_FRAMES = {"bf": "2", "g": "12"}
FAST_VPX = {"deadline": "realtime", "cpu-used": "8", "g": "12"}
INTERLACED = {"flags": "+ildct+ilme", "x264-params": "interlaced=1:keyint=12"}

STREAMS = {
    "h264-mp4": ("libx264", "mp4", B_FRAMES),
    "h264-mkv-no-count": ("libx264", "matroska", B_FRAMES),
    "h264-ts": ("libx264", "mpegts", B_FRAMES),
    "h264-flv": ("libx264", "flv", B_FRAMES),
    "h264-interlaced": ("libx264", "matroska", INTERLACED),
    "h264-open-mp4": ("libx264", "mp4", X264_OPEN),
    "h264-open-pyramid": ("libx264", "mp4", X264_PYRAMID),
    "h264-open-ts": ("libx264", "mpegts", X264_OPEN),
    "hevc-open-mp4": ("libx265", "mp4", X265_OPEN),
    "hevc-open-mkv": ("libx265", "matroska", X265_OPEN),
    "hevc-radl": ("libx265", "mp4", X265_RADL),
    "mpeg4-mp4": ("mpeg4", "mp4", B_FRAMES),
    "mpeg2-ps": ("mpeg2video", "mpeg", B_FRAMES),
    "vp8-webm": ("libvpx", "webm", FAST_VPX),
    "vp9-webm": ("libvpx-vp9", "webm", FAST_VPX),
    "ffv1-nut": ("ffv1", "nut", {}),
}
COUNTED = {
    "mpeg4-avi": ("mpeg4", "avi", B_FRAMES),
    "h264-avi": ("libx264", "avi", B_FRAMES),
    "h264-raw": ("libx264", "h264", B_FRAMES),
}
REFRESHED = {"h264-intra-refresh": ("libx264", "mp4", {"x264-params": "intra-refresh=1:keyint=10"})}


@pytest.mark.parametrize(
    ("codec", "container", "options"),
    [pytest.param(*case, id=name) for name, case in {**STREAMS, **COUNTED, **REFRESHED}.items()],
)
def test_every_frame_is_exact_read_together_and_alone(codec: str, container: str, options: dict[str, str]) -> None:
    data = encode(COUNT, codec, container, options=options)
    truth = decode_in_turn(data)
    assert numbers_of(truth) == list(range(COUNT))
    with Video(data) as video:
        assert video.frame_count == COUNT
        assert video.times == pytest.approx(np.arange(COUNT) / 25, abs=1e-3)
        assert video.duration == pytest.approx(COUNT / 25, abs=1e-3)
        assert video.average_rate == pytest.approx(25, rel=1e-3)
        frames = video.read(range(COUNT))
        assert (frames.pixels == truth).all()
        assert (frames.corrupt, frames.warnings, video.warnings) == ((), (), ())
    with Video(data) as video:
        for n in reversed(range(COUNT)):
            assert (video.read([n]).pixels[0] == truth[n]).all(), n
        scattered = np.random.default_rng(0).permutation(COUNT)[:9]
        assert (video.read(scattered).pixels == truth[scattered]).all()


@pytest.mark.parametrize(
    ("codec", "container", "options"), [pytest.param(*case, id=name) for name, case in STREAMS.items()]
)
def test_no_frame_needs_the_whole_stream_decoded(codec: str, container: str, options: dict[str, str]) -> None:
    data = encode(COUNT, codec, container, options=options)
    with Video(data) as video, patch.object(Decoder, "everything", side_effect=AssertionError("decoded in turn")):
        assert [numbers_of(video.read([n]).pixels)[0] for n in range(COUNT)] == list(range(COUNT))
        rng = np.random.default_rng(0)
        for indices in [range(COUNT), *(rng.integers(0, COUNT, 4).tolist() for _ in range(50))]:
            assert numbers_of(video.read(indices).pixels) == list(indices)


@pytest.mark.parametrize("container", ["mp4", "matroska"])
def test_a_video_that_announces_reordered_frames_and_has_none_is_not_decoded_to_learn_the_order(container: str) -> None:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as out:
        stream = out.add_stream("libx264", rate=25, options=B_FRAMES)
        stream.width, stream.height, stream.pix_fmt = 96, 72, "yuv420p"
        for number in range(COUNT):
            frame = av.VideoFrame.from_ndarray(picture(number, 96, 72), format="rgb24")
            frame.pict_type = PictureType.P
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    data = buffer.getvalue()
    with av.open(io.BytesIO(data)) as source:
        stream = source.streams.video[0]
        assert stream.codec_context.has_b_frames
        times = [packet.pts for packet in source.demux(stream) if packet.size]
        assert times == sorted(times)
    with patch.object(Decoder, "in_turn", side_effect=AssertionError("decoded in turn")), Video(data) as video:
        assert numbers_of(video.read([31, 2, 17]).pixels) == [31, 2, 17]


@pytest.mark.parametrize("container", ["mp4", "matroska"])
def test_av1(container: str) -> None:
    data = encode(24, "libsvtav1", container, options={"preset": "12", "g": "10", "svtav1-params": "lp=1"})
    truth = decode_in_turn(data)
    with Video(data) as video:
        assert video.frame_count == len(truth) == 24
        assert video.codec == "av1"
        for n in (23, 9, 10, 0, *range(24)):  # frames skipped at first must still decode later
            assert (video.read([n]).pixels[0] == truth[n]).all(), n


def test_streams_of_key_frames_alone_need_no_counting_even_in_avi() -> None:
    data = encode(COUNT, "mjpeg", "avi", pix_fmt="yuvj420p")
    with Video(data) as video, patch.object(Decoder, "everything", side_effect=AssertionError("decoded in turn")):
        assert numbers_of(video.read([31, 2, 17]).pixels) == [31, 2, 17]


@pytest.mark.parametrize("threads", [0, 2])
def test_decoder_threads_change_nothing(threads: int) -> None:
    data = encode(COUNT, options=X264_OPEN)
    with Video(data) as one, Video(data, threads=threads) as many:
        for indices in ([3, 38, 21], range(COUNT), [0], [39]):
            assert (one.read(indices).pixels == many.read(indices).pixels).all()


@pytest.mark.parametrize("container", ["mp4", "matroska"])
def test_times_follow_a_variable_frame_rate(container: str) -> None:
    pts = [n * 40 + n % 3 * 11 + (500 if n > 20 else 0) for n in range(COUNT)]
    with Video(encode(COUNT, container=container, pts=pts)) as video:
        assert video.times == pytest.approx(np.array(pts) / 1000, abs=1e-3)
        frames = video.read([21, 4])
        assert numbers_of(frames.pixels) == [21, 4]
        assert frames.times == pytest.approx([1.34, 0.171], abs=1e-3)


def test_times_begin_at_the_first_frame_shown() -> None:
    with Video(encode(10, container="matroska", pts=[5000 + 40 * n for n in range(10)])) as video:
        assert video.times[0] == 0
        assert video.times[-1] == pytest.approx(0.36, abs=1e-3)


def test_times_are_read_only() -> None:
    with Video(encode(3)) as video, pytest.raises(ValueError, match="read-only"):
        video.times[0] = 1


def test_repeated_indices_in_any_order() -> None:
    with Video(encode(COUNT)) as video:
        frames = video.read([7, 3, 7, 39, 0, 3])
        assert numbers_of(frames.pixels) == frames.indices.tolist() == [7, 3, 7, 39, 0, 3]


@pytest.mark.parametrize("indices", [[-1], [3], [0, 99]])
def test_numbers_out_of_range(indices: list[int]) -> None:
    with Video(encode(3), name="three") as video, pytest.raises(IndexError, match="three has frames 0 to 2"):
        video.read(indices)


def test_an_empty_list_of_numbers_is_refused() -> None:
    with Video(encode(3)) as video, pytest.raises(ValueError, match="at least one frame number"):
        video.read([])


def test_a_warning_names_the_choice_between_several_streams() -> None:
    data = encode(5, sizes=[(192, 144)])
    with Video(data) as video:
        chosen = video.stream_index
        assert (video.width, video.height) == [(96, 72), (192, 144)][chosen]
        (warning,) = video.warnings
        assert f"used stream {chosen} ({video.width}x{video.height})" in warning
        assert (video.read([2]).pixels == decode_in_turn(data, stream=chosen)[2]).all()


def test_cover_art_is_not_a_video(tmp_path: Path) -> None:
    path = tmp_path / "song.m4a"
    with av.open(path, "w", format="mp4") as out:
        sound = out.add_stream("aac", rate=8000, layout="mono")
        cover = out.add_stream("mjpeg", rate=1)
        cover.width = cover.height = 32
        cover.pix_fmt = "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        out.mux(cover.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")))
        out.mux(cover.encode())
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), format="fltp", layout="mono")
        silence.sample_rate, silence.pts = 8000, 0
        out.mux(sound.encode(silence))
        out.mux(sound.encode())
    with pytest.raises(NoVideoStreamError, match="no video stream"):
        Video(path)


def test_a_stream_without_frames() -> None:
    with pytest.raises(EmptyVideoError, match="no frames in it"):
        Video(encode(0, container="matroska", audio_seconds=1.0))


def test_an_audio_stream_changes_nothing() -> None:
    with Video(encode(COUNT, audio_seconds=1.6)) as video:
        assert numbers_of(video.read([39, 11]).pixels) == [39, 11]


def test_fragmented_mp4_has_all_its_frames() -> None:
    fragments = {"movflags": "frag_keyframe+empty_moov"}
    with Video(encode(COUNT, options=B_FRAMES, mux_options=fragments)) as video:
        assert numbers_of(video.read(range(COUNT)).pixels) == list(range(COUNT))


def test_limits_on_pixels_hold_when_the_size_changes_in_the_middle() -> None:
    data = encode(10, container="h264") + encode(10, container="h264", width=640, height=480)
    with Video(data) as video:
        assert video.frame_count == 20
        assert numbers_of(video.read([15]).pixels) == [5]  # scaled to the first frames' size
    with Video(data, limits=ClipLimits(max_pixels=96 * 72)) as video:
        assert video.frame_count == 10


def test_pixel_aspect_comes_from_the_stream() -> None:
    with Video(encode(3, aspect=Fraction(4, 3))) as video:
        assert (video.width, video.height) == (128, 72)
        assert video.read([1]).pixels.shape == (1, 72, 128, 3)
