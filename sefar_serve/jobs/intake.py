"""The clips of a job: where they may lie, and the file that keeps them until they are done."""

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


@dataclass(frozen=True)
class Intake:
    """Which clips a job may have.

    Attributes:
        roots: folders with videos; relative paths start from the first.
        fetcher: of videos that are given by URL.
        most: clips in a job.
    """

    roots: Sequence[Path]
    fetcher: UrlFetcher
    most: int

    def write(self, named: Iterable[NamedClip], file: Path) -> tuple[int, str]:
        """Keep the clips of a job, each once, in the order they are named.

        Args:
            named: as the sender names them.
            file: to write.

        Returns:
            Their number, and a digest that is the same for the same clips.

        Raises:
            PathNotAllowedError: one lies outside the roots.
            UrlNotAllowedError: one is of a host that the operator does not allow.
            TooManyClipsError: there are more than a job may have.
            SourceError: there are none, or one is malformed.
            ClipIdConflictError: one id stands for two different clips.
        """
        seen: dict[str, ClipRef] = {}
        digest = sha256()
        with file.open("w", encoding="utf-8") as lines:
            for number, clip in enumerate(named, start=1):
                if number > self.most:
                    raise TooManyClipsError(self.most)
                check_text(ClipRef(clip.clip_id, clip.name))
                placed = self._placed(clip)
                if (before := seen.setdefault(placed.id, placed)) is not placed:
                    if before != placed:
                        raise ClipIdConflictError(
                            f"the id {placed.id!r} stands for two clips; give each clip an id of its own"
                        )
                    continue
                line = json.dumps(asdict(placed)) + "\n"
                digest.update(line.encode())
                lines.write(line)
        if not seen:
            raise SourceError("the job names no clips; a clip is a path or a url")
        return len(seen), digest.hexdigest()

    def _placed(self, clip: NamedClip) -> ClipRef:
        if "://" in clip.name:
            self.fetcher.allowed(clip.name)
            return ClipRef(clip.clip_id, clip.name, clip.start, clip.end)
        if not self.roots:
            raise PathNotAllowedError(
                f"{clip.name}: jobs here take no paths on the server; give a url, or have the operator allow a folder "
                "(SEFAR_JOB_ROOTS)"
            )
        try:
            path = (self.roots[0] / clip.name).resolve()
        except (OSError, ValueError, RuntimeError):  # no name a file can have, or a ring of links
            path = Path("/")
        if not any(path.is_relative_to(root) for root in self.roots):
            raise PathNotAllowedError(
                f"{clip.name} is not in a folder that jobs here may read; paths start from the operator's first folder "
                "(SEFAR_JOB_ROOTS)"
            )
        return ClipRef(clip.clip_id, str(path), clip.start, clip.end)


def read_clips(file: Path) -> Iterator[ClipRef]:
    """The clips that `Intake.write` kept, one at a time."""
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            yield ClipRef(**json.loads(line))
