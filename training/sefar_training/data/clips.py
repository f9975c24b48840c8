"""Clips for training and for evaluation, as map-style data sets.

Training clips are keyed by (epoch, index): everything random about one is drawn from a generator
seeded with (seed, epoch, index), so a run is the same for any number of workers and can be resumed.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from sefar_serve.clip import ClipError, Video, load_clip
from sefar_serve.clip.sampling import Sampling, sample_indices

from .lists import ListEntry
from .views import WeakView

logger = logging.getLogger(__name__)

Sample = dict[str, Any]


class BrokenClipsError(RuntimeError):
    """More training clips failed to decode than the recipe allows; the message names them."""


def decode_clip(path: Path, short_side: int) -> NDArray[np.uint8]:
    """Decode every frame of a clip, uint8 (T,h,w,3) with the short side as given.

    Raises:
        ClipError: if the file is not a decodable video.
    """
    with Video(path) as video:
        return video.read(range(video.frame_count), short_side=short_side).pixels


class FrameStore:
    """Decoded training clips, kept in memory up to a limit.

    Args:
        entries: the clips.
        short_side: short side in pixels they are decoded at.
        cache_gb: gigabytes the kept ones may take; clips beyond are decoded whenever asked for.
        max_broken: clips that may fail to decode.
    """

    def __init__(self, entries: Sequence[ListEntry], short_side: int, cache_gb: float, max_broken: int) -> None:
        self.entries = entries
        self.short_side = short_side
        self._limit = int(cache_gb * 1e9)
        self._bytes = 0
        self._kept: dict[int, NDArray[np.uint8]] = {}
        self._max_broken = max_broken
        self._broken: set[int] = set()

    def fill(self, progress: bool = True) -> None:
        """Decode clips until the limit is reached, so that the first epoch is as fast as the others."""
        if not self._limit:
            return
        for index in tqdm(range(len(self.entries)), desc="decoding", unit="clip", disable=not progress):
            given, _ = self.get(index)
            if given not in self._kept:
                logger.info("cache of decoded frames is full after %d of %d clips", index, len(self.entries))
                return

    def get(self, index: int) -> tuple[int, NDArray[np.uint8]]:
        """All frames of a clip; in place of one that does not decode, the next one that does.

        Returns:
            The number of the clip given, and its frames uint8 (T,h,w,3).

        Raises:
            BrokenClipsError: if more than the allowed number of clips do not decode.
        """
        while True:
            if index in self._kept:
                return index, self._kept[index]
            if index not in self._broken:
                try:
                    frames = decode_clip(self.entries[index].path, self.short_side)
                except (ClipError, FileNotFoundError) as error:
                    self._report(index, error)
                else:
                    if self._bytes + frames.nbytes <= self._limit:
                        self._kept[index] = frames
                        self._bytes += frames.nbytes
                    return index, frames
            index = (index + 1) % len(self.entries)

    def _report(self, index: int, error: Exception) -> None:
        self._broken.add(index)
        logger.warning("clip left out: %s", error)
        if len(self._broken) > min(self._max_broken, len(self.entries) - 1):
            names = ", ".join(self.entries[i].name for i in sorted(self._broken))
            raise BrokenClipsError(
                f"{len(self._broken)} clips do not decode, data.max_broken allows {self._max_broken}: {names}"
            ) from error


class TrainingClips(Dataset[Sample]):
    """Labelled clips under the weak view; keyed by (epoch, index).

    Each sample has ``frames`` uint8 (F,size,size,3) in element order, ``label`` int and ``index`` int.

    Args:
        store: the decoded clips.
        sampling: temporal elements; frames are drawn at random inside their segments.
        view: the spatial view.
        seed: of everything drawn.
        poses: per-frame targets of each clip by its name in the list, float (T,P); they add ``pose`` (F,P).
    """

    def __init__(
        self,
        store: FrameStore,
        sampling: Sampling,
        view: WeakView,
        seed: int,
        poses: dict[str, NDArray[np.float32]] | None = None,
    ) -> None:
        self.store = store
        self.sampling = sampling
        self.view = view
        self.seed = seed
        self.poses = poses

    def __len__(self) -> int:
        return len(self.store.entries)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        epoch, wanted = key
        rng = np.random.default_rng((self.seed, epoch, wanted))
        index, frames = self.store.get(wanted)
        chosen = sample_indices(len(frames), self.sampling, rng)
        entry = self.store.entries[index]
        sample: Sample = {
            "frames": torch.from_numpy(self.view(frames[chosen], rng)),
            "label": entry.label,
            "index": index,
        }
        if self.poses is not None:
            sample["pose"] = torch.from_numpy(self.poses[entry.name][chosen])
        return sample


class EvaluationClips(Dataset[Sample]):
    """Labelled clips exactly as they are served: middle frames, fixed scale, central square.

    Each sample has ``frames`` uint8 (F,size,size,3) in element order, ``label`` int and ``index`` int.

    Args:
        entries: the clips.
        sampling: temporal elements.
        resize: short side in pixels before the central square is cut.
        size: side of the square in pixels.
        keep: keep the prepared clips in memory (they are small) for the next pass.
    """

    def __init__(
        self, entries: Sequence[ListEntry], sampling: Sampling, resize: int, size: int, keep: bool = False
    ) -> None:
        self.entries = entries
        self.sampling = sampling
        self.resize = resize
        self.size = size
        self._kept: dict[int, Tensor] | None = {} if keep else None

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> Sample:
        entry = self.entries[index]
        frames = self._kept.get(index) if self._kept is not None else None
        if frames is None:
            clip = load_clip(entry.path, self.sampling, resize=self.resize, size=self.size)
            frames = torch.from_numpy(clip.frames)
            if self._kept is not None:
                self._kept[index] = frames
        return {"frames": frames, "label": entry.label, "index": index}
