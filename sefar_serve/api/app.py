"""The FastAPI application, made from settings and an engine that are handed in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from sefar_serve import __version__
from sefar_serve.api import probes, routes
from sefar_serve.api.auth import ApiKeyMiddleware
from sefar_serve.api.errors import install_error_handlers
from sefar_serve.api.gateway import Gateway
from sefar_serve.api.metrics import Metrics
from sefar_serve.api.observe import ObserveMiddleware
from sefar_serve.engine import Engine
from sefar_serve.recognition import Recognizer
from sefar_serve.settings import Settings


def create_app(settings: Settings, engine: Engine) -> FastAPI:
    """Make the gateway.

    Args:
        settings: every limit and knob.
        engine: where the model runs; started and closed with the application.
    """
    recognizer = Recognizer(engine, settings.bounds)
    metrics = Metrics(recognizer)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with recognizer:
            yield

    app = FastAPIOffline(
        title="sefar-serve",
        version=__version__,
        summary="Fine-grained action recognition: labels, embeddings and reliability for videos.",
        lifespan=lifespan,
        redoc_url=None,
    )
    app.state.gateway = Gateway(settings, recognizer, metrics)
    app.include_router(routes.router)
    app.include_router(probes.router)
    install_error_handlers(app)
    if settings.api_keys:
        app.add_middleware(ApiKeyMiddleware, keys=[key.get_secret_value() for key in settings.api_keys])
    app.add_middleware(ObserveMiddleware, metrics=metrics)  # last, so outermost: it sees refusals too
    return app
