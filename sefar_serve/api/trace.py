"""Reads the trace of a request from its `traceparent` header (W3C Trace Context)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from starlette.datastructures import Headers

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-.*)?")


def trace_of(headers: Headers) -> Mapping[str, str]:
    """The caller's `trace_id` and `span_id`; empty if the header is missing or invalid.

    By section 3.2 of the recommendation, version ff, all-zero ids, capital letters, and anything after the flags in
    version 00 are invalid. Later versions may have more fields after the flags.
    """
    match headers.getlist("traceparent"):
        case [header] if found := _TRACEPARENT.fullmatch(header):
            version, trace, span, more = found.groups()
            known = version != "ff" and (version != "00" or more is None)
            named = trace.strip("0") and span.strip("0")
            return {"trace_id": trace, "span_id": span} if known and named else {}
        case _:
            return {}
