"""Versions of a model with the output `familiarity` in one Triton repository."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from sefar_serve.engine.onnx import OnnxModel
from sefar_serve.triton_server.repository import RepositoryError, publish, versions
from sefar_training.familiarity import add_familiarity
from sefar_training.typical import fit_typical


def version(plain: Path, number: str, references: int, folder: Path) -> Path:
    metadata = OnnxModel(plain, device="cpu").metadata
    rows = np.random.default_rng(0).normal(size=(references + 20, metadata.token_dim))
    typical = fit_typical(rows[20:], rows[:20])
    update = {"familiarity": typical.info, "version": number, "temperature": 1.0 + references}
    proto = onnx.load(plain)
    add_familiarity(proto, typical, metadata.model_copy(update=update))
    file = folder / f"{number}.onnx"
    onnx.save(proto, file)
    return file


def test_versions_may_differ_in_clips_and_temperature_but_not_in_outputs(untrained_model: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    publish(version(untrained_model, "2", 8, tmp_path), models)
    publish(version(untrained_model, "3", 9, tmp_path), models)
    assert versions(models) == [2, 3]
    with pytest.raises(RepositoryError, match=r"differs from the versions in .* in familiarity;"):
        publish(untrained_model, models)
