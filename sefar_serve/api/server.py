"""Runs the gateway as a process, with uvicorn."""

from __future__ import annotations

import ipaddress
import logging
import os
import signal
import socket
import sys
from errno import EADDRINUSE

import uvicorn

from sefar_serve.api.app import create_app
from sefar_serve.api.connections import ConnectionLimits, bounded_protocol
from sefar_serve.api.metrics import Metrics
from sefar_serve.assemble import make_engine, make_estimators, make_served_generator
from sefar_serve.errors import SefarError
from sefar_serve.logs import configure_logging
from sefar_serve.settings import Settings, misspelled_variables

log = logging.getLogger(__name__)


class MisnamedKeysError(SefarError):
    """SEFAR_API_KEY, the client's variable, is set, but the gateway has no keys."""

    code = "misnamed_keys"


class AddressError(SefarError):
    """The gateway cannot listen on its address, for example because another program does."""

    code = "address_unavailable"


def serve(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM, then give running requests `shutdown_grace` seconds to finish.

    Raises:
        AddressError: the address is invalid or in use.
        MisnamedKeysError: SEFAR_API_KEY is set, and probably SEFAR_API_KEYS was meant.
        ModelLoadError: the model cannot be loaded.
        GenerationError: the captioner cannot be loaded.
        PoseError: the model sees joints that cannot be found here, or pictures although `anonymous` is set.
    """
    configure_logging(settings.log_level, settings.log_format)
    for name, meant in misspelled_variables(os.environ).items():
        log.warning("ignoring the environment variable %s, which is not a setting; did you mean %s?", name, meant)
    check_address(settings.host, settings.port)
    check_exposure(settings)
    engine, estimators = make_engine(settings), make_estimators(settings)
    # Checked again at the start, when a Triton server's models are known too; uvicorn would show a traceback.
    for model in engine.models:
        estimators.of(model.metadata)
    if settings.anonymous:
        log.info("anonymous: nothing of videos is kept but joints, and models that see pictures are refused")
    app = create_app(settings, engine, make_served_generator(settings, engine), estimators)
    # Uvicorn raises a signal again after it has shut down in order, which is no failure.
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        uvicorn.run(
            app,
            host=settings.host,
            port=settings.port,
            log_config=None,
            access_log=False,
            timeout_keep_alive=settings.keep_alive,
            timeout_graceful_shutdown=settings.shutdown_grace,
            ws="none",
            http=bounded_protocol(connection_limits(settings, app.state.gateway.metrics)),
        )
    finally:
        signal.signal(signal.SIGTERM, before)


def connection_limits(settings: Settings, metrics: Metrics) -> ConnectionLimits:
    """The limits on connections, which count the refused ones in the metrics."""
    return ConnectionLimits(
        settings.max_connections,
        prefix=settings.root_path,
        refused=metrics.rejected.labels("connections").inc,
    )


def check_address(host: str, port: int) -> None:
    """Check that the gateway can listen, before it loads a model. Uvicorn binds to the address later.

    Raises:
        AddressError: the address is invalid or in use.
    """
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in found:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.bind(address)
                probe.listen()
    except (OSError, UnicodeError) as error:
        if isinstance(error, OSError) and error.errno == EADDRINUSE:
            why = "the port is in use; stop the other program, or choose another `port`"
        elif isinstance(error, socket.gaierror | UnicodeError):
            why = "`host` is not an address or name of this machine"
        else:
            why = error.strerror or str(error)
        raise AddressError(f"cannot listen on {host}:{port}: {why}") from error


def check_exposure(settings: Settings) -> None:
    """Warn if the gateway is reachable from other machines without API keys.

    Raises:
        MisnamedKeysError: SEFAR_API_KEY is set, and probably SEFAR_API_KEYS was meant.
    """
    if settings.has_keys:
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
