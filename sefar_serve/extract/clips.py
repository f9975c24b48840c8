"""What is extracted, clip by clip, and what a user can get wrong about it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sefar_serve.errors import SefarError


@dataclass(frozen=True)
class ClipRef:
    """One clip to look at.

    Attributes:
        id: names the clip in the features; one run has each once.
        path: on this machine, or URL of an fsspec file system (``s3://…``).
        start: seconds where it begins; None: at the first frame.
        end: seconds where it ends; None: at the last frame.
        cost: bytes of the file, where they are known for nothing; larger files are begun first.
    """

    id: str
    path: str
    start: float | None = None
    end: float | None = None
    cost: int = 0


class ExtractError(SefarError, ValueError):
    """A run that cannot start or go on until the user changes something."""

    status = 400
    param = "input"
    code = "extract_failed"


class SourceError(ExtractError):
    """The source cannot be read, a line of it is malformed, or it names no videos."""

    code = "invalid_manifest"


def check_text(clip: ClipRef) -> None:
    """See whether a row could name a clip.

    Raises:
        SourceError: its path or id is no Unicode text, as file names need not be.
    """
    try:
        f"{clip.id}{clip.path}".encode()
    except UnicodeEncodeError as error:
        raise SourceError(f"{clip.path!a} is not Unicode text, and so no name for a row; rename the file") from error


class ClipIdConflictError(ExtractError):
    """One id stands for two different clips."""

    code = "clip_id_conflict"


class ClipMovedError(ExtractError):
    """One id stands for a video of another path than before: another video, or the same one elsewhere."""

    code = "clip_moved"


class MixedModelError(ExtractError):
    """The folder holds features of another model, or made with other settings."""

    code = "model_changed"


class OutputBusyError(ExtractError):
    """Another run writes to the folder."""

    code = "output_busy"


class OutputUnwritableError(ExtractError):
    """The folder cannot be written: its disk is full, or it is closed to this process."""

    code = "output_unwritable"


def unwritable(folder: Path, error: Exception) -> OutputUnwritableError:
    """That error in words; `error` is of the system or of SQLite."""
    return OutputUnwritableError(
        f"{folder} cannot be written ({getattr(error, 'strerror', None) or error}); what is committed stays: make "
        "room, or take another --out, and run the same command again"
    )
