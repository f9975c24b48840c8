"""Judges candidates by cross-validation of a user's labelled clips: on new places, and on the places that are known."""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from sefar_serve.atomic import atomic_file
from sefar_serve.errors import SefarError
from sefar_serve.lists import UNKNOWN, ListEntry, write_list
from sefar_serve.pose import Estimator

from ..checkpoint import load_checkpoint
from ..evaluation import predict_clips, torch_predictor
from ..fusion import fuse_logits, try_weights
from ..inputs import create_inputs
from ..linear import fit, fit_settings, open_features
from ..start import Prepared
from ..train import VARIED, train
from .candidates import Recipes, learnable_clips
from .trial import Candidate, Judged, Trial, judge

Probabilities = NDArray[np.float64]
"""(N,K); rows of NaN for clips without a prediction."""

Indices = NDArray[np.int64]


TINY = 1e-30


class OutOfTimeError(SefarError, RuntimeError):
    """A trial would take longer than is left."""


class OneStreamError(SefarError, RuntimeError):
    """Of two streams, one does not help."""


@dataclass
class Comparison:
    """Judges candidates, and keeps what it found in a folder, so that an interrupted run goes on.

    Attributes:
        prepared: the collection.
        recipes: of its candidates.
        folder: where results are kept.
        estimator: finds joints; None for MediaPipe's.
        progress: show progress bars.
    """

    prepared: Prepared
    recipes: Recipes
    folder: Path
    estimator: Estimator | None = None
    progress: bool = True
    _features: dict[str, tuple[Indices, NDArray[np.float32]]] = field(default_factory=dict)
    _predicted: dict[tuple[object, ...], Probabilities | None] = field(default_factory=dict)

    def _cuts(self, folds: Indices) -> Iterator[tuple[Indices, Indices]]:
        """For each fold the clips of the others that are learned from, and its own clips that are judged.

        Clips of a class that the other folds do not have are not judged: no model could know them.
        """
        learnable, labels = learnable_clips(self.prepared), self.prepared.labels
        for fold in np.unique(folds[folds >= 0]).tolist():
            learned = np.flatnonzero((folds >= 0) & (folds != fold) & learnable)
            held = np.flatnonzero((folds == fold) & np.isin(labels, labels[learned]))
            if len(held):
                yield learned, held

    def features(self, candidate: Candidate) -> tuple[Indices, NDArray[np.float32]]:
        """Features of all labelled clips for a linear candidate.

        Returns:
            Numbers of the clips that could be read, int64 (n,), and their features, float32 (n,V,D).

        Raises:
            SefarError, ModuleNotFoundError: the features cannot be had at all; the message says what is missing.
        """
        if candidate.key not in self._features:
            labelled = np.flatnonzero(self.prepared.labels != UNKNOWN)
            entries = self._entries(labelled)
            with _written(train=entries) as folder:
                config = self.recipes.make(candidate, folder / "run", folder / "train.csv")
                source, _ = open_features(config, self.progress, self.estimator)
                found, _ = source.read([entry.clip for entry in entries], config.linear.views, self.progress)
            if not found:
                raise SefarError("no clip can be read")
            kept = [n for n, entry in enumerate(entries) if entry.clip in found]
            self._features[candidate.key] = labelled[kept], np.stack([found[entries[n].clip] for n in kept])
        return self._features[candidate.key]

    def trial(self, candidate: Candidate, deadline: float = float("inf"), later: int = 0) -> Trial:
        """Judge a candidate.

        Args:
            candidate: what to try.
            deadline: `time.monotonic` after which no training of a network begins that would not end before it.
            later: networks that are tried after this one; the progress bar counts them in the time left.

        Raises:
            OutOfTimeError: there is not enough time.
            OneStreamError: of a model of both streams, one does not help.
            SefarError, ModuleNotFoundError: what the candidate needs cannot be had.
        """
        started = time.monotonic()
        folds = self.prepared.folds
        if candidate.members:
            new, same = (self._joined(candidate, of) for of in (folds.new_places, folds.same_places))
            if (weight := self.pose_weight(candidate)) in (0, 1):
                raise OneStreamError("frames add nothing to joints" if weight else "joints add nothing to frames")
        elif candidate.method == "linear":
            new, same = (self._linear(candidate, of) for of in (folds.new_places, folds.same_places))
        else:
            new, same = self._network(candidate, deadline, later)
        return Trial(candidate, self._judged(new), self._judged(same), time.monotonic() - started)

    def control(self, candidate: Candidate) -> Trial:
        """Judge what a linear candidate reaches that sees the first frame alone."""
        started = time.monotonic()
        folds = self.prepared.folds
        new, same = (self._linear(candidate, of, frames=1) for of in (folds.new_places, folds.same_places))
        named = replace(candidate, key=f"{candidate.key}-first", title=f"{candidate.title} of the first frame alone")
        return Trial(named, self._judged(new), self._judged(same), time.monotonic() - started)

    def _judged(self, found: Probabilities | None) -> Judged | None:
        if found is None:
            return None
        return judge(found, self.prepared.labels, self.prepared.groups.of, self.prepared.seed)

    def _linear(self, candidate: Candidate, folds: Indices, frames: int | None = None) -> Probabilities | None:
        key = (candidate.key, frames, folds.tobytes())
        if key not in self._predicted:
            self._predicted[key] = self._fitted(candidate, folds, frames)
        return self._predicted[key]

    def _fitted(self, candidate: Candidate, folds: Indices, frames: int | None) -> Probabilities | None:
        clips, features = self.features(candidate)
        settings = fit_settings(self.recipes.make(candidate, Path("run"), Path("train.csv")))
        if frames is not None:
            features = features[..., : features.shape[-1] // settings.frames * frames]
            settings = replace(settings, frames=frames, motion=1.0)
        labels, found = self.prepared.labels, self._nothing()
        row = np.full(len(labels), -1, np.int64)
        row[clips] = np.arange(len(clips))
        for learned, held in self._cuts(folds):
            learned, held = learned[row[learned] >= 0], held[row[held] >= 0]
            if len(np.unique(labels[learned])) > 1:
                fitted = fit(features[row[learned]], labels[learned], settings, len(self.prepared.classes))
                found[held] = fitted.probabilities(features[row[held], 0])
        return None if np.isnan(found).all() else found

    def _joined(self, candidate: Candidate, folds: Indices) -> Probabilities | None:
        """Join the members' predictions; the weight for each fold is chosen on the others."""
        found = self._nothing()
        logs, known = self._members(candidate, folds)
        for fold in np.unique(folds[known]).tolist():
            held, others = known[folds[known] == fold], known[folds[known] != fold]
            if len(others):
                weight = self._weight([log[others] for log in logs], others)
                found[held] = np.exp(fuse_logits(logs[0][held], logs[1][held], weight))
                found[held] /= found[held].sum(axis=1, keepdims=True)
        return None if np.isnan(found).all() else found

    def pose_weight(self, candidate: Candidate, temperatures: Sequence[float] = (1.0, 1.0)) -> float:
        """The weight of the joints in a model of both streams that predicts best, by cross-validation of its members.

        Args:
            candidate: the model.
            temperatures: what the scores of its members, frames first, are divided by.
        """
        folds = self.prepared.folds
        logs, known = self._members(candidate, folds.new_places if folds.count else folds.same_places)
        return self._weight([log[known] / t for log, t in zip(logs, temperatures, strict=True)], known)

    def _weight(self, logs: Sequence[Probabilities], clips: Indices) -> float:
        tried = try_weights(logs[0], logs[1], self.prepared.labels[clips])
        return min(tried, key=lambda weight: tried[weight])

    def _members(self, candidate: Candidate, folds: Indices) -> tuple[list[Probabilities], Indices]:
        """Log-probabilities of each member, (N,K), and the clips that all of them predict."""
        found = [self._linear(member, folds) for member in candidate.members]
        logs = [self._nothing() if one is None else np.log(np.maximum(one, TINY)) for one in found]
        return logs, np.flatnonzero(~np.isnan(logs).any(axis=(0, 2)))

    def _network(self, candidate: Candidate, deadline: float, later: int) -> list[Probabilities | None]:
        """Predictions of networks, in new places and in the same places."""
        folds = (self.prepared.folds.new_places, self.prepared.folds.same_places)
        trainings = [(number, *cut) for number, of in enumerate(folds) for cut in self._cuts(of)]
        found, longest = [self._nothing() for _ in folds], 0.0
        bar = tqdm(trainings, candidate.title, unit="training", disable=not self.progress)
        for done, (number, learned, held) in enumerate(bar):
            left = len(trainings) - done
            if time.monotonic() + longest * left > deadline:
                each = f"{left} more trainings of {longest:.0f} s each" if longest else f"{left} trainings"
                raise OutOfTimeError(f"there is no time for {each}")
            started = time.monotonic()
            found[number][held] = self._stored(candidate, learned, held)
            longest = max(longest, time.monotonic() - started)
            # The final training is one more, of more clips.
            rest = min(longest * (left - 1 + later * len(trainings)), max(deadline - time.monotonic(), 0)) + longest
            bar.set_postfix_str(f"whole run {tqdm.format_interval(rest)} left")
        return [None if np.isnan(one).all() else one for one in found]

    def _train(self, candidate: Candidate, learned: Indices, held: Indices) -> Probabilities:
        """Train on some clips and return the probabilities of others, (n,K)."""
        groups = self.prepared.groups.of
        loose = self.prepared.splits.unlabelled
        loose = loose[~np.isin(groups[loose], groups[held])]
        with _written(train=self._entries(learned), held=self._entries(held), unlabel=self._entries(loose)) as folder:
            unlabel = None if candidate.method == "supervised" else folder / "unlabel.csv"
            config = self.recipes.make(candidate, folder / "run", folder / "train.csv", unlabel=unlabel)
            model, _ = load_checkpoint(train(config, progress=False, estimator=self.estimator))
            inputs = create_inputs(config, progress=False, estimator=self.estimator)
            predict = torch_predictor(model, inputs.normalizer, torch.device("cpu"))
            scores, _ = predict_clips(predict, inputs.evaluation(folder / "held.csv"))
        found: Probabilities = torch.from_numpy(scores.logits).double().softmax(dim=1).numpy()
        return found

    def _stored(self, candidate: Candidate, learned: Indices, held: Indices) -> Probabilities:
        """The result of a training, which is kept under a hash of all that it depends on."""
        clips = [
            [(entry.name, entry.label, *(entry.clip[1:] if entry.is_span else ())) for entry in self._entries(which)]
            for which in (learned, held)
        ]
        unlabel = None if candidate.method == "supervised" else Path("unlabel.csv")
        recipe = self.recipes.make(candidate, Path("run"), Path("train.csv"), unlabel=unlabel)
        told = recipe.model_dump(mode="json", exclude={"out", "data"}) | recipe.data.model_dump(
            mode="json", include=VARIED
        )
        key = hashlib.sha256(json.dumps([told, clips], sort_keys=True).encode()).hexdigest()[:16]
        file = self.folder / f"{candidate.key}-{key}.npy"
        if file.is_file():
            stored: Probabilities = np.load(file, allow_pickle=False)
            return stored
        made = self._train(candidate, learned, held)
        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic_file(file) as new, new.open("wb") as stream:
            np.save(stream, made)
        return made

    def _nothing(self) -> Probabilities:
        return np.full((len(self.prepared.rows), len(self.prepared.classes)), np.nan)

    def _entries(self, which: Indices) -> list[ListEntry]:
        return [self.prepared.entry(index) for index in which.tolist()]


@contextmanager
def _written(**lists: Sequence[ListEntry]) -> Iterator[Path]:
    """A temporary folder with lists, ``NAME.csv``."""
    with tempfile.TemporaryDirectory(prefix="sefar-own-") as folder:
        for name, entries in lists.items():
            write_list(Path(folder) / f"{name}.csv", entries)
        yield Path(folder)
