"""Clips of joints for training and evaluation, as map-style data sets like those of frames.

Positions are drawn in continuous time, and joints are interpolated between the stored frames, so that even a short clip
gives many different samples.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from sefar_serve.lists import ListEntry
from sefar_serve.sampling import Sampling, sample_indices

from .broken import BrokenClips
from .clips import Sample
from .joint_source import Joints, JointSource

logger = logging.getLogger(__name__)

STEPS = 4096
"""Positions that can be drawn in a segment."""


def positions(
    stored: int, sampling: Sampling, rng: np.random.Generator | None = None, view: tuple[int, int] = (0, 1)
) -> NDArray[np.float64]:
    """Choose the F positions of a clip, as `sample_indices` chooses frames, but between them too.

    Args:
        stored: number T of stored frames. Only the layout ``local`` depends on it: its fine elements are adjacent ones.
        sampling: elements and layout.
        rng: random generator for training; None takes the middle of each segment.
        view: (k, N), see `sample_indices`.

    Returns:
        Shares of the clip's length, float64 (F,) in [0, 1), in element order.
    """
    if sampling.layout == "local":
        within = 0.5 if rng is None else rng.random(sampling.frames)
        return np.asarray((sample_indices(stored, sampling, rng, view) + within) / stored)
    steps = sampling.frames * STEPS
    return sample_indices(steps, sampling, rng, view) / steps


def interpolate(joints: Joints, shares: NDArray[np.float64]) -> Joints:
    """Joints at any positions of a clip.

    Args:
        joints: float32 (T,P,J,4), the stored frames, at the centres of T equal segments.
        shares: positions (F,) as shares of the clip's length.

    Returns:
        float32 (F,P,J,4); before the first and after the last stored frame, those of that frame.
    """
    place = np.clip(shares * len(joints) - 0.5, 0, len(joints) - 1)
    before = place.astype(np.int64)
    after = np.minimum(before + 1, len(joints) - 1)
    share = (place - before).astype(np.float32)[:, None, None, None]
    return (1 - share) * joints[before] + share * joints[after]


class JointStore:
    """The stored joints of training clips, in memory; the counterpart of `FrameStore`.

    Args:
        entries: the clips.
        source: where their joints come from.
        max_broken: clips that may fail to decode.
        title: what the clips are, for the progress bar.
    """

    def __init__(self, entries: Sequence[ListEntry], source: JointSource, max_broken: int, title: str = "") -> None:
        self.entries = entries
        self._title = title
        self._source = source
        self._broken = BrokenClips(entries, max_broken)
        self._kept: dict[int, Joints] = {}

    def fill(self, progress: bool = True, threads: int | None = None) -> None:
        """Load the joints of all clips; those that are not stored yet are estimated, if the source can.

        Args:
            progress: show a progress bar.
            threads: clips estimated at the same time; None for one per core.

        Raises:
            BrokenClipsError: more clips than allowed do not decode.
            JointCacheError, StoredJointsError: joints cannot be stored, or are not those that are needed.
        """
        clips = [entry.clip for entry in self.entries]
        found, errors = self._source.read(clips, progress, threads, self._title)
        self._kept = {index: found[clip] for index, clip in enumerate(clips) if clip in found}
        if errors:
            self._broken.report({index: errors[clip] for index, clip in enumerate(clips) if clip in errors})
        empty = [self.entries[index].name for index, joints in self._kept.items() if not joints.any()]
        if empty:
            logger.warning("no person found in %d of %d clips: %s", len(empty), len(self.entries), ", ".join(empty))

    def sample(self, index: int, sampling: Sampling, rng: np.random.Generator, cut: float = 0.0) -> tuple[int, Joints]:
        """Draw the joints of a clip at F positions. If the clip is broken, take the next one that is not.

        Args:
            index: number of the clip.
            sampling: temporal elements; positions are drawn at random inside their segments.
            rng: source of the draws.
            cut: up to this share of the clip is left out at its start, and at its end.

        Returns:
            The number of the clip taken, and its joints in element order, float32 (F,P,J,4).
        """
        while index not in self._kept:
            index = (index + 1) % len(self.entries)
        joints = self._kept[index]
        start, end = cut * rng.random(), 1 - cut * rng.random()
        return index, interpolate(joints, start + (end - start) * positions(len(joints), sampling, rng))


class _DrawnJoints(Dataset[Sample]):
    """Clips of joints at positions drawn anew each time.

    Args:
        store: the joints.
        sampling: temporal elements; positions are drawn at random inside their segments.
        seed: seed of all draws.
        cut: up to this share of a labelled clip, or of the strong view of an unlabelled one, is left out at its start,
            and at its end.
    """

    def __init__(self, store: JointStore, sampling: Sampling, seed: int, cut: float = 0.0) -> None:
        self.store = store
        self.sampling = sampling
        self.seed = seed
        self.cut = cut

    def __len__(self) -> int:
        return len(self.store.entries)


class TrainingJoints(_DrawnJoints):
    """Labelled clips of joints, keyed by (epoch, index); for the arguments see `JointStore.sample`.

    Each sample has ``inputs`` float32 (F,P,J,4) in element order, ``label`` int and ``index`` int.
    """

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        epoch, wanted = key
        rng = np.random.default_rng((self.seed, epoch, wanted))
        index, joints = self.store.sample(wanted, self.sampling, rng, self.cut)
        return {"inputs": torch.from_numpy(joints), "label": self.store.entries[index].label, "index": index}


class UnlabelledJoints(_DrawnJoints):
    """Unlabelled clips of joints, keyed by (pass, index). Only the strong view is cut.

    Each sample has ``weak`` and ``strong``, float32 (F,P,J,4) in element order, at positions drawn independently; the
    number ``clip``; and ``hidden_label``, the class in the list, which only measures how often pseudo-labels are right.
    """

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        which_pass, wanted = key
        # The leading 1 keeps these draws apart from those of a labelled clip with the same numbers.
        rng = np.random.default_rng((1, self.seed, which_pass, wanted))
        index, weak = self.store.sample(wanted, self.sampling, rng)
        _, strong = self.store.sample(index, self.sampling, rng, self.cut)
        return {
            "weak": torch.from_numpy(weak),
            "strong": torch.from_numpy(strong),
            "clip": index,
            "hidden_label": self.store.entries[index].label,
        }


class EvaluationJoints(Dataset[Sample]):
    """Labelled clips of joints at the middles of their segments, or at several positions in each segment.

    Each sample has ``inputs`` float32 (F,P,J,4) in element order, with several views (V,F,P,J,4); ``label`` int and
    ``index`` int.

    Args:
        entries: the clips.
        sampling: temporal elements.
        source: where the joints come from.
        views: number of views V; view k takes the point (2k + 1) / 2V of each segment.
        progress: show a progress bar while joints are estimated.
        threads: clips estimated at the same time; None for one per core.
        title: what the clips are, for the progress bar.

    Raises:
        ClipError, OSError: a clip cannot be read. No clip is skipped silently.
        JointCacheError, StoredJointsError: joints cannot be stored, or are not those that are needed.
    """

    def __init__(
        self,
        entries: Sequence[ListEntry],
        sampling: Sampling,
        source: JointSource,
        views: int = 1,
        *,
        progress: bool = True,
        threads: int | None = None,
        title: str = "",
    ) -> None:
        self.entries = entries
        self.sampling = sampling
        self.view_count = views
        self._kept, errors = source.read([entry.clip for entry in entries], progress, threads, title)
        for error in errors.values():
            raise error

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> Sample:
        entry = self.entries[index]
        joints = self._kept[entry.clip]
        count = self.view_count
        looks = [interpolate(joints, positions(len(joints), self.sampling, view=(k, count))) for k in range(count)]
        inputs = torch.from_numpy(looks[0] if count == 1 else np.stack(looks))
        return {"inputs": inputs, "label": entry.label, "index": index}
