"""Doing the runs: what they share, one run, and many in turn or in processes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cached_property
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sefar_serve.pose import Estimator, make_estimator
from sefar_training.data.joint_cache import Joints

from .clips import ClipSet, read_set
from .joints import load_joints, store_controls
from .linear import STREAMS, fit_linear, joint_features, picture_features
from .results import Result, Run
from .trained import OURS, Trainer

NICE = 15
"""Runs take hours and leave the machine to others."""


@dataclass(frozen=True)
class Study:
    """What all runs share, loaded when a run first needs it.

    Attributes:
        name: of the set.
        shared: folder of shared data.
        work: folder of joints, features and results.
        overrides: changes of the recipe, ``key=value``.
    """

    name: str
    shared: Path
    work: Path
    overrides: tuple[str, ...] = ()

    @cached_property
    def clips(self) -> ClipSet:
        """The set."""
        return read_set(self.name, self.shared)

    @cached_property
    def estimator(self) -> Estimator:
        """Finds joints."""
        return make_estimator()

    @cached_property
    def joints(self) -> list[Joints]:
        """The joints of each clip; found now if they are not stored."""
        return load_joints(self.clips, self.work, self.estimator)

    @cached_property
    def trainer(self) -> Trainer:
        """Trains models on joints."""
        return Trainer(self.clips, self.work, self.estimator, self.overrides)

    @cached_property
    def flat_joints(self) -> NDArray[np.float32]:
        """What logistic regression sees of the joints, (N,1,D)."""
        return joint_features(self.clips, self.work, self.estimator)

    @cached_property
    def pictures(self) -> NDArray[np.float32]:
        """What it sees of frames, (N,V,D); computed now if it is not stored."""
        return picture_features(self.clips, self.work)

    def prepare(self, methods: Sequence[str]) -> None:
        """Find the joints and the features that these methods need, so that runs in several processes only read."""
        if set(methods) - {"rgb"}:
            store_controls(self.clips, self.joints, self.work, self.estimator)
        if "rgb" in methods:
            _ = self.pictures

    def do(self, run: Run) -> Result:
        """Train a model, and predict the clips of the folds left out."""
        draw = self.clips.draw(run.count, run.held, run.draw)
        if run.method in STREAMS:
            values, started = self.flat_joints if run.method == "lr" else self.pictures, time.process_time()
            found = fit_linear(run.method, run.setting, values, self.clips.labels, draw.labelled, draw.held)
        else:
            trainer, started = self.trainer, time.process_time()
            if run.method in OURS:
                found = trainer.fit_ours(run.method, draw, run.draw)
            else:
                found = trainer.fit_graph(run.setting, draw, run.draw)
        return Result(found, time.process_time() - started)


def do_all(study: Study, runs: Sequence[Run], jobs: int) -> Iterator[tuple[Run, Result]]:
    """Do runs, one thread each, in this process or in several; yields each as soon as it is done."""
    if jobs == 1:
        for run in runs:
            yield run, study.do(run)
        return
    # Not the study itself: once its estimator is open, it cannot be sent to another process.
    told = (study.name, study.shared, study.work, study.overrides)
    with ProcessPoolExecutor(jobs, get_context("spawn"), _start, told) as pool:
        waiting = {pool.submit(_do, run): run for run in runs}
        for done in as_completed(waiting):
            yield waiting[done], done.result()


def one_thread() -> None:
    """Give this process one thread, and a low priority."""
    os.nice(max(NICE - os.nice(0), 0))
    torch.set_num_threads(1)


_study: Study
"""That of a worker process."""


def _start(name: str, shared: Path, work: Path, overrides: tuple[str, ...]) -> None:
    global _study
    one_thread()
    _study = Study(name, shared, work, overrides)


def _do(run: Run) -> Result:
    return _study.do(run)
