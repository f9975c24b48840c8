"""The files that a recipe names: its class table, and its clips as the model sees them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sefar_serve.lists import ClipKey
from sefar_serve.pose import Estimator
from sefar_serve.pose.models import ESTIMATOR_SHA256

from .config import TrainConfig
from .data import (
    ClassTable,
    DecodedClip,
    EvaluationClips,
    EvaluationJoints,
    FrameStore,
    InputViews,
    JointSource,
    JointStore,
    JointView,
    ListEntry,
    ListFileError,
    StoredJointsError,
    StrongView,
    TrainingClips,
    TrainingJoints,
    TrueJoints,
    UnlabelledClips,
    UnlabelledJoints,
    WeakView,
    check_files,
    open_joints,
    read_list,
)
from .model import FrameNormalizer, PoseNormalizer

_WITHOUT = {
    "unlabel": ". To train without unlabelled clips: method=supervised",
    "val": ". To train without a val list: data.val=null",
    "test": ". To train without a test list: data.test=null",
}
"""How to train without a list."""


def read_entries(config: TrainConfig, list_file: Path) -> list[ListEntry]:
    """Read one of the recipe's lists; only the unlabelled one may leave labels out.

    Raises:
        ListFileError: the list is missing or malformed.
    """
    data = config.data
    if not (data.root / list_file).is_file():
        key = next((key for key in _WITHOUT if getattr(data, key) == list_file), "train")
        raise ListFileError(
            f"data.{key}: the list {data.root / list_file} does not exist; write it, or set data.{key} or data.root to "
            f"where it is{_WITHOUT.get(key, '')}"
        )
    return read_list(data.root / list_file, data.root, data.remap, unlabelled=list_file == data.unlabel)


def read_classes(config: TrainConfig) -> ClassTable:
    """Read the recipe's class table, or number the classes where it names none, and check the lists against it."""
    data = config.data
    used = (data.train, data.unlabel if config.uses_unlabelled else None, data.val, data.test)
    lists = {file: read_entries(config, file) for file in used if file}
    if data.labels is None and data.classes is None:
        table = ClassTable.numbered(entry for entries in lists.values() for entry in entries)
    else:
        labels, classes = (data.root / file if file else None for file in (data.labels, data.classes))
        table = ClassTable.read(labels, classes)
    for file, entries in lists.items():
        table.check(entries, file)
    return table


def create_inputs(
    config: TrainConfig,
    progress: bool = True,
    decoded: Mapping[ClipKey, DecodedClip] | None = None,
    estimator: Estimator | None = None,
) -> FrameInputs | JointInputs:
    """The inputs of the recipe's stream.

    Args:
        config: the recipe.
        progress: show progress bars.
        decoded: for frames, see `FrameInputs`.
        estimator: for joints, see `JointInputs`; None for MediaPipe's.

    Raises:
        StoredJointsError: stored joints are not those that the recipe asks for.
        PoseSetupError: MediaPipe's models are missing and cannot be downloaded.
        ModuleNotFoundError: the extra `pose` is not installed.
    """
    if config.model.stream == "rgb":
        return FrameInputs(config, progress, decoded)
    return JointInputs(config, estimator, progress)


class _Labels:
    """Reads the labels of lists."""

    _config: TrainConfig

    def labels(self, list_file: Path) -> NDArray[np.int64]:
        """The class of each clip of a list, int64 (N,)."""
        return np.array([entry.label for entry in read_entries(self._config, list_file)], np.int64)


class FrameInputs(_Labels):
    """Clips as frames; see `sefar_training.task.Inputs`.

    Args:
        config: the recipe.
        progress: show progress bars.
        decoded: frames of training clips that are in memory already; None fills the cache as the recipe says.
    """

    views = InputViews()
    origin = None

    def __init__(
        self, config: TrainConfig, progress: bool = True, decoded: Mapping[ClipKey, DecodedClip] | None = None
    ) -> None:
        data = config.data
        self._config = config
        self._progress = progress
        self._decoded = decoded
        self.normalizer = FrameNormalizer(config.model.mean, config.model.std)
        self.weak = WeakView(config.model.size, config.scale, data.flip)
        self._strong = StrongView(self.weak, data.strong)

    def open(self, list_file: Path) -> FrameStore:
        """Open a list of training clips; with `data.cache_gb` they are decoded now."""
        data = self._config.data
        entries = read_entries(self._config, list_file)
        check_files(entries, list_file, data.max_broken)
        store = FrameStore(entries, self._config.scale[1], data.cache_gb, data.max_broken)
        if self._decoded is None:
            store.fill(self._progress)
        else:
            store.share(self._decoded)
        return store

    def labelled(self, list_file: Path) -> TrainingClips:
        """Open a list of labelled training clips."""
        config = self._config
        view = self._strong if config.data.strong_labelled else self.weak
        return TrainingClips(self.open(list_file), config.model.sampling, view, config.seed)

    def unlabelled(self, list_file: Path) -> UnlabelledClips:
        """Open a list of unlabelled training clips."""
        config = self._config
        return UnlabelledClips(self.open(list_file), config.model.sampling, self._strong, config.seed)

    def evaluation(self, list_file: Path) -> EvaluationClips:
        """Open a list for evaluation."""
        model = self._config.model
        entries = read_entries(self._config, list_file)
        check_files(entries, list_file)
        return EvaluationClips(entries, model.sampling, model.resize, model.size, self._config.data.cache_gb)


