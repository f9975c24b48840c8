from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from sefar_training.page import Page, Picture, Tile


def drawing(points: int = 3) -> Figure:
    fig = Figure(figsize=(4, 2))
    fig.subplots().plot(np.random.default_rng(0).random(points), ".")
    return fig


class Reader(HTMLParser):
    """Tags with their attributes, in order, and whether all that opened was closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_parts_come_in_order_and_escaped() -> None:
    page = Page("A <b>", "lead & more").heading("First").text("1 < 2").heading("Second").table(["x"], [["<i>"]])
    html = page.html()
    order = [html.index(s) for s in ("<h1>A &lt;b&gt;", "lead &amp; more", "First", "1 &lt; 2", "Second", "&lt;i&gt;")]
    assert order == sorted(order)
    Reader(html)


def test_columns_of_numbers_are_aligned() -> None:
    html = Page("t").table(["name", "n", "share"], [["a", 3, "51.0 %"], ["9b", -1, "–"]], caption="above").html()
    cells = [attrs.get("class") for tag, attrs in Reader(html).tags if tag in ("th", "td")]
    assert cells == [None, "n", "n"] * 3
    assert "<caption>above</caption>" in html
    assert "<caption>" not in Page("t").table(["a"], []).html()


def test_row_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="2 cells, the table has 1 columns"):
        Page("t").table(["a"], [[1, 2]])


@pytest.mark.parametrize(("points", "kind"), [(3, "svg+xml"), (5000, "png")])
def test_figure_is_inside_the_page_and_compact(points: int, kind: str) -> None:
    html = Page("t").figure(drawing(points), 'a "plot"', "below").html()
    (image,) = [attrs for tag, attrs in Reader(html).tags if tag == "img"]
    assert image["alt"] == 'a "plot"'
    assert "<figcaption>below</figcaption>" in html
    head, _, data = (image["src"] or "").partition(";base64,")
    assert head == f"data:image/{kind}"
    picture = base64.b64decode(data)
    if kind == "png":
        assert picture.startswith(b"\x89PNG")
    else:
        assert ElementTree.fromstring(picture).tag.endswith("svg")
    assert len(html) < 250_000
    assert html == Page("t").figure(drawing(points), 'a "plot"', "below").html()


def test_nothing_is_loaded_from_elsewhere() -> None:
    html = Page("t").figure(drawing(), "a", "b").html()
    assert "default-src 'none'" in html
    assert not re.search(r"(src|href)=\"(?!data:)|url\(|@import|<script", html)


def test_pages_are_written_atomically(tmp_path: Path) -> None:
    target = tmp_path / "new" / "page.html"
    assert Page("first η").write(target) == target
    assert Page("second").write(target) == target
    assert "second" in target.read_text(encoding="utf-8")
    assert [p.name for p in target.parent.iterdir()] == ["page.html"]


def test_pictures_are_inside_the_page_and_a_missing_one_has_a_placeholder() -> None:
    pixels = np.zeros((90, 160, 3), np.uint8)
    pixels[..., 0] = 200
    page = Page("t").pictures([Picture(pixels, 'a "clip"', "a < b\nc"), Picture(None, "gone", "d")], "above & below")
    html = page.html()
    (image,) = [attrs for tag, attrs in Reader(html).tags if tag == "img"]
    head, _, data = (image["src"] or "").partition(";base64,")
    assert head == "data:image/jpeg"
    with Image.open(io.BytesIO(base64.b64decode(data))) as opened:
        assert opened.size == (160, 90)
        red, green, blue = opened.convert("RGB").getpixel((80, 45))  # type: ignore[misc]
    assert red > 190 and green < 10 and blue < 10
    assert image["alt"] == 'a "clip"'
    for text in ("above &amp; below", "a &lt; b\nc", '<div class="none">no picture</div>'):
        assert text in html


def test_lists_code_and_tiles_are_escaped() -> None:
    page = Page("t").items(["a <b>", "c"]).code("x < 1\n  y").tiles([Tile("new & old", "<1%", "n > m")])
    html = page.html()
    Reader(html)
    for text in ("<li>a &lt;b&gt;</li>", "<code>x &lt; 1\n  y</code>", "new &amp; old<strong>&lt;1%", "n &gt; m"):
        assert text in html
