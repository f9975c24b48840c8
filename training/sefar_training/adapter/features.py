"""Features of the clips of a list in several views, computed once and cached.

The language model is trained on these arrays and never sees a frame. The first view is the one used in serving, for
encoders of any stream. The others sample frames at random, and crop them or mirror the joints, as in the encoder's
training, so that the adapter sees variations of each clip.
"""

from __future__ import annotations

import hashlib
import json
import logging
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from sefar_serve.atomic import atomic_file
from sefar_serve.clip.load import segments_of
from sefar_serve.engine.base import Inputs, batch_of
from sefar_serve.engine.loaded import Device
from sefar_serve.engine.onnx import OnnxModel
from sefar_serve.errors import SefarError
from sefar_serve.inputs import load_inputs
from sefar_serve.metadata import FRAMES, POSES, ModelMetadata
from sefar_serve.pose import MIRROR, Estimators, load_poses
from sefar_serve.reliability import reliabilities, softmax
from sefar_serve.sampling import sample_indices

from ..data import ClassTable, ListEntry, WeakView, check_files, read_list
from ..data.clips import decode_clip

logger = logging.getLogger(__name__)

BATCH = 32
"""Views per forward pass of the encoder."""

_ARRAYS = ("labels", "embedding", "tokens", "logits", "mc_logits")


class ViewsError(SefarError, ValueError):
    """The encoder does not support several views of a clip."""

    code = "views_not_supported"


@dataclass(frozen=True)
class ViewSettings:
    """The views of each clip.

    Attributes:
        count: number of views V; the first is the one used in serving.
        scale: range of the short side in pixels before random squares are cropped in the other views; None for the
            encoder's size times 256/224 to 320/224, as in its training.
        flip: probability that another view is mirrored.
        seed: seed of all draws.
    """

    count: int = 1
    scale: tuple[int, int] | None = None
    flip: float = 0.5
    seed: int = 0

    def scale_for(self, size: int) -> tuple[int, int]:
        """The range of the short side for an encoder of this size."""
        return self.scale or (round(size * 256 / 224), round(size * 320 / 224))


@dataclass(frozen=True, eq=False)
class Features:
    """An encoder's outputs for N clips.

    Attributes:
        names: names of the clips, as in their list.
        labels: int64 (N,), class numbers; -1 if unknown.
        embedding: float32 (N, V, embedding_dim).
        tokens: float32 (N, V, E, D).
        logits: float32 (N, V, K).
        mc_logits: float32 (N, T, K), Monte-Carlo samples for the first view.
    """

    names: tuple[str, ...]
    labels: NDArray[np.int64]
    embedding: NDArray[np.float32]
    tokens: NDArray[np.float32]
    logits: NDArray[np.float32]
    mc_logits: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def views(self) -> int:
        """Number of views V."""
        return self.embedding.shape[1]

    @property
    def eta(self) -> NDArray[np.float64]:
        """η of each clip, (N,)."""
        return reliabilities(self.mc_logits)

    @property
    def predicted(self) -> NDArray[np.int64]:
        """The encoder's prediction for each clip, as in serving, int64 (N,)."""
        return np.asarray(self.logits[:, 0].argmax(axis=1), np.int64)

    @property
    def pseudo_labels(self) -> NDArray[np.int64]:
        """The class that η refers to, most probable on average over the Monte-Carlo samples, int64 (N,)."""
        return np.asarray(softmax(self.mc_logits).mean(axis=1).argmax(axis=1), np.int64)

    def blinded(self) -> Features:
        """The same clips with embedding and tokens set to zero."""
        return Features(
            self.names,
            self.labels,
            np.zeros_like(self.embedding),
            np.zeros_like(self.tokens),
            self.logits,
            self.mc_logits,
        )

    def chosen(self, keep: NDArray[np.int64] | NDArray[np.bool_]) -> Features:
        """A subset of the clips."""
        places = np.arange(len(self))[keep]
        names = tuple(self.names[i] for i in places)
        return Features(names, *(getattr(self, array)[places] for array in _ARRAYS))

    @staticmethod
    def join(parts: Sequence[Features]) -> Features:
        """Concatenate the clips of several lists."""
        names = tuple(name for part in parts for name in part.names)
        return Features(names, *(np.concatenate([getattr(part, array) for part in parts]) for array in _ARRAYS))


