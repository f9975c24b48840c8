"""Batch jobs over HTTP, on the fake engine and real decode processes."""

from __future__ import annotations

import errno
import io
import json
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient
from grey_clips import encode_grey_clip

from sefar_serve.api import create_app
from sefar_serve.engine import FakeEngine
from sefar_serve.engine.fake import FAKE_METADATA
from sefar_serve.jobs import service
from sefar_serve.jobs.errors import JobsDirError
from sefar_serve.jobs.store import JobStore
from sefar_serve.settings import Settings

Gateway = Callable[..., TestClient]


@pytest.fixture
def videos(tmp_path: Path, dark_clip: bytes, bright_clip: bytes) -> Path:
    folder = tmp_path / "videos"
    folder.mkdir()
    (folder / "dark.mp4").write_bytes(dark_clip)
    (folder / "bright.mp4").write_bytes(bright_clip)
    (folder / "broken.mp4").write_bytes(b"no video")
    return folder


@pytest.fixture
def jobs(gateway: Gateway, videos: Path, tmp_path: Path) -> TestClient:
    return gateway(jobs_dir=tmp_path / "jobs", job_roots=str(videos), max_job_clips=100)


def ended(server: TestClient, id_: str) -> dict[str, Any]:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        job: dict[str, Any] = server.get(f"/v1/jobs/{id_}").json()
        if job["finished"] is not None:
            return job
        time.sleep(0.05)
    raise AssertionError(job)


