"""Answers in the format of OpenAI's clients: one completion, or a stream of chunks."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from sefar_serve.language.replies import Reply
from sefar_serve.schemas.chat import (
    AssistantMessage,
    CaptionUsage,
    ChatChoice,
    ChatCompletion,
    Choice,
    SeenClip,
    SefarBlock,
    TokenUsage,
)
from sefar_serve.schemas.problem import problem_of


@dataclass(frozen=True)
class Envelope:
    """The fields that all parts of one answer share.

    Attributes:
        id: id of the answer.
        model: name of the model that answers.
        clips: the clips of the conversation.
        created: Unix seconds.
    """

    id: str
    model: str
    clips: list[SeenClip]
    created: int = field(default_factory=lambda: int(time.time()))

    def completion(self, reply: Reply) -> ChatCompletion:
        """The whole answer."""
        return ChatCompletion(
            id=self.id,
            created=self.created,
            model=self.model,
            choices=[ChatChoice(message=AssistantMessage(content=reply.text), finish_reason=reply.finish_reason)],
            usage=usage(reply),
            sefar=self._block(reply),
        )

    def opening(self) -> str:
        """The first event of a stream: the role."""
        return self._chunk({"role": "assistant", "content": "", "refusal": None})

    def delta(self, text: str) -> str:
        """The event for a part of the text."""
        return self._chunk({"content": text})

    def closing(self, reply: Reply, include_usage: bool) -> str:
        """The last events: why the text ended, the `sefar` block, and the usage if requested."""
        events = self._chunk({}, reply.finish_reason, sefar=self._block(reply).model_dump(mode="json"))
        if include_usage:
            events += self._event(choices=[], usage=usage(reply).model_dump())
        return events + "data: [DONE]\n\n"

    def _block(self, reply: Reply) -> SefarBlock:
        return SefarBlock(
            clips=self.clips,
            agreement=reply.agreement,
            named_label=reply.named_label,
            notice=reply.notice,
            abstained=reply.abstained,
            options=None if reply.choices is None else [Choice(**asdict(choice)) for choice in reply.choices],
        )

    def _chunk(self, delta: dict[str, Any], finish_reason: str | None = None, **more: Any) -> str:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return self._event(choices=[choice], **more)

    def _event(self, **fields: Any) -> str:
        common = {"id": self.id, "object": "chat.completion.chunk", "created": self.created, "model": self.model}
        return f"data: {json.dumps(common | fields, ensure_ascii=False)}\n\n"


def failure(error: Exception) -> str:
    """The event for an error in the middle of a stream; OpenAI's clients raise it as an exception."""
    return f"data: {json.dumps({'error': problem_of(error).body.model_dump()})}\n\n"


def usage(reply: Reply) -> TokenUsage:
    """Tokens used for an answer."""
    spent = reply.usage
    return TokenUsage(
        prompt_tokens=spent.prompt_tokens,
        completion_tokens=spent.completion_tokens,
        total_tokens=spent.prompt_tokens + spent.completion_tokens,
    )


def total_usage(replies: Sequence[Reply]) -> CaptionUsage:
    """Tokens used for several captions."""
    each = [usage(reply) for reply in replies]
    return CaptionUsage(
        prompt_tokens=sum(one.prompt_tokens for one in each),
        completion_tokens=sum(one.completion_tokens for one in each),
        total_tokens=sum(one.total_tokens for one in each),
        clips=len(each),
    )
