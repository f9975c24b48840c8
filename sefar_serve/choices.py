"""Multiple-choice questions as the authors of SeFAR write them: stem and options in one text."""

from __future__ import annotations

import re
from string import ascii_uppercase

LETTERS = ascii_uppercase

# Options contain full stops themselves ("0.5 turn"), so the text is never split on one.
_FOUR = re.compile(r"A\.(.*) B\.(.*) C\.(.*) D\.(.*)$")


def split_choices(text: str) -> tuple[str, tuple[str, ...]] | None:
    """Stem and the four options of a question that ends with ``A.… B.… C.… D.…``; None for any other text."""
    found = _FOUR.search(text)
    return None if found is None else (text[: found.start()].strip(), found.groups())


def join_choices(stem: str, options: tuple[str, ...]) -> str:
    """A question in the authors' format, with as many options as are given, at most 26."""
    lettered = " ".join(f"{letter}.{option}" for letter, option in zip(LETTERS, options, strict=False))
    return f"{stem} {lettered}"
