"""Runs the model.onnx next to this file, for Triton servers that have only the Python backend.

NVIDIA's container does not use this file: its onnxruntime backend reads model.onnx directly.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as triton


class TritonPythonModel:
    """The class that Triton's Python backend loads."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load this version's file; if this raises, the version is not served."""
        file = Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        options = ort.SessionOptions()
        # Otherwise idle threads spin and take cores from the threads that decode.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        self.inputs = [given.name for given in self.session.get_inputs()]
        self.outputs = [output.name for output in self.session.get_outputs()]

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer the requests from the dynamic batcher as one batch."""
        given = {
            name: [triton.get_input_tensor_by_name(request, name).as_numpy() for request in requests]
            for name in self.inputs
        }
        outputs = self.session.run(self.outputs, {name: np.concatenate(clips) for name, clips in given.items()})
        responses = []
        start = 0
        for clips in given[self.inputs[0]]:
            rows = slice(start, start + len(clips))
            tensors = [triton.Tensor(name, value[rows]) for name, value in zip(self.outputs, outputs, strict=True)]
            responses.append(triton.InferenceResponse(tensors))
            start = rows.stop
        return responses
