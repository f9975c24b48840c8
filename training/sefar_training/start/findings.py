"""What a user should know about a collection before training: in sentences, with numbers and what they mean."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sefar_serve.lists import UNKNOWN
from sefar_serve.quantity import quantity

from .grouping import Groups
from .leak import LeakProbe
from .look import ClipLook
from .rows import Row
from .split import Indices, Splits

NAMED = 5
"""Most classes or files that a sentence names; the rest are counted."""

FEW_CLIPS = 3
LONG_TAIL = 10.0
FRAMES = 8


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        level: ``problem``: training cannot start, or figures would be wrong; ``warning``; ``note``.
        code: what it is about, stable.
        text: what it is, what it means and what to do.
    """

    level: Literal["problem", "warning", "note"]
    code: str
    text: str


def some(names: Sequence[str]) -> str:
    """The first few names; the others are counted."""
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


def plural(number: int, one: str, many: str) -> str:
    """A number and its noun, where the plural is not just an s; see `sefar_serve.quantity`."""
    return f"{number} {one if number == 1 else many}"


def find_class_problems(classes: Sequence[str], labels: Indices, groups: Groups) -> Iterator[Finding]:
    """Classes that are few, small, or recorded in one place."""
    if not classes:
        yield Finding(
            "problem",
            "no_labels",
            "no clip has a label. Label a few clips of each class, ten if you can: fill in the column `label` of "
            "clips.csv, or sort clips into a folder for each class",
        )
        return
    if len(classes) == 1:
        yield Finding(
            "problem", "one_class", f"all labels are {classes[0]}; add clips of a second class, e.g. of everything else"
        )
        return
    counts = np.bincount(labels[labels != UNKNOWN], minlength=len(classes))
    few = [f"{classes[k]} ({counts[k]})" for k in np.argsort(counts, kind="stable") if counts[k] < FEW_CLIPS]
    if few:
        yield Finding(
            "warning",
            "few_clips",
            f"{plural(len(few), 'class has', 'classes have')} fewer than {FEW_CLIPS} clips: {some(few)}. One clip "
            "cannot be both learnt from and measured on; add clips, or merge the class with another",
        )
    if groups.count > 1 and groups.how != "none":
        spread = [len(np.unique(groups.of[labels == k])) for k in range(len(classes))]
        single = [name for name, n in zip(classes, spread, strict=True) if n < 2]
        if single:
            yield Finding(
                "warning",
                "one_group",
                f"{plural(len(single), 'class comes', 'classes come')} from one group only: {some(single)}. In new "
                "places they cannot be measured, and a model may learn the place; record them elsewhere too",
            )
    if counts.max() >= LONG_TAIL * counts.min() and counts.min() > 0:
        order = np.argsort(-counts, kind="stable")
        half = int(np.searchsorted(np.cumsum(counts[order]), counts.sum() / 2)) + 1
        yield Finding(
            "warning",
            "long_tail",
            f"classes are unequal: {classes[order[0]]} has {counts[order[0]]} clips, {classes[order[-1]]} has "
            f"{counts[order[-1]]}, and {plural(half, 'class has', 'classes have')} half of all clips. Read balanced "
            "accuracy, not accuracy. `sefar train --data` balances the classes; in recipes set data.balance=true",
        )


def find_split_problems(
    classes: Sequence[str], labels: Indices, groups: Groups, splits: Splits, per_class: int | None
) -> Iterator[Finding]:
    """Splits that leak, and classes that they do not have."""
    if len(classes) < 2:
        return
    parts = {name: set(labels[splits.of(name)].tolist()) for name in ("train", "val", "test")}
    untaught = [name for k, name in enumerate(classes) if k not in parts["train"]]
    if untaught:
        yield Finding(
            "problem",
            "not_in_train",
            f"{plural(len(untaught), 'class has', 'classes have')} no clip in train: {some(untaught)}; a model cannot "
            "answer with them. Move clips to train, or remove the classes",
        )
    for name in ("val", "test"):
        missing = [label for k, label in enumerate(classes) if k not in parts[name]]
        if missing and len(missing) == len(classes):
            use = "choose" if name == "val" else "measure"
            yield Finding("warning", f"no_{name}", f"{name} is empty: there are too few clips or groups to {use} on")
        elif missing:
            yield Finding(
                "note",
                f"not_in_{name}",
                f"{name} has no clip of {plural(len(missing), 'class', 'classes')}: {some(missing)}; figures on it do "
                "not cover them",
            )
    if splits.given and not splits.by_group and groups.how != "none":
        train, rest = (set(groups.of[splits.of(name)].tolist()) for name in ("train", "test"))
        shared = sorted(train & rest)
        if shared:
            clips = int(np.isin(groups.of[splits.test], shared).sum())
            yield Finding(
                "warning",
                "split_leaks",
                f"train and test share {quantity(len(shared), 'group')}, e.g. {groups.names[shared[0]]}; {clips} of "
                f"{len(splits.test)} test clips are from places that training saw, so figures on test are of the same "
                "places",
            )
    if groups.count == 1 and len(labels) > 1:
        yield Finding(
            "warning",
            "one_place",
            "there is one group only, so clips were split at random: figures are of the same place, and what a model "
            "reaches in new places cannot be measured. If clips are of several persons, days or places, say so with a "
            "column `group`, folders inside the classes, or --group",
        )
    if per_class is not None:
        short = [
            f"{name} ({int((labels[splits.train] == k).sum())})"
            for k, name in enumerate(classes)
            if (labels[splits.train] == k).sum() < per_class
        ]
        if short:
            yield Finding(
                "note",
                "fewer_labels",
                f"{plural(len(short), 'class has', 'classes have')} fewer than {per_class} clips in train: "
                f"{some(short)}",
            )


