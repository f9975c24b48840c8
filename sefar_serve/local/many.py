"""Results of many videos: in order, one for each video, with a limit on how many are in progress."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from typing import TypeVar

from sefar_client import Failure, Video
from sefar_serve.clip import NotAVideoError
from sefar_serve.errors import SefarError
from sefar_serve.fetch import UrlError

T = TypeVar("T")


def each(
    videos: Iterable[Video],
    begin: Callable[[Video], Future[T]],
    result: Callable[[Future[T]], T],
    most: int,
) -> Generator[T | Failure, None, None]:
    """Yield results in the order of the videos. Closing the generator cancels what is in progress.

    Args:
        videos: read as they are needed, in the caller's thread.
        begin: starts work on one video.
        result: waits for its result.
        most: number of videos to read before the oldest one has its result.

    Yields:
        The result, or a `Failure` if the error concerns only this video.

    Raises:
        Exception: an error that every video would meet, or one that `videos` raised, after the results before it.
    """
    ahead: deque[tuple[Video, Future[T]]] = deque()
    waiting = iter(videos)
    broken: Exception | None = None

    def oldest() -> T | Failure:
        video, future = ahead.popleft()
        try:
            return result(future)
        except Exception as error:  # an unexpected error must not stop the other videos either
            if not _concerns_only_this_video(error):
                raise
            return Failure(video, error)

    try:
        while broken is None:
            # Yield finished results first, because reading the next video may take long.
            while ahead and (len(ahead) >= most or ahead[0][1].done()):
                yield oldest()
            try:
                video = next(waiting)
                ahead.append((video, begin(video)))
            except StopIteration:
                break
            except (UrlError, NotAVideoError) as error:
                ahead.append((video, _failed(error)))
            except Exception as error:  # raised by the iterable, or because its item is not a video
                broken = error
        while ahead:
            yield oldest()
    finally:
        for _, future in ahead:
            future.cancel()
    if broken is not None:
        raise broken


def _concerns_only_this_video(error: Exception) -> bool:
    """Whether other videos may succeed where this one fails; the same rule as in `sefar_client.GatewayError`."""
    return not isinstance(error, SefarError) or error.param == "input" or error.status in (413, 500, 504)


def _failed(error: Exception) -> Future[T]:
    future: Future[T] = Future()
    future.set_exception(error)
    return future
