"""Which sources can be opened, and the error for each that cannot."""

from __future__ import annotations

import io
import wave
from pathlib import Path
from tempfile import SpooledTemporaryFile

import av
import numpy as np
import pytest
from av.stream import Disposition
from numbered_clips import encode, numbers_of, picture

from sefar_serve.clip import (
    ClipError,
    ClipLimitError,
    ClipLimits,
    EmptyVideoError,
    NotAVideoError,
    NoVideoStreamError,
    UndecodableVideoError,
    Video,
)


@pytest.fixture(scope="module")
def clip() -> bytes:
    return encode(12)


def wav() -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as out:
        out.setparams((1, 2, 8000, 0, "NONE", "not compressed"))
        out.writeframes(bytes(16000))
    return buffer.getvalue()


class Stream(io.RawIOBase):
    """A file object that cannot seek, like a pipe."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self._data.read(size)


def test_path_bytes_and_file_objects_give_the_same(clip: bytes, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(clip)
    with Video(clip) as video:
        expected = video.read([3, 11]).pixels
    for rolled in (True, False):
        with SpooledTemporaryFile(max_size=10 if rolled else 10**9) as spooled:
            spooled.write(clip)
            with Video(spooled) as video:  # wherever it was left
                assert (video.read([3, 11]).pixels == expected).all()
            assert not spooled.closed
    with path.open("rb") as file:
        sources = [path, str(path), file, io.BytesIO(clip), Stream(clip)]
        for source in sources:
            with Video(source) as video:
                assert (video.read([3, 11]).pixels == expected).all()
                assert numbers_of(video.read([3, 11]).pixels) == [3, 11]


@pytest.mark.parametrize("name", ["a clip é 100%.mp4", "concat:a|b.mp4", "http:x.mp4", "-i.mp4"])
def test_a_path_is_never_a_url(clip: bytes, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / name).write_bytes(clip)
    monkeypatch.chdir(tmp_path)
    for source in (name, Path(name), str(tmp_path / name)):
        with Video(source) as video:
            assert video.frame_count == 12


def test_a_missing_file_raises_python_s_own_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.mp4"):
        Video(tmp_path / "none.mp4")
    with pytest.raises(FileNotFoundError):
        Video("http://127.0.0.1:9/clip.mp4")
    with pytest.raises(IsADirectoryError):
        Video(tmp_path)


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (b"", EmptyVideoError, r"^(the video|thing\.mp4|video from a file object) is empty \(0 bytes\)"),
        (b"just some words\n" * 200, NotAVideoError, "not a video file"),
        (np.random.default_rng(0).bytes(5000), NotAVideoError, "not a video file"),
        (b"\x00\x00\x00\x18ftypmp42" + bytes(500), NotAVideoError, "looks truncated"),
        (wav(), NoVideoStreamError, r"no video stream \(found: audio\)"),
        (b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/hostname\n", NotAVideoError, "not a video"),
        (b"ffconcat version 1.0\nfile '/etc/hostname'\n", NotAVideoError, "not a video"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), NotAVideoError, "not a video"),
    ],
    ids=["empty", "text", "random", "mp4-head", "audio", "playlist", "concat", "picture"],
)
def test_each_kind_of_bad_file_raises_its_own_error(
    data: bytes, error: type[ClipError], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "thing.mp4"
    path.write_bytes(data)
    for source in (path, data, io.BytesIO(data)):
        with pytest.raises(error, match=message) as raised:
            Video(source, name="thing.mp4")
        assert "thing.mp4" in str(raised.value)
        assert raised.value.code == error.code


def test_audio_only_mp4() -> None:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as out:
        sound = out.add_stream("aac", rate=8000, layout="mono")
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), format="fltp", layout="mono")
        silence.sample_rate, silence.pts = 8000, 0
        out.mux(sound.encode(silence))
        out.mux(sound.encode())
    with pytest.raises(NoVideoStreamError, match=r"no video stream \(found: audio\)"):
        Video(buffer.getvalue())


def test_decoders_that_are_not_on_the_list() -> None:
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format="avi") as out:
        stream = out.add_stream("zlib", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "bgr24"  # type: ignore[attr-defined]
        out.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), "bgr24")))  # type: ignore[attr-defined]
    with pytest.raises(UndecodableVideoError, match="uses a codec that is not decoded here"):
        Video(buffer.getvalue())


def test_an_mp4_cut_before_its_index(clip: bytes) -> None:
    with pytest.raises(NotAVideoError, match="looks truncated"):
        Video(clip[: len(clip) // 2], name="cut.mp4")


def test_too_many_bytes(clip: bytes, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(clip)
    limits = ClipLimits(max_bytes=len(clip) - 1)
    for source in (path, clip, io.BytesIO(clip), Stream(clip)):
        with pytest.raises(ClipLimitError, match="bytes"):
            Video(source, limits=limits)
    with Video(clip, limits=ClipLimits(max_bytes=len(clip))) as video:
        assert video.frame_count == 12


def test_too_many_pixels(clip: bytes) -> None:
    with pytest.raises(ClipLimitError, match="frames of 96x72, more than the limit of"):
        Video(clip, limits=ClipLimits(max_pixels=96 * 72 - 1))


@pytest.mark.parametrize("field", ["max_bytes", "max_pixels", "max_duration", "max_frames"])
def test_limits_are_positive(field: str) -> None:
    with pytest.raises(ValueError, match=field):
        ClipLimits(**{field: 0})


def test_names_in_messages(tmp_path: Path) -> None:
    path = tmp_path / "words.mp4"
    path.write_text("words " * 100)
    with pytest.raises(NotAVideoError, match=r"words\.mp4"):
        Video(path)
    with path.open("rb") as file, pytest.raises(NotAVideoError, match=r"words\.mp4"):
        Video(file)
    with pytest.raises(NotAVideoError, match="video of 600 bytes"):
        Video(b"words " * 100)
    with SpooledTemporaryFile() as spooled:
        spooled.write(b"words " * 100)
        with pytest.raises(NotAVideoError, match="video from a file object"):
            Video(spooled)


def test_the_file_is_closed(clip: bytes) -> None:
    source = io.BytesIO(clip)
    with Video(source) as video:
        video.read([0])
    assert not source.closed
    assert source.getvalue() == clip


def beside(count: int, codec: str, *, first: bool, container: str) -> bytes:
    """A video of `count` frames and one picture, as the first or the second stream."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as out:
        streams = {}
        for name in (codec, "libx264") if first else ("libx264", codec):
            streams[name] = stream = out.add_stream(name, rate=25)
            stream.width, stream.height = (640, 480) if name == codec else (96, 72)
            stream.pix_fmt = {"mjpeg": "yuvj420p", "png": "rgb24"}.get(name, "yuv420p")
        cover = streams[codec]
        out.mux(cover.encode(av.VideoFrame.from_ndarray(np.zeros((480, 640, 3), np.uint8), format="rgb24")))
        out.mux(cover.encode())
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(picture(number, 96, 72), format="rgb24")
            out.mux(streams["libx264"].encode(frame))
        out.mux(streams["libx264"].encode())
    return buffer.getvalue()


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(
    ("codec", "container"), [("mjpeg", "matroska"), ("mjpeg", "mov"), ("mjpeg", "avi"), ("png", "mov"), ("png", "avi")]
)
def test_a_cover_picture_without_its_flag_is_not_the_video(codec: str, container: str, first: bool) -> None:
    with Video(beside(30, codec, first=first, container=container)) as video:
        assert (video.codec, video.frame_count) == ("h264", 30)
        assert numbers_of(video.read([0, 17, 29]).pixels) == [0, 17, 29]


