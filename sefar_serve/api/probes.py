"""Liveness and readiness probes, and Prometheus metrics."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request, Response

from sefar_serve.api.captioner import Captioner
from sefar_serve.api.errors import ERRORS
from sefar_serve.api.gateway import gateway_of
from sefar_serve.engine import EngineUnavailableError
from sefar_serve.language import GenerationError
from sefar_serve.schemas.probes import Liveness, Readiness

router = APIRouter(tags=["probes"])

metrics_router = APIRouter(tags=["probes"])
"""A separate router, because metrics require a key if keys are set."""

READY_SECONDS = 5.0
"""A gateway that takes longer than this for its own test video is not ready."""


@router.get("/healthz")
@router.head("/healthz", include_in_schema=False)
async def healthz() -> Liveness:
    """Liveness: the process is running."""
    return Liveness()


@router.get("/readyz", responses={503: ERRORS[503], 504: ERRORS[504]})
@router.head("/readyz", include_in_schema=False)
async def readyz(request: Request) -> Readiness:
    """Readiness: videos are decoded and the model answers. A recent success of either counts, otherwise it is tried.

    A failing language model is reported in `captioner` but does not fail readiness.
    """
    gateway = gateway_of(request)
    engine = gateway.recognizer.engine
    try:
        async with asyncio.timeout(READY_SECONDS):
            await gateway.recognizer.check()
    except TimeoutError as error:
        raise EngineUnavailableError(
            f"no video was decoded and recognised within {READY_SECONDS:g} s; all decoders may be busy"
        ) from error
    meta = engine.model(None).metadata
    return Readiness(
        model=meta.name,
        version=meta.version,
        anonymous=gateway.settings.anonymous,
        captioner=await _captioner_status(gateway.captioner),
    )


async def _captioner_status(captioner: Captioner | None) -> str:
    """The language model's name if it is available, else the reason why it is not."""
    if captioner is None:
        return "none"
    try:
        async with asyncio.timeout(READY_SECONDS):
            await captioner.generator.check()
            captioner.encoder()
    except TimeoutError:
        return f"unavailable: no answer within {READY_SECONDS:g} s"
    except GenerationError as error:
        return f"unavailable: {error}"
    return captioner.generator.info.name


@metrics_router.get("/metrics")
@metrics_router.head("/metrics", include_in_schema=False)
async def metrics(request: Request) -> Response:
    """Prometheus metrics."""
    return Response(gateway_of(request).metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")
