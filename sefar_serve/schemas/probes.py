"""The JSON of the liveness and readiness probes."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field


class Liveness(BaseModel):
    """Response of GET /healthz."""

    status: Literal["ok"] = Field("ok", description="the process is running")


class Readiness(BaseModel):
    """Response of GET /readyz, if the model answers."""

    status: Literal["ready"] = Field("ready", description="the model answers")
    model: str = Field(description="name of the default model")
    version: str = Field(description="version of the default model")
    anonymous: bool = Field(description="whether nothing of videos is kept but joints")
    captioner: str = Field(
        description="name of the captioner; `none` if captions are disabled; `unavailable: …` with the reason if it "
        "does not answer"
    )
