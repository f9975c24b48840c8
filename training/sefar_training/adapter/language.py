"""A tiny language model from scratch: a byte-level tokenizer, a small Llama, and sentences to train on.

It learns language before it sees clips: instead of a clip it reads a sentence that describes it, and answers the same
questions. The projector then only has to express in soft tokens what the sentence said.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from ..captions import label_captions
from ..data import ClassTable
from .attributes import class_attributes
from .config import TinyLanguageModel
from .distractors import Distractors
from .sentences import CAPTION_PROMPTS, STEMS, attribute_questions

PAD, END = "<|pad|>", "<|end|>"
ROLES = ("system", "user", "assistant")

CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def all_sentences(classes: ClassTable) -> list[str]:
    """Every sentence and option that can occur in questions and answers about these classes."""
    found: dict[str, None] = dict.fromkeys((*CAPTION_PROMPTS, *STEMS))
    for i, label in enumerate(classes.labels):
        found.update(dict.fromkeys(label_captions(label)))
        for ways, answer in attribute_questions(class_attributes(classes, i)):
            found.update(dict.fromkeys((*ways, answer)))
    texts = Distractors(classes).texts
    found.update(dict.fromkeys(f"{letter}.{text}" for text in texts for letter in "ABCD"))
    found.update(dict.fromkeys(texts))
    return list(found)


def train_tokenizer(sentences: Iterable[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer with chat markers; the same sentences give the same tokenizer.

    Args:
        sentences: training text for merges; any other text falls back to bytes.
        vocabulary: largest number of entries, including markers.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[PAD, END, *(f"<|{role}|>" for role in ROLES)],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sentences, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[f"<|{role}|>" for role in ROLES],
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def make_language_model(
    sizes: TinyLanguageModel, tokenizer: PreTrainedTokenizerFast, rows: int, seed: int
) -> LlamaForCausalLM:
    """Build an untrained Llama, with about a million parameters in the default sizes.

    Args:
        sizes: sizes of the model.
        tokenizer: for the ids of the end and padding tokens.
        rows: rows of the embedding table.
        seed: seed of the weights.
    """
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=rows,
        hidden_size=sizes.hidden,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        num_key_value_heads=sizes.heads,
        intermediate_size=sizes.intermediate,
        max_position_embeddings=sizes.context,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)
