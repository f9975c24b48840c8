"""The JSON of batch jobs: what a job may ask for, and what is said of it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from sefar_serve.schemas.model_name import ModelName
from sefar_serve.schemas.problem import ErrorBody

Status = Literal["queued", "running", "completed", "failed", "cancelled"]


class JobOptions(BaseModel):
    """What a job may say beside its clips."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: ModelName = Field(
        None, description="name of the model, or name:version; `default` or left out: the default model"
    )
    top_k: int = Field(5, ge=1, le=10_000, description="labels per clip")
    tokens: bool = Field(False, description="whether a row holds a token per temporal element as well")
    dtype: Literal["float32", "float16"] = Field("float32", description="of the vectors")


class JobInput(BaseModel):
    """One clip of a job; either a path or a URL."""

    model_config = ConfigDict(extra="forbid")

    path: str | None = Field(None, description="file on the server, in one of the folders that the operator allows")
    url: str | None = Field(None, description="http(s) URL of a host that the operator allows")
    start: float | None = Field(None, ge=0, description="seconds; the clip begins here")
    end: float | None = Field(None, gt=0, description="seconds; the clip ends here")
    id: str | int | None = Field(None, description="names the row; the path or URL as written if left out")


class Job(BaseModel):
    """A batch job and how far it is; times are Unix seconds."""

    id: str
    object: Literal["job"] = "job"
    status: Status
    created: int
    started: int | None = None
    finished: int | None = None
    total: int = Field(description="clips, each counted once")
    done: int = Field(0, description="clips that were looked at, failed ones included")
    failed: int = Field(0, description="of these, clips whose row is an error")
    model: str
    version: str
    error: ErrorBody | None = Field(None, description="why the job as a whole failed")


class JobList(BaseModel):
    """Jobs, the newest first."""

    object: Literal["list"] = "list"
    data: list[Job]
    has_more: bool = Field(description="whether older ones follow; ask for them with after=ID of the last one")
