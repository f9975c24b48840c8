"""Decode processes: their frames, and clips that hang them, crash them or use too much memory."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import fsspec
import numpy as np
import pytest

from sefar_serve.clip import load_clip
from sefar_serve.engine.fake import FAKE_METADATA
from sefar_serve.extract import decoders
from sefar_serve.extract.clips import ClipRef, ExtractError
from sefar_serve.extract.decoders import DecodeError, DecoderPool
from sefar_serve.inputs import ModelClip


@pytest.fixture(scope="module")
def pool() -> Iterator[DecoderPool]:
    with DecoderPool(FAKE_METADATA, workers=1, slots=2, timeout=1.5) as pool:
        yield pool


@pytest.fixture
def good(tmp_path: Path, bright_clip: bytes) -> ClipRef:
    (tmp_path / "good.mp4").write_bytes(bright_clip)
    return ClipRef("good", str(tmp_path / "good.mp4"))


def _decode(pool: DecoderPool, ref: ClipRef) -> ModelClip:
    async def run() -> ModelClip:
        async with pool.decoded(ref) as clip:
            assert all(values.base is not None for values in clip.inputs.values())  # shared, not sent
            return replace(clip, inputs={name: values.copy() for name, values in clip.inputs.items()})

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
    with DecoderPool(FAKE_METADATA, workers=1, slots=1) as pool:
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


def _processes(pool: DecoderPool) -> list[int]:
    return list(pool._pool._pool_manager.worker_manager.workers)


def _wait_for_end(process: int) -> None:
    while Path("/proc", str(process)).exists():
        time.sleep(0.02)


def test_a_hanging_process_is_stopped_and_the_next_clip_is_decoded(
    pool: DecoderPool, silent: tuple[socket.socket, str], good: ClipRef
) -> None:
    code, text = _why(pool, silent[1])
    assert code == "decoder_timeout"
    assert "fetching and decoding took longer than 1.5 s; check that the server responds" in text
    assert _decode(pool, good).frame_count == 24


def test_a_crash_fails_only_its_own_clip(silent: tuple[socket.socket, str], good: ClipRef) -> None:
    server, url = silent

    def crash() -> None:
        with server.accept()[0]:
            [process] = _processes(pool)
            os.kill(process, signal.SIGSEGV)
            _wait_for_end(process)

    with DecoderPool(FAKE_METADATA, workers=1, slots=1) as pool:
        killer = threading.Thread(target=crash)
        killer.start()
        code, text = _why(pool, url)
        killer.join()
        assert code == "decoder_crashed"
        assert f"{url} crashed the process that decoded it (signal {signal.SIGSEGV.value})" in text
        assert _decode(pool, good).frame_count == 24


def test_processes_killed_while_idle_fail_no_clip(pool: DecoderPool, good: ClipRef) -> None:
    for _ in range(2):
        assert _decode(pool, good).frame_count == 24
        [process] = _processes(pool)
        os.kill(process, signal.SIGKILL)
        _wait_for_end(process)
    assert _decode(pool, good).frame_count == 24


DECODE = """
import asyncio, sys, threading, time
from sefar_serve.engine.fake import FAKE_METADATA
from sefar_serve.extract import decoders
from sefar_serve.extract.clips import ClipRef

decoders.GRACE = 0.5

def print_process(pool):
    while not pool._pool._pool_manager.worker_manager.workers:
        time.sleep(0.02)
    print(*pool._pool._pool_manager.worker_manager.workers, flush=True)

async def run():
    with decoders.DecoderPool(FAKE_METADATA, workers=1, slots=1, timeout=3.0) as pool:
        threading.Thread(target=print_process, args=[pool]).start()
        async with pool.decoded(ClipRef("it", sys.argv[1])):
            pass

if __name__ == "__main__":
    asyncio.run(run())
"""


def test_a_hanging_process_exits_if_its_parent_was_killed(silent: tuple[socket.socket, str], tmp_path: Path) -> None:
    (tmp_path / "decode.py").write_text(DECODE)
    server, url = silent
    with subprocess.Popen([sys.executable, tmp_path / "decode.py", url], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        process = int(parent.stdout.readline())
        with server.accept()[0]:
            parent.kill()
            parent.wait()
            _wait_for_end(process)  # blocks forever if it does not exit


def test_processes_that_cannot_start_fail_the_run(good: ClipRef) -> None:
    with (
        DecoderPool(FAKE_METADATA, workers=1, slots=1, nice="no number") as pool,  # type: ignore[arg-type]
        pytest.raises(ExtractError, match=r"decode processes exit as soon as they start .* fewer --workers"),
    ):
        _decode(pool, good)


class ForgetfulPool:
    """A pool whose processes all died before it read the clip from its queue."""

    active = False

    def schedule(self, *_: object, **__: object) -> Future[object]:
        return Future()

    def stop(self) -> None: ...

    def join(self) -> None: ...


def test_a_pool_that_forgets_a_clip_fails_the_run(good: ClipRef, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoders, "CHECK_SECONDS", 0.01)
    monkeypatch.setattr(decoders, "ProcessPool", lambda **_: ForgetfulPool())
    with (
        DecoderPool(FAKE_METADATA, workers=1, slots=1) as pool,
        pytest.raises(ExtractError, match=r"exit as soon as they start .*died before they took the clip"),
    ):
        _decode(pool, good)


@pytest.mark.skipif(resource.getrlimit(resource.RLIMIT_AS)[1] != resource.RLIM_INFINITY, reason="a limit is set")
def test_a_memory_limit_of_the_system_is_kept(good: ClipRef, tmp_path: Path) -> None:
    (tmp_path / "decode.py").write_text(DECODE)
    limited = 'ulimit -v 60000000; exec "$@"'
    command = ["bash", "-c", limited, "bash", sys.executable, tmp_path / "decode.py", good.path]
    subprocess.run(command, check=True, timeout=60)


def test_a_clip_that_needs_too_much_memory_fails(good: ClipRef) -> None:
    huge = FAKE_METADATA.model_copy(update={"resize": 3000, "size": 3000})
    with DecoderPool(huge, workers=1, slots=1, memory=50 * 1024**2) as pool:
        assert _why(pool, good.path)[0] in ("clip_too_large", "undecodable_video")


def test_slots_are_released(pool: DecoderPool, tmp_path: Path, good: ClipRef) -> None:
    for _ in range(3):  # more often than there are slots
        _why(pool, tmp_path / "none.mp4")
        assert _decode(pool, good).frame_count == 24
