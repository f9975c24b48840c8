"""The remote generator: the language model runs in an external vLLM, which the gateway hands finished prompts.

The gateway keeps its own promises: a bound on requests under way, tensors that it built itself and nobody else,
and no answer from a model that the adapter was not trained for. Labels go on while the server is away.
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
from sefar_serve.mllm.vllm.judging import forcing, judged, told
from sefar_serve.mllm.vllm.routes import Conversation
from sefar_serve.mllm.vllm.server import ServerLostError, VllmServer
from sefar_serve.mllm.vllm.upstream import Served, Upstream, request

JUDGING = 8
"""Most one-token requests under way at a time for all options that are judged."""

P = ParamSpec("P")
T = TypeVar("T")


class VllmGenerator:
    """Answers with a vLLM started with ``--enable-prompt-embeds``. See `sefar_serve.language.protocol.Generator`.

    Of the two routes for prompt embeddings the completions API is preferred: it carries our own rendering of the
    template, so the model reads exactly what it would read in this process; chat is used where only that is let
    through. Log-probabilities of options cost one request for each of their tokens, less those that options begin
    with in common. The server's prefix cache makes them cheap there; here each carries the whole prompt, some
    11 KB a token for a model 4,096 wide in bfloat16.

    Two things may differ from a model in this process: a repetition penalty in the model's generation settings
    cannot see a prompt of embeddings, and log-probabilities count the placeholder where the model has a row for it.

    Args:
        adapter: folder or hub id.
        url: of the server, with or without ``/v1``.
        model: what the server calls the model; None for the adapter's LoRA, or the language model's own name.
        api_key: what the server's ``--api-key`` is.
        max_inflight: most requests under way; one more is refused.
        max_tokens: length of an answer where the request does not say.
        timeout: seconds without a token after which an answer counts as lost.
        language_model: folder or hub id to read the embedding table from, instead of the place that the adapter
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
        """The adapter's name, and what the server says of the model once it is known."""
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
        """Requests sent and not yet answered."""
        return self._inflight

    async def start(self) -> None:
        """Look for the server. One that is not there yet, or not as it should be, is waited for in the background."""
        await self._upstream.start()
        self._running = True

    async def close(self) -> None:
        """Give up what is under way, which ends it on the server too."""
        self._running = False
        await self._upstream.close()
        await self._server.close()
        await asyncio.to_thread(self._prepare.shutdown)

    async def check(self) -> None:
        """Prove that it answers; a token that came a moment ago is proof enough.

        Raises:
            GeneratorUnavailableError: not started, closing, not reachable, or without prompt embeddings.
            AdapterMismatchError: it serves another model.
        """
        self._refuse_unless_running()
        await self._upstream.check()

    def fits(self, metadata: ModelMetadata) -> None:
        """Compare the encoder with the one that the adapter was trained with.

        Raises:
            AdapterMismatchError: name, version or sizes differ.
        """
        check_encoder(self._embedder.config, metadata)

    async def generate(self, messages: Sequence[Message], options: GenerationOptions) -> AsyncGenerator[Piece, None]:
        """Answer a conversation, see `sefar_serve.language.protocol.Generator.generate`."""
        with self._place() as served:
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
        """Judge options, see `sefar_serve.language.protocol.Generator.score`."""
        with self._place() as served:
            conversation = await self._off_loop(self._conversation, messages)
            ids = await self._off_loop(option_ids, self._embedder.processor, options)
            prompt_tokens = len(conversation.prompt.ids)
            if (longest := prompt_tokens + max(map(len, ids))) > self.info.context_length:
                raise PromptTooLongError(
                    f"the prompt with its longest option has {longest} tokens, this model takes "
                    f"{self.info.context_length}; shorten it"
                )

            async def ask(said: tuple[int, ...], token: int) -> float:
                async with self._judging:
                    fields = forcing(served.route, token)
                    body = await self._off_loop(request, self._embedder, served, conversation, fields, said)
                    answer = await self._server.post(served.route.path, body)
                self._upstream.answered()
                return told(served.route, token, answer)

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
            "top_k": 0,  # the model's own generation settings may have one, which nobody asked for
            "stop": [stop for stop in options.stop if stop],
            "stop_token_ids": sorted(self._embedder.ends),
        }
        if options.seed is not None:
            fields["seed"] = options.seed
        if (row := self._embedder.placeholder_row) is not None:
            fields["logit_bias"] = {str(row): -100}  # it stands for clips and is nothing that can be said
        return fields

    async def _off_loop(self, make: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """Run something in the one thread that may tokenise."""
        return await asyncio.get_running_loop().run_in_executor(self._prepare, lambda: make(*arguments, **named))

    @contextmanager
    def _place(self) -> Iterator[Served]:
        """A place among those under way; gone connections are noticed here first."""
        self._refuse_unless_running()
        served = self._upstream.ready()
        if self._inflight >= self._max_inflight:
            raise GeneratorOverloadedError(
                f"{self._inflight} requests are with the language model already; try again later"
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
            raise GeneratorUnavailableError("the language model is not taking requests: the server starts or stops")


def _reason(choice: dict[str, Any]) -> FinishReason | None:
    match choice.get("finish_reason"):
        case None:
            return None
        case "length":
            return "length"
        case "abort" | "error":
            raise GenerationFailedError("the vLLM server gave this answer up")
        case _:
            return "stop"
