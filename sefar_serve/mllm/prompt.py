"""From messages to the prompt that the language model reads, and to the options that it scores."""

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
        """This prompt with more tokens at its end."""
        return Prompt([*self.ids, *ids], self.sefar_embedding, self.sefar_tokens)


def make_prompt(processor: SefarProcessor, messages: Sequence[Message]) -> Prompt:
    """Render and tokenise a conversation.

    Args:
        processor: the adapter's processor.
        messages: at least one; the last is the one to answer.

    Raises:
        PromptError: there is no message, or a text contains a control token.
        FeatureMismatchError: a clip's features have other sizes than the adapter takes.
    """
    if not messages:
        raise PromptError("there is no message; give at least one from the user")
    conversation = [
        {"role": message.role, "content": [_part(content) for content in message.content]} for message in messages
    ]
    text = processor.apply_chat_template(conversation, add_generation_prompt=True)
    # Templates write the control tokens themselves; a second beginning-of-text token would be wrong.
    return _tokenised(processor, str(text), [part for message in messages for part in message.content])


def make_content(processor: SefarProcessor, message: Message) -> Prompt:
    """Tokenise the content of one message, without the template around it.

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
    """Token ids of each option as a whole answer, including the end token.

    Raises:
        PromptError: there is no option, an option is empty, or one contains a control token.
    """
    if not options or not all(option.strip() for option in options):
        raise PromptError("give at least one option, and none of them empty")
    tokenizer = processor.tokenizer
    return [
        [*tokenizer(processor.checked(option), add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        for option in options
    ]


def context_length(config: PreTrainedConfig) -> int:
    """Maximum number of tokens of prompt and answer together; a million for a language model without a limit."""
    return int(getattr(config, "max_position_embeddings", None) or 1_000_000)


def answer_length(prompt_tokens: int, context: int, wanted: int | None, default: int) -> int:
    """How many tokens an answer may have.

    Args:
        prompt_tokens: number of tokens of the prompt.
        context: maximum number of tokens of prompt and answer together.
        wanted: number that the request asks for; None for the default.
        default: number for requests that do not ask for any.

    Returns:
        The number wanted, or the room left in the context if that is less.

    Raises:
        PromptTooLongError: the prompt leaves no room for an answer.
    """
    room = context - prompt_tokens
    if room < 1:
        raise PromptTooLongError(
            f"the prompt has {prompt_tokens} tokens, but prompt and answer together may have {context}; "
            "shorten the prompt"
        )
    return min(default if wanted is None else wanted, room)
