"""Markdown for model cards: tables, and text of users that stays text."""

from __future__ import annotations

import re
from collections.abc import Sequence

_SPECIAL = re.compile(r"[\\`*_\[\]#|~$@]")


def markdown_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format a Markdown table; cells are not escaped."""
    lines = [headers, ["---"] * len(headers), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def escape_markdown(text: str) -> str:
    """Escape text that may contain anything, for a table cell or the inside of a paragraph.

    Line breaks become spaces. Punctuation that can mean something is escaped, so that neither Markdown nor HTML is left
    (CommonMark 0.31, 2.4).
    """
    line = " ".join(text.split())
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    line = _SPECIAL.sub(r"\\\g<0>", line)
    # At the start of a line these begin a list, a rule or a heading.
    return re.sub(r"^(?:([-+])|(\d+)(\.))", r"\2\\\1\3", line)


def code_block(text: str) -> str:
    """A block of code, whatever is in it."""
    longest = max((len(ticks) for ticks in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text}\n{fence}"
