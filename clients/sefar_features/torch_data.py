"""Features as a torch dataset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset


class FeatureDataset(Dataset[dict[str, Any]]):
    """Items: ``id``, ``label`` (the model's best class), ``embedding`` float32 (256,), optional ``tokens`` (E, D).

    Args:
        ids: ids of the N clips.
        labels: class names of each clip, best first.
        embeddings: float32 (N, 256).
        tokens: float32 (N, E, D); None to leave them out.
    """

    def __init__(
        self,
        ids: Sequence[str],
        labels: Sequence[Sequence[str]],
        embeddings: NDArray[np.float32],
        tokens: NDArray[np.float32] | None,
    ) -> None:
        self.ids = ids
        self.labels = [found[0] for found in labels]
        self.embeddings = torch.from_numpy(embeddings)
        self.tokens = None if tokens is None else torch.from_numpy(tokens)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = {"id": self.ids[index], "label": self.labels[index], "embedding": self.embeddings[index]}
        return item if self.tokens is None else item | {"tokens": self.tokens[index]}
