"""A tiny language model from nothing: a byte-level tokenizer, a small Llama, and sentences to learn from.

It learns to talk before it sees: where the finished model reads a clip, this one reads a sentence that describes
it, and answers the same questions. The projector then only has to say with soft tokens what the sentence said.
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
    """Every sentence and option that is ever asked or answered about these classes."""
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
    """Byte-level BPE with the marks of a chat; the same sentences give the same tokenizer.

    Args:
        sentences: what to learn merges from; any other text is spelt in bytes.
        vocabulary: entries at most, marks included.
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
    """An untrained Llama, about a million parameters as the sizes are by default.

    Args:
        sizes: of the model.
        tokenizer: for the ids of its end and padding.
        rows: of its embedding table.
        seed: of its weights.
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
