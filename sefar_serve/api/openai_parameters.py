"""OpenAI's parameters that this server does not act on: dropped where that changes nothing, refused where it would.

Many clients send all of OpenAI's parameters at their defaults; those must not be refused. But whoever asks for a
tool call or two answers should not get one answer without.
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
"""They ask for no other answer, or are hints that this language model cannot take."""

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
"""With the values that ask for what is done anyway."""


def acted_upon(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a request that are left to act upon; null counts as left out, as OpenAI's does.

    Raises:
        ApiError: 400 for one that would change the answer and is not supported.
    """
    left = {}
    for name, value in fields.items():
        if value is None or name in IGNORED:
            continue
        if name not in UNSUPPORTED:
            left[name] = value
        elif value not in UNSUPPORTED[name]:
            neutral = " or ".join(json.dumps(allowed) for allowed in UNSUPPORTED[name])
            mend = f"leave it out, or give {neutral}" if neutral else "leave it out"
            raise ApiError(400, "unsupported_parameter", f"{name}: not supported here; {mend}", name)
    return left
