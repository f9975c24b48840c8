"""Heads: from element tokens to the clip embedding and the class scores."""

from __future__ import annotations

from abc import abstractmethod
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EMBEDDING_DIM = 256
DROPOUT = 0.5


class Head(nn.Module):
    """A clip embedding, dropout and a linear classifier."""

    dropout: nn.Dropout
    classifier: nn.Linear

    @abstractmethod
    def embed(self, tokens_BED: Tensor) -> Tensor:
        """Make the clip embedding (B,256) from the element tokens."""

    def forward(self, tokens_BED: Tensor) -> tuple[Tensor, Tensor]:
        """Return the clip embedding (B,256) and the logits (B,K). In train mode, dropout applies to the logits."""
        embedding = self.embed(tokens_BED)
        return embedding, self.classifier(self.dropout(embedding))


class SumHead(Head):
    """Adds the element tokens up, which have the embedding's width: for a backbone that leaves nothing to fuse.

    Args:
        classes: number of classes K.
        dropout: rate between embedding and classifier, also for the teacher's Monte-Carlo samples.
    """

    def __init__(self, classes: int, dropout: float = DROPOUT) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(EMBEDDING_DIM, classes)

    def embed(self, tokens_BED: Tensor) -> Tensor:
        """Add the element tokens (B,E,256) up to the clip embedding (B,256)."""
        return tokens_BED.sum(dim=1)


class FusionHead(Head):
    """Projects every element and every unordered pair of elements to 256, and fuses them into one embedding.

    Args:
        elements: number of elements E; a single element has no pairs.
        dim: width D of the element tokens.
        classes: number of classes K.
        dropout: rate between embedding and classifier, also for the teacher's Monte-Carlo samples.
    """

    def __init__(self, elements: int, dim: int, classes: int, dropout: float = DROPOUT) -> None:
        super().__init__()
        pairs = list(combinations(range(elements), 2))
        self.register_buffer("left", torch.tensor([a for a, _ in pairs], dtype=torch.long), persistent=False)
        self.register_buffer("right", torch.tensor([b for _, b in pairs], dtype=torch.long), persistent=False)
        self.single = nn.Linear(dim, EMBEDDING_DIM)
        self.single_norm = nn.LayerNorm(EMBEDDING_DIM)
        self.pair = nn.Linear(2 * dim, EMBEDDING_DIM)
        self.pair_norm = nn.LayerNorm(EMBEDDING_DIM)
        self.fuse = nn.Linear((elements + len(pairs)) * EMBEDDING_DIM, EMBEDDING_DIM)
        self.fuse_norm = nn.LayerNorm(EMBEDDING_DIM)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(EMBEDDING_DIM, classes)

    def embed(self, tokens_BED: Tensor) -> Tensor:
        """Fuse the element tokens into the clip embedding, (B,256)."""
        singles = self.single_norm(F.gelu(self.single(tokens_BED)))
        pairs = torch.cat([tokens_BED.index_select(1, self.left), tokens_BED.index_select(1, self.right)], dim=-1)
        pairs = self.pair_norm(F.gelu(self.pair(pairs)))
        # Pairs come first, as in the authors' checkpoints.
        return self.fuse_norm(F.gelu(self.fuse(torch.cat([pairs, singles], dim=1).flatten(1))))
