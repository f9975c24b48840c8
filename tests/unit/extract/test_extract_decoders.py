"""The clips of a run in decode processes: local and remote files, and how what goes wrong is told."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import faulty_estimators as faulty
import fsspec
import numpy as np
import pytest
from grey_clips import encode_grey_clip
from pose_models import POSE

from sefar_serve.clip import load_clip
from sefar_serve.engine.fake import FAKE_METADATA
from sefar_serve.extract.clips import ClipRef, ExtractError
from sefar_serve.extract.decoders import DecodeError, DecoderPool
from sefar_serve.inputs import ModelClip
from sefar_serve.pose import Estimators
from sefar_serve.pose.fake import FakeEstimator


@pytest.fixture(scope="module")
def pool() -> Iterator[DecoderPool]:
    with DecoderPool(FAKE_METADATA, workers=1, slots=2, timeout=1.5, remote=True) as pool:
        yield pool


@pytest.fixture
def good(tmp_path: Path, bright_clip: bytes) -> ClipRef:
    (tmp_path / "good.mp4").write_bytes(bright_clip)
    return ClipRef("good", str(tmp_path / "good.mp4"))


def _decode(pool: DecoderPool, ref: ClipRef) -> ModelClip:
    async def run() -> ModelClip:
        async with pool.decoded(ref) as clip:
            return clip

    return asyncio.run(run())


def _why(pool: DecoderPool, path: str | Path) -> tuple[str, str]:
    with pytest.raises(DecodeError) as caught:
        _decode(pool, ClipRef("it", str(path)))
    return caught.value.code, str(caught.value)


def test_clips_equal_those_decoded_in_this_process(pool: DecoderPool, good: ClipRef) -> None:
    meta = FAKE_METADATA
    assert meta.pixels is not None
    here = load_clip(good.path, meta.sampling, resize=meta.pixels.resize, size=meta.pixels.size)
    there = _decode(pool, good)
    np.testing.assert_array_equal(there.inputs["frames"], here.frames)
    np.testing.assert_array_equal(there.times, here.times)
    part = _decode(pool, ClipRef("part", good.path, start=0.2, end=0.4))
    assert (part.times.min(), part.times.max()) == (0.2, 0.36)


@pytest.mark.parametrize("whole", [True, False], ids=["fetched whole", "read in parts"])
def test_a_remote_video_is_read_through_its_file_system(tmp_path: Path, good: ClipRef, whole: bool) -> None:
    with fsspec.open(f"simplecache::file://{good.path}") as file:
        content = file.read()
    assert content == Path(good.path).read_bytes()
    size = 1 if whole else 80 * 1024**2
    # A free box after the video makes the file as large as the test needs.
    box = size.to_bytes(4, "big") + b"free" + bytes(size - 8) if not whole else b""
    (tmp_path / "remote.mp4").write_bytes(content + box)
    with DecoderPool(FAKE_METADATA, workers=1, slots=1, remote=True) as pool:
        clip = _decode(pool, ClipRef("it", f"file://{tmp_path}/remote.mp4"))
    assert clip.frame_count == 24


def test_error_codes_are_those_of_the_http_api(pool: DecoderPool, tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("not a video")
    assert _why(pool, tmp_path / "empty.mp4")[0] == "empty_video"
    assert _why(pool, tmp_path / "text.mp4")[0] == "not_a_video"
    assert _why(pool, tmp_path / "none.mp4") == ("file_not_found", f"{tmp_path}/none.mp4: no such file")
    assert _why(pool, tmp_path)[0] == "unreadable_file"
    code, text = _why(pool, "nosuchscheme://bucket/a.mp4")
    assert code == "unreadable_file"
    assert "nosuchscheme" in text


def test_pipes_and_folders_are_not_videos(pool: DecoderPool, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "folder.mp4").mkdir()
    for name in ("pipe.mp4", "folder.mp4"):
        found = _why(pool, tmp_path / name)
        assert found == ("unreadable_file", f"{tmp_path / name}: not a regular file")


@pytest.fixture
def silent() -> Iterator[tuple[socket.socket, str]]:
    """A server that accepts connections but sends nothing, and the URL of a video on it. FTP waits for a greeting."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        yield server, f"ftp://127.0.0.1:{server.getsockname()[1]}/slow.mp4"


