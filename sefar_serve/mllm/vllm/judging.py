"""Log-probabilities of options, token by token: vLLM returns none for the tokens of a prompt made of embeddings.

Each request forces one token and asks for its log-probability. With vLLM's default ``--logprobs-mode
raw_logprobs`` the server returns the value from before the token was forced.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from sefar_serve.language.errors import GenerationFailedError
from sefar_serve.mllm.vllm.routes import Route

Ask = Callable[[tuple[int, ...], int], Awaitable[float]]
"""Returns the log-probability of a token after the beginning of an answer."""


def forcing(route: Route, token: int) -> dict[str, Any]:
    """The fields that make a request generate one given token and return its log-probability."""
    return {
        "max_tokens": 1,
        "temperature": 0.0,
        "allowed_token_ids": [token],
        "return_tokens_as_token_ids": True,
        **route.judging(),
    }


def forced_logprob(route: Route, token: int, answer: dict[str, Any]) -> float:
    """The log-probability in the answer to a request with the fields of `forcing`.

    Raises:
        GenerationFailedError: there is none, or it is that of another token.
    """
    try:
        given, logprob = route.judged(answer["choices"][0])
    except (KeyError, IndexError, TypeError) as error:
        raise GenerationFailedError(
            "the vLLM server returned no log-probability, although one was requested; check that it is vLLM, and "
            "that no proxy drops fields"
        ) from error
    if given != f"token_id:{token}":
        raise GenerationFailedError(
            "the vLLM server ignores allowed_token_ids, so it cannot score options; check that it is vLLM, and that "
            "no proxy drops fields"
        )
    return logprob


async def judged(ask: Ask, options: Sequence[Sequence[int]]) -> list[float]:
    """Sum of the log-probabilities of each option's tokens; tokens that several options begin with are asked once.

    Args:
        ask: returns one log-probability; it limits how many requests run at a time.
        options: token ids of each option, including the end token.

    Raises:
        GenerationError: the first error of `ask`.
        GenerationFailedError: the server returns log-probabilities of another kind.
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
    """The probabilities of tokens after the same words add up to at most 1, unless they are from after forcing."""
    totals: dict[tuple[int, ...], float] = {}
    for (said, _), logprob in found.items():
        totals[said] = totals.get(said, 0.0) + math.exp(min(logprob, 1.0))
    if any(total > 1.01 for total in totals.values()):
        raise GenerationFailedError(
            "the vLLM server returns log-probabilities after masking, so options cannot be scored; "
            "start it with --logprobs-mode raw_logprobs"
        )
