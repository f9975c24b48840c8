"""How well familiarity tells clips that a model knows from others, and how many known clips are marked as unfamiliar.

    SEFAR_SHARED_DATA=../shared/data python benchmarks/familiarity.py --synthgym data/synthgym

Three comparisons: the shipped model, SynthGym against real clips; linear models of frames, and of joints, tennis
against the room and back. A linear model is fitted for each fold: one fold is the test, the next the validation list,
the others are trained on. Folds share no venue or video. The upper table is how the method was chosen, on the
validation clips; the lower one has the chosen method, on the test clips.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.covariance import LedoitWolf
from sklearn.metrics import roc_auc_score

from benchmarks.pose_study.clips import ClipSet, read_set
from benchmarks.pose_study.linear import joint_features, recipe
from sefar_serve.engine.onnx import OnnxModel
from sefar_serve.pose import make_estimator
from sefar_serve.reliability import UNFAMILIAR_BELOW
from sefar_serve.settings import shipped_model
from sefar_training.data import EvaluationClips, ListEntry, read_list
from sefar_training.linear import fit, fit_settings, open_features
from sefar_training.typical import NEIGHBOUR, fit_typical

Floats = NDArray[np.floating]
Score = Callable[["Described"], Floats]

CHOSEN = "nearest tokens"


@dataclass(frozen=True)
class Described:
    """What a model gives for N clips: mean tokens (N,D), embedding (N,256), logits (N,K)."""

    tokens: Floats
    embedding: Floats
    logits: Floats


@dataclass(frozen=True)
class Trial:
    """One model, the clips it knows and clips of something else.

    Attributes:
        name: of the comparison.
        train: the training clips.
        labels: of the training clips.
        val: held-out clips of the same kind.
        test: others of the same kind.
        others: clips of something else, by name.
    """

    name: str
    train: Described
    labels: NDArray[np.int64]
    val: Described
    test: Described
    others: dict[str, Described]


def nearest(reference: Floats, rows: Floats, number: int = NEIGHBOUR) -> Floats:
    """Minus the squared distance of each row to its n-th nearest reference."""
    apart = (rows**2).sum(axis=1)[:, None] + (reference**2).sum(axis=1) - 2 * rows @ reference.T
    found: Floats = -np.sort(apart, axis=1)[:, number - 1]
    return found


def mahalanobis(trial: Trial) -> tuple[Score, Score]:
    """The distance to the nearest class mean by the shared covariance, and the same relative to all clips."""
    known = trial.train.embedding
    used = known.std(axis=0) > 1e-9
    classes = np.unique(trial.labels)
    means = np.stack([known[trial.labels == label].mean(axis=0) for label in classes])
    within = known - means[np.searchsorted(classes, trial.labels)]

    def white(rows: Floats) -> Floats:
        root: Floats = np.linalg.cholesky(LedoitWolf(assume_centered=True).fit(rows[:, used]).precision_)
        return root

    own, whole = white(within), white(known - known.mean(axis=0))

    def to_class(clips: Described) -> Floats:
        return nearest(means[:, used] @ own, clips.embedding[:, used] @ own, 1)

    def relative(clips: Described) -> Floats:
        centre = known.mean(axis=0, keepdims=True)[:, used]
        return to_class(clips) - nearest(centre @ whole, clips.embedding[:, used] @ whole, 1)

    return to_class, relative


def methods(trial: Trial) -> dict[str, Score]:
    """Scores that are higher for what is typical."""
    to_class, relative = mahalanobis(trial)
    return {
        "energy": lambda clips: np.logaddexp.reduce(clips.logits, axis=1),
        "Mahalanobis": to_class,
        "relative M.": relative,
        "nearest embeddings": lambda clips: nearest(trial.train.embedding, clips.embedding),
        CHOSEN: lambda clips: nearest(trial.train.tokens, clips.tokens),
    }


def auroc(known: Floats, other: Floats) -> float:
    """The share of pairs in which the known clip is the more typical one."""
    return float(roc_auc_score(np.repeat([1, 0], [len(known), len(other)]), np.concatenate([known, other])))


def frame_features(clips: ClipSet, work: Path) -> Floats:
    """The features of the served view of all clips, (N,1,D)."""
    source, _ = open_features(recipe("rgb", clips.root, work))
    found, errors = source.read(clips.files, 1)
    if errors:
        raise SystemExit(f"{len(errors)} clips cannot be read, among them {next(iter(errors.values()))}")
    return np.stack([found[file] for file in clips.files])


def linear_trials(stream: str, home: ClipSet, away: ClipSet, features: dict[str, Floats]) -> Iterator[Trial]:
    """A trial for each fold."""
    config = recipe("rgb" if stream == "rgb" else "lr", Path(), Path())
    settings, elements = fit_settings(config), config.model.sampling.elements
    folds = home.fold_numbers
    for number, test in enumerate(folds):
        val = folds[(number + 1) % len(folds)]
        train = ~np.isin(home.folds, [test, val])
        fitted = fit(features[home.name][train], home.labels[train], settings, len(home.classes))

        def described(rows: Floats, fitted=fitted) -> Described:  # type: ignore[no-untyped-def]
            mean = rows.reshape(len(rows), elements, -1).mean(axis=1)
            return Described(mean.astype(np.float64), fitted.embed(rows), fitted.logits(rows))

        served = features[home.name][:, 0]
        yield Trial(
            f"linear {stream}, {home.name}",
            described(served[train]),
            home.labels[train],
            described(served[home.folds == val]),
            described(served[home.folds == test]),
            {away.name: described(features[away.name][:, 0])},
        )


def shipped_trial(synthgym: Path, real: Sequence[ClipSet]) -> Trial:
    """The shipped model; the training clips are the labelled ones."""
    model = OnnxModel(shipped_model(), device="cpu")

    def described(entries: Sequence[ListEntry]) -> Described:
        assert model.metadata.pixels is not None
        clips = EvaluationClips(entries, model.metadata.sampling, *model.metadata.pixels)
        with ThreadPoolExecutor() as pool:
            frames = list(pool.map(lambda index: clips[index]["inputs"].numpy(), range(len(clips))))
        found = [model.run({"frames": np.stack(frames[i : i + 16])}) for i in range(0, len(frames), 16)]
        tokens = np.concatenate([one.tokens for one in found]).mean(axis=1)
        embedding = np.concatenate([one.embedding for one in found])
        logits = np.concatenate([one.logits for one in found])
        return Described(*(values.astype(np.float64) for values in (tokens, embedding, logits)))

    lists = {
        name: read_list(synthgym / "lists" / "synthgym_10" / f"{name}.csv", synthgym)
        for name in ("train", "val", "test")
    }
    others = {
        clips.name: [ListEntry(path, file, 0) for path, file in zip(clips.paths, clips.files, strict=True)]
        for clips in real
    }
    return Trial(
        "shipped, synthgym",
        described(lists["train"]),
        np.array([entry.label for entry in lists["train"]]),
        described(lists["val"]),
        described(lists["test"]),
        {name: described(entries) for name, entries in others.items()},
    )


def report(trials: Sequence[Trial]) -> None:
    """Print both tables."""
    names = list(dict.fromkeys((trial.name, other) for trial in trials for other in trial.others))
    print(f"\nAUROC on validation clips\n{'':34s}" + "".join(f"{method:>20s}" for method in methods(trials[0])))
    for name, other in names:
        rows = [
            [auroc(score(trial.val), score(trial.others[other])) for score in methods(trial).values()]
            for trial in trials
            if trial.name == name
        ]
        print(f"{f'{name} / {other}':34s}" + "".join(f"{value:20.4f}" for value in np.mean(rows, axis=0)))
    thresholds = (0.005, UNFAMILIAR_BELOW, 0.02, 0.05)
    marks = "".join(f"{f'known {t:g}':>13s}{f'other {t:g}':>13s}" for t in thresholds)
    print(f"\n{CHOSEN} on test clips: AUROC, and share marked below each familiarity\n{'':34s}{'AUROC':>8s}{marks}")
    for name, other in names:
        rows = []
        for trial in (trial for trial in trials if trial.name == name):
            typical = fit_typical(trial.train.tokens, trial.val.tokens)
            known, unknown = (typical.familiarity(clips.tokens) for clips in (trial.test, trial.others[other]))
            marked = [float((shares < t).mean()) for t in thresholds for shares in (known, unknown)]
            far = auroc(-typical.distance(trial.test.tokens), -typical.distance(trial.others[other].tokens))
            rows.append([far, *marked])
        first, *rest = np.mean(rows, axis=0)
        print(f"{f'{name} / {other}':34s}{first:8.4f}" + "".join(f"{value:13.1%}" for value in rest))


def main() -> None:
    """Read the arguments and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--synthgym", type=Path, help="folder of `sefar synth`; without it, no shipped model")
    parser.add_argument("--work", type=Path, default=Path("runs/pose_study"), help="folder of features and joints")
    given = parser.parse_args()
    sets = [read_set(name, Path(os.environ.get("SEFAR_SHARED_DATA", "../shared/data"))) for name in ("tennis", "room")]
    trials = [] if given.synthgym is None else [shipped_trial(given.synthgym, sets)]
    estimator = make_estimator()
    for stream in ("rgb", "pose"):
        features = {
            clips.name: frame_features(clips, given.work)
            if stream == "rgb"
            else joint_features(clips, given.work, estimator)
            for clips in sets
        }
        for home, away in (sets, sets[::-1]):
            trials += linear_trials(stream, home, away, features)
    report(trials)


if __name__ == "__main__":
    main()
