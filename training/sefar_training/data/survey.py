"""Check list files before training: sizes, missing and broken clips, leaks between lists."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import combinations
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict
from tqdm import tqdm

from sefar_serve.clip import ClipError, load_clip
from sefar_serve.lists import UNKNOWN, ClipKey, ListEntry, ListFileError, read_list
from sefar_serve.sampling import Sampling

from .opened import LONG_VIDEOS

Role = Literal["training", "evaluation", "other"]

ROLES: dict[str, Role] = {"train": "training", "unlabe": "training", "val": "evaluation", "test": "evaluation"}
"""What a list is for, by the beginning of its file name. One of the authors' lists is called ``unlabe.csv``."""


class _Report(BaseModel):
    model_config = ConfigDict(frozen=True)


class BrokenClip(_Report):
    """A clip that does not decode.

    Attributes:
        name: its name in the list.
        reason: what is wrong with it.
    """

    name: str
    reason: str


class ListSurvey(_Report):
    """What was found in one list.

    Attributes:
        file: the list file.
        role: what it is for, by its name.
        clips: number of clips.
        classes: classes with at least one clip.
        least: clips of the rarest class.
        most: clips of the most common class.
        highest_label: the highest class number; -1 if no clip has one.
        unlabelled: clips without a class.
        beyond_labels: clips whose class is not in the label file.
        repeated: clips listed more than once.
        missing: names of clips that are not on disk; None if not checked.
        broken: clips on disk that do not decode; None if not checked.
    """

    file: Path
    role: Role
    clips: int
    classes: int
    least: int
    most: int
    highest_label: int
    unlabelled: int
    beyond_labels: int
    repeated: int
    missing: tuple[str, ...] | None = None
    broken: tuple[BrokenClip, ...] | None = None


class Overlap(_Report):
    """Two lists that share clips.

    Attributes:
        first: one file.
        second: the other file.
        shared: number of clips in both.
        overlapping: number of other clips of the first that have a moment in common with a clip of the second.
        same: both list exactly the same clips.
        leak: one is for training and the other for evaluation.
        contradictions: shared clips with different classes in the two lists.
        example: a clip of the first list that is in both, or else overlaps one of the second, e.g. ``a.mp4#t=3,5.5``.
    """

    first: Path
    second: Path
    shared: int
    overlapping: int
    same: bool
    leak: bool
    contradictions: int
    example: str


class Survey(_Report):
    """Everything found in a set of lists.

    Attributes:
        lists: the lists, in the order given.
        overlaps: pairs of lists of one set that share clips.
    """

    lists: tuple[ListSurvey, ...]
    overlaps: tuple[Overlap, ...]

    @property
    def sound(self) -> bool:
        """Whether the lists are fit for training: nothing missing, broken, leaking or outside the classes."""
        lists = all(not (survey.missing or survey.broken or survey.beyond_labels) for survey in self.lists)
        return lists and not any(overlap.leak or overlap.contradictions for overlap in self.overlaps)


def find_lists(places: Sequence[Path]) -> list[list[Path]]:
    """Group list files into sets that belong together.

    Args:
        places: list files and folders. All files named directly form one set; so do the ``*.csv`` files of each folder
            and of each folder below it.

    Raises:
        FileNotFoundError: a place does not exist.
        ListFileError: a folder has no list.
    """
    sets: dict[Path | None, list[Path]] = {}
    for place in places:
        if not place.exists():
            raise FileNotFoundError(f"{place} does not exist")
        if not place.is_dir():
            sets.setdefault(None, []).append(place)
            continue
        found = sorted(place.rglob("*.csv"))
        if not found:
            raise ListFileError(f"{place} has no .csv files; name the list files themselves")
        for file in found:
            sets.setdefault(file.parent, []).append(file)
    return [list(dict.fromkeys(files)) for files in sets.values()]


