"""The parts that all routes of an application share; the application holds them, so there are no globals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from fastapi import Request

from sefar_serve.api.admission import Admission
from sefar_serve.api.captioner import Captioner
from sefar_serve.api.metrics import Metrics
from sefar_serve.api.payload import Reading
from sefar_serve.api.store import ClipStore
from sefar_serve.api.traces import Traces
from sefar_serve.fetch import RemoteVideos
from sefar_serve.recognition import Recognizer
from sefar_serve.settings import Settings

if TYPE_CHECKING:  # its packages are an optional extra
    from sefar_serve.jobs.service import JobService


@dataclass(frozen=True)
class Gateway:
    """The parts of an application.

    `captioner` is None without a language model, `jobs` without `jobs_dir`, `traces` without `otlp_endpoint`.
    """

    settings: Settings
    recognizer: Recognizer
    metrics: Metrics
    clips: ClipStore
    reading: Reading
    remote: RemoteVideos
    admission: Admission
    captioner: Captioner | None
    jobs: JobService | None
    traces: Traces | None


def gateway_of(request: Request) -> Gateway:
    """The gateway that serves this request."""
    return cast(Gateway, request.app.state.gateway)
