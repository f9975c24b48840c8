"""An adapter binds to the encoder that it was trained with, whatever that one sees."""

from __future__ import annotations

import pytest
from pose_models import BOTH, POSE

from sefar_serve.language import AdapterMismatchError
from sefar_serve.metadata import ModelMetadata
from sefar_serve.mllm.adapter import AdapterDescription, Fingerprint, check_encoder


@pytest.mark.parametrize("encoder", [POSE, BOTH], ids=["pose", "both"])
def test_an_encoder_of_joints(encoder: ModelMetadata) -> None:
    adapter = AdapterDescription(
        name="strokes",
        language_model="tiny",
        fingerprint=Fingerprint(embedding="e", tokenizer="t"),
        embedding_dim=encoder.embedding_dim,
        token_dim=encoder.token_dim,
        elements=len(encoder.sample_frames),
        sefar_token_id=0,
        encoder={"name": encoder.name, "version": encoder.version},
    )
    check_encoder(adapter, encoder)
    with pytest.raises(AdapterMismatchError, match="train an adapter for it"):
        check_encoder(adapter, encoder.model_copy(update={"name": "another"}))
