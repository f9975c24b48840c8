"""Whether a text and the classifier name the same class."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

Agreement = Literal["agree", "disagree"]

_PUNCTUATION = ".,;:!?…\"'“”‘’«»()[]{}*_`~#-–—"
"""What may stand at a word's ends without being of it; language models quote names and set them in bold."""


def _words(text: str) -> str:
    """A text as it is compared: no prefix, case or punctuation at words' ends; a space on either side."""
    plain = re.sub(r"^\([A-Z]{2}\) ", "", text).casefold()
    return f" {' '.join(bare for word in plain.split() if (bare := word.strip(_PUNCTUATION)))} "


def named_label(text: str, labels: Sequence[str], prefer: int | None = None) -> int | None:
    """Which class a text names: the longest label whose words are in it.

    Args:
        text: any.
        labels: names of the classes.
        prefer: class taken where several labels read the same without their prefix.
    """
    text = _words(text)
    found = [
        (len(words), i == prefer, -i)
        for i, label in enumerate(labels)
        if (words := _words(label)).strip() and words in text
    ]
    return -max(found)[2] if found else None


def compare(text: str, labels: Sequence[str], best: int) -> tuple[Agreement | None, int | None]:
    """Hold a text against the classifier's answer.

    Returns:
        Whether they agree, None where the text names no class; and the class that it names.
    """
    named = named_label(text, labels, prefer=best)
    if named is None:
        return None, None
    return ("agree" if named == best else "disagree"), named
