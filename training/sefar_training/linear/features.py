"""Features of clips for the linear model: of frames, computed once and stored; of joints, from the stored joints."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from sefar_serve.atomic import atomic_file
from sefar_serve.clip import ClipError
from sefar_serve.clip.load import read_clips, segments_of
from sefar_serve.cores import available_cores
from sefar_serve.errors import SefarError
from sefar_serve.lists import ClipKey
from sefar_serve.sampling import Sampling, sample_indices

from ..data import JointSource, WeakView
from ..data.clip_signatures import ClipSignatures
from ..data.joint_cache import SIGNATURES
from ..data.joint_clips import interpolate, positions
from ..data.opened import OpenVideos, batches
from ..model import FrameNormalizer, FrameVectors, PoseNormalizer, create_linear_model
from .networks import network_sha256

logger = logging.getLogger(__name__)

Features = NDArray[np.float32]
"""(V,D): V views of a clip, of which the first is the one that is served."""

SPANS = 8
"""Spans of one file that are decoded before they are described: the file is opened once for as many."""

AHEAD = 32
"""Clips decoded in advance."""


class FeatureCacheError(SefarError, OSError):
    """Features cannot be stored; the message names the folder."""


class FeatureSource(Protocol):
    """Gives the features of clips."""

    def read(
        self, clips: Sequence[ClipKey], views: int = 1, progress: bool = True
    ) -> tuple[dict[ClipKey, Features], dict[ClipKey, Exception]]:
        """Load the features of clips.

        Args:
            clips: files, or spans of them.
            views: number of views of each clip.
            progress: show a progress bar.

        Returns:
            The features of each clip, and for each clip that cannot be read the error.

        Raises:
            SefarError: features cannot be stored, or joints cannot be had.
        """
        ...


@dataclass(frozen=True)
class FrameSettings:
    """How frames are taken from a clip.

    Attributes:
        sampling: temporal elements.
        resize: short side in pixels of the served view.
        size: side of the square in pixels.
        view: the random views.
        seed: of the random views.
    """

    sampling: Sampling
    resize: int
    size: int
    view: WeakView
    seed: int


class FrameFeatures:
    """Describes frames by a frozen network and stores the result, one file for each view of each clip.

    A clip is described again if its content or its span changes, and for other weights or settings. Clips may be
    renamed, moved and copied.

    Args:
        folder: where features are stored; created if missing.
        network: describes frames.
        normalizer: turns frames into its input.
        settings: which frames it sees.
        device: where the network runs.
    """

    def __init__(
        self,
        folder: Path,
        network: FrameVectors,
        normalizer: FrameNormalizer,
        settings: FrameSettings,
        device: torch.device | None = None,
    ) -> None:
        self.folder = folder
        self.settings = settings
        self._device = device or torch.device("cpu")
        self._network = network.to(self._device)
        self._normalizer = normalizer.to(self._device)
        self._sha256 = network_sha256(network.cpu())
        self._network.to(self._device)
        self._signatures = ClipSignatures(folder / SIGNATURES)

    def read(
        self, clips: Sequence[ClipKey], views: int = 1, progress: bool = True
    ) -> tuple[dict[ClipKey, Features], dict[ClipKey, Exception]]:
        """Load the features of clips; compute and store those that are missing. If interrupted, the next call resumes.

        The random views of a clip depend on the seed, its content and its span, not on the other clips.

        Args:
            clips: files, or spans of them.
            views: number of views V of each clip: the one that is served, then random ones.
            progress: show a progress bar.

        Returns:
            For each clip float32 (V,D), and for each clip that cannot be read the error, a `ClipError` or an `OSError`.

        Raises:
            FeatureCacheError: the folder cannot be written.
        """
        found: dict[ClipKey, Features] = {}
        missing: dict[ClipKey, list[Path]] = {}
        errors: dict[ClipKey, Exception] = {}
        for clip in dict.fromkeys(clips):
            try:
                files = [self.file(clip, view) for view in range(views)]
            except OSError as error:
                errors[clip] = error
                continue
            stored = [_load(file) for file in files]
            if all(one is not None for one in stored):
                found[clip] = np.stack([one for one in stored if one is not None]).astype(np.float32)
            else:
                missing[clip] = files
        if missing:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                self._signatures.save()
                for clip, described in self._describe(list(missing), views, errors, progress):
                    for file, one in zip(missing[clip], described, strict=True):
                        with atomic_file(file) as new, new.open("wb") as stream:
                            np.save(stream, one)
                    found[clip] = described.astype(np.float32)
            except OSError as error:
                raise FeatureCacheError(
                    f"cannot store features in {self.folder}: {error}; set linear.features to a folder you can write to"
                ) from error
        return found, errors

    def file(self, clip: ClipKey, view: int) -> Path:
        """The file that holds the features of a view of a clip.

        Raises:
            FileNotFoundError: the clip does not exist.
        """
        settings = self.settings
        key: list[object] = [*self._signatures.of(clip), self._sha256, view]
        key += [settings.sampling.sample_frames, settings.sampling.layout, settings.size]
        random = settings.view
        key += [settings.resize] if view == 0 else [settings.seed, random.size, random.scale, random.flip]
        return self.folder / f"{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]}.npy"

    def _describe(
        self, clips: Sequence[ClipKey], views: int, errors: dict[ClipKey, Exception], progress: bool
    ) -> Iterator[tuple[ClipKey, NDArray[np.float16]]]:
        """Decode clips ahead and describe them; yields float16 (V,D) for each."""
        waiting = deque([clips[index] for index in batch] for batch in batches(clips, SPANS))
        ahead: deque[tuple[list[ClipKey], Future[list[NDArray[np.uint8] | Exception]]]] = deque()
        pool = ThreadPoolExecutor(available_cores(), thread_name_prefix="sefar-frames")
        bar = tqdm(total=len(clips), desc="describing frames", unit="clip", disable=not progress)
        try:
            while waiting or ahead:
                while waiting and sum(len(batch) for batch, _ in ahead) < AHEAD:
                    ahead.append((waiting[0], pool.submit(self._decode, waiting.popleft(), views)))
                batch, job = ahead.popleft()
                for clip, frames in zip(batch, job.result(), strict=True):
                    if isinstance(frames, Exception):
                        errors[clip] = frames
                    else:
                        yield clip, self._forward(frames)
                    bar.update()
        finally:
            pool.shutdown(cancel_futures=True)
            bar.close()

    def _decode(self, clips: Sequence[ClipKey], views: int) -> list[NDArray[np.uint8] | Exception]:
        """The frames of clips of one file, which is opened once; an error in the place of each that fails."""
        videos = OpenVideos()
        found: list[NDArray[np.uint8] | Exception] = []
        for clip in clips:
            try:
                found.append(self._frames(clip, views, videos))
            except (ClipError, OSError) as error:
                found.append(error)
        return found

    def _forward(self, frames_VFHWC: NDArray[np.uint8]) -> NDArray[np.float16]:
        with torch.inference_mode():
            tokens = self._network(self._normalizer(torch.from_numpy(frames_VFHWC).to(self._device)))
        described: NDArray[np.float16] = tokens.flatten(1).half().cpu().numpy()
        return described

    def _frames(self, clip: ClipKey, views: int, videos: OpenVideos) -> NDArray[np.uint8]:
        """The frames (V,F,size,size,3) of a clip."""
        settings, random = self.settings, self.settings.view
        own = [int(self._signatures.of_file(clip.path)[:8], 16)]
        if clip.is_span:
            own += [round(1000 * bound) for bound in (clip.start or 0.0, clip.end or 0.0)]
        with videos.open(clip) as (video, span):
            length = span[1] - span[0]
            chosen = span[0] + sample_indices(length, settings.sampling)
            [served] = read_clips(video, [span], [chosen], resize=settings.resize, size=settings.size)
            found = [served.frames]
            for number in range(1, views):
                rng = np.random.default_rng((settings.seed, number, *own))
                chosen = span[0] + sample_indices(length, settings.sampling, rng)
                within = segments_of(chosen, span, settings.sampling.frames)
                found.append(random(video.read(chosen, random.scale[1], within=within).pixels, rng))
        return np.stack(found)


class JointFeatures:
    """Describes clips by the coordinates of their joints. There is one view: random ones gained nothing.

    Args:
        source: where the joints come from.
        sampling: temporal elements.
        persons: number of persons.
    """

    def __init__(self, source: JointSource, sampling: Sampling, persons: int) -> None:
        self._source = source
        self._sampling = sampling
        self._describe = create_linear_model("coordinates", 1, sampling.sample_frames, persons=persons).backbone

    def read(
        self, clips: Sequence[ClipKey], views: int = 1, progress: bool = True
    ) -> tuple[dict[ClipKey, Features], dict[ClipKey, Exception]]:
        """Load the features of clips, float32 (1,D) each; joints that are not stored yet are estimated now.

        Raises:
            JointCacheError, StoredJointsError: joints cannot be stored, or stored ones are not those that are needed.
        """
        joints, errors = self._source.read(clips, progress)
        if not joints:
            return {}, errors
        chosen = np.stack([interpolate(one, positions(len(one), self._sampling)) for one in joints.values()])
        with torch.inference_mode():
            tokens = self._describe(PoseNormalizer()(torch.from_numpy(chosen))).flatten(1).numpy()
        return dict(zip(joints, tokens[:, None], strict=True)), errors


def _load(file: Path) -> NDArray[np.float16] | None:
    """Load stored features (D,); None if there are none, or the file is damaged."""
    try:
        stored: NDArray[np.float16] = np.load(file, allow_pickle=False)
        return stored
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, EOFError):
        logger.warning("%s is damaged; its clip is described again", file)
        return None
