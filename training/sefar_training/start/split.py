"""Divides clips into train, val and test, and into folds, by group and with equal shares of each class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sefar_serve.lists import UNKNOWN

from .rows import Split

PARTS: tuple[Split, Split, Split] = ("train", "val", "test")

HELD_OUT = 0.15
"""Share of the clips in val, and in test."""

FEWEST = 4
"""Groups of which one can be spared for val."""

FOLDS = 5

TRIES = 20
"""Random orders that are tried, fewer for many groups."""

WORK = 20_000
"""Groups times random orders."""

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Splits:
    """Numbers of the clips of each split, ascending, int64.

    Attributes:
        train: labelled clips to learn from.
        val: labelled clips to choose on.
        test: labelled clips to measure on.
        unlabelled: clips that have no label, or whose label is not used.
        given: the collection says which clip is in which of them.
        by_group: no group is in two of train, val and test.
    """

    train: Indices
    val: Indices
    test: Indices
    unlabelled: Indices
    given: bool
    by_group: bool

    def of(self, split: Split) -> Indices:
        """One of them by name."""
        return {"train": self.train, "val": self.val, "test": self.test, "unlabelled": self.unlabelled}[split]


@dataclass(frozen=True)
class Folds:
    """Folds for cross-validation of all labelled clips.

    Attributes:
        new_places: int64 (N,), the fold of each clip; no group is in two of them. -1 for clips without a label, and for
            all if there is one group only.
        same_places: int64 (N,), the same, drawn without regard to groups.
        count: folds of `new_places`, 0 if there are none.
        same_count: folds of `same_places`.
    """

    new_places: Indices
    same_places: Indices
    count: int
    same_count: int


def split_clips(
    labels: Indices, groups: Indices, given: Sequence[Split | None], seed: int = 0, *, by_group: bool = True
) -> Splits:
    """Split clips.

    Clips stay in the split that they were given, and are in train without one. If no clip is in val, a part of train
    becomes val; if none is in test either, another part becomes test. A group goes as a whole, and the last group that
    has a class always stays in train.

    Args:
        labels: int64 (N,), classes from 0; `UNKNOWN` for clips without a label.
        groups: int64 (N,).
        given: what the collection says about each clip.
        seed: of the draws.
        by_group: False draws clips one by one.
    """
    if not by_group:
        groups = np.arange(len(labels))
    has_label = labels != UNKNOWN
    known = np.array([split or "" for split in given], dtype="<U10")
    parts = {name: has_label & (known == name) for name in PARTS}
    parts["train"] |= has_label & (known == "")
    told = parts["val"] | parts["test"]
    if not told.any():
        parts = _cut(labels, groups, parts["train"], PARTS, seed)
    else:
        if not parts["val"].any() and parts["train"].any():
            parts |= _cut(labels, groups, parts["train"], ("train", "val"), seed)
    used = [set(groups[parts[name]].tolist()) for name in PARTS]
    apart = all(not (a & b) for i, a in enumerate(used) for b in used[i + 1 :])
    rest = ~(parts["train"] | parts["val"] | parts["test"])
    train, val, test, unlabelled = (np.flatnonzero(mask) for mask in (*(parts[n] for n in PARTS), rest))
    return Splits(train, val, test, unlabelled, bool(told.any()), apart)


def _cut(
    labels: Indices, groups: Indices, among: NDArray[np.bool_], names: Sequence[Split], seed: int
) -> dict[Split, NDArray[np.bool_]]:
    """Divide clips into parts; of three groups or fewer, none is left for val.

    Args:
        labels: int64 (N,).
        groups: int64 (N,).
        among: bool (N,), the clips to divide.
        names: of the parts, train first.
        seed: of the draws.
    """
    masks: dict[Split, NDArray[np.bool_]] = {name: np.zeros(len(labels), bool) for name in ("train", *names)}
    members = np.flatnonzero(among)
    if not len(members):
        return masks
    _, local = np.unique(groups[members], return_inverse=True)
    _, classes = np.unique(labels[members], return_inverse=True)
    counts = np.zeros((local.max() + 1, classes.max() + 1))
    np.add.at(counts, (local, classes), 1)
    used = [name for name in names if name != "val" or len(counts) >= FEWEST]
    # With few groups, each part gets at least one.
    held_out = max(HELD_OUT, 1 / len(counts))
    shares = np.array([1 - held_out * (len(used) - 1)] + [held_out] * (len(used) - 1))
    parts = _best(counts, shares, seed, 0) if len(counts) >= 2 else np.zeros(1, np.int64)
    for n, name in enumerate(used):
        masks[name][members[parts[local] == n]] = True
    return masks


def _assign(
    counts: NDArray[np.float64], shares: NDArray[np.float64], rng: np.random.Generator, keep: int | None
) -> tuple[float, Indices]:
    """Assign groups to parts, large ones first, each where it brings the parts closest to their shares.

    Args:
        counts: float64 (G,K), clips of each class in each group.
        shares: float64 (P,), share of each part.
        rng: breaks ties and varies the order a little.
        keep: the part that gets the last group of each class if it has none yet; None for no such part.

    Returns:
        How far the parts are from their shares, and the part of each group, int64 (G,).
    """
    totals = np.maximum(counts.sum(0), 1)
    # Shares of each class, and one more column for the shares of all clips, which weighs as much as all classes.
    share_of = np.column_stack([counts / totals, counts.sum(1) / totals.sum()])
    weights = np.append(np.full(counts.shape[1], 1 / counts.shape[1]), 1.0) / shares[:, None]
    weight = (counts / totals).sum(1)
    order = np.argsort(-weight * rng.uniform(0.7, 1.3, len(weight)), kind="stable")
    have = np.zeros((len(shares), share_of.shape[1]))
    left = counts.sum(0)
    kept = np.zeros(counts.shape[1])
    parts = np.zeros(len(counts), np.int64)
    for group in order:
        left = left - counts[group]
        gain = share_of[group]
        # How the squared distance from the shares changes if the group joins each part.
        costs = (weights * gain * (2 * (have - shares[:, None]) + gain)).sum(1)
        if keep is not None and ((counts[group] > 0) & (left + kept == 0)).any():
            costs[np.arange(len(shares)) != keep] = np.inf
        parts[group] = part = int(costs.argmin())
        have[part] += gain
        if part == keep:
            kept += counts[group]
    return float((weights * (have - shares[:, None]) ** 2).sum()), parts


def _best(counts: NDArray[np.float64], shares: NDArray[np.float64], seed: int, keep: int | None) -> Indices:
    """Of several random orders, the assignment that comes closest to the shares."""
    tries = int(np.clip(WORK // len(counts), 1, TRIES))
    drawn = [_assign(counts, shares, np.random.default_rng((seed, n)), keep) for n in range(tries)]
    return min(drawn, key=lambda found: found[0])[1]


def make_folds(labels: Indices, groups: Indices, seed: int = 0, folds: int = FOLDS) -> Folds:
    """Make folds by group, for figures on new places, and random ones, for figures on the same places.

    Args:
        labels: int64 (N,); clips that are `UNKNOWN` are in no fold.
        groups: int64 (N,).
        seed: of the draws.
        folds: most folds; fewer if there are fewer groups, or fewer clips in the largest class.
    """
    none = np.full(len(labels), -1, np.int64)
    members = np.flatnonzero(labels != UNKNOWN)
    if len(members) < 2:
        return Folds(none, none.copy(), 0, 0)
    _, classes = np.unique(labels[members], return_inverse=True)
    _, local = np.unique(groups[members], return_inverse=True)
    rng = np.random.default_rng((seed, 1))
    same_count = int(min(folds, max(2, np.bincount(classes).max())))
    # Deal the clips of each class out in turn, and begin each class where the one before it ended.
    same = none.copy()
    order = np.lexsort((rng.random(len(members)), classes))
    same[members[order]] = np.arange(len(members)) % same_count
    count = int(min(folds, local.max() + 1))
    new = none.copy()
    if count > 1:
        counts = np.zeros((local.max() + 1, classes.max() + 1))
        np.add.at(counts, (local, classes), 1)
        shares = np.full(count, 1 / count)
        new[members] = _best(counts, shares, seed, None)[local]
    return Folds(new, same, count if count > 1 else 0, same_count)


def keep_labels(splits: Splits, labels: Indices, groups: Indices, per_class: int, seed: int = 0) -> Splits:
    """Keep a few labels of each class in train; the other clips of train become unlabelled.

    The kept ones are spread over as many groups as possible.

    Args:
        splits: the splits.
        labels: int64 (N,).
        groups: int64 (N,).
        per_class: labels kept of each class, at least 1.
        seed: of the draws.
    """
    rng = np.random.default_rng((seed, per_class))
    kept: list[int] = []
    for label in np.unique(labels[splits.train]):
        clips = rng.permutation(splits.train[labels[splits.train] == label])
        turns: dict[int, int] = {}
        turn = np.empty(len(clips), np.int64)
        for i, group in enumerate(groups[clips].tolist()):
            turn[i] = turns[group] = turns.get(group, -1) + 1
        kept += clips[np.argsort(turn, kind="stable")][:per_class].tolist()
    train = np.sort(np.array(kept, np.int64))
    unlabelled = np.sort(np.concatenate([splits.unlabelled, np.setdiff1d(splits.train, train)]))
    return Splits(train, splits.val, splits.test, unlabelled, splits.given, splits.by_group)
