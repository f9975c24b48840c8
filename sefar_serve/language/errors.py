"""What can go wrong with generated text, each a type of its own."""

from __future__ import annotations


class GenerationError(Exception):
    """Text could not be generated."""


class PromptError(GenerationError, ValueError):
    """The messages cannot be put to the language model; the message says what to change."""


class PromptTooLongError(PromptError):
    """The prompt and the answer asked for do not fit into the language model's context."""


class FeatureMismatchError(PromptError):
    """The features of a clip are not those that the adapter was trained for."""


class GeneratorOverloadedError(GenerationError):
    """The queue is full; nothing was started.

    Attributes:
        retry_after: whole seconds after which trying again makes sense.
    """

    def __init__(self, message: str, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class GeneratorUnavailableError(GenerationError):
    """There is no language model here, or it does not answer.

    Attributes:
        retry_after: whole seconds after which trying again makes sense.
    """

    def __init__(self, message: str, retry_after: int = 5) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class GenerationFailedError(GenerationError):
    """The language model failed on this very request."""


class AdapterMismatchError(GenerationError):
    """The adapter was trained for another language model or another encoder than the one it would be used with."""


class AdapterNotFoundError(GenerationError):
    """There is no adapter there."""
