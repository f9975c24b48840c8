"""Which frames of a clip the model sees: the dual-level temporal elements of SeFAR (paper, section 3.1).

A clip becomes M short *fine* elements and one *context* element. The context shows what happens
over the whole clip, and in which direction; the fine elements show detail. This module only chooses
frame numbers, so that training, serving and batch extraction always choose the same ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

Layout = Literal["interleaved", "local", "ordered"]


@dataclass(frozen=True)
class Sampling:
    """How many frames each temporal element takes, and from where.

    Attributes:
        sample_frames: frames per element, the fine elements first and the context last,
            e.g. ``(2, 2, 4)``: two fine elements of 2 frames and a context of 4. A single element,
            ``(8,)``, is the uniform sampling that SeFAR is compared with.
        layout: ``interleaved`` assigns the clip's segments to the elements in turn (the authors'
            code); ``local`` takes each fine element as adjacent frames at the centre of its own
            window (the paper's text: a fine element is a short clip); ``ordered`` takes the clip's
            segments in the order of time, for elements of one frame each.
    """

    sample_frames: tuple[int, ...] = (2, 2, 4)
    layout: Layout = "interleaved"

    def __post_init__(self) -> None:
        object.__setattr__(self, "sample_frames", tuple(int(n) for n in self.sample_frames))
        if not self.sample_frames:
            raise ValueError("sample_frames is empty; give frames per element, e.g. (2, 2, 4)")
        if min(self.sample_frames) < 1:
            raise ValueError(f"every element of sample_frames {self.sample_frames} needs at least one frame")
        if self.layout not in get_args(Layout):
            raise ValueError(f"layout {self.layout!r} is not one of {', '.join(get_args(Layout))}")

    @property
    def frames(self) -> int:
        """F, the total number of frames."""
        return sum(self.sample_frames)

    @property
    def elements(self) -> int:
        """E, the number of elements: M fine ones and the context."""
        return len(self.sample_frames)

    @property
    def element_of_frame(self) -> NDArray[np.int64]:
        """Element number of each of the F positions, int64 (F,); the context is E - 1."""
        return np.repeat(np.arange(self.elements), self.sample_frames)


def interleaved_segments(sample_frames: Sequence[int]) -> list[list[int]]:
    """Assign the F equal segments of a clip to its elements.

    Elements are filled from last (the context) to first. An element of n frames takes segment j
    if j is free and j >= taken * F / n, where taken is the number of segments it already has.

    Args:
        sample_frames: frames per element, context last.

    Returns:
        The segment numbers of each element, ascending; each number in [0, F) appears once.
    """
    total = sum(sample_frames)
    free = [True] * total
    dealt: list[list[int]] = []
    for n in reversed(sample_frames):
        taken: list[int] = []
        for j in range(total):
            # Integers, because j >= taken * F / n in floats is off by one where F / n is not exact.
            if len(taken) < n and free[j] and j * n >= len(taken) * total:
                taken.append(j)
                free[j] = False
        # With uneven counts, e.g. (3, 4), an element can run out of late segments; it then takes
        # the free ones nearest the end, so that every segment is used exactly once.
        for j in reversed(range(total)):
            if len(taken) < n and free[j]:
                taken.append(j)
                free[j] = False
        dealt.append(sorted(taken))
    return dealt[::-1]


def _segment_frames(
    segments: NDArray[np.int64], count: int, frames: int, rng: np.random.Generator | None, view: tuple[int, int]
) -> NDArray[np.int64]:
    """One frame number from each given segment, where [0, frames) is cut into ``count`` equal segments."""
    if rng is None:
        k, views = view
        return (2 * (views * segments + k) + 1) * frames // (2 * views * count)
    low = segments * frames // count
    high = np.maximum((segments + 1) * frames // count, low + 1)
    return rng.integers(low, high)


def sample_indices(
    frame_count: int, sampling: Sampling, rng: np.random.Generator | None = None, view: tuple[int, int] = (0, 1)
) -> NDArray[np.int64]:
    """Choose the F frames of a clip, in the order the model takes them: [fine_1 | … | fine_M | context].

    Args:
        frame_count: number of frames in the clip, at least 1. With fewer than F, frames repeat.
        sampling: elements and layout.
        rng: random generator for training: a random frame inside each segment, a random position
            inside each window. None, for inference, takes the middle, so that answers are
            reproducible.
        view: (k, N), the k-th of N views for multi-view testing, 0 <= k < N; it takes the point
            (2k + 1) / 2N of each segment, so a single view takes the middle. Ignored if `rng` is given.

    Returns:
        Frame numbers int64 (F,), each in [0, frame_count), ascending inside every element.

    Raises:
        ValueError: if frame_count is less than 1, or `view` is out of range.
    """
    if frame_count < 1:
        raise ValueError(f"cannot sample a clip of {frame_count} frames; it needs at least one")
    if not 0 <= view[0] < view[1]:
        raise ValueError(f"view {view[0]} of {view[1]} is out of range; for (k, N), 0 <= k < N must hold")
    total = sampling.frames
    if sampling.layout != "local":
        chosen = _segment_frames(np.arange(total), total, frame_count, rng, view)
        if sampling.layout == "ordered":
            return chosen
        order = [j for element in interleaved_segments(sampling.sample_frames) for j in element]
        return chosen[order]
    pieces = []
    fine = sampling.sample_frames[:-1]
    for window, n in enumerate(fine):
        centre = _segment_frames(np.array([window]), len(fine), frame_count, rng, view)[0]
        start = min(max(int(centre) - n // 2, 0), max(frame_count - n, 0))
        pieces.append(np.minimum(np.arange(start, start + n), frame_count - 1))
    context = sampling.sample_frames[-1]
    pieces.append(_segment_frames(np.arange(context), context, frame_count, rng, view))
    return np.concatenate(pieces)
