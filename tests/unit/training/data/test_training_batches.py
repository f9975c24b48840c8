from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from sefar_training.data.batches import ClipSources, Source, StepBatches, collate, seed_step, step_seed


class Numbers(Dataset):
    def __init__(self, name: str, count: int) -> None:
        self.name, self.count = name, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, key: tuple[int, int]) -> dict[str, int]:
        return {self.name: key[1], f"{self.name}_pass": key[0]}


def sources() -> list[Source]:
    return [Source(Numbers("few", 5), 4), Source(Numbers("many", 23), 6)]


def keys(epoch: int = 0, first_step: int = 0, steps: int = 10, seed: int = 0, **share: int) -> list[list]:
    batches = StepBatches(sources(), steps, seed, **share)
    batches.epoch, batches.first_step = epoch, first_step
    assert len(batches) == steps - first_step
    return list(batches)


def test_a_balanced_source_draws_all_classes_equally_often() -> None:
    labels = np.array([0] * 17 + [1] * 2 + [3])
    drawn = []
    for epoch in range(3):
        batches = StepBatches([Source(Numbers("few", 20), 6, labels=labels)], 10, seed=0)
        batches.epoch = epoch
        drawn += [key for batch in batches for key in batch]
    assert len(set(drawn)) == len(drawn) == 180  # a clip that comes again is seen in another view
    counts = np.bincount(labels[[index for _, _, index in drawn]])
    assert counts.tolist() == pytest.approx([60, 60, 0, 60], abs=5)
    common = np.bincount([index for _, _, index in drawn])[:17]
    assert common.max() - common.min() <= 6


def test_every_batch_is_full_and_every_pass_holds_every_clip_once() -> None:
    drawn = [key for batch in keys() for key in batch]
    assert all(len(batch) == 10 for batch in keys())
    for source, count in ((0, 5), (1, 23)):
        passes: dict[int, list[int]] = {}
        for number, which, index in drawn:
            if number == source:
                passes.setdefault(which, []).append(index)
        assert all(sorted(clips) == list(range(count)) for clips in list(passes.values())[:-1])
        assert len(set(passes[max(passes)])) == len(passes[max(passes)])


def test_no_two_draws_are_the_same() -> None:
    drawn = [key for epoch in range(4) for batch in keys(epoch) for key in batch]
    assert len(set(drawn)) == len(drawn)


def test_order_depends_on_seed_and_epoch_alone() -> None:
    assert keys(3) == keys(3)
    assert keys(3) != keys(4)
    assert keys(3) != keys(3, seed=1)


def test_resuming_inside_an_epoch_gives_the_rest_of_it() -> None:
    assert keys(2, first_step=7) == keys(2)[7:]


def test_processes_share_each_batch_without_rest() -> None:
    whole = keys()
    shares = [keys(rank=rank, world=2) for rank in (0, 1)]
    for batch, *parts in zip(whole, *shares, strict=True):
        assert len(parts[0]) == len(parts[1]) == 5
        assert sorted(parts[0] + parts[1]) == sorted(batch)


def test_source_is_not_used_before_its_first_epoch() -> None:
    few, many = sources()
    batches = StepBatches([few, Source(many.clips, many.batch_size, first_epoch=2)], 10, 0)
    batches.epoch = 1
    assert list(batches) == [batch[: few.batch_size] for batch in keys(1)]
    batches.epoch = 2
    assert list(batches) == keys(2)


def test_uneven_shares_are_refused() -> None:
    with pytest.raises(ValueError, match="a batch of 4 clips cannot be divided among 3 processes"):
        StepBatches(sources(), 10, 0, world=3)


def test_batch_joins_the_fields_of_all_sources() -> None:
    given = ClipSources(sources())
    batch = collate([given[key] for key in keys()[0]])
    assert {name: len(value) for name, value in batch.items()} == {
        "few": 4,
        "few_pass": 4,
        "many": 6,
        "many_pass": 6,
    }


def test_steps_draw_differently_and_reproducibly() -> None:
    draws = []
    for step, rank in ((0, 0), (1, 0), (0, 1), (0, 0)):
        seed_step(5, step, rank)
        draws.append(torch.rand(1).item())
    assert draws[0] == draws[3]
    assert len(set(draws)) == 3
    assert step_seed(0, 1) != step_seed(1, 0)
