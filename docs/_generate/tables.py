"""Markdown tables and inline code, with the characters escaped that would break them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence


def code(text: object) -> str:
    """Inline code; tables do not split at a `|` inside it."""
    return f"`{text}`"


def prose(text: str) -> str:
    """Running text on one line, safe inside a table cell."""
    return " ".join(text.split()).replace("|", "\\|")


def sentence(text: str) -> str:
    """Help text as a sentence: first letter upper case, a full stop at the end."""
    line = prose(text)
    if not line:
        return line
    if re.match(r"[a-z]+(?![\w:])", line):  # a word, not a symbol, a name or `host:port`
        line = line[0].upper() + line[1:]
    return line if line.endswith((".", "!", "?", "…")) else line + "."


_PROSE = {"Meaning", "When"}
"""Columns of sentences. They keep a readable width on narrow screens, where the table scrolls."""


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, or nothing where there are no rows."""
    body = ["| " + " | ".join(row) + " |" for row in rows]
    if not body:
        return ""
    columns = [f"{name} {{ .prose }}" if name in _PROSE else name for name in header]
    return "\n".join(["| " + " | ".join(columns) + " |", "|" + " --- |" * len(header), *body]) + "\n"
