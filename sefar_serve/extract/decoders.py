"""Decode processes: a video that crashes or hangs its decoder costs one clip.

The pixels come back through memory that all processes share, in as many places as there may be clips under way;
so memory is bounded, and no frame goes through a pipe.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import logging
import multiprocessing
import os
import resource
import signal
import stat
import sys
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import TimeoutError as ClipTimeoutError
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from multiprocessing.sharedctypes import RawArray
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import fsspec
import numpy as np
from numpy.typing import NDArray
from pebble import ProcessExpired, ProcessPool

from sefar_serve.clip import Clip, ClipError, ClipLimits, VideoSource, load_clip
from sefar_serve.errors import SefarError
from sefar_serve.extract.clips import ClipRef, ExtractError
from sefar_serve.metadata import ModelMetadata

log = logging.getLogger(__name__)

WHOLE = 64 * 1024**2
"""Bytes up to which a video elsewhere is fetched at once; a decoder reads forth and back."""

MEMORY = 4 * 1024**3
"""Bytes a decode process may take beyond what it starts with; 4320p video needs one of them."""

STARTS = 3
"""Times that a clip is given to new processes, where all of those there were had been ended from outside."""

GRACE = 10.0
"""Seconds past its time after which a process ends itself: whoever should have stopped it is gone."""


class DecodeError(SefarError, RuntimeError):
    """A clip that cannot be decoded; `code` is the reason."""

    status = 422
    code = "undecodable_video"
    param = "input"

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Decoders(Protocol):
    """What gives a clip's frames; `DecoderPool`, or what fetches them first."""

    def decoded(self, ref: ClipRef) -> AbstractAsyncContextManager[Clip]:
        """See `DecoderPool.decoded`."""


class DecoderPool:
    """Processes that decode, and the memory their frames come back in. Start and stop it as a context manager.

    Args:
        metadata: of the model that the clips are for.
        workers: processes.
        slots: most clips decoding, or decoded and not yet let go.
        limits: on each video.
        timeout: seconds that decoding a clip may take.
        memory: bytes that a process may take beyond what it starts with.
        nice: by how much processes let others go first, 0 to 19.
    """

    def __init__(
        self,
        metadata: ModelMetadata,
        *,
        workers: int,
        slots: int,
        limits: ClipLimits = ClipLimits(),  # noqa: B008  (frozen)
        timeout: float = 60.0,
        memory: int = MEMORY,
        nice: int = 0,
    ) -> None:
        shape = metadata.frames_shape
        # A server with threads of its own cannot fork safely.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])  # imported once, not by each process
        pixels = RawArray(ctypes.c_uint8, slots * prod(shape))
        self._frames = _places(pixels, metadata)
        self._free: asyncio.Queue[int] = asyncio.Queue()
        for slot in range(slots):
            self._free.put_nowait(slot)
        self._timeout = timeout
        self._new_pool = partial(
            ProcessPool,
            max_workers=workers,
            context=context,
            initializer=_begin,
            initargs=(pixels, metadata, limits, memory, timeout + GRACE, nice),
        )
        self._pool = self._new_pool()

    def __enter__(self) -> DecoderPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _end(self._pool)

    @asynccontextmanager
    async def decoded(self, ref: ClipRef) -> AsyncIterator[Clip]:
        """Decode a clip; its frames are there until the block ends.

        Cancelled while it decodes, it keeps its slot, for the process may write there still: a run that is cancelled
        closes its pool.

        Raises:
            DecodeError: it cannot be decoded.
            ExtractError: no process can be kept alive.
        """
        slot = await self._free.get()
        try:
            clip = await self._decode(ref, slot)
        except Exception:
            self._free.put_nowait(slot)
            raise
        try:
            yield replace(clip, frames=self._frames[slot])
        finally:
            self._free.put_nowait(slot)

    async def _decode(self, ref: ClipRef, slot: int) -> Clip:
        for _ in range(STARTS):
            pool = self._pool
            try:
                future = pool.schedule(_decode, args=(ref, slot), timeout=self._timeout)
                found: Clip | _Refusal = await asyncio.wrap_future(future)
            except ClipTimeoutError as error:
                raise DecodeError("decoder_timeout", _too_slow(ref.path, self._timeout)) from error
            except ProcessExpired as error:
                how = f"signal {-error.exitcode}" if error.exitcode < 0 else f"exit status {error.exitcode}"
                raise DecodeError(
                    "decoder_crashed",
                    f"{ref.path} ended the process that decoded it ({how}); the file is likely damaged",
                ) from error
            except RuntimeError as error:
                # A pool of which all processes ended while none had a clip gives up, though no clip is at fault.
                why = error
                await self._replace(pool)
                continue
            if isinstance(found, _Refusal):
                raise DecodeError(found.code, found.message)
            return found
        raise ExtractError(
            f"decode processes end as soon as they start ({why}); is there memory for them? Run the same command again "
            "to go on, with fewer --workers"
        ) from why

    async def _replace(self, broken: ProcessPool) -> None:
        if self._pool is broken:  # the first of those who find it so
            self._pool = self._new_pool()
            await asyncio.to_thread(_end, broken)


