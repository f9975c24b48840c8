"""Clips to extract features from, and the errors that a user can fix."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from sefar_serve.errors import SefarError


@dataclass(frozen=True)
class ClipRef:
    """One clip to process.

    Attributes:
        id: name of the clip in the features, unique within a run.
        path: local path, or URL of an fsspec file system (``s3://…``).
        start: start in seconds; None for the first frame.
        end: end in seconds; None for the last frame.
        cost: file size in bytes, 0 if it is not known without an extra request. Larger files are started first.
    """

    id: str
    path: str
    start: float | None = None
    end: float | None = None
    cost: int = 0


class ExtractError(SefarError, ValueError):
    """The run cannot start or continue until the user changes something."""

    status = 400
    param = "input"
    code = "extract_failed"


class SourceError(ExtractError):
    """The list of clips cannot be read, has a malformed line, or names no videos."""

    code = "invalid_manifest"


def check_text(clip: ClipRef) -> None:
    """Check that a row can store a clip's id and path.

    Raises:
        SourceError: the id or path is not valid Unicode, which is possible for file names.
    """
    try:
        f"{clip.id}{clip.path}".encode()
    except UnicodeEncodeError as error:
        raise SourceError(f"{clip.path!a} is not valid Unicode and cannot name a row; rename the file") from error


class ClipIdConflictError(ExtractError):
    """Two different clips have the same id."""

    code = "clip_id_conflict"


class ClipMovedError(ExtractError):
    """An id now belongs to a video at another path: a different video, or the same one moved."""

    code = "clip_moved"


class MixedModelError(ExtractError):
    """The output folder holds features from another model, or made with other settings."""

    code = "model_changed"


class OutputBusyError(ExtractError):
    """Another run is writing to the output folder."""

    code = "output_busy"


class OutputUnwritableError(ExtractError):
    """The output folder cannot be written: the disk is full, or this process lacks permission."""

    code = "output_unwritable"


def unwritable(folder: Path, error: Exception) -> OutputUnwritableError:
    """Describe a write error of the operating system or of SQLite to the user."""
    number = getattr(error, "errno", None)
    reason = error if number is None else os.strerror(number)
    return OutputUnwritableError(
        f"{folder} cannot be written ({reason}). Committed rows are kept. Free disk "
        "space or get write permission and run the same command again, or start over with another --out"
    )
