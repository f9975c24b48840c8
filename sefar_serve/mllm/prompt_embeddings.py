"""Prompts as embedding rows, which a language model on another server takes instead of tokens.

Only the language model's embedding table is loaded here: words are looked up, clips are projected, and the rows
are what `SefarForConditionalGeneration` would compute in this process.
"""

from __future__ import annotations

import base64
import io
from pathlib import Path

import torch
from accelerate import init_empty_weights  # type: ignore[import-untyped]
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoTokenizer, GenerationConfig, PreTrainedConfig

from sefar_serve.language.errors import AdapterMismatchError, AdapterNotFoundError
from sefar_serve.mllm.adapter import (
    LORA,
    PROJECTOR,
    Fingerprint,
    adapter_folder,
    check_fingerprint,
    embedding_fingerprint,
    read_description,
    tokenizer_fingerprint,
)
from sefar_serve.mllm.config import SefarMLLMConfig
from sefar_serve.mllm.model import SefarForConditionalGeneration
from sefar_serve.mllm.processor import SefarProcessor
from sefar_serve.mllm.prompt import Prompt, context_length
from sefar_serve.mllm.stored_weights import StoredWeights

SCALED_ELSEWHERE = {"hrm_text"}
"""Model types that scale embeddings after the lookup in transformers, but as part of it in vLLM."""


class PromptEmbedder:
    """An adapter without its language model's layers.

    The rows are the output of the model's embedding module: Gemma's scales the rows of its table, and vLLM expects
    scaled rows (for Gemma 1 and 2 since pull request 36787 of March 2026; earlier versions scale them again).

    Args:
        adapter: folder or hub id.
        language_model: folder or hub id from which to read the table, instead of the one that the adapter names.

    Attributes:
        config: sizes, the adapter's name and its encoder.
        processor: tokenises.
        language_model: folder or hub id of the language model; for a whole adapter, the adapter's name.
        lora: folder of the LoRA that the server must have loaded; None for none.
        ends: ids of the tokens that end an answer.

    Raises:
        AdapterNotFoundError: there is no such adapter, or its language model cannot be read.
        AdapterMismatchError: the language model is not the one that the adapter was trained for, or it cannot
            take its prompt as rows.
    """

    def __init__(self, adapter: str | Path, *, language_model: str | None = None) -> None:
        folder = adapter_folder(adapter)
        described = read_description(folder)
        self.processor = SefarProcessor.from_pretrained(folder)
        self.lora = folder / LORA if (folder / LORA).is_dir() else None
        if described is None:
            source = str(folder)
            self.config: SefarMLLMConfig = SefarMLLMConfig.from_pretrained(folder)
            self.language_model = self.config.name
        else:
            source = self.language_model = language_model or described.language_model
            sizes = described.model_dump(include={"embedding_dim", "token_dim", "elements", "sefar_token_id"})
            self.config = SefarMLLMConfig(
                text_config=_text_config(source), name=described.name, encoder=described.encoder, **sizes
            )
        check_takes_rows(self.config.text_config)
        with init_empty_weights(include_buffers=False):
            self._model = SefarForConditionalGeneration(self.config).eval()
        stored = StoredWeights(source)
        table = stored.embedding_table(self._model if described is None else self._model.language_model)
        if (missing := self.config.sefar_token_id - len(table)) > 0:
            # The tokenizer has more words than the table: add zero rows for them, as `from_language_model` does.
            table = torch.cat([table, table.new_zeros(missing, table.shape[1])])
        if described is None:
            prefix = "projector."
            weights = {key.removeprefix(prefix): stored[key] for key in stored.names if key.startswith(prefix)}
        else:
            rows = len(table) - 1 if described.sefar_token_id == len(table) - 1 else len(table)
            found = Fingerprint(
                embedding=embedding_fingerprint(table, rows),
                tokenizer=tokenizer_fingerprint(AutoTokenizer.from_pretrained(source)),
            )
            check_fingerprint(described, found, folder)
            weights = load_file(folder / PROJECTOR)
        self._model.get_input_embeddings().weight = nn.Parameter(table, requires_grad=False)
        self._model.projector.load_state_dict({key: value.float() for key, value in weights.items()}, assign=True)
        self.ends = _ends(source) | {int(self.processor.tokenizer.eos_token_id)}

    @property
    def context_length(self) -> int:
        """Maximum number of tokens of prompt and answer together, from the language model's configuration."""
        return context_length(self.config.text_config)

    @property
    def placeholder_row(self) -> int | None:
        """Id of the placeholder if the language model has a row for it and could generate it; otherwise None."""
        rows = self._model.language_model.config.vocab_size
        return self.config.sefar_token_id if self.config.sefar_token_id < rows else None

    @torch.inference_mode()
    def rows(self, prompt: Prompt) -> Tensor:
        """A prompt as rows (L, hidden) in the dtype of the language model's table.

        Raises:
            FeatureMismatchError, PromptError: see `SefarForConditionalGeneration.embed_prompt`.
        """
        ids = torch.tensor([prompt.ids], dtype=torch.long)
        rows: Tensor = self._model.embed_prompt(ids, prompt.sefar_embedding, prompt.sefar_tokens)[0]
        return rows


def serialized(rows: Tensor) -> str:
    """Rows in the format that vLLM reads: base64 of ``torch.save``.

    Args:
        rows: float (L, hidden).
    """
    buffer = io.BytesIO()
    # A clone, because a view would be saved with its whole storage.
    torch.save(rows.detach().clone(), buffer)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def check_takes_rows(config: PreTrainedConfig) -> None:
    """Check that a language model can take its prompt as embeddings alone.

    Raises:
        AdapterMismatchError: it cannot.
    """
    if config.model_type in SCALED_ELSEWHERE or getattr(config, "hidden_size_per_layer_input", None):
        raise AdapterMismatchError(
            f"a {config.model_type} model needs more of a prompt than its embeddings (token ids in every layer, or a "
            "scaling that vLLM does elsewhere), so it cannot take clips through vLLM; run it in this process"
        )


def _text_config(source: str) -> PreTrainedConfig:
    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise AdapterNotFoundError(
            f"the language model {source} that the adapter names cannot be read: {error}"
        ) from error
    return config


def _ends(source: str) -> set[int]:
    try:
        ends = GenerationConfig.from_pretrained(source).eos_token_id
    except OSError:  # not every model has such a file
        return set()
    return {int(end) for end in (ends if isinstance(ends, list) else [ends]) if end is not None}
