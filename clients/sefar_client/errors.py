"""What a gateway's refusal looks like to a caller."""

from __future__ import annotations


class GatewayError(Exception):
    """The gateway answered with an error.

    Attributes:
        status: HTTP status.
        code: machine-readable reason, e.g. ``not_a_video``.
        param: the parameter at fault, if one is.
        request_id: to be found in the gateway's log.
        retry_after: seconds to wait before trying again, where the gateway says.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        code: str,
        param: str | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param
        self.request_id = request_id
        self.retry_after = retry_after
