"""Write the data set: videos, poses, labels, attributes, captions, lists, routines, contact sheets.

Clips are rendered in parallel processes. Each clip depends only on its own seed, so the result does not depend on the
number of processes. An interrupted run resumes where it stopped.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from sefar_serve.atomic import atomic_file
from sefar_serve.cores import available_cores
from sefar_serve.errors import SefarError
from sefar_training.captions import label_captions
from sefar_training.joint_archive import write_joints
from sefar_training.synthgym.classes import CLASSES, ActionClass, action_class
from sefar_training.synthgym.encode import encode_clip
from sefar_training.synthgym.joints import ESTIMATOR, SHA256
from sefar_training.synthgym.nuisance import find_preset
from sefar_training.synthgym.render import POSE_NAMES, clip_joints, render_clip
from sefar_training.synthgym.routine import write_routine
from sefar_training.synthgym.sheet import write_contact_sheets

VERSION = 1
"""Version of the rendering; a data set with another version is not resumed."""

SPLITS = ("train", "val", "test", "routine", "demo")
"""Streams of seeds. No data set contains clips of `demo`, so no model is trained on them."""

POSE_COLUMNS = "columns"
"""Key of the column names in an archive of poses; no clip has this name."""

JOINTS_FOLDER = "joints"
"""Folder of the true joints."""

LABEL_RATES = (5, 10, 20, 100)
"""Percentage of each class's training clips that are labelled; one folder of lists for each."""


class DatasetExistsError(SefarError, ValueError):
    """The folder contains something else, which is not overwritten."""


@dataclass(frozen=True)
class DatasetSummary:
    """A summary of what was written."""

    out: Path
    preset: str
    seed: int
    clips: Mapping[str, int]
    classes: int

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {split}" for split, count in self.clips.items())
        return f"{self.out}: SynthGym {self.preset}, seed {self.seed}, {self.classes} classes, clips: {counts}"


def clip_seed(seed: int, split: str, action: ActionClass | int | str, number: int) -> int:
    """The seed of one clip. Splits, classes and data sets never share seeds.

    Raises:
        ValueError: unknown split or class.
    """
    if split not in SPLITS:
        raise ValueError(f"no split {split!r}; choose one of {', '.join(SPLITS)}")
    key = [seed, SPLITS.index(split), action_class(action).index, number]
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1)


@dataclass(frozen=True)
class _Job:
    action: int
    seed: int
    preset: str
    path: Path


def write_dataset(
    out: str | os.PathLike[str],
    preset: str = "standard",
    seed: int = 0,
    clips_per_class: Mapping[str, int] | None = None,
    workers: int | None = None,
    progress: bool = True,
    joints: bool = False,
) -> DatasetSummary:
    """Write a data set, or resume an interrupted one.

    Args:
        out: folder to write to; docs/explanation/synthgym.md lists its contents.
        preset: difficulty and size.
        seed: a different seed gives different clips.
        clips_per_class: clips for train, val and test, instead of the preset's.
        workers: processes; None for one per core.
        progress: show a progress bar.
        joints: also write the true joints of every clip, for training on joints without a pose estimator.

    Raises:
        DatasetExistsError: the folder contains another data set or other files.
        ValueError: unknown preset or split, or a split without clips.
    """
    out = Path(out)
    sizes = _sizes(find_preset(preset).clips, clips_per_class or {})
    out.mkdir(parents=True, exist_ok=True)
    _claim(out, {"version": VERSION, "preset": preset, "seed": seed, "clips_per_class": sizes})
    jobs = {
        split: [
            _Job(action.index, clip_seed(seed, split, action, n), preset, _clip_path(out, split, action, n))
            for action in CLASSES
            for n in range(count)
        ]
        for split, count in sizes.items()
    }
    with tqdm(total=sum(map(len, jobs.values())), desc="clips", unit="clip", disable=not progress) as bar:
        for split, todo in jobs.items():
            (out / "videos" / split).mkdir(parents=True, exist_ok=True)
            poses = {}
            for job, pose in zip(todo, _in_processes(todo, workers), strict=True):
                poses[job.path.relative_to(out).as_posix()] = pose
                bar.update()
            _write_poses(out / "poses" / f"{split}.npz", poses)
            if joints:
                known = {j.path.relative_to(out).as_posix(): clip_joints(j.action, j.seed, preset) for j in todo}
                write_joints(out / JOINTS_FOLDER, split, known, ESTIMATOR, SHA256)
    _write_text(out / "labels.txt", "".join(action.name + "\n" for action in CLASSES))
    _write_json(out / "classes.json", [_described(action) for action in CLASSES])
    _write_json(
        out / "captions.json",
        {
            job.path.relative_to(out).as_posix(): label_captions(CLASSES[job.action].name)
            for todo in jobs.values()
            for job in todo
        },
    )
    _write_lists(out, sizes, seed)
    _write_routines(out, preset, seed)
    write_contact_sheets(out)
    return DatasetSummary(out, preset, seed, {split: len(todo) for split, todo in jobs.items()}, len(CLASSES))


