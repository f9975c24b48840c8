"""SeFAR's soft tokens beside the video tokens of a vision-language model: Qwen2.5-VL, Qwen3-VL, LLaVA-OneVision.

Such a model sees the video itself; SeFAR's features are added to the prompt where ``<sefar>`` is written. The
prompt's embeddings are computed here, and the pixels go to the model as usual. In a forward pass, transformers 5.23
takes either ids or embeddings, never both. With embeddings alone, the Qwen models number all tokens consecutively,
as if there were no video, so their positions are computed here from the ids. `generate` takes both and does that.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AddedToken, PreTrainedModel, PreTrainedTokenizerBase

from sefar_serve.atomic import atomic_folder
from sefar_serve.language.errors import AdapterNotFoundError
from sefar_serve.language.protocol import PLACEHOLDER
from sefar_serve.mllm.adapter import (
    DESCRIPTION,
    PROJECTOR,
    AdapterDescription,
    check_fingerprint,
    fingerprint_of,
    read_description,
)
from sefar_serve.mllm.projector import SefarProjector


class SefarBesideVision(nn.Module):
    """A vision-language model that also reads SeFAR's features.

    Args:
        vlm: a loaded model of one of the classes above; unchanged, except that its embedding table gets a row for
            the placeholder if it has none.
        tokenizer: its tokenizer, ``processor.tokenizer``; the placeholder is added to it.
        embedding_dim: width of the clip embedding.
        token_dim: width D of the element tokens.
        elements: E; a clip becomes 1 + E soft tokens.

    Example:
        >>> beside = SefarBesideVision(vlm, processor.tokenizer, embedding_dim=256, token_dim=384, elements=3)
        >>> inputs = processor(text=[beside.expanded(text)], videos=[frames], return_tensors="pt")
        >>> beside.generate(**inputs, sefar_embedding=embedding, sefar_tokens=tokens, max_new_tokens=64)
    """

    def __init__(
        self,
        vlm: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        embedding_dim: int,
        token_dim: int,
        elements: int,
    ) -> None:
        super().__init__()
        tokenizer.add_tokens([AddedToken(PLACEHOLDER, special=True, normalized=False)], special_tokens=True)
        self.sefar_token_id = int(tokenizer.convert_tokens_to_ids(PLACEHOLDER))
        self.tokenizer = tokenizer
        table = vlm.get_input_embeddings().weight
        if self.sefar_token_id >= len(table):
            # Logits processors look prompt ids up in the vocabulary, so the placeholder needs a row of its own.
            vlm.resize_token_embeddings(self.sefar_token_id + 1, mean_resizing=False)
        self.vlm = vlm
        self.projector = SefarProjector(embedding_dim, token_dim, elements, table.shape[1])
        self.projector.to(device=table.device, dtype=table.dtype)
        nn.init.normal_(self.projector.position, std=0.02)

    def expanded(self, text: str) -> str:
        """Repeat each ``<sefar>`` of a prompt as many times as a clip has soft tokens, for the processor."""
        return text.replace(PLACEHOLDER, PLACEHOLDER * (1 + self.projector.elements))

    def embed_prompt(
        self, input_ids: Tensor, sefar_embedding: Tensor | None = None, sefar_tokens: Tensor | None = None
    ) -> Tensor:
        """The prompt's embeddings (B, L, hidden): words and video placeholders looked up, clips projected.

        Args:
            input_ids: int64 (B, L), each clip as 1 + E placeholders.
            sefar_embedding: float (C, embedding_dim), the clips of all rows in reading order; None for no clip.
            sefar_tokens: float (C, E, D).

        Raises:
            FeatureMismatchError, PromptError: see `SefarProjector.placed`.
        """
        is_clip = input_ids == self.sefar_token_id
        words: Tensor = self.vlm.get_input_embeddings()(input_ids.masked_fill(is_clip, 0))
        return self.projector.placed(words, is_clip, sefar_embedding, sefar_tokens)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        sefar_embedding: Tensor | None = None,
        sefar_tokens: Tensor | None = None,
        **inputs: Any,
    ) -> Any:
        """Logits for a whole prompt, without a cache, and the loss if labels are given.

        Args:
            input_ids: see `embed_prompt`.
            attention_mask: int64 (B, L), 0 for padding.
            sefar_embedding: see `embed_prompt`.
            sefar_tokens: see `embed_prompt`.
            inputs: inputs of the vision-language model: ``labels``, ``pixel_values_videos``, ``video_grid_thw``, …

        Raises:
            FeatureMismatchError, PromptError: see `SefarProjector.placed`.
        """
        embeds = self.embed_prompt(input_ids, sefar_embedding, sefar_tokens)
        positions = self._positions(input_ids, attention_mask, inputs)
        output = self.vlm(inputs_embeds=embeds, attention_mask=attention_mask, position_ids=positions, **inputs)
        if not self.training:
            # The placeholder must never be sampled.
            output.logits[..., self.sefar_token_id] = torch.finfo(output.logits.dtype).min
        return output

    @torch.no_grad()
    def generate(
        self,
        input_ids: Tensor,
        sefar_embedding: Tensor | None = None,
        sefar_tokens: Tensor | None = None,
        **inputs: Any,
    ) -> Any:
        """Like the model's own ``generate``: returns the prompt's ids and the generated ids after them."""
        embeds = self.embed_prompt(input_ids, sefar_embedding, sefar_tokens)
        if self._counting() is not None:
            inputs.setdefault(
                "mm_token_type_ids", self._kinds(input_ids)
            )  # without it, tokens are numbered as if there were no video
        never = [*(inputs.pop("suppress_tokens", None) or ()), self.sefar_token_id]
        return self.vlm.generate(input_ids=input_ids, inputs_embeds=embeds, suppress_tokens=never, **inputs)

    def _counting(self) -> Any:
        """The module that computes the position of each token in time, height and width; None if positions are 1-D."""
        return next((module for module in self.vlm.modules() if hasattr(module, "get_rope_index")), None)

    def _positions(self, input_ids: Tensor, attention_mask: Tensor | None, inputs: dict[str, Any]) -> Tensor | None:
        counting = self._counting()
        if counting is None:
            return None
        inputs = {"mm_token_type_ids": self._kinds(input_ids)} | inputs
        taken = {name: inputs[name] for name in _COUNTED_BY if inputs.get(name) is not None}
        positions: Tensor = counting.get_rope_index(input_ids, attention_mask=attention_mask, **taken)[0]
        return positions

    def _kinds(self, input_ids: Tensor) -> Tensor:
        """The type of each token, as the models' processors encode it: 0 text, 1 image, 2 video."""
        kinds = torch.zeros_like(input_ids)
        for number, name in enumerate(("image_token_id", "video_token_id"), start=1):
            kinds = kinds.masked_fill(input_ids == getattr(self.vlm.config, name), number)
        return kinds

    def save(self, folder: Path, *, name: str, encoder: dict[str, str] | None = None) -> Path:
        """Write the projector and the fingerprint of the model that it was trained for.

        Args:
            folder: folder to write; an existing one is replaced atomically.
            name: name of the adapter.
            encoder: ``name`` and ``version`` of the SeFAR model it was trained with; None for any.
        """
        projector = self.projector
        described = AdapterDescription(
            name=name,
            language_model=self.vlm.config.name_or_path,
            fingerprint=fingerprint_of(self.vlm, self.tokenizer, self.sefar_token_id),
            embedding_dim=projector.embedding_dim,
            token_dim=projector.token_dim,
            elements=projector.elements,
            sefar_token_id=self.sefar_token_id,
            encoder=encoder,
        )
        with atomic_folder(folder) as new:
            weights = {key: value.detach().cpu().contiguous() for key, value in projector.state_dict().items()}
            save_file(weights, new / PROJECTOR)
            (new / DESCRIPTION).write_text(described.model_dump_json(indent=2) + "\n", encoding="utf-8")
        return folder

    @classmethod
    def load(cls, folder: Path, vlm: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> SefarBesideVision:
        """Load a saved projector for its model.

        Args:
            folder: folder that `save` wrote.
            vlm: as for the constructor.
            tokenizer: as for the constructor.

        Raises:
            AdapterNotFoundError: there is no such projector in the folder.
            AdapterMismatchError: it was trained for a different model.
        """
        described = read_description(folder)
        if described is None:
            raise AdapterNotFoundError(
                f"{folder} is a whole adapter with its own language model; load it with load_adapter()"
            )
        sizes = described.model_dump(include={"embedding_dim", "token_dim", "elements"})
        beside = cls(vlm, tokenizer, **sizes)
        check_fingerprint(described, fingerprint_of(vlm, tokenizer, beside.sefar_token_id), folder)
        beside.projector.load_state_dict(load_file(folder / PROJECTOR))
        return beside


_COUNTED_BY = ("mm_token_type_ids", "image_grid_thw", "video_grid_thw", "second_per_grid_ts")
