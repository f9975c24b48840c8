"""Keeps track of what the vLLM server serves: which model, by which route, or what is wrong with it."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sefar_serve.language.errors import (
    AdapterMismatchError,
    GenerationError,
    GenerationFailedError,
    GeneratorOverloadedError,
    GeneratorUnavailableError,
)
from sefar_serve.language.protocol import ClipFeatures, Message
from sefar_serve.mllm.prompt import make_prompt
from sefar_serve.mllm.prompt_embeddings import PromptEmbedder
from sefar_serve.mllm.vllm.routes import Chat, Completions, Conversation, Route
from sefar_serve.mllm.vllm.server import ServedModel, VllmServer

log = logging.getLogger(__name__)

CHECK_SECONDS = 5.0
"""Timeout of a check of the server, and pause between checks while it is healthy."""
RETRY_SECONDS = 1.0
"""Pause between checks while it is not."""


@dataclass(frozen=True)
class Served:
    """The model that the server serves, and the route by which it takes prompts."""

    model: ServedModel
    route: Route


class Upstream:
    """Checks the server again and again: one that is down, or serves the wrong model, may be fixed at any time.

    Args:
        server: the connection.
        embedder: the adapter's; it names the language model that the server must have.
        wanted: the server's name for that model; None for the adapter's LoRA, or the name in the adapter.
        prepare: the only thread that may tokenise.
    """

    def __init__(
        self, server: VllmServer, embedder: PromptEmbedder, wanted: str | None, prepare: ThreadPoolExecutor
    ) -> None:
        self._server = server
        self._embedder = embedder
        self._wanted = wanted
        self._prepare = prepare
        self._trouble: GenerationError = GeneratorUnavailableError(
            f"the vLLM server at {server.url} has not answered yet"
        )
        self._watch: asyncio.Task[None] | None = None
        self._last_success = -math.inf
        self.served: Served | None = None

    async def start(self) -> None:
        """Check the server once, and from then on in the background."""
        await self._try_refresh()
        self._watch = asyncio.create_task(self._keep_refreshing(), name="sefar-vllm-watch")

    async def close(self) -> None:
        """Stop checking."""
        if self._watch is not None:
            self._watch.cancel()
            with suppress(asyncio.CancelledError):
                await self._watch

    def ready(self) -> Served:
        """The model to ask, and its route.

        Raises:
            GenerationError: there is none; the error says why.
        """
        if self.served is None:
            raise self._trouble
        return self.served

    def answered(self) -> None:
        """Record that a token came."""
        self._last_success = time.monotonic()

    def failed(self, error: GenerationError) -> None:
        """Record that the server is down or misconfigured; it may serve another model when it is back."""
        if self.served is not None or str(error) != str(self._trouble):
            log.warning("%s; retrying", error)
        self.served, self._trouble = None, error

    async def check(self) -> None:
        """Check that the server answers: request a token, unless one came in the last `CHECK_SECONDS`.

        Raises:
            GenerationError: it does not.
        """
        served = self.ready()
        if time.monotonic() - self._last_success > CHECK_SECONDS:
            with suppress(GeneratorOverloadedError):  # a server that says it is busy is alive
                await self._try(served)

    async def _keep_refreshing(self) -> None:
        while True:
            await asyncio.sleep(CHECK_SECONDS if self.served else RETRY_SECONDS)
            await self._try_refresh()

    async def _try_refresh(self) -> None:
        try:
            await self._refresh()
        except GenerationError as error:
            self.failed(error)
        # Whatever else a server's answer causes must not end the watch: captions would never be available again.
        except Exception as error:
            log.exception("cannot find out what the vLLM server at %s serves", self._server.url)
            self.failed(GeneratorUnavailableError(f"the answer of the vLLM server cannot be used: {error}"))

    async def _refresh(self) -> None:
        """Find out what the server serves and how it takes prompts.

        Raises:
            GenerationError: it cannot be reached, or is not what the adapter needs.
        """
        model = self._chosen(await self._server.models(timeout=CHECK_SECONDS))
        if self.served is None or self.served.model != model:
            self.served = await self._probe(model)
            log.info("vLLM at %s serves %s; prompts go to %s", self._server.url, model.id, self.served.route.path)

    def _chosen(self, models: Sequence[ServedModel]) -> ServedModel:
        there = ", ".join(model.id for model in models) or "nothing"
        name, lora = self._embedder.config.name, self._embedder.lora
        if self._wanted is None and lora is not None:
            for model in models:
                if model.parent and (model.id == name or Path(model.root or "").resolve() == lora.resolve()):
                    return model
            raise AdapterMismatchError(
                f"the vLLM server at {self._server.url} serves {there}, but not the LoRA of {name}; start it with "
                f"--enable-lora --lora-modules {name}={lora}, or set SEFAR_VLLM_MODEL to the model to use"
            )
        wanted = self._wanted or self._embedder.language_model
        for model in models:
            if wanted in (model.id, model.root):
                return model
        raise AdapterMismatchError(
            f"the vLLM server at {self._server.url} serves {there}, but not {wanted}, which the adapter {name} "
            "needs; start it with that model, or, if it serves it under another name, set SEFAR_VLLM_MODEL to that name"
        )

    async def _probe(self, model: ServedModel) -> Served:
        """Find the route that takes prompt embeddings; completions first, which give the exact prompt."""
        refused = []
        for route in (Completions(), Chat()):
            try:
                await self._try(Served(model, route))
            except GenerationFailedError as error:
                refused.append(f"{route.path}: {error}")
            else:
                return Served(model, route)
        raise GeneratorUnavailableError(
            f"the vLLM server at {self._server.url} takes no prompt embeddings; start it with --enable-prompt-embeds "
            f"({'; '.join(refused)})"
        )

    async def _try(self, served: Served) -> None:
        """Request one token for a clip of zeros, and check that the whole prompt was read."""
        body, tokens = await asyncio.get_running_loop().run_in_executor(self._prepare, self._trial, served)
        answer = await self._server.post(served.route.path, body, timeout=CHECK_SECONDS)
        read = (answer.get("usage") or {}).get("prompt_tokens", tokens)
        if read != tokens:
            raise GenerationFailedError(
                f"it read {read} of {tokens} prompt tokens: it ignores embeddings, or its chat template differs from "
                "the adapter's"
            )
        self.answered()

    def _trial(self, served: Served) -> tuple[bytes, int]:
        config = self._embedder.config
        clip = ClipFeatures(
            np.zeros(config.embedding_dim, np.float32), np.zeros((config.elements, config.token_dim), np.float32)
        )
        messages = [Message("user", (clip,))]
        prompt = make_prompt(self._embedder.processor, messages)
        body = request(self._embedder, served, Conversation(messages, prompt), {"max_tokens": 1, "temperature": 0.0})
        return body, len(prompt.ids)


def request(
    embedder: PromptEmbedder,
    served: Served,
    conversation: Conversation,
    options: dict[str, Any],
    said: Sequence[int] = (),
) -> bytes:
    """The body of a request, which may have megabytes: do not make it on the event loop.

    Args:
        embedder: the adapter's.
        served: the model and its route.
        conversation: messages and prompt.
        options: further fields.
        said: token ids of the beginning of the answer.
    """
    prompt = served.route.prompt(embedder, conversation, said)
    return json.dumps({"model": served.model.id, **prompt, **options}).encode()
