"""The multimodal model: SeFAR features become soft tokens in the prompt of a causal language model.

The language model is kept unchanged, including its head: it applies its own soft-capping, scaling or biases of
logits, and a LoRA trained on it is a LoRA of the plain model.
"""

from __future__ import annotations

import copy
from inspect import signature
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, GenerationMixin, PreTrainedModel, initialization
from transformers.modeling_outputs import CausalLMOutputWithPast

from sefar_serve.mllm.config import SefarMLLMConfig
from sefar_serve.mllm.projector import SefarProjector


class SefarForConditionalGeneration(PreTrainedModel, GenerationMixin):  # type: ignore[misc]
    """A causal language model that reads clips.

    Each clip is 1 + E consecutive placeholders in `input_ids`; `SefarProcessor` writes them.

    Args:
        config: sizes, and the language model's configuration.
        language_model: used as it is; None creates an untrained one from the configuration.
    """

    config_class = SefarMLLMConfig
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = False
    _skip_keys_device_placement = ["past_key_values"]  # noqa: RUF012 - as transformers declares it

    def __init__(self, config: SefarMLLMConfig, language_model: PreTrainedModel | None = None) -> None:
        super().__init__(config)
        self.language_model = (
            language_model if language_model is not None else AutoModelForCausalLM.from_config(config.text_config)
        )
        hidden = self.language_model.get_input_embeddings().weight.shape[1]
        self.projector = SefarProjector(config.embedding_dim, config.token_dim, config.elements, hidden)
        self.post_init()

    @classmethod
    def from_language_model(
        cls,
        name_or_path: str,
        *,
        embedding_dim: int,
        token_dim: int,
        elements: int,
        sefar_token_id: int,
        **options: Any,
    ) -> SefarForConditionalGeneration:
        """Combine a pretrained language model with an untrained projector.

        Args:
            name_or_path: folder or hub id of the language model.
            embedding_dim: width of the clip embedding.
            token_dim: width D of the element tokens.
            elements: E.
            sefar_token_id: id of the placeholder; the embedding table grows if it has no row for it.
            options: for ``AutoModelForCausalLM.from_pretrained``, e.g. ``dtype``.
        """
        # Only safetensors: files of torch.save can run code.
        language_model = AutoModelForCausalLM.from_pretrained(name_or_path, use_safetensors=True, **options)
        rows = language_model.get_input_embeddings().weight.shape[0]
        if sefar_token_id >= rows:
            # Logits processors look prompt ids up in the vocabulary, so the placeholder needs a row of its own.
            language_model.resize_token_embeddings(sefar_token_id + 1, mean_resizing=False)
            for table in (language_model.get_input_embeddings(), language_model.get_output_embeddings()):
                # Zeros are the same at every load: a tokenizer may have more words than the table, and then the
                # fingerprint includes these rows.
                table.weight.data[rows:] = 0
        config = SefarMLLMConfig(
            # A copy: choosing an attention implementation for the whole would override the language model's own choice.
            text_config=copy.deepcopy(language_model.config),
            embedding_dim=embedding_dim,
            token_dim=token_dim,
            elements=elements,
            sefar_token_id=sefar_token_id,
        )
        model = cls(config, language_model)
        model.projector.to(device=language_model.device, dtype=language_model.dtype)
        model.generation_config = language_model.generation_config
        return model

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, SefarProjector):
            initialization.normal_(module.position, std=0.02)

    @property
    def plain_language_model(self) -> PreTrainedModel:
        """The language model without the LoRA around it."""
        around = self.language_model
        return around.get_base_model() if isinstance(around, PeftModel) else around

    def get_input_embeddings(self) -> nn.Module:
        """The language model's embedding table."""
        table: nn.Module = self.language_model.get_input_embeddings()
        return table

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the language model's embedding table."""
        self.language_model.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        """The language model's head."""
        head: nn.Module = self.language_model.get_output_embeddings()
        return head

    def set_output_embeddings(self, value: nn.Module) -> None:
        """Replace the language model's head."""
        self.language_model.set_output_embeddings(value)

    def embed_prompt(self, input_ids: Tensor, sefar_embedding: Tensor | None, sefar_tokens: Tensor | None) -> Tensor:
        """The prompt's embeddings (B, L, hidden): words looked up, clips projected.

        Args:
            input_ids: int64 (B, L), each clip as 1 + E placeholders.
            sefar_embedding: float (C, embedding_dim), the clips of all rows in reading order; None for no clip.
            sefar_tokens: float (C, E, D).

        Raises:
            FeatureMismatchError: the features have other sizes than the model takes.
            PromptError: the number of placeholders does not fit the clips.
        """
        is_clip = input_ids == self.config.sefar_token_id
        words: Tensor = self.get_input_embeddings()(input_ids.masked_fill(is_clip, 0))
        return self.projector.placed(words, is_clip, sefar_embedding, sefar_tokens)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        sefar_embedding: Tensor | None = None,
        sefar_tokens: Tensor | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Logits over the vocabulary, and the loss if labels are given.

        Args:
            input_ids: int64 (B, L).
            attention_mask: int64 (B, L), 0 for padding.
            position_ids: int64 (B, L); None counts the tokens in the mask, so that padding does not shift positions.
            inputs_embeds: float (B, L, hidden), instead of `input_ids` and the features.
            labels: int64 (B, L), -100 for positions without a loss.
            sefar_embedding: see `embed_prompt`.
            sefar_tokens: see `embed_prompt`.
            kwargs: passed to the language model.

        Raises:
            FeatureMismatchError, PromptError: see `embed_prompt`.
        """
        if inputs_embeds is None:
            if input_ids is None:
                raise ValueError("give input_ids or inputs_embeds")
            inputs_embeds = self.embed_prompt(input_ids, sefar_embedding, sefar_tokens)
            kwargs |= self._per_layer_inputs(input_ids)
        if position_ids is None and attention_mask is not None and kwargs.get("past_key_values") is None:
            position_ids = (attention_mask.long().cumsum(-1) - 1).clamp(min=0)
        if position_ids is not None and "position_ids" in signature(self.plain_language_model.forward).parameters:
            kwargs["position_ids"] = position_ids
        output: CausalLMOutputWithPast = self.language_model(
            inputs_embeds=inputs_embeds, attention_mask=attention_mask, labels=labels, **kwargs
        )
        if not self.training:
            # The placeholder must never be sampled: it is not a word of the plain language model.
            output.logits[..., self.config.sefar_token_id] = torch.finfo(output.logits.dtype).min
        return output

    def _per_layer_inputs(self, input_ids: Tensor) -> dict[str, Tensor]:
        """The embeddings that Gemma 3n and 4 look up for each layer; there a clip is padding, as in these models."""
        config = self.plain_language_model.config
        if not getattr(config, "hidden_size_per_layer_input", None):
            return {}
        words = input_ids.masked_fill(input_ids == self.config.sefar_token_id, config.pad_token_id or 0)
        return {"per_layer_inputs": self.plain_language_model.get_decoder().get_per_layer_inputs(words)}

    def prepare_inputs_for_generation(
        self,
        input_ids: Tensor,
        *args: Any,
        sefar_embedding: Tensor | None = None,
        sefar_tokens: Tensor | None = None,
        is_first_iteration: bool = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """The inputs of one step: clips are passed with the prompt only, not with the cached steps after it."""
        # Use the language model's own method: some classes take masks or caches of unusual shapes.
        inputs: dict[str, Any] = self.plain_language_model.prepare_inputs_for_generation(
            input_ids, *args, is_first_iteration=is_first_iteration, **kwargs
        )
        if is_first_iteration or not kwargs.get("use_cache", True):
            inputs |= {"sefar_embedding": sefar_embedding, "sefar_tokens": sefar_tokens}
        return inputs

    def _expand_inputs_for_generation(
        self, expand_size: int = 1, is_encoder_decoder: bool = False, input_ids: Tensor | None = None, **inputs: Any
    ) -> tuple[Tensor, dict[str, Any]]:
        # Beam search repeats rows, and the clips of each row, of which there may be any number, must be repeated too.
        clips = {name: inputs.pop(name, None) for name in ("sefar_embedding", "sefar_tokens")}
        if expand_size > 1 and input_ids is not None and clips["sefar_embedding"] is not None:
            in_row = (input_ids == self.config.sefar_token_id).sum(dim=1) // self.config.soft_tokens
            order = torch.split(torch.arange(int(in_row.sum()), device=input_ids.device), in_row.tolist())
            rows = torch.cat([row for row in order for _ in range(expand_size)])
            clips = {name: values[rows.to(values.device)] for name, values in clips.items()}
        input_ids, inputs = super()._expand_inputs_for_generation(
            expand_size=expand_size, is_encoder_decoder=is_encoder_decoder, input_ids=input_ids, **inputs
        )
        return input_ids, inputs | {name: values for name, values in clips.items() if values is not None}
