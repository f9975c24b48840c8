"""Why a batch job is not taken, found, given out or removed."""

from __future__ import annotations


class JobError(Exception):
    """What the sender of a request about jobs can mend.

    Attributes:
        code: machine-readable reason.
    """

    code: str


class JobNotFoundError(JobError):
    """There is no such job.

    Attributes:
        param: the parameter that named it; None where the path did.
    """

    code = "job_not_found"

    def __init__(self, id_: str, param: str | None = None) -> None:
        super().__init__(f"there is no job {id_}; GET /v1/jobs lists those there are")
        self.param = param


class JobNotFinishedError(JobError):
    """It waits or runs, and has to end first."""

    code = "job_not_finished"


class JobHasNoRowsError(JobError):
    """It ended with nothing to download."""

    code = "job_has_no_rows"


class JobsFullError(JobError):
    """As many jobs as may wait and run do so.

    Attributes:
        retry_after: seconds after which to ask again.
    """

    code = "jobs_full"
    retry_after = 30


class IdempotencyKeyReusedError(JobError):
    """The key has been sent with another job."""

    code = "idempotency_key_reused"


class PathNotAllowedError(JobError):
    """A path that leads out of the folders that the operator allows."""

    code = "path_not_allowed"


class TooManyClipsError(JobError):
    """A job of more clips than the server takes."""

    code = "too_many_clips"

    def __init__(self, most: int) -> None:
        super().__init__(f"a job may have {most} clips here; send the others as another job")


class JobStorageError(JobError):
    """What is known of jobs cannot be written now: the disk is full.

    Attributes:
        retry_after: seconds after which to ask again.
    """

    code = "storage_full"
    retry_after = 60


class JobsDirError(OSError):
    """The folder of jobs cannot be used; the message says what the operator can do."""
