"""Addresses, keys, and what is answered by something else than a gateway."""

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
def test_an_address_where_no_gateway_can_be_is_a_mistake(kind: type[Client | AsyncClient], base_url: str) -> None:
    with pytest.raises(ValueError, match=r"is no address of a gateway.*begin it with http:// .* http://127.0.0.1:8000"):
        kind(base_url)


@pytest.mark.parametrize("base_url", ["http://h:8000", "http://h:8000/", "http://h:8000/v1", "http://h:8000/v1/"])
def test_the_address_may_end_as_that_of_openais_clients(base_url: str) -> None:
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
def test_a_key_that_cannot_be_sent_is_a_mistake_and_is_not_told(key: str) -> None:
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
def test_an_answer_of_something_else_is_said_to_be_one(answer: httpx.Response) -> None:
    with pytest.raises(GatewayError, match="not as a sefar-serve gateway"):
        make(in_turn(answer)).models()


def test_an_answer_that_cannot_be_unpacked_is_no_gateways() -> None:
    def handle(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"content-encoding": "gzip"}, stream=httpx.ByteStream(b"no gzip"))

    with pytest.raises(GatewayUnreachableError, match="cannot be unpacked"):
        make(handle).models()
    assert not make(handle).ready()

    async def run() -> None:
        async with make_async(handle) as client:
            with pytest.raises(GatewayUnreachableError, match="cannot be unpacked"):
                await client.models()

    asyncio.run(run())


@pytest.fixture
def meeting() -> Iterator[str]:
    """The address of a server that answers nobody before 120 requests are there."""
    there = threading.Barrier(120)

    class Meeting(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            there.wait(60)
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


def test_any_number_of_requests_may_be_under_way(meeting: str) -> None:
    async def run() -> None:
        async with AsyncClient(meeting, patience=0) as client:
            found = await asyncio.gather(*(client.models() for _ in range(120)), return_exceptions=True)
        assert [error.status for error in found if isinstance(error, GatewayError)] == [404] * 120

    asyncio.run(run())