def find_leaks(probe: LeakProbe | None, groups: Groups) -> Iterator[Finding]:
    """What the first frame alone tells."""
    if probe is None:
        return
    chance = f"against chance {probe.chance:.0%}"
    if probe.tells(probe.same_places):
        new = probe.new_places
        where = (
            ""
            if new is None or groups.how == "none"
            else f"; in groups that were left out {new:.0%}, so it is the place that tells them"
            if not probe.tells(new)
            else f"; in groups that were left out still {new:.0%}, so scene or posture differs between classes"
        )
        yield Finding(
            "warning",
            "first_frame",
            f"the first frame alone tells these classes: {probe.same_places:.0%} {chance}{where}. A model may learn "
            "the place instead of the movement: believe figures on new places only, and require that they beat "
            f"{max(probe.chance, new or 0):.0%}",
        )
    if probe.tells(probe.border) and (probe.border or 0) > 0.6 * (probe.same_places or 1):
        yield Finding(
            "warning",
            "border",
            f"the border of the picture alone tells them too: {probe.border:.0%} {chance}. Look for watermarks, "
            "captions or scoreboards that belong to a class, and crop or paint them over",
        )


def find_file_notes(
    rows: Sequence[Row], looks: Sequence[ClipLook], near: Sequence[Sequence[int]], groups: Groups
) -> Iterator[Finding]:
    """Damaged, short, unequal and near-duplicate clips."""
    damaged = [row.title for row, look in zip(rows, looks, strict=True) if look.damaged]
    if damaged:
        yield Finding(
            "warning",
            "damaged",
            f"{plural(len(damaged), 'clip is', 'clips are')} damaged, but usable: {some(damaged)}; frames that do not "
            "decode are replaced by their neighbours",
        )
    short = [row.title for row, look in zip(rows, looks, strict=True) if look.frames < FRAMES]
    if short:
        yield Finding(
            "note",
            "short",
            f"{plural(len(short), 'clip has', 'clips have')} fewer than {FRAMES} frames: {some(short)}; frames are "
            "repeated",
        )
    rates = Counter(round(look.file.fps) for look in looks if look.file is not None)
    if len(rates) > 1 and max(rates) >= 2 * min(rates):
        told = ", ".join(f"{rate} fps {count}×" for rate, count in rates.most_common(NAMED))
        yield Finding("note", "rates", f"frame rates differ: {told}; check that no class has a rate of its own")
    seconds = np.array([look.seconds for look in looks])
    if len(seconds) and seconds.max() > 60 and seconds.max() > 10 * np.median(seconds):
        longest = rows[int(seconds.argmax())]
        yield Finding(
            "warning",
            "long",
            f"{longest.title} lasts {seconds.max():.0f} s, the median clip {np.median(seconds):.1f} s. Frames are "
            "drawn from the whole clip, so short actions in long clips are missed; give spans (columns start and end)",
        )
    if near:
        clips = sum(map(len, near))
        example = ", ".join(rows[i].title for i in near[0][:2])
        apart = sum(len(set(groups.of[alike].tolist())) > 1 for alike in near)
        kept = (
            "none is divided by a split"
            if not apart
            else f"{plural(apart, 'set is', 'sets are')} in several groups; if they are copies, figures are too good"
        )
        yield Finding(
            "note",
            "near_duplicates",
            f"{clips} clips are near-duplicates of each other, in {quantity(len(near), 'set')}, e.g. {example}; {kept}",
        )
