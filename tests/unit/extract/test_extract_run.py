"""Runs that are killed, resumed, or changed in between: one row per clip, always the same rows."""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stub_backend import KilledError, StubBackend, clips_of

from sefar_serve.extract.clips import ClipIdConflictError, ClipMovedError, ClipRef
from sefar_serve.extract.run import Progress, extract
from sefar_serve.extract.shards import Shards

CLIPS = clips_of(f"{n:03d}" + "x" * (n % 7) for n in range(60))
BAD = {CLIPS[7].id, CLIPS[8].id, CLIPS[41].id}


def _run(out: Path, backend: StubBackend, clips: Sequence[ClipRef] = CLIPS, **options: object) -> Progress:
    return asyncio.run(extract(clips, out, backend, shard_rows=8, **options))


def _rows(out: Path) -> dict[str, dict[str, object]]:
    found = [row for file in sorted(out.glob("part-*.parquet")) for row in pq.read_table(file).to_pylist()]
    rows = {row["id"]: row for row in found}
    assert len(rows) == len(found)
    return rows


def _hashes(out: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(out.glob("part-*"))}


def test_every_clip_has_a_row_in_source_order(tmp_path: Path) -> None:
    progress = _run(tmp_path, StubBackend(BAD), source="videos/")
    assert list(_rows(tmp_path)) == [clip.id for clip in CLIPS]
    assert progress == Progress(total=60, skipped=0, done=60, failures={"not_a_video": 3}, repeats=0)
    manifest = json.loads((tmp_path / "_manifest.json").read_text())
    assert (manifest["clips"], manifest["failed"], manifest["shards"], manifest["complete"]) == (60, 3, 8, True)
    assert (manifest["source"], manifest["model"]["name"]) == ("videos/", "fake")
    assert not (tmp_path / ".plan").exists()


def test_the_largest_files_of_a_shard_start_first(tmp_path: Path) -> None:
    seen: list[int] = []

    class RecordingBackend(StubBackend):
        async def rows(self, work):
            def recorded():
                for one in work:
                    seen.append(one.clip.cost)
                    yield one

            async for found in super().rows(recorded()):
                yield found

    _run(tmp_path, RecordingBackend())
    assert seen[:8] == sorted((clip.cost for clip in CLIPS[:8]), reverse=True)


@settings(max_examples=25, deadline=None)
@given(kills=st.lists(st.integers(0, 40), max_size=4), seed=st.integers(0, 9))
def test_shards_are_the_same_bytes_after_kills_at_any_row(
    tmp_path_factory: pytest.TempPathFactory, kills: list[int], seed: int
) -> None:
    undisturbed = tmp_path_factory.getbasetemp() / "undisturbed"
    if not undisturbed.exists():
        _run(undisturbed, StubBackend(BAD, seed=99))
    out = tmp_path_factory.mktemp("killed")
    for turn, kill in enumerate(kills):
        try:
            _run(out, StubBackend(BAD, killed_after=kill, seed=seed + turn))
        except KilledError:
            manifest = json.loads((out / "_manifest.json").read_text())
            rows = _rows(out)
            failed = sum(row["error_code"] is not None for row in rows.values())
            assert (manifest["clips"], manifest["failed"], manifest["complete"]) == (len(rows), failed, False)
    _run(out, StubBackend(BAD, seed=seed))
    assert _hashes(out) == _hashes(undisturbed)
    assert json.loads((out / "_manifest.json").read_text())["complete"] is True


def test_a_second_run_processes_only_new_clips(tmp_path: Path) -> None:
    _run(tmp_path, StubBackend(BAD), CLIPS[:20])
    again = StubBackend()
    assert _run(tmp_path, again, CLIPS[:20]) == Progress(
        total=20, skipped=20, done=0, failures={"not_a_video": 2}, repeats=0
    )
    assert again.seen == []
    more = StubBackend()
    _run(tmp_path, more, CLIPS)
    assert sorted(more.seen) == [clip.id for clip in CLIPS[20:]]
    assert sorted(_rows(tmp_path)) == [clip.id for clip in CLIPS]


