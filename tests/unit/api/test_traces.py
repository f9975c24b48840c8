"""OpenTelemetry traces: a span per request and stage, in the caller's trace, with nothing of the content."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from sefar_serve.language import FakeGenerator

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}


class Collector(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        found = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["content-length"])))
        self.server.raw.append(str(found))  # type: ignore[attr-defined]
        for resource in found.resource_spans:
            for scope in resource.scope_spans:
                self.server.spans.extend(scope.spans)  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def collector() -> Iterator[HTTPServer]:
    server = HTTPServer(("127.0.0.1", 0), Collector)
    server.spans, server.raw = [], []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_spans_of_requests_and_stages(gateway, collector: HTTPServer, dark_clip: bytes, caplog) -> None:
    client = gateway(
        generator=FakeGenerator(),
        otlp_endpoint=f"http://127.0.0.1:{collector.server_address[1]}",
        api_keys="secret-key",
    )
    headers = PARENT | {"authorization": "Bearer secret-key"}
    url = "data:video/mp4;base64," + base64.b64encode(dark_clip).decode()
    content = [{"type": "video_url", "video_url": {"url": url}}, {"type": "text", "text": "secret question"}]
    client.post("/v1/classify", files={"file": ("secret.mp4", dark_clip)}, headers=headers)
    client.post("/v1/captions", json={"input": url}, headers=headers)
    for stream in (False, True):
        body = {"messages": [{"role": "user", "content": content}], "stream": stream}
        assert client.post("/v1/chat/completions", json=body, headers=headers).status_code == 200
    client.get("/nowhere")
    client.app.state.gateway.traces.close()
    spans = collector.spans  # type: ignore[attr-defined]
    by_id = {span.span_id: span for span in spans}
    requests = {span.name: span for span in spans if span.parent_span_id not in by_id}
    assert set(requests) == {"POST /v1/classify", "POST /v1/captions", "POST /v1/chat/completions", "GET unmatched"}
    assert requests["POST /v1/classify"].trace_id.hex() == TRACE
    assert requests["GET unmatched"].trace_id.hex() != TRACE
    stages: dict[str, set[str]] = {}
    for span in spans:
        assert span.start_time_unix_nano <= span.end_time_unix_nano
        if span.parent_span_id in by_id:
            parent = by_id[span.parent_span_id]
            assert parent.start_time_unix_nano - 10**7 <= span.start_time_unix_nano
            stages.setdefault(parent.name, set()).add(span.name)
    assert stages == {
        "POST /v1/classify": {"decode", "queue", "infer"},
        "POST /v1/captions": {"decode", "queue", "infer", "generate"},
        "POST /v1/chat/completions": {"decode", "queue", "infer", "generate"},
    }
    assert "secret" not in "".join(collector.raw)  # type: ignore[attr-defined]


def test_nothing_is_sent_unless_an_endpoint_is_set(
    gateway, collector: HTTPServer, monkeypatch, dark_clip: bytes
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.server_address[1]}")
    client = gateway()
    assert client.app.state.gateway.traces is None
    assert client.post("/v1/classify", content=dark_clip, headers=PARENT).status_code == 200
    assert collector.spans == []  # type: ignore[attr-defined]


def test_a_collector_that_is_away_does_not_matter(gateway, dark_clip: bytes, monkeypatch) -> None:
    monkeypatch.setattr("sefar_serve.api.traces.EXPORT_SECONDS", 0.2)
    client = gateway(otlp_endpoint="http://127.0.0.1:9")
    assert client.post("/v1/classify", content=dark_clip).status_code == 200
