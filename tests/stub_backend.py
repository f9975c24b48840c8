"""A backend that makes rows from ids alone, so that tests know the expected contents of a folder."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Collection, Iterable, Sequence
from itertools import islice

import numpy as np

from sefar_serve.engine.fake import FAKE_METADATA
from sefar_serve.extract.clips import ClipRef
from sefar_serve.extract.rows import ClipRow, failed_row
from sefar_serve.extract.run import Work
from sefar_serve.metadata import ModelMetadata


class KilledError(Exception):
    """Ends a run early, as a kill would."""


def clips_of(names: Iterable[str]) -> list[ClipRef]:
    return [ClipRef(name, f"videos/{name}", cost=len(name)) for name in names]


def row_of(clip: ClipRef, meta: ModelMetadata = FAKE_METADATA) -> ClipRow:
    """The row of a good clip, derived only from its id."""
    rng = np.random.default_rng(list(clip.id.encode()))
    return ClipRow(
        clip,
        meta.name,
        meta.version,
        embedding=rng.random(meta.embedding_dim, np.float32),
        tokens=rng.random((len(meta.sample_frames), meta.token_dim), np.float32),
        labels=list(meta.labels[:2]),
        scores=[0.75, 0.25],
        reliability=0.5,
        frame_times=[0.0, 0.5],
        duration=1.0,
        corrupt_frames=0,
        warnings=["a warning"],
    )


class StubBackend:
    """Returns rows in a random order, with a few clips in flight at a time.

    Args:
        bad: ids of clips that fail.
        killed_after: number of rows after which it raises `KilledError`.
        seed: seed of the order.
        sha256: SHA-256 of the model that it simulates.
        meta: metadata of the model that it simulates.
    """

    def __init__(
        self,
        bad: Collection[str] = (),
        *,
        killed_after: int | None = None,
        seed: int = 0,
        sha256: str | None = "a" * 64,
        meta: ModelMetadata = FAKE_METADATA,
    ) -> None:
        self.metadata = meta
        self.sha256 = sha256
        self.seen: list[str] = []
        self._bad = bad
        self._killed_after = killed_after
        self._random = random.Random(seed)

    async def rows(self, work: Iterable[Work]) -> AsyncGenerator[tuple[Work, ClipRow]]:
        waiting = iter(work)
        under_way: list[Work] = []
        while under_way or (under_way := list(islice(waiting, 5))):
            if len(self.seen) == self._killed_after:
                raise KilledError
            one = under_way.pop(self._random.randrange(len(under_way)))
            under_way.extend(islice(waiting, 1))
            self.seen.append(one.clip.id)
            yield one, self._row(one.clip)

    def _row(self, clip: ClipRef) -> ClipRow:
        if clip.id in self._bad:
            return failed_row(clip, "not_a_video", f"{clip.path} is no video", self.metadata)
        return row_of(clip, self.metadata)


def ids(rows: Sequence[ClipRow]) -> list[str]:
    return [row.clip.id for row in rows]
