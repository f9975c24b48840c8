"""Decode processes: a video that crashes or hangs its decoder costs one clip.

The pixels come back through memory that all processes share, in as many places as there may be clips under way;
so memory is bounded, and no frame goes through a pipe.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import multiprocessing
import resource
from collections.abc import AsyncIterator
from concurrent.futures import TimeoutError as ClipTimeoutError
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from math import prod
from multiprocessing.sharedctypes import RawArray
from pathlib import Path
from types import TracebackType
from typing import Any

import fsspec
import numpy as np
from numpy.typing import NDArray
from pebble import ProcessExpired, ProcessPool

from sefar_serve.clip import Clip, ClipError, ClipLimits, VideoSource, load_clip
from sefar_serve.extract.clips import ClipRef
from sefar_serve.metadata import ModelMetadata

log = logging.getLogger(__name__)

MEMORY = 4 * 1024**3
"""Bytes a decode process may take beyond what it starts with; 4320p video needs one of them."""


class DecodeError(RuntimeError):
    """A clip that cannot be decoded, whatever the reason.

    Attributes:
        code: machine-readable reason.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class DecoderPool:
    """Processes that decode, and the memory their frames come back in. Start and stop it as a context manager.

    Args:
        metadata: of the model that the clips are for.
        workers: processes.
        slots: most clips decoding, or decoded and not yet let go.
        limits: on each video.
        timeout: seconds that decoding a clip may take.
        memory: bytes that a process may take beyond what it starts with.
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
    ) -> None:
        shape = metadata.frames_shape
        # A server with threads of its own cannot fork safely.
        context = multiprocessing.get_context("forkserver")
        pixels = RawArray(ctypes.c_uint8, slots * prod(shape))
        self._frames = _places(pixels, metadata)
        self._free: asyncio.Queue[int] = asyncio.Queue()
        for slot in range(slots):
            self._free.put_nowait(slot)
        self._timeout = timeout
        self._pool = ProcessPool(
            max_workers=workers,
            context=context,
            initializer=_begin,
            initargs=(pixels, metadata, limits, memory),
        )

    def __enter__(self) -> DecoderPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.stop()
        self._pool.join()

    @asynccontextmanager
    async def decoded(self, ref: ClipRef) -> AsyncIterator[Clip]:
        """Decode a clip; its frames are there until the block ends.

        Raises:
            DecodeError: it cannot be decoded.
        """
        slot = await self._free.get()
        try:
            clip = await self._decode(ref, slot)
            yield replace(clip, frames=self._frames[slot])
        finally:
            self._free.put_nowait(slot)

    async def _decode(self, ref: ClipRef, slot: int) -> Clip:
        future = self._pool.schedule(_decode, args=(ref, slot), timeout=self._timeout)
        try:
            found: Clip | _Refusal = await asyncio.wrap_future(future)
        except ClipTimeoutError as error:
            raise DecodeError(
                "decoder_timeout", f"{ref.path}: decoding took longer than {self._timeout:g} s and was stopped"
            ) from error
        except ProcessExpired as error:
            how = f"signal {-error.exitcode}" if error.exitcode < 0 else f"exit status {error.exitcode}"
            raise DecodeError(
                "decoder_crashed", f"{ref.path} ended the process that decoded it ({how}); the file is likely damaged"
            ) from error
        if isinstance(found, _Refusal):
            raise DecodeError(found.code, found.message)
        return found


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


_worker: _Worker


def _begin(pixels: Any, metadata: ModelMetadata, limits: ClipLimits, memory: int) -> None:
    """Prepare this process; it is called once in each."""
    global _worker
    _worker = _Worker(_places(pixels, metadata), metadata, limits)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + memory, resource.RLIM_INFINITY))


def _places(pixels: Any, metadata: ModelMetadata) -> NDArray[np.uint8]:
    """The shared memory as an array of clips."""
    return np.frombuffer(pixels, np.uint8).reshape(-1, *metadata.frames_shape)


def _decode(ref: ClipRef, slot: int) -> Clip | _Refusal:
    """Decode a clip into its place; of what comes back the frames are left out."""
    meta = _worker.metadata
    try:
        clip = load_clip(
            _opened(ref.path, _worker.limits.max_bytes),
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
    except FileNotFoundError:
        return _Refusal("file_not_found", f"{ref.path}: no such file")
    except (OSError, ImportError) as error:  # an fsspec file system of which the driver is not installed
        return _Refusal("unreadable_file", f"{ref.path}: {getattr(error, 'strerror', None) or error}")
    except MemoryError:
        return _Refusal("clip_too_large", f"{ref.path}: decoding it takes more memory than a decoder may have")
    _worker.frames[slot] = clip.frames
    return replace(clip, frames=clip.frames[:0].copy())


def _opened(path: str, max_bytes: int) -> VideoSource:
    """A local file by its path, one elsewhere by its bytes."""
    if "://" not in path:
        return path
    with fsspec.open(path, "rb") as file:
        content: bytes = file.read(max_bytes + 1)
    return content
