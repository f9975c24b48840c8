"""What joints are worth: tennis strokes from few labels, with logistic regression on 3-D joints of 16 frames.

371 real clips, 7 strokes, five given folds that share no venue, so that a place cannot give the class away. For each
fold, draws of n labels a class from the other four; balanced accuracy on the fold. ± is the 95 % interval over folds
(t), of means over draws: draws of one fold share their test clips, so they do not count as independent.

Joints are estimated once and kept in --cache; a run that was stopped resumes there. Estimation lowers its own priority.
Run: python benchmarks/pose_tennis.py [--data FOLDER] [--cache FOLDER] [--draws N] [--labels N ...] [--json FILE]
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy import stats
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score

from sefar_serve.atomic import atomic_file
from sefar_serve.pose import JOINTS, Detection, Landmarks, Picture, Region, load_poses
from sefar_serve.pose.joints import HIPS, SHOULDERS
from sefar_serve.pose.litert import LiteRTEstimator

console = Console()
ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("SEFAR_SHARED_DATA", ROOT.parent / "shared" / "data"))
ALL = 0
"""Labels a class: every one there is."""

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Row:
    """One clip of the manifest."""

    path: str
    label: str
    fold: int


class TimedEstimator(LiteRTEstimator):
    """Counts calls and CPU seconds of the detector and of the landmark model."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = [0, 0]
        self.seconds = [0.0, 0.0]

    def detect(self, picture: Picture, within: Region) -> list[Detection]:
        """As the base class does."""
        started = time.process_time()
        found = super().detect(picture, within)
        self._count(0, started)
        return found

    def landmarks(self, picture: Picture, region: Region) -> Landmarks:
        """As the base class does."""
        started = time.process_time()
        found = super().landmarks(picture, region)
        self._count(1, started)
        return found

    def _count(self, part: int, started: float) -> None:
        self.calls[part] += 1
        self.seconds[part] += time.process_time() - started


def read_manifest(folder: Path) -> list[Row]:
    with (folder / "manifest.csv").open(encoding="utf-8", newline="") as file:
        return [Row(line["path"], line["label"], int(line["fold"])) for line in csv.DictReader(file)]


def estimate(rows: Sequence[Row], folder: Path, cache: Path) -> None:
    """Find the joints of every clip that has none in the cache."""
    missing = [row for row in rows if not cached(cache, row).is_file()]
    if not missing:
        return
    os.nice(10)
    estimator = TimedEstimator()
    for row in track(missing, "estimating", console=console):
        calls, seconds, started = list(estimator.calls), list(estimator.seconds), time.process_time()
        clip = load_poses(folder / row.path, estimator)
        total = time.process_time() - started
        file = cached(cache, row)
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(file) as new, new.open("wb") as out:
            np.savez(
                out,
                joints=clip.poses.joints,
                image=clip.poses.image,
                detected=clip.poses.detected,
                presence=clip.poses.presence,
                calls=np.subtract(estimator.calls, calls),
                seconds=np.append(np.subtract(estimator.seconds, seconds), total),
            )


def cached(cache: Path, row: Row) -> Path:
    return cache / f"{row.path}.npz"


def load(rows: Sequence[Row], cache: Path) -> dict[str, NDArray[np.generic]]:
    """The arrays of all clips, stacked; of persons the first."""
    tables: dict[str, list[NDArray[np.generic]]] = {}
    for row in rows:
        with np.load(cached(cache, row)) as arrays:
            for name in arrays.files:
                tables.setdefault(name, []).append(arrays[name])
    return {name: np.stack(table) for name, table in tables.items()}


def canonical(joints: Floats) -> Floats:
    """Turn clips (N,F,J,3) about the vertical, so that the mean left–right line of hips and shoulders lies along x."""
    across = sum(joints[:, :, left] - joints[:, :, right] for left, right in (SHOULDERS, HIPS))
    flat = across[..., [0, 2]]
    flat = flat / np.maximum(np.linalg.norm(flat, axis=-1, keepdims=True), 1e-6)
    x, z = flat.mean(axis=1).T
    angle = np.arctan2(z, x)
    cos, sin = np.cos(angle), np.sin(angle)
    zero, one = np.zeros_like(cos), np.ones_like(cos)
    turn = np.stack([cos, zero, sin, zero, one, zero, -sin, zero, cos], axis=-1).reshape(-1, 1, 3, 3)
    return joints @ turn.swapaxes(-1, -2)


