"""Decode processes: the same clips as in threads, and videos that crash, hang or attack their process."""

from __future__ import annotations

import gc
import io
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from dataclasses import fields
from pathlib import Path
from typing import Any

import av
import faulty_estimators as faulty
import numpy as np
import pytest
from coloured_persons import walking_person
from grey_clips import encode_grey_clip
from pose_models import BOTH, POSE, only_here

from sefar_serve.clip import ClipError, ClipLimitError, ClipSpanError, NotAVideoError, VideoSource
from sefar_serve.decoding import (
    Decoded,
    DecoderCrashedError,
    DecodersUnavailableError,
    DecoderTimeoutError,
    DecodeTask,
    ProcessDecoders,
    ProcessLimits,
    ThreadDecoders,
    UnexpectedDecodeError,
    pool,
)
from sefar_serve.decoding.errors import DecodeStoppedError
from sefar_serve.engine.fake import FAKE_METADATA
from sefar_serve.metadata import ModelMetadata
from sefar_serve.pose import Estimators, PoseSetupError
from sefar_serve.pose.fake import FakeEstimator

SECONDS = 3.0


@pytest.fixture(scope="module")
def decoders() -> Iterator[ProcessDecoders]:
    """One pool for most tests, which leave it working."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("SEFAR_API_KEYS", "secret")
        found = ProcessDecoders(2, faulty.faulty_estimators(), ProcessLimits(SECONDS, 512 * 1024**2), spare=2)
        found.start(POSE, FAKE_METADATA)
        yield found
        server = found.server_pid
        found.close()
        assert server is not None
        assert not alive(server)


@pytest.fixture
def bright(bright_clip: bytes) -> bytes:
    return bright_clip


def submit(
    to: ProcessDecoders | ThreadDecoders, video: VideoSource, meta: ModelMetadata = POSE, **span: Any
) -> Future[Decoded]:
    return to.submit(lambda: video, DecodeTask(meta, "it.mp4", **span))


def grey(level: int) -> bytes:
    return encode_grey_clip([level] * 8)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if true():
            return
        time.sleep(0.02)
    raise AssertionError("it did not happen within 10 s")


def busy(decoders: ProcessDecoders) -> list[int]:
    """The processes that decode."""
    idle = {process.pid for process in decoders._idle}
    return [pid for pid in decoders.pids if pid not in idle]


@pytest.mark.parametrize("meta", [FAKE_METADATA, POSE, BOTH], ids=["frames", "joints", "both"])
@pytest.mark.parametrize("span", [{}, {"start": 0.2, "end": 0.7}, {"windows": (0.3, 0.5), "stride": 0.2}])
def test_clips_equal_those_decoded_in_threads(
    decoders: ProcessDecoders, meta: ModelMetadata, span: dict[str, Any]
) -> None:
    threads = ThreadDecoders(1, Estimators(FakeEstimator))
    here = submit(threads, walking_person(), meta, **span).result()
    there = submit(decoders, walking_person(), meta, **span).result()
    threads.close()
    assert here.times == there.times
    for a, b in zip(here.clips, there.clips, strict=True):
        for field in fields(a):
            if field.name not in ("inputs", "poses", "pose_seconds"):
                np.testing.assert_equal(getattr(a, field.name), getattr(b, field.name), field.name)
        assert a.inputs.keys() == b.inputs.keys()
        for name, values in a.inputs.items():
            np.testing.assert_array_equal(values, b.inputs[name])
        assert (a.poses is None) == (b.poses is None)
        if a.poses is not None and b.poses is not None:
            for field in fields(a.poses):
                np.testing.assert_equal(getattr(a.poses, field.name), getattr(b.poses, field.name), field.name)
            assert b.poses.detected.dtype == np.bool_


def test_every_kind_of_source(decoders: ProcessDecoders, bright: bytes, tmp_path: Path) -> None:
    from tempfile import SpooledTemporaryFile

    file = tmp_path / "it.mp4"
    file.write_bytes(bright)
    with (
        file.open("rb") as plain,
        file.open("rb", buffering=0) as raw,
        SpooledTemporaryFile(max_size=10**6) as small,
        SpooledTemporaryFile(max_size=1) as rolled,
    ):
        small.write(bright)
        rolled.write(bright)
        for source in (bright, file, str(file), plain, raw, small, rolled, io.BytesIO(bright)):
            found = submit(decoders, source, FAKE_METADATA).result()  # type: ignore[arg-type]
            assert found.clips[0].frame_count == 24
        assert small._rolled is False  # type: ignore[attr-defined]  # it was not written to disk


def test_errors_keep_their_types(decoders: ProcessDecoders, bright: bytes, tmp_path: Path) -> None:
    with pytest.raises(NotAVideoError, match=r"it\.mp4 is not a video"):
        submit(decoders, b"no video" * 99).result()
    with pytest.raises(ClipSpanError, match=r"it\.mp4 lasts 0\.960 s"):
        submit(decoders, bright, start=100.0).result()
    with pytest.raises(FileNotFoundError):
        submit(decoders, tmp_path / "none.mp4").result()
    with pytest.raises(OSError, match="not a regular file"):
        submit(decoders, tmp_path).result()

    def closed() -> bytes:
        raise ValueError("no such video")

    with pytest.raises(ValueError, match="no such video"):
        decoders.submit(closed, DecodeTask(POSE, "it")).result()


def test_a_crash_costs_only_its_video(decoders: ProcessDecoders, bright: bytes) -> None:
    crashed = decoders.ends["crashed"]
    bad, good = submit(decoders, grey(faulty.CRASHES)), submit(decoders, bright)
    with pytest.raises(DecoderCrashedError, match=r"it\.mp4 crashed the process .*signal 11") as caught:
        bad.result()
    assert caught.value.status == 422
    assert good.result().clips
    assert decoders.ends["crashed"] == crashed + 1


def test_a_hanging_video_is_stopped(decoders: ProcessDecoders, bright: bytes) -> None:
    with pytest.raises(DecoderTimeoutError, match=r"it\.mp4: decoding took longer than 3 s") as caught:
        submit(decoders, grey(faulty.HANGS)).result()
    assert caught.value.status == 504
    assert submit(decoders, bright).result().clips


def test_slow_videos_do_not_hold_up_others(bright: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "SLOW_SECONDS", 0.1)
    decoders = ProcessDecoders(1, faulty.faulty_estimators(), ProcessLimits(seconds=600), spare=1)
    slow = submit(decoders, grey(faulty.HANGS))
    wait_until(lambda: len(busy(decoders)) == 1)
    [pid] = busy(decoders)
    assert submit(decoders, bright).result().clips
    assert not slow.done()
    assert os.getpriority(os.PRIO_PROCESS, pid) == min(os.getpriority(os.PRIO_PROCESS, 0) + pool.SLOW_NICE, 19)
    decoders.close()


def test_memory_is_limited(decoders: ProcessDecoders, bright: bytes) -> None:
    with pytest.raises(ClipLimitError, match="needs more memory than a decode process may use"):
        submit(decoders, grey(faulty.EATS)).result()
    assert submit(decoders, bright).result().clips


def test_a_process_reaches_nothing_beyond_itself(decoders: ProcessDecoders) -> None:
    held = decoders._idle[-1].held
    if held != ("landlock", "seccomp"):
        pytest.skip(f"this kernel offers only {held}")
    with pytest.raises(PoseSetupError, match=r"^possible: nothing; keys: none$"):
        submit(decoders, grey(faulty.ATTACKS)).result()


def test_an_unexpected_exception_comes_with_its_traceback(decoders: ProcessDecoders) -> None:
    with pytest.raises(UnexpectedDecodeError, match=r"ZeroDivisionError: no such number[\s\S]*faulty_estimators\.py"):
        submit(decoders, grey(faulty.FAILS)).result()


def test_cancelling_stops_the_process(decoders: ProcessDecoders) -> None:
    stopped = decoders.ends["stopped"]
    hanging = submit(decoders, grey(faulty.HANGS))
    wait_until(lambda: len(busy(decoders)) == 1)
    [pid] = busy(decoders)
    assert not hanging.cancel()  # it runs
    with pytest.raises(DecodeStoppedError):
        hanging.result()
    assert not alive(pid)
    assert decoders.ends["stopped"] == stopped + 1


def test_a_waiting_video_is_dropped_when_it_is_cancelled(decoders: ProcessDecoders) -> None:
    sleeping = [submit(decoders, grey(faulty.SLEEPS)) for _ in range(4)]
    waiting = submit(decoders, grey(faulty.CRASHES))
    crashed = decoders.ends["crashed"]
    assert waiting.cancel()
    with pytest.raises(CancelledError):
        waiting.result()
    assert all(future.result().clips for future in sleeping)
    assert decoders.ends["crashed"] == crashed


def test_processes_killed_from_outside_fail_no_video(decoders: ProcessDecoders, bright: bytes) -> None:
    sleeping = [submit(decoders, grey(faulty.SLEEPS)) for _ in range(2)]
    wait_until(lambda: len(busy(decoders)) == 2)
    for pid in busy(decoders):
        os.kill(pid, signal.SIGKILL)
    assert all(future.result().clips for future in sleeping)
    assert submit(decoders, bright).result().clips
    for pid in decoders.pids:  # while idle
        os.kill(pid, signal.SIGKILL)
    assert submit(decoders, bright).result().clips


def test_a_video_whose_process_is_killed_twice_is_at_fault(decoders: ProcessDecoders) -> None:
    with pytest.raises(DecoderCrashedError, match="signal 9"):
        submit(decoders, grey(faulty.KILLS_ITSELF)).result()


def test_the_fork_server_is_replaced(decoders: ProcessDecoders, bright: bytes) -> None:
    before = decoders.server_pid
    assert before is not None
    sleeping = submit(decoders, grey(faulty.SLEEPS))
    wait_until(lambda: len(busy(decoders)) == 1)
    os.kill(before, signal.SIGKILL)
    assert sleeping.result().clips
    assert submit(decoders, bright).result().clips
    assert decoders.server_pid != before


def test_nothing_is_left_behind(decoders: ProcessDecoders, bright: bytes) -> None:
    def held() -> tuple[int, int]:
        gc.collect()
        of_processes = sum(len(process._memory) > 0 for process in decoders._all)  # a mapping has a descriptor too
        maps = Path("/proc/self/maps").read_text().count("memfd:sefar") - of_processes
        return len(list(Path("/proc/self/fd").iterdir())) - len(decoders.pids) - of_processes, maps

    assert submit(decoders, bright).result().clips
    before = held()
    videos = [bright, grey(faulty.CRASHES), b"no video" * 99, bright, bright] * 10
    futures = [submit(decoders, video) for video in videos]
    failed = sum(isinstance(future.exception(), ClipError) for future in futures)
    assert failed == 20
    assert futures[0].result().clips
    del futures
    wait_until(lambda: held() == before)
    assert 1 <= len(decoders.pids) <= 2
    assert all(alive(pid) for pid in decoders.pids)


def bomb(frames: int = 2400) -> bytes:
    """Many frames of 7680x4320 that all depend on the first one, in few bytes: a packet is repeated."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast", "tune": "zerolatency"})
        stream.width, stream.height = 7680, 4320
        frame = av.VideoFrame(7680, 4320, "yuv420p")
        for plane in frame.planes:
            plane.update(b"\x80" * plane.buffer_size)
        packets = []
        for number in range(2):
            frame.pts = number
            packets += stream.encode(frame)
        packets += stream.encode()
        first, second = packets
        container.mux(first)
        step = second.pts
        for number in range(1, frames):
            second.pts = second.dts = number * step
            again = av.Packet(bytes(second))
            again.stream, again.time_base = stream, second.time_base
            again.pts = again.dts = number * step
            container.mux(again)
    return file.getvalue()


