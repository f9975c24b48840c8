"""Any frame of every real clip, from a path, bytes or a file object, equals that of a sequential decode bit for bit."""

from __future__ import annotations

import io
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import VideoReformatter

from sefar_serve.clip import Sampling, Video, central_square, load_clip, load_windows, sample_indices

NAMES = (
    "arm_wrestling.mp4",
    "av1_video.mkv",
    "editlist.mp4",
    "h265_video.mp4",
    "nasa_13013.mp4",
    "rotation_0.mov",
    "rotation_90.mov",
    "test.avi",
    "test.mp4",
    "vp9.webm",
)
SHORT_SIDE = 96


@pytest.fixture(params=NAMES)
def real_video(request: pytest.FixtureRequest, shared_data: Path) -> Path:
    return shared_data / "videos" / request.param


def decode_all(path: Path) -> np.ndarray:
    """All frames in the decoder's order, upright and scaled, with plain PyAV."""
    reformatter = VideoReformatter()
    pictures = []
    with av.open(str(path)) as container:
        stream = container.streams.best("video")
        aspect = stream.sample_aspect_ratio or 1
        for frame in container.decode(stream):
            width, height = round(frame.width * aspect), frame.height
            scale = (round(width * SHORT_SIDE / min(width, height)), round(height * SHORT_SIDE / min(width, height)))
            picture = reformatter.reformat(frame, *scale, "rgb24").to_ndarray()
            pictures.append(np.rot90(picture, frame.rotation // 90))
    return np.stack(pictures)


def test_the_folder_has_the_listed_clips(shared_data: Path) -> None:
    assert sorted(path.name for path in (shared_data / "videos").iterdir()) == sorted(NAMES)


def test_every_frame_is_exact_from_every_source(real_video: Path) -> None:
    truth = decode_all(real_video)
    body = real_video.read_bytes()
    rng = np.random.default_rng(0)
    count = len(truth)
    sampled = [sample_indices(count, Sampling(layout=layout)) for layout in ("interleaved", "local")]
    drawn = [rng.integers(0, count, size) for size in (1, 3, 8)] + [np.array([0]), np.array([count - 1])]
    for source in (real_video, body, io.BytesIO(body)):
        with Video(source) as video:
            assert video.frame_count == count
            assert len(video.times) == count
            assert (np.diff(video.times) > 0).all()
            assert video.times[0] == 0
            assert video.times[-1] < video.duration
            for indices in [*sampled, *drawn]:
                frames = video.read(indices, SHORT_SIDE)
                assert (frames.pixels == truth[indices]).all(), indices
                assert frames.indices.tolist() == indices.tolist()
                assert (frames.corrupt, frames.warnings) == ((), ())
    with Video(real_video) as video:
        assert (video.read(range(count), SHORT_SIDE).pixels == truth).all()


def test_load_clip(real_video: Path) -> None:
    truth = decode_all(real_video)
    clip = load_clip(real_video, Sampling(), resize=SHORT_SIDE, size=80)
    assert clip.frame_count == len(truth)
    assert (clip.frames == central_square(truth[clip.indices], 80)).all()


def test_windows(real_video: Path) -> None:
    truth = decode_all(real_video)
    times, clips = load_windows(
        real_video, Sampling(), resize=SHORT_SIDE, size=80, window=1.0, stride=0.7, max_windows=40
    )
    for (start, end), clip in zip(times, clips, strict=True):
        assert (clip.frames == central_square(truth[clip.indices], 80)).all()
        assert clip.times.min() >= start - 0.05
        assert clip.times.max() < end


@pytest.mark.parametrize(
    ("name", "count", "size"),
    [
        ("editlist.mp4", 122, (854, 480)),
        ("av1_video.mkv", 125, (640, 360)),
        ("rotation_90.mov", 3, (320, 568)),
        ("test.mp4", 300, (455, 256)),
        ("nasa_13013.mp4", 390, (480, 270)),
        ("test.avi", 164, (320, 240)),
    ],
)
def test_known_frame_counts_and_sizes(shared_data: Path, name: str, count: int, size: tuple[int, int]) -> None:
    with Video(shared_data / "videos" / name) as video:
        assert video.frame_count == count
        assert (video.width, video.height) == size


def test_a_warning_names_the_chosen_stream_of_several(shared_data: Path) -> None:
    with Video(shared_data / "videos" / "nasa_13013.mp4") as video:
        assert video.stream_index == 3
        assert video.warnings == ("several video streams: used stream 3 (480x270), ignored stream 0 (320x180)",)
