"""Every read of every odd file in the table of `odd_files` gives what a decode of the whole file in order gives."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import av
import numpy as np
import odd_files
import pytest
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray
from odd_files import TABLE, Odd

from sefar_serve.clip import Sampling, Video, load_clip, packets, remembered, sample_indices, span_indices

pytestmark = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg to make the files")

Pixels = NDArray[np.uint8]


def test_the_names_of_the_table_are_unique() -> None:
    names = [file.name for file in TABLE]
    assert len(set(names)) == len(names)


def in_order(path: Path, stream: int, width: int, height: int) -> Pixels:
    """All frames in the order of the decoder's output, uint8 (N,h,w,3), scaled to this upright size, not turned."""
    reformatter = VideoReformatter()
    with av.open(path) as container:
        context = container.streams[stream].codec_context
        context.thread_count = 1
        size = (width, height) if (context.width < context.height) == (width < height) else (height, width)
        pictures = []
        for packet in container.demux(container.streams[stream]):
            if packet.size or packet.dts is None:  # an empty packet in mid-stream repeats a frame
                pictures += [reformatter.reformat(frame, *size, "rgb24").to_ndarray() for frame in packet.decode()]
        return np.stack(pictures)


def orientations(pictures: Pixels) -> list[Pixels]:
    """Pictures (N,h,w,3) as stored, turned and mirrored in all eight ways."""
    return [np.rot90(side, turns, (1, 2)) for side in (pictures, pictures[:, :, ::-1]) for turns in range(4)]


def shown_by_ffmpeg(path: Path, width: int, height: int) -> Pixels:
    """The first frame with FFmpeg's own rotation, uint8 (h,w,3)."""
    command = ["ffmpeg", "-nostdin", "-loglevel", "error", "-i", path, "-frames:v", "1"]
    raw = subprocess.run([*command, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"], check=True, capture_output=True).stdout
    return np.frombuffer(raw, np.uint8).reshape(height, width, 3)


def check(path: Path, file: Odd) -> Pixels:
    """Read a file in many ways; returns all its frames."""
    with Video(path) as video:
        count, times, duration = video.frame_count, video.times, video.duration
        pixels = video.read(range(count)).pixels
        height, width = pixels.shape[1:3]
        assert (video.width, video.height) == (width, height)
        stored = in_order(path, video.stream_index, width, height)
    assert count == len(stored)
    if file.frames is not None:
        assert count == file.frames
    if file.seconds is not None:
        assert duration == pytest.approx(file.seconds, abs=0.1)
        assert times == pytest.approx(np.arange(count) / odd_files.RATE, abs=0.021)
    assert (np.diff(times) >= 0).all()
    [truth] = [shown for shown in orientations(stored) if shown.shape == pixels.shape and (shown == pixels).all()][:1]
    if file.name.startswith("matrix"):
        # FFmpeg converts colours in another way.
        expected = shown_by_ffmpeg(path, width, height).astype(int)
        assert np.abs(expected - pixels[0]).mean() < 8
        others = [side[0] for side in orientations(stored) if side.shape == pixels.shape and (side != pixels).any()]
        assert all(np.abs(expected - other).mean() > 16 for other in others)
    with Video(path) as video:
        for n in reversed(range(count)):
            assert (video.read([n]).pixels[0] == truth[n]).all(), n
    rng = np.random.default_rng(0)
    for _ in range(6):
        chosen = rng.integers(0, count, 5)
        with Video(path) as video:
            assert (video.read(chosen).pixels == truth[chosen]).all(), chosen
    for start, end, sampling in [
        (None, None, Sampling()),
        (0.4 * duration, 0.7 * duration, Sampling((2, 2, 4), "local")),
        (0.8 * duration, None, Sampling((8,))),
    ]:
        with Video(path) as video:
            first, past = span_indices(video, start, end)
        side = min(width, height)
        clip = load_clip(path, sampling, resize=side, size=side, start=start, end=end)
        chosen = first + sample_indices(past - first, sampling)
        top, left = (height - side) // 2, (width - side) // 2
        assert clip.indices.tolist() == chosen.tolist()
        assert (clip.frames == truth[chosen, top : top + side, left : left + side]).all(), (start, end)
    return truth


def check_read_again(path: Path, truth: Pixels) -> None:
    """Read as from a large file that was opened before."""
    Video(path).close()
    with Video(path) as video:
        for n in [*range(len(truth))[:: -len(truth) // 6], 0, 1, len(truth) - 1, len(truth) // 2]:
            assert (video.read([n]).pixels[0] == truth[n]).all(), n
        assert (video.read(range(len(truth))).pixels == truth).all()


@pytest.mark.parametrize("file", TABLE, ids=lambda file: file.name)
def test_every_read_is_what_decoding_in_order_gives(file: Odd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if odd_files.encoder_of(file) not in odd_files.encoders():
        pytest.skip(f"this ffmpeg has no encoder {odd_files.encoder_of(file)}")
    path = odd_files.make(file, tmp_path)
    truth = check(path, file)
    monkeypatch.setattr(packets, "HELD", 0)
    monkeypatch.setattr(remembered, "WORTHWHILE", 0)
    check_read_again(path, truth)
