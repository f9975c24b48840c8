"""Retries of the client, over a transport that fails like networks do."""

from __future__ import annotations

import asyncio
import io
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
from client_answers import MODELS, in_turn, make, make_async, refusal

from sefar_client import GatewayError, GatewayUnreachableError, Model
from sefar_client.retries import FIRST_PAUSE


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that the client would have slept; the tests do not sleep."""
    slept: list[float] = []

    class Closed(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            slept.append(timeout or 0.0)
            return self.is_set()

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    # Only in the client's module, because threads of other libraries wait, too.
    monkeypatch.setattr("sefar_client.client.threading", SimpleNamespace(Event=Closed))
    monkeypatch.setattr("sefar_client.client.asyncio", SimpleNamespace(**{**vars(asyncio), "sleep": sleep}))
    return slept


def test_passing_errors_are_retried_after_the_time_they_give(pauses: list[float]) -> None:
    later = formatdate(time.time() + 20, usegmt=True)
    busy, away = refusal(429, Retry_After="3"), refusal(503, "engine_unavailable", Retry_After=later)
    [model] = make(in_turn(busy, away, httpx.Response(502, text="proxy"), MODELS)).models()
    assert isinstance(model, Model)
    assert 3.0 <= pauses[0] <= 3.0 + FIRST_PAUSE
    assert 18.0 <= pauses[1] <= 20.0 + 2 * FIRST_PAUSE
    assert 0.0 <= pauses[2] <= 4 * FIRST_PAUSE
    assert len(pauses) == 3


@pytest.mark.parametrize(
    "refused",
    [
        refusal(401, "invalid_api_key"),
        refusal(404, "model_not_found", "model"),
        refusal(415, "not_a_video", "input"),
        refusal(500, "inference_failed"),
        refusal(502, "url_unreachable", "input"),
        refusal(503, "adapter_mismatch"),
    ],
)
def test_permanent_errors_are_not_retried(pauses: list[float], refused: httpx.Response) -> None:
    with pytest.raises(GatewayError, match="!") as raised:
        make(in_turn(refused, MODELS)).models()
    assert raised.value.status == refused.status_code
    assert pauses == []


def test_retries_end_after_the_patience(pauses: list[float]) -> None:
    with pytest.raises(GatewayError) as raised:
        make(in_turn(refusal(429, Retry_After="60")), patience=50).models()
    assert raised.value.retry_after == 60.0
    with pytest.raises(GatewayError):
        make(in_turn(refusal(429), MODELS), patience=0).models()
    assert pauses == []


def test_connection_errors_are_retried_only_if_the_gateway_answered_before(pauses: list[float]) -> None:
    refused = httpx.ConnectError("refused")
    with pytest.raises(GatewayUnreachableError, match="refused"):
        make(in_turn(refused, MODELS)).models()
    assert pauses == []
    client = make(in_turn(MODELS, refused, httpx.ReadError("reset"), httpx.RemoteProtocolError("cut"), MODELS))
    client.models()
    client.models()
    assert len(pauses) == 3


def test_files_are_sent_again_in_full_and_used_streams_are_not(pauses: list[float], tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"0123456789" * 100_000)
    sent: list[int] = []

    def handle(request: httpx.Request) -> httpx.Response:
        sent.append(len(request.read()))
        return refusal(429) if len(sent) < 3 else refusal(415, "not_a_video", "input")

    for video in (path, path.read_bytes(), path.open("rb")):
        sent.clear()
        with pytest.raises(GatewayError, match="not_a_video"):
            make(handle).classify(video)
        assert len(sent) == 3
        assert len(set(sent)) == 1
        assert sent[0] > 1_000_000
        if isinstance(video, io.IOBase):
            video.close()
    sent.clear()
    with pytest.raises(GatewayError, match="overloaded"):
        make(handle).classify(cast(Any, Pipe(b"video")))
    assert len(sent) == 1


class Pipe(io.BytesIO):
    """A stream that cannot be rewound."""

    def seekable(self) -> bool:
        return False

    def seek(self, *_: object) -> int:
        raise io.UnsupportedOperation("seek")

    def tell(self) -> int:
        raise io.UnsupportedOperation("tell")


def test_the_asynchronous_client_retries_by_the_same_rules(pauses: list[float]) -> None:
    async def run() -> None:
        async with make_async(in_turn(refusal(429, Retry_After="3"), MODELS)) as client:
            [model] = await client.models()
            assert isinstance(model, Model)
            assert 3.0 <= pauses[0] <= 3.0 + FIRST_PAUSE
        async with make_async(in_turn(refusal(401, "invalid_api_key"), MODELS)) as client:
            with pytest.raises(GatewayError, match="invalid_api_key"):
                await client.models()
        assert len(pauses) == 1

    asyncio.run(run())


def test_close_ends_waiting_requests() -> None:
    client = make(in_turn(refusal(429, Retry_After="60")))
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(client.models)
        while not client._retries.answered:
            time.sleep(0.01)
        client.close()
        with pytest.raises(GatewayError, match="overloaded"):
            waiting.result(10)


def test_delete_succeeds_if_its_first_answer_was_lost(pauses: list[float]) -> None:
    gone = refusal(404, "job_not_found")
    for lost in (httpx.ReadError("reset"), httpx.Response(502, text="proxy")):
        client = make(in_turn(MODELS, lost, gone))
        client.models()
        client.delete("job_1")
    assert len(pauses) == 2
    client = make(in_turn(MODELS, refusal(429), gone))
    client.models()
    for _ in range(2):
        with pytest.raises(GatewayError, match="job_not_found"):
            client.delete("job_1")
    with pytest.raises(GatewayError, match="job_not_found"):
        make(in_turn(httpx.Response(502, text="proxy"), gone)).job("job_1")
