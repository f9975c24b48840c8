"""Adapters on disk: the weights that let a language model read SeFAR features, and that model's fingerprint.

There are two kinds. A *whole* adapter holds everything, including the language model, as transformers saves it:
the tiny one that ships is whole. Other adapters hold the projector, optionally a LoRA (an ordinary LoRA of the
plain language model, which vLLM can serve unchanged), the tokenizer with the placeholder, and the folder or hub
id of the language model. A different model of the same width would accept the soft tokens and answer nonsense, so
a fingerprint of the embedding table and the tokenizer is stored and compared.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from peft import PeftModel
from peft.utils import SAFETENSORS_WEIGHTS_NAME
from pydantic import BaseModel, ConfigDict
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedTokenizerBase
from transformers.utils import logging as hf_logging

from sefar_serve.atomic import atomic_folder
from sefar_serve.language.errors import AdapterMismatchError, AdapterNotFoundError
from sefar_serve.language.protocol import PLACEHOLDER
from sefar_serve.metadata import ModelMetadata
from sefar_serve.mllm.config import SefarMLLMConfig
from sefar_serve.mllm.model import SefarForConditionalGeneration
from sefar_serve.mllm.processor import SefarProcessor
from sefar_serve.quantity import quantity

DESCRIPTION = "sefar_adapter.json"
PROJECTOR = "projector.safetensors"
LORA = "lora"

_ROWS = 256
"""Number of rows of the embedding table in its fingerprint: enough to tell models apart, and fast for large ones."""


class Fingerprint(BaseModel):
    """Tells a language model from others of the same width."""

    model_config = ConfigDict(frozen=True)

    embedding: str
    tokenizer: str


class AdapterDescription(BaseModel):
    """The description of an adapter that is stored without its language model.

    Attributes:
        name: the name that clients pass as `model`.
        language_model: folder or hub id of the language model.
        fingerprint: fingerprint of that language model.
        embedding_dim: width of the clip embedding.
        token_dim: width D of the element tokens.
        elements: E, the number of temporal elements.
        sefar_token_id: id of the placeholder.
        encoder: ``name`` and ``version`` of the SeFAR model it was trained with; None for any.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    language_model: str
    fingerprint: Fingerprint
    embedding_dim: int
    token_dim: int
    elements: int
    sefar_token_id: int
    encoder: dict[str, str] | None = None


class Adapter(NamedTuple):
    """A loaded adapter, ready to generate."""

    model: SefarForConditionalGeneration
    processor: SefarProcessor


def embedding_fingerprint(table: Tensor, rows: int) -> str:
    """Digest of an embedding table; it does not depend on the dtype that the table is loaded in.

    Args:
        table: float (at least `rows`, hidden); rows that were added for placeholders are ignored.
        rows: V, the number of rows of the language model as it was published.
    """
    chosen = torch.linspace(0, rows - 1, min(_ROWS, rows)).long()
    sample = table.detach()[chosen.to(table.device)].to("cpu", torch.bfloat16).view(torch.int16)
    return hashlib.sha256(f"{rows}x{table.shape[1]}:".encode() + sample.numpy().tobytes()).hexdigest()


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """Digest of a tokenizer's vocabulary and chat template; the placeholder is ignored."""
    vocabulary = sorted((token, i) for token, i in tokenizer.get_vocab().items() if token != PLACEHOLDER)
    return hashlib.sha256(json.dumps([vocabulary, tokenizer.chat_template]).encode()).hexdigest()


