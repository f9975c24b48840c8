"""Gives every request an id, timing headers, a log line with its trace, and an entry in the metrics."""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sefar_serve.api.metrics import Metrics
from sefar_serve.api.trace import trace_of
from sefar_serve.api.traces import Traces
from sefar_serve.logs import REQUEST
from sefar_serve.recognition import Recognised

log = logging.getLogger("sefar_serve.access")

_USABLE_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")


@dataclass
class Timings:
    """Seconds that each stage of a request took. With several videos, each stage has the time of its slowest video."""

    decode: float | None = None
    pose: float | None = None
    queue: float | None = None
    inference: float | None = None

    def add(self, results: Sequence[Recognised | Exception]) -> None:
        """Include the timings of these results."""
        for found in results:
            if isinstance(found, Recognised):
                self.decode = max(self.decode or 0.0, found.decode_seconds)
                if found.pose_seconds is not None:
                    self.pose = max(self.pose or 0.0, found.pose_seconds)
                self.queue = max(self.queue or 0.0, found.queue_seconds)
                self.inference = max(self.inference or 0.0, found.inference_seconds)

    def headers(self) -> dict[str, str]:
        """The timing headers, in milliseconds."""
        stages = {"decode": self.decode, "pose": self.pose, "queue": self.queue, "inference": self.inference}
        return {f"x-{name}-time": f"{1000 * s:.2f}" for name, s in stages.items() if s is not None}


class ObserveMiddleware:
    """Observes requests as described in the module docstring.

    Args:
        app: the application to wrap.
        metrics: counts and times the requests.
        traces: gets a span for each request; None for none.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, traces: Traces | None = None) -> None:
        self._app = app
        self._metrics = metrics
        self._traces = traces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; log and count it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        sent = Headers(scope=scope)
        offered = sent.get("x-request-id", "")
        # The id is copied into logs and headers, so only harmless characters are accepted.
        request_id = offered if _USABLE_ID.fullmatch(offered) else uuid.uuid4().hex
        span = None if self._traces is None else self._traces.begin(scope["method"], sent)
        traced = {"request_id": request_id, **(trace_of(sent) if span is None else Traces.ids(span))}
        logged = REQUEST.set(traced)
        timings = Timings()
        scope.setdefault("state", {}).update(request_id=request_id, timings=timings, span=span)
        status = 500

        async def observed_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = request_id
                headers["x-total-time"] = f"{1000 * (time.perf_counter() - started):.2f}"
                headers.update(timings.headers())
            await send(message)

        try:
            await self._app(scope, receive, observed_send)
        finally:
            seconds = time.perf_counter() - started
            # Use the route's template, not the path: a client could invent any number of paths, each a new label value.
            route = getattr(scope.get("route"), "path", "unmatched")
            self._metrics.requests.labels(route, str(status)).inc()
            self._metrics.request_seconds.labels(route).observe(seconds)
            if span is not None:
                Traces.end(span, scope["method"], route, status)
            probe = route in ("/healthz", "/readyz", "/metrics") and status < 400
            log.log(
                logging.DEBUG if probe else logging.INFO,
                "%s %s %d in %.1f ms",
                scope["method"],
                scope["path"],
                status,
                1000 * seconds,
                extra={
                    **traced,
                    **({"key": scope["state"]["key"]} if "key" in scope["state"] else {}),
                    "method": scope["method"],
                    "route": route,
                    "status": status,
                    "total_ms": round(1000 * seconds, 2),
                    **{
                        name.removeprefix("x-").removesuffix("-time") + "_ms": float(value)
                        for name, value in timings.headers().items()
                    },
                },
            )
            REQUEST.reset(logged)
