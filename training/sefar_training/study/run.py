"""Training the runs of a study: clips are decoded once, and all trainings share them in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from sefar_serve.lists import ClipKey

from ..data import DecodedClip, FrameStore, read_list
from ..sweep.run import run_in_processes
from ..train import train
from .plan import Study, StudyRun, plan_study

Decoded = Mapping[ClipKey, DecodedClip]


def run_study(
    study: Study,
    out: Path,
    overrides: Sequence[str] = (),
    jobs: int | None = None,
    progress: bool = True,
) -> list[StudyRun]:
    """Train every run that is not trained yet.

    Args:
        study: what to run.
        out: folder of lists, runs and report. Finished runs in it are skipped, interrupted ones resume.
        overrides: ``dotted.key=value`` changes of the recipe for all runs.
        jobs: trainings at a time, with one thread each; None for one per core.
        progress: show a bar.

    Raises:
        SweepError: trainings failed. The others are finished first. The message names the logs.
        RecipeError, ListFileError: the study does not fit its recipe.
    """
    runs = plan_study(study, out, overrides)
    run_in_processes(runs, _is_trained, _decode, _train, jobs, progress)
    return runs


def _is_trained(run: StudyRun) -> bool:
    return run.checkpoint.exists()


def _decode(run: StudyRun, progress: bool) -> Decoded:
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


def _train(run: StudyRun, decoded: Decoded) -> None:
    torch.set_num_threads(1)
    train(run.config, resume=True, progress=False, decoded=decoded)
