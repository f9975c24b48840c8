"""The clips of a list as a model sees them: frames, joints, or both."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch.utils.data import Dataset

from sefar_serve.pose import Estimator
from sefar_serve.pose.estimators import TRUE

from ..data import EvaluationClips, EvaluationJoints, ListEntry, Origin, check_files, check_whole, open_joints
from ..data.clips import Sample
from .predict import EvaluatedModel
from .score import EvaluationError
from .views import MultiViewClips, Views


class PairedClips(Dataset[Sample]):
    """Labelled clips as frames and joints, for models that see both.

    Each sample has ``inputs``, the pair of frames and joints, ``label`` int and ``index`` int.

    Args:
        frames: the clips as frames.
        joints: the same clips as joints, with as many views.
    """

    def __init__(self, frames: EvaluationClips, joints: EvaluationJoints) -> None:
        self.entries = frames.entries
        self.frames = frames
        self.joints = joints

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> Sample:
        sample = self.frames[index]
        return sample | {"inputs": (sample["inputs"], self.joints[index]["inputs"])}


ModelClips = EvaluationClips | EvaluationJoints | PairedClips
"""What a model is evaluated on."""


def views_of(clips: ModelClips) -> Views:
    """The views of each clip."""
    if isinstance(clips, PairedClips):
        return views_of(clips.frames)
    if isinstance(clips, EvaluationJoints):
        return Views(clips.view_count)
    return clips.views if isinstance(clips, MultiViewClips) else Views()


def open_clips(
    opened: EvaluatedModel,
    entries: Sequence[ListEntry],
    list_file: Path,
    root: Path,
    views: Views = Views(),  # noqa: B008  (frozen)
    *,
    joints: Path | None = None,
    estimator: Estimator | None = None,
    threads: int | None = None,
    progress: bool = True,
) -> ModelClips:
    """Open clips with a model's preprocessing; joints that are not stored yet are estimated now.

    Args:
        opened: the model.
        entries: the clips.
        list_file: their list, for messages and progress bars.
        root: folder of the clips.
        views: views of each clip.
        joints: folder of joints, see `open_joints`; None for ``.sefar/joints`` in `root`.
        estimator: finds joints that are not stored yet; None for MediaPipe's.
        threads: clips whose joints are estimated at the same time; None for one per core.
        progress: show a progress bar while joints are estimated.

    Raises:
        EvaluationError: the model was trained with another pose estimator, or joints are to be cropped.
        MissingClipsError: clips do not exist. Stored joints that were extracted, or are known, do not need them.
        PoseSetupError: the pose models are missing and cannot be downloaded.
        JointCacheError, StoredJointsError: joints cannot be stored, stored ones are not those that are needed, or
            clips are spans of videos.
        ClipError: a clip does not decode.
    """
    frames: EvaluationClips | None = None
    if opened.pixels is not None:
        check_files(entries, list_file)
        if views.count == 1:
            frames = EvaluationClips(entries, opened.sampling, *opened.pixels)
        else:
            frames = MultiViewClips(entries, opened.sampling, *opened.pixels, views)
        if not opened.estimator:
            return frames
    if views.spatial != 1:
        raise EvaluationError("the model sees joints, which are not cropped; set --spatial-crops to 1")
    if opened.estimator.startswith(TRUE) and joints is None:
        raise EvaluationError(
            f"the model was trained on true joints ({opened.estimator.removeprefix(TRUE)}), which cannot be estimated; "
            "give their folder with --joints, e.g. data/synthgym/joints. To evaluate it on estimated joints, "
            "export the checkpoint with `sefar export --estimated-joints` and evaluate that file"
        )
    source = open_joints(joints, root, opened.persons, opened.sampling.frames, estimator)
    _check_origin(opened, source.origin)
    check_whole(entries, list_file)
    if source.reads_videos:
        check_files(entries, list_file)
    posed = EvaluationJoints(
        entries,
        opened.sampling,
        source,
        views.temporal,
        progress=progress,
        threads=threads,
        title=list_file.name,
    )
    return posed if frames is None else PairedClips(frames, posed)


def _check_origin(opened: EvaluatedModel, found: Origin) -> None:
    if opened.estimator_sha256 == found.sha256:
        return
    if opened.estimator.startswith(TRUE):
        raise EvaluationError(
            f"the model was trained on true joints ({opened.estimator.removeprefix(TRUE)}), but these are of "
            f"{found.estimator}; give the folder of true joints with --joints. To evaluate it on estimated joints, "
            "export the checkpoint with `sefar export --estimated-joints` and evaluate that file"
        )
    if found.estimator.startswith(TRUE):
        raise EvaluationError(
            f"the folder has true joints, but the model sees those of {opened.estimator}; omit --joints"
        )
    raise EvaluationError(
        f"the model was trained with the pose estimator {opened.estimator} (SHA-256 {opened.estimator_sha256}), "
        f"but the joints are of {found.estimator} ({found.sha256}); use the version that trained it"
    )
