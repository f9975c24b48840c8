"""The trace that a request belongs to, as W3C Trace Context names it in `traceparent`."""

from __future__ import annotations

import re
from collections.abc import Mapping

from starlette.datastructures import Headers

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-.*)?")


def trace_of(headers: Headers) -> Mapping[str, str]:
    """The `trace_id` and `span_id` of a request's caller; empty where it sends none, or none that is valid.

    Section 3.2 of the recommendation: version ff, ids of zeros alone, capitals, and anything after the flags of version
    00 are invalid; later versions may have more after them.
    """
    match headers.getlist("traceparent"):
        case [header] if found := _TRACEPARENT.fullmatch(header):
            version, trace, span, more = found.groups()
            known = version != "ff" and (version != "00" or more is None)
            named = trace.strip("0") and span.strip("0")
            return {"trace_id": trace, "span_id": span} if known and named else {}
        case _:
            return {}
