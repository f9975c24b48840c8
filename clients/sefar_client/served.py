"""What a gateway serves and works on, as frozen objects: its models and its batch jobs."""

from __future__ import annotations

from typing import Any, Literal

from sefar_client import notebook
from sefar_client.base import Result, present


class Model(Result):
    """One served model. `stream` says what it sees: ``rgb``, ``pose`` or ``both``; `size` is None without pictures."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    version: str
    dataset: str
    sample_frames: list[int]
    layout: str
    stream: str = "rgb"
    size: int | None
    embedding_dim: int
    token_dim: int
    labels: list[str]

    def _shown(self) -> dict[str, Any]:
        return {"id": self.id, "version": self.version, "dataset": self.dataset, "labels": self.labels}


class LanguageModel(Result):
    """The captioner, if there is one; `encoder` is the model whose features it reads."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    encoder: str | None
    language_model: str
    backend: str
    context_length: int


class ErrorBody(Result):
    """Why a job failed."""

    message: str
    type: str
    param: str | None
    code: str


class Job(Result):
    """A batch job and its progress; times are Unix seconds.

    Attributes:
        total: number of clips, each counted once.
        done: number of clips processed, including failed ones.
        failed: number of clips whose row is an error.
        error: why the job as a whole failed.
    """

    id: str
    object: Literal["job"]
    status: Literal["queued", "running", "completed", "failed", "cancelled"]
    created: int
    started: int | None
    finished: int | None
    total: int
    done: int
    failed: int
    model: str
    version: str
    error: ErrorBody | None

    @property
    def is_finished(self) -> bool:
        """Whether it is completed, failed or cancelled."""
        return self.status in ("completed", "failed", "cancelled")

    def _shown(self) -> dict[str, Any]:
        error = self.error and self.error.message
        return present(
            id=self.id, status=self.status, done=self.done, total=self.total, failed=self.failed, error=error
        )

    def __str__(self) -> str:
        failed = f", {self.failed} failed" if self.failed else ""
        why = f": {self.error.message}" if self.error else ""
        clips = "1 clip" if self.total == 1 else f"{self.total} clips"
        return f"{self.id}: {self.status}, {self.done} of {clips}{failed}{why}"

    def _repr_html_(self) -> str:
        return notebook.text(str(self), wrong=self.status == "failed")
