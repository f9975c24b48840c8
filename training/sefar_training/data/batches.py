"""Which clips each step takes: batches as a pure function of seed, epoch and step.

A list that is shorter than an epoch is repeated in another order, so every batch is full and no clips are dropped.
With n processes, each takes every n-th clip of a batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler, default_collate

_REPEATS = 100_000
"""More than how often a clip comes in one pass."""

Key = tuple[int, int, int]
"""Source, pass over that source, and clip: everything that a sample depends on, apart from the seed."""


@dataclass(frozen=True)
class Source:
    """A list of clips that steps draw from.

    Attributes:
        clips: map-style data set keyed by (pass, index), with a length.
        batch_size: clips per step, over all processes.
        first_epoch: first epoch, counted from 0, whose steps take clips from this source.
        labels: int64 (N,), the class of each clip, to draw all classes equally often; None draws all clips equally
            often.
    """

    clips: Dataset[Any]
    batch_size: int
    first_epoch: int = 0
    labels: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.clips)  # type: ignore[arg-type]


class ClipSources(Dataset[tuple[int, Any]]):
    """Several sources as one data set."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self.sources = sources

    def __getitem__(self, key: Key) -> tuple[int, Any]:
        source, which_pass, index = key
        return source, self.sources[source].clips[which_pass, index]


class StepBatches(Sampler[list[Key]]):
    """The keys of each step of one epoch.

    Set `epoch` before iterating and, to resume inside an epoch, `first_step`.

    Args:
        sources: what each step draws from.
        steps: steps per epoch.
        seed: seed of the order.
        rank: number of this process.
        world: number of processes.

    Raises:
        ValueError: a batch cannot be divided evenly among the processes.
    """

    def __init__(self, sources: Sequence[Source], steps: int, seed: int, rank: int = 0, world: int = 1) -> None:
        for source in sources:
            if source.batch_size % world:
                raise ValueError(f"a batch of {source.batch_size} clips cannot be divided among {world} processes")
        self.sources = sources
        self.steps = steps
        self.seed = seed
        self.rank = rank
        self.world = world
        self.epoch = 0
        self.first_step = 0

    def __len__(self) -> int:
        return self.steps - self.first_step

    def __iter__(self) -> Iterator[list[Key]]:
        orders = [
            (source, self._order(number, source))
            for number, source in enumerate(self.sources)
            if self.epoch >= source.first_epoch
        ]
        for step in range(self.first_step, self.steps):
            batch: list[Key] = []
            for source, order in orders:
                first = step * source.batch_size
                batch += order[first + self.rank : first + source.batch_size : self.world]
            yield batch

    def _order(self, number: int, source: Source) -> list[Key]:
        wanted = self.steps * source.batch_size
        passes = -(-wanted // len(source))
        keys: list[Key] = []
        for which in range(self.epoch * passes, (self.epoch + 1) * passes):
            rng = np.random.default_rng((self.seed, number, which))
            if source.labels is not None:
                keys += [(number, which * _REPEATS + turn, index) for turn, index in _balanced(source.labels, rng)]
                continue
            keys += [(number, which, int(index)) for index in rng.permutation(len(source))]
        return keys[:wanted]


def _balanced(labels: NDArray[np.int64], rng: np.random.Generator) -> list[tuple[int, int]]:
    """One pass in which the classes come in turn, each time in another order.

    Args:
        labels: int64 (N,).
        rng: draws.

    Returns:
        N clips, each with how often it came before in this pass: its other views are not the same.
    """
    clips = [rng.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]
    rounds = -(-len(labels) // len(clips))
    order = [(turn, int(k)) for turn in range(rounds) for k in rng.permutation(len(clips))]
    return [(turn // len(clips[k]), int(clips[k][turn % len(clips[k])])) for turn, k in order][: len(labels)]


def collate(samples: Sequence[tuple[int, Any]]) -> dict[str, Tensor]:
    """Stack the samples of each source. No two sources use the same field names."""
    batch: dict[str, Tensor] = {}
    for source in sorted({number for number, _ in samples}):
        batch |= default_collate([sample for number, sample in samples if number == source])
    return batch


def step_seed(seed: int, step: int, rank: int = 0) -> int:
    """The seed of one step of one process, unrelated to the seeds of other steps and runs."""
    return int(np.random.SeedSequence((seed, step, rank)).generate_state(1)[0])


def seed_step(seed: int, step: int, rank: int = 0) -> None:
    """Seed torch for one step.

    Dropout, mixing and shuffling then depend only on (seed, step, process), so a run can resume after a crash without
    saved generator states.
    """
    torch.manual_seed(step_seed(seed, step, rank))
