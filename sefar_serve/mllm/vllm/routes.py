"""The two endpoints where vLLM takes prompt embeddings, and the format of their answers.

Completions take the whole prompt as one tensor: the template is rendered and tokenised here, just as for the
model in this process, so the model reads the same rows. Every vLLM with prompt embeddings has this endpoint, so
it is preferred. For chat (vLLM 0.21 and later) the server renders its template around the parts of the content;
the result is the same if template and tokenizer are the same. It is for proxies that let only chat requests through.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sefar_serve.language.protocol import ClipFeatures, Message
from sefar_serve.mllm.prompt import Prompt, make_content
from sefar_serve.mllm.prompt_embeddings import PromptEmbedder, serialized


@dataclass(frozen=True, eq=False)
class Conversation:
    """The messages of a request, and the whole prompt made from them."""

    messages: Sequence[Message]
    prompt: Prompt


class Route(Protocol):
    """One of the server's endpoints."""

    path: str

    def prompt(self, embedder: PromptEmbedder, conversation: Conversation, said: Sequence[int]) -> dict[str, Any]:
        """The fields that carry a prompt.

        Args:
            embedder: makes the rows.
            conversation: messages and prompt.
            said: token ids of the beginning of the answer, which the model continues.
        """

    def judging(self) -> dict[str, Any]:
        """The fields that ask for the log-probability of the generated token."""

    def text(self, choice: dict[str, Any]) -> str:
        """The text that a streamed event adds to the answer."""

    def judged(self, choice: dict[str, Any]) -> tuple[str, float]:
        """The generated token and its log-probability."""


class Completions:
    """``/v1/completions``."""

    path = "/v1/completions"

    def prompt(self, embedder: PromptEmbedder, conversation: Conversation, said: Sequence[int]) -> dict[str, Any]:
        """All rows in one tensor."""
        return {"prompt_embeds": serialized(embedder.rows(conversation.prompt.followed_by(said)))}

    def judging(self) -> dict[str, Any]:
        """``logprobs`` is a number in this older API."""
        return {"logprobs": 1}

    def text(self, choice: dict[str, Any]) -> str:
        """The text is directly in the choice."""
        return str(choice.get("text") or "")

    def judged(self, choice: dict[str, Any]) -> tuple[str, float]:
        """Tokens and log-probabilities are in parallel lists."""
        return str(choice["logprobs"]["tokens"][0]), float(choice["logprobs"]["token_logprobs"][0])


class Chat:
    """``/v1/chat/completions``: messages with clips are sent as rows of their whole content, others as text."""

    path = "/v1/chat/completions"

    def prompt(self, embedder: PromptEmbedder, conversation: Conversation, said: Sequence[int]) -> dict[str, Any]:
        """Messages; the beginning of the answer is an unfinished last message."""
        messages = [
            {"role": message.role, "content": self._content(embedder, message)} for message in conversation.messages
        ]
        if not said:
            return {"messages": messages}
        begun = [{"type": "prompt_embeds", "data": serialized(embedder.rows(Prompt(list(said))))}]
        return {
            "messages": [*messages, {"role": "assistant", "content": begun}],
            "continue_final_message": True,
            "add_generation_prompt": False,
        }

    def judging(self) -> dict[str, Any]:
        """``logprobs`` is a flag in this API."""
        return {"logprobs": True, "top_logprobs": 0}

    def text(self, choice: dict[str, Any]) -> str:
        """The text is in the delta."""
        return str((choice.get("delta") or {}).get("content") or "")

    def judged(self, choice: dict[str, Any]) -> tuple[str, float]:
        """Each token is a record with its log-probability."""
        token = choice["logprobs"]["content"][0]
        return str(token["token"]), float(token["logprob"])

    @staticmethod
    def _content(embedder: PromptEmbedder, message: Message) -> str | list[dict[str, str]]:
        if not any(isinstance(part, ClipFeatures) for part in message.content):
            return "\n".join(str(part) for part in message.content)
        rows = embedder.rows(make_content(embedder.processor, message))
        return [{"type": "prompt_embeds", "data": serialized(rows)}]
