"""Sends OpenTelemetry traces to the endpoint that the operator sets; nothing is sent otherwise.

A request is a span, with a span for each stage of each video (decode, queue, infer) and for each text (generate). Spans
have durations and counts, and nothing of videos, names or texts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from starlette.datastructures import Headers

from sefar_serve import __version__
from sefar_serve.language.replies import Reply
from sefar_serve.optional import needs_extra
from sefar_serve.recognition import Recognised

if TYPE_CHECKING:  # an optional extra
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.trace import Span

EXPORT_SECONDS = 5
"""Timeout of sending spans."""


class Traces:
    """The traces of one application.

    Args:
        processor: takes the ended spans.
    """

    def __init__(self, processor: SpanProcessor) -> None:
        with needs_extra("otel"):
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
        resource = Resource.create({"service.name": "sefar-serve", "service.version": __version__})
        self._provider = TracerProvider(resource=resource)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("sefar_serve")

    @classmethod
    def to(cls, endpoint: str) -> Traces:
        """Traces that are sent to an OTLP/HTTP endpoint, e.g. ``http://collector:4318``.

        Raises:
            ModuleNotFoundError: the packages are not installed.
        """
        with needs_extra("otel"):
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        exporter = OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces", timeout=EXPORT_SECONDS)
        return cls(BatchSpanProcessor(exporter))

    def begin(self, method: str, headers: Headers) -> Span:
        """Start the span of a request, in the caller's trace if the request belongs to one."""
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        context = TraceContextTextMapPropagator().extract(dict(headers))
        attributes = {"http.request.method": method}
        return self._tracer.start_span(method, context, kind=SpanKind.SERVER, attributes=attributes)

    @staticmethod
    def ids(span: Span) -> Mapping[str, str]:
        """The ids of a span, for the log."""
        found = span.get_span_context()
        return {"trace_id": f"{found.trace_id:032x}", "span_id": f"{found.span_id:016x}"}

    @staticmethod
    def end(span: Span, method: str, route: str, status: int) -> None:
        """End the span of a request."""
        from opentelemetry.trace import StatusCode

        span.update_name(f"{method} {route}")
        span.set_attributes({"http.route": route, "http.response.status_code": status})
        if status >= 500:
            span.set_status(StatusCode.ERROR)
        span.end()

    def videos(self, parent: Span | None, results: Sequence[Recognised | Exception]) -> None:
        """Add the stages of videos to the span of their request."""
        for found in results:
            if not isinstance(found, Recognised):
                continue
            waited = min(found.decoded_at + found.queue_seconds, found.finished_at)
            posing = found.pose_seconds or 0.0
            self._add(parent, "decode", found.decoded_at - posing - found.decode_seconds, found.decoded_at - posing)
            if found.pose_seconds is not None:
                self._add(parent, "pose", found.decoded_at - posing, found.decoded_at)
            self._add(parent, "queue", found.decoded_at, waited)
            self._add(parent, "infer", waited, found.finished_at, {"sefar.windows": len(found.windows)})

    def text(self, parent: Span | None, started: float, ended: float, reply: Reply) -> None:
        """Add the writing of a text to the span of its request; times in Unix seconds."""
        counts = {"prompt_tokens": reply.usage.prompt_tokens, "completion_tokens": reply.usage.completion_tokens}
        self._add(parent, "generate", started, ended, {f"sefar.{name}": count for name, count in counts.items()})

    def _add(
        self, parent: Span | None, name: str, start: float, end: float, attributes: Mapping[str, int] | None = None
    ) -> None:
        from opentelemetry.trace import set_span_in_context

        if parent is None:
            return
        span = self._tracer.start_span(
            name, set_span_in_context(parent), attributes=attributes, start_time=int(start * 1e9)
        )
        span.end(int(end * 1e9))

    def close(self) -> None:
        """Send what is left. Blocks."""
        self._provider.shutdown()
