"""What watches a model server outlives every error, expected or not."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any, cast

import pytest

from sefar_serve.engine import EngineUnavailableError
from sefar_serve.engine.triton.engine import TritonEngine, TritonOptions
from sefar_serve.language import GenerationError

RESPONSES = (ValueError("a number in an unknown notation"), EngineUnavailableError("away"), KeyError("state"))


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


def test_triton(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    answers = iter(RESPONSES)
    refreshed = 0

    async def refresh(_: TritonEngine) -> None:
        nonlocal refreshed
        if (error := next(answers, None)) is not None:
            raise error
        refreshed += 1

    monkeypatch.setattr(TritonEngine, "_refresh", refresh)

    async def run() -> None:
        engine = TritonEngine(TritonOptions("127.0.0.1:1", refresh=0.001))
        await engine.start()
        with pytest.raises(EngineUnavailableError, match="unknown notation"):
            engine.model(None)
        await until(lambda: refreshed > 1)
        await engine.close()

    asyncio.run(run())
    assert "cannot update the list of Triton models" in caplog.text


def test_vllm(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    from sefar_serve.mllm.vllm import upstream as module

    monkeypatch.setattr(module, "RETRY_SECONDS", 0.001)
    answers = iter((TypeError("a list, not an object"), ZeroDivisionError("zero")))
    asked = 0

    async def models(**_: object) -> list[object]:
        nonlocal asked
        asked += 1
        raise next(answers, GenerationError("away"))

    async def run() -> None:
        server = SimpleNamespace(url="http://127.0.0.1:1", models=models)
        with ThreadPoolExecutor(1) as threads:
            watch = module.Upstream(cast(Any, server), cast(Any, None), None, threads)
            await watch.start()
            with pytest.raises(GenerationError, match="a list, not an object"):
                watch.ready()
            await until(lambda: asked > 4)
            await watch.close()

    asyncio.run(run())
    assert caplog.text.count("cannot find out what the vLLM server") == 2
