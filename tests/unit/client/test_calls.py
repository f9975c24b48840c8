"""Requests about jobs, as the client sends them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from client_answers import make

from sefar_client import Client, Job

JOB: dict[str, Any] = {
    **dict.fromkeys(("model", "version"), "x"),
    **dict.fromkeys(("created", "total", "done", "failed"), 1),
    **dict.fromkeys(("started", "finished", "error")),
    "id": "job_1",
    "object": "job",
    "status": "completed",
}


def recording() -> tuple[Client, list[httpx.Request]]:
    """A client of a gateway with one job, and the requests that it sent."""
    requests: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        request.read()
        requests.append(request)
        return httpx.Response(200, json={"data": [JOB]} if "limit" in request.url.params else JOB)

    return make(handle), requests


def test_a_job_may_be_given_instead_of_its_id() -> None:
    client, requests = recording()
    job = Job.model_validate(JOB)
    assert client.job(job) == client.wait(job) == client.cancel(job) == job
    client.delete(job)
    assert client.jobs(after=job) == client.jobs(after="job_1") == [job]
    paths = [request.url.path for request in requests]
    assert paths == ["/v1/jobs/job_1"] * 2 + ["/v1/jobs/job_1/cancel", "/v1/jobs/job_1"] + ["/v1/jobs"] * 2
    assert [request.url.params["after"] for request in requests[-2:]] == ["job_1"] * 2


def test_an_id_cannot_change_the_path() -> None:
    client, requests = recording()
    for name in ("../models", "a/b", "a?x=1", "a#b", "a%2fb"):
        client.delete(name)
    sent = [request.url.raw_path for request in requests]
    assert sent == [f"/v1/jobs/{name}".encode() for name in ("..%2Fmodels", "a%2Fb", "a%3Fx%3D1", "a%23b", "a%252fb")]
    asked: list[Callable[[Any], object]] = [
        client.job,
        client.wait,
        client.cancel,
        client.delete,
        lambda name: client.download(name, "file"),
        lambda name: client.jobs(after=name),
    ]
    for ask in asked:
        for name in ("", ".", ".."):
            with pytest.raises(ValueError, match=f"'{name}' is not a job id"):
                ask(name)
        with pytest.raises(TypeError, match="must be given as its id or as a Job, not int"):
            ask(3)
    assert len(requests) == 5


def test_clips_of_a_job_may_be_any_mappings_with_paths() -> None:
    client, requests = recording()
    clips = [{"path": Path("a.mp4")}, {"path": "b.mp4", "start": 1.5}]
    client.submit(clips)
    client.submit(tuple(clips))
    for request in requests:
        assert json.loads(request.content)["input"] == [{"path": "a.mp4"}, {"path": "b.mp4", "start": 1.5}]


def test_a_manifest_needs_a_name() -> None:
    client, requests = recording()
    manifest = io.BytesIO(b"path\na.mp4\n")
    with pytest.raises(ValueError, match=r"no file name.*set the `name` of the open file to clips\.csv"):
        client.submit(manifest)
    manifest.name = "some/clips.csv"
    client.submit(manifest)
    [request] = requests
    assert b'filename="clips.csv"' in request.content
    assert b"path\na.mp4\n" in request.content


def test_invalid_clips_are_a_type_error() -> None:
    client, requests = recording()
    for given in ({"path": "a.mp4"}, b"path\na.mp4\n", (clip for clip in [{"path": "a.mp4"}]), None):
        with pytest.raises(TypeError, match=f"clips must be a list, or a manifest .*not {type(given).__name__}"):
            client.submit(cast(Any, given))
    with pytest.raises(TypeError, match=r"must be like \{'path': 'a.mp4'\}, not str 'b.mp4'"):
        client.submit(cast(Any, ["b.mp4"]))
    assert requests == []
