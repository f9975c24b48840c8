"""`each` of both clients: order, exactly once, and which errors end it."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from typing import Any, cast

import pytest

from sefar_client import AsyncClient, Client, Failure, GatewayError, GatewayUnreachableError

Each = Callable[..., Generator[Any, None, None]]


def blocking(call: Callable[[Any], Any], videos: Any, **options: Any) -> Generator[Any, None, None]:
    with Client("http://gateway") as client:
        yield from client.each(call, videos, **options)


def asynchronous(call: Callable[[Any], Any], videos: Any, **options: Any) -> Generator[Any, None, None]:
    """The asynchronous `each`, one result at a time."""

    async def awaited(video: Any) -> Any:
        await asyncio.sleep(0)
        return call(video)

    with asyncio.Runner() as runner:
        client = AsyncClient("http://gateway")
        results = client.each(awaited, videos, **options)
        try:
            while True:
                try:
                    yield runner.run(asyncio.wait_for(cast(Any, anext(results)), 60))
                except StopAsyncIteration:
                    return
        finally:
            runner.run(client.aclose())


both = pytest.mark.parametrize("each", [blocking, asynchronous])


def square(number: int) -> int:
    """The square of a number. For some it fails as if a gateway had refused that video."""
    if number % 7 == 3:
        raise GatewayError("no video", status=415, code="not_a_video", param="input")
    if number % 7 == 5:
        raise FileNotFoundError(number)
    return number * number


@both
def test_every_video_has_one_result_in_order_and_is_read_as_needed(each: Each) -> None:
    called: list[int] = []
    taken: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(200):
            taken.append(number)
            yield number

    def noted(number: int) -> int:
        called.append(number)
        return square(number)

    results = each(noted, numbers(), at_once=4)
    found = [next(results)]
    assert len(taken) <= 4 * 4
    found.extend(results)
    assert sorted(called) == list(range(200))
    for number, result in enumerate(found):
        if number % 7 in (3, 5):
            assert isinstance(result, Failure)
            assert result.video == number
        else:
            assert result == number * number


@both
@pytest.mark.parametrize(
    "error", [GatewayError("who?", status=401, code="invalid_api_key"), GatewayUnreachableError("who?")]
)
def test_errors_that_affect_all_videos_end_it(each: Each, error: Exception) -> None:
    def refused(_: bytes) -> None:
        raise error

    with pytest.raises(type(error), match="who"):
        list(each(refused, [b""] * 100))


@both
def test_results_before_an_error_of_videos_are_kept(each: Each) -> None:
    def breaking() -> Iterator[int]:
        yield from (0, 1, 2)
        raise KeyError("cannot read the list")

    found: list[int] = []
    with pytest.raises(KeyError, match="cannot read the list"):
        for result in each(square, breaking(), at_once=2):
            found.append(result)
    assert found == [0, 1, 4]


@both
@pytest.mark.parametrize("at_once", [0, -1])
def test_at_once_must_be_positive(each: Each, at_once: int) -> None:
    with pytest.raises(ValueError, match=rf"at_once is {at_once}; it must be 1 or more"):
        next(each(square, [1], at_once=at_once))


def test_videos_may_be_an_asynchronous_iterable() -> None:
    async def numbers() -> AsyncIterator[Any]:
        for number in (0, 1, 2):
            await asyncio.sleep(0)
            yield number
        raise KeyError("cannot read the list")

    found: list[int] = []
    with pytest.raises(KeyError, match="cannot read the list"):
        for result in asynchronous(square, numbers(), at_once=2):
            found.append(result)
    assert found == [0, 1, 4]


def test_leaving_early_starts_no_more_calls_and_leaves_no_threads() -> None:
    called: list[int] = []
    before = set(threading.enumerate())
    results = blocking(lambda number: called.append(number), range(1000), at_once=2)
    next(results)
    mine = set(threading.enumerate()) - before
    assert mine
    results.close()
    for thread in mine:
        thread.join(10)
        assert not thread.is_alive()
    assert len(called) <= 2 * 4


@pytest.mark.parametrize("in_block", [True, False])
def test_an_interrupt_does_not_wait_for_requests(in_block: bool) -> None:
    program = """
import sys
from contextlib import nullcontext
from sefar_client import Client
client = Client(sys.argv[1], timeout=3600)
with client if sys.argv[2] == "True" else nullcontext():
    list(client.each(client.classify, [b"video"] * 20, at_once=4))
"""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(60)
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        process = subprocess.Popen([sys.executable, "-c", program, url, str(in_block)], stderr=subprocess.PIPE)
        try:
            connections = [silent.accept()[0] for _ in range(4)]
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
        for connection in connections:
            connection.close()
    assert errors.rstrip().endswith(b"KeyboardInterrupt")
