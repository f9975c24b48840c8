"""Command line: choose on one seed, report on others.

Run: python -m benchmarks.long_videos [--routines N] [--seeds S ...]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

import numpy as np
from rich.console import Console
from rich.table import Table

import sefar_serve
from sefar_serve.segments import Merging, merge

from . import __doc__ as about
from .average_precision import Detection, Truth, f1, mean_average_precision, suppressed
from .routines import Windows, recognised

THRESHOLDS = (0.3, 0.5, 0.7)
LENGTHS = ((0.8,), (1.0,), (1.25,), (0.8, 1.5), (0.6, 1.0, 1.5), (0.8, 1.25, 2.0))
SMOOTHINGS = (0.05, 0.1, 0.2)

Method = Callable[[Windows], list[Detection]]


def raw(windows: Windows) -> list[Detection]:
    """Every window with its best class."""
    return [
        Detection(windows.video, start, end, int(row.argmax()), float(row.max()))
        for (start, end), row in zip(windows.times, windows.probabilities, strict=True)
    ]


def merged(smoothing: float) -> Method:
    """The segments."""

    def found(windows: Windows) -> list[Detection]:
        merging = Merging(smoothing)
        return [
            Detection(windows.video, one.start, one.end, one.index, one.score)
            for one in merge(windows.times, windows.probabilities, merging)
        ]

    return found


def judged(all_: Sequence[Windows], method: Method) -> tuple[list[float], list[float], float]:
    """The mAP and F1 at each threshold, and the number of results for each true segment."""
    truth: list[Truth] = [one for windows in all_ for one in windows.truth]
    found = [one for windows in all_ for one in method(windows)]
    return (
        [mean_average_precision(truth, found, threshold) for threshold in THRESHOLDS],
        [f1(truth, found, threshold) for threshold in THRESHOLDS],
        len(found) / len(truth),
    )


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.long_videos", description=about)
    parser.add_argument("--routines", type=int, default=40, help="of each seed")
    parser.add_argument("--validation", type=int, default=1, help="seed on which settings are chosen")
    parser.add_argument("--seeds", type=int, nargs="+", default=[2, 3], help="seeds on which they are reported")
    parser.add_argument("--stride", type=float, default=0.25, help="seconds")
    arguments = parser.parse_args()
    if arguments.validation in arguments.seeds:
        parser.error("the seed on which settings are chosen must not be reported on")
    console = Console(width=110)
    with sefar_serve.load() as model:
        seen = recognised(model, [arguments.validation], arguments.routines, LENGTHS, arguments.stride)
        table = start_table(f"seed {arguments.validation}")
        worth: dict[tuple[tuple[float, ...], float], float] = {}
        for lengths, all_ in seen.items():
            for smoothing in SMOOTHINGS:
                figures = judged(all_, merged(smoothing))
                add_row(table, lengths, f"segments, {smoothing:g}", figures)
                worth[lengths, smoothing] = float(np.mean(figures[:2]))
        console.print(table)
        alone, smoothing_alone = max((key for key in worth if len(key[0]) == 1), key=worth.__getitem__)
        best, smoothing_best = max(worth, key=worth.__getitem__)
        told = recognised(model, arguments.seeds, arguments.routines, [alone, best], arguments.stride)
    table = start_table(f"seeds {', '.join(map(str, arguments.seeds))}")
    for lengths, smoothing in ((alone, smoothing_alone), (best, smoothing_best)):
        methods: dict[str, Method] = {
            "windows": raw,
            "windows, suppressed": lambda windows: suppressed(raw(windows)),
            f"segments, {smoothing:g}": merged(smoothing),
        }
        for name, method in methods.items():
            add_row(table, lengths, name, judged(told[lengths], method))
    console.print(table)


def start_table(title: str) -> Table:
    """A table without rows. The number behind "segments" is the smoothing."""
    figures = [f"{name} {threshold:g}" for name in ("mAP", "F1") for threshold in THRESHOLDS]
    return Table("windows, s", "results", *figures, "per action", title=title)


def add_row(table: Table, lengths: Sequence[float], name: str, figures: tuple[list[float], list[float], float]) -> None:
    precision, score, share = figures
    table.add_row(
        ", ".join(f"{one:g}" for one in lengths), name, *(f"{one:.3f}" for one in precision + score), f"{share:.1f}"
    )


if __name__ == "__main__":
    main()
