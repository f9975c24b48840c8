"""Decode processes: a video that crashes or hangs its decoder costs only that clip.

The inputs of the model come back through shared memory with one slot for each clip in flight, so memory is bounded and
no frame is sent through a pipe. Each process finds joints itself, with its own pose estimator.
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
from concurrent.futures import Future
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

from sefar_serve.clip import ClipError, ClipLimits, VideoSource
from sefar_serve.errors import SefarError
from sefar_serve.extract.clips import ClipRef, ExtractError
from sefar_serve.inputs import ModelClip, load_inputs
from sefar_serve.metadata import ModelMetadata, memory_layout
from sefar_serve.pose import Estimators, PoseError

log = logging.getLogger(__name__)

WHOLE = 64 * 1024**2
"""Remote videos of up to this many bytes are downloaded whole, because decoders seek back and forth."""

MEMORY = 4 * 1024**3
"""Bytes that a decode process may use beyond what it starts with. 4320p video needs 1 GiB, the pose estimator
0.1 GiB."""

CHECK_SECONDS = 1.0
"""Seconds between checks that a pool which owes a clip still works."""

STARTS = 3
"""How many pools of processes a clip is tried on, if all processes of a pool are killed from outside."""

GRACE = 10.0
"""Seconds past its timeout after which a process kills itself, in case the parent that should stop it is gone."""


class DecodeError(SefarError, RuntimeError):
    """A clip that cannot be decoded; `code` is the reason.

    Codes:
        clip_too_large (row): Decoding the video needs more memory than a decode process may use.
        decoder_crashed (row): The video crashed the process that decoded it.
        decoder_timeout (row): Decoding the video took longer than allowed.
        file_not_found (row): The file does not exist.
        unreadable_file (row): The file cannot be read, e.g. for lack of permission.
    """

    status = 422
    code = "undecodable_video"
    param = "input"

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Decoders(Protocol):
    """Decodes clips: a `DecoderPool`, or a wrapper that downloads videos first."""

    def decoded(self, ref: ClipRef) -> AbstractAsyncContextManager[ModelClip]:
        """See `DecoderPool.decoded`."""


class DecoderPool:
    """Decode processes and the shared memory for what they decode. Use it as a context manager.

    Args:
        metadata: metadata of the model that the clips are decoded for.
        workers: number of processes.
        slots: maximum number of clips that are being decoded, or are decoded and not yet released.
        limits: limits on each video.
        timeout: seconds that decoding a clip may take.
        memory: bytes that each process may use beyond what it starts with.
        nice: niceness of the processes, 0 to 19.
        estimators: find the joints for a model that sees them; each process loads its own.

    Raises:
        PoseError: the model sees joints that cannot be found here.
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
        estimators: Estimators | None = None,
    ) -> None:
        estimators = estimators if estimators is not None else Estimators()
        estimators.of(metadata)  # a missing one stops the run here, and is downloaded once
        # Forking is not safe in a process with threads.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])  # imported once, not by each process
        memory_of_slots = RawArray(ctypes.c_uint8, slots * memory_layout(metadata.inputs)[1])
        self._slots = _Slots(memory_of_slots, metadata)
        self._free: asyncio.Queue[int] = asyncio.Queue()
        for slot in range(slots):
            self._free.put_nowait(slot)
        self._timeout = timeout
        self._new_pool = partial(
            ProcessPool,
            max_workers=workers,
            context=context,
            initializer=_start_worker,
            initargs=(memory_of_slots, metadata, estimators, limits, memory, timeout + GRACE, nice),
        )
        self._pool = self._new_pool()
        self._closed = False

    def __enter__(self) -> DecoderPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        _end(self._pool)

    @asynccontextmanager
    async def decoded(self, ref: ClipRef) -> AsyncIterator[ModelClip]:
        """Decode a clip. Its inputs are valid until the block ends.

        If it is cancelled while decoding, its slot is not reused, because the process may still write to it. A
        cancelled run closes its pool.

        Raises:
            DecodeError: the clip cannot be decoded.
            ExtractError: the decode processes keep dying.
            PoseError: the processes cannot load the pose estimator.
        """
        slot = await self._free.get()
        try:
            clip = await self._decode(ref, slot)
        except Exception:
            self._free.put_nowait(slot)
            raise
        try:
            yield replace(clip, inputs=self._slots.inputs(slot))
        finally:
            self._free.put_nowait(slot)

    async def _decode(self, ref: ClipRef, slot: int) -> ModelClip:
        for _ in range(STARTS):
            pool = self._pool
            try:
                found = await self._result(pool, pool.schedule(_decode, args=(ref, slot), timeout=self._timeout))
            except ClipTimeoutError as error:
                raise DecodeError("decoder_timeout", _too_slow(ref.path, self._timeout)) from error
            except ProcessExpired as error:
                how = f"signal {-error.exitcode}" if error.exitcode < 0 else f"exit status {error.exitcode}"
                raise DecodeError(
                    "decoder_crashed",
                    f"{ref.path} crashed the process that decoded it ({how}); the file is probably damaged",
                ) from error
            except RuntimeError as error:
                # The pool gives up if all its processes die while idle. No clip is at fault, so try a new pool.
                why = error
                await self._replace(pool)
                continue
            if isinstance(found, _Refusal):
                raise DecodeError(found.code, found.message)
            return found
        raise ExtractError(
            f"decode processes exit as soon as they start ({why}). Check that there is enough memory, then run the "
            "same command again with fewer --workers"
        ) from why

    async def _result(self, pool: ProcessPool, future: Future[ModelClip | _Refusal]) -> ModelClip | _Refusal:
        """Wait for a clip.

        A pool whose processes all die before it has read a clip from its queue never finishes that clip's future.

        Raises:
            RuntimeError: the pool has given up.
        """
        waiting = asyncio.wrap_future(future)
        try:
            while not (await asyncio.wait([waiting], timeout=CHECK_SECONDS))[0]:
                if not self._closed and not pool.active:
                    raise RuntimeError("all processes died before they took the clip")
            return waiting.result()
        finally:
            waiting.cancel()

    async def _replace(self, broken: ProcessPool) -> None:
        if self._pool is broken:  # only the first caller that finds it broken
            self._pool = self._new_pool()
            await asyncio.to_thread(_end, broken)


