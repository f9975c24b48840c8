"""What can go wrong with generated text, each a type of its own."""

from __future__ import annotations

from sefar_serve.errors import SefarError


class GenerationError(SefarError):
    """Text could not be generated."""

    code = "generation_failed"


class PromptError(GenerationError, ValueError):
    """The messages cannot be put to the language model; the message says what to change."""

    status = 400
    code = "invalid_prompt"
    param: str | None = "messages"


class PromptTooLongError(PromptError):
    """The prompt and the answer asked for do not fit into the language model's context."""

    code = "context_length_exceeded"


class FeatureMismatchError(PromptError):
    """The features of a clip are not those that the adapter was trained for."""

    status = 503
    code = "adapter_mismatch"
    param = None


class GeneratorOverloadedError(GenerationError):
    """The queue is full; nothing was started."""

    status = 429
    code = "overloaded"

    def __init__(self, message: str, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class GeneratorUnavailableError(GenerationError):
    """There is no language model here, or it does not answer."""

    status = 503
    code = "generator_unavailable"

    def __init__(self, message: str, retry_after: int = 5) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class GenerationFailedError(GenerationError):
    """The language model failed on this very request."""


class AdapterMismatchError(GenerationError):
    """The adapter was trained for another language model or another encoder than the one it would be used with."""

    status = 503
    code = "adapter_mismatch"


class AdapterNotFoundError(GenerationError):
    """There is no adapter there."""

    code = "adapter_not_found"
