"""What orchestrators and Prometheus ask: alive, ready, how busy."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request, Response

from sefar_serve.api.gateway import gateway_of
from sefar_serve.engine import EngineUnavailableError

router = APIRouter(tags=["probes"])

READY_SECONDS = 5.0
"""A model that takes longer than this to answer the probe is not ready."""


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/readyz")
async def readyz(request: Request) -> dict[str, str]:
    """The model answers: the probe goes through the engine, a recent answer counting as proof."""
    engine = gateway_of(request).recognizer.engine
    try:
        async with asyncio.timeout(READY_SECONDS):
            await engine.check()
    except TimeoutError as error:
        raise EngineUnavailableError(f"the model did not answer within {READY_SECONDS:g} s") from error
    meta = engine.model(None).metadata
    return {"status": "ready", "model": meta.name, "version": meta.version}


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """Prometheus metrics."""
    return Response(gateway_of(request).metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")