def test_what_cannot_be_decoded_in_time_is_refused(decoders: ProcessDecoders) -> None:
    video = bomb()
    assert len(video) < 1_000_000
    with pytest.raises(
        ClipLimitError, match=r"it\.mp4: 2\d\d\d frames of 7680x4320 would have to be decoded, 7\d\.\d gigapixels"
    ) as caught:
        submit(decoders, video, FAKE_METADATA).result()
    assert caught.value.status == 413


def many_frames(count: int) -> bytes:
    """An MP4 whose index declares so many frames."""
    video = bytearray(grey(128))
    for box, values in ((b"stsz", (0, 1, count)), (b"stts", (0, 1, count, 512)), (b"stsc", (0, 1, 1, count, 1))):
        at = video.index(box) + 4
        struct.pack_into(f">{len(values)}I", video, at, *values)
    return bytes(video)


def test_an_index_of_sixty_million_frames_costs_only_its_video(decoders: ProcessDecoders, bright: bytes) -> None:
    video = many_frames(60_000_000)
    assert len(video) < 8192
    with pytest.raises(ClipError) as caught:
        submit(decoders, video, FAKE_METADATA).result()
    assert caught.value.status in (413, 422)  # FFmpeg may say that memory is lacking, or find no frames
    assert submit(decoders, bright).result().clips


