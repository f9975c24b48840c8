"""Processes many videos concurrently: one result per video, in the order of the videos."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import aclosing
from queue import SimpleQueue
from threading import Thread
from typing import TypeVar

from sefar_client.errors import GatewayError, GatewayUnreachableError
from sefar_client.videos import Failure, Video

T = TypeVar("T")
V = TypeVar("V", bound=Video)

AHEAD = 4
"""Videos that are started before the oldest has its result, as a multiple of `at_once`. A slow video holds up the
others only when this many are waiting."""


def each(call: Callable[[V], T], videos: Iterable[V], at_once: int) -> Iterator[T | Failure]:
    """See `Client.each`.

    Raises:
        ValueError: `at_once` is below 1.
    """
    _check(at_once)
    return _each(call, videos, at_once)


def each_async(
    call: Callable[[V], Awaitable[T]], videos: Iterable[V] | AsyncIterable[V], at_once: int
) -> AsyncIterator[T | Failure]:
    """See `Client.each`.

    Raises:
        ValueError: `at_once` is below 1.
    """
    _check(at_once)
    return _each_async(call, videos, at_once)


def _check(at_once: int) -> None:
    if at_once < 1:
        raise ValueError(f"at_once is {at_once}; it must be 1 or more")


def _each(call: Callable[[V], T], videos: Iterable[V], at_once: int) -> Iterator[T | Failure]:
    waiting: SimpleQueue[tuple[V, Future[T | Failure]] | None] = SimpleQueue()
    threads: list[Thread] = []

    def started() -> Iterator[Future[T | Failure]]:
        """Yield a future for each result. If `videos` raises an error, the last future raises it."""
        try:
            for video in videos:
                result: Future[T | Failure] = Future()
                waiting.put((video, result))
                if len(threads) < at_once:
                    # Not an executor: Python waits for its threads at exit, so Ctrl-C would wait for requests.
                    thread = Thread(target=_work, args=(call, waiting), name="sefar-client", daemon=True)
                    thread.start()
                    threads.append(thread)
                yield result
        except Exception as error:
            broken: Future[T | Failure] = Future()
            broken.set_exception(error)
            yield broken

    ahead: deque[Future[T | Failure]] = deque()
    try:
        for result in started():
            ahead.append(result)
            if len(ahead) >= AHEAD * at_once:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        for result in ahead:
            result.cancel()
        for _ in threads:
            waiting.put(None)


def _work(call: Callable[[V], T], waiting: SimpleQueue[tuple[V, Future[T | Failure]] | None]) -> None:
    """Make calls in a thread until there are no more."""
    while (task := waiting.get()) is not None:
        video, result = task
        if not result.set_running_or_notify_cancel():
            continue
        try:
            result.set_result(_attempt(call, video))
        except BaseException as error:  # raised again where the result is read
            result.set_exception(error)


async def _each_async(
    call: Callable[[V], Awaitable[T]], videos: Iterable[V] | AsyncIterable[V], at_once: int
) -> AsyncIterator[T | Failure]:
    places = asyncio.Semaphore(at_once)

    async def attempt(video: V) -> T | Failure:
        async with places:
            try:
                return await call(video)
            except (GatewayError, OSError) as error:
                return _failure(video, error)

    async def started() -> AsyncGenerator[asyncio.Future[T | Failure], None]:
        """Yield a future for each result. If `videos` raises an error, the last future raises it."""
        try:
            if isinstance(videos, AsyncIterable):
                async for video in videos:
                    yield asyncio.create_task(attempt(video))
            else:
                for video in videos:
                    yield asyncio.create_task(attempt(video))
        except Exception as error:
            broken: asyncio.Future[T | Failure] = asyncio.get_running_loop().create_future()
            broken.set_exception(error)
            yield broken

    ahead: deque[asyncio.Future[T | Failure]] = deque()
    try:
        async with aclosing(started()) as results:
            async for result in results:
                ahead.append(result)
                if len(ahead) >= AHEAD * at_once:
                    yield await ahead.popleft()
        while ahead:
            yield await ahead.popleft()
    finally:
        for result in ahead:
            result.cancel()
        await asyncio.gather(*ahead, return_exceptions=True)


def _attempt(call: Callable[[V], T], video: V) -> T | Failure:
    try:
        return call(video)
    except (GatewayError, OSError) as error:
        return _failure(video, error)


def _failure(video: Video, error: GatewayError | OSError) -> Failure:
    """A failure that concerns this video only.

    Raises:
        GatewayError, GatewayUnreachableError: the same error, if it concerns all videos.
    """
    if isinstance(error, GatewayUnreachableError) or (isinstance(error, GatewayError) and not error.is_about_the_video):
        raise error
    return Failure(video, error)
