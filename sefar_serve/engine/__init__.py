"""Where models run: one protocol, in-process (ONNX Runtime) or remote (Triton), and a fake for tests.

`sefar_serve.engine.onnx` and `.triton` are imported by whoever wants them, so that a gateway in front of
Triton does not need onnxruntime, nor one without it tritonclient.
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
