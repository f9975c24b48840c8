"""What MkDocs calls while it builds the site: generated pages, and the diagram that follows the palette."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cli_page
import copied_pages
import errors_page
import http_page
import metrics_page
import recipes_page
import settings_page
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

PAGES: dict[str, Callable[[], str]] = {
    "reference/cli.md": cli_page.render,
    "reference/errors.md": errors_page.render,
    "reference/http.md": http_page.render,
    "reference/metrics.md": metrics_page.render,
    "reference/recipes.md": recipes_page.render,
    "reference/settings.md": settings_page.render,
    **{page: partial(copied_pages.render, page) for page in copied_pages.COPIED},
}

_DIAGRAM = re.compile(r'<p>\s*<img alt="[^"]*" src="[^"]*?(images/[\w-]+\.svg)"[^>]*>\s*</p>')


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made from the code."""
    for page, render in PAGES.items():
        files.append(File.generated(config, page, content=render()))
    return files


def on_page_content(html: str, config: MkDocsConfig, **_: object) -> str:
    """Put SVG pictures into the page itself: only there do the palette's colours reach them."""

    def inline(match: re.Match[str]) -> str:
        svg = (Path(config.docs_dir) / match[1]).read_text(encoding="utf-8")
        return f'<div class="diagram">{svg[svg.index("<svg") :]}</div>'

    return _DIAGRAM.sub(inline, html)
