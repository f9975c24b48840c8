"""What the routes of one application share, handed to them instead of kept in globals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from fastapi import Request

from sefar_serve.api.metrics import Metrics
from sefar_serve.recognition import Recognizer
from sefar_serve.settings import Settings


@dataclass(frozen=True)
class Gateway:
    """One application's parts."""

    settings: Settings
    recognizer: Recognizer
    metrics: Metrics


def gateway_of(request: Request) -> Gateway:
    """The parts of the application that serves this request."""
    return cast(Gateway, request.app.state.gateway)
