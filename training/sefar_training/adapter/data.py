"""Training examples: captions, multiple-choice questions and questions about single attributes.

Example i is drawn from a generator seeded with (seed, i), so a run does not depend on how its examples are fetched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from sefar_serve.language.protocol import ClipFeatures, Message
from sefar_serve.mllm import SefarProcessor
from sefar_serve.mllm.prompt import make_prompt

from ..captions import label_captions
from ..data import ClassTable
from .attributes import class_attributes
from .config import AdapterData
from .distractors import Distractors
from .features import Features
from .questions import Question
from .sentences import CAPTION_PROMPTS, STEMS, attribute_questions

IGNORED = -100
"""Label of tokens without a loss."""

Item = dict[str, Tensor]


@dataclass(frozen=True)
class Asked:
    """One exchange about a clip: the prompt and the answer to learn."""

    prompt: str
    answer: str


class Examples:
    """Draws exchanges about clips whose class is known.

    Args:
        classes: classes of the data set.
        shares: how often each kind of exchange is drawn.
        logits: a classifier's scores for many clips, (N,K). The classes that it confuses make hard questions; None
            draws no hard questions.
    """

    def __init__(self, classes: ClassTable, shares: AdapterData, logits: NDArray[np.float32] | None = None) -> None:
        self.classes = classes
        self._shares = shares
        self._distractors = Distractors(classes)
        self._captions = [label_captions(label) for label in classes.labels]
        self._confused: list[list[list[int]]] = [[] for _ in classes.labels]
        for confused in [] if logits is None else self._distractors.confused_sets(logits):
            for label in confused:
                self._confused[label].append(confused)
        self._attributes = [attribute_questions(class_attributes(classes, i)) for i in range(len(classes.labels))]

    def draw(self, label: int, rng: np.random.Generator) -> Asked:
        """Draw one exchange.

        Args:
            label: class of the clip.
            rng: source of the draws.
        """
        kind = rng.random()
        if kind < self._shares.questions:
            return self._question(label, rng)
        if kind < self._shares.questions + self._shares.attributes and self._attributes[label]:
            ways, answer = _one(self._attributes[label], rng)
            return Asked(_one(ways, rng), answer)
        return Asked(_one(CAPTION_PROMPTS, rng), self.caption(label, rng))

    def caption(self, label: int, rng: np.random.Generator) -> str:
        """Draw a sentence that describes a class."""
        return _one(self._captions[label], rng)

    def _question(self, label: int, rng: np.random.Generator) -> Asked:
        kind, shares = rng.random(), self._shares
        if kind < shares.near:
            wrong = self._distractors.wrong("near", label, rng)
        elif kind < shares.near + shares.hard and self._confused[label]:
            # Confused on some other clip. Options chosen around this clip's answer would give the answer away.
            wrong = [i for i in _one(self._confused[label], rng) if i != label]
        else:
            wrong = self._distractors.wrong("random", label, rng)
        options, answer = self._distractors.options(label, wrong, rng)
        asked = Question(id="", stem=_one(STEMS, rng), options=options, answer=answer, video="")
        # The text, not the letter: a small language model learns to copy text long before it learns letters.
        return Asked(asked.text, options[answer])


def _one(choices: Sequence[Any], rng: np.random.Generator) -> Any:
    return choices[int(rng.integers(len(choices)))]


@dataclass(frozen=True, eq=False)
class Taught:
    """The clips that an adapter is trained on.

    Attributes:
        features: features of N clips.
        labels: int64 (N,), the class of each clip.
        labelled: how many of them, at the beginning, have true labels; the rest have pseudo-labels.
    """

    features: Features
    labels: NDArray[np.int64]
    labelled: int

    @classmethod
    def of(cls, labelled: Features, unlabelled: Features | None, threshold: float) -> Taught:
        """Combine labelled clips with the unlabelled ones whose pseudo-labels are reliable.

        Args:
            labelled: clips with labels.
            unlabelled: clips whose labels, if any, are ignored; None for none.
            threshold: smallest η of a pseudo-label that is used.
        """
        if unlabelled is None:
            return cls(labelled, labelled.labels, len(labelled))
        sure = unlabelled.eta >= threshold
        kept = unlabelled.chosen(sure)
        labels = np.concatenate([labelled.labels, unlabelled.pseudo_labels[sure]])
        return cls(Features.join([labelled, kept]), labels, len(labelled))


class ClipExamples(Dataset[Item]):
    """Exchanges about clips, encoded for training; see `collate`.

    Args:
        examples: draws the exchanges.
        taught: the clips.
        processor: the model's processor.
        length: number of examples.
        seed: seed of all draws.
    """

    def __init__(self, examples: Examples, taught: Taught, processor: SefarProcessor, length: int, seed: int) -> None:
        self._examples = examples
        self._taught = taught
        self._processor = processor
        self._length = length
        self._seed = seed

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Item:
        rng = np.random.default_rng((self._seed, index))
        features = self._taught.features
        clip, view = int(rng.integers(len(features))), int(rng.integers(features.views))
        asked = self._examples.draw(int(self._taught.labels[clip]), rng)
        seen = ClipFeatures(features.embedding[clip, view], features.tokens[clip, view])
        return encode(self._processor, (seen, asked.prompt), asked.answer)


class TextExamples(Dataset[Item]):
    """The same exchanges with a sentence instead of a clip; classes are drawn uniformly.

    Args:
        examples: draws the exchanges.
        processor: the model's processor.
        length: number of examples.
        seed: seed of all draws.
    """

    def __init__(self, examples: Examples, processor: SefarProcessor, length: int, seed: int) -> None:
        self._examples = examples
        self._processor = processor
        self._length = length
        self._seed = seed

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Item:
        rng = np.random.default_rng((self._seed, index))
        label = int(rng.integers(len(self._examples.classes.labels)))
        asked = self._examples.draw(label, rng)
        return encode(self._processor, (self._examples.caption(label, rng), asked.prompt), asked.answer)


def encode(processor: SefarProcessor, content: tuple[str | ClipFeatures, ...], answer: str) -> Item:
    """Encode one exchange as token ids, in the same format as in serving.

    Args:
        processor: the model's processor.
        content: the user's message: texts and clips.
        answer: the answer to learn; the end of the turn is added.

    Returns:
        ``input_ids`` and ``labels`` int64 (L,), with labels `IGNORED` before the answer; with clips also
        ``sefar_embedding`` (C, embedding_dim) and ``sefar_tokens`` (C, E, D).
    """
    prompt = make_prompt(processor, [Message("user", content)])
    tokenizer = processor.tokenizer
    ids = [*tokenizer(answer, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    item = {
        "input_ids": torch.tensor([*prompt.ids, *ids]),
        "labels": torch.tensor([IGNORED] * len(prompt.ids) + ids),
    }
    if prompt.sefar_embedding is not None and prompt.sefar_tokens is not None:
        item |= {"sefar_embedding": prompt.sefar_embedding, "sefar_tokens": prompt.sefar_tokens}
    return item


def collate(items: Sequence[Item], pad: int) -> Item:
    """Collate one batch, padded on the left as in serving, with the clips of all items in order.

    Args:
        items: results of `encode`.
        pad: id of the padding token.
    """
    longest = max(len(item["input_ids"]) for item in items)
    input_ids = torch.full((len(items), longest), pad)
    labels = torch.full((len(items), longest), IGNORED)
    attention_mask = torch.zeros(len(items), longest, dtype=torch.long)
    for row, item in enumerate(items):
        length = len(item["input_ids"])
        input_ids[row, longest - length :] = item["input_ids"]
        labels[row, longest - length :] = item["labels"]
        attention_mask[row, longest - length :] = 1
    batch = {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels}
    for name in ("sefar_embedding", "sefar_tokens"):
        clips = [item[name] for item in items if name in item]
        if clips:
            batch[name] = torch.cat(clips)
    return batch