def test_a_hanging_file_system_is_stopped_and_the_next_clip_is_decoded(
    pool: DecoderPool, silent: tuple[socket.socket, str], good: ClipRef
) -> None:
    code, text = _why(pool, silent[1])
    assert code == "decoder_timeout"
    assert "fetching and decoding took longer than 1.5 s; check that the server responds" in text
    assert _decode(pool, good).frame_count == 24


def test_remote_files_are_read_only_if_that_was_asked_for(good: ClipRef) -> None:
    with DecoderPool(FAKE_METADATA, workers=1, slots=1) as pool:
        code, text = _why(pool, f"file://{good.path}")
    assert (code, text) == ("unreadable_file", f"file://{good.path} is not a local file")


def _dies() -> FakeEstimator:
    if "PYTEST_CURRENT_TEST" not in os.environ:  # decode processes get only some variables
        os._exit(3)
    return FakeEstimator()


def test_processes_that_cannot_start_fail_the_run(good: ClipRef) -> None:
    with (
        DecoderPool(POSE, workers=1, slots=1, estimators=Estimators(_dies)) as pool,
        pytest.raises(ExtractError, match=r"decode processes end as soon as they start.* fewer --workers"),
    ):
        _decode(pool, good)


def test_a_crash_and_a_hang_fail_only_their_own_clips(good: ClipRef, tmp_path: Path) -> None:
    for name, level in (("crash", faulty.CRASHES), ("hang", faulty.HANGS), ("fail", faulty.FAILS)):
        (tmp_path / f"{name}.mp4").write_bytes(encode_grey_clip([level] * 8))
    with DecoderPool(POSE, workers=1, slots=1, timeout=1.5, estimators=faulty.faulty_estimators()) as pool:
        code, text = _why(pool, tmp_path / "crash.mp4")
        assert code == "decoder_crashed"
        assert f"crash.mp4 crashed the process that decoded it (signal {signal.SIGSEGV.value})" in text
        code, text = _why(pool, tmp_path / "hang.mp4")
        assert code == "decoder_timeout"
        assert "allow more time (sefar extract --clip-timeout)" in text
        code, text = _why(pool, tmp_path / "fail.mp4")
        assert (code, text) == ("unreadable_file", f"{tmp_path}/fail.mp4: ZeroDivisionError: no such number")
        assert _decode(pool, good).frame_count == 24


@pytest.mark.skipif(resource.getrlimit(resource.RLIMIT_AS)[1] != resource.RLIM_INFINITY, reason="a limit is set")
def test_a_memory_limit_of_the_system_is_kept(good: ClipRef, tmp_path: Path) -> None:
    (tmp_path / "decode.py").write_text(DECODE)
    limited = 'ulimit -v 60000000; exec "$@"'
    command = ["bash", "-c", limited, "bash", sys.executable, tmp_path / "decode.py", good.path]
    subprocess.run(command, check=True, timeout=60)


DECODE = """
import asyncio, sys
from sefar_serve.engine.fake import FAKE_METADATA
from sefar_serve.extract.clips import ClipRef
from sefar_serve.extract.decoders import DecoderPool

async def run():
    with DecoderPool(FAKE_METADATA, workers=1, slots=1) as pool:
        async with pool.decoded(ClipRef("it", sys.argv[1])):
            pass

asyncio.run(run())
"""


def test_slots_are_released(pool: DecoderPool, tmp_path: Path, good: ClipRef) -> None:
    for _ in range(3):  # more often than there are slots
        _why(pool, tmp_path / "none.mp4")
        assert _decode(pool, good).frame_count == 24