def _sizes(standard: Mapping[str, int], wanted: Mapping[str, int]) -> dict[str, int]:
    if unknown := sorted(set(wanted) - set(standard)):
        raise ValueError(f"no split {', '.join(unknown)}; choose from {', '.join(standard)}")
    sizes = dict(standard) | dict(wanted)
    if min(sizes.values()) < 1:
        raise ValueError(f"every split needs at least one clip per class, not {sizes}")
    return sizes


def _clip_path(out: Path, split: str, action: ActionClass, number: int) -> Path:
    return out / "videos" / split / f"{action.index:02d}_{number:04d}.mp4"


def _claim(out: Path, identity: dict[str, Any]) -> None:
    """Mark the folder as belonging to this data set, or check that it does."""
    mark = out / "dataset.json"
    if mark.exists():
        there = json.loads(mark.read_text())
        if there != identity:
            raise DatasetExistsError(f"{out} contains another data set ({there}); choose another folder")
    elif any(out.iterdir()):
        raise DatasetExistsError(f"{out} is not empty and is not a SynthGym data set; choose another folder")
    _write_json(mark, identity)


def _in_processes(jobs: list[_Job], workers: int | None) -> Iterator[NDArray[np.float16]]:
    workers = workers or available_cores()
    if workers == 1:
        yield from map(_do, jobs)
        return
    # Spawned, not forked: the caller may already run threads of its own.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _in_worker) as pool:
        yield from pool.map(_do, jobs, chunksize=8)


def _in_worker() -> None:
    cv2.setNumThreads(1)


def _do(job: _Job) -> NDArray[np.float16]:
    """Write one clip and its pose unless both exist; return the pose."""
    side = job.path.with_suffix(".npy")
    if job.path.exists() and side.exists():
        return np.asarray(np.load(side))
    clip = render_clip(job.action, job.seed, job.preset)
    pose = clip.pose.astype(np.float16)
    with atomic_file(side) as new, new.open("wb") as file:
        np.save(file, pose)
    encode_clip(clip, job.path)
    return pose


def _described(action: ActionClass) -> dict[str, Any]:
    other = None if action.opposite is None else action_class(action.opposite).index
    return {"name": action.name, "attributes": action.attributes, "opposite": other}


def _write_lists(out: Path, sizes: Mapping[str, int], seed: int) -> None:
    """Write lists in the authors' format, one `path label` per line, with equally many labelled clips per class."""

    def lines(split: str, numbers: list[list[int]]) -> str:
        return "".join(
            f"{_clip_path(out, split, action, n).relative_to(out).as_posix()} {action.index}\n"
            for action, chosen in zip(CLASSES, numbers, strict=True)
            for n in chosen
        )

    every = {split: [list(range(count))] * len(CLASSES) for split, count in sizes.items()}
    rng = np.random.default_rng([seed, 77])
    orders = [rng.permutation(sizes["train"]).tolist() for _ in CLASSES]
    for rate in LABEL_RATES:
        labelled = max(1, round(sizes["train"] * rate / 100))
        folder = out / "lists" / f"synthgym_{rate}"
        folder.mkdir(parents=True, exist_ok=True)
        train = [sorted(order[:labelled]) for order in orders]
        rest = [sorted(order[labelled:]) for order in orders] if rate < 100 else every["train"]
        _write_text(folder / "train.csv", lines("train", train))
        _write_text(folder / "unlabel.csv", lines("train", rest))
        for split in ("val", "test"):
            _write_text(folder / f"{split}.csv", lines(split, every[split]))


def _write_routines(out: Path, preset: str, seed: int) -> None:
    folder = out / "routines"
    folder.mkdir(exist_ok=True)
    timelines = {}
    for number in range(find_preset(preset).routines):
        path = folder / f"routine_{number:02d}.mp4"
        segments = write_routine(path, clip_seed(seed, "routine", 0, number), preset)
        timelines[path.relative_to(out).as_posix()] = [
            {"start": s.start, "end": s.end, "label": s.action.index, "name": s.action.name} for s in segments
        ]
    _write_json(folder / "timeline.json", timelines)


def _write_poses(path: Path, poses: Mapping[str, NDArray[np.float16]]) -> None:
    """Write a split's archive: the poses of each video under its path, float16 (T, P), and the names of the columns."""
    path.parent.mkdir(exist_ok=True)
    with atomic_file(path) as new, new.open("wb") as file:
        np.savez(file, **{POSE_COLUMNS: np.array(POSE_NAMES)}, **poses)


def _write_text(path: Path, text: str) -> None:
    with atomic_file(path) as new:
        new.write_text(text)


def _write_json(path: Path, value: object) -> None:
    _write_text(path, json.dumps(value, indent=1) + "\n")
