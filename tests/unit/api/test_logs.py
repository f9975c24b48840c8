"""Nothing that a client sends can look like a log line of its own."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from sefar_serve.logs import configure_logging

FORGED = "a\n2026-01-01 00:00:00 ERROR sefar: forged\r\u2028\x1b[31m\x85b"


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def logged(style: str) -> list[str]:
    configure_logging("info", style)  # type: ignore[arg-type]
    stream = io.StringIO()
    [handler] = logging.getLogger().handlers
    handler.setStream(stream)  # type: ignore[attr-defined]
    log = logging.getLogger("sefar_serve.test")
    log.info("path %s", FORGED)
    try:
        raise ValueError(FORGED)
    except ValueError:
        log.exception("failed")
    return stream.getvalue().splitlines()


def test_text() -> None:
    lines = logged("text")
    starts = [line for line in lines if not line.startswith("    ")]
    assert len(starts) == 2
    assert "path a\\n2026-01-01" in starts[0]
    assert starts[1].endswith("sefar_serve.test: failed")
    assert "\x1b" not in "".join(lines)


def test_json() -> None:
    first, second = map(json.loads, logged("json"))
    assert first["message"] == f"path {FORGED}"
    assert second["message"] == "failed"
    assert "Traceback" in second["exc_info"]


def test_a_request_with_newlines_in_path_and_headers(gateway, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "text")
    stream = io.StringIO()
    logging.getLogger().handlers[0].setStream(stream)  # type: ignore[attr-defined]
    gateway().get(
        "/v1/a%0D%0A2026-01-01 ERROR forged",
        headers={"x-request-id": "a\x85forged".encode("latin-1"), "traceparent": "x"},
    )
    lines = [line for line in stream.getvalue().splitlines() if "sefar_serve.access" in line]
    assert len(lines) == 1
    assert not [line for line in stream.getvalue().splitlines() if line.startswith("2026-01-01 ERROR")]
