"""The gateway as a process: engine and application from settings, run by uvicorn."""

from __future__ import annotations

import uvicorn

from sefar_serve.api import create_app
from sefar_serve.engine import Engine
from sefar_serve.logs import configure_logging
from sefar_serve.settings import Settings


def make_engine(settings: Settings) -> Engine:
    """Load the model that the settings name, or make the engine that asks their Triton server.

    Raises:
        ModelLoadError: if the model cannot be loaded.
        ModuleNotFoundError: if the package that the engine needs is not installed.
    """
    # Each engine's package is an extra of its own: a gateway in front of Triton has no onnxruntime.
    if settings.triton_url is not None:
        from sefar_serve.engine.triton import TritonEngine, TritonOptions

        return TritonEngine(
            TritonOptions(
                url=settings.triton_url,
                models=settings.triton_models,
                shared_memory=settings.triton_shared_memory,
                timeout=settings.triton_timeout,
                max_inflight=settings.max_queue,
                probe=settings.triton_probe,
            )
        )
    from sefar_serve.engine.onnx import OnnxEngine, OnnxModel

    model = OnnxModel(settings.model, device=settings.device, threads=settings.inference_threads)
    return OnnxEngine(
        model,
        max_batch=settings.max_batch,
        max_wait=settings.max_wait_ms / 1000,
        max_queue=settings.max_queue,
    )


def serve(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM; running requests then have `shutdown_grace` seconds to finish.

    Raises:
        ModelLoadError: if the model cannot be loaded.
    """
    configure_logging(settings.log_level, settings.log_format)
    app = create_app(settings, make_engine(settings))
    uvicorn.run(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=settings.shutdown_grace,
    )