def test_a_process_is_replaced_after_some_videos(bright: bytes) -> None:
    decoders = ProcessDecoders(1, Estimators(), ProcessLimits(videos=2))
    found = [(submit(decoders, bright, FAKE_METADATA).result(), tuple(decoders.pids)) for _ in range(4)]
    assert len({pids for _, pids in found if pids}) >= 2
    assert decoders.ends["replaced"] == 2
    decoders.close()
    with pytest.raises(DecodeStoppedError, match="shutting down"):
        submit(decoders, bright, FAKE_METADATA)


def test_a_model_of_joints_that_comes_later_gets_a_process_with_an_estimator(bright: bytes) -> None:
    decoders = ProcessDecoders(1, Estimators(FakeEstimator))
    decoders.start(FAKE_METADATA)
    assert submit(decoders, bright, FAKE_METADATA).result().clips[0].poses is None
    assert submit(decoders, bright, POSE).result().clips[0].poses is not None
    assert decoders.ends == {"replaced": 1}
    decoders.close()


def test_closing_does_not_wait_for_videos() -> None:
    own = ProcessDecoders(1, faulty.faulty_estimators(), ProcessLimits(seconds=600))
    hanging, waiting = submit(own, grey(faulty.HANGS)), submit(own, grey(faulty.HANGS))
    wait_until(lambda: len(busy(own)) == 1)
    [pid] = own.pids
    own.close()
    assert not alive(pid)
    with pytest.raises(DecodeStoppedError):
        hanging.result(0)
    with pytest.raises(CancelledError):
        waiting.result(0)