def flat_image(image: Floats) -> Floats:
    """2-D joints, the hips at 0 and the torso's median length 1."""
    hips, shoulders = (image[:, :, list(pair)].mean(axis=2) for pair in (HIPS, SHOULDERS))
    torso = np.median(np.linalg.norm(shoulders - hips, axis=-1), axis=1)
    return (image - hips[:, :, None]) / np.maximum(torso, 4.0)[:, None, None, None]


def features(arrays: dict[str, NDArray[np.generic]]) -> dict[str, Floats]:
    """What is classified, by name: (N, D)."""
    world = arrays["joints"][:, :, 0, :, :3]
    turned = canonical(world)
    ways = {
        "3-D, canonical yaw, 16 frames": turned,
        "the same, 8 frames": turned[:, 1::2],
        "3-D, as seen": world,
        "2-D, hips at 0, torso 1": flat_image(arrays["image"][:, :, 0]),
        "canonical, first frame": turned[:, :1],
        "canonical, mean over time": turned.mean(axis=1),
    }
    return {name: values.reshape(len(values), -1) for name, values in ways.items()}


def draws(
    labels: NDArray[np.str_], train: NDArray[np.bool_], count: int, rounds: int, fold: int
) -> Iterator[list[int]]:
    """Numbers of training clips: `count` of each class, drawn anew each round."""
    if count == ALL:
        yield np.flatnonzero(train).tolist()
        return
    for number in range(rounds):
        rng = np.random.default_rng((fold, number))
        yield [
            int(i)
            for label in np.unique(labels)
            for i in rng.permutation(np.flatnonzero(train & (labels == label)))[:count]
        ]


def accuracy(
    values: Floats, labels: NDArray[np.str_], folds: NDArray[np.int64], count: int, rounds: int
) -> list[float]:
    """Balanced accuracy of each fold, a mean over draws."""
    result = []
    for fold in np.unique(folds).tolist():
        test = folds == fold
        scores = []
        for chosen in draws(labels, ~test, count, rounds, fold):
            model = LogisticRegression(C=1.0, max_iter=2000).fit(values[chosen], labels[chosen])
            scores.append(balanced_accuracy_score(labels[test], model.predict(values[test])))
        result.append(float(np.mean(scores)))
    return result


def interval(scores: Sequence[float]) -> float:
    """Half the 95 % interval of the mean over folds."""
    return float(stats.t.ppf(0.975, len(scores) - 1) * stats.sem(scores))


def report_estimator(arrays: dict[str, NDArray[np.generic]]) -> dict[str, float]:
    calls, seconds = arrays["calls"].sum(axis=0), arrays["seconds"].sum(axis=0)
    clips = len(arrays["calls"])
    return {
        "clips": clips,
        "frames with a person": float(arrays["detected"].mean()),
        "clips with a person in every frame": float(arrays["detected"].all(axis=(1, 2)).mean()),
        "clips without a person": float((~arrays["detected"].any(axis=(1, 2))).mean()),
        "detector calls a clip": float(calls[0] / clips),
        "landmark calls a clip": float(calls[1] / clips),
        "detector, ms a call": float(1e3 * seconds[0] / max(calls[0], 1)),
        "landmarks, ms a call": float(1e3 * seconds[1] / max(calls[1], 1)),
        "decoding and the rest, ms a clip": float(1e3 * (seconds[2] - seconds[0] - seconds[1]) / clips),
        "all, ms a clip": float(1e3 * seconds[2] / clips),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=SHARED / "real" / "tennis", help="folder with manifest.csv")
    parser.add_argument("--cache", type=Path, default=Path("runs/pose_tennis"), help="folder for the joints")
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--labels", type=int, nargs="+", default=[3, 5, 10, ALL], help="a class; 0: all")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    warnings.simplefilter("error", ConvergenceWarning)

    rows = read_manifest(arguments.data)
    estimate(rows, arguments.data, arguments.cache)
    arrays = load(rows, arguments.cache)
    assert arrays["joints"].shape[2:] == (1, len(JOINTS), 4)
    figures = report_estimator(arrays)
    for name, value in figures.items():
        console.print(f"{name}: {value:.3f}", highlight=False)

    labels = np.array([row.label for row in rows])
    folds = np.array([row.fold for row in rows])
    table = Table("balanced accuracy, %", *("all" if n == ALL else f"{n} labels" for n in arguments.labels))
    scores: dict[str, dict[str, list[float]]] = {}
    for name, values in features(arrays).items():
        scores[name] = {str(n): accuracy(values, labels, folds, n, arguments.draws) for n in arguments.labels}
        table.add_row(name, *(f"{100 * np.mean(s):.1f} ± {100 * interval(s):.1f}" for s in scores[name].values()))
    console.print(table)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({"estimator": figures, "folds": scores}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
