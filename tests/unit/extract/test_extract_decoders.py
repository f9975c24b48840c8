"""Decode processes: what they give back, and what becomes of a clip that hangs them, kills them or eats memory."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import fsspec
import numpy as np
import pytest

from sefar_serve.clip import Clip, load_clip
from sefar_serve.engine.fake import FAKE_METADATA
from sefar_serve.extract.clips import ClipRef
from sefar_serve.extract.decoders import DecodeError, DecoderPool


@pytest.fixture(scope="module")
def pool() -> Iterator[DecoderPool]:
    with DecoderPool(FAKE_METADATA, workers=1, slots=2, timeout=1.5) as pool:
        yield pool


@pytest.fixture
def good(tmp_path: Path, bright_clip: bytes) -> ClipRef:
    (tmp_path / "good.mp4").write_bytes(bright_clip)
    return ClipRef("good", str(tmp_path / "good.mp4"))


def _decode(pool: DecoderPool, ref: ClipRef) -> Clip:
    async def run() -> Clip:
        async with pool.decoded(ref) as clip:
            assert clip.frames.base is not None  # shared, not sent
            return Clip(**{**vars(clip), "frames": clip.frames.copy()})

    return asyncio.run(run())


def _why(pool: DecoderPool, path: str | Path) -> tuple[str, str]:
    with pytest.raises(DecodeError) as caught:
        _decode(pool, ClipRef("it", str(path)))
    return caught.value.code, str(caught.value)


def test_a_clip_is_what_the_decoder_gives_here(pool: DecoderPool, good: ClipRef) -> None:
    meta = FAKE_METADATA
    here = load_clip(good.path, meta.sampling, resize=meta.resize, size=meta.size)
    there = _decode(pool, good)
    np.testing.assert_array_equal(there.frames, here.frames)
    np.testing.assert_array_equal(there.times, here.times)
    part = _decode(pool, ClipRef("part", good.path, start=0.2, end=0.4))
    assert (part.times.min(), part.times.max()) == (0.2, 0.36)


@pytest.mark.parametrize("whole", [True, False], ids=["fetched whole", "read in parts"])
def test_a_video_elsewhere_is_read_through_its_file_system(tmp_path: Path, good: ClipRef, whole: bool) -> None:
    with fsspec.open(f"simplecache::file://{good.path}") as file:
        content = file.read()
    assert content == Path(good.path).read_bytes()
    size = 1 if whole else 80 * 1024**2
    # A free box behind the video makes the file as large as the test wants it.
    box = size.to_bytes(4, "big") + b"free" + bytes(size - 8) if not whole else b""
    (tmp_path / "remote.mp4").write_bytes(content + box)
    with DecoderPool(FAKE_METADATA, workers=1, slots=1) as pool:
        clip = _decode(pool, ClipRef("it", f"file://{tmp_path}/remote.mp4"))
    assert clip.frame_count == 24


def test_reasons_have_the_names_of_the_http_api(pool: DecoderPool, tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("not a video")
    assert _why(pool, tmp_path / "empty.mp4")[0] == "empty_video"
    assert _why(pool, tmp_path / "text.mp4")[0] == "not_a_video"
    assert _why(pool, tmp_path / "none.mp4") == ("file_not_found", f"{tmp_path}/none.mp4: no such file")
    assert _why(pool, tmp_path)[0] == "unreadable_file"
    code, text = _why(pool, "nosuchscheme://bucket/a.mp4")
    assert code == "unreadable_file"
    assert "nosuchscheme" in text


def test_one_that_hangs_is_stopped_and_the_next_is_decoded(pool: DecoderPool, tmp_path: Path, good: ClipRef) -> None:
    os.mkfifo(tmp_path / "hangs.mp4")  # nobody ever writes to it
    code, text = _why(pool, tmp_path / "hangs.mp4")
    assert code == "decoder_timeout"
    assert "took longer than 1.5 s" in text
    assert _decode(pool, good).frame_count == 24


def test_one_that_kills_its_process_costs_itself_alone(pool: DecoderPool, tmp_path: Path, good: ClipRef) -> None:
    fifo = tmp_path / "crashes.mp4"
    os.mkfifo(fifo)

    def crash() -> None:
        with fifo.open("wb"):  # opens once the process reads
            os.kill(_reader(fifo), signal.SIGSEGV)

    killer = threading.Thread(target=crash)
    killer.start()
    code, text = _why(pool, fifo)
    killer.join()
    assert code == "decoder_crashed"
    assert f"{fifo} ended the process that decoded it (signal {signal.SIGSEGV.value})" in text
    assert _decode(pool, good).frame_count == 24


def _reader(fifo: Path) -> int:
    """The other process that has it open."""
    while True:
        for link in Path("/proc").glob("[0-9]*/fd/*"):
            with suppress(OSError):  # processes come and go
                if link.parts[2] != str(os.getpid()) and link.readlink() == fifo:
                    return int(link.parts[2])


def test_one_that_wants_more_memory_than_there_is_says_so(good: ClipRef) -> None:
    huge = FAKE_METADATA.model_copy(update={"resize": 3000, "size": 3000})
    with DecoderPool(huge, workers=1, slots=1, memory=50 * 1024**2) as pool:
        assert _why(pool, good.path)[0] in ("clip_too_large", "undecodable_video")


def test_places_are_given_back(pool: DecoderPool, tmp_path: Path, good: ClipRef) -> None:
    for _ in range(3):  # more than there are places
        _why(pool, tmp_path / "none.mp4")
        assert _decode(pool, good).frame_count == 24
