"""Why a batch job is not taken, found, given out or removed."""

from __future__ import annotations

from sefar_serve.errors import SefarError


class JobError(SefarError):
    """A request about jobs that cannot be served as it was put."""

    status = 400
    code = "job_error"


class JobNotFoundError(JobError):
    """There is no such job; `param` is the parameter that named it, None where the path did."""

    status = 404
    code = "job_not_found"

    def __init__(self, id_: str, param: str | None = None) -> None:
        super().__init__(f"there is no job {id_}; GET /v1/jobs lists those there are")
        self.param = param


class JobNotFinishedError(JobError):
    """It waits or runs, and has to end first."""

    status = 409
    code = "job_not_finished"


class JobHasNoRowsError(JobError):
    """It ended with nothing to download."""

    status = 409
    code = "job_has_no_rows"


class JobsFullError(JobError):
    """As many jobs as may wait and run do so."""

    status = 429
    code = "jobs_full"
    retry_after = 30


class IdempotencyKeyReusedError(JobError):
    """The key has been sent with another job."""

    status = 409
    code = "idempotency_key_reused"
    param = "Idempotency-Key"


class PathNotAllowedError(JobError):
    """A path that leads out of the folders that the operator allows."""

    status = 403
    code = "path_not_allowed"
    param = "input"


class TooManyClipsError(JobError):
    """A job of more clips than the server takes."""

    status = 413
    code = "too_many_clips"
    param = "input"

    def __init__(self, most: int) -> None:
        super().__init__(f"a job may have {most} clips here; send the others as another job")


class JobStorageError(JobError):
    """What is known of jobs cannot be written now: the disk is full."""

    status = 503
    code = "storage_full"
    retry_after = 60


class JobsDirError(SefarError, OSError):
    """The folder of jobs cannot be used; the message says what the operator can do."""

    code = "jobs_dir_unusable"
