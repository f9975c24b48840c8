"""Pages that are files of the repository outside docs/: shown as they are, with their links turned towards the site."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

COPIED = {
    "reference/changelog.md": "CHANGELOG.md",
    "reference/model-card.md": "model_repository/sefar_encoder/MODEL_CARD.md",
    "reference/captioner-card.md": "adapters/sefar-synthgym-captioner/README.md",
    "explanation/contributing.md": "CONTRIBUTING.md",
}
"""Pages of the site by the file that each shows."""

_PAGES = {file: page for page, file in COPIED.items()}
_LINK = re.compile(r"(?<=\]\()(?!https?:|#|mailto:)([^)#\s]+)")


def render(page: str) -> str:
    """A copied page as Markdown.

    Raises:
        ValueError: the file links to something that is not on the site.
    """
    file = COPIED[page]
    text = (ROOT / file).read_text(encoding="utf-8")
    return _LINK.sub(lambda link: on_site(link[1], file, page), _without_front_matter(text))


def on_site(link: str, file: str, page: str) -> str:
    """A link relative to `file`, made relative to `page`."""
    target = posixpath.normpath(posixpath.join(posixpath.dirname(file), link))
    place = _PAGES.get(target) or (target.removeprefix("docs/") if target.startswith("docs/") else None)
    if place is None:
        raise ValueError(f"{file} links to {link}, which is not a page of the documentation site")
    return posixpath.relpath(place, posixpath.dirname(page))


def _without_front_matter(text: str) -> str:
    return re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)
