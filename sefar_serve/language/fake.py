"""A generator without a language model, for tests of everything around one.

Its answer names the clips and repeats the question, so a test can predict it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

from sefar_serve.language.errors import (
    GenerationError,
    GeneratorUnavailableError,
    PromptError,
    PromptTooLongError,
)
from sefar_serve.language.protocol import (
    PLACEHOLDER,
    ClipFeatures,
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


class FakeGenerator:
    """Answers a word at a time. See `sefar_serve.language.protocol.Generator`.

    Args:
        answer: text of every answer; None makes one from the clips' first feature and the question.
        delay: seconds before each word.
        failure: raised by every call and health check instead of an answer.
        fail_after: number of words after which `failure` is raised, in the middle of an answer; 0 raises it at once.
    """

    def __init__(
        self,
        answer: str | None = None,
        *,
        delay: float = 0.0,
        failure: GenerationError | None = None,
        fail_after: int = 0,
    ) -> None:
        self.answer = answer
        self.delay = delay
        self.failure = failure
        self.fail_after = fail_after
        self.started = False
        self.running = 0
        self.completed = 0
        self.asked: list[tuple[tuple[Message, ...], GenerationOptions]] = []

    @property
    def info(self) -> GeneratorInfo:
        """A name and a short context."""
        return GeneratorInfo("fake-captioner", context_length=256, backend="fake", language_model="none")

    @property
    def queue_depth(self) -> int:
        """Number of running answers; there is no queue."""
        return self.running

    async def start(self) -> None:
        """Become ready."""
        self.started = True

    async def close(self) -> None:
        """Stop being ready."""
        self.started = False

    async def check(self) -> None:
        """Raise `failure` if there is one, unless it is for the middle of an answer."""
        if self.failure is not None and self.fail_after == 0:
            raise self.failure
        if not self.started:
            raise GeneratorUnavailableError("the generator is not running")

    def fits(self, metadata: ModelMetadata) -> None:
        """Accept every encoder."""

    async def generate(self, messages: Sequence[Message], options: GenerationOptions) -> AsyncGenerator[Piece, None]:
        """Answer with the clips it was given, then the last text, one word per piece."""
        await self.check()
        prompt_tokens = self._prompt_tokens(messages)
        self.asked.append((tuple(messages), options))
        words = (self.answer if self.answer is not None else self._echo(messages)).split(" ")
        allowed = words if options.max_tokens is None else words[: options.max_tokens]
        self.running += 1
        try:
            for number, word in enumerate(allowed):
                await asyncio.sleep(self.delay)
                if self.failure is not None and number == self.fail_after:
                    raise self.failure
                yield Piece(word if number == 0 else " " + word)
            self.completed += 1
            finished: FinishReason = "stop" if len(allowed) == len(words) else "length"
            yield Piece("", finished, TokenUsage(prompt_tokens, len(allowed)))
        finally:
            self.running -= 1

    async def score(self, messages: Sequence[Message], options: Sequence[str]) -> Scores:
        """Score options by how much they differ from the expected answer: -1 nat per different word."""
        await self.check()
        prompt_tokens = self._prompt_tokens(messages)
        expected = set((self.answer or "").split(" "))
        scored = tuple(
            OptionScore(-float(len(set(option.split(" ")) ^ expected)), len(option.split(" "))) for option in options
        )
        return Scores(scored, TokenUsage(prompt_tokens, sum(score.tokens for score in scored)))

    def _prompt_tokens(self, messages: Sequence[Message]) -> int:
        texts = [part for message in messages for part in message.content if isinstance(part, str)]
        if any(PLACEHOLDER in text for text in texts):
            raise PromptError(f"a text contains {PLACEHOLDER}, which is reserved for clips; remove it")
        tokens = sum(len(text.split(" ")) for text in texts)
        limit = self.info.context_length
        if tokens > limit:
            raise PromptTooLongError(f"the prompt has {tokens} tokens, more than the limit of {limit}; shorten it")
        return tokens

    @staticmethod
    def _echo(messages: Sequence[Message]) -> str:
        parts = [part for message in messages for part in message.content]
        clips = [f"clip {part.embedding[0]:g}" for part in parts if isinstance(part, ClipFeatures)]
        texts = [part for part in parts if isinstance(part, str)]
        return " ".join([*clips, *texts[-1:]])