def save_adapter(
    model: SefarForConditionalGeneration,
    processor: SefarProcessor,
    folder: Path,
    *,
    whole: bool,
    dtype: torch.dtype | None = None,
) -> Path:
    """Write an adapter atomically, replacing an existing one.

    Args:
        model: trained; its ``language_model`` may be a PEFT model with a LoRA.
        processor: its processor.
        folder: folder to write.
        whole: store the language model as well, because it cannot be loaded from anywhere else.
        dtype: dtype of the stored weights; None keeps their own.

    Returns:
        The folder.

    Raises:
        ValueError: the adapter is whole but has a LoRA; merge it first.
    """
    lora = isinstance(model.language_model, PeftModel)
    if whole and lora:
        raise ValueError(
            "a whole adapter cannot hold a LoRA; merge the LoRA first (model.language_model.merge_and_unload())"
        )
    with atomic_folder(folder) as new:
        if whole:
            # Cast a copy: casting the model itself would lose precision if its training continues.
            (model if dtype is None else copy.deepcopy(model).to(dtype)).save_pretrained(new)
        else:
            _save_parts(model, processor, new, dtype)
        processor.save_pretrained(new)
    return folder


def _save_parts(
    model: SefarForConditionalGeneration, processor: SefarProcessor, folder: Path, dtype: torch.dtype | None
) -> None:
    weights = {k: v.detach().cpu().contiguous().to(dtype or v.dtype) for k, v in model.projector.state_dict().items()}
    save_file(weights, folder / PROJECTOR)
    language_model = model.language_model
    if isinstance(language_model, PeftModel):
        language_model.save_pretrained(folder / LORA, save_embedding_layers=False)
        language_model = language_model.get_base_model()
    config = model.config
    described = AdapterDescription(
        name=config.name,
        language_model=language_model.config.name_or_path,
        fingerprint=fingerprint_of(language_model, processor.tokenizer, config.sefar_token_id),
        embedding_dim=config.embedding_dim,
        token_dim=config.token_dim,
        elements=config.elements,
        sefar_token_id=config.sefar_token_id,
        encoder=config.encoder,
    )
    (folder / DESCRIPTION).write_text(described.model_dump_json(indent=2) + "\n", encoding="utf-8")


def fingerprint_of(language_model: Any, tokenizer: PreTrainedTokenizerBase, sefar_token_id: int) -> Fingerprint:
    """The fingerprint of a loaded language model, whether or not its table has a row for the placeholder already."""
    table: Tensor = language_model.get_input_embeddings().weight
    rows = sefar_token_id if sefar_token_id == len(table) - 1 else len(table)
    return Fingerprint(embedding=embedding_fingerprint(table, rows), tokenizer=tokenizer_fingerprint(tokenizer))


def adapter_folder(name_or_path: str | Path) -> Path:
    """The folder of an adapter; if it is not a local folder, it is downloaded from the hub.

    Raises:
        AdapterNotFoundError: it is neither a local folder nor an adapter on the hub.
    """
    if Path(name_or_path).is_dir():
        return Path(name_or_path)
    try:
        return Path(snapshot_download(str(name_or_path)))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise AdapterNotFoundError(
            f"{name_or_path} is not a local folder, and it cannot be downloaded from the Hugging Face hub: {error}"
        ) from error


def read_description(folder: Path) -> AdapterDescription | None:
    """The description of an adapter that is stored without its language model; None for a whole adapter.

    Raises:
        AdapterNotFoundError: the folder does not hold an adapter.
    """
    try:
        if (folder / DESCRIPTION).is_file():
            return AdapterDescription.model_validate_json((folder / DESCRIPTION).read_text(encoding="utf-8"))
        kind = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
    except (FileNotFoundError, ValueError) as error:
        raise AdapterNotFoundError(
            f"{folder} is not an adapter: it has neither {DESCRIPTION} nor a readable config.json ({error}); "
            "give the folder that `sefar adapter train` wrote"
        ) from error
    if kind != SefarForConditionalGeneration.config_class.model_type:
        raise AdapterNotFoundError(
            f"{folder} holds a {kind} model, not an adapter; train one for it with `sefar adapter train`"
        )
    return None