def test_the_check_decodes_a_video_unless_one_was_just_decoded(
    decoders: ProcessDecoders, bright: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert submit(decoders, bright).result().clips
    assert decoders.check(POSE).done()
    monkeypatch.setattr(pool, "RECENT_SECONDS", -1.0)
    for meta in (POSE, FAKE_METADATA):
        check = decoders.check(meta)
        assert isinstance(check.result(), Decoded)


def dies() -> FakeEstimator:
    if os.environ.get("PYTEST_CURRENT_TEST") is None:
        os._exit(3)
    return FakeEstimator()


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (only_here, PoseSetupError, "the pose models are gone"),
        (dies, DecodersUnavailableError, "decode processes end as soon as they start"),
    ],
)
def test_processes_that_cannot_start(make: Callable[[], FakeEstimator], error: type[Exception], said: str) -> None:
    decoders = ProcessDecoders(1, Estimators(make))
    try:
        with pytest.raises(error, match=said):
            decoders.start(POSE)
    finally:
        decoders.close()


PARENT = """
import sys, time
from sefar_serve.decoding import DecodeTask, ProcessDecoders
from sefar_serve.engine.fake import FAKE_METADATA
from sefar_serve.pose import Estimators

decoders = ProcessDecoders(1, Estimators())
decoders.start(FAKE_METADATA)
print(decoders.server_pid, *decoders.pids, flush=True)
time.sleep(600)
"""


def test_processes_end_with_their_parent() -> None:
    # No guard for `__main__`: the fork server does not run the program again.
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2
        parent.kill()
        parent.wait()
        for pid in pids:
            wait_until(lambda pid=pid: not alive(pid))  # type: ignore[misc]