@pytest.fixture
def file_server(videos: Path) -> Iterator[str]:
    """The folder of videos over HTTP."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(videos))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


CLIPS = [
    {"path": "dark.mp4"},
    {"path": "bright.mp4", "start": 0.2, "end": 0.6},
    {"path": "broken.mp4", "id": 7},
    {"path": "gone.mp4"},
    {"path": "dark.mp4"},
]


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def test_a_job_from_its_clips_to_its_rows(jobs: TestClient, videos: Path) -> None:
    taken = jobs.post("/v1/jobs", json={"input": CLIPS, "top_k": 2, "tokens": True})
    assert taken.status_code == 202, taken.text
    assert taken.headers["location"] == f"/v1/jobs/{taken.json()['id']}"
    job = ended(jobs, taken.json()["id"])
    assert (job["status"], job["total"], job["done"], job["failed"]) == ("completed", 4, 4, 2)
    assert (job["model"], job["error"]) == ("fake", None)
    answer = jobs.get(f"/v1/jobs/{job['id']}/result")
    assert f'filename="{job["id"]}.parquet"' in answer.headers["content-disposition"]
    rows = {row["id"]: row for row in pq.read_table(io.BytesIO(answer.content)).to_pylist()}
    assert list(rows) == ["dark.mp4", "bright.mp4#t=0.2,0.6", "7", "gone.mp4"]
    assert rows["dark.mp4"]["path"] == str(videos / "dark.mp4")
    assert len(rows["dark.mp4"]["labels"]) == 2
    assert rows["dark.mp4"]["tokens"] is not None
    assert (rows["7"]["error_code"], rows["gone.mp4"]["error_code"]) == ("not_a_video", "file_not_found")
    lines = jobs.get(f"/v1/jobs/{job['id']}/result", params={"format": "jsonl"})
    assert [json.loads(line)["id"] for line in lines.text.splitlines()] == list(rows)
    direct = jobs.post("/v1/embeddings", content=(videos / "dark.mp4").read_bytes()).json()["data"][0]["embedding"]
    np.testing.assert_array_equal(rows["dark.mp4"]["embedding"], np.asarray(direct, np.float32))
    assert 'sefar_jobs{status="running"} 0.0' in jobs.get("/metrics").text


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "txt"])
def test_a_manifest_file(jobs: TestClient, videos: Path, kind: str) -> None:
    content = {
        "csv": b"path,start,id\ndark.mp4,0.1,a\nbright.mp4,,b\n",
        "jsonl": b'{"path": "dark.mp4", "start": 0.1, "id": "a"}\n{"path": "bright.mp4", "id": "b"}\n',
        "txt": b"dark.mp4 0\nbright.mp4 1\n",
    }
    if kind == "parquet":
        buffer = io.BytesIO()
        pq.write_table(pa.table({"path": ["dark.mp4", "bright.mp4"], "start": [0.1, None], "id": ["a", "b"]}), buffer)
        content["parquet"] = buffer.getvalue()
    taken = jobs.post("/v1/jobs", files={"file": (f"clips.{kind}", content[kind])}, data={"dtype": "float16"})
    assert taken.status_code == 202, taken.text
    assert ended(jobs, taken.json()["id"])["failed"] == 0
    table = pq.read_table(io.BytesIO(jobs.get(f"/v1/jobs/{taken.json()['id']}/result").content))
    assert table["id"].to_pylist() == (["dark.mp4", "bright.mp4"] if kind == "txt" else ["a", "b"])
    assert table.schema.field("embedding").type.value_type == pa.float16()


@pytest.mark.parametrize(
    ("body", "status", "reason", "param"),
    [
        ({"input": []}, 400, "invalid_parameter", "input"),
        ({"input": [{"path": "a.mp4", "url": "b"}]}, 400, "invalid_manifest", "input"),
        ({"input": [{"path": "a.mp4", "start": 2, "end": 1}]}, 400, "invalid_manifest", "input"),
        ({"input": [{"path": "a.mp4", "top": 1}]}, 400, "invalid_parameter", "input.0.top"),
        ({"input": [{"path": "a", "id": "x"}, {"path": "b", "id": "x"}]}, 400, "clip_id_conflict", "input"),
        ({"input": [{"path": "a.mp4"}], "model": "other"}, 404, "model_not_found", "model"),
        ({"input": [{"path": "../jobs/jobs.sqlite"}]}, 403, "path_not_allowed", "input"),
        ({"input": [{"path": "/etc/passwd"}]}, 403, "path_not_allowed", "input"),
        ({"input": [{"path": "link/passwd"}]}, 403, "path_not_allowed", "input"),
        ({"input": [{"path": "nul\0.mp4"}]}, 403, "path_not_allowed", "input"),
        ({"input": [{"path": "\ud800.mp4"}]}, 400, "invalid_json", None),
        ({"input": [{"path": "dark.mp4", "id": "\ud800"}]}, 400, "invalid_json", None),
        ({"input": {"path": "dark.mp4"}}, 400, "invalid_parameter", "input"),
        ({"input": ["dark.mp4"]}, 400, "invalid_parameter", "input.0"),
        ({"input": [{"path": "dark.mp4"}], "top": 3}, 400, "invalid_parameter", "top"),
        ({"input": [{"url": "https://nowhere.example/a.mp4"}]}, 403, "url_not_allowed", "input"),
        ({"input": [{"url": "file:///etc/passwd"}]}, 403, "url_not_allowed", "input"),
        ({"input": [{"path": "s3://bucket/a.mp4"}]}, 403, "url_not_allowed", "input"),
        ({"input": [{"path": f"{n}.mp4"} for n in range(101)]}, 413, "too_many_clips", "input"),
        ([], 400, "invalid_json", None),
    ],
)
def test_an_invalid_job_is_refused_and_leaves_no_files(
    jobs: TestClient, videos: Path, body: Any, status: int, reason: str, param: str | None, tmp_path: Path
) -> None:
    (videos / "link").symlink_to("/etc")
    answer = jobs.post("/v1/jobs", content=json.dumps(body))
    assert code(answer) == (status, reason), answer.text
    assert answer.json()["error"]["param"] == param
    assert jobs.get("/v1/jobs").json()["data"] == []
    assert not list((tmp_path / "jobs").glob("job_*"))


def test_json_that_is_too_deep_or_has_too_many_clips_is_refused(jobs: TestClient) -> None:
    assert code(jobs.post("/v1/jobs", content='{"input": ' + "[" * 10_000)) == (400, "invalid_json")
    assert code(jobs.post("/v1/jobs", content='{"input": ' + "[" * 100_000)) == (413, "json_too_large")
    # Refused before any clip is validated.
    assert code(jobs.post("/v1/jobs", json={"input": [None] * 101})) == (413, "too_many_clips")


def test_an_empty_idempotency_key_counts_as_none(jobs: TestClient) -> None:
    sent = [jobs.post("/v1/jobs", json={"input": CLIPS}, headers={"idempotency-key": ""}).json() for _ in range(2)]
    assert sent[0]["id"] != sent[1]["id"]
    for one in sent:
        ended(jobs, one["id"])


def test_a_job_waits_while_the_disk_is_full(jobs: TestClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fullness = {"commit": 2, "progress": 3, "finish": 1}

    def full(name: str, call: Callable[..., Any], error: Exception) -> Callable[..., Any]:
        def write(*args: Any, **kwargs: Any) -> Any:
            if fullness[name]:
                fullness[name] -= 1
                raise error
            return call(*args, **kwargs)

        return write

    no_room, full_store = OSError(errno.ENOSPC, "No space left"), sqlite3.OperationalError("database or disk is full")
    monkeypatch.setattr(service, "STORE_SECONDS", 0.05)
    monkeypatch.setattr(service, "PROGRESS_SECONDS", 0.01)
    monkeypatch.setattr(pq, "write_table", full("commit", pq.write_table, no_room))
    for name in ("progress", "finish"):
        monkeypatch.setattr(JobStore, name, full(name, getattr(JobStore, name), full_store))
    job = ended(jobs, jobs.post("/v1/jobs", json={"input": CLIPS}).json()["id"])
    assert (job["status"], job["done"], job["failed"]) == ("completed", 4, 2)
    assert not any(fullness.values())

    monkeypatch.setattr(JobStore, "add", lambda *_, **__: (_ for _ in ()).throw(full_store))
    answer = jobs.post("/v1/jobs", json={"input": CLIPS})
    assert code(answer) == (503, "storage_full")
    assert int(answer.headers["retry-after"]) > 0
    assert [folder.name for folder in (tmp_path / "jobs").glob("job_*")] == [job["id"]]


def test_the_message_of_an_unexpected_error_has_the_job_id(jobs: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(service, "read_clips", broken)
    job = ended(jobs, jobs.post("/v1/jobs", json={"input": CLIPS}).json()["id"])
    assert job["error"]["message"] == f"Internal server error. Search the log for {job['id']}"


def test_the_error_for_an_invalid_manifest_names_the_file(jobs: TestClient) -> None:
    answer = jobs.post("/v1/jobs", files={"file": ("clips.xls", b"x")})
    assert code(answer) == (400, "invalid_manifest")
    assert "clips.xls" in answer.json()["error"]["message"]
    answer = jobs.post("/v1/jobs", files={"file": ("clips.jsonl", b"{")})
    assert code(answer) == (400, "invalid_manifest")
    assert "clips.jsonl, line 1" in answer.json()["error"]["message"]
    assert code(jobs.post("/v1/jobs", files={"manifest": ("clips.csv", b"path")})) == (400, "missing_input")


def test_sending_the_same_request_again_returns_the_same_job(jobs: TestClient) -> None:
    key = {"idempotency-key": "mine"}
    first = jobs.post("/v1/jobs", json={"input": CLIPS}, headers=key)
    again = jobs.post("/v1/jobs", json={"input": CLIPS}, headers=key)
    assert first.json()["id"] == again.json()["id"]
    other = jobs.post("/v1/jobs", json={"input": CLIPS, "top_k": 3}, headers=key)
    assert code(other) == (409, "idempotency_key_reused")
    assert len(jobs.get("/v1/jobs").json()["data"]) == 1
    ended(jobs, first.json()["id"])


def test_jobs_are_listed_paged_and_deleted(jobs: TestClient, tmp_path: Path) -> None:
    ids = [jobs.post("/v1/jobs", json={"input": [{"path": "dark.mp4"}]}).json()["id"] for _ in range(3)]
    for id_ in ids:
        ended(jobs, id_)
    page = jobs.get("/v1/jobs", params={"limit": 2}).json()
    assert ([job["id"] for job in page["data"]], page["has_more"]) == ([ids[2], ids[1]], True)
    rest = jobs.get("/v1/jobs", params={"after": ids[1]}).json()
    assert ([job["id"] for job in rest["data"]], rest["has_more"]) == ([ids[0]], False)
    assert jobs.delete(f"/v1/jobs/{ids[0]}").status_code == 204
    assert not (tmp_path / "jobs" / ids[0]).exists()
    for answer in (jobs.get(f"/v1/jobs/{ids[0]}"), jobs.delete(f"/v1/jobs/{ids[0]}")):
        assert code(answer) == (404, "job_not_found")


def test_cancelling_a_job_lets_the_next_one_start(gateway: Gateway, videos: Path, tmp_path: Path) -> None:
    slow = FakeEngine(delay=60)
    server = gateway(slow, jobs_dir=tmp_path / "jobs", job_roots=str(videos), max_jobs=2)
    running, waiting = (
        server.post("/v1/jobs", json={"input": [{"path": "dark.mp4", "id": n}]}).json()["id"] for n in range(2)
    )
    full = server.post("/v1/jobs", json={"input": CLIPS})
    assert code(full) == (429, "jobs_full")
    assert int(full.headers["retry-after"]) > 0
    while server.get(f"/v1/jobs/{running}").json()["status"] != "running":
        time.sleep(0.02)
    assert code(server.get(f"/v1/jobs/{running}/result")) == (409, "job_not_finished")
    assert code(server.delete(f"/v1/jobs/{running}")) == (409, "job_not_finished")
    for id_ in (waiting, running, running):
        answer = server.post(f"/v1/jobs/{id_}/cancel")
        assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
    assert code(server.get(f"/v1/jobs/{running}/result")) == (409, "job_has_no_rows")
    assert server.delete(f"/v1/jobs/{running}").status_code == 204


def test_the_next_gateway_resumes_a_job(gateway: Gateway, videos: Path, tmp_path: Path) -> None:
    settings = Settings(jobs_dir=tmp_path / "jobs", job_roots=str(videos))  # type: ignore[arg-type]
    with TestClient(create_app(settings, FakeEngine(delay=60))) as first:
        id_ = first.post("/v1/jobs", json={"input": CLIPS}).json()["id"]
        while first.get(f"/v1/jobs/{id_}").json()["status"] != "running":
            time.sleep(0.02)
    leftover, other = tmp_path / "jobs" / f"job_{'0' * 24}", tmp_path / "jobs" / "job_hunt"
    leftover.mkdir()
    other.mkdir()
    server = gateway(jobs_dir=tmp_path / "jobs", job_roots=str(videos))
    assert ended(server, id_)["status"] == "completed"
    assert not leftover.exists()
    assert other.exists(), "not ours to remove"


def test_a_job_whose_model_is_gone_fails(gateway: Gateway, videos: Path, tmp_path: Path) -> None:
    settings = Settings(jobs_dir=tmp_path / "jobs", job_roots=str(videos))  # type: ignore[arg-type]
    with TestClient(create_app(settings, FakeEngine(delay=60))) as first:
        id_ = first.post("/v1/jobs", json={"input": CLIPS}).json()["id"]
    newer = FakeEngine(FAKE_METADATA.model_copy(update={"version": "9"}))
    job = ended(gateway(newer, jobs_dir=tmp_path / "jobs"), id_)
    assert (job["status"], job["error"]["code"]) == ("failed", "model_not_found")


def test_the_jobs_folder_belongs_to_one_gateway(jobs: TestClient, tmp_path: Path) -> None:
    with pytest.raises(JobsDirError, match=r"another gateway uses .* for its jobs"):
        create_app(Settings(jobs_dir=tmp_path / "jobs"), FakeEngine())
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(JobsDirError, match="cannot hold jobs"):
        create_app(Settings(jobs_dir=file), FakeEngine())
    with pytest.raises(JobsDirError, match=r"none in SEFAR_JOB_ROOTS is not a folder"):
        create_app(Settings(jobs_dir=tmp_path / "other", job_roots=str(tmp_path / "none")), FakeEngine())  # type: ignore[arg-type]


def test_without_a_folder_jobs_are_disabled(gateway: Gateway) -> None:
    server = gateway()
    assert code(server.post("/v1/jobs", json={"input": CLIPS})) == (501, "jobs_not_enabled")
    assert code(server.get("/v1/jobs")) == (501, "jobs_not_enabled")


def test_videos_of_allowed_hosts_are_fetched(gateway: Gateway, tmp_path: Path, file_server: str) -> None:
    host = file_server.removeprefix("http://")
    server = gateway(jobs_dir=tmp_path / "jobs", url_hosts=host)
    clips = [{"url": f"{file_server}/{name}"} for name in ("dark.mp4", "broken.mp4", "gone.mp4")]
    job = ended(server, server.post("/v1/jobs", json={"input": clips}).json()["id"])
    assert (job["done"], job["failed"]) == (3, 2)
    text = server.get(f"/v1/jobs/{job['id']}/result", params={"format": "jsonl"}).text
    rows = [json.loads(line) for line in text.splitlines()]
    assert [row["path"] for row in rows] == [clip["url"] for clip in clips]
    assert [row["error_code"] for row in rows] == [None, "not_a_video", "url_unreachable"]
    assert rows[1]["error"].startswith(f"{file_server}/broken.mp4")
    assert not (tmp_path / "jobs" / job["id"] / "fetched").exists()


def test_the_gateways_limits_apply_to_jobs(gateway: Gateway, videos: Path, tmp_path: Path) -> None:
    (videos / "long.mp4").write_bytes(encode_grey_clip([90] * 200))
    server = gateway(jobs_dir=tmp_path / "jobs", job_roots=str(videos), max_frames=100)
    job = ended(server, server.post("/v1/jobs", json={"input": [{"path": "long.mp4"}]}).json()["id"])
    assert job["failed"] == 1


def test_jobs_are_deleted_when_their_retention_is_over(
    gateway: Gateway, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "EXPIRE_SECONDS", 0.02)
    long_ago = gateway(jobs_dir=tmp_path / "kept", job_roots=str(videos), job_retention=0)
    kept = ended(long_ago, long_ago.post("/v1/jobs", json={"input": CLIPS}).json()["id"])["id"]
    client = gateway(jobs_dir=tmp_path / "jobs", job_roots=str(videos), job_retention=1)
    id_ = ended(client, client.post("/v1/jobs", json={"input": CLIPS}).json()["id"])["id"]
    assert client.get(f"/v1/jobs/{id_}/result").status_code == 200
    now = time.time()
    monkeypatch.setattr(service.time, "time", lambda: now + 3605)
    deadline = time.monotonic() + 60
    while client.get(f"/v1/jobs/{id_}").status_code == 200:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    while (tmp_path / "jobs" / id_).exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert long_ago.get(f"/v1/jobs/{kept}").status_code == 200


def test_what_a_killed_gateway_had_fetched_is_deleted_at_the_next_start(
    gateway: Gateway, videos: Path, tmp_path: Path
) -> None:
    first = gateway(jobs_dir=tmp_path / "jobs", job_roots=str(videos))
    id_ = ended(first, first.post("/v1/jobs", json={"input": CLIPS}).json()["id"])["id"]
    shutil.copytree(tmp_path / "jobs", tmp_path / "copy")  # as a killed gateway leaves it
    left = tmp_path / "copy" / id_ / service.FETCHED
    left.mkdir()
    (left / "video").write_bytes(b"private")
    unknown = tmp_path / "copy" / f"job_{'0' * 24}"
    unknown.mkdir()
    gateway(jobs_dir=tmp_path / "copy", job_roots=str(videos))
    assert not left.exists()
    assert not unknown.exists()
    assert (tmp_path / "copy" / id_ / service.FEATURES).is_dir()
