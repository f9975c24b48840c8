"""The base of every error whose message tells the user what is wrong and how to fix it.

Each room raises its own subclasses, near the cause. A subclass says once how it is reported: the HTTP status, the
machine-readable code and the parameter at fault. The gateway, the command line, jobs and features read
it from there.
"""

from __future__ import annotations


class SefarError(Exception):
    """An error that is explained to the user as it is.

    Attributes:
        status: HTTP status that the gateway answers with.
        code: machine-readable reason, stable across releases.
        param: the request's parameter at fault; None where none is.
        retry_after: whole seconds after which a retry makes sense; None where a retry does not help.
    """

    status: int = 500
    code: str = "error"
    param: str | None = None
    retry_after: int | None = None
