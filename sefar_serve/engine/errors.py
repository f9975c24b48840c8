"""What can go wrong between a ready clip and its prediction; the API turns each into its HTTP status."""

from __future__ import annotations


class EngineError(RuntimeError):
    """Any failure of an engine."""


class ModelLoadError(EngineError):
    """The model file is missing, is not ONNX, or is not a SeFAR model."""


class ModelNotFoundError(EngineError):
    """There is no model of that name or version."""


class EngineOverloadedError(EngineError):
    """The queue is full; nothing was started.

    Attributes:
        retry_after: seconds after which trying again makes sense, at least 1.
    """

    def __init__(self, message: str, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class EngineUnavailableError(EngineError):
    """The engine is not started, is shutting down, or cannot be reached.

    Attributes:
        retry_after: seconds after which trying again makes sense, at least 1.
    """

    def __init__(self, message: str, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class EngineTimeoutError(EngineError):
    """The model did not answer in the time it is given; it may be slow, or it may hang."""


class InferenceError(EngineError):
    """The model failed on this very clip."""
