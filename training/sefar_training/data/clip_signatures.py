"""What identifies the content of a clip: the SHA-256 of its file, computed once for each state of it, and its span."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from sefar_serve.atomic import atomic_file
from sefar_serve.lists import ClipKey


class ClipSignatures:
    """Knows the SHA-256 of files; a file is read only if its size or time of modification has changed.

    Args:
        file: JSON file of what is known. Files are named relative to its folder, so that both can move together.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._known = _load(file)
        self._changed = False

    def of(self, clip: ClipKey) -> list[str | float | None]:
        """What is the same for clips of the same content: the SHA-256 of the file; for a span also its start and end.

        Raises:
            FileNotFoundError: the file does not exist.
            OSError: the file cannot be read.
        """
        sha256 = self.of_file(clip.path)
        return [sha256, clip.start, clip.end] if clip.is_span else [sha256]

    def of_file(self, file: Path) -> str:
        """The SHA-256 of a file, in hexadecimal digits.

        Raises:
            FileNotFoundError: the file does not exist.
            OSError: the file cannot be read.
        """
        name = os.path.relpath(file.resolve(), self._file.parent.resolve())
        about = file.stat()
        state = [about.st_size, about.st_mtime_ns]
        known = self._known.get(name)
        if known is not None and known[:2] == state:
            return str(known[2])
        with file.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        self._known[name] = [*state, found]
        self._changed = True
        return found

    def save(self) -> None:
        """Write what is known, if it has changed.

        Raises:
            OSError: the folder cannot be written.
        """
        if self._changed:
            # Another process may have added files since.
            self._known = _load(self._file) | self._known
            with atomic_file(self._file) as new:
                new.write_text(json.dumps(self._known), encoding="utf-8")
            self._changed = False


def _load(file: Path) -> dict[str, list[int | str]]:
    """What is known; nothing if the file is missing or damaged, since it only saves time."""
    try:
        known = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
