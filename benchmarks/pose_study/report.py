"""The results as Markdown: accuracies, paired differences, chosen settings, and the recall of each class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from sefar_training.sweep.interval import Interval, interval

from .clips import ALL, ClipSet
from .judged import Judged, judge
from .results import Results

NAMES = {
    "lr": "logistic regression on joints",
    "rgb": "frames: EfficientNet-Lite0, logistic regression",
    "stgcn": "ST-GCN++ on joints",
    "pose": "**SeFAR's model on joints**",
    "pose-first": "the same, first frame alone",
    "pose-mean": "the same, mean over time",
    "pose-fixmatch": "the same, FixMatch",
    "pose-sefar": "the same, SeFAR",
    "both": "joints and frames, fused",
}

Table = Mapping[tuple[str, int], Judged | None]
"""By method and labels a class."""


def judge_all(
    clips: ClipSet,
    results: Results,
    methods: Sequence[str],
    counts: Sequence[int],
    draws: int,
    recipes: Mapping[str, str],
) -> Table:
    """Judge every method with every number of labels; see `judge`."""
    return {
        (method, count): judge(clips, results, method, count, draws, recipes) for method in methods for count in counts
    }


def write_report(clips: ClipSet, table: Table, focus: str, notes: Sequence[str]) -> str:
    """The report of a set, as Markdown.

    Args:
        clips: the set.
        table: what was judged; None for what is not finished.
        focus: the method that is compared with each other one.
        notes: lines to put under the title.
    """
    methods, counts = (list(dict.fromkeys(keys)) for keys in zip(*table, strict=True))
    parts = [
        f"## {clips.name.capitalize()}",
        *notes,
        "Balanced accuracy in per cent: mean over five folds of the means over draws, and its 95 % interval (Student's "
        "t over folds).",
        _accuracies(clips, table, methods, counts),
        f"{NAMES[focus]} minus each other method, in points, paired by fold. * marks intervals that leave out 0.",
        _differences(clips, table, methods, counts, focus),
        _settings(table),
    ]
    for count in counts:
        recalls = _recalls(clips, table, methods, count)
        parts += [f"Recall in per cent with {_labels(count)}, over all clips, the mean over draws.", recalls]
    return "\n\n".join(part for part in parts if part)


def difference(clips: ClipSet, one: Judged, other: Judged) -> Interval:
    """The mean over folds of the difference in accuracy, in points."""
    pairs = zip(one.accuracies(clips), other.accuracies(clips), strict=True)
    return interval([a - b for a, b in pairs])


def _accuracies(clips: ClipSet, table: Table, methods: Sequence[str], counts: Sequence[int]) -> str:
    lines = _head("", [*map(_labels, counts), "CPU s a run"])
    for method in methods:
        found = [table[method, count] for count in counts]
        cells = ["–" if each is None else str(interval(each.accuracies(clips))) for each in found]
        times = [each.seconds for each in found if each is not None and each.seconds is not None]
        lines.append(_row(NAMES[method], [*cells, _span(times)]))
    return "\n".join(lines)


def _differences(clips: ClipSet, table: Table, methods: Sequence[str], counts: Sequence[int], focus: str) -> str:
    lines = _head("", list(map(_labels, counts)))
    for method in methods:
        if method != focus:
            cells = []
            for count in counts:
                ours, theirs = table.get((focus, count)), table[method, count]
                cells.append("–" if ours is None or theirs is None else _marked(difference(clips, ours, theirs)))
            lines.append(_row(NAMES[method], cells))
    return "\n".join(lines)


def _settings(table: Table) -> str:
    lines = []
    for (method, count), found in table.items():
        if found is not None and found.settings:
            often = Counter(found.settings.values()).most_common()
            chosen = ", ".join(f"{setting} ({times})" for setting, times in often)
            lines.append(f"- {NAMES[method]}, {_labels(count)}: {chosen}")
    if not lines:
        return ""
    return "\n".join(["Settings that were chosen without the test fold, and for how many folds:", "", *lines])


def _recalls(clips: ClipSet, table: Table, methods: Sequence[str], count: int) -> str:
    lines = _head("", clips.classes)
    for method in methods:
        found = table[method, count]
        if found is not None:
            lines.append(_row(NAMES[method], [f"{recall:.0f}" for recall in found.recalls(clips)]))
    return "\n".join(lines)


def _labels(count: int) -> str:
    return "all labels" if count == ALL else f"{count} labels"


def _marked(points: Interval) -> str:
    return f"{points}{' *' if abs(points.mean) > points.half else ''}"


def _span(seconds: Sequence[float]) -> str:
    if not seconds:
        return "–"
    low, high = min(seconds), max(seconds)
    return f"{low:.2g}" if f"{low:.2g}" == f"{high:.2g}" else f"{low:.2g} to {high:.2g}"


def _head(first: str, rest: Sequence[str]) -> list[str]:
    return [_row(first, rest), "|---|" + "---|" * len(rest)]


def _row(first: str, rest: Sequence[str]) -> str:
    return f"| {' | '.join([first, *rest])} |"
