"""Data for training and evaluation: list files, class tables, clips and their views."""

from .classes import ClassesError, ClassTable
from .clips import BrokenClipsError, EvaluationClips, FrameStore, TrainingClips
from .lists import ListEntry, ListFileError, parse_list, read_list
from .views import WeakView

__all__ = [
    "BrokenClipsError",
    "ClassTable",
    "ClassesError",
    "EvaluationClips",
    "FrameStore",
    "ListEntry",
    "ListFileError",
    "TrainingClips",
    "WeakView",
    "parse_list",
    "read_list",
]
