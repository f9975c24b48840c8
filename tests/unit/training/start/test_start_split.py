from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sefar_serve.lists import UNKNOWN
from sefar_training.start.split import keep_labels, make_folds, split_clips

CLIPS = st.lists(st.tuples(st.integers(-1, 5), st.integers(0, 11)), min_size=1, max_size=60)


def arrays(clips: list[tuple[int, int]]) -> tuple[Any, Any]:
    return np.array([c for c, _ in clips], np.int64), np.array([g for _, g in clips], np.int64)


@settings(deadline=None)
@given(CLIPS, st.integers(0, 5))
def test_every_clip_is_in_one_split_and_every_group_too(clips: list[tuple[int, int]], seed: int) -> None:
    labels, groups = arrays(clips)
    splits = split_clips(labels, groups, [None] * len(labels), seed)
    everyone = np.concatenate([splits.train, splits.val, splits.test, splits.unlabelled])
    assert sorted(everyone.tolist()) == list(range(len(labels)))
    assert (labels[splits.unlabelled] == UNKNOWN).all()
    for a, b in ((splits.train, splits.val), (splits.train, splits.test), (splits.val, splits.test)):
        assert not set(groups[a].tolist()) & set(groups[b].tolist())
    assert splits.by_group
    # Whatever can be answered is learnt.
    assert set(labels[splits.train].tolist()) == set(labels[labels != UNKNOWN].tolist())
    again = split_clips(labels, groups, [None] * len(labels), seed)
    assert (again.train.tolist(), again.test.tolist()) == (splits.train.tolist(), splits.test.tolist())


@settings(deadline=None)
@given(CLIPS)
def test_folds_hold_out_whole_groups(clips: list[tuple[int, int]]) -> None:
    labels, groups = arrays(clips)
    folds = make_folds(labels, groups)
    labelled = labels != UNKNOWN
    assert (folds.new_places[~labelled] == -1).all()
    assert (folds.same_places[~labelled] == -1).all()
    if folds.count:
        assert set(folds.new_places[labelled].tolist()) <= set(range(folds.count))
        for group in np.unique(groups[labelled]):
            assert len(np.unique(folds.new_places[labelled & (groups == group)])) == 1
    for label in np.unique(labels[labelled]) if folds.same_count else ():
        sizes = np.bincount(folds.same_places[labels == label], minlength=folds.same_count)
        assert sizes.max() - sizes.min() <= 1


def test_shares_of_classes() -> None:
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 40, 1000)
    labels = rng.integers(0, 5, 1000)
    splits = split_clips(labels, groups, [None] * 1000)
    for part, share in ((splits.train, 0.7), (splits.val, 0.15), (splits.test, 0.15)):
        assert len(part) / 1000 == pytest.approx(share, abs=0.03)
        assert (np.abs(np.bincount(labels[part]) / np.bincount(labels) - share) < 0.06).all()


@pytest.mark.parametrize(("places", "sizes"), [(1, (12, 0, 0)), (2, (6, 0, 6)), (3, (8, 0, 4)), (4, (6, 3, 3))])
def test_few_groups(places: int, sizes: tuple[int, ...]) -> None:
    groups = np.arange(12) % places
    labels = np.arange(12) // places % 3
    splits = split_clips(labels, groups, [None] * 12)
    assert (len(splits.train), len(splits.val), len(splits.test)) == sizes


def test_given_splits_are_kept_and_a_missing_val_is_cut_off_train() -> None:
    labels = np.arange(40) % 2
    groups = np.arange(40) // 4
    given: list[Any] = ["test" if group in (0, 1) else "train" for group in groups]
    given[39] = "unlabelled"
    splits = split_clips(labels, groups, given)
    assert splits.test.tolist() == list(range(8))
    assert splits.unlabelled.tolist() == [39]
    assert 2 <= len(splits.val) <= 8
    assert splits.given
    assert splits.by_group
    given[4] = "train"
    assert not split_clips(labels, groups, given).by_group


def test_kept_labels_are_spread_over_groups() -> None:
    labels = np.repeat([0, 1], 20)
    groups = np.tile(np.repeat(np.arange(4), 5), 2)
    splits = split_clips(labels, groups, ["train"] * 20 + ["train"] * 19 + ["test"])
    kept = keep_labels(splits, labels, groups, 3, seed=1)
    assert np.bincount(labels[kept.train]).tolist() == [3, 3]
    for label in (0, 1):
        mine = kept.train[labels[kept.train] == label]
        assert len(np.unique(groups[mine])) == 3
    assert sorted([*kept.train, *kept.unlabelled]) == sorted([*splits.train, *splits.unlabelled])
    assert kept.val.tolist() == splits.val.tolist()
    assert keep_labels(splits, labels, groups, 3, seed=1).train.tolist() == kept.train.tolist()
    assert keep_labels(splits, labels, groups, 3, seed=2).train.tolist() != kept.train.tolist()
