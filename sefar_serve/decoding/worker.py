"""A decode process: decodes one video after another and writes the clips into memory that its parent gives it."""

from __future__ import annotations

import errno
import os
import resource
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sefar_serve.clip import ClipError, ClipLimitError, ClipLimits, VideoSource
from sefar_serve.decoding.channel import Channel, ChannelClosedError
from sefar_serve.decoding.confine import confine, limit_cpu, limit_resources
from sefar_serve.decoding.errors import UnreadableFileError
from sefar_serve.decoding.messages import Ask, Failure, Reply, Start, failure_of, segment_size, store
from sefar_serve.decoding.segments import NamedFile, seen
from sefar_serve.decoding.task import DecodeTask, decode
from sefar_serve.errors import SefarError
from sefar_serve.metadata import ModelMetadata
from sefar_serve.pose import Estimators, Picture

GRACE = 10.0
"""Seconds past the time limit after which a process kills itself, in case the parent that should do it is stopped."""

MOST_GROWTH = 256 * 1024**2
"""A process that keeps so many bytes more than at its start asks to be replaced."""

SMALL = 4 * 1024**2
"""Local videos of up to this many bytes are read whole."""

WHOLE = 64 * 1024**2
"""Remote videos of up to this many bytes are downloaded whole, because decoders seek back and forth."""


def run(channel: Channel, estimators: Estimators) -> None:
    """Decode until the parent closes the channel.

    Args:
        channel: to the parent.
        estimators: find the joints for models that see them.
    """
    start = Start.model_validate_json(channel.receive()[0])
    try:
        _make_expendable(start.nice)
        if start.pose is not None:
            _load_estimator(estimators, start.pose)
        memory = _Memory()
        limit_resources(start.memory, writes=start.remote)
        if start.remote:
            held: tuple[str, ...] = ()
        else:
            _silence()
            held = confine()
    except SefarError as error:
        channel.send(_json(Reply(failure=failure_of(error))))
        return
    channel.send(_json(Reply(ready=held)))
    memory_of_a_clip = None
    with suppress(ChannelClosedError):
        for videos in range(1, sys.maxsize):
            message, fds = channel.receive(fds_allowed=True)
            ask = Ask.model_validate_json(message)
            limit_cpu(ask.seconds)
            signal.setitimer(signal.ITIMER_REAL, ask.seconds + GRACE)
            if ask.new_memory:
                memory_of_a_clip = _mapped(fds.pop(0), _metadata(ask.model), 1)
            reply = _answer(channel, ask, fds, memory_of_a_clip, estimators)
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            retire = videos >= start.videos or memory.growth() > MOST_GROWTH
            channel.send(_json(reply.model_copy(update={"retire": retire})))


def _answer(
    channel: Channel, ask: Ask, fds: list[int], memory: NDArray[np.uint8] | None, estimators: Estimators
) -> Reply:
    try:
        meta = _metadata(ask.model)
        task = DecodeTask(
            meta,
            ask.name,
            ask.start,
            ask.end,
            ask.windows,
            ask.stride,
            ask.max_windows,
            ClipLimits(**ask.limits),  # type: ignore[arg-type]
        )
        with _opened(ask, fds) as source:
            decoded = decode(source, task, estimators)
        if ask.windows:
            memory = _more_memory(channel, meta, len(decoded.clips))
        assert memory is not None
        return Reply(decoded=store(decoded, memory, meta), seconds=decoded.seconds)
    except ChannelClosedError:
        raise
    except SefarError as error:
        return Reply(failure=failure_of(_out_of_memory(ask.name) if _lacks_memory(error) else error))
    except MemoryError:
        return Reply(failure=failure_of(_out_of_memory(ask.name)))
    except OSError as error:
        return Reply(failure=failure_of(UnreadableFileError(f"{ask.name}: {error.strerror or error}")))
    except Exception as error:
        # Libraries for file systems and codecs raise exceptions of any type. Only this video fails.
        why = Failure(code="", message=f"{type(error).__name__}: {error}"[:500], trace=traceback.format_exc()[-8000:])
        return Reply(failure=why)
    finally:
        for fd in fds:
            os.close(fd)


