"""SynthGym: rendered clips of a gymnast, with fine-grained labels, deterministic given a seed.

Only `pretext` imports torch: the demo renders clips in an environment without it.
"""

from sefar_training.synthgym.classes import CLASSES, ActionClass
from sefar_training.synthgym.dataset import DatasetExistsError, DatasetSummary, clip_seed, write_dataset
from sefar_training.synthgym.encode import encode_clip
from sefar_training.synthgym.nuisance import PRESETS, Preset
from sefar_training.synthgym.render import POSE_NAMES, RenderedClip, clip_joints, render_clip
from sefar_training.synthgym.routine import Segment, write_routine
from sefar_training.synthgym.sheet import write_contact_sheets

__all__ = [
    "CLASSES",
    "POSE_NAMES",
    "PRESETS",
    "ActionClass",
    "DatasetExistsError",
    "DatasetSummary",
    "Preset",
    "RenderedClip",
    "Segment",
    "clip_joints",
    "clip_seed",
    "encode_clip",
    "render_clip",
    "write_contact_sheets",
    "write_dataset",
    "write_routine",
]
