"""Self-contained HTML pages of headings, text, tables, figures and pictures, for reports.

A page is one file: styles are inline, figures are data URIs, and nothing is loaded from the network. It adapts to light
or dark mode and to narrow screens.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import matplotlib
import numpy as np
from jinja2 import Environment
from markupsafe import Markup, escape
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from sefar_serve.atomic import atomic_file

Cell = str | int | float

MAX_SVG = 150_000
"""Bytes. Figures with a larger SVG, e.g. with thousands of points, become PNG if that is smaller."""

PNG_DPI = 160

JPEG_QUALITY = 75

_NUMBER = re.compile(r"[-+−±]?\d.*|–?")


def _breakable(text: str) -> Markup:
    """Text in HTML whose file names break into lines after their parts, not inside a word."""
    return Markup("<wbr>").join(escape(part) for part in re.split(r"(?<=[/_.-])(?=\w)", text))


_ENVIRONMENT = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
_ENVIRONMENT.filters["breakable"] = _breakable
_TEMPLATE = _ENVIRONMENT.from_string("""\
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
ul { margin: .5rem 0; padding-left: 1.25rem; max-width: 44rem; overflow-wrap: break-word }
li { margin: .25rem 0; white-space: pre-line }
pre { margin: .75rem 0; padding: .75rem 1rem; overflow-x: auto; background: var(--band); border: 1px solid var(--line);
  border-radius: 6px; font: .875rem/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace }
.tiles, .pictures { display: grid; gap: 1rem; margin: 1.25rem 0; padding: 0; list-style: none; max-width: none }
.tiles { grid-template-columns: repeat(auto-fit, minmax(13rem, 1fr)) }
.tiles li { margin: 0; padding: .9rem 1.1rem; background: var(--band); border: 1px solid var(--line);
  border-radius: 8px; white-space: normal }
.tiles strong { display: block; font-size: 2rem; line-height: 1.3; font-variant-numeric: tabular-nums }
.tiles small { display: block; color: var(--faint); font-size: .9rem; line-height: 1.4 }
.pictures { grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)) }
.pictures figure { margin: 0; min-width: 0; font-size: .85rem; line-height: 1.4 }
.pictures img { max-height: 7.5rem; padding: 0; background: none; border-radius: 4px }
.pictures .none { display: flex; align-items: center; justify-content: center; height: 5rem; color: var(--faint);
  background: var(--band); border: 1px solid var(--line); border-radius: 4px }
.pictures figcaption { margin-top: .3rem; color: inherit; font-size: inherit; white-space: pre-line;
  overflow-wrap: break-word }
.above { margin: 1.25rem 0 -.5rem }
@media (min-width: 40rem) { th.n { white-space: nowrap } }
@media (max-width: 30rem) { th, td { padding: .3rem .35rem } table { font-size: .875rem } }
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
{% elif part.kind == "items" %}
<ul>
{% for item in part.texts %}
<li>{{ item }}</li>
{% endfor %}
</ul>
{% elif part.kind == "code" %}
<pre><code>{{ part.text }}</code></pre>
{% elif part.kind == "tiles" %}
<ul class="tiles">
{% for tile in part.tiles %}
<li>{{ tile.name }}<strong>{{ tile.value }}</strong><small>{{ tile.note }}</small></li>
{% endfor %}
</ul>
{% elif part.kind == "pictures" %}
{% if part.caption %}
<p class="above">{{ part.caption }}</p>
{% endif %}
<div class="pictures">
{% for uri, picture in part.pictures %}
<figure>
{% if uri %}
<img src="{{ uri }}" alt="{{ picture.alt }}">
{% else %}
<div class="none">no picture</div>
{% endif %}
<figcaption>{{ picture.caption | breakable }}</figcaption></figure>
{% endfor %}
</div>
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


@dataclass(frozen=True)
class Tile:
    """A large figure.

    Attributes:
        name: what it is.
        value: the figure as displayed.
        note: what it means, in a few words.
    """

    name: str
    value: str
    note: str


@dataclass(frozen=True)
class Picture:
    """A small picture.

    Attributes:
        pixels: uint8 (h,w,3), RGB; None for a placeholder.
        alt: what it shows, for readers who cannot see it.
        caption: text below it.
    """

    pixels: NDArray[np.uint8] | None
    alt: str
    caption: str


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

    def items(self, texts: Sequence[str]) -> Self:
        """Add a list of short paragraphs."""
        return self._add("items", texts=list(texts))

    def code(self, text: str) -> Self:
        """Add lines to copy into a terminal or a program."""
        return self._add("code", text=text)

    def tiles(self, tiles: Sequence[Tile]) -> Self:
        """Add a row of large figures."""
        return self._add("tiles", tiles=list(tiles))

    def pictures(self, pictures: Sequence[Picture], caption: str = "") -> Self:
        """Add small pictures in a grid. They are encoded now, as JPEG.

        Args:
            pictures: the pictures, best of the same shape.
            caption: text above them; may be empty.
        """
        encoded = [(None if p.pixels is None else _jpeg_uri(p.pixels), p) for p in pictures]
        return self._add("pictures", pictures=encoded, caption=caption)

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


def _jpeg_uri(pixels: NDArray[np.uint8]) -> str:
    """Encode a picture, uint8 (h,w,3), RGB."""
    Image.fromarray(pixels).save(jpeg := io.BytesIO(), "JPEG", quality=JPEG_QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg.getvalue()).decode()}"


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
