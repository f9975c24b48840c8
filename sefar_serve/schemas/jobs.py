"""The JSON of batch jobs: their options, inputs and progress."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from sefar_serve.schemas.model_name import ModelName
from sefar_serve.schemas.problem import ErrorBody

Status = Literal["queued", "running", "completed", "failed", "cancelled"]


class JobOptions(BaseModel):
    """Options of a job."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: ModelName = Field(
        None, description="name of the model, or name:version; null or `default` for the default model"
    )
    top_k: int = Field(5, ge=1, le=10_000, description="number of labels per clip")
    tokens: bool = Field(False, description="whether rows also hold the tokens, one per temporal element")
    poses: bool = Field(
        False, description="whether rows also hold the joints that the model saw; only for models that see joints"
    )
    dtype: Literal["float32", "float16"] = Field("float32", description="data type of the vectors")


class JobInput(BaseModel):
    """One clip of a job; either a path or a URL."""

    model_config = ConfigDict(extra="forbid")

    path: str | None = Field(None, description="file on the server, in one of the folders that the operator allows")
    url: str | None = Field(None, description="http(s) URL on a host that the operator allows")
    start: float | None = Field(None, ge=0, description="start of the clip in seconds; null for the first frame")
    end: float | None = Field(None, gt=0, description="end of the clip in seconds; null for the end of the video")
    id: str | int | None = Field(None, description="id of the row; null for the path or URL as written")


class Job(BaseModel):
    """A batch job and its progress; times are Unix seconds."""

    id: str
    object: Literal["job"] = "job"
    status: Status
    created: int
    started: int | None = None
    finished: int | None = None
    total: int = Field(description="number of clips, each counted once")
    done: int = Field(0, description="clips processed, including failed ones")
    failed: int = Field(0, description="clips processed whose row is an error")
    model: str
    version: str
    error: ErrorBody | None = Field(None, description="why the job as a whole failed")


class JobList(BaseModel):
    """Jobs, newest first."""

    object: Literal["list"] = "list"
    data: list[Job]
    has_more: bool = Field(description="whether there are older jobs; request them with after=ID of the last job here")
