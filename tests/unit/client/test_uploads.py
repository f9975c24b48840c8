"""What can be sent as a video, over a transport that records it and over a real socket."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from sefar_client import Client, Failure, GatewayError, calls

CLIP = b"0123456789" * 20_000


class Receiver(BaseHTTPRequestHandler):
    """Records the request bodies, and refuses each."""

    protocol_version = "HTTP/1.1"
    bodies: list[bytes]

    def do_POST(self) -> None:
        if self.headers["transfer-encoding"] == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers["content-length"]))
        self.bodies.append(body)
        self.send_response(503)
        self.send_header("retry-after", "0")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def received() -> Iterator[tuple[str, list[bytes]]]:
    """The address of a real server, and the bodies that it received."""
    bodies: list[bytes] = []
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Recording", (Receiver,), {"bodies": bodies})) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", bodies
        server.shutdown()
        thread.join()


def pipe(path: Path) -> Any:
    return subprocess.Popen(["cat", path], stdout=subprocess.PIPE)


def named_pipe(path: Path) -> Any:
    fifo = path.with_name("fifo")
    os.mkfifo(fifo)
    threading.Thread(target=lambda: fifo.write_bytes(path.read_bytes())).start()
    return fifo


@pytest.mark.parametrize("make", [pipe, named_pipe])
def test_a_pipe_is_sent_in_full_and_once(
    received: tuple[str, list[bytes]], tmp_path: Path, make: Callable[[Path], Any]
) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(CLIP)
    given = make(path)
    url, bodies = received
    with Client(url) as client, pytest.raises(GatewayError, match="503"):
        if isinstance(given, subprocess.Popen):
            with given:
                client.classify(cast(Any, given.stdout))
        else:
            client.classify(given)
    [body] = bodies
    assert CLIP in body


def test_a_decompressing_file_is_sent_decompressed(received: tuple[str, list[bytes]], tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4.gz"
    path.write_bytes(gzip.compress(CLIP))
    url, bodies = received
    with Client(url, patience=0) as client, gzip.open(path) as file, pytest.raises(GatewayError, match="503"):
        client.classify(cast(Any, file))
    assert CLIP in bodies[0]


def recording() -> tuple[Client, list[bytes]]:
    """A client whose requests are all refused, and their bodies."""
    bodies: list[bytes] = []

    def handle(request: httpx.Request) -> httpx.Response:
        bodies.append(request.read())
        error = {"message": "no", "type": "t", "param": "input", "code": "not_a_video"}
        return httpx.Response(415, json={"error": error})

    client = Client("http://gateway")
    client._http = httpx.Client(transport=httpx.MockTransport(handle), base_url="http://gateway")
    return client, bodies


def test_files_with_invalid_unicode_names_can_be_sent(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/lat\xe9.mp4"))
    path.write_bytes(CLIP)
    client, bodies = recording()
    with path.open("rb") as opened:
        for video in (path, str(path), opened):
            with pytest.raises(GatewayError, match="no"):
                client.classify(video)
    assert len(bodies) == 3
    for body in bodies:
        assert b'filename="lat?.mp4"' in body
        assert CLIP in body


def test_an_invalid_path_fails_alone(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(CLIP)
    client, bodies = recording()
    for call in (client.classify, lambda video: client.ask(video, "What?")):
        bodies.clear()
        failures = list(client.each(call, [path, "a\0b", "\ud800.mp4", path]))
        assert all(isinstance(failure, Failure) for failure in failures)
        assert [isinstance(failure.error, OSError) for failure in cast(list[Failure], failures)] == [
            False,
            True,
            True,
            False,
        ]
        assert "invalid file name" in str(failures[1])
        assert len(bodies) == 2


def test_every_call_reads_an_open_file_from_its_start() -> None:
    file = io.BytesIO(b"abcdef")
    file.seek(3)
    for _ in range(2):
        body = cast(Any, calls.ask(file, "What?", {}).json)
        assert body["messages"][0]["content"][0]["video_url"]["url"] == "data:video/mp4;base64,YWJjZGVm"
    client, bodies = recording()
    file.seek(3)
    with pytest.raises(GatewayError):
        client.classify(file)
    assert b"abcdef" in bodies[0]


def test_invalid_videos_are_a_type_error(tmp_path: Path) -> None:
    client, bodies = recording()
    for given in (None, 3, {"path": "a"}, [b""], (part for part in [b""])):
        for call in (client.classify, lambda video: client.ask(video, "What?")):
            with pytest.raises(TypeError, match=f"a video must be a path, bytes or a .*not {type(given).__name__}"):
                call(cast(Any, given))
    path = tmp_path / "clip.mp4"
    path.touch()
    text: AbstractContextManager[Any] = path.open()
    with text as opened, pytest.raises(TypeError, match="opened as text; open it with mode 'rb'"):
        client.classify(opened)
    assert bodies == []
    for buffer in (bytearray(CLIP), memoryview(CLIP)):
        with pytest.raises(GatewayError):
            client.classify(buffer)
    assert [CLIP in body for body in bodies] == [True, True]