def test_failed_clips_are_retried_on_request(tmp_path: Path) -> None:
    _run(tmp_path, StubBackend(BAD))
    again = StubBackend({CLIPS[41].id})
    progress = _run(tmp_path, again, retry_failed=True)
    assert sorted(again.seen) == sorted(BAD)
    assert progress == Progress(total=60, skipped=57, done=3, failures={"not_a_video": 1}, repeats=0)
    rows = _rows(tmp_path)
    assert list(rows) == [clip.id for clip in CLIPS]
    assert [name for name, row in rows.items() if row["error_code"]] == [CLIPS[41].id]
    manifest = json.loads((tmp_path / "_manifest.json").read_text())
    assert (manifest["clips"], manifest["failed"]) == (60, 1)


def test_rows_of_clips_removed_from_the_source_stay(tmp_path: Path) -> None:
    _run(tmp_path, StubBackend(), CLIPS[:20])
    assert _run(tmp_path, StubBackend(), CLIPS[10:30]) == Progress(20, skipped=10, done=10, failures={}, repeats=0)
    assert len(_rows(tmp_path)) == 30


def test_another_video_under_a_finished_id_is_an_error(tmp_path: Path) -> None:
    _run(tmp_path, StubBackend(), CLIPS[:10])
    other = [replace(CLIPS[3], path="elsewhere/3")]
    with pytest.raises(ClipMovedError):
        _run(tmp_path, StubBackend(), other)
    assert _run(tmp_path, StubBackend(), other, moved=True).skipped == 1
    assert _rows(tmp_path)[CLIPS[3].id]["path"] == CLIPS[3].path


def test_a_run_cancelled_while_planning_waits_for_its_thread(tmp_path: Path) -> None:
    """The database is closed afterwards, and SQLite crashes if the thread still uses it."""
    begun = threading.Event()

    def endless() -> Iterator[ClipRef]:
        for number in count():
            begun.set()
            yield ClipRef(str(number), "videos/a")

    async def run() -> None:
        task = asyncio.create_task(extract(endless(), tmp_path, StubBackend()))
        await asyncio.to_thread(begun.wait)
        for _ in range(3):  # cancelling again does not interrupt the wait
            task.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("asyncio_")]
    assert _run(tmp_path, StubBackend()).done == 60


def test_a_cancelled_run_finishes_a_commit_that_has_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writing, proceed = threading.Event(), threading.Event()
    commit = Shards.commit

    def slow(shards: Shards, *args: Any) -> None:
        writing.set()
        proceed.wait()
        commit(shards, *args)

    monkeypatch.setattr(Shards, "commit", slow)

    async def run() -> None:
        task = asyncio.create_task(extract(CLIPS, tmp_path, StubBackend(), shard_rows=8))
        await asyncio.to_thread(writing.wait)
        task.cancel()
        await asyncio.sleep(0.05)
        assert not task.done()
        proceed.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(_rows(tmp_path)) == 8

    asyncio.run(run())


def test_an_invalid_source_changes_nothing(tmp_path: Path) -> None:
    _run(tmp_path, StubBackend(), CLIPS[:20])
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(ClipIdConflictError):
        _run(tmp_path, StubBackend(), [*CLIPS, ClipRef(CLIPS[0].id, "other.mp4")])
    assert before == {file.name: file.read_bytes() for file in tmp_path.iterdir()}


def test_only_a_few_unfinished_shards_are_in_memory(tmp_path: Path) -> None:
    """A slow clip delays only its own shard, and memory does not grow."""
    slow, reports = CLIPS[3].id, []

    class Slow(StubBackend):
        async def rows(self, work):
            late = None
            async for one, row in super().rows(work):
                if one.clip.id == slow:
                    late = one, row
                else:
                    yield one, row
                    reports.append(len(list(tmp_path.glob("part-*"))))
            yield late

    _run(tmp_path, Slow())
    assert reports[-1] == 7  # all but the first, which waits for the slow clip
    assert list(_rows(tmp_path)) == [clip.id for clip in CLIPS]
