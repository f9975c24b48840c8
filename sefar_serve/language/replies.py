"""What a language model says of a clip, held against what the classifier says of it.

The gateway and the command line both write captions and answers through here, so they cannot disagree. A text that
names another class than the classifier is said to; where the classifier is not sure of itself either, it may
be withheld.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sefar_serve.engine import Outputs
from sefar_serve.language import (
    FinishReason,
    GenerationOptions,
    Generator,
    Message,
    Piece,
    TokenUsage,
)
from sefar_serve.language.agreement import Agreement, compare, named_label
from sefar_serve.language.choices import LETTERS
from sefar_serve.metadata import ModelMetadata
from sefar_serve.reliability import reliability, softmax


@dataclass(frozen=True, eq=False)
class Verdict:
    """What the classifier says of the clip that a text is about.

    Attributes:
        labels: names of the K classes.
        logits: float32 (K,).
        reliability: η in (0, 1].
    """

    labels: Sequence[str]
    logits: NDArray[np.float32]
    reliability: float

    @classmethod
    def of(cls, outputs: Outputs, metadata: ModelMetadata) -> Verdict:
        """What a model's outputs for one clip amount to."""
        return cls(metadata.labels, outputs.logits, reliability(outputs.mc_logits))

    @property
    def best(self) -> int:
        """The most probable class."""
        return int(self.logits.argmax())

    def told(self) -> str:
        """The classifier's answer in words."""
        score = float(softmax(self.logits)[self.best])
        return f"{self.labels[self.best]} ({score:.0%}, reliability {self.reliability:.2f})"


@dataclass(frozen=True)
class ScoredChoice:
    """One option of a multiple-choice question, judged.

    Attributes:
        letter: A for the first.
        text: of the option.
        logprob: sum of the natural log-probabilities of its tokens, its end included.
        tokens: how many they are.
        probability: among the options, by `logprob`.
    """

    letter: str
    text: str
    logprob: float
    tokens: int
    probability: float


@dataclass(frozen=True)
class Reply:
    """A finished text and how it fits what the classifier says.

    Attributes:
        text: the caption or answer; where abstained, a sentence that says why there is none.
        finish_reason: why it ended.
        usage: tokens spent.
        agreement: whether the class that the text names is the classifier's; None where it names none.
        named_label: the class that the text names, or None.
        notice: a sentence about a disagreement, or None.
        abstained: whether the language model's text was withheld.
        choices: the options of a multiple-choice question, judged; None where there were none.
    """

    text: str
    finish_reason: FinishReason
    usage: TokenUsage
    agreement: Agreement | None = None
    named_label: str | None = None
    notice: str | None = None
    abstained: bool = False
    choices: tuple[ScoredChoice, ...] | None = None


async def write(
    generator: Generator,
    messages: Sequence[Message],
    options: GenerationOptions,
    verdict: Verdict | None,
    abstain_below: float = 0.0,
) -> AsyncGenerator[str | Reply, None]:
    """Let the generator answer, a part of the text at a time, and at the end the whole reply.

    Parts of a text that may be withheld are held back to its end, so that nothing given out is taken back.

    Args:
        generator: what answers.
        messages: the conversation.
        options: how.
        verdict: of the clip that the answer is about; None where there is none.
        abstain_below: η under which a text that contradicts the classifier is withheld.

    Raises:
        GenerationError: as the generator.
    """
    hold = verdict is not None and verdict.reliability < abstain_below
    text = ""
    last = Piece("", "stop", TokenUsage(0, 0))
    async with aclosing(generator.generate(messages, options)) as pieces:
        async for piece in pieces:
            text += piece.text
            last = piece
            if piece.text and not hold:
                yield piece.text
    reply = judged(text, last.finish_reason or "stop", last.usage or TokenUsage(0, 0), verdict, abstain=hold)
    if hold:
        yield reply.text
    yield reply


def judged(
    text: str, finish_reason: FinishReason, usage: TokenUsage, verdict: Verdict | None, *, abstain: bool
) -> Reply:
    """Hold a finished text against the classifier.

    Args:
        text: what the language model wrote.
        finish_reason: why it ended.
        usage: tokens spent.
        verdict: of the clip; None where there is none.
        abstain: withhold the text if it disagrees.
    """
    if verdict is None:
        return Reply(text, finish_reason, usage)
    agreement, named = compare(text, verdict.labels, verdict.best)
    label = None if named is None else verdict.labels[named]
    if agreement != "disagree":
        return Reply(text, finish_reason, usage, agreement, label)
    notice = f"The language model names {label}, the classifier {verdict.told()}."
    if not abstain:
        return Reply(text, finish_reason, usage, agreement, label, notice)
    return Reply(f"Not sure. {notice}", finish_reason, usage, agreement, label, notice, abstained=True)


async def choose(
    generator: Generator,
    messages: Sequence[Message],
    options: Sequence[str],
    verdict: Verdict | None,
    abstain_below: float = 0.0,
    *,
    letters: bool = False,
) -> Reply:
    """Answer a multiple-choice question by how probable each option is as the answer.

    Args:
        generator: what judges.
        messages: the conversation; its last text puts the question and the options.
        options: their texts.
        verdict: of the clip that the question is about; None where there is none.
        abstain_below: η under which an answer that contradicts the classifier is withheld.
        letters: judge the letters instead of the texts, for language models that are used to such questions.

    Raises:
        GenerationError: as the generator.
    """
    scores = await generator.score(messages, LETTERS[: len(options)] if letters else options)
    logprobs = np.array([score.logprob for score in scores.options], np.float32)
    probabilities = softmax(logprobs)
    choices = tuple(
        ScoredChoice(LETTERS[i], option, score.logprob, score.tokens, float(probabilities[i]))
        for i, (option, score) in enumerate(zip(options, scores.options, strict=True))
    )
    chosen = choices[int(probabilities.argmax())]
    text = f"{chosen.letter}. {chosen.text}"
    if verdict is None:
        return Reply(text, "stop", scores.usage, choices=choices)
    preferred = _preferred(options, verdict)
    if preferred is None:
        return Reply(text, "stop", scores.usage, choices=choices)
    label = verdict.labels[named] if (named := named_label(chosen.text, verdict.labels)) is not None else None
    # Options may say the same twice; whichever of them was chosen, it agrees.
    if chosen.text.split() == options[preferred].split():
        return Reply(text, "stop", scores.usage, "agree", label, choices=choices)
    notice = f"The language model chooses {text}, of these options the classifier finds {options[preferred]} likeliest."
    if verdict.reliability < abstain_below:
        told = f"Not sure. {notice}"
        return Reply(told, "stop", scores.usage, "disagree", label, notice, abstained=True, choices=choices)
    return Reply(text, "stop", scores.usage, "disagree", label, notice, choices=choices)


def _preferred(options: Sequence[str], verdict: Verdict) -> int | None:
    """The option whose class the classifier finds likeliest; None where no option names a class."""
    named = [named_label(option, verdict.labels, prefer=verdict.best) for option in options]
    scores = [-math.inf if i is None else float(verdict.logits[i]) for i in named]
    best = max(range(len(options)), key=lambda i: scores[i])
    return None if math.isinf(scores[best]) else best


async def answer(
    generator: Generator,
    messages: Sequence[Message],
    options: GenerationOptions,
    verdict: Verdict | None,
    abstain_below: float = 0.0,
) -> Reply:
    """The whole reply of `write`, at once."""
    async with aclosing(write(generator, messages, options, verdict, abstain_below)) as parts:
        async for part in parts:
            if isinstance(part, Reply):
                return part
    raise AssertionError("write ends with the whole reply")
