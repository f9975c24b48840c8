"""The projector: turns the encoder's features of a clip into soft tokens of a language model."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sefar_serve.language.errors import FeatureMismatchError, PromptError


class SefarProjector(nn.Module):
    """Projects the clip embedding and the element tokens to soft tokens of the language model's width.

    Args:
        embedding_dim: width of the clip embedding.
        token_dim: width D of the element tokens.
        elements: E, the number of temporal elements.
        hidden: width of the language model.
    """

    def __init__(self, embedding_dim: int, token_dim: int, elements: int, hidden: int) -> None:
        super().__init__()
        self.embedding_dim = embedding_dim
        self.token_dim = token_dim
        self.elements = elements
        self.embedding = _projection(embedding_dim, hidden)
        self.tokens = _projection(token_dim, hidden)
        self.position = nn.Parameter(torch.zeros(1 + elements, hidden))

    def forward(self, sefar_embedding: Tensor, sefar_tokens: Tensor) -> Tensor:
        """Project clips, (C, embedding_dim) and (C, E, D), to soft tokens (C, 1+E, hidden), the embedding first."""
        soft = torch.cat([self.embedding(sefar_embedding).unsqueeze(1), self.tokens(sefar_tokens)], dim=1)
        return soft + self.position

    def placed(
        self, words: Tensor, is_clip: Tensor, sefar_embedding: Tensor | None, sefar_tokens: Tensor | None
    ) -> Tensor:
        """Put the clips' soft tokens in the place of their placeholders in a prompt's embeddings.

        Args:
            words: float (B, L, hidden), the embeddings from the language model's table.
            is_clip: bool (B, L), True for the placeholders, 1 + E for each clip.
            sefar_embedding: float (C, embedding_dim), the clips of all rows in reading order; None for no clip.
            sefar_tokens: float (C, E, D).

        Raises:
            FeatureMismatchError: the features have other sizes than the projector takes.
            PromptError: the number of placeholders does not fit the clips.
        """
        each = 1 + self.elements
        places, clips = int(is_clip.sum()), 0 if sefar_embedding is None else len(sefar_embedding)
        if places != clips * each:
            raise PromptError(
                f"the prompt has {places} placeholders, but {clips} clips need {clips * each} ({each} each); "
                "let SefarProcessor write them"
            )
        if sefar_embedding is None or sefar_tokens is None or clips == 0:
            return words
        wanted = (clips, self.embedding_dim), (clips, self.elements, self.token_dim)
        given = tuple(sefar_embedding.shape), tuple(sefar_tokens.shape)
        if given != wanted:
            raise FeatureMismatchError(
                f"features of shapes {given[0]} and {given[1]}, but this adapter takes {wanted[0]} and {wanted[1]}; "
                "use the encoder that it was trained with"
            )
        device, dtype = self.position.device, self.position.dtype
        soft = self(sefar_embedding.to(device=device, dtype=dtype), sefar_tokens.to(device=device, dtype=dtype))
        return words.masked_scatter(is_clip.unsqueeze(-1), soft.to(device=words.device, dtype=words.dtype))


def _projection(width: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(width), nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, hidden))