def test_a_video_of_one_picture_is_a_video() -> None:
    with Video(encode(1, "mjpeg", "mov", pix_fmt="yuvj420p")) as video:
        assert video.frame_count == 1


def test_the_error_about_a_song_with_a_cover_names_the_cover() -> None:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as out:
        sound = out.add_stream("aac", rate=8000, layout="mono")
        cover = out.add_stream("mjpeg", rate=1)
        cover.width = cover.height = 32
        cover.pix_fmt = "yuvj420p"
        cover.disposition = Disposition.attached_pic
        out.mux(cover.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")))
        out.mux(cover.encode())
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), format="fltp", layout="mono")
        silence.sample_rate, silence.pts = 8000, 0
        out.mux(sound.encode(silence))
        out.mux(sound.encode())
    with pytest.raises(NoVideoStreamError, match=r"no video stream \(found: audio, cover picture\)"):
        Video(buffer.getvalue())


@pytest.mark.parametrize(("transfer", "name"), [("smpte2084", "PQ"), ("arib-std-b67", "HLG"), ("bt709", None)])
@pytest.mark.parametrize("container", ["mp4", "matroska", "mpegts"])
def test_hdr_is_shown_with_a_warning(transfer: str, name: str | None, container: str) -> None:
    params = f"log-level=none:colorprim=bt2020:transfer={transfer}:colormatrix=bt2020nc"
    data = encode(4, "libx265", container, pix_fmt="yuv420p10le", options={"x265-params": params})
    with Video(data) as video:
        assert [f"HDR ({name})" in warning for warning in video.warnings] == ([True] if name else [])
