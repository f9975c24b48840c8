"""Reads the Markdown of the documentation: its fenced blocks, and the code in its running text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]

_FENCE = re.compile(r"```(\w*)\s*$")
_NOT_RUN = re.compile(r"<!-- not run: (.+) -->\s*$")


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
        page: file it is in.
        line: number of its first line of code, from 1.
        language: the word behind the backticks, or "".
        code: its text.
        not_run: why the tests do not run it, as a comment above it says; None if they do.
    """

    page: Path
    line: int
    language: str
    code: str
    not_run: str | None


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page, in order."""
    lines = page.read_text(encoding="utf-8").splitlines()
    start: int | None = None
    language, reason = "", None
    for number, line in enumerate(lines):
        if start is not None:
            if line.strip() == "```":
                yield Block(page, start + 1, language, "\n".join(lines[start:number]) + "\n", reason)
                start = None
        elif fence := _FENCE.match(line):
            start, language = number + 1, fence[1]
            comment = _NOT_RUN.match(lines[number - 1]) if number else None
            reason = comment[1] if comment else None
    assert start is None, f"{page}: a fenced block has no end"


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^```\w*\s*$.*?^```\s*$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def inline_code(page: Path) -> list[str]:
    """The code spans in a page's running text."""
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose(page))]
