"""What can go wrong when text is generated: one error type per cause."""

from __future__ import annotations

from sefar_serve.errors import SefarError


class GenerationError(SefarError):
    """Text could not be generated."""

    code = "generation_failed"


class PromptError(GenerationError, ValueError):
    """The language model cannot take these messages."""

    status = 400
    code = "invalid_prompt"
    param: str | None = "messages"


class PromptTooLongError(PromptError):
    """The prompt and the requested answer do not fit into the language model's context."""

    code = "context_length_exceeded"


class FeatureMismatchError(PromptError):
    """The adapter was trained for features of another encoder."""

    status = 503
    code = "adapter_mismatch"
    param = None


class GeneratorOverloadedError(GenerationError):
    """The queue is full, so the request was refused before any work."""

    status = 429
    code = "overloaded"

    def __init__(self, message: str, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class GeneratorUnavailableError(GenerationError):
    """There is no language model, or it does not answer."""

    status = 503
    code = "generator_unavailable"

    def __init__(self, message: str, retry_after: int = 5) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class GenerationFailedError(GenerationError):
    """The language model failed on this request."""


class AdapterMismatchError(GenerationError):
    """The adapter was trained for another language model or another encoder."""

    status = 503
    code = "adapter_mismatch"


class AdapterNotFoundError(GenerationError):
    """There is no adapter in the given folder or on the hub."""

    code = "adapter_not_found"
