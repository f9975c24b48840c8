"""The remote generator: the language model runs on an external vLLM server, to which the gateway sends whole prompts.

The gateway limits the number of requests in flight, sends only tensors that it built itself, and takes no answer
from a model that the adapter was not trained for. Classification continues while the server is down.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from sefar_serve.language.errors import (
    GenerationFailedError,
    GeneratorOverloadedError,
    GeneratorUnavailableError,
    PromptTooLongError,
)
from sefar_serve.language.protocol import (
    FinishReason,
    GenerationOptions,
    GeneratorInfo,
    Message,
    OptionScore,
    Piece,
    Scores,
    TokenUsage,
)
from sefar_serve.metadata import ModelMetadata
from sefar_serve.mllm.adapter import check_encoder
from sefar_serve.mllm.prompt import answer_length, make_prompt, option_ids
from sefar_serve.mllm.prompt_embeddings import PromptEmbedder
from sefar_serve.mllm.vllm.judging import forced_logprob, forcing, judged
from sefar_serve.mllm.vllm.routes import Conversation
from sefar_serve.mllm.vllm.server import ServerLostError, VllmServer
from sefar_serve.mllm.vllm.upstream import Served, Upstream, request

JUDGING = 8
"""Maximum number of one-token requests in flight, for all options being scored."""

P = ParamSpec("P")
T = TypeVar("T")


class VllmGenerator:
    """Generates with a vLLM server started with ``--enable-prompt-embeds``.

    See `sefar_serve.language.protocol.Generator`. There are two routes for prompt embeddings. The completions API is
    preferred: it takes our own rendering of the template, so the model reads exactly what it would read in this
    process. The chat API is used if nothing else gets through. Scoring options takes one request per token; tokens
    that several options begin with are requested once. The server's prefix cache makes these requests cheap for the
    server, but each one carries the whole prompt: about 11 KB per token for a model of width 4,096 in bfloat16.

    Two things may differ from a model in this process: a repetition penalty in the model's generation settings does
    not see a prompt of embeddings, and log-probabilities include the placeholder if the model has a row for it.

    Args:
        adapter: folder or hub id.
        url: URL of the server, with or without ``/v1``.
        model: the server's name for the model; None for the adapter's LoRA, or the language model's own name.
        api_key: the value of the server's ``--api-key``; None for none.
        max_inflight: maximum number of requests in flight; more are refused.
        max_tokens: default maximum length of an answer, in tokens.
        timeout: seconds without a token after which an answer counts as lost.
        language_model: folder or hub id from which to read the embedding table, instead of the one that the adapter
            names.

    Raises:
        AdapterNotFoundError, AdapterMismatchError: see `sefar_serve.mllm.prompt_embeddings.PromptEmbedder`.
    """

    def __init__(
        self,
        adapter: str | Path,
        url: str,
        *,
        model: str | None = None,
        api_key: str | None = None,
        max_inflight: int = 64,
        max_tokens: int = 128,
        timeout: float = 60.0,
        language_model: str | None = None,
    ) -> None:
        self._embedder = PromptEmbedder(adapter, language_model=language_model)
        # Fast tokenizers must not be used from two threads at a time.
        self._prepare = ThreadPoolExecutor(1, thread_name_prefix="sefar-prompt")
        self._server = VllmServer(url, api_key=api_key, timeout=timeout)
        self._upstream = Upstream(self._server, self._embedder, model, self._prepare)
        self._max_inflight = max_inflight
        self._max_tokens = max_tokens
        self._judging = asyncio.Semaphore(JUDGING)
        self._inflight = 0
        self._running = False

    @property
    def info(self) -> GeneratorInfo:
        """The adapter's name and its language model; the context length is the server's once it is known."""
        served = self._upstream.served
        said = served.model.max_model_len if served else None
        return GeneratorInfo(
            name=self._embedder.config.name,
            context_length=said or self._embedder.context_length,
            backend="vllm",
            language_model=self._embedder.language_model,
        )

    @property
    def queue_depth(self) -> int:
        """Number of requests sent but not yet answered."""
        return self._inflight

    async def start(self) -> None:
        """Check the server. If it cannot be reached or is misconfigured, keep checking it in the background."""
        await self._upstream.start()
        self._running = True

    async def close(self) -> None:
        """Cancel requests in flight, on the server too."""
        self._running = False
        await self._upstream.close()
        await self._server.close()
        await asyncio.to_thread(self._prepare.shutdown)

    async def check(self) -> None:
        """Check that the server answers: request a token, unless one came recently.

        Raises:
            GeneratorUnavailableError: the generator is not started or is closing; or the server cannot be reached
                or takes no prompt embeddings.
            AdapterMismatchError: the server serves a different model.
        """
        self._refuse_unless_running()
        await self._upstream.check()

    def fits(self, metadata: ModelMetadata) -> None:
        """Check that the encoder is the one that the adapter was trained with.

        Raises:
            AdapterMismatchError: name, version or sizes differ.
        """
        check_encoder(self._embedder.config, metadata)

    async def generate(self, messages: Sequence[Message], options: GenerationOptions) -> AsyncGenerator[Piece, None]:
        """Answer a conversation, see `sefar_serve.language.protocol.Generator.generate`."""
        with self._slot() as served:
            conversation = await self._off_loop(self._conversation, messages)
            prompt_tokens = len(conversation.prompt.ids)
            allowed = answer_length(prompt_tokens, self.info.context_length, options.max_tokens, self._max_tokens)
            fields = self._sampling(options, allowed)
            body = await self._off_loop(request, self._embedder, served, conversation, fields)
            reason: FinishReason = "stop"
            usage, events = None, 0
            async with aclosing(self._server.stream(served.route.path, body)) as stream:
                async for event in stream:
                    self._upstream.answered()
                    usage = event.get("usage") or usage
                    for choice in event.get("choices", ()):
                        events += 1
                        reason = _reason(choice) or reason
                        if text := served.route.text(choice):
                            yield Piece(text)
            completion_tokens = int(usage["completion_tokens"]) if usage else events
            yield Piece("", reason, TokenUsage(prompt_tokens, completion_tokens))

    async def score(self, messages: Sequence[Message], options: Sequence[str]) -> Scores:
        """Score options, see `sefar_serve.language.protocol.Generator.score`."""
        with self._slot() as served:
            conversation = await self._off_loop(self._conversation, messages)
            ids = await self._off_loop(option_ids, self._embedder.processor, options)
            prompt_tokens = len(conversation.prompt.ids)
            if (longest := prompt_tokens + max(map(len, ids))) > self.info.context_length:
                raise PromptTooLongError(
                    f"the prompt with its longest option has {longest} tokens, but this model takes "
                    f"{self.info.context_length}; shorten it"
                )

            async def ask(said: tuple[int, ...], token: int) -> float:
                async with self._judging:
                    fields = forcing(served.route, token)
                    body = await self._off_loop(request, self._embedder, served, conversation, fields, said)
                    answer = await self._server.post(served.route.path, body)
                self._upstream.answered()
                return forced_logprob(served.route, token, answer)

            sums = await judged(ask, ids)
        scored = tuple(OptionScore(total, len(option)) for total, option in zip(sums, ids, strict=True))
        return Scores(scored, TokenUsage(prompt_tokens, sum(map(len, ids))))

    def _conversation(self, messages: Sequence[Message]) -> Conversation:
        return Conversation(messages, make_prompt(self._embedder.processor, messages))

    def _sampling(self, options: GenerationOptions, allowed: int) -> dict[str, Any]:
        fields: dict[str, Any] = {
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_tokens": allowed,
            "temperature": options.temperature,
            "top_p": max(options.top_p, 1e-6),  # vLLM refuses 0, which means the most probable token alone
            "top_k": 0,  # overrides one in the model's own generation settings
            "stop": [stop for stop in options.stop if stop],
            "stop_token_ids": sorted(self._embedder.ends),
        }
        if options.seed is not None:
            fields["seed"] = options.seed
        if (row := self._embedder.placeholder_row) is not None:
            fields["logit_bias"] = {str(row): -100}  # the placeholder must never be sampled
        return fields

    async def _off_loop(self, make: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """Run a function in the only thread that may tokenise."""
        return await asyncio.get_running_loop().run_in_executor(self._prepare, lambda: make(*arguments, **named))

    @contextmanager
    def _slot(self) -> Iterator[Served]:
        """Take a slot for a request in flight; lost connections are noticed here first."""
        self._refuse_unless_running()
        served = self._upstream.ready()
        if self._inflight >= self._max_inflight:
            raise GeneratorOverloadedError(
                f"{self._inflight} requests are already at the language model; try again later"
            )
        self._inflight += 1
        try:
            yield served
        except ServerLostError as error:
            self._refuse_unless_running()
            self._upstream.failed(error)
            raise
        finally:
            self._inflight -= 1

    def _refuse_unless_running(self) -> None:
        if not self._running:
            raise GeneratorUnavailableError("the server is starting or shutting down; try again later")


def _reason(choice: dict[str, Any]) -> FinishReason | None:
    match choice.get("finish_reason"):
        case None:
            return None
        case "length":
            return "length"
        case "abort" | "error":
            raise GenerationFailedError("the vLLM server aborted this answer; send the request again")
        case _:
            return "stop"
