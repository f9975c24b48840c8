"""Shows results in a notebook. Text from files or models is escaped, because file names are not trusted."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

_CELL = "text-align:left;padding:2px 12px 2px 0"
_BAR = "display:inline-block;height:0.8em;background:#4c78a8;vertical-align:middle;margin-right:6px"
_BAR_PIXELS = 120


def text(line: str, *, wrong: bool = False) -> str:
    """One line of text, red if something went wrong."""
    colour = "color:#b00020;" if wrong else ""
    return f'<p style="{colour}margin:4px 0">{escape(line)}</p>'


def bars(scores: Sequence[tuple[str, float]]) -> str:
    """A table of names with bars for scores in [0, 1]."""

    def row(name: str, score: float) -> str:
        bar = f'<span style="{_BAR};width:{max(1, round(_BAR_PIXELS * score))}px"></span>'
        return f'<tr><td style="{_CELL}">{escape(name)}</td><td style="{_CELL}">{bar}{score:.0%}</td></tr>'

    rows = "".join(row(name, score) for name, score in scores)
    return f'<table style="border-collapse:collapse">{rows}</table>'


def labels(name: str, scores: Sequence[tuple[str, float]], reliability: float, unfamiliar: bool) -> str:
    """The classes of a clip, their reliability, and whether the clip is unlike what the model knows."""
    head = f'<p style="margin:4px 0"><b>{escape(name)}</b> &nbsp; reliability η {reliability:.2f}</p>'
    mark = text("unfamiliar: the clip is unlike what the model knows", wrong=True) if unfamiliar else ""
    return head + mark + bars(scores)
