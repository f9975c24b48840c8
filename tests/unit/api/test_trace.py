"""Log lines of a request have its id and the trace of its caller."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from starlette.datastructures import Headers

from sefar_serve.api.trace import trace_of
from sefar_serve.engine import FakeEngine
from sefar_serve.logs import configure_logging

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def headers(*values: str) -> Headers:
    return Headers(raw=[(b"traceparent", value.encode()) for value in values])


@pytest.mark.parametrize(
    "value",
    [f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-00", f"01-{TRACE}-{SPAN}-09", f"cc-{TRACE}-{SPAN}-01-what-else"],
)
def test_valid(value: str) -> None:
    assert trace_of(headers(value)) == {"trace_id": TRACE, "span_id": SPAN}


@pytest.mark.parametrize(
    "values",
    [
        (),
        ("",),
        (f"ff-{TRACE}-{SPAN}-01",),
        (f"00-{'0' * 32}-{SPAN}-01",),
        (f"00-{TRACE}-{'0' * 16}-01",),
        (f"00-{TRACE}-{SPAN}-01-more",),
        (f"00-{TRACE}-{SPAN}-01-",),
        (f"01-{TRACE}-{SPAN}-01more",),
        (f"00-{TRACE.upper()}-{SPAN}-01",),
        (f"00-{TRACE}-{SPAN}",),
        (f"00-{TRACE[1:]}-{SPAN}-01",),
        (f"00-{TRACE}-{SPAN}-0g",),
        (f"00-{TRACE}-{SPAN}-01\n",),
        (f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-01"),
    ],
)
def test_invalid_headers_are_ignored(values: tuple[str, ...]) -> None:
    assert trace_of(headers(*values)) == {}


@contextmanager
def logged(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """The log lines that the gateway writes inside the block; filled in at its end."""
    stream, lines = io.StringIO(), []
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    monkeypatch.setattr("sys.stderr", stream)
    try:
        configure_logging("info", "json")
        yield lines
    finally:
        root.handlers[:], root.level = handlers, level
        written = [json.loads(line) for line in stream.getvalue().splitlines()]
        lines.extend(line for line in written if line["logger"].startswith("sefar_serve"))


def test_every_log_line_of_a_request_has_its_ids(gateway, dark_clip: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    client = gateway(FakeEngine(failure=RuntimeError("unexpected")))
    sent = {"traceparent": f"00-{TRACE}-{SPAN}-01", "x-request-id": "r1"}
    with logged(monkeypatch) as lines:
        client.post("/v1/classify", content=dark_clip, headers=sent)
        client.get("/v1/models", headers={"traceparent": "00-not-valid-01"})
        logging.getLogger("sefar_serve.test").warning("of no request")
    found = {(line["logger"], line.get("request_id"), line.get("trace_id"), line.get("span_id")) for line in lines[:-2]}
    assert found == {
        ("sefar_serve.schemas.problem", "r1", TRACE, SPAN),
        ("sefar_serve.access", "r1", TRACE, SPAN),
    }
    assert "trace_id" not in lines[-2]
    assert lines[-2]["request_id"]
    assert not {"request_id", "trace_id"} & set(lines[-1])
