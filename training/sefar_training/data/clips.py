"""Clips for training and evaluation, as map-style data sets.

Training clips are keyed by (epoch, index). Everything random about a clip is drawn from a generator seeded with
(seed, epoch, index), so a run does not depend on the number of workers and can be resumed.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from sefar_serve.clip import ClipError, UndecodableVideoError
from sefar_serve.clip.load import read_clips, segments_of
from sefar_serve.clip.video import nearest
from sefar_serve.cores import available_cores
from sefar_serve.lists import ClipKey, ListEntry
from sefar_serve.sampling import Sampling, sample_indices

from .broken import BrokenClips, shared_flags
from .opened import OpenVideos, batches
from .views import StrongView, WeakView

logger = logging.getLogger(__name__)

Sample = dict[str, Any]


@dataclass(frozen=True)
class DecodedClip:
    """Every frame of a clip.

    Attributes:
        pixels: uint8 (T,h,w,3).
        shown: int64 (T,), the number of the frame at each position; another frame's number if its own does not decode.
    """

    pixels: NDArray[np.uint8]
    shown: NDArray[np.int64]

    def read(
        self, indices: NDArray[np.int64], within: NDArray[np.int64], name: str
    ) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """Read frames as `Video.read` does, with the same replacements; return their numbers and the frames."""
        shown = indices.copy()
        damaged = np.flatnonzero(self.shown[indices] != indices)
        if len(damaged):
            decodable = np.flatnonzero(self.shown == np.arange(len(self.shown))).tolist()
            for i in damaged:
                found = nearest(int(indices[i]), within[i], decodable)
                if found is None:
                    raise UndecodableVideoError(
                        f"frame {indices[i]} of {name} and its neighbours do not decode", len(decodable)
                    )
                shown[i] = found
        return shown, self.pixels[shown]


def decode_clip(entry: ListEntry, short_side: int, videos: OpenVideos | None = None) -> DecodedClip:
    """Decode every frame of a clip, scaled to the given short side.

    Args:
        entry: the clip.
        short_side: in pixels.
        videos: where the video stays open, if the clip is a span of it.

    Raises:
        FileNotFoundError: the path does not exist.
        ClipError: the file is not a video, the span is not inside it, or none of its frames decodes.
    """
    with (videos or OpenVideos()).open(entry.clip) as (video, (first, past)):
        count = past - first
        frames = video.read(range(first, past), short_side, within=np.tile([first, past], (count, 1)))
        return DecodedClip(frames.pixels, frames.indices - first)


def _decode_batch(entries: Sequence[ListEntry], short_side: int) -> list[DecodedClip | Exception]:
    """Decode clips of one file, which is opened once; an error in the place of each that fails."""
    videos = OpenVideos()
    found: list[DecodedClip | Exception] = []
    for entry in entries:
        try:
            found.append(decode_clip(entry, short_side, videos))
        except (ClipError, OSError) as error:
            found.append(error)
    return found


class FrameStore:
    """The frames of training clips, from memory if cached, otherwise decoded on demand.

    Clips may be spans of longer videos. `fill` opens a video once for many of its spans; otherwise a video that has
    spans stays open, see `OpenVideos`.

    Broken clips are counted over this process and all workers forked from it.

    Args:
        entries: the clips.
        short_side: short side in pixels that frames are scaled to.
        cache_gb: gigabytes of decoded clips that `fill` may keep. Other clips are opened each time they are needed, and
            only the requested frames are decoded.
        max_broken: clips that may fail to decode.
    """

    def __init__(self, entries: Sequence[ListEntry], short_side: int, cache_gb: float, max_broken: int) -> None:
        self.entries = entries
        self.short_side = short_side
        self._limit = int(cache_gb * 1e9)
        self._kept: dict[int, DecodedClip] = {}
        self._broken = BrokenClips(entries, max_broken)
        self._damaged = shared_flags(len(entries))
        self._videos = OpenVideos()

    def share(self, decoded: Mapping[ClipKey, DecodedClip]) -> None:
        """Use clips that another store has decoded, see `decoded`."""
        self._kept = {i: decoded[entry.clip] for i, entry in enumerate(self.entries) if entry.clip in decoded}

    def decoded(self) -> dict[ClipKey, DecodedClip]:
        """The clips that are cached in memory."""
        return {self.entries[index].clip: clip for index, clip in self._kept.items()}

    def fill(self, progress: bool = True, threads: int | None = None) -> None:
        """Decode clips until the cache is full, so that the first epoch is as fast as the others.

        Args:
            progress: show a progress bar.
            threads: clips decoded at the same time; None for one per core.

        Raises:
            BrokenClipsError: more clips than allowed do not decode.
        """
        if not self._limit:
            return
        threads = threads or available_cores()
        size = 0
        with (
            ThreadPoolExecutor(threads, thread_name_prefix="sefar-decode") as pool,
            tqdm(total=len(self.entries), desc="decoding", unit="clip", disable=not progress) as bar,
        ):
            # Only a few ahead, because decoded clips that wait take memory too.
            waiting = deque(batches([entry.clip for entry in self.entries]))
            ahead: deque[tuple[list[int], Future[list[DecodedClip | Exception]]]] = deque()
            while waiting or ahead:
                while waiting and len(ahead) < 2 * threads:
                    batch = waiting.popleft()
                    entries = [self.entries[index] for index in batch]
                    ahead.append((batch, pool.submit(_decode_batch, entries, self.short_side)))
                batch, done = ahead.popleft()
                for index, clip in zip(batch, done.result(), strict=True):
                    bar.update()
                    if isinstance(clip, Exception):
                        self._broken.report({index: clip})
                        continue
                    size += clip.pixels.nbytes
                    if size > self._limit:
                        logger.info(
                            "the cache of decoded frames is full after %d of %d clips",
                            len(self._kept),
                            len(self.entries),
                        )
                        for _, future in ahead:
                            future.cancel()
                        return
                    self._kept[index] = clip

    def sample(
        self, index: int, sampling: Sampling, rng: np.random.Generator
    ) -> tuple[int, NDArray[np.int64], NDArray[np.uint8]]:
        """Draw the F frames of a clip. If the clip does not decode, take the next one that does.

        As in serving, a frame that does not decode is replaced by the nearest one in its segment that does.

        Args:
            index: number of the clip.
            sampling: temporal elements; frames are drawn at random inside their segments.
            rng: source of the draws.

        Returns:
            The number of the clip taken, the numbers (F,) of its frames in element order, and the frames, uint8
            (F,h,w,3).

        Raises:
            BrokenClipsError: more clips than allowed do not decode.
        """
        before = rng.bit_generator.state
        while True:
            try:
                numbers, frames = self._draw(index, sampling, rng)
            except (ClipError, OSError) as error:
                self._broken.report({index: error})
                # The draws for the next clip must not depend on how far this one got.
                rng.bit_generator.state = before
                index = (index + 1) % len(self.entries)
            else:
                return index, numbers, frames

    def _draw(
        self, index: int, sampling: Sampling, rng: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        def choose(count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
            chosen = sample_indices(count, sampling, rng)
            return chosen, segments_of(chosen, (0, count), sampling.frames)

        entry, kept = self.entries[index], self._kept.get(index)
        if kept is not None:
            chosen, within = choose(len(kept.shown))
            shown, pixels = kept.read(chosen, within, str(entry.path))
        else:
            with self._videos.open(entry.clip) as (video, (first, past)):
                chosen, within = choose(past - first)
                frames = video.read(first + chosen, self.short_side, within=first + within)
                shown, pixels = frames.indices - first, frames.pixels
        if not self._damaged[index] and (shown != chosen).any():
            self._damaged[index] = True
            logger.warning(
                "damaged clip, undecodable frames are replaced by their neighbours: %s (%d such clips so far)",
                entry.path,
                self._damaged.sum(),
            )
        return shown, pixels


class TrainingClips(Dataset[Sample]):
    """Labelled clips in a spatial view, keyed by (epoch, index).

    Each sample has ``inputs`` uint8 (F,size,size,3) in element order, ``label`` int and ``index`` int.

    Args:
        store: the decoded clips.
        sampling: temporal elements; frames are drawn at random inside their segments.
        view: the spatial view.
        seed: seed of all draws.
        poses: per-frame targets, float (T,P), by the clip's name in the list; they add ``pose`` (F,P) to each sample.
    """

    def __init__(
        self,
        store: FrameStore,
        sampling: Sampling,
        view: WeakView | StrongView,
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
        index, numbers, frames = self.store.sample(wanted, self.sampling, rng)
        entry = self.store.entries[index]
        sample: Sample = {
            "inputs": torch.from_numpy(self.view(frames, rng)),
            "label": entry.label,
            "index": index,
        }
        if self.poses is not None:
            sample["pose"] = torch.from_numpy(self.poses[entry.name][numbers])
        return sample


class EvaluationClips(Dataset[Sample]):
    """Labelled clips preprocessed as in serving: middle frames, fixed scale, central square.

    Each sample has ``inputs`` uint8 (F,size,size,3) in element order, ``label`` int and ``index`` int.

    Args:
        entries: the clips.
        sampling: temporal elements.
        resize: short side in pixels before the central square is cut.
        size: side of the square in pixels.
        cache_gb: gigabytes of preprocessed clips to keep for the next pass.
    """

    def __init__(
        self, entries: Sequence[ListEntry], sampling: Sampling, resize: int, size: int, cache_gb: float = 0.0
    ) -> None:
        self.entries = entries
        self.sampling = sampling
        self.resize = resize
        self.size = size
        self._kept: dict[int, Tensor] = {}
        self._room = int(cache_gb * 1e9)
        self._videos = OpenVideos()

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> Sample:
        entry = self.entries[index]
        frames = self._kept.get(index)
        if frames is None:
            with self._videos.open(entry.clip) as (video, span):
                chosen = span[0] + sample_indices(span[1] - span[0], self.sampling)
                [clip] = read_clips(video, [span], [chosen], resize=self.resize, size=self.size)
            frames = torch.from_numpy(clip.frames)
            if frames.nbytes <= self._room:
                self._room -= frames.nbytes
                self._kept[index] = frames
        return {"inputs": frames, "label": entry.label, "index": index}
