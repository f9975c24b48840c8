from __future__ import annotations

import gzip
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from sefar_serve.clip import ClipLimitError
from sefar_serve.fetch import UrlError, UrlFetcher, UrlFetchError, UrlNotAllowedError, UrlTimeoutError

VIDEO = bytes(range(256)) * 16


class Handler(BaseHTTPRequestHandler):
    """A host with one video, and many ways of failing to deliver it."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        port = self.server.server_address[1]
        elsewhere = {
            "/moved": "/video",
            "/loop": "/loop",
            "/away": "http://example.com/video",
            "/signed?token=secret-1": "/secret-3?signature=secret-4",
            "/signed-loop?token=secret-1": "/signed-loop?token=secret-1",
            "/unreadable?token=secret-1": "http://[secret-5/",
            "/name": f"http://localhost:{port}/video",
        }
        if self.path == "/trickle":
            # Endless headers, each within the timeout.
            self.wfile.write(b"HTTP/1.1 200 OK\r\n")
            while not self.server.ended.wait(0.02):  # type: ignore[attr-defined]
                self.wfile.write(b"x-more: 1\r\n")
            return
        if self.path == "/stall":
            # Without a declared length, the video ends where the connection does.
            self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n" + VIDEO)
            self.server.ended.wait(0.15)  # type: ignore[attr-defined]
            self.wfile.write(VIDEO)
            self.server.ended.wait()  # type: ignore[attr-defined]
            return
        if self.path in elsewhere:
            self.send_response(302)
            self.send_header("location", elsewhere[self.path])
            self.send_header("content-length", "0")
            self.end_headers()
            return
        if self.path not in ("/video", "/undeclared", "/slow", "/host", "/packed"):
            self.send_error(404)
            return
        self.send_response(200)
        body = self.headers["host"].encode() if self.path == "/host" else VIDEO
        if self.path == "/packed":
            body = gzip.compress(VIDEO)
            self.send_header("content-encoding", "gzip")
        if self.path != "/undeclared":
            self.send_header("content-length", str(len(body)))
        else:
            self.send_header("connection", "close")
        self.end_headers()
        if self.path == "/slow":
            for byte in body:
                self.wfile.write(bytes([byte]))
                time.sleep(0.05)
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep the log out of the tests' output."""


@pytest.fixture(scope="module")
def server() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.ended = threading.Event()  # type: ignore[attr-defined]
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients hang up on purpose
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.ended.set()  # type: ignore[attr-defined]
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def port(server: ThreadingHTTPServer) -> int:
    return server.server_address[1]


def fetcher(*hosts: str, max_bytes: int = 1 << 20, timeout: float = 10.0) -> UrlFetcher:
    return UrlFetcher(hosts, max_bytes=max_bytes, timeout=timeout)


@pytest.mark.parametrize("path", ["video", "moved", "undeclared", "name"])
def test_a_video(port: int, path: str) -> None:
    found = fetcher(f"127.0.0.1:{port}", f"localhost:{port}").fetch(f"http://127.0.0.1:{port}/{path}")
    assert found.read() == VIDEO
    found.close()


def test_the_request_carries_the_host_name(port: int) -> None:
    with fetcher(f"localhost:{port}").fetch(f"http://localhost:{port}/host") as found:
        assert found.read() == f"localhost:{port}".encode()


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/video",
        "http://localhost/video",
        "http://videos.example.org:8080/video",
        "http://evil.videos.example.org/video",
        "http://user:secret@videos.example.org/video",
        "ftp://videos.example.org/video",
        "file:///etc/passwd",
        "http://[::1/video",
        "http://user:secret@[::1/video",
        "http://",
    ],
)
def test_urls_that_are_not_on_the_list_are_refused(url: str) -> None:
    for call in (fetcher("videos.example.org").allowed, fetcher("videos.example.org").fetch):
        with pytest.raises(UrlNotAllowedError) as refused:
            call(url)
        assert "secret" not in str(refused.value)


