"""The clips of a job: which paths and URLs are allowed, and the file that stores the clips."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

from sefar_serve.extract.clips import ClipIdConflictError, ClipRef, SourceError, check_text
from sefar_serve.extract.manifests import NamedClip
from sefar_serve.fetch import UrlFetcher
from sefar_serve.jobs.errors import PathNotAllowedError, TooManyClipsError

LONGEST = 8192
"""Characters of a path, URL or id."""


@dataclass(frozen=True)
class Intake:
    """Checks and stores the clips of jobs.

    Attributes:
        roots: folders that paths may point into; relative paths start from the first.
        fetcher: fetches videos given by URL.
        most: maximum number of clips in a job.
    """

    roots: Sequence[Path]
    fetcher: UrlFetcher
    most: int

    def write(self, named: Iterable[NamedClip], file: Path) -> tuple[int, str]:
        """Write the clips of a job to a file, each once, in the given order.

        Args:
            named: the clips as the client named them.
            file: file to write.

        Returns:
            The number of clips, and a digest that is equal for equal clips.

        Raises:
            PathNotAllowedError: a path is outside the roots.
            UrlNotAllowedError: the host of a URL is not allowed.
            TooManyClipsError: there are more than `most` clips.
            SourceError: there are no clips, or one is malformed.
            ClipIdConflictError: two different clips have the same id.
        """
        seen: dict[str, ClipRef] = {}
        digest = sha256()
        with file.open("w", encoding="utf-8") as lines:
            for number, clip in enumerate(named, start=1):
                if number > self.most:
                    raise TooManyClipsError(self.most)
                if len(clip.name) > LONGEST or len(clip.id or "") > LONGEST:
                    raise SourceError(f"clip {number} has a path, URL or id of more than {LONGEST} characters")
                check_text(ClipRef(clip.clip_id, clip.name))
                placed = self._placed(clip)
                if (before := seen.setdefault(placed.id, placed)) is not placed:
                    if before != placed:
                        raise ClipIdConflictError(
                            f"the id {placed.id!r} is used for two different clips; give each clip a unique id"
                        )
                    continue
                line = json.dumps(asdict(placed)) + "\n"
                digest.update(line.encode())
                lines.write(line)
        if not seen:
            raise SourceError("the job has no clips; give each clip a path or a url")
        return len(seen), digest.hexdigest()

    def _placed(self, clip: NamedClip) -> ClipRef:
        if "://" in clip.name:
            self.fetcher.allowed(clip.name)
            return ClipRef(clip.clip_id, clip.name, clip.start, clip.end)
        if not self.roots:
            raise PathNotAllowedError(
                f"{clip.name}: paths are disabled for jobs on this server. Give a url, or ask the operator to allow a "
                "folder (SEFAR_JOB_ROOTS)"
            )
        try:
            path = (self.roots[0] / clip.name).resolve()
        except (OSError, ValueError, RuntimeError):  # an invalid file name, or a loop of links
            path = Path("/")
        if not any(path.is_relative_to(root) for root in self.roots):
            raise PathNotAllowedError(
                f"{clip.name} is outside the folders that jobs may read (SEFAR_JOB_ROOTS). Relative paths start from "
                "the first of them"
            )
        return ClipRef(clip.clip_id, str(path), clip.start, clip.end)


def read_clips(file: Path) -> Iterator[ClipRef]:
    """Read the clips that `Intake.write` stored, one at a time."""
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            yield ClipRef(**json.loads(line))
