"""Multiple-choice questions as the authors of SeFAR write them: stem and options in one text."""

from __future__ import annotations

import re
from string import ascii_uppercase

LETTERS = ascii_uppercase

# Options contain full stops themselves ("0.5 turn"), so the text cannot be split at them. A single expression with all
# four letters would run for minutes on a text that repeats "A. B. C.".
_MARK = re.compile(r"(?:(?<=\s)|^)([A-D])\.")


def split_choices(text: str) -> tuple[str, tuple[str, ...]] | None:
    """Stem and the four options of a question that ends with ``A.… B.… C.… D.…``, on one line or several.

    Args:
        text: of any length; the time is linear in it.

    Returns:
        None for any other text, or if an option is empty.
    """
    wanted, end = "DCBA", len(text)
    options: list[str] = []
    for mark in reversed(list(_MARK.finditer(text))):
        if mark[1] == wanted[len(options)]:
            options.append(text[mark.end() : end].strip())
            end = mark.start()
            if len(options) == len(wanted):
                return (text[:end].strip(), tuple(reversed(options))) if all(options) else None
    return None


def join_choices(stem: str, options: tuple[str, ...]) -> str:
    """A question in the authors' format, with up to 26 options."""
    lettered = " ".join(f"{letter}.{option}" for letter, option in zip(LETTERS, options, strict=False))
    return f"{stem} {lettered}"
