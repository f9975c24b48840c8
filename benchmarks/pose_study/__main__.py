"""Command line of the study: do the runs that are missing, then print the report.

Run: python -m benchmarks.pose_study [key=value ...] --set tennis
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from sefar_serve.errors import SefarError

from . import __doc__ as about
from .clips import ALL, CLASSES
from .joints import presence
from .plan import BOTH, METHODS, can_run, choose_settings, choosing_runs, reported_runs, with_parts
from .report import judge_all, write_report
from .results import Results, Run
from .work import Study, do_all, one_thread

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("SEFAR_SHARED_DATA", ROOT.parent / "shared" / "data"))
LABELS = (3, 5, 10, ALL)


def main() -> None:
    arguments = parse(sys.argv[1:])
    logging.disable(logging.WARNING)
    one_thread()
    study = Study(arguments.set, arguments.data, arguments.work, tuple(arguments.overrides))
    try:
        results = Results(arguments.work / f"results-{arguments.set}.jsonl")
        if not arguments.report:
            do_missing(study, results, arguments)
        print(report(study, results, arguments))
    except SefarError as error:
        sys.exit(f"error: {error}")


def parse(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.pose_study", description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--set", choices=CLASSES, default="tennis")
    parser.add_argument("--data", type=Path, default=SHARED, help="folder of shared data")
    parser.add_argument("--work", type=Path, default=Path("runs/pose_study"), help="joints, features, results")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--labels", type=int, nargs="+", default=LABELS, help="a class; 0: all")
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time, one thread each")
    parser.add_argument("--focus", choices=METHODS, default="pose", help="the method to compare the others with")
    parser.add_argument("--report", action="store_true", help="only print what is finished")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="changes of the recipe")
    return parser.parse_intermixed_args(words)


def do_missing(study: Study, results: Results, arguments: argparse.Namespace) -> None:
    """Do every run that has no result: for each method and number of labels those that choose settings come first."""
    methods = with_parts(arguments.methods)
    study.prepare(methods)
    clips, trainer = study.clips, study.trainer
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=0)

        def do(runs: Iterable[Run]) -> None:
            missing = [run for run in runs if run not in results]
            bar.update(task, total=(bar.tasks[0].total or 0) + len(missing))
            for run, result in do_all(study, missing, arguments.jobs):
                results.add(run, result)
                bar.advance(task)

        for method in methods:
            recipe = trainer.fingerprint(method)
            for count in arguments.labels:
                if can_run(method, count):
                    bar.update(task, description=f"{method}, {count or 'all'} labels")
                    do(choosing_runs(clips, method, count, recipe, BOTH in arguments.methods))
                    settings = choose_settings(clips, results, method, count, recipe)
                    do(reported_runs(clips, method, count, arguments.draws, recipe, settings))


def report(study: Study, results: Results, arguments: argparse.Namespace) -> str:
    clips = study.clips
    seen, empty = presence(study.joints)
    notes = [
        f"{len(clips.paths)} clips, {len(clips.classes)} classes, {arguments.draws} draws. A person is found in "
        f"{100 * seen:.0f} % of the frames; in {100 * empty:.0f} % of the clips in none."
    ]
    recipes = {}
    for method in with_parts(METHODS):
        recipes[method] = study.trainer.fingerprint(method)
        known = [run.recipe for run in results.runs() if run.method == method]
        if known and recipes[method] not in known:
            recipes[method] = known[-1]
            notes.append(f"The runs of {method} were made with another recipe ({known[-1]}).")
    table = judge_all(clips, results, arguments.methods, arguments.labels, arguments.draws, recipes)
    return write_report(clips, table, arguments.focus, notes)


if __name__ == "__main__":
    main()