def _more_memory(channel: Channel, meta: ModelMetadata, clips: int) -> NDArray[np.uint8]:
    """Ask the parent for memory for the clips of windows, whose number was not known before."""
    channel.send(_json(Reply(clips=clips)))
    _, [fd] = channel.receive(fds_allowed=True)
    return _mapped(fd, meta, clips)


def _mapped(fd: int, meta: ModelMetadata, clips: int) -> NDArray[np.uint8]:
    try:
        return seen(fd, segment_size(meta, clips))
    finally:
        os.close(fd)


@contextmanager
def _opened(ask: Ask, fds: list[int]) -> Iterator[VideoSource]:
    """The video: a file by its descriptor, or a remote one as bytes, or as a file object if it is large."""
    if ask.url is None:
        with NamedFile(fds[0], ask.name) as file:
            # FFmpeg reads a small file several times, a little at a time.
            yield file.content() if os.fstat(fds[0]).st_size <= SMALL else file
        return
    import fsspec  # an optional package, for remote files only

    try:
        with fsspec.open(ask.url, "rb") as file:
            size = getattr(file, "size", None)
            yield file if size is None or size > WHOLE else file.read()
    except FileNotFoundError as error:
        # fsspec's HTTP file system raises it for every failure.
        if ask.url.startswith("http") and getattr(error.__cause__, "status", None) not in (404, 410):
            raise UnreadableFileError(f"{ask.name}: {error.__cause__ or error}") from error
        raise UnreadableFileError(f"{ask.name}: no such file", "file_not_found") from error
    except OSError as error:
        raise UnreadableFileError(f"{ask.name}: {error.strerror or error}") from error
    except (ClipError, MemoryError):
        raise
    except Exception as error:
        # Libraries for file systems raise exceptions of any type. Only this video fails.
        raise UnreadableFileError(f"{ask.name}: {type(error).__name__}: {error}") from error


def _out_of_memory(name: str) -> ClipLimitError:
    return ClipLimitError(
        f"{name}: decoding it needs more memory than a decode process may use; scale it down, or use an undamaged file"
    )


def _lacks_memory(error: BaseException) -> bool:
    """Whether an error comes from FFmpeg's "Cannot allocate memory"."""
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno == errno.ENOMEM


def _make_expendable(nice: int) -> None:
    """Let the kernel prefer this process when it needs CPU time or memory for others."""
    os.nice(nice)
    with suppress(OSError):  # not Linux
        Path("/proc/self/oom_score_adj").write_text("800")


def _silence() -> None:
    """Write nothing to the gateway's log any more."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)


def _load_estimator(estimators: Estimators, meta: ModelMetadata) -> None:
    """Load the models of the estimator, which needs files and memory, while this process still has them."""
    estimator = estimators.of(meta)
    if estimator is not None:
        picture = Picture(np.zeros((64, 64, 3), np.uint8))
        estimator.detect(picture, picture.whole)
        estimator.landmarks(picture, picture.whole)


class _Memory:
    """How much memory this process uses, from a file that stays readable."""

    def __init__(self) -> None:
        try:
            self._statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # not Linux
            self._statm = -1
        self._first = self._used()

    def growth(self) -> int:
        """Bytes beyond those at the start; 0 if the system does not tell."""
        return self._used() - self._first

    def _used(self) -> int:
        if self._statm < 0:
            return 0
        return int(os.pread(self._statm, 128, 0).split()[1]) * resource.getpagesize()


@lru_cache(8)
def _metadata(text: str) -> ModelMetadata:
    return ModelMetadata.model_validate_json(text)


def _json(reply: Reply) -> bytes:
    return reply.model_dump_json(exclude_defaults=True).encode()
