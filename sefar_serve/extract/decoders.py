"""Decoding the clips of a run in processes: a video that crashes or hangs its decoder costs only that clip."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from types import TracebackType
from typing import Protocol

from sefar_serve.clip import ClipError, ClipLimits
from sefar_serve.decoding import (
    Decoded,
    DecodersUnavailableError,
    DecoderTimeoutError,
    DecodeTask,
    ProcessDecoders,
    ProcessLimits,
    RemoteVideo,
    UnexpectedDecodeError,
)
from sefar_serve.decoding.pool import MEMORY
from sefar_serve.errors import SefarError
from sefar_serve.extract.clips import ClipRef, ExtractError
from sefar_serve.inputs import ModelClip
from sefar_serve.metadata import ModelMetadata
from sefar_serve.pose import Estimators

log = logging.getLogger(__name__)


class DecodeError(SefarError, RuntimeError):
    """A clip that cannot be decoded; `code` is the reason.

    Codes:
        clip_too_large (row): Decoding the video needs more memory or time than a decode process may use.
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
    """Decode processes for the clips of a run. Use it as a context manager.

    Args:
        metadata: metadata of the model that the clips are decoded for.
        workers: number of processes.
        slots: maximum number of clips that are being decoded, or are decoded and not yet released.
        limits: limits on each video.
        timeout: seconds that decoding a clip may take.
        memory: bytes that each process may use beyond what it starts with.
        nice: niceness of the processes, 0 to 19.
        estimators: find the joints for a model that sees them; each process loads its own.
        remote: whether clips may be at addresses of file systems (``s3://…``). Other processes read those, which keep
            the network.

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
        remote: bool = False,
    ) -> None:
        estimators = estimators if estimators is not None else Estimators()
        estimators.of(metadata)  # a missing one stops the run here, and is downloaded once
        self._metadata = metadata
        self._clip_limits = limits
        self._timeout = timeout
        self._free = asyncio.Semaphore(slots)
        process_limits = ProcessLimits(timeout, memory, nice)
        self.processes = ProcessDecoders(workers, estimators, process_limits)
        # Its processes are started when a clip needs them.
        self._remote = ProcessDecoders(workers, estimators, replace(process_limits, remote=True)) if remote else None

    def __enter__(self) -> DecoderPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.processes.close()
        if self._remote is not None:
            self._remote.close()

    @asynccontextmanager
    async def decoded(self, ref: ClipRef) -> AsyncIterator[ModelClip]:
        """Decode a clip, in a process that is stopped if this is cancelled.

        Raises:
            DecodeError: the clip cannot be decoded.
            ExtractError: the decode processes keep dying.
            PoseError: the processes cannot load the pose estimator.
        """
        async with self._free:
            yield await self._decoded(ref)

    async def _decoded(self, ref: ClipRef) -> ModelClip:
        task = DecodeTask(self._metadata, ref.path, ref.start, ref.end, limits=self._clip_limits)
        try:
            found = await asyncio.wrap_future(self._submitted(ref.path, task))
        except DecoderTimeoutError as error:
            raise DecodeError(error.code, _too_slow(ref.path, self._timeout)) from error
        except ClipError as error:
            raise DecodeError(error.code, str(error)) from error
        except FileNotFoundError as error:
            raise DecodeError("file_not_found", f"{ref.path}: no such file") from error
        except OSError as error:
            raise DecodeError("unreadable_file", f"{ref.path}: {error.strerror or error}") from error
        except UnexpectedDecodeError as error:
            log.debug("%s", error)
            raise DecodeError("unreadable_file", f"{ref.path}: {error.what}") from error
        except DecodersUnavailableError as error:
            raise ExtractError(f"{error}. Then run the same command again, with fewer --workers") from error
        [clip] = found.clips
        return clip

    def _submitted(self, path: str, task: DecodeTask) -> Future[Decoded]:
        if "://" not in path:
            return self.processes.submit(lambda: path, task)
        if self._remote is None:
            raise DecodeError("unreadable_file", f"{path} is not a local file")
        return self._remote.submit(lambda: RemoteVideo(path), task)


def _too_slow(path: str, seconds: float) -> str:
    if "://" in path:
        return f"{path}: fetching and decoding took longer than {seconds:g} s; check that the server responds"
    return (
        f"{path}: decoding took longer than {seconds:g} s and was stopped; if the file is not damaged, allow more time "
        "(sefar extract --clip-timeout)"
    )
