"""Training the runs of a study: several at a time, each resumable, none done twice.

Clips are decoded once, in a process of its own; the trainings are forked from it and share them. A fresh process,
because torch refuses to train in one that is forked from one where gradients were computed before.
"""

from __future__ import annotations

import logging
import multiprocessing
import multiprocessing.connection
import os
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch
from tqdm import tqdm

from sefar_serve.logs import configure_logging

from ..data import DecodedClip, FrameStore, read_list
from ..train import train
from .plan import Run, Study, StudyError, plan_runs

logger = logging.getLogger(__name__)

Decoded = Mapping[Path, DecodedClip]


def run_study(
    study: Study,
    out: Path,
    overrides: Sequence[str] = (),
    jobs: int | None = None,
    progress: bool = True,
) -> list[Run]:
    """Train every run that is not yet trained.

    Args:
        study: what to run.
        out: folder of lists, runs and report; runs found there are not repeated, broken-off ones go on.
        overrides: ``dotted.key=value`` changes of the recipe for all runs.
        jobs: trainings at a time, with one thread each; None for one per core.
        progress: show a bar.

    Raises:
        StudyError: if a training fails; the others are finished first. The message names its log.
        RecipeError, ListFileError: if the study does not fit its recipe.
    """
    runs = plan_runs(study, out, overrides)
    todo = [run for run in runs if not run.checkpoint.exists()]
    if not todo:
        return runs
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh:
        failed = fresh.submit(_train_all, todo, jobs or os.cpu_count() or 1, len(runs), progress).result()
    if failed:
        logs = ", ".join(str(run.config.out / "train.log") for run in failed)
        raise StudyError(f"{len(failed)} of {len(todo)} trainings failed; see {logs}")
    return runs


def _train_all(todo: Sequence[Run], jobs: int, total: int, progress: bool) -> list[Run]:
    """What the fresh process does: decode, then train each run in a fork of its own; returns the runs that failed."""
    configure_logging("info", "text")
    decoded = _decode(todo[0], progress)
    context = multiprocessing.get_context("fork")
    waiting = list(reversed(todo))
    running: dict[BaseProcess, Run] = {}
    failed = []
    with tqdm(total=total, initial=total - len(todo), desc="trainings", disable=not progress) as bar:
        while waiting or running:
            while waiting and len(running) < jobs:
                run = waiting.pop()
                process = context.Process(target=_train, args=(run, decoded), name=f"{run.variant}-{run.seed}")
                process.start()
                running[process] = run
            multiprocessing.connection.wait([process.sentinel for process in running])
            for process in [p for p in running if p.exitcode is not None]:
                run = running.pop(process)
                bar.update()
                if process.exitcode:
                    failed.append(run)
    return failed


def _decode(run: Run, progress: bool) -> Decoded:
    """Decode the labelled and unlabelled clips of one run, which are those of all runs."""
    data = run.config.data
    entries = [
        entry
        for file in (data.train, data.unlabel)
        if file is not None
        for entry in read_list(data.root / file, data.root, data.remap)
    ]
    store = FrameStore(entries, run.config.scale[1], data.cache_gb, data.max_broken)
    store.fill(progress)
    return store.decoded()


def _train(run: Run, decoded: Decoded) -> None:
    """What a fork does."""
    torch.set_num_threads(1)
    run.config.out.mkdir(parents=True, exist_ok=True)
    log = (run.config.out / "train.log").open("a", encoding="utf-8")
    os.dup2(log.fileno(), sys.stdout.fileno())
    os.dup2(log.fileno(), sys.stderr.fileno())
    resumed = run.config.model_copy(update={"resume": True})
    train(resumed, progress=False, decoded=decoded)
