"""Errors of requests about batch jobs."""

from __future__ import annotations

from sefar_serve.errors import SefarError
from sefar_serve.quantity import quantity


class JobError(SefarError):
    """A request about jobs cannot be served."""

    status = 400
    code = "job_error"


class JobNotFoundError(JobError):
    """The job does not exist.

    `param` is the parameter that named it; None if the path did.
    """

    status = 404
    code = "job_not_found"

    def __init__(self, id_: str, param: str | None = None) -> None:
        super().__init__(f"job {id_} does not exist; GET /v1/jobs lists all jobs")
        self.param = param


class JobNotFinishedError(JobError):
    """The job is queued or running, and must finish first."""

    status = 409
    code = "job_not_finished"


class JobHasNoRowsError(JobError):
    """The job ended without any rows to download."""

    status = 409
    code = "job_has_no_rows"


class JobsFullError(JobError):
    """The maximum number of jobs is queued or running."""

    status = 429
    code = "jobs_full"
    retry_after = 30


class IdempotencyKeyReusedError(JobError):
    """The idempotency key was already used for a different job."""

    status = 409
    code = "idempotency_key_reused"
    param = "Idempotency-Key"


class PathNotAllowedError(JobError):
    """A path is outside the folders that the operator allows."""

    status = 403
    code = "path_not_allowed"
    param = "input"


class TooManyClipsError(JobError):
    """A job has more clips than the server accepts."""

    status = 413
    code = "too_many_clips"
    param = "input"

    def __init__(self, most: int) -> None:
        super().__init__(
            f"the job has more than {quantity(most, 'clip')}, the limit of this server; split it into several jobs"
        )


class JobStorageError(JobError):
    """Job data cannot be written now, because the disk is full."""

    status = 503
    code = "storage_full"
    retry_after = 60


class JobsDirError(SefarError, OSError):
    """The folder for batch jobs cannot be used."""

    code = "jobs_dir_unusable"