def test_the_list_ignores_case() -> None:
    fetcher("Videos.Example.org").allowed("https://videos.example.ORG/video")
    fetcher("videos.example.org:8080").allowed("https://videos.example.org:8080/video")
    fetcher("10.0.0.1").allowed("http://10.0.0.1/video")
    fetcher("[::1]:80").allowed("http://[::1]/video")


def test_a_redirect_to_another_host_is_not_followed(port: int) -> None:
    with pytest.raises(
        UrlNotAllowedError, match="redirects to a URL that cannot be fetched or is not allowed"
    ) as caught:
        fetcher(f"127.0.0.1:{port}").fetch(f"http://127.0.0.1:{port}/away")
    assert "example.com" not in str(caught.value)


@pytest.mark.parametrize("path", ["signed", "signed-loop", "unreadable", "none"])
def test_messages_have_neither_the_target_of_a_redirect_nor_a_signature(port: int, path: str) -> None:
    with pytest.raises(UrlError) as caught:
        fetcher(f"127.0.0.1:{port}").fetch(f"http://127.0.0.1:{port}/{path}?token=secret-1#secret-2")
    assert f"http://127.0.0.1:{port}/{path}" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_redirects_are_limited(port: int) -> None:
    with pytest.raises(UrlFetchError, match="more than 3 times"):
        fetcher(f"127.0.0.1:{port}").fetch(f"http://127.0.0.1:{port}/loop")


@pytest.mark.parametrize("path", ["video", "undeclared"])
def test_a_video_that_is_too_large(port: int, path: str) -> None:
    with pytest.raises(ClipLimitError, match="more than 100 bytes"):
        fetcher(f"127.0.0.1:{port}", max_bytes=100).fetch(f"http://127.0.0.1:{port}/{path}")


@pytest.mark.parametrize("path", ["slow", "trickle", "stall"])
def test_a_video_that_comes_too_slowly(port: int, path: str) -> None:
    with pytest.raises(UrlTimeoutError, match=r"within 0\.3 s"):
        fetcher(f"127.0.0.1:{port}", timeout=0.3).fetch(f"http://127.0.0.1:{port}/{path}")


def test_a_compressed_response_is_refused(port: int) -> None:
    with pytest.raises(UrlFetchError, match=r"compressed \(gzip\)"):
        fetcher(f"127.0.0.1:{port}").fetch(f"http://127.0.0.1:{port}/packed")


def test_a_missing_file_on_the_host(port: int) -> None:
    with pytest.raises(UrlFetchError, match="returned 404"):
        fetcher(f"127.0.0.1:{port}").fetch(f"http://127.0.0.1:{port}/none")


def test_an_unreachable_host() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        closed = probe.getsockname()[1]
    with pytest.raises(UrlFetchError, match="cannot be fetched"):
        fetcher(f"127.0.0.1:{closed}").fetch(f"http://127.0.0.1:{closed}/video")


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.1.2.3", "169.254.169.254", "::1", "fd00::1", "0.0.0.0", "224.0.0.1"]
)
def test_an_allowed_name_that_resolves_to_a_private_address(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(0, 0, 0, "", (address, 80))])
    with pytest.raises(UrlNotAllowedError, match="not a public address"):
        fetcher("videos.example.org").fetch("http://videos.example.org/video")


def test_a_name_with_one_private_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(0, 0, 0, "", (address, 80)) for address in ("8.8.8.8", "10.1.2.3")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with pytest.raises(UrlNotAllowedError, match=r"resolves to 10\.1\.2\.3, which is not a public address"):
        fetcher("videos.example.org").fetch("http://videos.example.org/video")


def test_a_name_is_resolved_once(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up: list[str] = []

    def lookup(host: str, *_: object, **__: object) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        # The second answer differs, as from a malicious name server.
        looked_up.append(host)
        address = "127.0.0.1" if len(looked_up) == 1 else "203.0.113.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    resolve = socket.getaddrinfo
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, *more, **options: (lookup if host == "videos.test" else resolve)(host, *more, **options),
    )
    with fetcher(f"videos.test:{port}").fetch(f"http://videos.test:{port}/video") as found:
        assert found.read() == VIDEO
    assert looked_up == ["videos.test"]
