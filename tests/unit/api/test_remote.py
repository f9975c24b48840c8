"""Videos by URL through the gateway: limits, failures and their effect on other requests."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from fastapi.testclient import TestClient

from sefar_serve.fetch.pool import FETCH_THREADS
from sefar_serve.language import FakeGenerator

Gateway = Callable[..., TestClient]


class Host:
    """A host that holds its responses until `let_go` is set."""

    def __init__(self, video: bytes) -> None:
        self.asked = threading.Semaphore(0)
        self.let_go = threading.Event()
        host = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                host.asked.release()
                host.let_go.wait(30)
                if self.path == "/missing":
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("content-length", str(len(video)))
                self.end_headers()
                self.wfile.write(video)

            def log_message(self, *_: object) -> None:
                """Log nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *_: None  # type: ignore[method-assign]  # disconnects are expected
        self.name = f"127.0.0.1:{self.server.server_address[1]}"
        self.url = f"http://{self.name}/clip.mp4"


@pytest.fixture
def host(bright_clip: bytes) -> Iterator[Host]:
    host = Host(bright_clip)
    thread = threading.Thread(target=host.server.serve_forever)
    thread.start()
    yield host
    host.let_go.set()
    host.server.shutdown()
    thread.join()
    host.server.server_close()


def test_a_slow_host_does_not_block_other_requests(gateway: Gateway, host: Host, bright_clip: bytes) -> None:
    client = gateway(url_hosts=host.name)  # with two decoding threads
    with ThreadPoolExecutor(4) as clients:
        slow = [clients.submit(client.post, "/v1/classify", json={"input": host.url}) for _ in range(4)]
        for _ in slow:
            assert host.asked.acquire(timeout=10)
        assert client.post("/v1/classify", content=bright_clip).status_code == 200
        assert not any(answer.done() for answer in slow)
        host.let_go.set()
        assert {answer.result().status_code for answer in slow} == {200}


def test_an_unreachable_url_does_not_affect_the_others(gateway: Gateway, host: Host, bright_clip: bytes) -> None:
    host.let_go.set()
    client = gateway(url_hosts=host.name)
    missing = host.url.replace("clip.mp4", "missing")
    there, gone = client.post("/v1/classify", json={"input": [host.url, missing]}).json()["data"]
    assert there["labels"][0]["label"] == "giant circle forward"
    assert (gone["name"], gone["error"]["code"]) == ("input[1]", "url_unreachable")
    assert client.post("/v1/classify", json={"input": missing}).status_code == 502
    refused = client.post("/v1/classify", json={"input": [host.url, "http://example.com/a.mp4"]})
    assert refused.status_code == 403


def test_a_url_in_a_conversation(gateway: Gateway, host: Host) -> None:
    host.let_go.set()
    part = {"type": "video_url", "video_url": {"url": host.url}}
    body = {"messages": [{"role": "user", "content": [part, {"type": "text", "text": "What?"}]}]}
    answer = gateway(url_hosts=host.name, generator=FakeGenerator()).post("/v1/chat/completions", json=body).json()
    assert answer["choices"][0]["message"]["content"] == "clip 2 What?"


def test_requests_beyond_the_queue_limit_are_refused(gateway: Gateway, host: Host) -> None:
    client = gateway(url_hosts=host.name, max_decoding=2)
    with ThreadPoolExecutor(1) as clients:
        slow = clients.submit(client.post, "/v1/classify", json={"input": [host.url] * 2})
        for _ in range(2):
            assert host.asked.acquire(timeout=10)
        refused = client.post("/v1/classify", json={"input": host.url})
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "overloaded")
        host.let_go.set()
        assert slow.result().status_code == 200
    assert client.post("/v1/classify", json={"input": host.url}).status_code == 200
    assert 'sefar_rejected_total{reason="decoding"} 1.0' in client.get("/metrics").text


def test_a_request_that_times_out_frees_its_slots(gateway: Gateway, host: Host) -> None:
    most = FETCH_THREADS + 4  # some are still waiting for a thread when the request ends
    client = gateway(url_hosts=host.name, request_timeout=0.3, max_decoding=most)
    assert client.post("/v1/classify", json={"input": [host.url] * most}).status_code == 504
    remote = client.app.state.gateway.remote  # type: ignore[attr-defined]
    assert remote._under_way == FETCH_THREADS
    host.let_go.set()
    client.__exit__(None, None, None)  # waits for what is being fetched
    assert remote._under_way == 0
