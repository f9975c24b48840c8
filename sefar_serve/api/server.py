"""The gateway as a process: the application from settings, run by uvicorn."""

from __future__ import annotations

import uvicorn

from sefar_serve.api.app import create_app
from sefar_serve.assemble import make_engine, make_generator
from sefar_serve.logs import configure_logging
from sefar_serve.settings import Settings


def serve(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM; running requests then have `shutdown_grace` seconds to finish.

    Raises:
        ModelLoadError: if the model cannot be loaded.
        GenerationError: if the captioner cannot.
    """
    configure_logging(settings.log_level, settings.log_format)
    app = create_app(settings, make_engine(settings), make_generator(settings))
    uvicorn.run(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=settings.shutdown_grace,
    )
