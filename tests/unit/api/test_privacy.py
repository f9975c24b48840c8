"""Uploaded videos leave no files behind, logs have neither content nor keys, and serving loads no pickles."""

from __future__ import annotations

import base64
import io
import logging
import re
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from gateway_thread import GatewayThread

import sefar_serve
from sefar_serve.api import create_app
from sefar_serve.engine import FakeEngine
from sefar_serve.keys import add_key
from sefar_serve.language import FakeGenerator
from sefar_serve.logs import configure_logging
from sefar_serve.settings import Settings

MIB = 1024 * 1024


@pytest.fixture
def restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def deleted_files(folder: Path) -> list[str]:
    """Files of this process in a folder that have no name there, so that they end with the process."""
    links = []
    for link in Path("/proc/self/fd").iterdir():
        try:
            links.append(str(link.readlink()))
        except OSError:
            continue
    return [link for link in links if link.startswith(str(folder)) and link.endswith("(deleted)")]


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs Linux's /proc")
@pytest.mark.parametrize("kind", ["video/mp4", "multipart/form-data; boundary=b"])
def test_a_large_upload_is_never_in_a_file_with_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    head = f"POST /v1/classify HTTP/1.1\r\nhost: x\r\ncontent-type: {kind}\r\ncontent-length: {100 * MIB}\r\n\r\n"
    part = '--b\r\ncontent-disposition: form-data; name="file"; filename="a.mp4"\r\n\r\n' if "form" in kind else ""
    app = create_app(Settings(), FakeEngine())
    with GatewayThread(app) as url:
        address = httpx.URL(url)
        with socket.create_connection((address.host, address.port), timeout=60) as open_:
            open_.sendall((head + part).encode() + b"x" * (20 * MIB))
            deadline = time.monotonic() + 60
            while not deleted_files(tmp_path):
                assert time.monotonic() < deadline
                time.sleep(0.01)
            assert list(tmp_path.rglob("*")) == []
        while deleted_files(tmp_path):
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.mark.usefixtures("restored_logging")
@pytest.mark.parametrize("style", ["json", "text"])
def test_logs_have_neither_content_nor_keys(tmp_path: Path, dark_clip: bytes, style: str) -> None:
    """Every route, well and badly used, at the level that logs most."""
    key = add_key(tmp_path / "keys", "alice", ["admin"])
    configure_logging("debug", style)  # type: ignore[arg-type]
    stream = io.StringIO()
    logging.getLogger().handlers[0].setStream(stream)  # type: ignore[attr-defined]
    encoded = base64.b64encode(dark_clip).decode()
    url = "data:video/mp4;base64," + encoded
    engine = FakeEngine()
    settings = Settings(
        keys_file=tmp_path / "keys",
        api_keys="PRIVATE-plain",  # type: ignore[arg-type]
        jobs_dir=tmp_path / "jobs",
        job_roots=str(tmp_path),  # type: ignore[arg-type]
        url_hosts="127.0.0.1:9",  # type: ignore[arg-type]
    )
    remote = "http://127.0.0.1:9/a.mp4?signature=PRIVATE-signature"
    part = {"type": "video_url", "video_url": {"url": url}}
    question = {"type": "text", "text": "PRIVATE-question"}
    app = create_app(settings, engine, FakeGenerator())
    with GatewayThread(app) as address:  # noqa: SIM117 - the client is closed before the gateway
        with httpx.Client(base_url=address, headers={"authorization": f"Bearer {key}"}, timeout=60) as client:
            statuses = []
            for failure in (None, ZeroDivisionError("a fault")):
                engine.failure = failure
                for route in ("classify", "embeddings", "captions"):
                    extra = {"prompt": "PRIVATE-prompt"} if route == "captions" else {}
                    for send in (
                        {"files": {"file": ("PRIVATE-name.mp4", dark_clip)}, "data": extra},
                        {"files": {"file": ("PRIVATE-name.mp4", b"PRIVATE-bytes" * 99)}},
                        {"json": {"input": url, **extra}},
                        {"json": {"input": [url, url + "PRIVATE"]}},
                        {"json": {"input": "PRIVATE-input"}},
                        {"json": {"input": remote}},
                        {"json": {"input": url, "PRIVATE-field": "PRIVATE-value"}},
                        {"content": b'{"input": PRIVATE', "headers": {"content-type": "application/json"}},
                        {"content": b"PRIVATE-bytes" * 99},
                    ):
                        statuses.append(client.post(f"/v1/{route}", **send).status_code)  # type: ignore[arg-type]
                for stream_ in (False, True):
                    body = {"messages": [{"role": "user", "content": [part, question]}], "stream": stream_}
                    statuses.append(client.post("/v1/chat/completions", json=body).status_code)
                    body["messages"] = [{"role": "user", "content": [question]}]
                    statuses.append(client.post("/v1/chat/completions", json=body).status_code)
            statuses += [
                client.post("/v1/jobs", json={"input": [{"path": "PRIVATE-path.mp4"}]}).status_code,
                client.post("/v1/jobs", json={"input": [{"url": remote}]}).status_code,
                client.post("/v1/jobs", files={"file": ("m.csv", b"path\nPRIVATE-path.mp4\n")}).status_code,
                client.post("/v1/jobs", files={"file": ("m.csv", b"PRIVATE-bytes,x\n")}).status_code,
                client.get("/v1/jobs").status_code,
                client.get("/v1/models").status_code,
                client.get("/metrics").status_code,
                client.get("/v1/models", headers={"authorization": "Bearer PRIVATE-wrong"}).status_code,
                client.get("/v1/models", params={"token": "PRIVATE-query"}).status_code,
            ]
            deadline = time.monotonic() + 60
            while any(job["finished"] is None for job in client.get("/v1/jobs").json()["data"]):
                assert time.monotonic() < deadline
                time.sleep(0.05)
    assert {200, 202, 400, 401, 415, 500, 502} <= set(statuses)
    logged = stream.getvalue()
    assert logged.count("POST /v1/classify") == 18
    assert "PRIVATE" not in logged, re.findall(r".*PRIVATE.*", logged)[:3]
    assert key not in logged
    assert encoded[:40] not in logged


UNSAFE = re.compile(r"\b(pickle|dill|joblib|marshal|shelve|torch\.load|yaml\.load|allow_pickle|trust_remote_code)\b")


def test_serving_loads_no_pickles() -> None:
    package = Path(sefar_serve.__path__[0])
    found = [
        f"{file.relative_to(package)}: {line.strip()}"
        for file in package.rglob("*.py")
        # They pass our own objects to the nodes of a Ray cluster, and to the processes that this one starts.
        if file.name not in ("distributed.py", "forkserver.py")
        for line in file.read_text(encoding="utf-8").splitlines()
        if UNSAFE.search(line)
    ]
    assert found == []
