"""A run: sends the remaining clips to a backend and writes the rows that it returns to shards."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping
from contextlib import aclosing, closing, suppress
from dataclasses import dataclass, field, replace
from itertools import takewhile
from pathlib import Path
from typing import Protocol

from sefar_serve.extract.clips import ClipRef
from sefar_serve.extract.plan import Chunk, Plan
from sefar_serve.extract.rows import ClipRow, RowOptions
from sefar_serve.extract.shards import Shards, open_shards
from sefar_serve.metadata import ModelMetadata
from sefar_serve.pose import check_sees_joints

SHARD_ROWS = 512


@dataclass(frozen=True)
class Work:
    """A clip to process, and where its row goes.

    Attributes:
        clip: the clip.
        shard: number of the shard.
        place: index of the row among the rows that are committed with it.
    """

    clip: ClipRef
    shard: int
    place: int


class Backend(Protocol):
    """Processes clips, on one machine or many."""

    @property
    def metadata(self) -> ModelMetadata:
        """Metadata of the model."""

    @property
    def sha256(self) -> str | None:
        """SHA-256 of the model file; None if a server runs the model."""

    def rows(self, work: Iterable[Work]) -> AsyncGenerator[tuple[Work, ClipRow]]:
        """Process clips.

        Args:
            work: read as capacity becomes free, never all at once.

        Returns:
            One row per clip, in any order. A clip that fails has a row with the reason.

        Raises:
            EngineError: the model no longer answers.
            ExtractError: something that the user can fix.
        """


@dataclass(frozen=True)
class Progress:
    """Progress of a run.

    Attributes:
        total: number of clips in the source.
        skipped: number of those that were done before this run.
        done: number of rows that this run has made.
        failures: number of clips whose row is an error, from this run or an earlier one, by error code.
        repeats: how often the source repeats a clip.
    """

    total: int
    skipped: int
    done: int
    failures: Mapping[str, int]
    repeats: int

    @property
    def failed(self) -> int:
        """Total number of failures."""
        return sum(self.failures.values())


async def extract(
    clips: Iterable[ClipRef],
    out: Path,
    backend: Backend,
    options: RowOptions = RowOptions(),  # noqa: B008  (frozen)
    *,
    shard_rows: int = SHARD_ROWS,
    retry_failed: bool = False,
    moved: bool = False,
    source: str = "",
    on_progress: Callable[[Progress], None] | None = None,
) -> Progress:
    """Write a row for each clip that has none yet.

    However a run ends, even by `kill -9`, it leaves a valid folder, and the next run does what is missing.

    Args:
        clips: clips of the source.
        out: folder for the features.
        backend: processes the clips.
        options: row contents.
        shard_rows: maximum number of rows in a shard. A killed run loses the rows of its unfinished shards.
        retry_failed: whether to process clips again whose row is an error.
        moved: whether the videos may have new paths; their rows stay as they are.
        source: description of the source for the manifest.
        on_progress: called when the plan is ready and after every clip.

    Raises:
        ExtractError: something that the user can fix. Unless the disk is full, nothing has been changed.
        NoJointsError: poses are requested, and the model sees no joints; nothing has been changed.
        EngineError: the model no longer answers; committed rows are kept.
    """
    if options.poses:
        check_sees_joints(backend.metadata)
    with open_shards(out, backend.metadata, backend.sha256, options) as shards, closing(Plan(out)) as plan:
        stopped = threading.Event()
        await _run_in_thread(_fill, plan, clips, shards, moved, stopped, on_cancel=stopped.set)
        shards.describe(
            source=source, clips=plan.rows, failed=plan.failed_rows, shards=len(shards.numbers()), complete=False
        )
        tally = _Tally(plan, retry_failed)
        report = on_progress or (lambda _: None)
        report(tally.progress)
        # Rows of shards that are not complete yet.
        partial: dict[int, _PartialShard] = {}
        async with aclosing(backend.rows(_work(plan, shard_rows, retry_failed, partial))) as rows:
            async for work, row in rows:
                shard = partial[work.shard]
                shard.rows[work.place] = row
                tally.take(row)
                report(tally.progress)
                if len(shard.rows) == len(shard.chunk.clips):
                    del partial[work.shard]
                    await _run_in_thread(shard.commit, shards)
        shards.describe(complete=True)
        return tally.progress


async def _run_in_thread(call: Callable[..., None], *args: object, on_cancel: Callable[[], None] | None = None) -> None:
    """Call a function in a thread. If cancelled, wait for the thread, because the caller then closes what it uses.

    Args:
        call: blocking function.
        args: its arguments.
        on_cancel: called on cancellation, to make the thread stop early.
    """
    task = asyncio.ensure_future(asyncio.to_thread(call, *args))
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        if on_cancel is not None:
            on_cancel()
        while not task.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # mark it as retrieved; only the cancellation is raised
        raise


def _fill(plan: Plan, clips: Iterable[ClipRef], shards: Shards, moved: bool, stopped: threading.Event) -> None:
    plan.add(takewhile(lambda _: not stopped.is_set(), clips))
    for shard in shards.numbers():
        if stopped.is_set():
            return
        plan.mark_done(shard, shards.rows(shard))
    plan.check_same(moved=moved)


@dataclass(frozen=True)
class _PartialShard:
    """A shard that is not complete yet."""

    chunk: Chunk
    rows: dict[int, ClipRow] = field(default_factory=dict)

    def commit(self, shards: Shards) -> None:
        rows = [self.rows[place] for place in sorted(self.rows)]
        before, failed = shards.manifest, sum(row.error_code is not None for row in rows)
        if self.chunk.replaces:
            shards.replace(self.chunk.shard, rows)
            shards.describe(failed=before.failed - len(rows) + failed)
        else:
            shards.commit(self.chunk.shard, rows)
            shards.describe(clips=before.clips + len(rows), failed=before.failed + failed, shards=before.shards + 1)


def _work(plan: Plan, shard_rows: int, retry_failed: bool, partial: dict[int, _PartialShard]) -> Iterator[Work]:
    """Yield the remaining work by shard, largest files first so that none of them runs alone at the end."""
    for chunk in plan.chunks(shard_rows, retry_failed=retry_failed):
        partial[chunk.shard] = _PartialShard(chunk)
        for place, clip in sorted(enumerate(chunk.clips), key=lambda item: -item[1].cost):
            yield Work(clip, chunk.shard, place)


class _Tally:
    """Counts the clips of a run."""

    def __init__(self, plan: Plan, retry_failed: bool) -> None:
        failures = plan.failures
        again = failures.total() if retry_failed else 0
        self._failures = Counter() if retry_failed else failures
        self.progress = Progress(plan.clips, plan.done - again, 0, dict(self._failures), plan.repeats)

    def take(self, row: ClipRow) -> None:
        if row.error_code is not None:
            self._failures[row.error_code] += 1
        failures = dict(self._failures.most_common())
        self.progress = replace(self.progress, done=self.progress.done + 1, failures=failures)
