"""Data for training and evaluation: list files, class tables, clips and their views."""

from .batches import ClipSources, Source, StepBatches, collate, seed_step
from .classes import ClassesError, ClassTable
from .clips import BrokenClipsError, DecodedClip, EvaluationClips, FrameStore, TrainingClips
from .lists import ListEntry, ListFileError, parse_list, read_list
from .unlabelled import UnlabelledClips
from .views import StrongView, WeakView

__all__ = [
    "BrokenClipsError",
    "ClassTable",
    "ClassesError",
    "ClipSources",
    "DecodedClip",
    "EvaluationClips",
    "FrameStore",
    "ListEntry",
    "ListFileError",
    "Source",
    "StepBatches",
    "StrongView",
    "TrainingClips",
    "UnlabelledClips",
    "WeakView",
    "collate",
    "parse_list",
    "read_list",
    "seed_step",
]
