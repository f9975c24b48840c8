"""The processor: from messages with clips in them to the inputs of the multimodal model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from transformers import AddedToken, BatchFeature, PreTrainedTokenizerBase, ProcessorMixin

from sefar_serve.language.errors import FeatureMismatchError, PromptError
from sefar_serve.language.protocol import PLACEHOLDER

PLAIN_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)
"""For language models without a chat template."""


class SefarProcessor(ProcessorMixin):  # type: ignore[misc]
    """Turns text with one placeholder per clip, and the clips' features, into a batch for the model.

    Args:
        tokenizer: the language model's fast tokenizer; the placeholder is added to it if it is missing.
        embedding_dim: width of the clip embedding.
        token_dim: width D of the element tokens.
        elements: E; a clip becomes 1 + E soft tokens.
        chat_template: Jinja template of a conversation; None for the tokenizer's own.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        embedding_dim: int = 256,
        token_dim: int = 384,
        elements: int = 3,
        chat_template: str | None = None,
    ) -> None:
        if PLACEHOLDER not in tokenizer.get_vocab():
            tokenizer.add_tokens([AddedToken(PLACEHOLDER, special=True, normalized=False)], special_tokens=True)
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        tokenizer.padding_side = "left"  # what generation needs; training masks padding either way
        self.embedding_dim = embedding_dim
        self.token_dim = token_dim
        self.elements = elements
        super().__init__(tokenizer, chat_template=chat_template or tokenizer.chat_template or PLAIN_TEMPLATE)

    @property
    def sefar_token_id(self) -> int:
        """Id of the placeholder."""
        return int(self.tokenizer.convert_tokens_to_ids(PLACEHOLDER))

    @property
    def soft_tokens(self) -> int:
        """Number of soft tokens per clip."""
        return 1 + self.elements

    def __call__(
        self,
        text: str | Sequence[str],
        sefar_embedding: ArrayLike | Tensor | None = None,
        sefar_tokens: ArrayLike | Tensor | None = None,
        **options: Any,
    ) -> BatchFeature:
        """Tokenise prompts, with each placeholder expanded to the soft tokens of its clip.

        Args:
            text: one prompt or several, each with one placeholder per clip.
            sefar_embedding: float (C, embedding_dim), the clips of all prompts in reading order; for a single
                clip the first axis may be missing.
            sefar_tokens: float (C, E, D).
            options: passed to the tokenizer, e.g. ``padding``, ``return_tensors``.

        Raises:
            PromptError: the prompts do not have exactly C placeholders.
            FeatureMismatchError: the features have other sizes than the processor takes.
        """
        texts = [text] if isinstance(text, str) else list(text)
        features = self._features(sefar_embedding, sefar_tokens)
        placeholders = sum(prompt.count(PLACEHOLDER) for prompt in texts)
        clips = len(features["sefar_embedding"]) if features else 0
        if placeholders != clips:
            raise PromptError(
                f"{placeholders} placeholders {PLACEHOLDER} for {clips} clips; write one for each clip, in order"
            )
        expanded = [prompt.replace(PLACEHOLDER, PLACEHOLDER * self.soft_tokens) for prompt in texts]
        options.setdefault("return_token_type_ids", False)
        batch = self.tokenizer(expanded if not isinstance(text, str) or features else expanded[0], **options)
        return BatchFeature({**batch, **features})

    def apply_chat_template(
        self,
        conversation: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool = False,
        tokenize: bool = False,
        sefar_embedding: ArrayLike | Tensor | None = None,
        sefar_tokens: ArrayLike | Tensor | None = None,
        **options: Any,
    ) -> str | BatchFeature:
        """Render a conversation with the language model's chat template.

        Args:
            conversation: messages with ``role`` and ``content``: a string, or parts of ``{"type": "text", "text": …}``
                and ``{"type": "video"}``.
            add_generation_prompt: end with the beginning of the assistant's turn.
            tokenize: return the batch for the model instead of the text.
            sefar_embedding: with `tokenize`, see `__call__`.
            sefar_tokens: with `tokenize`, see `__call__`.
            options: with `tokenize`, passed to the tokenizer.

        Raises:
            PromptError: a text contains a control token, or a part is neither text nor video.
        """
        messages = [{**message, "content": self.flattened(message["content"])} for message in conversation]
        text: str = self.tokenizer.apply_chat_template(
            messages, chat_template=self.chat_template, add_generation_prompt=add_generation_prompt, tokenize=False
        )
        if not tokenize:
            return text
        # Templates write the control tokens themselves; a second beginning-of-text token would be wrong.
        return self(text, sefar_embedding, sefar_tokens, add_special_tokens=False, return_tensors="pt", **options)

    def flattened(self, content: str | Sequence[Mapping[str, Any]]) -> str:
        """A message's parts as one text, with a placeholder for each clip.

        Raises:
            PromptError: see `apply_chat_template`.
        """
        parts: Sequence[Mapping[str, Any]] = (
            [{"type": "text", "text": content}] if isinstance(content, str) else content
        )
        texts = []
        for part in parts:
            if part.get("type") == "video":
                texts.append(PLACEHOLDER)
            elif part.get("type") == "text":
                texts.append(self.checked(part["text"]))
            else:
                raise PromptError(f"a message part has type {part.get('type')!r}; use 'text' or 'video'")
        return "\n".join(texts)

    def checked(self, text: str) -> str:
        """Return the text if it contains no control token.

        Raises:
            PromptError: it contains a control token, which would end a turn or stand for a clip.
        """
        for token in self.tokenizer.added_tokens_decoder.values():
            if token.special and token.content in text:
                raise PromptError(
                    f"a text contains {token.content}, which is a control token of the language model; remove it"
                )
        return text

    def _features(
        self, sefar_embedding: ArrayLike | Tensor | None, sefar_tokens: ArrayLike | Tensor | None
    ) -> dict[str, Tensor]:
        if sefar_embedding is None and sefar_tokens is None:
            return {}
        if sefar_embedding is None or sefar_tokens is None:
            raise FeatureMismatchError("a clip needs both sefar_embedding and sefar_tokens; one of them is missing")
        embedding, tokens = _float(sefar_embedding), _float(sefar_tokens)
        embedding = embedding[None] if embedding.ndim == 1 else embedding
        tokens = tokens[None] if tokens.ndim == 2 else tokens
        clips = len(embedding)
        wanted = (clips, self.embedding_dim), (clips, self.elements, self.token_dim)
        if (tuple(embedding.shape), tuple(tokens.shape)) != wanted:
            raise FeatureMismatchError(
                f"features of shapes {tuple(embedding.shape)} and {tuple(tokens.shape)}, but this adapter takes "
                f"{wanted[0]} and {wanted[1]}; use the encoder that it was trained with"
            )
        return {"sefar_embedding": embedding, "sefar_tokens": tokens}


def _float(values: ArrayLike | Tensor) -> Tensor:
    return values.float() if isinstance(values, Tensor) else torch.from_numpy(np.array(values, np.float32))
