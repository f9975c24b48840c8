"""Addresses, keys, and answers from something other than a gateway."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from client_answers import in_turn, make, make_async

from sefar_client import AsyncClient, Client, GatewayError, GatewayUnreachableError


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize(
    "base_url",
    ["127.0.0.1:8000", "localhost:8000", "", "http://", "ftp://host", "http://[::1", "http://host:99999", "http://a\n"],
)
def test_invalid_addresses(kind: type[Client | AsyncClient], base_url: str) -> None:
    with pytest.raises(
        ValueError, match=r"not a valid gateway address.*start it with http:// .* http://127.0.0.1:8000"
    ):
        kind(base_url)


@pytest.mark.parametrize("base_url", ["http://h:8000", "http://h:8000/", "http://h:8000/v1", "http://h:8000/v1/"])
def test_the_address_may_end_in_v1(base_url: str) -> None:
    with Client(base_url) as client:
        assert client._http.base_url == "http://h:8000"


def test_the_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEFAR_API_KEY", "from-there\n")
    with Client() as client:
        assert client._http.headers["authorization"] == "Bearer from-there"
    with Client(api_key=" given\r\n") as client:
        assert client._http.headers["authorization"] == "Bearer given"
    monkeypatch.setenv("SEFAR_API_KEY", " ")
    with Client() as client:
        assert "authorization" not in client._http.headers


@pytest.mark.parametrize("key", ["schlüssel", "two\nlines"])
def test_an_invalid_key_is_an_error_that_does_not_show_it(key: str) -> None:
    with pytest.raises(ValueError, match="one line of ASCII") as raised:
        Client(api_key=key)
    assert key not in str(raised.value)


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, text="<html>"),
        httpx.Response(200, json={"data": 3}),
        httpx.Response(200),
        httpx.Response(200, text="[" * 100_000),
    ],
)
def test_answers_of_other_servers_are_reported_as_such(answer: httpx.Response) -> None:
    with pytest.raises(GatewayError, match="not like a sefar-serve gateway"):
        make(in_turn(answer)).models()


def test_an_answer_that_cannot_be_decompressed() -> None:
    def handle(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"content-encoding": "gzip"}, stream=httpx.ByteStream(b"no gzip"))

    with pytest.raises(GatewayUnreachableError, match="cannot be decompressed"):
        make(handle).models()
    assert not make(handle).ready()

    async def run() -> None:
        async with make_async(handle) as client:
            with pytest.raises(GatewayUnreachableError, match="cannot be decompressed"):
                await client.models()

    asyncio.run(run())


@pytest.fixture
def meeting() -> Iterator[str]:
    """The address of a server that answers only when it has 120 requests."""
    all_there = threading.Barrier(120)

    class Meeting(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            all_there.wait(60)
            self.send_response(404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 200

    with Server(("127.0.0.1", 0), Meeting) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_any_number_of_requests_may_be_in_flight(meeting: str) -> None:
    async def run() -> None:
        async with AsyncClient(meeting, patience=0) as client:
            found = await asyncio.gather(*(client.models() for _ in range(120)), return_exceptions=True)
        assert [error.status for error in found if isinstance(error, GatewayError)] == [404] * 120

    asyncio.run(run())
