"""Where models run: one protocol, an in-process engine on ONNX Runtime, and a fake for tests.

`sefar_serve.engine.onnx` is imported by whoever wants it, so that a gateway in front of a remote
engine does not need onnxruntime.
"""

from sefar_serve.engine.base import Engine, Outputs, Prediction
from sefar_serve.engine.errors import (
    EngineError,
    EngineOverloadedError,
    EngineUnavailableError,
    InferenceError,
    ModelLoadError,
)
from sefar_serve.engine.fake import FAKE_METADATA, FakeEngine

__all__ = [
    "FAKE_METADATA",
    "Engine",
    "EngineError",
    "EngineOverloadedError",
    "EngineUnavailableError",
    "FakeEngine",
    "InferenceError",
    "ModelLoadError",
    "Outputs",
    "Prediction",
]
