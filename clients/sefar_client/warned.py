"""Warnings about a clip, in the words of a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Protocol


class Warned(Protocol):
    """What has warnings: a clip, or a sliding window."""

    @property
    def warnings(self) -> list[str]:
        """About what it shows."""


def warning_lines(clip: Warned, windows: Sequence[Warned] | None = None) -> list[str]:
    """The warnings of an answer, each once.

    Args:
        clip: what was decoded.
        windows: the sliding windows, if there are any; `clip` is then one of them.

    Returns:
        Lines like ``warning: no person found``, or ``warning: no person found (3 of 8 windows)``.
    """
    if not windows:
        return [f"warning: {text}" for text in clip.warnings]
    counts = Counter(text for window in windows for text in dict.fromkeys(window.warnings))
    of_video = [text for text in clip.warnings if text not in counts]
    of_windows = [f"{text} ({count} of {len(windows)} windows)" for text, count in counts.items()]
    return [f"warning: {text}" for text in (*of_video, *of_windows)]
