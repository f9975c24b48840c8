"""Behind a proxy that serves the gateway under a path prefix, with and without stripping it."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from gateway_thread import GatewayThread

from sefar_serve.api import create_app
from sefar_serve.engine import FakeEngine
from sefar_serve.settings import Settings

Proxied = Callable[..., httpx.Client]


class Proxy(ThreadingHTTPServer):
    """Forwards only requests below `/sefar`."""

    def __init__(self, upstream: str, strip: bool) -> None:
        self.upstream = upstream
        self.strip = strip
        super().__init__(("127.0.0.1", 0), Passing)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Passing(BaseHTTPRequestHandler):
    server: Proxy

    def do_GET(self) -> None:
        if not self.path.startswith("/sefar/"):
            self.send_error(404, "not below the prefix")
            return
        path = self.path.removeprefix("/sefar") if self.server.strip else self.path
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        headers = {name: value for name, value in self.headers.items() if name.lower() != "accept-encoding"}
        answer = httpx.request(self.command, self.server.upstream + path, content=body, headers=headers, timeout=60)
        self.send_response(answer.status_code)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.content)

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(params=[True, False], ids=["strips", "passes on"])
def proxied(request: pytest.FixtureRequest) -> Iterator[Proxied]:
    """`proxied(**settings)` returns a client of a gateway behind a proxy."""
    with ExitStack() as running:

        def make(**settings: object) -> httpx.Client:
            app = create_app(Settings(root_path="/sefar", **settings), FakeEngine())  # type: ignore[arg-type]
            proxy = running.enter_context(Proxy(running.enter_context(GatewayThread(app)), request.param))
            thread = threading.Thread(target=proxy.serve_forever)
            thread.start()
            running.callback(thread.join)
            running.callback(proxy.shutdown)
            return running.enter_context(httpx.Client(base_url=proxy.url, timeout=60))

        yield make


def test_labels(proxied: Proxied, bright_clip: bytes) -> None:
    client = proxied()
    answer = client.post("/sefar/v1/classify", content=bright_clip)
    assert answer.json()["data"][0]["labels"][0]["label"] == "giant circle forward"
    assert 'route="/v1/classify"' in client.get("/sefar/metrics").text


def test_the_docs_page_and_its_files(proxied: Proxied) -> None:
    client = proxied()
    page = client.get("/sefar/docs").text
    links = re.findall(r'(?:src|href)="([^"]+)"', page) + re.findall(r"url: '([^']+)'", page)
    assert "/sefar/openapi.json" in links
    for link in links:
        assert client.get(link).status_code == 200, link
    assert client.get("/sefar/openapi.json").json()["servers"] == [{"url": "/sefar"}]


def test_location_is_the_url_of_the_job(proxied: Proxied, dark_clip: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(dark_clip)
    client = proxied(jobs_dir=tmp_path / "jobs", job_roots=str(tmp_path))
    taken = client.post("/sefar/v1/jobs", json={"input": [{"path": "a.mp4"}]})
    assert taken.headers["location"] == f"/sefar/v1/jobs/{taken.json()['id']}"
    assert client.get(taken.headers["location"]).json()["id"] == taken.json()["id"]


def test_a_redirect_stays_below_the_prefix(proxied: Proxied, tmp_path: Path) -> None:
    redirect = proxied(jobs_dir=tmp_path / "jobs").get("/sefar/v1/jobs/")
    assert redirect.status_code == 307
    assert httpx.URL(redirect.headers["location"]).path == "/sefar/v1/jobs"


def test_the_same_paths_require_a_key(proxied: Proxied) -> None:
    client = proxied(api_keys="secret")
    for path in ("/sefar/healthz", "/sefar/readyz", "/sefar/docs", "/sefar/openapi.json"):
        assert client.get(path).status_code == 200, path
    for path in ("/sefar/v1/models", "/sefar/metrics", "/sefar/nowhere"):
        assert client.get(path).status_code == 401, path


def test_direct_requests_need_no_prefix() -> None:
    """For example a container's health check."""
    with GatewayThread(create_app(Settings(root_path="/sefar"), FakeEngine())) as url:
        assert httpx.get(f"{url}/healthz").status_code == 200
        assert httpx.get(f"{url}/v1/models/fake").json()["id"] == "fake"
