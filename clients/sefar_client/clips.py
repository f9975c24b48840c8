"""What all answers about clips have: labels, what was decoded, and how warnings look."""

from __future__ import annotations

from collections.abc import Sequence

from sefar_client import notebook
from sefar_client.base import Result
from sefar_client.poses import PoseInfo
from sefar_client.warned import Warned, warning_lines


class Label(Result):
    """One class and its score."""

    label: str
    index: int
    score: float
    logit: float | None
    attributes: dict[str, str | float]


class SourceFrame(Result):
    """Where a frame that the model saw came from; `time` in seconds."""

    index: int
    time: float
    element: str


class ClipInfo(Result):
    """What was decoded; `duration` in seconds, width and height in pixels; `pose` is None without joints."""

    frame_count: int
    duration: float
    width: int
    height: int
    stream: int
    frames: list[SourceFrame]
    corrupt_frames: list[int]
    warnings: list[str]
    pose: PoseInfo | None = None


class Usage(Result):
    """Clips and model frames used."""

    prompt_tokens: int
    total_tokens: int
    clips: int


def notes(clip: ClipInfo, windows: Sequence[Warned] | None = None) -> str:
    """Lines for notebooks: about the persons in a clip, and warnings in red, e.g. that no person was found."""
    warnings = warning_lines(clip, windows)
    found = clip.pose is not None and any(clip.pose.found)
    persons = "" if clip.pose is None or (warnings and not found) else notebook.text(str(clip.pose), wrong=not found)
    return persons + "".join(notebook.text(line, wrong=True) for line in warnings)


def with_notes(text: str, lines: list[str]) -> str:
    """A line with notes in brackets, e.g. warnings."""
    return f"{text} [{'; '.join(lines)}]" if lines else text


def mark(unfamiliar: bool) -> str:
    """What follows the labels of a clip that is unlike what the model knows."""
    return ", unfamiliar" if unfamiliar else ""
