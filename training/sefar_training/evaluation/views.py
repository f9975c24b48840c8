"""Multi-view testing: several looks at each clip, over its length and its width, whose predictions are averaged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from sefar_serve.clip import Video, central_square
from sefar_serve.clip.load import segments_of
from sefar_serve.sampling import Sampling, sample_indices

from ..data import EvaluationClips, ListEntry
from ..data.clips import Sample


@dataclass(frozen=True)
class Views:
    """How often each clip is looked at; once and in the middle is what serving does.

    Attributes:
        temporal: N; view k takes the point (2k + 1) / 2N of each segment of the clip.
        spatial: 1, the central square, or 3: one at each end of the longer side besides.
    """

    temporal: int = 1
    spatial: int = 1

    def __post_init__(self) -> None:
        if self.temporal < 1:
            raise ValueError(f"{self.temporal} temporal views are none; at least 1 is needed")
        if self.spatial not in (1, 3):
            raise ValueError(f"spatial crops are 1 or 3, not {self.spatial}")

    @property
    def count(self) -> int:
        """V, predictions averaged for each clip."""
        return self.temporal * self.spatial


def squares(pixels: NDArray[np.uint8], size: int, spatial: int) -> list[NDArray[np.uint8]]:
    """Cut squares along the longer side: the central one, or the first, central and last.

    Args:
        pixels: uint8 (..., h, w, 3); of square pictures the width counts as the longer side.
        size: side in pixels, at most the shorter side.
        spatial: 1 or 3.

    Returns:
        Views (..., size, size, 3); across the shorter side all are central.
    """
    central = central_square(pixels, size)
    if spatial == 1:
        return [central]
    height, width = pixels.shape[-3:-1]
    top, left = (height - size) // 2, (width - size) // 2
    if height > width:
        ends = [pixels[..., y : y + size, left : left + size, :] for y in (0, height - size)]
    else:
        ends = [pixels[..., top : top + size, x : x + size, :] for x in (0, width - size)]
    return [ends[0], central, ends[1]]


class MultiViewClips(EvaluationClips):
    """Labelled clips under several views; each is opened once and no frame decoded twice.

    Each sample has ``frames`` uint8 (V,F,size,size,3), ``label`` int and ``index`` int; V counts the spatial crops of
    the first temporal view, then those of the next.

    Args:
        entries: the clips.
        sampling: temporal elements.
        resize: short side in pixels before squares are cut.
        size: side of the squares in pixels.
        views: the looks at each clip.
    """

    def __init__(self, entries: Sequence[ListEntry], sampling: Sampling, resize: int, size: int, views: Views) -> None:
        super().__init__(entries, sampling, resize, size)
        self.views = views

    def __getitem__(self, index: int) -> Sample:
        entry, temporal, count = self.entries[index], self.views.temporal, self.sampling.frames
        with Video(entry.path) as video:
            frames = video.frame_count
            chosen = np.concatenate(
                [sample_indices(frames, self.sampling, view=(k, temporal)) for k in range(temporal)]
            )
            within = segments_of(chosen, (0, frames), count)
            pixels = video.read(chosen, self.resize, within=within).pixels
        looks = pixels.reshape(temporal, count, *pixels.shape[1:])
        stacked = np.stack([square for look in looks for square in squares(look, self.size, self.views.spatial)])
        return {"frames": torch.from_numpy(stacked), "label": entry.label, "index": index}


def average_views(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Average probabilities over views.

    Args:
        logits: scores of V views, (B, V, ..., K).

    Returns:
        Logarithms of the mean over views of the softmax, (B, ..., K); with one view the scores as they are.
    """
    if logits.shape[1] == 1:
        return logits[:, 0]
    scores = logits.astype(np.float64)
    log_probability = scores - np.logaddexp.reduce(scores, axis=-1, keepdims=True)
    mean = np.logaddexp.reduce(log_probability, axis=1) - np.log(logits.shape[1])
    return np.asarray(mean, np.float32)
