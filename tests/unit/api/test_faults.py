"""Faults of the server itself: every answer has the request's id, and the log has what happened."""

from __future__ import annotations

import asyncio

import pytest

from sefar_serve.api import unexpected
from sefar_serve.api.auth import ApiKeyMiddleware
from sefar_serve.engine import FakeEngine


def test_a_fault_in_a_route_or_a_middleware_is_a_500_with_an_id(gateway, monkeypatch, dark_clip: bytes) -> None:
    client = gateway(FakeEngine(failure=ZeroDivisionError("a fault")), api_keys="k", cors_origins="https://a.example")
    headers = {"authorization": "Bearer k", "origin": "https://a.example", "x-request-id": "r-1"}

    def broken(*_: object) -> bool:
        raise ZeroDivisionError("a fault")

    for where in ("route", "middleware"):
        if where == "middleware":
            monkeypatch.setattr(ApiKeyMiddleware, "_known", broken)
        answer = client.post("/v1/classify", content=dark_clip, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_error")
        assert answer.headers["x-request-id"] == "r-1"
        assert answer.headers["access-control-allow-origin"] == "https://a.example"
        assert float(answer.headers["x-total-time"]) >= 0


def test_work_that_is_cancelled_by_the_server_is_a_503_with_an_id(gateway, dark_clip: bytes) -> None:
    class Stopping(FakeEngine):
        async def infer(self, inputs):
            raise asyncio.CancelledError

    answer = gateway(Stopping()).post("/v1/classify", content=dark_clip)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "engine_unavailable")
    assert answer.headers["x-request-id"]
    assert answer.headers["retry-after"] == "1"


def test_a_cancelled_request_stays_cancelled() -> None:
    async def app(*_: object) -> None:
        await asyncio.sleep(60)

    async def never(*_: object) -> dict[str, str]:
        raise AssertionError("sent")

    async def run() -> None:
        scope = {"type": "http"}
        task = asyncio.create_task(unexpected.UnexpectedErrorMiddleware(app)(scope, never, never))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
