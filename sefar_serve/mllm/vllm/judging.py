"""Log-probabilities of options, token by token: vLLM gives none for the tokens of a prompt made of embeddings.

Each request forces one token and asks how probable it was: under vLLM's default ``--logprobs-mode raw_logprobs``
that is told as it was before anything was forced.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from sefar_serve.language.errors import GenerationFailedError
from sefar_serve.mllm.vllm.routes import Route

Ask = Callable[[tuple[int, ...], int], Awaitable[float]]
"""Tells the log-probability of a token after the beginning of an answer."""


def forcing(route: Route, token: int) -> dict[str, Any]:
    """The fields that make a request say one token and tell its log-probability."""
    return {
        "max_tokens": 1,
        "temperature": 0.0,
        "allowed_token_ids": [token],
        "return_tokens_as_token_ids": True,
        **route.judging(),
    }


def told(route: Route, token: int, answer: dict[str, Any]) -> float:
    """The log-probability in the answer to such a request.

    Raises:
        GenerationFailedError: there is none, or it is another token's.
    """
    try:
        given, logprob = route.judged(answer["choices"][0])
    except (KeyError, IndexError, TypeError) as error:
        raise GenerationFailedError("the vLLM server gave no log-probability where it was asked for one") from error
    if given != f"token_id:{token}":
        raise GenerationFailedError(
            "the vLLM server ignores allowed_token_ids, so it cannot judge options; is it vLLM, and not behind a "
            "proxy that drops fields?"
        )
    return logprob


async def judged(ask: Ask, options: Sequence[Sequence[int]]) -> list[float]:
    """Sum of the log-probabilities of each option's tokens; what options begin with in common is asked once.

    Args:
        ask: bounds how much is asked at a time.
        options: token ids of each, its end included.

    Raises:
        GenerationError: of `ask`, the first.
        GenerationFailedError: the server tells log-probabilities of another kind.
    """
    found: dict[tuple[tuple[int, ...], int], float] = {}

    async def put(said: tuple[int, ...], token: int) -> None:
        found[said, token] = await ask(said, token)

    try:
        async with asyncio.TaskGroup() as group:
            for said, token in {(tuple(option[:at]), token) for option in options for at, token in enumerate(option)}:
                group.create_task(put(said, token))
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    _check_normalised(found)
    return [math.fsum(found[tuple(option[:at]), token] for at, token in enumerate(option)) for option in options]


def _check_normalised(found: dict[tuple[tuple[int, ...], int], float]) -> None:
    """Tokens that may follow the same words have at most probability 1 together, unless told after forcing."""
    totals: dict[tuple[int, ...], float] = {}
    for (said, _), logprob in found.items():
        totals[said] = totals.get(said, 0.0) + math.exp(min(logprob, 1.0))
    if any(total > 1.01 for total in totals.values()):
        raise GenerationFailedError(
            "the vLLM server tells log-probabilities after masking, so options cannot be judged; "
            "start it with --logprobs-mode raw_logprobs"
        )
