"""Results of many videos: in order, one each, a bounded number ahead."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from typing import TypeVar

from sefar_client import Failure, Video
from sefar_serve.errors import SefarError
from sefar_serve.fetch import UrlNotAllowedError

T = TypeVar("T")


def each(
    videos: Iterable[Video],
    begin: Callable[[Video], Future[T]],
    result: Callable[[Future[T]], T],
    most: int,
) -> Generator[T | Failure, None, None]:
    """Results in the order of the videos; closing the generator cancels what is under way.

    Args:
        videos: taken as they are needed, from the thread that takes the results.
        begin: begins with one.
        result: waits for its result.
        most: videos to take before the oldest has its result.

    Yields:
        The result, or a `Failure` if the error is about this video.

    Raises:
        Exception: what every video would meet; or what `videos` raised, after the results before that.
    """
    ahead: deque[tuple[Video, Future[T]]] = deque()
    waiting = iter(videos)
    broken: Exception | None = None

    def oldest() -> T | Failure:
        video, future = ahead.popleft()
        try:
            return result(future)
        except Exception as error:  # an unforeseen one must not end the others either
            if not _is_about_the_video(error):
                raise
            return Failure(video, error)

    try:
        while broken is None:
            # Results that are ready go out first: the next video may be long in coming.
            while ahead and (len(ahead) >= most or ahead[0][1].done()):
                yield oldest()
            try:
                video = next(waiting)
                ahead.append((video, begin(video)))
            except StopIteration:
                break
            except UrlNotAllowedError as error:
                ahead.append((video, _failed(error)))
            except Exception as error:  # the iterable's own, or what it gave cannot be a video
                broken = error
        while ahead:
            yield oldest()
    finally:
        for _, future in ahead:
            future.cancel()
    if broken is not None:
        raise broken


def _is_about_the_video(error: Exception) -> bool:
    """Whether other videos may be answered where this one is not; the rule of `sefar_client.GatewayError`."""
    return not isinstance(error, SefarError) or error.param == "input" or error.status in (413, 500, 504)


def _failed(error: Exception) -> Future[T]:
    future: Future[T] = Future()
    future.set_exception(error)
    return future
