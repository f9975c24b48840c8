"""A model's description survives the ONNX metadata, and a wrong one is refused."""

from __future__ import annotations

import pytest

from sefar_serve.engine import FAKE_METADATA
from sefar_serve.metadata import MetadataError, ModelMetadata


def test_round_trip() -> None:
    props = FAKE_METADATA.to_props() | {"foreign": "not ours"}
    assert ModelMetadata.from_props(props, "m.onnx") == FAKE_METADATA


def test_error_for_a_file_without_metadata_says_how_to_export() -> None:
    with pytest.raises(MetadataError, match=r"m\.onnx.*sefar export"):
        ModelMetadata.from_props({"producer": "x"}, "m.onnx")


def test_broken_json_names_the_key() -> None:
    with pytest.raises(MetadataError, match=r"sefar\.labels"):
        ModelMetadata.from_props(FAKE_METADATA.to_props() | {"sefar.labels": "["}, "m.onnx")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"size": 64}, "larger than resize"),
        ({"attributes": ({},)}, "1 attributes for 3 labels"),
        ({"opposites": (None,)}, "1 opposites for 3 labels"),
        ({"sample_frames": ()}, "sample_frames is empty"),
        ({"layout": "random"}, "layout"),
    ],
)
def test_contradictions_are_refused(change: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        ModelMetadata(**(FAKE_METADATA.model_dump() | change))
