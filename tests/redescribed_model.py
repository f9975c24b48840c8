"""Copies of a model that describe themselves differently: an export takes seconds, this does not."""

from __future__ import annotations

import json
from pathlib import Path

import onnx

from sefar_serve.metadata import PREFIX


def write_redescribed(model: Path, out: Path, **metadata: object) -> None:
    """Copy an ONNX file and replace entries of its metadata.

    Args:
        model: the file to copy.
        out: the file to write.
        metadata: fields of `ModelMetadata`; they must still fit the graph.
    """
    loaded = onnx.load(model)
    kept = {prop.key: prop.value for prop in loaded.metadata_props}
    replaced = {PREFIX + key: json.dumps(value) for key, value in metadata.items()}
    onnx.helper.set_model_props(loaded, kept | replaced)
    onnx.save(loaded, out)
