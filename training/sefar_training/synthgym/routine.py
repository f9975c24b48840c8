"""Routines: several actions in a row with one camera, and a timeline of the actions."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sefar_training.synthgym.classes import CLASSES, ActionClass, action_class
from sefar_training.synthgym.encode import encode_frames
from sefar_training.synthgym.nuisance import Preset, draw_look, find_preset
from sefar_training.synthgym.render import draw_scene, perform


@dataclass(frozen=True)
class Segment:
    """One action of a routine, with start and end in seconds."""

    start: float
    end: float
    action: ActionClass


def write_routine(
    path: str | os.PathLike[str],
    seed: int,
    preset: str | Preset = "standard",
    actions: int | Sequence[ActionClass | int | str] = 5,
) -> list[Segment]:
    """Write a routine video.

    Args:
        path: the MP4 file; written atomically.
        seed: seed of everything random in it.
        preset: how much clips vary.
        actions: the actions, or how many to draw at random from one event.

    Returns:
        The timeline, in order and without gaps.

    Raises:
        ValueError: unknown class or preset, or no actions.
    """
    preset = find_preset(preset)
    rng = np.random.default_rng([seed, len(CLASSES)])
    if isinstance(actions, int):
        event = ("FX", "UB", "BB")[int(rng.integers(3))]
        choice = [action for action in CLASSES if action.event == event]
        chosen = [choice[int(rng.integers(len(choice)))] for _ in range(actions)]
    else:
        chosen = [action_class(action) for action in actions]
    if not chosen:
        raise ValueError("a routine needs at least one action")
    look = draw_look(rng, preset)
    pieces, timeline, done = [], [], 0
    for action in chosen:
        count = int(rng.integers(preset.frames[0], preset.frames[1] + 1))
        before, after = rng.uniform(0, preset.padding, 2)
        joints, angles = perform(action.as_forward, count, before, after, rng, preset)
        frames, _ = draw_scene(joints, angles, look, action)
        pieces.append(frames[::-1] if action is not action.as_forward else frames)
        timeline.append(Segment(float(done / look.rate), float((done + count) / look.rate), action))
        done += count
    encode_frames(np.concatenate(pieces), look.rate, look.crf, path)
    return timeline