def _end(pool: ProcessPool) -> None:
    pool.stop()
    pool.join()


def _too_slow(path: str, seconds: float) -> str:
    if "://" in path:
        return f"{path}: fetching and decoding took longer than {seconds:g} s; check that the server responds"
    return (
        f"{path}: decoding took longer than {seconds:g} s and was stopped; if the file is not damaged, allow more time "
        "(sefar extract --clip-timeout)"
    )


@dataclass(frozen=True)
class _Refusal:
    """Why a clip was not decoded. Cheaper to send than an exception with its traceback."""

    code: str
    message: str


class _Slots:
    """Shared memory seen as slots, each with the inputs of one clip.

    Args:
        memory: a ctypes array of bytes.
        metadata: metadata of the model.
    """

    def __init__(self, memory: Any, metadata: ModelMetadata) -> None:
        self._specs = metadata.inputs
        self._offsets, size = memory_layout(self._specs)
        self._bytes = np.frombuffer(memory, np.uint8).reshape(-1, size)

    def inputs(self, slot: int) -> dict[str, NDArray[Any]]:
        """The inputs in a slot, as views of the memory."""
        found = {}
        for name, (dtype, shape) in self._specs.items():
            begin = self._offsets[name]
            found[name] = self._bytes[slot, begin : begin + dtype.itemsize * prod(shape)].view(dtype).reshape(shape)
        return found


@dataclass(frozen=True)
class _Worker:
    """State of a decode process."""

    slots: _Slots
    metadata: ModelMetadata
    estimators: Estimators
    limits: ClipLimits
    alarm: float


_worker: _Worker


def _start_worker(
    slots: Any,
    metadata: ModelMetadata,
    estimators: Estimators,
    limits: ClipLimits,
    memory: int,
    alarm: float,
    nice: int,
) -> None:
    """Set up this decode process. Called once in each."""
    global _worker
    _worker = _Worker(_Slots(slots, metadata), metadata, estimators, limits, alarm)
    os.nice(nice)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    if sys.platform == "linux":  # the limit needs /proc
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        bound = pages * resource.getpagesize() + memory
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        bound = bound if hard == resource.RLIM_INFINITY else min(bound, hard)
        resource.setrlimit(resource.RLIMIT_AS, (bound, hard))


def _decode(ref: ClipRef, slot: int) -> ModelClip | _Refusal:
    """Decode a clip into its slot and return it without the inputs."""
    # The parent, which stops a process that hangs, may have been killed.
    signal.setitimer(signal.ITIMER_REAL, _worker.alarm)
    try:
        return _decode_into_slot(ref, slot)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)


def _decode_into_slot(ref: ClipRef, slot: int) -> ModelClip | _Refusal:
    try:
        with _opened(ref.path) as source:
            clip = load_inputs(
                source,
                _worker.metadata,
                _worker.estimators,
                start=ref.start,
                end=ref.end,
                name=ref.path,
                limits=_worker.limits,
            )
    except ClipError as error:
        return _Refusal(error.code, str(error))
    except PoseError:
        raise  # every clip would meet it
    except FileNotFoundError as error:
        # fsspec's HTTP file system raises it for every failure.
        if ref.path.startswith("http") and getattr(error.__cause__, "status", None) not in (404, 410):
            return _Refusal("unreadable_file", f"{ref.path}: {error.__cause__ or error}")
        return _Refusal("file_not_found", f"{ref.path}: no such file")
    except OSError as error:
        return _Refusal("unreadable_file", f"{ref.path}: {error.strerror or error}")
    except MemoryError:
        return _Refusal("clip_too_large", f"{ref.path}: decoding it needs more memory than allowed; scale it down")
    except Exception as error:
        # Libraries for file systems and codecs raise exceptions of any type. Only this clip fails.
        log.debug("%s", ref.path, exc_info=True)
        return _Refusal("unreadable_file", f"{ref.path}: {type(error).__name__}: {error}")
    for name, values in _worker.slots.inputs(slot).items():
        values[...] = clip.inputs[name]
    return clip.without_inputs()


@contextmanager
def _opened(path: str) -> Iterator[VideoSource]:
    """Open a video: a local file by its path, a remote one as bytes, or as a file object if it is large."""
    if "://" not in path:
        # Opening a pipe would block.
        if not stat.S_ISREG(Path(path).stat().st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        yield path
        return
    with fsspec.open(path, "rb") as file:
        size = getattr(file, "size", None)
        yield file if size is None or size > WHOLE else file.read()
