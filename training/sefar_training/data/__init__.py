"""Data for training and evaluation: list files, class tables, clips and views of clips."""

from sefar_serve.lists import ListEntry, ListFileError, read_list

from .batches import ClipSources, Source, StepBatches, collate, seed_step
from .classes import ClassesError, ClassTable
from .clips import BrokenClipsError, DecodedClip, EvaluationClips, FrameStore, TrainingClips
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
    "read_list",
    "seed_step",
]
