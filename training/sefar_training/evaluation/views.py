"""Multi-view testing: predictions are averaged over several views of each clip, in time and in space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from sefar_serve.clip import central_square
from sefar_serve.clip.load import segments_of
from sefar_serve.sampling import Sampling, sample_indices

from ..data import EvaluationClips, ListEntry
from ..data.clips import Sample


@dataclass(frozen=True)
class Views:
    """How many views of each clip are taken. Serving takes one, in the middle.

    Attributes:
        temporal: N; view k samples each segment of the clip at (2k + 1) / 2N of its length.
        spatial: 1 takes the central square, 3 adds a square at each end of the longer side.
    """

    temporal: int = 1
    spatial: int = 1

    def __post_init__(self) -> None:
        if self.temporal < 1:
            raise ValueError(f"temporal views must be at least 1, not {self.temporal}")
        if self.spatial not in (1, 3):
            raise ValueError(f"spatial crops must be 1 or 3, not {self.spatial}")

    @property
    def count(self) -> int:
        """V, the views of each clip."""
        return self.temporal * self.spatial


def squares(pixels: NDArray[np.uint8], size: int, spatial: int) -> list[NDArray[np.uint8]]:
    """Cut squares along the longer side: the central one, or the first, central and last.

    Args:
        pixels: uint8 (..., h, w, 3); for square frames the width counts as the longer side.
        size: side in pixels, at most the shorter side.
        spatial: 1 or 3.

    Returns:
        Views (..., size, size, 3), all centred on the shorter side.
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
    """Labelled clips with several views each. Every clip is opened once, and no frame is decoded twice.

    Each sample has ``inputs`` uint8 (V,F,size,size,3), ``label`` int and ``index`` int. Views are ordered by time, then
    by crop.

    Args:
        entries: the clips.
        sampling: temporal elements.
        resize: short side in pixels before squares are cut.
        size: side of the squares in pixels.
        views: views of each clip.
    """

    def __init__(self, entries: Sequence[ListEntry], sampling: Sampling, resize: int, size: int, views: Views) -> None:
        super().__init__(entries, sampling, resize, size)
        self.views = views

    def __getitem__(self, index: int) -> Sample:
        entry, temporal, count = self.entries[index], self.views.temporal, self.sampling.frames
        with self._videos.open(entry.clip) as (video, span):
            frames = span[1] - span[0]
            chosen = span[0] + np.concatenate(
                [sample_indices(frames, self.sampling, view=(k, temporal)) for k in range(temporal)]
            )
            within = segments_of(chosen, span, count)
            pixels = video.read(chosen, self.resize, within=within).pixels
        looks = pixels.reshape(temporal, count, *pixels.shape[1:])
        stacked = np.stack([square for look in looks for square in squares(look, self.size, self.views.spatial)])
        return {"inputs": torch.from_numpy(stacked), "label": entry.label, "index": index}


def average_views(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Average probabilities over views.

    Args:
        logits: scores of V views, (B, V, ..., K).

    Returns:
        Log of the softmax averaged over views, (B, ..., K). With one view, the scores unchanged.
    """
    if logits.shape[1] == 1:
        return logits[:, 0]
    scores = logits.astype(np.float64)
    log_probability = scores - np.logaddexp.reduce(scores, axis=-1, keepdims=True)
    mean = np.logaddexp.reduce(log_probability, axis=1) - np.log(logits.shape[1])
    return np.asarray(mean, np.float32)
