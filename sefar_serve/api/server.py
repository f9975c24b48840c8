"""Runs the gateway as a process, with uvicorn."""

from __future__ import annotations

import ipaddress
import logging
import os

import uvicorn

from sefar_serve.api.app import create_app
from sefar_serve.assemble import make_engine, make_generator
from sefar_serve.errors import SefarError
from sefar_serve.logs import configure_logging
from sefar_serve.settings import Settings

log = logging.getLogger(__name__)


class MisnamedKeysError(SefarError):
    """SEFAR_API_KEY, the client's variable, is set, but the gateway has no keys."""

    code = "misnamed_keys"


def serve(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM, then give running requests `shutdown_grace` seconds to finish.

    Raises:
        MisnamedKeysError: SEFAR_API_KEY is set, and probably SEFAR_API_KEYS was meant.
        ModelLoadError: the model cannot be loaded.
        GenerationError: the captioner cannot be loaded.
    """
    configure_logging(settings.log_level, settings.log_format)
    check_exposure(settings)
    app = create_app(settings, make_engine(settings), make_generator(settings))
    uvicorn.run(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        timeout_keep_alive=settings.keep_alive,
        timeout_graceful_shutdown=settings.shutdown_grace,
    )


def check_exposure(settings: Settings) -> None:
    """Warn if the gateway is reachable from other machines without API keys.

    Raises:
        MisnamedKeysError: SEFAR_API_KEY is set, and probably SEFAR_API_KEYS was meant.
    """
    if settings.api_keys:
        return
    if os.environ.get("SEFAR_API_KEY"):
        raise MisnamedKeysError(
            "SEFAR_API_KEY is the client's variable and does not protect this gateway; set SEFAR_API_KEYS to require "
            "keys, or unset SEFAR_API_KEY to serve without keys"
        )
    if not _is_loopback(settings.host):
        log.warning(
            "no API keys: anyone who can reach %s:%d can use this gateway; set SEFAR_API_KEYS to require a key",
            settings.host,
            settings.port,
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