class Encoder:
    """An exported encoder that computes the features of lists and caches them.

    Args:
        file: the ONNX file.
        cache: folder to cache features in; None caches nothing.
        device: device of the encoder.
        estimators: find the joints for an encoder that sees them; None for the installed ones.
    """

    def __init__(
        self,
        file: Path,
        cache: Path | None = None,
        device: Device = "auto",
        estimators: Estimators | None = None,
    ) -> None:
        self._model = OnnxModel(file, device=device)
        self._estimators = estimators if estimators is not None else Estimators()
        self._cache = cache
        self._digest = hashlib.sha256(file.read_bytes()).hexdigest()

    @property
    def metadata(self) -> ModelMetadata:
        """The encoder's metadata."""
        return self._model.metadata

    @property
    def classes(self) -> ClassTable:
        """The classes that the encoder predicts."""
        about = self.metadata
        return ClassTable(about.labels, about.attributes, about.opposites)

    def features(
        self,
        list_file: Path,
        root: Path,
        remap: Mapping[str, str] | None = None,
        views: ViewSettings = ViewSettings(),
        *,
        unlabelled: bool = False,
        progress: bool = True,
    ) -> Features:
        """Compute the features of every clip of a list, or load them from the cache.

        Args:
            list_file: `path label` lines.
            root: folder that relative clip paths are joined to.
            remap: path prefix replacements.
            views: views of each clip.
            unlabelled: lines may have no label.
            progress: show a progress bar.

        Raises:
            ListFileError: the list is malformed.
            MissingClipsError: clips are missing.
            ClipError: a clip does not decode; `sefar lists --check` finds all such clips.
            PoseError: the encoder sees joints, and its pose estimator is missing or another one is installed.
            ViewsError: several views of an encoder that sees pictures and joints.
        """
        about = self.metadata
        self._estimators.of(about)
        if views.count > 1 and about.sees_frames and about.sees_joints:
            raise ViewsError(
                f"the encoder {about.name} sees pictures and joints, which cannot be varied together; "
                "set `data.views` to 1"
            )
        entries = read_list(list_file, root, remap, unlabelled=unlabelled)
        check_files(entries, list_file)
        if self._cache is None:
            return self._extract(entries, views, progress)
        kept = self._cache / f"features-{self._key(entries, views)}.npz"
        if kept.is_file():
            found = _load(kept)
            if found is not None:
                return found
            logger.warning("%s is damaged; computing its features again", kept)
        found = self._extract(entries, views, progress)
        _save(found, kept)
        return found

    def _key(self, entries: Sequence[ListEntry], views: ViewSettings) -> str:
        # Size and modification time stand for a file's content: reading every video would cost half of what is saved.
        stats = [entry.path.stat() for entry in entries]
        clips = [
            [e.name, e.start, e.end, e.label, s.st_size, s.st_mtime_ns] for e, s in zip(entries, stats, strict=True)
        ]
        told = json.dumps([self._digest, asdict(views), clips])
        return hashlib.sha256(told.encode()).hexdigest()[:20]

    def _extract(self, entries: Sequence[ListEntry], views: ViewSettings, progress: bool) -> Features:
        parts = []
        size = max(1, BATCH // views.count)
        with tqdm(total=len(entries), desc="features", unit="clip", disable=not progress) as bar:
            for start in range(0, len(entries), size):
                some = range(start, min(start + size, len(entries)))
                looks = [look for i in some for look in self._looks(entries[i], i, views)]
                out = self._model.run(batch_of(looks))
                by_clip = (a.reshape(-1, views.count, *a.shape[1:]) for a in (out.embedding, out.tokens, out.logits))
                parts.append((*by_clip, out.mc_logits[:: views.count]))
                bar.update(len(some))
        return Features(
            tuple(entry.name for entry in entries),
            np.array([entry.label for entry in entries], np.int64),
            *(np.concatenate(arrays) for arrays in zip(*parts, strict=True)),
        )

    def _looks(self, entry: ListEntry, index: int, views: ViewSettings) -> list[Inputs]:
        """The encoder's inputs for each view of a clip."""
        about = self.metadata
        first = load_inputs(entry.path, about, self._estimators, start=entry.start, end=entry.end).inputs
        if views.count == 1:
            return [first]
        rngs = [np.random.default_rng((views.seed, index, view)) for view in range(1, views.count)]
        others = self._pose_views(entry, views, rngs) if about.sees_joints else self._frame_views(entry, views, rngs)
        return [first, *others]

    def _frame_views(
        self, entry: ListEntry, views: ViewSettings, rngs: Sequence[np.random.Generator]
    ) -> Iterator[Inputs]:
        """Frames drawn at random, scaled, cropped and mirrored."""
        about = self.metadata
        low, high = views.scale_for(about.size)
        weak = WeakView(about.size, (low, high), views.flip)
        clip = decode_clip(entry, high)
        count = len(clip.shown)
        for rng in rngs:
            drawn = sample_indices(count, about.sampling, rng)
            _, frames = clip.read(drawn, segments_of(drawn, (0, count), about.sampling.frames), entry.name)
            yield {FRAMES: weak(frames, rng)}

    def _pose_views(
        self, entry: ListEntry, views: ViewSettings, rngs: Sequence[np.random.Generator]
    ) -> Iterator[Inputs]:
        """Joints in frames drawn at random, some mirrored."""
        about, estimator = self.metadata, self._estimators.of(self.metadata)
        for rng in rngs:
            found = load_poses(
                entry.path,
                estimator,
                about.sampling,
                persons=about.persons,
                rng=rng,
                start=entry.start,
                end=entry.end,
            )
            joints = found.poses.joints
            if rng.random() < views.flip:
                joints = joints[..., MIRROR, :] * np.float32([-1, 1, 1, 1])
            yield {POSES: joints}


def _save(features: Features, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(file) as new, new.open("wb") as stream:
        np.savez(stream, names=np.array(features.names), **{array: getattr(features, array) for array in _ARRAYS})


def _load(file: Path) -> Features | None:
    """Load saved features; None if the file is damaged."""
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as saved:
            return Features(tuple(saved["names"].tolist()), *(saved[array] for array in _ARRAYS))
    except (zipfile.BadZipFile, KeyError, ValueError, EOFError):
        return None