def survey_lists(
    sets: Sequence[Sequence[Path]],
    root: Path | None = None,
    remap: Mapping[str, str] | None = None,
    *,
    classes: int | None = None,
    check: bool = False,
    workers: int | None = None,
    progress: bool = True,
) -> Survey:
    """Read list files and compare them with each other and, with a root, with the files on disk.

    Args:
        sets: list files; those of one set are compared with each other.
        root: folder that relative clip paths are joined to; None does not check the disk.
        remap: path prefix replacements.
        classes: number of classes; None accepts any label.
        check: decode the frames of each clip that evaluation uses.
        workers: processes that decode; None for one per core.
        progress: show a progress bar.

    Raises:
        ListFileError: a file is not a list.
    """
    entries = {
        file: read_list(file, root or Path(), remap, unlabelled=_role(file) != "evaluation")
        for files in sets
        for file in files
    }
    missing = broken = None
    if root is not None:
        paths = list({entry.path: None for listed in entries.values() for entry in listed})
        missing = {path for path in paths if not path.is_file()}
        if check:
            clips = list({entry.clip: None for listed in entries.values() for entry in listed})
            broken = check_clips([clip for clip in clips if clip[0] not in missing], workers, progress)
    lists = [_survey(file, listed, missing, broken, classes) for file, listed in entries.items()]
    overlaps = [overlap for files in sets for overlap in _overlaps({file: entries[file] for file in files})]
    return Survey(lists=tuple(lists), overlaps=tuple(overlaps))


def check_clips(clips: Sequence[ClipKey], workers: int | None = None, progress: bool = True) -> dict[ClipKey, str]:
    """Decode the frames of each clip that evaluation uses, in worker processes.

    Returns:
        For each clip that does not decode, the reason.
    """
    broken = {}
    # Spawned, not forked: the caller may already run threads of its own.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        reasons = pool.map(_what_is_wrong, clips, chunksize=4)
        for clip, reason in zip(
            clips, tqdm(reasons, "decoding", len(clips), unit="clip", disable=not progress), strict=True
        ):
            if reason is not None:
                broken[clip] = reason
    return broken


def _what_is_wrong(clip: ClipKey) -> str | None:
    path, start, end = clip
    try:
        # Small, because only decoding matters here.
        load_clip(path, Sampling(), resize=32, size=32, start=start, end=end, limits=LONG_VIDEOS)
    except (ClipError, OSError) as error:
        return str(error)
    return None


def _role(file: Path) -> Role:
    return next((role for start, role in ROLES.items() if file.stem.lower().startswith(start)), "other")


def _survey(
    file: Path,
    entries: Sequence[ListEntry],
    missing: set[Path] | None,
    broken: Mapping[ClipKey, str] | None,
    classes: int | None,
) -> ListSurvey:
    counts = Counter(entry.label for entry in entries if entry.label != UNKNOWN)
    return ListSurvey(
        file=file,
        role=_role(file),
        clips=len(entries),
        classes=len(counts),
        least=min(counts.values(), default=0),
        most=max(counts.values(), default=0),
        highest_label=max(counts, default=UNKNOWN),
        unlabelled=len(entries) - counts.total(),
        beyond_labels=0 if classes is None else sum(n for label, n in counts.items() if label >= classes),
        repeated=sum(n > 1 for n in Counter(entry.clip for entry in entries).values()),
        missing=None if missing is None else tuple(entry.name for entry in entries if entry.path in missing),
        broken=None
        if broken is None
        else tuple(BrokenClip(name=e.name, reason=broken[e.clip]) for e in entries if e.clip in broken),
    )


def _overlaps(entries: Mapping[Path, Sequence[ListEntry]]) -> list[Overlap]:
    by_file: dict[Path, dict[ClipKey, ListEntry]] = {
        file: {entry.clip: entry for entry in listed} for file, listed in entries.items()
    }
    found = []
    for (first, a), (second, b) in combinations(by_file.items(), 2):
        shared = a.keys() & b.keys()
        overlapping = _overlapping([a[clip] for clip in a.keys() - shared], list(b.values()))
        if not shared and not overlapping:
            continue
        contradictions = sum(len({a[clip].label, b[clip].label} - {UNKNOWN}) > 1 for clip in shared)
        found.append(
            Overlap(
                first=first,
                second=second,
                shared=len(shared),
                overlapping=len(overlapping),
                same=a.keys() == b.keys(),
                leak={_role(first), _role(second)} == {"training", "evaluation"},
                contradictions=contradictions,
                example=min(map(_title, [a[clip] for clip in shared] or overlapping)),
            )
        )
    return found


def _overlapping(entries: Sequence[ListEntry], others: Sequence[ListEntry]) -> list[ListEntry]:
    """The clips that have a moment in common with one of the others."""
    by_path: dict[Path, list[ListEntry]] = {}
    for other in others:
        by_path.setdefault(other.path, []).append(other)
    return [entry for entry in entries if any(entry.overlaps(other) for other in by_path.get(entry.path, ()))]


def _title(entry: ListEntry) -> str:
    return str(ClipKey(Path(entry.name), entry.start, entry.end)) if entry.is_span else entry.name
