"""Fixtures of the vLLM tests: a language model, an adapter, and a stand-in server that runs the same model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_language_model import (
    tiny_adapter,
    tiny_tokenizer,
)
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
)
from vllm_generators import make_adapter
from vllm_stand_in import StandIn, free_port

from sefar_serve.mllm.adapter import Adapter, load_adapter
from sefar_serve.mllm.vllm import upstream


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream, "RETRY_SECONDS", 0.05)


@pytest.fixture(scope="module")
def language_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain language model as published ones are, without a placeholder."""
    folder = tmp_path_factory.mktemp("language-model")
    model = tiny_adapter().model.language_model
    tokenizer = tiny_tokenizer()
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def adapter(language_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_adapter(language_model, tmp_path_factory.mktemp("adapter") / "captioner")


@pytest.fixture(scope="module")
def here(adapter: Path) -> Adapter:
    """The same adapter in this process."""
    return load_adapter(adapter, device="cpu")


@pytest.fixture
def new_server(language_model: Path) -> Callable[..., StandIn]:
    def make(folder: Path = language_model, **options: Any) -> StandIn:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        options = {"root": str(folder), "name": str(folder)} | options
        return StandIn(model, AutoTokenizer.from_pretrained(folder), free_port(), **options)

    return make


@pytest.fixture
def server(new_server: Callable[..., StandIn]) -> Iterator[StandIn]:
    with new_server().serving() as running:
        yield running
