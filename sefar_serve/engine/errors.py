"""What can go wrong when a model runs."""

from __future__ import annotations

from sefar_serve.errors import SefarError


class EngineError(SefarError, RuntimeError):
    """The engine that runs the model, or its Triton server, cannot be set up or failed."""

    code = "engine_error"


class ModelLoadError(EngineError):
    """The model file is missing, is not ONNX, or is not a SeFAR model."""

    code = "model_load_failed"


class ModelNotFoundError(EngineError):
    """There is no model of that name or version."""

    status = 404
    code = "model_not_found"
    param = "model"


class EngineOverloadedError(EngineError):
    """The queue is full, so the request was refused before any work."""

    status = 429
    code = "overloaded"

    def __init__(self, message: str, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class EngineUnavailableError(EngineError):
    """The engine is not started, is shutting down, or cannot be reached."""

    status = 503
    code = "engine_unavailable"

    def __init__(self, message: str, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class EngineTimeoutError(EngineError):
    """The model did not answer in time; it may be slow, or it may hang."""

    status = 504
    code = "inference_timeout"


class InferenceError(EngineError):
    """The model failed on this clip."""

    code = "inference_failed"
