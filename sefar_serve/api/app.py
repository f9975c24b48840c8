"""Builds the FastAPI application from the given settings and engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import Depends, FastAPI
from fastapi_offline import FastAPIOffline

from sefar_serve import __version__
from sefar_serve.api import captions, chat, probes, routes
from sefar_serve.api import jobs as jobs_routes
from sefar_serve.api.admission import Admission, AdmissionMiddleware
from sefar_serve.api.auth import BEARER, ApiKeyMiddleware
from sefar_serve.api.captioner import Captioner
from sefar_serve.api.cors import allow_origins
from sefar_serve.api.documentation import correct_documentation
from sefar_serve.api.encoding import JsonLimits
from sefar_serve.api.errors import install_error_handlers
from sefar_serve.api.gateway import Gateway
from sefar_serve.api.metrics import Metrics
from sefar_serve.api.observe import ObserveMiddleware
from sefar_serve.api.payload import Reading
from sefar_serve.api.prefix import ProxyPrefixMiddleware
from sefar_serve.api.store import ClipStore
from sefar_serve.api.traces import Traces
from sefar_serve.api.unexpected import UnexpectedErrorMiddleware
from sefar_serve.api.uploads import UploadLimits, UploadMiddleware
from sefar_serve.assemble import bounds_of, make_decoders, make_estimators
from sefar_serve.decoding import Decoders, ProcessDecoders
from sefar_serve.engine import Engine
from sefar_serve.fetch import RemoteVideos, UrlFetcher
from sefar_serve.keys import KeyRing
from sefar_serve.language import Generator
from sefar_serve.optional import needs_extra
from sefar_serve.pose import Estimators
from sefar_serve.recognition import Recognizer
from sefar_serve.settings import Settings

if TYPE_CHECKING:
    from sefar_serve.jobs.service import JobService


def create_app(
    settings: Settings,
    engine: Engine,
    generator: Generator | None = None,
    estimators: Estimators | None = None,
    decoders: Decoders | None = None,
) -> FastAPI:
    """Create the gateway application.

    Args:
        settings: all settings of the gateway.
        engine: runs the model; the application starts and closes it.
        generator: writes captions and answers; the application starts and closes it. None disables text.
        estimators: find the joints for models that see them; None for those that the settings name.
        decoders: decode the videos of requests; the application starts and closes them. None for those that the
            settings name.

    Raises:
        KeysError: the file of keys cannot be read.
        JobsDirError: the jobs folder, or a folder in `job_roots`, cannot be used.
        ModuleNotFoundError: batch jobs or traces are enabled, but their packages are not installed.
    """
    estimators = estimators if estimators is not None else make_estimators(settings)
    decoders = decoders if decoders is not None else make_decoders(settings, estimators, serving=True)
    recognizer = Recognizer(engine, bounds_of(settings), decoders=decoders)
    metrics = Metrics(recognizer, generator)
    fetcher = UrlFetcher(settings.url_hosts, max_bytes=settings.max_body_bytes, timeout=settings.url_timeout)
    remote = RemoteVideos(fetcher, settings.max_decoding)
    captioner = None if generator is None else Captioner(generator, engine, settings)
    jobs = None if settings.jobs_dir is None else _jobs(settings.jobs_dir, settings, engine, fetcher, estimators)
    traces = None if settings.otlp_endpoint is None else Traces.to(settings.otlp_endpoint)
    if isinstance(decoders, ProcessDecoders):
        metrics.watch_processes(decoders)
    if jobs is not None:
        metrics.watch_jobs(jobs.store)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as running:
            if traces is not None:
                running.push_async_callback(asyncio.to_thread, traces.close)
            await running.enter_async_context(recognizer)
            running.push_async_callback(remote.close)
            if captioner is not None:
                running.push_async_callback(captioner.generator.close)
                await captioner.generator.start()
                captioner.report()
            if jobs is not None:
                running.push_async_callback(jobs.close)
                await jobs.start()
            yield

    app = FastAPIOffline(
        title="sefar-serve",
        version=__version__,
        summary="Fine-grained action recognition: labels, embeddings, captions and reliability for videos.",
        lifespan=lifespan,
        redoc_url=None,
    )
    app.state.gateway = Gateway(
        settings,
        recognizer,
        metrics,
        clips=ClipStore(settings.max_stored_clips),
        reading=Reading(settings.max_body_bytes, JsonLimits(settings.json_bytes), settings.max_clips, fetcher),
        remote=remote,
        admission=Admission.of(
            settings.max_requests,
            settings.max_decoding,
            several=settings.keys_file is not None or len(settings.api_keys) > 1,
        ),
        captioner=captioner,
        jobs=jobs,
        traces=traces,
    )
    keyed = [Depends(BEARER)] if settings.has_keys else []
    app.include_router(probes.router)
    for router in (routes.router, chat.router, captions.router, jobs_routes.router, probes.metrics_router):
        app.include_router(router, dependencies=keyed)
    correct_documentation(app)
    install_error_handlers(app)
    _wrap(app, settings, metrics)
    return app


def _wrap(app: FastAPI, settings: Settings, metrics: Metrics) -> None:
    """Add the middlewares; the last one added is the outermost."""
    gateway: Gateway = app.state.gateway
    app.add_middleware(
        AdmissionMiddleware,
        requests=gateway.admission.requests,
        refused=metrics.rejected.labels("requests").inc,
    )
    if settings.has_keys:
        plain = [key.get_secret_value() for key in settings.api_keys]
        app.add_middleware(ApiKeyMiddleware, ring=KeyRing(plain, settings.keys_file))
    uploads = UploadLimits(settings.upload_timeout, settings.min_upload_rate, settings.max_buffered_bytes)
    app.add_middleware(UploadMiddleware, limits=uploads)
    app.add_middleware(UnexpectedErrorMiddleware)  # outside all that may fail, inside what adds headers
    if settings.cors_origins:
        allow_origins(app, settings.cors_origins)  # outside the key check: preflights carry no key
    app.add_middleware(ObserveMiddleware, metrics=metrics, traces=gateway.traces)  # counts refused requests too
    if settings.root_path:
        app.add_middleware(ProxyPrefixMiddleware, prefix=settings.root_path)


def _jobs(folder: Path, settings: Settings, engine: Engine, fetcher: UrlFetcher, estimators: Estimators) -> JobService:
    """Create the batch job service, whose packages are an optional extra."""
    with needs_extra("batch"):
        from sefar_serve.jobs.errors import JobsDirError
        from sefar_serve.jobs.intake import Intake
        from sefar_serve.jobs.service import JobBounds, JobService

    for root in settings.job_roots:
        if not root.is_dir():
            raise JobsDirError(f"{root} in SEFAR_JOB_ROOTS is not a folder; create it, or correct the path")
    return JobService(
        folder,
        engine,
        intake=Intake([root.resolve() for root in settings.job_roots], fetcher, settings.max_job_clips),
        bounds=JobBounds(
            most=settings.max_jobs,
            at_once=settings.jobs_at_once,
            workers=settings.job_workers,
            max_batch=settings.max_batch,
            limits=bounds_of(settings).limits,
            seconds=settings.decode_timeout,
            memory=settings.decode_memory,
            retention=3600 * settings.job_retention if settings.job_retention else None,
        ),
        model_file=settings.model if settings.triton_url is None else None,
        estimators=estimators,
    )
