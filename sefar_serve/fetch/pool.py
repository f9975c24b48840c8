"""Fetches videos given by URL before they take a decoding thread, so that a slow host does not hold up other videos."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import IO, NoReturn

from sefar_serve.clip import ClipError
from sefar_serve.engine import EngineOverloadedError
from sefar_serve.fetch.fetcher import UrlError, UrlFetcher
from sefar_serve.recognition import ClipInput

FETCH_THREADS = 16
"""Videos fetched at the same time; the threads wait for the network and use almost no CPU."""


@dataclass(frozen=True)
class RemoteClip(ClipInput):
    """A video that is not fetched yet.

    Attributes:
        url: URL of the video.
    """

    url: str = ""


class RemoteVideos:
    """Fetches the videos of requests, in its own threads.

    Args:
        fetcher: fetches one video.
        most: maximum number of videos being fetched or waiting; more are refused before any work.
    """

    def __init__(self, fetcher: UrlFetcher, most: int) -> None:
        self._fetcher = fetcher
        self._most = most
        self._under_way = 0
        self._pool = ThreadPoolExecutor(FETCH_THREADS, thread_name_prefix="sefar-fetch")

    async def arrived(self, inputs: Sequence[ClipInput]) -> list[ClipInput]:
        """Fetch the remote videos and return all; one that could not be fetched raises its error when it is opened.

        Raises:
            EngineOverloadedError: too many are being fetched; nothing was started.
        """
        if not any(isinstance(item, RemoteClip) for item in inputs):
            return list(inputs)
        if self._under_way + len(inputs) > self._most:
            for item in inputs:
                item.close()
            raise EngineOverloadedError(f"{self._under_way} videos are being fetched; try again later")
        tasks = [asyncio.create_task(self._arrived(item)) for item in inputs]
        try:
            return list(await asyncio.gather(*tasks))
        except asyncio.CancelledError:
            for task in tasks:
                task.add_done_callback(_close_input)
            raise

    async def _arrived(self, item: ClipInput) -> ClipInput:
        if not isinstance(item, RemoteClip):
            return item
        loop = asyncio.get_running_loop()
        self._under_way += 1
        fetch = self._pool.submit(self._fetcher.fetch, item.url)
        # The slot is freed when the thread is done, not when the caller stops waiting.
        fetch.add_done_callback(lambda _: None if loop.is_closed() else loop.call_soon_threadsafe(self._release))
        try:
            video = await asyncio.wrap_future(fetch)
        except (ClipError, UrlError) as error:
            return ClipInput(item.name, partial(_fail, error))
        except asyncio.CancelledError:
            fetch.add_done_callback(_close_file)
            raise
        return ClipInput(item.name, lambda: video, video.close)

    def _release(self) -> None:
        self._under_way -= 1

    async def close(self) -> None:
        """Wait for running downloads, then stop the threads."""
        await asyncio.to_thread(self._pool.shutdown, wait=True, cancel_futures=True)


def _fail(error: Exception) -> NoReturn:
    raise error


def _close_file(fetch: Future[IO[bytes]]) -> None:
    if not fetch.cancelled() and fetch.exception() is None:
        fetch.result().close()


def _close_input(arrival: asyncio.Task[ClipInput]) -> None:
    if not arrival.cancelled() and arrival.exception() is None:
        arrival.result().close()
