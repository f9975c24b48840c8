"""OpenAI parameters that this server does not support: ignored if that changes nothing, refused if it would.

Many clients send every OpenAI parameter with its default value, so defaults must be accepted. A request for a tool
call or for two answers is refused, because the client would get something other than what it asked for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sefar_serve.api.errors import ApiError

IGNORED = frozenset(
    {
        "metadata",
        "parallel_tool_calls",
        "prompt_cache_key",
        "prompt_cache_retention",
        "reasoning_effort",
        "safety_identifier",
        "service_tier",
        "store",
        "user",
        "verbosity",
    }
)
"""Parameters that do not change the answer, or are hints that this language model does not support."""

UNSUPPORTED: Mapping[str, tuple[object, ...]] = {
    "audio": (),
    "frequency_penalty": (0,),
    "function_call": ("auto", "none"),
    "functions": ([],),
    "logit_bias": ({},),
    "logprobs": (False,),
    "modalities": (["text"],),
    "moderation": (),
    "n": (1,),
    "prediction": (),
    "presence_penalty": (0,),
    "response_format": ({"type": "text"},),
    "tool_choice": ("auto", "none"),
    "tools": ([],),
    "top_logprobs": (0,),
    "web_search_options": (),
}
"""Unsupported parameters, with the values that are accepted because they do not change the answer."""


def supported_parameters(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a request without those to ignore; null counts as omitted, as in OpenAI's API.

    Raises:
        ApiError: 400 for an unsupported parameter that would change the answer.
    """
    left = {}
    for name, value in fields.items():
        if value is None or name in IGNORED:
            continue
        if name not in UNSUPPORTED:
            left[name] = value
        elif value not in UNSUPPORTED[name]:
            neutral = " or ".join(json.dumps(allowed) for allowed in UNSUPPORTED[name])
            fix = f"leave it out, or set it to {neutral}" if neutral else "leave it out"
            raise ApiError(400, "unsupported_parameter", f"{name}: not supported by this server; {fix}", name)
    return left