def load_adapter(
    name_or_path: str | Path, *, device: Literal["auto", "cpu", "cuda"] = "auto", language_model: str | None = None
) -> Adapter:
    """Load an adapter with its language model, in eval mode.

    Args:
        name_or_path: folder or hub id.
        device: where it runs; ``auto`` uses a GPU if there is one. On the CPU weights are float32.
        language_model: folder or hub id from which to load the language model, instead of the one that the
            adapter names.

    Raises:
        AdapterNotFoundError: there is no such adapter.
        AdapterMismatchError: the language model is not the one that the adapter was trained for.
    """
    folder = adapter_folder(name_or_path)
    where = "cuda" if device == "cuda" or (device == "auto" and torch.cuda.is_available()) else "cpu"
    dtype = torch.float32 if where == "cpu" else "auto"
    described = read_description(folder)
    processor = SefarProcessor.from_pretrained(folder)
    if described is None:
        with _without_progress_bars():  # a whole adapter is small; bars would only clutter logs
            model = SefarForConditionalGeneration.from_pretrained(folder, dtype=dtype, use_safetensors=True)
        return Adapter(model.to(where).eval(), processor)
    model = SefarForConditionalGeneration.from_language_model(
        language_model or described.language_model,
        embedding_dim=described.embedding_dim,
        token_dim=described.token_dim,
        elements=described.elements,
        sefar_token_id=described.sefar_token_id,
        dtype=dtype,
    )
    check_fingerprint(
        described, fingerprint_of(model.language_model, processor.tokenizer, described.sefar_token_id), folder
    )
    model.config.name, model.config.encoder = described.name, described.encoder
    model.projector.load_state_dict(load_file(folder / PROJECTOR))
    if (folder / LORA).is_dir():
        if not (folder / LORA / SAFETENSORS_WEIGHTS_NAME).is_file():
            # peft would load a file of torch.save instead, which can run code.
            found = f"{folder / LORA} has no {SAFETENSORS_WEIGHTS_NAME}"
            raise AdapterNotFoundError(f"{found}; copy the whole adapter again")
        model.language_model = PeftModel.from_pretrained(model.language_model, folder / LORA).merge_and_unload()
    return Adapter(model.to(where).eval(), processor)


@contextmanager
def _without_progress_bars() -> Iterator[None]:
    shown = hf_logging.is_progress_bar_enabled()
    hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            hf_logging.enable_progress_bar()


def check_fingerprint(described: AdapterDescription, found: Fingerprint, folder: Path) -> None:
    """Check that a language model is the one that the adapter was trained for.

    Raises:
        AdapterMismatchError: it is not; the message names what differs.
    """
    differing = [
        part for part in Fingerprint.model_fields if getattr(found, part) != getattr(described.fingerprint, part)
    ]
    if differing:
        raise AdapterMismatchError(
            f"{folder} was trained for {described.language_model}, but the given language model has a different "
            f"{' and a different '.join(differing)}; use the same model and revision, or train a new adapter"
        )


def check_encoder(adapter: AdapterDescription | SefarMLLMConfig, metadata: ModelMetadata) -> None:
    """Check that an encoder is the one that an adapter was trained with.

    Args:
        adapter: description of the adapter.
        metadata: description of the encoder.

    Raises:
        AdapterMismatchError: name, version or sizes differ.
    """
    sizes = (adapter.embedding_dim, adapter.token_dim, adapter.elements)
    found = (metadata.embedding_dim, metadata.token_dim, len(metadata.sample_frames))
    trained_with = adapter.encoder or {}
    given = {"name": metadata.name, "version": metadata.version}
    if sizes != found or any(given[key] != value for key, value in trained_with.items() if key in given):
        wanted, served = _model_text(trained_with), _model_text(given)
        if sizes != found:
            wanted, served = f"{wanted} with {_sizes_text(*sizes)}", f"{served} with {_sizes_text(*found)}"
        raise AdapterMismatchError(
            f"the captioner {adapter.name} was trained for {wanted}, but the model here is {served}. Use that model, "
            "or another captioner (`captioner`), or train one for this model: sefar adapter train"
        )


def _model_text(encoder: Mapping[str, str]) -> str:
    version = f", version {encoder['version']}" if "version" in encoder else ""
    return encoder["name"] + version if "name" in encoder else f"any model{version}"


def _sizes_text(embedding_dim: int, token_dim: int, elements: int) -> str:
    return f"an embedding of {embedding_dim} and {quantity(elements, 'token')} of {token_dim} numbers"
