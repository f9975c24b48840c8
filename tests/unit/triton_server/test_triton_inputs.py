"""Triton repositories of models that see joints: the configuration, and the file that runs them in Python."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from pose_models import BOTH, POSE, write_tiny_model

from sefar_serve.engine import ModelLoadError
from sefar_serve.engine.base import batch_of
from sefar_serve.engine.onnx import OnnxModel
from sefar_serve.engine.triton.served import described
from sefar_serve.metadata import FamiliarityInfo, ModelMetadata
from sefar_serve.triton_server.config import FLAVOURS, Flavour, model_config
from sefar_serve.triton_server.repository import PYTHON_MODEL

STREAMS = pytest.mark.parametrize("meta", [POSE, BOTH], ids=["pose", "both"])


@STREAMS
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_the_configuration_has_every_input(meta: ModelMetadata, flavour: Flavour) -> None:
    config = model_config(meta, "it", flavour)
    assert described(config, required=True) == meta.model_copy(update={"version": "0"})
    assert {tensor.name: tuple(tensor.dims) for tensor in config.input} == {n: s for n, (_, s) in meta.inputs.items()}
    for warm_up in config.model_warmup:
        assert warm_up.inputs.keys() == meta.inputs.keys()
        assert all(given.zero_data for given in warm_up.inputs.values())


def test_familiarity_is_sent_as_a_vector_of_one_number() -> None:
    meta = POSE.model_copy(update={"familiarity": FamiliarityInfo(method="knn5", clips=9, held_out=9)})
    config = model_config(meta, "it", "cpu")
    output = config.output[-1]
    assert (output.name, tuple(output.dims), output.HasField("reshape")) == ("familiarity", (1,), True)
    assert described(config, required=True) == meta.model_copy(update={"version": "0"})


def test_a_configuration_without_an_input_is_refused() -> None:
    config = model_config(BOTH, "it", "cpu")
    del config.input[1]
    with pytest.raises(ModelLoadError, match="'poses' is missing"):
        described(config, required=True)


class Tensor:
    def __init__(self, name: str, values: np.ndarray) -> None:
        self.name, self.values = name, values

    def as_numpy(self) -> np.ndarray:
        return self.values


@pytest.fixture
def python_model(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The class of model.py, with a stand-in for Triton's module."""
    triton = ModuleType("triton_python_backend_utils")
    triton.Tensor = Tensor  # type: ignore[attr-defined]
    triton.InferenceResponse = lambda tensors: {tensor.name: tensor.values for tensor in tensors}  # type: ignore[attr-defined]
    triton.get_input_tensor_by_name = lambda request, name: Tensor(name, request[name])  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", triton)
    spec = importlib.util.spec_from_file_location("python_model", PYTHON_MODEL)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.TritonPythonModel()


@STREAMS
def test_the_python_backend_runs_requests_as_one_batch(tmp_path: Path, meta: ModelMetadata, python_model: Any) -> None:
    (tmp_path / "3").mkdir()
    file = write_tiny_model(tmp_path / "3" / "model.onnx", meta)
    python_model.initialize({"model_repository": str(tmp_path), "model_version": "3"})
    rng = np.random.default_rng(0)
    clips = [{n: (9 * rng.normal(size=s)).astype(d) for n, (d, s) in meta.inputs.items()} for _ in range(3)]
    answers = python_model.execute([batch_of(clips[:1]), batch_of(clips[1:])])
    expected = OnnxModel(file, device="cpu").run(batch_of(clips))
    for name in meta.output_shapes:
        found = np.concatenate([answer[name] for answer in answers])
        np.testing.assert_allclose(found, getattr(expected, name), rtol=1e-5)
    assert answers[1]["logits"].shape == (2, 3)
