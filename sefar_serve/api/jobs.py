"""The routes under /v1/jobs: batch jobs that compute features and labels of many clips in the background."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Annotated, Any, BinaryIO, Literal

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import FileResponse
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile

from sefar_serve.api.encoding import MAX_VALUES, JsonLimits
from sefar_serve.api.errors import ERRORS, ApiError
from sefar_serve.api.gateway import gateway_of
from sefar_serve.api.payload import read_form, read_json, validated
from sefar_serve.jobs.errors import TooManyClipsError
from sefar_serve.schemas.jobs import Job, JobInput, JobList, JobOptions
from sefar_serve.schemas.problem import ErrorResponse

if TYPE_CHECKING:  # its packages are an optional extra
    from sefar_serve.extract.manifests import NamedClip
    from sefar_serve.jobs.service import JobService

router = APIRouter(
    prefix="/v1/jobs",
    tags=["jobs"],
    responses=ERRORS | {409: {"model": ErrorResponse, "description": "not possible in the job's current state"}},
)

MAX_BODY_BYTES = 64 * 1024**2
"""Largest job request; parsing it takes ten times as much memory."""

MEDIA_TYPES = {"parquet": "application/vnd.apache.parquet", "jsonl": "application/x-ndjson"}

_OPTIONS = JobOptions.model_json_schema()["properties"]
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["input"],
                    "properties": {
                        "input": {
                            "type": "array",
                            "minItems": 1,
                            "items": JobInput.model_json_schema(),
                            "description": "the clips, at least one",
                        },
                        **_OPTIONS,
                    },
                }
            },
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {
                            "type": "string",
                            "format": "binary",
                            "description": "manifest: a .csv, .jsonl or .parquet file with a column `path` or `url`; "
                            "`start`, `end` and `id` are optional",
                        },
                        **_OPTIONS,
                    },
                }
            },
        },
    }
}


@router.post("", status_code=202, openapi_extra=_BODY)
async def submit(
    request: Request,
    response: Response,
    idempotency_key: Annotated[
        str | None, Header(max_length=255, description="the same key and body return the same job")
    ] = None,
) -> Job:
    """Submit a job: a list of clips, or a manifest file. `Location` in the response is the URL of its status."""
    jobs = _jobs(request)
    named, options = await _read(request)
    job = await jobs.submit(named, options, idempotency_key or None)
    response.headers["location"] = f"{request.scope.get('root_path', '')}/v1/jobs/{job.id}"
    return job


@router.get("")
@router.head("", include_in_schema=False)
async def listed(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=100, description="maximum number of jobs")] = 20,
    after: Annotated[str | None, Query(description="list the jobs after the one with this id")] = None,
) -> JobList:
    """List jobs, newest first."""
    found, more = await run_in_threadpool(_jobs(request).store.page, limit, after)
    return JobList(data=found, has_more=more)


@router.get("/{job_id}")
@router.head("/{job_id}", include_in_schema=False)
async def status(request: Request, job_id: str) -> Job:
    """The status and progress of a job."""
    return await run_in_threadpool(_jobs(request).store.get, job_id)


@router.post("/{job_id}/cancel")
async def cancel(request: Request, job_id: str) -> Job:
    """Cancel a job; a job that has ended does not change. The rows written so far can be downloaded."""
    return await _jobs(request).cancel(job_id)


@router.delete("/{job_id}", status_code=204)
async def delete(request: Request, job_id: str) -> None:
    """Delete a job that has ended, and its result."""
    await run_in_threadpool(_jobs(request).delete, job_id)


_RESULT: dict[int | str, dict[str, Any]] = {
    200: {"content": {kind: {} for kind in MEDIA_TYPES.values()}, "description": "the result file"}
}


@router.get("/{job_id}/result", response_class=FileResponse, responses=_RESULT)
@router.head("/{job_id}/result", response_class=FileResponse, include_in_schema=False)
async def result(
    request: Request,
    job_id: str,
    kind: Annotated[Literal["parquet", "jsonl"], Query(alias="format", description="format of the file")] = "parquet",
) -> FileResponse:
    """The result of a job that has ended: one row per clip. Rows of failed clips have the error."""
    file = await run_in_threadpool(_jobs(request).result, job_id, kind)
    return FileResponse(file, media_type=MEDIA_TYPES[kind], filename=f"{job_id}.{kind}")


def _jobs(request: Request) -> JobService:
    jobs = gateway_of(request).jobs
    if jobs is None:
        raise ApiError(501, "jobs_not_enabled", "batch jobs are disabled; set SEFAR_JOBS_DIR to enable them")
    return jobs


async def _read(request: Request) -> tuple[Iterator[NamedClip], JobOptions]:
    """The clips of a job, read lazily, and its options."""
    settings = gateway_of(request).settings
    most = min(settings.max_body_bytes, MAX_BODY_BYTES)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return await _read_form(request, most)
    limits = JsonLimits(most, max(MAX_VALUES, 16 * settings.max_job_clips))
    fields = await read_json(request, limits, example='{"input": [{"path": "a.mp4"}]}')
    clips = fields.get("input")
    if not isinstance(clips, list) or not clips:
        raise ApiError(400, "invalid_parameter", "input: must be a list with at least one clip", "input")
    if len(clips) > settings.max_job_clips:
        raise TooManyClipsError(settings.max_job_clips)
    options = validated(JobOptions, {name: value for name, value in fields.items() if name != "input"})
    return _named(clips), options


async def _read_form(request: Request, most: int) -> tuple[Iterator[NamedClip], JobOptions]:
    from sefar_serve.extract.manifests import SUFFIXES
    from sefar_serve.jobs.manifest import ManifestLimits, read_bounded

    form = await read_form(request, most, files=1, fields=16)
    fields: dict[str, Any] = dict(form)
    file = fields.pop("file", None)
    try:
        if not isinstance(file, UploadFile):
            raise ApiError(400, "missing_input", "the form has no manifest; send one as field 'file'", "file")
        name = file.filename or ""
        if not name.lower().endswith(SUFFIXES):
            message = f"{name!r} is not a manifest: its name must end in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"
            raise ApiError(400, "invalid_manifest", message, "file")
        options = validated(JobOptions, fields)
        manifest = await run_in_threadpool(_copied, file.file)
    finally:
        await form.close()
    limits = ManifestLimits(gateway_of(request).settings.max_job_clips)
    return read_bounded(manifest, name, limits), options


def _copied(file: BinaryIO) -> IO[bytes]:
    """A copy in a file without a name, which another process can read."""
    copy = tempfile.TemporaryFile()  # noqa: SIM115 - closed by its reader
    shutil.copyfileobj(file, copy)
    copy.flush()
    return copy


def _named(clips: list[Any]) -> Iterator[NamedClip]:
    """Validate clips one at a time: a hundred thousand at once would block other requests, in any thread."""
    from sefar_serve.extract.manifests import named_clip

    for number, clip in enumerate(clips):
        yield named_clip(validated(JobInput, clip, f"input.{number}").model_dump(), f"input[{number}]")
