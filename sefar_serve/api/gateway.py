"""What the routes of one application share, handed to them instead of kept in globals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from fastapi import Request

from sefar_serve.api.captioner import Captioner
from sefar_serve.api.metrics import Metrics
from sefar_serve.api.payload import Reading
from sefar_serve.api.store import ClipStore
from sefar_serve.fetch import RemoteVideos
from sefar_serve.recognition import Recognizer
from sefar_serve.settings import Settings

if TYPE_CHECKING:  # its packages are an extra
    from sefar_serve.jobs.service import JobService


@dataclass(frozen=True)
class Gateway:
    """One application's parts; `captioner` is None without a language model, `jobs` without a folder for them."""

    settings: Settings
    recognizer: Recognizer
    metrics: Metrics
    clips: ClipStore
    reading: Reading
    remote: RemoteVideos
    captioner: Captioner | None
    jobs: JobService | None


def gateway_of(request: Request) -> Gateway:
    """The parts of the application that serves this request."""
    return cast(Gateway, request.app.state.gateway)
