"""Data for training and evaluation: list files, class tables, clips of frames or joints, and views of clips."""

from sefar_serve.lists import ListEntry, ListFileError, read_list

from .batches import ClipSources, Source, StepBatches, collate, seed_step
from .broken import BrokenClipsError, MissingClipsError, check_files
from .classes import ClassesError, ClassTable
from .clips import DecodedClip, EvaluationClips, FrameStore, TrainingClips
from .joint_cache import JointCache, JointCacheError
from .joint_clips import EvaluationJoints, JointStore, TrainingJoints, UnlabelledJoints
from .joint_folder import default_joints_folder, open_joints
from .joint_shards import JointShards
from .joint_source import Joints, JointSource, MissingPosesError, Origin, StoredJointsError
from .joint_views import InputViews, JointView
from .true_joints import TrueJoints
from .unlabelled import UnlabelledClips
from .views import StrongView, WeakView

__all__ = [
    "BrokenClipsError",
    "ClassTable",
    "ClassesError",
    "ClipSources",
    "DecodedClip",
    "EvaluationClips",
    "EvaluationJoints",
    "FrameStore",
    "InputViews",
    "JointCache",
    "JointCacheError",
    "JointShards",
    "JointSource",
    "JointStore",
    "JointView",
    "Joints",
    "ListEntry",
    "ListFileError",
    "MissingClipsError",
    "MissingPosesError",
    "Origin",
    "Source",
    "StepBatches",
    "StoredJointsError",
    "StrongView",
    "TrainingClips",
    "TrainingJoints",
    "TrueJoints",
    "UnlabelledClips",
    "UnlabelledJoints",
    "WeakView",
    "check_files",
    "collate",
    "default_joints_folder",
    "open_joints",
    "read_list",
    "seed_step",
]
