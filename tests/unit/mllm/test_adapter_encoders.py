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
    trained = f"the captioner strokes was trained for {encoder.name}, version 1"
    with pytest.raises(AdapterMismatchError, match=f"{trained}, but the model here is another, version 1. Use that"):
        check_encoder(adapter, encoder.model_copy(update={"name": "another"}))
    with pytest.raises(
        AdapterMismatchError,
        match=f"{trained} with an embedding of 8 and 3 tokens of 4 numbers, but .* of 16 and 3 tokens of 4 numbers",
    ):
        check_encoder(adapter, encoder.model_copy(update={"embedding_dim": 16}))
    with pytest.raises(AdapterMismatchError, match="was trained for any model with an embedding of 8 and"):
        check_encoder(adapter.model_copy(update={"encoder": None}), encoder.model_copy(update={"embedding_dim": 16}))
