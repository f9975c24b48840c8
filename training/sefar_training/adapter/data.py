"""Examples to train on: captions, multiple-choice questions and questions about single attributes, drawn by number.

Example i is drawn from a generator seeded with (seed, i), so a run is the same however its examples are fetched,
and no wording, view or set of options is repeated by design.
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
"""Label of tokens that no loss is taken of."""

Item = dict[str, Tensor]


@dataclass(frozen=True)
class Asked:
    """One exchange about a clip: what is asked, and the answer to be learnt."""

    prompt: str
    answer: str


class Examples:
    """Draws exchanges about clips of known class.

    Args:
        classes: of the data set.
        shares: which kinds of exchange, and how often.
        logits: a classifier's scores of many clips, (N,K): what it confuses on any of them makes hard questions.
            None for none.
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
        """One exchange.

        Args:
            label: class of the clip.
            rng: what it is drawn from.
        """
        kind = rng.random()
        if kind < self._shares.questions:
            return self._question(label, rng)
        if kind < self._shares.questions + self._shares.attributes and self._attributes[label]:
            ways, answer = _one(self._attributes[label], rng)
            return Asked(_one(ways, rng), answer)
        return Asked(_one(CAPTION_PROMPTS, rng), self.caption(label, rng))

    def caption(self, label: int, rng: np.random.Generator) -> str:
        """A sentence that describes a class."""
        return _one(self._captions[label], rng)

    def _question(self, label: int, rng: np.random.Generator) -> Asked:
        kind, shares = rng.random(), self._shares
        if kind < shares.near:
            wrong = self._distractors.wrong("near", label, rng)
        elif kind < shares.near + shares.hard and self._confused[label]:
            # Of some clip, not of this one: around the answer, the options would betray it.
            wrong = [i for i in _one(self._confused[label], rng) if i != label]
        else:
            wrong = self._distractors.wrong("random", label, rng)
        options, answer = self._distractors.options(label, wrong, rng)
        asked = Question(id="", stem=_one(STEMS, rng), options=options, answer=answer, video="")
        # The text, not the letter: a small language model learns to copy what fits long before it learns letters.
        return Asked(asked.text, options[answer])


def _one(choices: Sequence[Any], rng: np.random.Generator) -> Any:
    return choices[int(rng.integers(len(choices)))]


@dataclass(frozen=True, eq=False)
class Taught:
    """The clips that an adapter learns from.

    Attributes:
        features: of N clips.
        labels: int64 (N,), the class each is taken for.
        labelled: how many of them have their true label; the others have the classifier's.
    """

    features: Features
    labels: NDArray[np.int64]
    labelled: int

    @classmethod
    def of(cls, labelled: Features, unlabelled: Features | None, threshold: float) -> Taught:
        """Labelled clips, and those unlabelled ones that the classifier is sure of.

        Args:
            labelled: clips with their labels.
            unlabelled: clips whose labels, if the list has any, are not looked at; None for none.
            threshold: least η of a pseudo-label that counts.
        """
        if unlabelled is None:
            return cls(labelled, labelled.labels, len(labelled))
        sure = unlabelled.eta >= threshold
        kept = unlabelled.chosen(sure)
        labels = np.concatenate([labelled.labels, unlabelled.pseudo_labels[sure]])
        return cls(Features.join([labelled, kept]), labels, len(labelled))


class ClipExamples(Dataset[Item]):
    """Exchanges about clips, as the model is trained on them; see `collate`.

    Args:
        examples: what is asked.
        taught: about which clips.
        processor: of the model.
        length: how many examples there are.
        seed: of all that is drawn.
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
    """The same exchanges with a sentence in place of the clip, about classes drawn evenly.

    Args:
        examples: what is asked.
        processor: of the model.
        length: how many examples there are.
        seed: of all that is drawn.
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
    """One exchange as token ids, written exactly as it will be when it is served.

    Args:
        processor: of the model.
        content: what the user says: texts and clips.
        answer: what is to be learnt; the end of the turn is added.

    Returns:
        ``input_ids`` and ``labels`` int64 (L,), labels `IGNORED` before the answer; ``sefar_embedding``
        (C, embedding_dim) and ``sefar_tokens`` (C, E, D) where there are clips.
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
    """One batch, padded on the left as in serving; the clips of all items in reading order.

    Args:
        items: of `encode`.
        pad: id of the padding.
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
