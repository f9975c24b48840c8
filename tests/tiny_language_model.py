"""A language model of a few thousand random weights with its own tokenizer: everything is real except the size."""

from __future__ import annotations

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from sefar_serve.mllm import SefarForConditionalGeneration, SefarMLLMConfig, SefarProcessor
from sefar_serve.mllm.adapter import Adapter

EMBEDDING_DIM, ELEMENTS, TOKEN_DIM, CONTEXT = 8, 3, 4, 256
"""Sizes of the fake engine's features, and the context."""

TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def tiny_tokenizer() -> PreTrainedTokenizerBase:
    """Byte-level BPE over a few words, with a chat template."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<pad>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(["salto forward tucked", "salto backward tucked", "giant circle forward"], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=bpe, pad_token="<pad>", eos_token="<|end|>", chat_template=TEMPLATE)


def tiny_processor() -> SefarProcessor:
    """Its processor."""
    return SefarProcessor(tiny_tokenizer(), embedding_dim=EMBEDDING_DIM, token_dim=TOKEN_DIM, elements=ELEMENTS)


def tiny_adapter(seed: int = 0) -> Adapter:
    """An untrained adapter; weights are large, so that its answers vary with the clip and the question."""
    processor = tiny_processor()
    torch.manual_seed(seed)
    config = SefarMLLMConfig(
        text_config=LlamaConfig(
            vocab_size=len(processor.tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=CONTEXT,
            initializer_range=0.5,
            pad_token_id=processor.tokenizer.pad_token_id,
            eos_token_id=processor.tokenizer.eos_token_id,
        ),
        embedding_dim=EMBEDDING_DIM,
        token_dim=TOKEN_DIM,
        elements=ELEMENTS,
        sefar_token_id=processor.sefar_token_id,
        name="tiny",
        encoder={"name": "fake", "version": "0"},
    )
    return Adapter(SefarForConditionalGeneration(config).eval(), processor)
