"""What every in-process runtime gives: a model file, loaded and checked. Blocking; `LocalEngine` is asynchronous."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from sefar_serve.engine.base import Inputs, Outputs
from sefar_serve.engine.errors import ModelLoadError
from sefar_serve.metadata import ModelMetadata

Runtime = Literal["auto", "onnxruntime", "openvino"]
Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["fp32", "bf16"]


class LoadedModel(Protocol):
    """A model file in memory."""

    @property
    def path(self) -> Path:
        """The ONNX file."""

    @property
    def metadata(self) -> ModelMetadata:
        """Its description."""

    @property
    def provider(self) -> str:
        """The runtime and what it computes with, for people."""

    @property
    def runs_on_cpu(self) -> bool:
        """Whether it runs on the CPU rather than on a GPU."""

    def run(self, inputs: Inputs) -> Outputs:
        """Run a batch.

        Args:
            inputs: as in `ModelMetadata.inputs` with a batch axis in front, e.g. ``frames`` uint8 (B,F,H,W,3).
        """

    def warm_up(self, batch: int = 1) -> None:
        """Run one batch of zeros, so that the first request does not wait for memory allocation."""


class Found(NamedTuple):
    """A tensor of a file: its dtype, or the runtime's name of a dtype that no SeFAR model has, and its shape."""

    dtype: np.dtype[Any] | str
    shape: tuple[Any, ...]


def model_file(path: str | os.PathLike[str]) -> Path:
    """The path of a model file that exists.

    Raises:
        ModelLoadError: it does not.
    """
    file = Path(path)
    if not file.is_file():
        raise ModelLoadError(f"no model file at {file}; set `model` (--model, SEFAR_MODEL) to an ONNX file")
    return file


def not_loaded(path: Path, error: Exception) -> ModelLoadError:
    """What to raise if a runtime cannot read a file."""
    return ModelLoadError(
        f"{path} cannot be loaded as an ONNX model; give an .onnx file that `sefar export` or `sefar train --data` "
        f"wrote ({error})"
    )


def check_interface(
    path: Path, metadata: ModelMetadata, inputs: Mapping[str, Found], outputs: Mapping[str, Found]
) -> None:
    """Check that a file has the tensors that its description promises.

    Raises:
        ModelLoadError: a tensor is missing, unknown, or has another dtype or shape.
    """
    again = "export the model again with `sefar export`"
    found = {**inputs, **outputs}
    for name, (dtype, shape) in metadata.tensors.items():
        if name not in found:
            raise ModelLoadError(f"{path} has no tensor {name!r}; {again}")
        kind, dims = found[name]
        if dims[1:] != shape or kind != dtype:
            raise ModelLoadError(
                f"{path}: tensor {name!r} is {kind} {dims}, but the file's metadata says "
                f"{dtype} ('batch', {', '.join(map(str, shape))}); {again}"
            )
    unknown = sorted(inputs.keys() - metadata.inputs.keys())
    if unknown:
        raise ModelLoadError(
            f"{path} takes {unknown[0]!r}, but the file's metadata says that a model with the stream "
            f"{metadata.stream!r} takes only {' and '.join(metadata.inputs)}; {again}"
        )
