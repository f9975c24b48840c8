"""Captions and answers of a language model, compared with the classifier.

The gateway and the command line both use this module, so they give the same answers. If a text names another
class than the classifier, the reply says so; if the classifier's own reliability is low as well, the text may
be withheld. A clip that is unlike what the classifier knows is not described: the language model sees it only through
the classifier's features.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
from sefar_serve.recognition import Window
from sefar_serve.reliability import reliability, softmax


@dataclass(frozen=True, eq=False)
class Verdict:
    """The classifier's result for the clip that a text is about.

    Attributes:
        labels: names of the K classes.
        logits: float32 (K,).
        reliability: η in (0, 1].
        familiarity: share of held-out clips that were less typical, in [0, 1]; None if the model does not measure it.
        unfamiliar: whether the clip is unlike what the model knows.
    """

    labels: Sequence[str]
    logits: NDArray[np.float32]
    reliability: float
    familiarity: float | None = None
    unfamiliar: bool = False

    @classmethod
    def of(cls, window: Window, metadata: ModelMetadata) -> Verdict:
        """The result for one clip."""
        outputs = window.prediction.outputs
        eta = reliability(outputs.mc_logits)
        return cls(metadata.labels, outputs.logits, eta, window.familiarity, window.unfamiliar)

    @property
    def best(self) -> int:
        """Number of the most probable class."""
        return int(self.logits.argmax())

    def summary(self) -> str:
        """The most probable class, its score and the reliability, in words."""
        score = float(softmax(self.logits)[self.best])
        return f"{self.labels[self.best]} ({score:.0%}, reliability {self.reliability:.2f})"


@dataclass(frozen=True)
class ScoredChoice:
    """One option of a multiple-choice question and its score.

    Attributes:
        letter: A for the first option.
        text: text of the option.
        logprob: sum of the natural log-probabilities of its tokens, including the end token.
        tokens: number of these tokens.
        probability: softmax of `logprob` over the options.
    """

    letter: str
    text: str
    logprob: float
    tokens: int
    probability: float


@dataclass(frozen=True)
class Reply:
    """A finished text, and whether it agrees with the classifier.

    Attributes:
        text: the caption or answer; if abstained, a sentence that says why there is none.
        finish_reason: why the text ended.
        usage: tokens used.
        agreement: whether the text names the classifier's class; None if it names no class.
        named_label: name of the class that the text names, or None.
        notice: a sentence about a disagreement, or None.
        abstained: whether the language model's text was withheld.
        choices: the options of a multiple-choice question with their scores; None if there were no options.
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
    """Generate an answer: yields parts of the text as they come, and finally the whole reply.

    If the text may have to be withheld, nothing is yielded until it is complete.

    Args:
        generator: writes the answer.
        messages: the conversation.
        options: how to generate.
        verdict: the classifier's result for the clip that the answer is about; None if there is no clip.
        abstain_below: η below which a text that contradicts the classifier is withheld.

    Raises:
        GenerationError: from the generator.
    """
    if verdict is not None and verdict.unfamiliar:
        reply = not_described(verdict)
        yield reply.text
        yield reply
        return
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


def not_described(verdict: Verdict) -> Reply:
    """The reply about a clip that is unlike what the model knows; the language model is not asked."""
    share = verdict.familiarity or 0.0
    notice = f"This clip is unlike those that the model knows: its familiarity is {share:.1%}."
    return Reply(f"Not sure. {notice}", "stop", TokenUsage(0, 0), notice=notice, abstained=True)


def judged(
    text: str, finish_reason: FinishReason, usage: TokenUsage, verdict: Verdict | None, *, abstain: bool
) -> Reply:
    """Compare a finished text with the classifier.

    Args:
        text: the text that the language model wrote.
        finish_reason: why it ended.
        usage: tokens used.
        verdict: the classifier's result for the clip; None if there is no clip.
        abstain: withhold the text if it disagrees.
    """
    if verdict is None:
        return Reply(text, finish_reason, usage)
    agreement, named = compare(text, verdict.labels, verdict.best)
    label = None if named is None else verdict.labels[named]
    if agreement != "disagree":
        return Reply(text, finish_reason, usage, agreement, label)
    notice = f"The language model names {label}, the classifier {verdict.summary()}."
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
    """Answer a multiple-choice question with the option that is most probable as the answer.

    Args:
        generator: scores the options.
        messages: the conversation; its last text contains the question and the options.
        options: texts of the options.
        verdict: the classifier's result for the clip that the question is about; None if there is no clip.
        abstain_below: η below which an answer that contradicts the classifier is withheld.
        letters: score the letters instead of the texts, for language models trained on such questions.

    Raises:
        GenerationError: from the generator.
    """
    if verdict is not None and verdict.unfamiliar:
        return not_described(verdict)
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
    # Two options may have the same text; choosing either of them counts as agreement.
    if chosen.text.split() == options[preferred].split():
        return Reply(text, "stop", scores.usage, "agree", label, choices=choices)
    notice = f"The language model chooses {text}, but of these options the classifier prefers {options[preferred]}."
    if verdict.reliability < abstain_below:
        withheld = f"Not sure. {notice}"
        return Reply(withheld, "stop", scores.usage, "disagree", label, notice, abstained=True, choices=choices)
    return Reply(text, "stop", scores.usage, "disagree", label, notice, choices=choices)


def _preferred(options: Sequence[str], verdict: Verdict) -> int | None:
    """Number of the option whose class is most likely by the classifier; None if no option names a class."""
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
    """Generate an answer as `write` does, but return only the whole reply."""
    async with aclosing(write(generator, messages, options, verdict, abstain_below)) as parts:
        async for part in parts:
            if isinstance(part, Reply):
                return part
    raise AssertionError("write ends with the whole reply")
