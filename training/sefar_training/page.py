"""Self-contained HTML pages of headings, text, tables and figures, for reports.

A page is one file: styles are inline, figures are data URIs, and nothing is loaded from the network. It adapts to light
or dark mode and to narrow screens.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import matplotlib
from jinja2 import Environment
from matplotlib.figure import Figure
from PIL import Image

from sefar_serve.atomic import atomic_file

Cell = str | int | float

MAX_SVG = 150_000
"""Bytes. Figures with a larger SVG, e.g. with thousands of points, become PNG if that is smaller."""

PNG_DPI = 160

_NUMBER = re.compile(r"[-+−±]?\d.*|–?")

_TEMPLATE = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string("""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{{ title }}</title>
<style>
:root { color-scheme: light dark; --ink: #1b1b1f; --faint: #62626c; --line: #dcdce2; --paper: #fff; --band: #f5f5f8 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e6ea; --faint: #a2a2ad; --line: #3a3a42; --paper: #17171a; --band: #202024 }
}
* { box-sizing: border-box }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 56rem; color: var(--ink); background: var(--paper);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif }
h1 { font-size: 1.75rem; line-height: 1.25; margin: 0 0 .5rem; overflow-wrap: anywhere }
h2 { font-size: 1.25rem; margin: 2.75rem 0 .5rem; padding-top: 1.25rem; border-top: 1px solid var(--line) }
p { margin: .5rem 0; max-width: 44rem; white-space: pre-line; overflow-wrap: break-word }
.lead { color: var(--faint); font-size: 1.05rem }
.wide { overflow-x: auto; margin: 1rem 0 }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
caption, figcaption { text-align: left; color: var(--faint); font-size: .9rem }
caption { padding-bottom: .4rem }
th, td { text-align: left; vertical-align: top; padding: .35rem .9rem .35rem .6rem;
  border-bottom: 1px solid var(--line) }
th { font-weight: 600; vertical-align: bottom }
th.n, td.n { text-align: right }
td.n { white-space: nowrap }
tbody tr:nth-child(even) { background: var(--band) }
figure { margin: 1.25rem 0 }
figure img { display: block; max-width: 100%; height: auto; padding: .5rem; background: #fff; border-radius: 6px;
  border: 1px solid var(--line) }
figcaption { margin-top: .5rem; max-width: 44rem }
</style>
</head>
<body>
<h1>{{ title }}</h1>
{% if lead %}
<p class="lead">{{ lead }}</p>
{% endif %}
{% for part in parts %}
{% if part.kind == "heading" %}
<h2>{{ part.text }}</h2>
{% elif part.kind == "text" %}
<p>{{ part.text }}</p>
{% elif part.kind == "figure" %}
<figure><img src="{{ part.uri }}" alt="{{ part.alt }}"><figcaption>{{ part.caption }}</figcaption></figure>
{% else %}
<div class="wide"><table>
{% if part.caption %}
<caption>{{ part.caption }}</caption>
{% endif %}
<thead><tr>
{% for name in part.headers %}
<th scope="col"{% if part.numeric[loop.index0] %} class="n"{% endif %}>{{ name }}</th>
{% endfor %}
</tr></thead>
<tbody>
{% for row in part.rows %}
<tr>{% for cell in row %}<td{% if part.numeric[loop.index0] %} class="n"{% endif %}>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}
</tbody>
</table></div>
{% endif %}
{% endfor %}
</body>
</html>
""")


class Page:
    """A page under construction. Parts appear in the order in which they are added.

    All text is plain text and is escaped; line breaks are kept.

    Args:
        title: title of the page.
        lead: one or two sentences below the title; may be empty.
    """

    def __init__(self, title: str, lead: str = "") -> None:
        self.title = title
        self.lead = lead
        self._parts: list[dict[str, Any]] = []

    def heading(self, text: str) -> Self:
        """Begin a section."""
        return self._add("heading", text=text)

    def text(self, text: str) -> Self:
        """Add a paragraph."""
        return self._add("text", text=text)

    def table(self, headers: Sequence[str], rows: Sequence[Sequence[Cell]], caption: str | None = None) -> Self:
        """Add a table. Columns whose cells all begin with a number are right-aligned.

        Args:
            headers: names of the columns.
            rows: cells as displayed; ``–`` or an empty cell for a missing number.
            caption: text above the table.

        Raises:
            ValueError: a row does not have one cell per column.
        """
        for row in rows:
            if len(row) != len(headers):
                raise ValueError(f"row {list(row)} has {len(row)} cells, the table has {len(headers)} columns")
        columns = zip(*rows, strict=True) if rows else [()] * len(headers)
        numeric = [bool(column) and all(_NUMBER.fullmatch(str(cell)) for cell in column) for column in columns]
        return self._add("table", headers=list(headers), rows=[list(r) for r in rows], numeric=numeric, caption=caption)

    def figure(self, fig: Figure, alt: str, caption: str) -> Self:
        """Add a figure. It is rendered now, so later changes to it do not affect the page.

        Args:
            fig: a matplotlib figure.
            alt: what it shows, for readers who cannot see it.
            caption: text below the figure.
        """
        return self._add("figure", uri=_data_uri(fig), alt=alt, caption=caption)

    def html(self) -> str:
        """The page as HTML."""
        return _TEMPLATE.render(title=self.title, lead=self.lead, parts=self._parts)

    def write(self, path: Path) -> Path:
        """Write the page atomically; its folder is created if missing.

        Returns:
            The path.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as new:
            new.write_text(self.html(), encoding="utf-8")
        return path

    def _add(self, kind: str, **part: Any) -> Self:
        self._parts.append({"kind": kind, **part})
        return self


def _data_uri(fig: Figure) -> str:
    """Encode a figure as SVG, or as PNG if the SVG is large. The same figure gives the same text."""
    svg = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "sefar"}):
        fig.savefig(svg, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None})
    kind, picture = "svg+xml", svg.getvalue()
    if len(picture) > MAX_SVG:
        fig.savefig(drawn := io.BytesIO(), format="png", dpi=PNG_DPI, bbox_inches="tight")
        # A palette is enough for plots and takes a third of the size.
        with Image.open(drawn) as image:
            image.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(png := io.BytesIO(), "PNG", optimize=True)
        if len(png.getvalue()) < len(picture):
            kind, picture = "png", png.getvalue()
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"
