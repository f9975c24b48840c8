"""Running a sweep: finished runs are skipped, so that an interrupted sweep resumes where it stopped."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.process import BaseProcess
from typing import TypeVar

from tqdm import tqdm

from sefar_serve.cores import available_cores
from sefar_serve.errors import SefarError
from sefar_serve.logs import configure_logging

from ..run_folder import OUTPUT
from .plan import C, Run

Shared = TypeVar("Shared")


class SweepError(SefarError, RuntimeError):
    """Runs of a sweep failed; the message names their logs."""


def run_in_turn(runs: Sequence[Run[C]], finished: Callable[[Run[C]], bool], work: Callable[[Run[C]], object]) -> None:
    """Do the work of every run that is not finished, one after another; the first error ends the sweep.

    Args:
        runs: of the sweep.
        finished: whether a run's results are complete.
        work: trains a run, and writes its results atomically.
    """
    for run in runs:
        if not finished(run):
            work(run)


def run_in_processes(
    runs: Sequence[Run[C]],
    finished: Callable[[Run[C]], bool],
    prepare: Callable[[Run[C], bool], Shared],
    work: Callable[[Run[C], Shared], object],
    jobs: int | None = None,
    progress: bool = True,
) -> None:
    """Do the work of every run that is not finished, several at a time, each in a process of its own.

    A fresh process prepares what all runs share, and the runs are forked from it, so that shared memory is held once.
    It has to be fresh because torch refuses to train in a fork of a process that has computed gradients.

    Args:
        runs: of the sweep.
        finished: whether a run's results are complete.
        prepare: makes what all runs share, given one of them and whether to show bars; a function of a module.
        work: trains a run, and writes its results atomically; a function of a module.
        jobs: runs at a time; None for one per core.
        progress: show a bar.

    Raises:
        SweepError: runs failed. The others are finished first.
    """
    todo = [run for run in runs if not finished(run)]
    if not todo:
        return
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh:
        done = len(runs) - len(todo)
        failed = fresh.submit(_run_all, todo, done, prepare, work, jobs or available_cores(), progress).result()
    if failed:
        logs = ", ".join(str(run.config.out / OUTPUT) for run in failed)
        raise SweepError(f"{len(failed)} of {len(todo)} trainings failed; see {logs}")


def _run_all(
    todo: Sequence[Run[C]],
    done: int,
    prepare: Callable[[Run[C], bool], Shared],
    work: Callable[[Run[C], Shared], object],
    jobs: int,
    progress: bool,
) -> list[Run[C]]:
    """Run in the fresh process: prepare, then fork each run; returns the runs that failed, in their order."""
    configure_logging("info", "text")
    shared = prepare(todo[0], progress)
    context = multiprocessing.get_context("fork")
    waiting = list(reversed(todo))
    running: dict[BaseProcess, Run[C]] = {}
    failed = []
    with tqdm(total=done + len(todo), initial=done, desc="trainings", disable=not progress) as bar:
        while waiting or running:
            while waiting and len(running) < jobs:
                run = waiting.pop()
                process = context.Process(target=_run_one, args=(run, work, shared), name=f"{run.variant}-{run.seed}")
                process.start()
                running[process] = run
            multiprocessing.connection.wait([process.sentinel for process in running])
            for process in [p for p in running if p.exitcode is not None]:
                run = running.pop(process)
                bar.update()
                if process.exitcode:
                    failed.append(run)
    return [run for run in todo if run in failed]  # not in the order in which they ended


def _run_one(run: Run[C], work: Callable[[Run[C], Shared], object], shared: Shared) -> None:
    """Run in a fork, with the output in the run's folder."""
    run.config.out.mkdir(parents=True, exist_ok=True)
    log = (run.config.out / OUTPUT).open("a", encoding="utf-8")
    os.dup2(log.fileno(), sys.stdout.fileno())
    os.dup2(log.fileno(), sys.stderr.fileno())
    work(run, shared)