class JointInputs(_Labels):
    """Clips as joints; see `sefar_training.task.Inputs`.

    Args:
        config: the recipe.
        estimator: finds joints that are not stored yet; None for MediaPipe's.
        progress: show progress bars.
    """

    def __init__(self, config: TrainConfig, estimator: Estimator | None = None, progress: bool = True) -> None:
        self._config = config
        self._progress = progress
        self.source = _joint_source(config, estimator)
        self.origin = self.source.origin
        self.normalizer = PoseNormalizer()
        weak, strong = joint_views(config)
        self.views = InputViews(strong if config.data.strong_labelled else weak, weak, strong)

    def open(self, list_file: Path) -> JointStore:
        """Open a list of training clips; joints that are not stored yet are estimated now."""
        allowed = self._config.data.max_broken
        entries = self._entries(list_file, allowed)
        store = JointStore(entries, self.source, allowed, list_file.name)
        store.fill(self._progress)
        return store

    def labelled(self, list_file: Path) -> TrainingJoints:
        """Open a list of labelled training clips."""
        config = self._config
        cut = config.joint_views.strong_time if config.data.strong_labelled else 0.0
        return TrainingJoints(self.open(list_file), config.model.sampling, config.seed, cut)

    def unlabelled(self, list_file: Path) -> UnlabelledJoints:
        """Open a list of unlabelled training clips."""
        config = self._config
        return UnlabelledJoints(
            self.open(list_file), config.model.sampling, config.seed, config.joint_views.strong_time
        )

    def evaluation(self, list_file: Path) -> EvaluationJoints:
        """Open a list for evaluation; joints that are not stored yet are estimated now."""
        return EvaluationJoints(
            self._entries(list_file),
            self._config.model.sampling,
            self.source,
            progress=self._progress,
            title=list_file.name,
        )

    def _entries(self, list_file: Path, missing: int = 0) -> list[ListEntry]:
        """Read a list; if its joints come from its videos, check that these exist."""
        entries = read_entries(self._config, list_file)
        if self.source.reads_videos:
            check_files(entries, list_file, missing)
        return entries


def _joint_source(config: TrainConfig, estimator: Estimator | None) -> JointSource:
    data, persons = config.data, config.model.persons
    if data.true_joints is not None:
        return TrueJoints(data.root / data.true_joints, persons)
    source = open_joints(data.joints_folder, data.root, persons, config.model.sampling.frames, estimator)
    if isinstance(source, TrueJoints):
        raise StoredJointsError(
            f"{data.joints_folder} has true joints, and data.joints is for estimated ones; set data.true_joints instead"
        )
    served = ESTIMATOR_SHA256 if estimator is None else estimator.sha256
    if source.origin.sha256 != served:
        raise StoredJointsError(
            f"{data.joints_folder} has joints of the pose estimator {source.origin.estimator} (SHA-256 "
            f"{source.origin.sha256[:12]}…), but this version of sefar-serve finds joints with another "
            f"({served[:12]}…) and would not serve the model; extract them again with this version"
        )
    return source


def joint_views(config: TrainConfig) -> tuple[JointView, JointView]:
    """The weak and the strong view of a recipe for joints."""
    chosen = config.joint_views
    weak = JointView(flip=config.data.flip, scale=chosen.scale, tilt=chosen.tilt, yaw=chosen.yaw)
    strong = replace(
        weak,
        stretch=chosen.strong_stretch,
        tilt=chosen.strong_tilt,
        yaw=chosen.strong_yaw,
        noise=chosen.strong_noise,
        body=chosen.strong_body,
        drop=chosen.strong_drop,
        drop_frames=chosen.strong_drop_frames,
    )
    return weak, strong
