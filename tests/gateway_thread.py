"""A gateway on a free port, served by uvicorn in a thread of the test's process."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Any

import uvicorn
from fastapi import FastAPI


class GatewayThread:
    """Serves an application while the context lasts.

    Args:
        app: the gateway.
        options: of uvicorn.
    """

    def __init__(self, app: FastAPI, **options: Any) -> None:
        self._server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", **options))
        self._thread = threading.Thread(target=self._server.run)

    def __enter__(self) -> str:
        """Start, and give the address, e.g. ``http://127.0.0.1:40001``."""
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)
        return f"http://127.0.0.1:{self._server.servers[0].sockets[0].getsockname()[1]}"

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.should_exit = True
        self._thread.join()
