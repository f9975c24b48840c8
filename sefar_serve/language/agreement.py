"""Whether a text and the classifier name the same class."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

Agreement = Literal["agree", "disagree"]

_PUNCTUATION = ".,;:!?…\"'“”‘’«»()[]{}*_`~#-–—"
"""Stripped from both ends of each word; language models quote names and set them in bold."""


def _words(text: str) -> str:
    """Normalise a text for comparison: no prefix, case or punctuation around words; a space at each end."""
    plain = re.sub(r"^\([A-Z]{2}\) ", "", text).casefold()
    return f" {' '.join(bare for word in plain.split() if (bare := word.strip(_PUNCTUATION)))} "


def named_label(text: str, labels: Sequence[str], prefer: int | None = None) -> int | None:
    """Which class a text names: the longest label whose words are in it.

    Args:
        text: any text.
        labels: names of the classes.
        prefer: the class to take if several labels are the same without their prefix.
    """
    text = _words(text)
    found = [
        (len(words), i == prefer, -i)
        for i, label in enumerate(labels)
        if (words := _words(label)).strip() and words in text
    ]
    return -max(found)[2] if found else None


def compare(text: str, labels: Sequence[str], best: int) -> tuple[Agreement | None, int | None]:
    """Compare a text with the classifier's answer.

    Args:
        text: any text.
        labels: names of the classes.
        best: number of the classifier's class.

    Returns:
        Whether they agree, and the number of the class that the text names; None, None if it names no class.
    """
    named = named_label(text, labels, prefer=best)
    if named is None:
        return None, None
    return ("agree" if named == best else "disagree"), named
