"""Connections over real sockets: their number, slow headers, slow bodies, uploads that break off, slow readers."""

from __future__ import annotations

import json
import logging
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import pytest
from gateway_thread import GatewayThread

from sefar_serve.api import create_app
from sefar_serve.api import uploads as uploads_module
from sefar_serve.api.connections import PROBE_CONNECTIONS, ConnectionLimits, bounded_protocol
from sefar_serve.engine import FakeEngine
from sefar_serve.settings import Settings

UPLOAD = b"POST /v1/classify HTTP/1.1\r\nhost: x\r\ncontent-type: video/mp4\r\ncontent-length: 1000000\r\n\r\n"


@pytest.fixture
def serving() -> Iterator[Callable[..., tuple[str, int]]]:
    """`serving(limits, **settings)` returns the address of a gateway."""
    with ExitStack() as running:

        def serve(limits: ConnectionLimits | None = None, **settings: Any) -> tuple[str, int]:
            app = create_app(Settings(decode_threads=1, **settings), FakeEngine())
            protocol = bounded_protocol(limits or ConnectionLimits(100))
            url = httpx.URL(running.enter_context(GatewayThread(app, http=protocol)))
            return url.host, url.port or 0

        yield serve


@contextmanager
def connected(address: tuple[str, int], sent: bytes = b"") -> Iterator[socket.socket]:
    with socket.create_connection(address, timeout=60) as open_:
        open_.sendall(sent)
        yield open_


def answer(open_: socket.socket) -> tuple[int, dict[str, Any]]:
    """Status and JSON of the answer; the server closes the connection after it."""
    received = b""
    while chunk := open_.recv(65536):
        received += chunk
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


def metrics(address: tuple[str, int]) -> str:
    return httpx.get(f"http://{address[0]}:{address[1]}/metrics", timeout=60).text


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_headers_that_never_end_are_cut_off(serving) -> None:
    address = serving(ConnectionLimits(100, header_seconds=0.2))
    for sent in (b"", b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-a: ", b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\nGET /"):
        with connected(address, sent) as open_, pytest.raises(ConnectionResetError):
            while open_.recv(65536):
                pass
            raise ConnectionResetError  # an end without a reset is as good


def test_large_headers_are_refused(serving) -> None:
    address = serving(ConnectionLimits(100, header_bytes=10_000))
    with connected(address, b"GET /healthz HTTP/1.1\r\nhost: x\r\n" + b"x-a: b\r\n" * 5000) as open_:
        status, found = answer(open_)
    assert (status, found["error"]["code"]) == (400, "invalid_http")


def test_connections_are_limited_but_probes_are_answered(serving) -> None:
    refused = []
    address = serving(ConnectionLimits(3, refused=lambda: refused.append(1)))
    url = f"http://{address[0]}:{address[1]}"
    with ExitStack() as held:
        for _ in range(3):
            held.enter_context(connected(address, UPLOAD))
        until(lambda: httpx.get(f"{url}/healthz", timeout=60).status_code == 200)
        full = httpx.get(f"{url}/v1/models", timeout=60)
        assert (full.status_code, full.json()["error"]["code"]) == (503, "too_many_connections")
        assert full.headers["retry-after"] == "1"
        assert len(refused) == 1
        for _ in range(PROBE_CONNECTIONS):
            held.enter_context(connected(address))
        with connected(address) as open_:
            assert answer(open_)[0] == 503
    until(lambda: httpx.get(f"{url}/v1/models", timeout=60).status_code == 200)


@pytest.mark.parametrize("route", ["/v1/classify", "/v1/embeddings", "/v1/captions", "/v1/chat/completions"])
@pytest.mark.parametrize("kind", ["video/mp4", "application/json", "multipart/form-data; boundary=b"])
def test_slow_bodies_get_408(monkeypatch: pytest.MonkeyPatch, serving, route: str, kind: str) -> None:
    from sefar_serve.language import FakeGenerator

    monkeypatch.setattr(uploads_module, "GRACE", 0.2)
    app = create_app(Settings(min_upload_rate=10_000_000), FakeEngine(), FakeGenerator())
    with GatewayThread(app, http=bounded_protocol(ConnectionLimits(9))) as url:
        address = httpx.URL(url).host, httpx.URL(url).port or 0
        head = f"POST {route} HTTP/1.1\r\nhost: x\r\ncontent-type: {kind}\r\ncontent-length: 99999\r\n\r\n--b\r\n"
        with connected(address, head.encode()) as open_:
            status, found = answer(open_)
    assert (status, found["error"]["code"]) == (408, "upload_too_slow")


def test_a_body_has_a_deadline_whatever_its_rate(serving) -> None:
    address = serving(upload_timeout=0.2)
    with connected(address, UPLOAD + b"x" * 500_000) as open_:
        assert answer(open_)[0] == 408


def test_bodies_of_all_requests_share_a_memory(serving) -> None:
    address = serving(max_buffered_bytes=1_500_000)
    json_upload = UPLOAD.replace(b"video/mp4", b"application/json")
    with connected(address, json_upload + b" " * 900_000):
        until(lambda: _second_is_refused(address, json_upload))
    until(lambda: not _second_is_refused(address, json_upload))


def _second_is_refused(address: tuple[str, int], json_upload: bytes) -> bool:
    with connected(address, json_upload + b"[" + b" " * 999_999) as open_:
        status = int(open_.recv(65536).split()[1])
    assert status in (400, 429)
    return status == 429


def test_a_refused_body_is_read_and_dropped_but_not_for_ever(serving) -> None:
    address = serving(ConnectionLimits(100, drain_seconds=0.3), max_body_bytes=1000)
    with connected(address, UPLOAD) as open_:
        head = open_.recv(65536)
        assert head.startswith(b"HTTP/1.1 413")
        with pytest.raises(OSError):
            while True:
                open_.sendall(b"x" * 10)
                time.sleep(0.05)


@pytest.mark.parametrize("kind", ["video/mp4", "application/json", "multipart/form-data; boundary=b"])
def test_an_upload_that_breaks_off_is_one_line_and_a_count(
    serving, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    address = serving()
    with caplog.at_level(logging.INFO):
        with connected(address, UPLOAD.replace(b"video/mp4", kind.encode()) + b"--b\r\nabc"):
            pass
        until(lambda: 'sefar_requests_total{route="/v1/classify",status="499"} 1.0' in metrics(address))
    lines = [r for r in caplog.records if "/v1/classify" in r.getMessage() or r.levelno > logging.INFO]
    assert [(line.name, line.levelname) for line in lines] == [("sefar_serve.access", "INFO")]
    assert not [r for r in caplog.records if r.exc_info]


def test_a_client_that_does_not_read_is_cut_off(serving, caplog: pytest.LogCaptureFixture) -> None:
    address = serving(ConnectionLimits(100, drain_seconds=0.3))
    with connected(address) as open_:
        open_.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        wanted = b"GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n"
        with pytest.raises(OSError):
            while True:
                open_.sendall(wanted * 100)
                time.sleep(0.02)
    assert "did not read its answer" in caplog.text
