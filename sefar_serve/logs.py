"""Logging for the whole process, set up once by its entry point: one JSON object per line, or plain text."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, Literal

from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.json import JsonFormatter

REQUEST: ContextVar[Mapping[str, str]] = ContextVar("request", default=MappingProxyType({}))
"""Fields added to every line logged while a request is served: its id, and its trace if it belongs to one."""


_CONTROLS = {code: repr(chr(code))[1:-1] for code in (*range(32), *range(127, 160), 0x2028, 0x2029)}


class TextFormatter(logging.Formatter):
    """One line per record, and lines of tracebacks indented, so that no text of a client looks like another record."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line, with control characters escaped as in Python."""
        return super().formatMessage(record).translate(_CONTROLS)

    def formatException(self, ei: Any) -> str:
        """The traceback, indented."""
        lines = super().formatException(ei).splitlines()
        return "\n".join("    " + line.translate(_CONTROLS) for line in lines)


def configure_logging(level: str, style: Literal["json", "text", "plain"]) -> None:
    """Send every log record to standard error.

    Args:
        level: lowest level shown, e.g. ``info``.
        style: ``json`` for machines, ``text`` for people, ``plain`` for warnings among a command's own output.
    """
    handler = logging.StreamHandler()
    handler.addFilter(_with_request)
    if style == "json":
        handler.setFormatter(
            JsonFormatter(
                "{asctime}{levelname}{name}{message}",
                style="{",
                rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
                datefmt="%Y-%m-%dT%H:%M:%S%z",
                reserved_attrs=[*RESERVED_ATTRS, "color_message"],  # uvicorn's copy of its own message
            )
        )
    else:
        form = "%(message)s" if style == "plain" else "%(asctime)s %(levelname)s %(name)s: %(message)s"
        handler.setFormatter(TextFormatter(form))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # httpx logs every request that we send at INFO, and uvicorn's access log repeats ours.
    for name in ("httpx", "uvicorn.access"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _with_request(record: logging.LogRecord) -> bool:
    vars(record).update(REQUEST.get())
    return True
