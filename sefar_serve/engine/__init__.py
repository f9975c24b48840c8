"""Where models run: one protocol, in-process (ONNX Runtime) or remote (Triton), and a fake for tests.

Import `sefar_serve.engine.onnx` or `.triton` only where they are used, so that a gateway in front of
Triton does not need onnxruntime, and one without Triton does not need tritonclient.
"""

from sefar_serve.engine.base import Engine, Model, Outputs, Prediction
from sefar_serve.engine.errors import (
    EngineError,
    EngineOverloadedError,
    EngineTimeoutError,
    EngineUnavailableError,
    InferenceError,
    ModelLoadError,
    ModelNotFoundError,
)
from sefar_serve.engine.fake import FAKE_METADATA, FakeEngine

__all__ = [
    "FAKE_METADATA",
    "Engine",
    "EngineError",
    "EngineOverloadedError",
    "EngineTimeoutError",
    "EngineUnavailableError",
    "FakeEngine",
    "InferenceError",
    "Model",
    "ModelLoadError",
    "ModelNotFoundError",
    "Outputs",
    "Prediction",
]
