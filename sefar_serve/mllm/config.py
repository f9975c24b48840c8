"""Configuration of the multimodal model: a causal language model and the encoder whose features it reads."""

from __future__ import annotations

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec


@strict
class SefarMLLMConfig(PreTrainedConfig):  # type: ignore[misc]
    """Configuration of `SefarForConditionalGeneration`.

    Attributes:
        text_config: configuration of the language model, which may be any causal LM that transformers knows.
        embedding_dim: width of the clip embedding.
        token_dim: width D of the element tokens.
        elements: E, the number of temporal elements of a clip, which becomes 1 + E soft tokens.
        sefar_token_id: id of the placeholder in the language model's vocabulary.
        name: the name that clients pass as `model`.
        encoder: ``name`` and ``version`` of the SeFAR model whose features it was trained on; empty for any.
    """

    model_type = "sefar_mllm"
    sub_configs_defaults = {  # noqa: RUF012 - as transformers declares it
        "text_config": SubConfigSpec(config_class=AutoConfig, model_type="llama")
    }

    text_config: dict[str, Any] | PreTrainedConfig | None = None
    embedding_dim: int = 256
    token_dim: int = 384
    elements: int = 3
    sefar_token_id: int = 0
    name: str = "sefar-captioner"
    encoder: dict[str, str] | None = None

    @property
    def soft_tokens(self) -> int:
        """Number of soft tokens per clip."""
        return 1 + self.elements
