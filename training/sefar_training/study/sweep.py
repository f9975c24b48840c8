"""The sweep engine: a recipe's variants, each with several seeds, each trained once.

Studies and comparisons of adapters are both sweeps. A run's folder tells whether it is finished, so a sweep that was
interrupted resumes where it stopped. Runs go one after another (`run_in_turn`) or several at a time in processes of
their own (`run_in_processes`).
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from tqdm import tqdm

from sefar_serve.errors import SefarError
from sefar_serve.logs import configure_logging

from ..recipe import as_overrides
from ..task import FINAL

LOG = "train.log"
"""Output of a run that has a process of its own, in the run's folder."""


class SweepError(SefarError, RuntimeError):
    """Runs of a sweep failed; the message names their logs."""


class Sweep(BaseModel):
    """What is trained.

    Attributes:
        title: for people to read.
        note: a paragraph under the title.
        recipe: YAML recipe that all runs share.
        seeds: of the runs.
        overrides: ``dotted.key: value`` changes of the recipe for all runs.
        variants: name to further changes.
        focus: the variant that the page is about.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    note: str = ""
    recipe: Path
    seeds: tuple[int, ...] = Field(min_length=1)
    overrides: dict[str, Any] = {}
    variants: dict[str, dict[str, Any]] = Field(min_length=1)
    focus: str

    @model_validator(mode="after")
    def _consistent(self) -> Sweep:
        self._check_variant(self.focus)
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError("a seed is given twice")
        folders = {folder_name(variant): variant for variant in self.variants}
        for variant in self.variants:
            other = folders[folder_name(variant)]
            if other != variant:
                raise ValueError(f"variants {variant!r} and {other!r} would share a folder; rename one of them")
        return self

    def _check_variant(self, name: str) -> None:
        if name not in self.variants:
            raise ValueError(f"{name!r} is none of the variants {', '.join(self.variants)}")


class Config(Protocol):
    """A recipe as it is run; `out` is the folder of the run."""

    @property
    def out(self) -> Path:
        """Folder of the run."""
        ...


C = TypeVar("C", bound=Config)
Shared = TypeVar("Shared")


@dataclass(frozen=True)
class Run(Generic[C]):
    """One training of a sweep.

    Attributes:
        variant: its name in the sweep.
        seed: its seed.
        config: the recipe as it is run.
    """

    variant: str
    seed: int
    config: C

    @property
    def checkpoint(self) -> Path:
        """Where the trained model is, once it is trained."""
        return self.config.out / FINAL


def folder_name(variant: str) -> str:
    """A variant's name as a folder."""
    return "".join(c if c.isalnum() else "_" for c in variant)


def plan_runs(
    sweep: Sweep,
    folder: Path,
    load: Callable[[Path, Sequence[str]], C],
    overrides: Sequence[str] = (),
    of_seed: Callable[[int], Sequence[str]] = lambda seed: (),
) -> list[Run[C]]:
    """Plan every run of a sweep, seeds outermost, so that a table fills row by row.

    Args:
        sweep: what to train.
        folder: of the runs; each has ``VARIANT/SEED`` in it.
        load: reads the recipe with overrides.
        overrides: ``dotted.key=value`` changes of the recipe for all runs.
        of_seed: further changes for all runs of a seed, e.g. its lists; nothing overrides these.

    Raises:
        RecipeError: a variant does not fit the recipe.
    """
    shared = as_overrides(sweep.overrides)
    runs = []
    for seed in sweep.seeds:
        for variant, changes in sweep.variants.items():
            place = [f"out={folder / folder_name(variant) / str(seed)}", f"seed={seed}"]
            changed = [*shared, *as_overrides(changes), *overrides, *of_seed(seed), *place]
            runs.append(Run(variant, seed, load(sweep.recipe, changed)))
    return runs


def by_variant(runs: Sequence[Run[C]]) -> Iterator[tuple[str, list[Run[C]]]]:
    """The runs of each variant, in the sweep's order."""
    for variant in dict.fromkeys(run.variant for run in runs):
        yield variant, [run for run in runs if run.variant == variant]


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
    """Do the work of every run that is not finished, several at a time, each in a process with one thread.

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
        failed = fresh.submit(_run_all, todo, done, prepare, work, jobs or os.cpu_count() or 1, progress).result()
    if failed:
        logs = ", ".join(str(run.config.out / LOG) for run in failed)
        raise SweepError(f"{len(failed)} of {len(todo)} trainings failed; see {logs}")


def _run_all(
    todo: Sequence[Run[C]],
    done: int,
    prepare: Callable[[Run[C], bool], Shared],
    work: Callable[[Run[C], Shared], object],
    jobs: int,
    progress: bool,
) -> list[Run[C]]:
    """Run in the fresh process: prepare, then fork each run; returns the runs that failed."""
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
    return failed


def _run_one(run: Run[C], work: Callable[[Run[C], Shared], object], shared: Shared) -> None:
    """Run in a fork: one thread, output to the run's log."""
    torch.set_num_threads(1)
    run.config.out.mkdir(parents=True, exist_ok=True)
    log = (run.config.out / LOG).open("a", encoding="utf-8")
    os.dup2(log.fileno(), sys.stdout.fileno())
    os.dup2(log.fileno(), sys.stderr.fileno())
    work(run, shared)