def _end(pool: ProcessPool) -> None:
    pool.stop()
    pool.join()


def _too_slow(path: str, seconds: float) -> str:
    if "://" in path:
        return f"{path}: fetching and decoding took longer than {seconds:g} s; does its server answer?"
    return f"{path}: decoding took longer than {seconds:g} s and was stopped; if the file is sound, allow it more time"


@dataclass(frozen=True)
class _Refusal:
    """Why a clip was not decoded; cheaper to send than an exception with its traceback."""

    code: str
    message: str


@dataclass(frozen=True)
class _Worker:
    """What a decode process knows."""

    frames: NDArray[np.uint8]
    metadata: ModelMetadata
    limits: ClipLimits
    alarm: float


_worker: _Worker


def _begin(pixels: Any, metadata: ModelMetadata, limits: ClipLimits, memory: int, alarm: float, nice: int) -> None:
    """Prepare this process; it is called once in each."""
    global _worker
    _worker = _Worker(_places(pixels, metadata), metadata, limits, alarm)
    os.nice(nice)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    if sys.platform == "linux":  # elsewhere the bound is not to be had
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        bound = pages * resource.getpagesize() + memory
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        bound = bound if hard == resource.RLIM_INFINITY else min(bound, hard)
        resource.setrlimit(resource.RLIMIT_AS, (bound, hard))


def _places(pixels: Any, metadata: ModelMetadata) -> NDArray[np.uint8]:
    """The shared memory as an array of clips."""
    return np.frombuffer(pixels, np.uint8).reshape(-1, *metadata.frames_shape)


def _decode(ref: ClipRef, slot: int) -> Clip | _Refusal:
    """Decode a clip into its place; of what comes back the frames are left out."""
    # Whoever stops a process that hangs may have been killed.
    signal.setitimer(signal.ITIMER_REAL, _worker.alarm)
    try:
        return _into_place(ref, slot)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)


def _into_place(ref: ClipRef, slot: int) -> Clip | _Refusal:
    meta = _worker.metadata
    try:
        with _opened(ref.path) as source:
            clip = load_clip(
                source,
                meta.sampling,
                resize=meta.resize,
                size=meta.size,
                start=ref.start,
                end=ref.end,
                name=ref.path,
                limits=_worker.limits,
            )
    except ClipError as error:
        return _Refusal(error.code, str(error))
    except FileNotFoundError as error:
        # fsspec's HTTP says so of whatever goes wrong.
        if ref.path.startswith("http") and getattr(error.__cause__, "status", None) not in (404, 410):
            return _Refusal("unreadable_file", f"{ref.path}: {error.__cause__ or error}")
        return _Refusal("file_not_found", f"{ref.path}: no such file")
    except OSError as error:
        return _Refusal("unreadable_file", f"{ref.path}: {error.strerror or error}")
    except MemoryError:
        return _Refusal("clip_too_large", f"{ref.path}: decoding it takes more memory than a decoder may have")
    except Exception as error:
        # The libraries of a hundred file systems and codecs each raise what they like; it costs this clip.
        log.debug("%s", ref.path, exc_info=True)
        return _Refusal("unreadable_file", f"{ref.path}: {type(error).__name__}: {error}")
    _worker.frames[slot] = clip.frames
    return replace(clip, frames=clip.frames[:0].copy())


@contextmanager
def _opened(path: str) -> Iterator[VideoSource]:
    """A local file by its path, one elsewhere by its bytes, or as a file object where these would be many."""
    if "://" not in path:
        # A pipe would be waited for.
        if not stat.S_ISREG(Path(path).stat().st_mode):
            raise OSError(errno.EINVAL, "it is no regular file")
        yield path
        return
    with fsspec.open(path, "rb") as file:
        size = getattr(file, "size", None)
        yield file if size is None or size > WHOLE else file.read()
