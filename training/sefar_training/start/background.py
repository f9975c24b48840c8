"""A class for everything else: clips from the time of annotated videos that no span covers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from sefar_serve.segments import BACKGROUND

from .rows import CollectionError, Row

MOST = 1.0
"""Clips of the background for each clip of the largest class. It varies more than any other class, but must not
outweigh them."""


def cut_background(rows: Sequence[Row], seconds: Mapping[str, float], seed: int = 0) -> list[Row]:
    """Cut clips out of the time that no span covers, as long as the median span with a label.

    Only videos that have spans with labels are cut, because the others may not be annotated. Spans without a label
    may show anything, and are not cut either. If there are more clips than a `MOST` of the largest class, they are
    drawn at random, the same number from each video as far as possible.

    Args:
        rows: the clips of a collection.
        seconds: length of each video.
        seed: of the draws.

    Returns:
        The new clips, each with the group and the split of the span before it.

    Raises:
        CollectionError: no span has a label, or spans leave no time.
    """
    labelled = [row for row in rows if row.is_span and row.label is not None and row.name in seconds]
    if not labelled:
        raise CollectionError(
            "the background is cut out of the time that no span covers, but no span has a label; give a table with the "
            "columns path,label,start,end, or clips with the label background"
        )
    length = float(np.median([_bounds(row, seconds)[1] - _bounds(row, seconds)[0] for row in labelled]))
    counts = Counter(row.label for row in rows if row.label not in (None, BACKGROUND))
    most = round(MOST * max(counts.values(), default=0)) - sum(row.label == BACKGROUND for row in rows)
    rng = np.random.default_rng((seed, 2))
    by_file: list[list[Row]] = []
    for name in dict.fromkeys(row.name for row in labelled):
        pieces = list(_pieces([row for row in rows if row.name == name], seconds, length))
        by_file.append([pieces[i] for i in rng.permutation(len(pieces))])
    if not any(by_file):
        raise CollectionError(
            f"spans leave no {length:.1f} s free in any video, as long as the median span, so no background can be cut "
            "out; leave out --background"
        )
    turns = [(turn, rng.random(), piece) for pieces in by_file for turn, piece in enumerate(pieces)]
    chosen = {piece for _, _, piece in sorted(turns, key=lambda one: one[:2])[: max(most, 0)]}
    return [piece for pieces in by_file for piece in sorted(pieces, key=lambda one: one.start or 0) if piece in chosen]


def _bounds(row: Row, seconds: Mapping[str, float]) -> tuple[float, float]:
    return row.start or 0.0, seconds[row.name] if row.end is None else row.end


def _pieces(rows: Sequence[Row], seconds: Mapping[str, float], length: float) -> Iterator[Row]:
    """Clips in the gaps of one video, spread evenly within each."""
    ordered = sorted(rows, key=lambda row: row.start or 0.0)
    past, before = 0.0, ordered[0]
    ends = [(*_bounds(row, seconds), row) for row in ordered]
    for start, end, row in [*ends, (seconds[ordered[0].name], seconds[ordered[0].name], ordered[-1])]:
        count = max(0, int((start - past) / length))
        slack = (start - past - count * length) / (count + 1)
        for n in range(count):
            begin = past + slack + n * (length + slack)
            yield Row(
                row.name, BACKGROUND, round(begin, 3), round(begin + length, 3), group=before.group, split=before.split
            )
        past, before = max(past, end), row
