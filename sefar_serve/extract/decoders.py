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
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import TimeoutError as ClipTimeoutError
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
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
from sefar_serve.extract.clips import ClipRef, ExtractError
from sefar_serve.metadata import ModelMetadata

log = logging.getLogger(__name__)

WHOLE = 64 * 1024**2
"""Bytes up to which a video elsewhere is fetched at once; a decoder reads forth and back."""

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
        try:
            future = self._pool.schedule(_decode, args=(ref, slot), timeout=self._timeout)
            found: Clip | _Refusal = await asyncio.wrap_future(future)
        except ClipTimeoutError as error:
            raise DecodeError(
                "decoder_timeout",
                f"{ref.path}: decoding took longer than {self._timeout:g} s and was stopped; if the file is sound, "
                "allow it more time",
            ) from error
        except ProcessExpired as error:
            how = f"signal {-error.exitcode}" if error.exitcode < 0 else f"exit status {error.exitcode}"
            raise DecodeError(
                "decoder_crashed", f"{ref.path} ended the process that decoded it ({how}); the file is likely damaged"
            ) from error
        except RuntimeError as error:  # of a broken pool
            raise ExtractError(
                f"decode processes end as soon as they start ({error}); is there memory for them? Run the same "
                "command again to go on, with fewer --workers"
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
    except FileNotFoundError:
        return _Refusal("file_not_found", f"{ref.path}: no such file")
    except OSError as error:
        return _Refusal("unreadable_file", f"{ref.path}: {error.strerror or error}")
    except MemoryError:
        return _Refusal("clip_too_large", f"{ref.path}: decoding it takes more memory than a decoder may have")
    except Exception as error:
        # The libraries of a hundred file systems and codecs each raise what they like; it costs this clip.
        log.exception("%s", ref.path)
        return _Refusal("unreadable_file", f"{ref.path}: {type(error).__name__}: {error}")
    _worker.frames[slot] = clip.frames
    return replace(clip, frames=clip.frames[:0].copy())


@contextmanager
def _opened(path: str) -> Iterator[VideoSource]:
    """A local file by its path, one elsewhere by its bytes, or as a file object where these would be many."""
    if "://" not in path:
        yield path
        return
    with fsspec.open(path, "rb") as file:
        size = getattr(file, "size", None)
        yield file if size is None or size > WHOLE else file.read()
