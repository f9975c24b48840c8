"""From messages to the prompt that the language model reads, and to the options that it is to judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor
from transformers import PreTrainedConfig

from sefar_serve.language.errors import FeatureMismatchError, PromptError, PromptTooLongError
from sefar_serve.language.protocol import ClipFeatures, Message
from sefar_serve.mllm.processor import SefarProcessor


@dataclass(frozen=True, eq=False)
class Prompt:
    """One conversation as the model takes it.

    Attributes:
        ids: token ids, each clip as its placeholders.
        sefar_embedding: float32 (C, embedding_dim), or None without clips.
        sefar_tokens: float32 (C, E, D), or None without clips.
    """

    ids: list[int]
    sefar_embedding: Tensor | None = None
    sefar_tokens: Tensor | None = None

    def followed_by(self, ids: Sequence[int]) -> Prompt:
        """The same with more tokens at its end."""
        return Prompt([*self.ids, *ids], self.sefar_embedding, self.sefar_tokens)


def make_prompt(processor: SefarProcessor, messages: Sequence[Message]) -> Prompt:
    """Write a conversation down for the model.

    Args:
        processor: of the adapter.
        messages: the last is the one to answer.

    Raises:
        PromptError: no message, or a text with a control token in it.
        FeatureMismatchError: a clip's features are of other sizes than the adapter takes.
    """
    if not messages:
        raise PromptError("there is no message; give at least one from the user")
    conversation = [
        {"role": message.role, "content": [_part(content) for content in message.content]} for message in messages
    ]
    text = processor.apply_chat_template(conversation, add_generation_prompt=True)
    # Templates write the control tokens themselves; a second beginning of text would be wrong.
    return _tokenised(processor, str(text), [part for message in messages for part in message.content])


def make_content(processor: SefarProcessor, message: Message) -> Prompt:
    """Write down what one message says, without the template around it.

    Raises:
        PromptError, FeatureMismatchError: as `make_prompt`.
    """
    return _tokenised(processor, processor.flattened([_part(part) for part in message.content]), message.content)


def _tokenised(processor: SefarProcessor, text: str, content: Sequence[str | ClipFeatures]) -> Prompt:
    clips = [part for part in content if isinstance(part, ClipFeatures)]
    features: dict[str, Any] = {}
    if clips:
        shapes = {(clip.embedding.shape, clip.tokens.shape) for clip in clips}
        if len(shapes) > 1:
            raise FeatureMismatchError(
                f"the clips' features differ in shape: {sorted(shapes)}; use one encoder for all"
            )
        features = {
            "sefar_embedding": np.stack([clip.embedding for clip in clips]),
            "sefar_tokens": np.stack([clip.tokens for clip in clips]),
        }
    batch = processor([text], add_special_tokens=False, **features)
    return Prompt(batch["input_ids"][0], batch.get("sefar_embedding"), batch.get("sefar_tokens"))


def _part(content: str | ClipFeatures) -> dict[str, str]:
    return {"type": "text", "text": content} if isinstance(content, str) else {"type": "video"}


def option_ids(processor: SefarProcessor, options: Sequence[str]) -> list[list[int]]:
    """Token ids of each option as a whole answer, the end of the turn included.

    Raises:
        PromptError: there is no option, an empty one, or one with a control token in it.
    """
    if not options or not all(option.strip() for option in options):
        raise PromptError("options must be at least one text, none of them empty")
    tokenizer = processor.tokenizer
    return [
        [*tokenizer(processor.checked(option), add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        for option in options
    ]


def context_length(config: PreTrainedConfig) -> int:
    """Most tokens that a language model takes, prompt and answer together; one without a limit gets a million."""
    return int(getattr(config, "max_position_embeddings", None) or 1_000_000)


def answer_length(prompt_tokens: int, context: int, wanted: int | None, default: int) -> int:
    """How many tokens an answer may have.

    Args:
        prompt_tokens: of the prompt.
        context: most tokens of prompt and answer together.
        wanted: what the request asks for; None for the default.
        default: for requests that do not say.

    Returns:
        What is wanted, or what the context leaves if that is less.

    Raises:
        PromptTooLongError: the prompt leaves no room for an answer.
    """
    room = context - prompt_tokens
    if room < 1:
        raise PromptTooLongError(
            f"the prompt has {prompt_tokens} tokens, and prompt and answer together may have {context}; shorten it"
        )
    return min(default if wanted is None else wanted, room)
