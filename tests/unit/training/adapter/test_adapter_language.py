from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sefar_training.adapter.config import TinyLanguageModel
from sefar_training.adapter.language import all_sentences, make_language_model, train_tokenizer
from sefar_training.captions import label_captions
from sefar_training.data import ClassTable
from sefar_training.synthgym import CLASSES

SYNTHGYM = ClassTable(tuple(a.name for a in CLASSES), tuple(a.attributes for a in CLASSES))


@pytest.fixture(scope="module")
def tokenizer():  # type: ignore[no-untyped-def]
    return train_tokenizer(all_sentences(SYNTHGYM), 768)


def test_every_text_survives_and_known_ones_are_short(tokenizer) -> None:  # type: ignore[no-untyped-def]
    for text in ("Größe 🤸 3.14\n\ttab", "  two  spaces ", label_captions(CLASSES[3].name)[0]):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert max(len(tokenizer(sentence)["input_ids"]) for sentence in label_captions(CLASSES[3].name)) < 20
    assert len(tokenizer) <= 768


def test_the_chat_template_marks_turns_and_the_end(tokenizer) -> None:  # type: ignore[no-untyped-def]
    chat = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}, {"role": "user", "content": "?"}]
    text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert text == "<|user|>Hi<|end|><|assistant|>Ho<|end|><|user|>?<|end|><|assistant|>"
    assert tokenizer.eos_token == "<|end|>" and tokenizer.pad_token != tokenizer.eos_token
    assert len(tokenizer(text)["input_ids"]) == 7 + len(tokenizer("HiHo?")["input_ids"])


def test_the_same_sentences_give_the_same_tokenizer_in_every_process(tokenizer) -> None:  # type: ignore[no-untyped-def]
    code = (
        "from test_adapter_language import *;"
        "t = train_tokenizer(all_sentences(SYNTHGYM), 768);"
        "print(hashlib.sha256(json.dumps(sorted(t.get_vocab().items())).encode()).hexdigest())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
    )
    ours = hashlib.sha256(json.dumps(sorted(tokenizer.get_vocab().items())).encode()).hexdigest()
    assert done.stdout.split()[-1] == ours


def test_language_model_has_a_million_seeded_parameters(tokenizer) -> None:  # type: ignore[no-untyped-def]
    sizes = TinyLanguageModel()
    model = make_language_model(sizes, tokenizer, len(tokenizer), seed=1)
    assert 0.7e6 < model.num_parameters() < 1.1e6
    assert model.config.max_position_embeddings == 512 and model.config.eos_token_id == tokenizer.eos_token_id
    again = make_language_model(sizes, tokenizer, len(tokenizer), seed=1)
    other = make_language_model(sizes, tokenizer, len(tokenizer), seed=2)
    first = next(model.parameters())
    assert torch.equal(first, next(again.parameters())) and not torch.equal(first, next(other.parameters()))
