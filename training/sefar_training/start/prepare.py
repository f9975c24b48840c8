"""From a folder or table of videos to a collection that was looked at, grouped and split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sefar_serve.lists import UNKNOWN, ListEntry
from sefar_serve.quantity import quantity
from sefar_serve.segments import BACKGROUND

from .background import cut_background
from .findings import (
    Finding,
    find_class_problems,
    find_file_notes,
    find_leaks,
    find_split_problems,
    plural,
    some,
)
from .grouping import Groups, find_groups
from .leak import LeakProbe, probe_leaks
from .look import ClipLook, look_at, same_bytes
from .read import Collection, Format, read_collection
from .rows import CollectionError, Row
from .similar import near_duplicates
from .split import Folds, Indices, Splits, keep_labels, make_folds, split_clips


@dataclass(frozen=True)
class LeftOut:
    """A clip that is not used.

    Attributes:
        row: the clip.
        reason: why.
    """

    row: Row
    reason: str


@dataclass(frozen=True)
class Prepared:
    """A collection that is ready for training.

    Attributes:
        collection: as it was read.
        rows: the N clips that are used, in the order of the collection.
        looks: what was seen of each.
        labels: int64 (N,), the class of each, a position in `classes`; `UNKNOWN` without a label.
        classes: names of the classes.
        groups: which clips belong together.
        splits: train, val, test and unlabelled.
        folds: for cross-validation of the labelled clips.
        leak: what first frames tell; None if it cannot be measured.
        left_out: the clips that are not used.
        findings: what a user should know, the worst first.
        labels_per_class: labels of each class that were kept in train; None for all.
        seed: of all draws.
    """

    collection: Collection
    rows: tuple[Row, ...]
    looks: tuple[ClipLook, ...]
    labels: Indices
    classes: tuple[str, ...]
    groups: Groups
    splits: Splits
    folds: Folds
    leak: LeakProbe | None
    left_out: tuple[LeftOut, ...]
    findings: tuple[Finding, ...]
    labels_per_class: int | None
    seed: int

    @property
    def trainable(self) -> bool:
        """Whether there is something to learn from."""
        return not any(finding.level == "problem" for finding in self.findings)

    def entry(self, index: int) -> ListEntry:
        """A clip as lists write it."""
        row = self.rows[index]
        return ListEntry(row.name, self.collection.root / row.name, int(self.labels[index]), row.start, row.end)


def prepare(
    place: Path,
    *,
    root: Path | None = None,
    format: Format | None = None,
    group: str = "auto",
    labels_per_class: int | None = None,
    background: bool = False,
    seed: int = 0,
    cache: Path | None = None,
    threads: int | None = None,
    progress: bool = True,
) -> Prepared:
    """Read, look at, group and split a collection. Nothing is written but the cache.

    Args:
        place: folder of videos, or a table or annotations of them; see `read_collection`.
        root: folder of the videos, if it is not that of the place.
        format: format of the place; None to find out.
        group: how to group clips, see `find_groups`.
        labels_per_class: keep so many labels of each class in train; its other clips become unlabelled.
        background: add clips of the time that no span covers, see `cut_background`.
        seed: of all draws.
        cache: folder for what was found about each file; None: nothing is kept.
        threads: files looked at at the same time; None for one per core.
        progress: show a progress bar.

    Raises:
        FileNotFoundError: the place does not exist.
        CollectionError: it cannot be read, no clip can be used, or no clip of a class.
    """
    collection = read_collection(place, root=root, format=format)
    looks = look_at(collection.root, collection.rows, cache, threads=threads, progress=progress)
    if background:
        collection, added = _with_background(collection, looks, seed)
        looks += look_at(collection.root, added, cache, threads=threads, progress=progress)
    copies = same_bytes(collection.root, [row.name for row in collection.rows])
    used, left_out, contradictions = _usable(collection.rows, looks, copies)
    _check_left(collection, used, left_out)
    rows = tuple(collection.rows[i] for i in used)
    seen = tuple(looks[i] for i in used)
    number = {name: k for k, name in enumerate(collection.labels)}
    labels = np.array([UNKNOWN if row.label is None else number[row.label] for row in rows], np.int64)
    near = near_duplicates(seen)
    groups = find_groups(rows, seen, copies, group, near)
    splits = split_clips(labels, groups.of, [row.split for row in rows], seed, by_group=groups.count > 1)
    folds = make_folds(labels, groups.of, seed)
    leak = probe_leaks(seen, labels, folds, seed)
    findings = [
        *contradictions,
        *find_class_problems(collection.labels, labels, groups),
        *find_leaks(leak, groups),
        *find_split_problems(collection.labels, labels, groups, splits, labels_per_class),
        *find_file_notes(rows, seen, near, groups),
    ]
    if labels_per_class is not None:
        splits = keep_labels(splits, labels, groups.of, labels_per_class, seed)
    if groups.merged:
        text = (
            f"{plural(groups.merged, 'group was', 'groups were')} merged into others that have a copy of the same file"
        )
        findings.append(Finding("note", "merged_groups", text))
    if left_out:
        text = f"{plural(len(left_out), 'clip is', 'clips are')} left out, see below"
        findings.append(Finding("warning", "left_out", text))
    findings += [Finding("note", "reading", note) for note in collection.notes]
    levels = ("problem", "warning", "note")
    findings.sort(key=lambda finding: levels.index(finding.level))
    return Prepared(
        collection, rows, seen, labels, collection.labels, groups, splits, folds, leak, tuple(left_out),
        tuple(findings), labels_per_class, seed,
    )  # fmt: skip


def _with_background(
    collection: Collection, looks: Sequence[ClipLook], seed: int
) -> tuple[Collection, tuple[Row, ...]]:
    """Add clips of the background; also return these alone."""
    found = zip(collection.rows, looks, strict=True)
    seconds = {row.name: look.file.duration for row, look in found if look.file is not None}
    added = tuple(cut_background(collection.rows, seconds, seed))
    length = f" of {(added[0].end or 0) - (added[0].start or 0):.1f} s" if added else ""
    note = f"{quantity(len(added), 'clip')}{length} of the time that no span covers are the class {BACKGROUND}"
    labels = collection.labels if not added or BACKGROUND in collection.labels else (*collection.labels, BACKGROUND)
    rows = (*collection.rows, *added)
    return replace(collection, rows=rows, labels=labels, notes=(*collection.notes, note)), added


def _usable(
    rows: Sequence[Row], looks: Sequence[ClipLook], copies: Sequence[Sequence[str]]
) -> tuple[list[int], list[LeftOut], list[Finding]]:
    """Numbers of the clips that can be used, the others, and labels that contradict each other.

    Of clips that are listed twice, and of copies of one file, one stays: one of the test split if there is any, and one
    that has a label.
    """
    original = {name: same[0] for same in copies for name in same}
    left_out: dict[int, str] = {}
    sets: dict[tuple[str, float | None, float | None], list[int]] = {}
    for i, (row, look) in enumerate(zip(rows, looks, strict=True)):
        if look.reason is not None:
            left_out[i] = look.reason
        else:
            sets.setdefault((original.get(row.name, row.name), row.start, row.end), []).append(i)
    contradicting = []
    rank = {"test": 0, "val": 1, "train": 2, None: 3, "unlabelled": 4}
    for same in sets.values():
        first, *others = sorted(same, key=lambda i: (rank[rows[i].split], rows[i].label is None, i))
        for i in others:
            if rows[i].label not in (None, rows[first].label):
                contradicting.append(f"{rows[i].title} ({rows[first].label}, {rows[i].label})")
                left_out[i] = f"it is listed as {rows[first].label} too, as {rows[first].title}"
            elif rows[i].name == rows[first].name:
                kept = rows[first].split
                twice = (
                    "it is listed twice" if rows[i].split == kept else f"it is listed for {kept} too, and kept there"
                )
                left_out[i] = twice
            else:
                left_out[i] = f"it is a copy of {rows[first].name}"
    findings = []
    if contradicting:
        count = plural(len(contradicting), "clip has", "clips have")
        text = f"{count} two labels: {some(contradicting)}; check which is right"
        findings.append(Finding("warning", "two_labels", text))
    used = [i for i in range(len(rows)) if i not in left_out]
    return used, [LeftOut(rows[i], reason) for i, reason in sorted(left_out.items())], findings


def _check_left(collection: Collection, used: Sequence[int], left_out: Sequence[LeftOut]) -> None:
    """Check that something is left to use, of every class.

    Raises:
        CollectionError: nothing is left.
    """
    reasons = "".join(f"\n  {out.row.title}: {out.reason}" for out in left_out[:3])
    if not used:
        raise CollectionError(f"none of {quantity(len(left_out), 'clip')} can be used:{reasons}")
    lost = sorted(set(collection.labels) - {collection.rows[i].label for i in used if collection.rows[i].label})
    if lost:
        of_class = [out for out in left_out if out.row.label == lost[0]]
        reasons = "".join(f"\n  {out.row.title}: {out.reason}" for out in of_class[:3])
        raise CollectionError(
            f"no clip of {plural(len(lost), 'class', 'classes')} can be used: {some(lost)}. Replace the clips, or "
            f"remove the class:{reasons}"
        )
