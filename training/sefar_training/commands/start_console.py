"""How a prepared collection looks in a terminal."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from rich.markup import escape
from rich.table import Column, Table

from sefar_serve.cli.console import out
from sefar_serve.lists import UNKNOWN
from sefar_serve.quantity import quantity

from ..start import Prepared
from ..start.findings import plural
from ..start.plan import plan_lines
from ..start.write import CLIPS, LABELS, LEFT_OUT, LISTS

BAR = 8
NAME = 20
ROWS = 30
"""Most classes in the table; the rest are counted."""

NAMED = 5
"""Most left-out clips that are named."""

_COLOURS = {"problem": "red", "warning": "yellow", "note": "dim"}


def print_prepared(prepared: Prepared, folder: Path | None) -> None:
    """Print what was found, the classes, the splits, the findings, and what to do next.

    Args:
        prepared: the collection.
        folder: where its lists were written; None if training follows.
    """
    for line in _facts(prepared):
        out.print(escape(line), highlight=False, soft_wrap=True)
    if prepared.classes:
        out.print(_classes(prepared))
    for finding in prepared.findings:
        colour = _COLOURS[finding.level]
        out.print(f"[{colour}]{finding.level}:[/] {escape(finding.text)}", highlight=False, soft_wrap=True)
    for left in prepared.left_out[:NAMED]:
        out.print(f"  left out: {escape(left.row.title)}: {escape(left.reason)}", highlight=False, soft_wrap=True)
    if len(prepared.left_out) > NAMED:
        where = LEFT_OUT if folder is None else str(folder / LEFT_OUT)
        out.print(f"  and {len(prepared.left_out) - NAMED} more, see {escape(where)}", highlight=False)
    out.print()
    if folder is not None:
        for line in _next(prepared, folder):
            out.print(escape(line), highlight=False, soft_wrap=True)


def _facts(prepared: Prepared) -> Iterator[str]:
    collection, rows, looks = prepared.collection, prepared.rows, prepared.looks
    source = ", ".join(path.name for path in collection.sources)
    files = {row.name: look.file for row, look in zip(rows, looks, strict=True) if look.file is not None}
    labelled = int((prepared.labels != UNKNOWN).sum())
    clips = quantity(len(rows), "clip")
    if len(files) < len(rows) or any(row.is_span for row in rows):
        clips += f" in {quantity(len(files), 'video')}"
    without = f", {len(rows) - labelled} of them without a label" if labelled < len(rows) else ""
    classes = plural(len(prepared.classes), "class", "classes")
    yield f"{source} (format: {collection.format}): {clips}, {classes}{without}"
    seconds = np.array([look.seconds for look in looks])
    sizes = Counter((facts.width, facts.height) for facts in files.values())
    rates = Counter(round(facts.fps) for facts in files.values())
    (width, height), _ = sizes.most_common(1)[0]
    other_sizes = f" and {quantity(len(sizes) - 1, 'other size')}" if len(sizes) > 1 else ""
    other_rates = f" and {quantity(len(rates) - 1, 'other rate')}" if len(rates) > 1 else ""
    length = f"{seconds.min():.1f}–{seconds.max():.1f} s, median {np.median(seconds):.1f} s"
    yield f"length {length}; {width}×{height}{other_sizes}; {rates.most_common(1)[0][0]} fps{other_rates}"
    yield f"groups: {prepared.groups.count}, {prepared.groups.why}"
    if prepared.classes:
        splits = prepared.splits
        how = "as given" if splits.given else "by group" if prepared.groups.count > 1 else "at random"
        yield (
            f"split {how}: {len(splits.train)} train, {len(splits.val)} val, {len(splits.test)} test, "
            f"{len(splits.unlabelled)} unlabelled"
        )


def _classes(prepared: Prepared) -> Table:
    right = [Column(name, justify="right") for name in ("clips", "groups", "train", "val", "test")]
    labels, splits = prepared.labels, prepared.splits
    hides = prepared.labels_per_class is not None or bool((labels[splits.unlabelled] != UNKNOWN).any())
    hidden = [Column("no label", justify="right")] * hides
    width = min(max(map(len, prepared.classes)), NAME)
    table = Table(
        Column("class", no_wrap=True, overflow="ellipsis", min_width=width),
        Column("", no_wrap=True, min_width=BAR),
        *right,
        *hidden,
    )
    counts = np.bincount(labels[labels != UNKNOWN], minlength=len(prepared.classes))
    order = np.argsort(-counts, kind="stable")
    shown = order if len(order) <= ROWS else np.concatenate([order[: ROWS - 10], order[-10:]])
    for place, k in enumerate(shown.tolist()):
        if len(order) > ROWS and place == ROWS - 10:
            table.add_row(f"… {len(order) - ROWS} more", *[""] * (6 + hides))
        parts = [
            int((labels[which] == k).sum()) for which in (splits.train, splits.val, splits.test, splits.unlabelled)
        ]
        groups = len(np.unique(prepared.groups.of[labels == k]))
        bar = "█" * max(1, round(BAR * counts[k] / counts.max())) if counts[k] else ""
        cells = [str(n) if n else "[red]0[/]" for n in parts[:3]]
        table.add_row(escape(prepared.classes[k]), bar, str(counts[k]), str(groups), *cells, *[str(parts[3])] * hides)
    return table


def _next(prepared: Prepared, folder: Path) -> Iterator[str]:
    yield f"written: {folder / LISTS}, {folder / LABELS}, {folder / CLIPS}"
    root = prepared.collection.root
    if not prepared.classes:
        table = shlex.quote(str(folder / CLIPS))
        videos = shlex.quote(str(root.resolve()))
        yield f"next: label clips in {folder / CLIPS}, then: sefar init {table} --root {videos}"
        return
    if not prepared.trainable:
        yield "next: fix the problems above, and run this again"
        return
    yield from plan_lines(prepared)
    told = ["--data", folder / CLIPS, "--root", root.resolve(), "--out", folder.with_name(f"{folder.name}-model")]
    yield "next: sefar train " + " ".join(shlex.quote(str(one)) for one in told)
