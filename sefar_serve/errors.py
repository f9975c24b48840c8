"""The base of every error whose message tells the user what is wrong and how to fix it.

Each package raises its own subclasses, near the cause. A subclass declares how it is reported: the HTTP status, the
machine-readable code and the parameter at fault. The gateway, the command line, jobs and features read
it from there.
"""

from __future__ import annotations


class SefarError(Exception):
    """An error whose message is shown to the user.

    Attributes:
        status: HTTP status that the gateway answers with.
        code: machine-readable reason, stable across releases.
        param: name of the request parameter at fault; None if no parameter is.
        retry_after: whole seconds to wait before a retry; None if a retry does not help.
    """

    status: int = 500
    code: str = "error"
    param: str | None = None
    retry_after: int | None = None
