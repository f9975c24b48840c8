"""A gateway whose videos are decoded in processes: what clients and operators see of crashes, hangs and kills."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection

import faulty_estimators as faulty
import httpx
import pytest
from gateway_thread import GatewayThread
from grey_clips import encode_grey_clip
from pose_models import POSE

from sefar_serve.api import create_app, probes
from sefar_serve.decoding import ProcessDecoders, ProcessLimits, pool
from sefar_serve.engine import FakeEngine
from sefar_serve.settings import Settings

SECONDS = 2.0


@contextmanager
def served(seconds: float = SECONDS, **settings: object) -> Iterator[tuple[httpx.Client, ProcessDecoders]]:
    decoders = ProcessDecoders(2, faulty.faulty_estimators(), ProcessLimits(seconds))
    app = create_app(Settings(**settings), FakeEngine(POSE), estimators=faulty.faulty_estimators(), decoders=decoders)  # type: ignore[arg-type]
    with GatewayThread(app) as url, httpx.Client(base_url=url, timeout=30) as client:
        yield client, decoders


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[httpx.Client, ProcessDecoders]]:
    with served() as found:
        yield found


def classified(client: httpx.Client, level: int) -> httpx.Response:
    return client.post("/v1/classify", content=encode_grey_clip([level] * 8))


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def busy(decoders: ProcessDecoders) -> set[int]:
    """The processes that decode."""
    return set(decoders.pids) - {process.pid for process in decoders._idle}


def sent(client: httpx.Client, level: int) -> HTTPConnection:
    """A connection on which a video was sent."""
    connection = HTTPConnection(client.base_url.host, client.base_url.port or 80, timeout=30)
    connection.request("POST", "/v1/classify", encode_grey_clip([level] * 8))
    return connection


def test_crashes_and_hangs_are_errors_of_their_videos(running: tuple[httpx.Client, ProcessDecoders]) -> None:
    client, _ = running
    found = {level: classified(client, level) for level in (faulty.CRASHES, faulty.HANGS, 230)}
    crashed, hung, good = found.values()
    assert (crashed.status_code, crashed.json()["error"]["code"]) == (422, "decoder_crashed")
    assert (hung.status_code, hung.json()["error"]["code"]) == (504, "decoder_timeout")
    assert good.status_code == 200
    both = client.post("/v1/classify", files=[("file", encode_grey_clip([n] * 8)) for n in (230, faulty.CRASHES)])
    ok, bad = both.json()["data"]
    assert ok["labels"]
    assert bad["error"]["code"] == "decoder_crashed"
    metrics = client.get("/metrics").text
    for line in (
        'sefar_clips_total{outcome="decoder_crashed"} 2.0',
        'sefar_clips_total{outcome="decoder_timeout"} 1.0',
        'sefar_decode_process_ends_total{reason="crashed"} 2.0',
        'sefar_decode_process_ends_total{reason="timeout"} 1.0',
        "sefar_decode_processes ",
    ):
        assert line in metrics


def test_a_client_that_leaves_ends_its_decode() -> None:
    with served(600) as (client, decoders):
        leaving = sent(client, faulty.HANGS)
        wait_until(lambda: len(busy(decoders)) == 1)
        leaving.close()
        wait_until(lambda: decoders.ends["stopped"] == 1)
        wait_until(lambda: "sefar_decoding 0.0" in client.get("/metrics").text)
        assert classified(client, 230).status_code == 200


def test_a_request_that_times_out_ends_its_decode() -> None:
    with served(600, request_timeout=1.5) as (client, decoders):
        assert classified(client, faulty.HANGS).status_code == 504
        wait_until(lambda: not busy(decoders))
        assert decoders.ends["stopped"] == 1


def test_kill_9_under_requests_fails_none(running: tuple[httpx.Client, ProcessDecoders]) -> None:
    client, decoders = running
    with ThreadPoolExecutor(4) as clients:
        answers = [clients.submit(classified, client, faulty.SLEEPS) for _ in range(4)]
        wait_until(lambda: bool(busy(decoders)))
        os.kill(busy(decoders).pop(), signal.SIGKILL)
        assert [answer.result().status_code for answer in answers] == [200] * 4


def test_readiness_goes_through_the_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "RECENT_SECONDS", -1.0)
    with served(600) as (client, decoders):
        assert client.get("/readyz").status_code == 200
        hanging = [sent(client, faulty.HANGS) for _ in range(2)]
        wait_until(lambda: len(busy(decoders)) == 2)
        monkeypatch.setattr(probes, "READY_SECONDS", 0.3)
        unready = client.get("/readyz")
        assert (unready.status_code, unready.headers["retry-after"]) == (503, "1")
        assert "all decoders may be busy" in unready.json()["error"]["message"]
        assert client.get("/healthz").status_code == 200
        for connection in hanging:
            connection.close()
        monkeypatch.setattr(probes, "READY_SECONDS", 30.0)
        assert client.get("/readyz").status_code == 200


def test_shutdown_does_not_wait_for_a_hanging_video() -> None:
    decoders = ProcessDecoders(1, faulty.faulty_estimators(), ProcessLimits(seconds=600))
    app = create_app(Settings(), FakeEngine(POSE), estimators=faulty.faulty_estimators(), decoders=decoders)
    with ThreadPoolExecutor(1) as clients:
        with (
            GatewayThread(app, timeout_graceful_shutdown=1) as url,
            httpx.Client(base_url=url, timeout=30) as client,
        ):
            hanging = clients.submit(classified, client, faulty.HANGS)
            wait_until(lambda: bool(busy(decoders)))
        assert hanging.exception() is not None or hanging.result().status_code >= 500
    assert not decoders.pids
