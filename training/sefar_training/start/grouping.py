"""Decides which clips belong together: those of a group are never on both sides of a split."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .look import ClipLook
from .rows import CollectionError, Row
from .similar import UnionFind, look_alikes

How = Literal["given", "names", "looks", "files", "none", "pattern"]

_NUMBER = re.compile(r"(.*?[^\W\d].*|\d.*?)[_\-. ]+[a-z]?\d+", re.IGNORECASE)
"""A name that ends in a number: ``recording1_0042``; what is before it may be what clips were cut from."""

NAMED = 0.8
"""Share of the groups with two clips or more in which there must be several classes, for names to be believed."""


@dataclass(frozen=True)
class Groups:
    """What belongs together.

    Attributes:
        of: int64 (N,), the group of each clip, from 0.
        names: name of each group.
        how: ``given`` by a column or folders; ``names``, by file names; ``pattern``, by the user's; ``looks``, by
            similarity; ``files``, each file for itself; ``none``, each clip for itself.
        why: for the user, in a sentence.
        merged: groups that were joined because they contain copies of the same file.
    """

    of: NDArray[np.int64]
    names: tuple[str, ...]
    how: How
    why: str
    merged: int = 0

    @property
    def count(self) -> int:
        """Number of groups."""
        return len(self.names)


def find_groups(
    rows: Sequence[Row],
    looks: Sequence[ClipLook],
    copies: Sequence[Sequence[str]] = (),
    rule: str = "auto",
    near: Sequence[Sequence[int]] = (),
) -> Groups:
    """Group clips.

    Args:
        rows: the clips.
        looks: what was seen of each.
        copies: names of files that have the same bytes; their groups are joined.
        near: numbers of clips that are near-duplicates; they are joined if groups are made by similarity.
        rule: ``auto``: the column or the folders; without these the file names, if they tell; else similarity.
            ``looks``: similarity. ``files``: each file is a group. ``none``: each clip. Anything else is a regular
            expression that is searched in the clips' paths; the group is its first parenthesis, or all that matches.

    Raises:
        CollectionError: the expression is invalid, or a path does not have it.
    """
    names, how, why = _named(rows, looks, rule)
    distinct = list(dict.fromkeys(names))
    numbers = {name: n for n, name in enumerate(distinct)}
    sets = UnionFind(len(distinct))
    by_file: dict[str, list[int]] = {}
    for row, name in zip(rows, names, strict=True):
        by_file.setdefault(row.name, []).append(numbers[name])
    if rule != "none":
        for same in (*by_file.values(), *([n for name in same for n in by_file.get(name, [])] for same in copies)):
            for number in same[1:]:
                sets.join(same[0], number)
    if how == "looks":
        for alike in near:
            for i in alike[1:]:
                sets.join(numbers[names[alike[0]]], numbers[names[i]])
    joined = sets.groups()
    of = np.array([joined[numbers[name]] for name in names], np.int64)
    kept: dict[int, str] = {}
    for name, number in zip(distinct, joined.tolist(), strict=True):
        kept.setdefault(number, name)
    merged = 0 if how == "looks" else len(distinct) - len(kept)
    return Groups(of, tuple(kept[n] for n in range(len(kept))), how, why, merged)


def _named(rows: Sequence[Row], looks: Sequence[ClipLook], rule: str) -> tuple[list[str], How, str]:
    if rule == "none":
        return [f"clip{i}" for i in range(len(rows))], "none", "each clip is a group of its own, as you asked"
    if rule == "files":
        return [row.name for row in rows], "files", "each file is a group of its own, as you asked"
    if rule not in ("auto", "looks"):
        return _by_pattern(rows, rule), "pattern", f"by what {rule} finds in their paths"
    if rule == "auto":
        given = sum(row.group is not None for row in rows)
        if given:
            why = "as given" + (f"; {len(rows) - given} clips without a group stand alone" if given < len(rows) else "")
            return [row.group or row.name for row in rows], "given", why
        recordings = by_names(rows)
        if recordings is not None:
            example = recordings[0]
            return recordings, "names", f"by file names without their last number, e.g. {example}"
    if len({row.name for row in rows}) < len(rows):
        # All clips of a file are from one place; compare files, by their first clips.
        firsts = {row.name: i for i, row in reversed(list(enumerate(rows)))}
        order = list(firsts)
        found = look_alikes([looks[firsts[name]] for name in order])
        number = dict(zip(order, found.groups.tolist(), strict=True))
        places = [number[row.name] for row in rows]
        divided = found.threshold is not None
        if not divided:
            return [row.name for row in rows], "files", "each video is a group of its own: they all look alike"
    else:
        found = look_alikes(looks)
        places, divided = found.groups.tolist(), found.threshold is not None
    width = len(str(max(places, default=0)))
    names = [f"look{place:0{width}d}" for place in places]
    if not divided:
        return names, "looks", "all clips look as if they were from one place"
    return names, "looks", "by similarity of their frames: a guess, better give a column `group`"


def _by_pattern(rows: Sequence[Row], pattern: str) -> list[str]:
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise CollectionError(
            f"--group {pattern} is not auto, looks, files or none, and no regular expression ({error})"
        ) from error
    found = [expression.search(row.name) for row in rows]
    for row, match in zip(rows, found, strict=True):
        if match is None:
            raise CollectionError(
                f"--group {pattern} does not match {row.name}; change it so that it matches all paths"
            )
    return [match[1] if expression.groups else match[0] for match in found if match]


def by_names(rows: Sequence[Row]) -> list[str] | None:
    """Group clips by their file names, if these tell what they were cut from, e.g. ``20200626_154313_0035.mp4``.

    Returns:
        The group of each clip; None if names do not tell: most groups then have one clip, or one class.
    """
    stems = [row.name.rpartition("/")[2].rpartition(".")[0] for row in rows]
    found = [_NUMBER.fullmatch(stem) for stem in stems]
    if any(match is None for match in found):
        return None
    names = [match[1] for match in found if match]
    sizes = Counter(names)
    several = [name for name, size in sizes.items() if size > 1]
    if len(sizes) < 3 or sum(sizes[name] for name in several) < 0.8 * len(rows):
        return None
    classes: dict[str, set[str]] = {}
    for row, name in zip(rows, names, strict=True):
        if row.label is not None:
            classes.setdefault(name, set()).add(row.label)
    if sum(len(classes.get(name, ())) > 1 for name in several) < NAMED * len(several):
        return None
    return names
