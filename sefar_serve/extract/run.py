"""A run: what is to do goes to a backend, what comes back goes to shards."""

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

SHARD_ROWS = 512


@dataclass(frozen=True)
class Work:
    """A clip to look at, and where its row goes.

    Attributes:
        clip: to look at.
        shard: number of the shard.
        place: of the row among those committed with it.
    """

    clip: ClipRef
    shard: int
    place: int


class Backend(Protocol):
    """Looks at clips, on this machine or many."""

    @property
    def metadata(self) -> ModelMetadata:
        """The model's own description."""

    @property
    def sha256(self) -> str | None:
        """Of the model's file; None where a server runs it."""

    def rows(self, work: Iterable[Work]) -> AsyncGenerator[tuple[Work, ClipRow]]:
        """Look at clips.

        Args:
            work: taken from as places come free, never all at once.

        Returns:
            Each clip's row, once, in any order. A clip that fails has a row that says why.

        Raises:
            EngineError: the model cannot be asked any more.
            ExtractError: what the user can mend.
        """


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        total: clips of the source.
        skipped: of these, done before this run.
        done: rows made by this run.
        failures: clips of which the row is an error now, this run's and earlier ones', by error code.
        repeats: how often the source names a clip again.
    """

    total: int
    skipped: int
    done: int
    failures: Mapping[str, int]
    repeats: int

    @property
    def failed(self) -> int:
        """All of these failures."""
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

    Ended in any way, by cancellation or `kill -9`, it leaves a sound folder; run again, it does what is missing.

    Args:
        clips: of the source.
        out: folder of features.
        backend: looks at the clips.
        options: what rows hold.
        shard_rows: most rows in a shard; what is lost when a run is killed.
        retry_failed: whether clips of which the row is an error are looked at again.
        moved: whether videos may have other paths than before; their rows stay as they are.
        source: what the manifest says the clips are from.
        on_progress: called when the plan is made and after every clip.

    Raises:
        ExtractError: one of its kinds; nothing is changed then, but where the disk is full.
        EngineError: the model cannot be asked any more; what is committed stays.
    """
    with open_shards(out, backend.metadata, backend.sha256, options) as shards, closing(Plan(out)) as plan:
        stopped = threading.Event()
        await _to_its_end(_fill, plan, clips, shards, moved, stopped, on_cancel=stopped.set)
        shards.describe(
            source=source, clips=plan.rows, failed=plan.failed_rows, shards=len(shards.numbers()), complete=False
        )
        tally = _Tally(plan, retry_failed)
        report = on_progress or (lambda _: None)
        report(tally.progress)
        # Rows of the shards that are not full yet.
        begun: dict[int, _Begun] = {}
        async with aclosing(backend.rows(_work(plan, shard_rows, retry_failed, begun))) as rows:
            async for work, row in rows:
                shard = begun[work.shard]
                shard.rows[work.place] = row
                tally.take(row)
                report(tally.progress)
                if len(shard.rows) == len(shard.chunk.clips):
                    del begun[work.shard]
                    await _to_its_end(shard.commit, shards)
        shards.describe(complete=True)
        return tally.progress


async def _to_its_end(call: Callable[..., None], *args: object, on_cancel: Callable[[], None] | None = None) -> None:
    """Call in a thread. Cancelled, it waits for the thread before it ends: what that works on is closed after.

    Args:
        call: blocking.
        args: for it.
        on_cancel: told then, to hurry the thread.
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
            task.exception()  # the cancellation is what is told of
        raise


def _fill(plan: Plan, clips: Iterable[ClipRef], shards: Shards, moved: bool, stopped: threading.Event) -> None:
    plan.add(takewhile(lambda _: not stopped.is_set(), clips))
    for shard in shards.numbers():
        if stopped.is_set():
            return
        plan.mark_done(shard, shards.rows(shard))
    plan.check_same(moved=moved)


@dataclass(frozen=True)
class _Begun:
    """A shard that is not full yet."""

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


def _work(plan: Plan, shard_rows: int, retry_failed: bool, begun: dict[int, _Begun]) -> Iterator[Work]:
    """What is to do, shard by shard; of each the largest files first, so that none of them is waited for alone."""
    for chunk in plan.chunks(shard_rows, retry_failed=retry_failed):
        begun[chunk.shard] = _Begun(chunk)
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
