"""Jobs in SQLite: their order, their states, and that they survive the process."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sefar_serve.jobs.errors import (
    IdempotencyKeyReusedError,
    JobNotFinishedError,
    JobNotFoundError,
    JobsDirError,
    JobsFullError,
)
from sefar_serve.jobs.store import JobStore
from sefar_serve.schemas.jobs import Job, JobOptions
from sefar_serve.schemas.problem import ErrorBody


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "jobs.sqlite"


@pytest.fixture
def store(file: Path) -> Iterator[JobStore]:
    store = JobStore(file)
    yield store
    store.close()


def _add(store: JobStore, id_: str, key: str | None = None, fingerprint: str = "", most: int = 9) -> Job:
    job = Job(id=id_, status="queued", created=1, total=3, model="fake", version="0")
    return store.add(job, JobOptions(top_k=2), key=key, fingerprint=fingerprint, most=most)


def test_jobs_are_claimed_oldest_first_and_once(store: JobStore) -> None:
    for id_ in "abc":
        _add(store, id_)
    assert store.counts == {"queued": 3, "running": 0}
    with ThreadPoolExecutor(4) as threads:
        taken = [job.id for job in threads.map(lambda _: store.claim(), range(4)) if job is not None]
    assert sorted(taken) == ["a", "b", "c"]
    assert store.get("a").status == "running" and store.get("a").started is not None
    assert store.options("a") == JobOptions(top_k=2)
    assert store.counts == {"queued": 0, "running": 3}


def test_a_job_that_was_running_when_the_process_died_runs_next(file: Path, store: JobStore) -> None:
    _add(store, "a")
    _add(store, "b")
    begun = store.claim()
    store.progress("a", done=2, failed=1)
    other = JobStore(file)  # as in a new process; the old one was killed and closed nothing
    other.requeue()
    again = other.claim()
    other.close()
    assert begun is not None and again is not None
    assert (again.id, again.started, again.done, again.failed) == ("a", begun.started, 2, 1)


def test_finish_and_cancel(store: JobStore) -> None:
    for id_ in "abc":
        _add(store, id_)
        store.claim()
    store.finish("a")
    store.finish("b", ErrorBody(message="away", type="server_error", code="engine_unavailable"))
    assert store.cancel("c").status == "cancelled"
    store.finish("c")
    ended = [store.get(id_) for id_ in "abc"]
    assert [job.status for job in ended] == ["completed", "failed", "cancelled"]
    assert all(job.finished is not None for job in ended)
    assert ended[1].error is not None and ended[1].error.code == "engine_unavailable"
    assert store.cancel("a") == ended[0]  # nothing left to cancel
    assert store.claim() is None


def test_a_key_returns_its_job_even_if_there_is_no_room(store: JobStore) -> None:
    first = _add(store, "a", key="k", fingerprint="1", most=1)
    assert _add(store, "b", key="k", fingerprint="1", most=1) == first
    store.check_room("k", 1)
    with pytest.raises(IdempotencyKeyReusedError, match="another job, a"):
        _add(store, "b", key="k", fingerprint="2", most=1)
    with pytest.raises(JobsFullError):
        store.check_room("other", 1)
    with pytest.raises(JobsFullError):
        _add(store, "b", most=1)
    store.cancel("a")
    assert _add(store, "b", most=1).id == "b"
    store.delete("a")
    assert _add(store, "c", key="k", fingerprint="2").id == "c"


def test_pages_start_with_the_newest_job(store: JobStore) -> None:
    for id_ in "abcde":
        _add(store, id_)
    pages, after = [], None
    while True:
        jobs, more = store.page(2, after)
        pages.append([job.id for job in jobs])
        if not more:
            break
        after = jobs[-1].id
    assert pages == [["e", "d"], ["c", "b"], ["a"]]
    with pytest.raises(JobNotFoundError):
        store.page(2, "none")


def test_only_finished_jobs_can_be_deleted(store: JobStore) -> None:
    _add(store, "a")
    with pytest.raises(JobNotFinishedError, match="a is queued"):
        store.delete("a")
    store.cancel("a")
    store.delete("a")
    assert store.ids() == set()
    for call in (store.get, store.cancel, store.delete, store.options):
        with pytest.raises(JobNotFoundError, match="job a does not exist"):
            call("a")


def test_the_store_is_usable_after_an_error(store: JobStore) -> None:
    _add(store, "a")
    with pytest.raises(sqlite3.IntegrityError):
        _add(store, "a")
    assert _add(store, "b").id == "b"


def test_other_schema_versions_and_files_are_rejected(tmp_path: Path) -> None:
    newer = tmp_path / "newer.sqlite"
    db = sqlite3.connect(newer)
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(JobsDirError, match="schema version 99"):
        JobStore(newer)
    text = tmp_path / "text.sqlite"
    text.write_text("no database, but long enough to be taken for one" * 20)
    with pytest.raises(JobsDirError, match=r"text\.sqlite cannot be used"):
        JobStore(text)
