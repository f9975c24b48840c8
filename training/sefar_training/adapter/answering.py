"""Captions and answers from an adapter, in batches. Multiple choice is answered in one of three ways."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Literal, TypeVar

import torch
from tqdm import tqdm

from sefar_serve.language.protocol import ClipFeatures, FinishReason, GenerationOptions, Message
from sefar_serve.mllm.adapter import Adapter
from sefar_serve.mllm.batch import Row, batched, generate
from sefar_serve.mllm.prompt import Prompt, make_prompt, option_ids

from .features import Features
from .questions import LETTERS, Question, normalised
from .sentences import CAPTION_PROMPTS, LETTER_INSTRUCTION

AnswerMode = Literal["loglik", "letter", "generate"]
"""How a question is answered: the most probable option text, the most probable letter, or free generation."""

MAX_TOKENS = 64
"""Longest caption or generated answer."""

T = TypeVar("T")


class Speaker:
    """Asks an adapter about clips.

    Args:
        adapter: the model.
        clips: features of the clips; the model sees the first view.
        batch_size: clips per batch.
        progress: show a progress bar.
    """

    def __init__(self, adapter: Adapter, clips: Features, batch_size: int = 32, progress: bool = False) -> None:
        self._adapter = adapter
        self._clips = clips
        self._batch_size = batch_size
        self._progress = progress

    def captions(self) -> list[str]:
        """Caption each clip with greedy decoding."""
        prompts = (self._prompt(i, CAPTION_PROMPTS[0]) for i in range(len(self._clips)))
        return self._speak(prompts, len(self._clips), "captions")

    def answers(self, questions: Sequence[tuple[Question, int]], mode: AnswerMode = "loglik") -> list[int | None]:
        """Choose an option for each question; None if the generated answer is none of the options.

        Args:
            questions: questions, each with the number of its clip.
            mode: how questions are answered.
        """
        if mode == "generate":
            prompts = (self._prompt(clip, question.text) for question, clip in questions)
            said = self._speak(prompts, len(questions), "answers")
            return [chosen_option(text, question) for text, (question, _) in zip(said, questions, strict=True)]
        chosen: list[int | None] = []
        for some in self._batches(questions, len(questions), "questions"):
            prompts_of = [self._question_prompt(clip, question, mode) for question, clip in some]
            texts = [LETTERS if mode == "letter" else question.options for question, _ in some]
            scores = score_batch(self._adapter, prompts_of, [option_ids(self._adapter.processor, t) for t in texts])
            chosen.extend(max(range(len(row)), key=row.__getitem__) for row in scores)
        return chosen

    def _prompt(self, clip: int, text: str) -> Prompt:
        seen = ClipFeatures(self._clips.embedding[clip, 0], self._clips.tokens[clip, 0])
        return make_prompt(self._adapter.processor, [Message("user", (seen, text))])

    def _question_prompt(self, clip: int, question: Question, mode: AnswerMode) -> Prompt:
        return self._prompt(clip, f"{question.text}\n{LETTER_INSTRUCTION}" if mode == "letter" else question.text)

    def _speak(self, prompts: Iterator[Prompt], count: int, what: str) -> list[str]:
        said: list[list[str]] = []
        options = GenerationOptions(max_tokens=MAX_TOKENS)

        def take(parts: list[str], text: str, _: FinishReason | None) -> None:
            parts.append(text)

        for some in self._batches(prompts, count, what):
            texts: list[list[str]] = [[] for _ in some]
            emits: list[Callable[[str, FinishReason | None], None]] = [partial(take, parts) for parts in texts]
            generate(self._adapter, [Row(p, options, emit) for p, emit in zip(some, emits, strict=True)])
            said.extend(texts)
        return ["".join(parts).strip() for parts in said]

    def _batches(self, items: Iterator[T] | Sequence[T], count: int, what: str) -> Iterator[list[T]]:
        with tqdm(total=count, desc=what, disable=not self._progress) as bar:
            waiting: list[T] = []
            for item in items:
                waiting.append(item)
                if len(waiting) == self._batch_size:
                    yield waiting
                    bar.update(len(waiting))
                    waiting = []
            if waiting:
                yield waiting
                bar.update(len(waiting))


@torch.inference_mode()
def score_batch(
    adapter: Adapter, prompts: Sequence[Prompt], options: Sequence[Sequence[list[int]]]
) -> list[list[float]]:
    """Sum the log-probabilities of each option after its prompt, like `sefar_serve.mllm.batch.score` for many prompts.

    Args:
        adapter: the model.
        prompts: the questions.
        options: for each question the token ids of its options, including the end token.

    Returns:
        For each prompt the sums of its options.
    """
    rows = [prompt.followed_by(option) for prompt, its in zip(prompts, options, strict=True) for option in its]
    flat = [option for its in options for option in its]
    longest = max(map(len, flat))
    logits = adapter.model(**batched(adapter, rows), logits_to_keep=longest + 1).logits.float()
    log_probabilities = logits.log_softmax(dim=-1)[:, :-1]
    sums = iter(
        [
            float(row[longest - len(ids) :].gather(1, torch.tensor(ids, device=row.device)[:, None]).sum())
            for row, ids in zip(log_probabilities, flat, strict=True)
        ]
    )
    return [[next(sums) for _ in its] for its in options]


def chosen_option(text: str, question: Question) -> int | None:
    """Match a generated answer with an option, by its text or by its letter at the beginning; None for neither."""
    said = normalised(text).strip(". ")
    for i, option in enumerate(question.options):
        if said == normalised(option).strip(". "):
            return i
    for i, letter in enumerate(LETTERS.lower()):
        if said == letter or said.startswith((f"{letter}.", f"{letter})", f"{letter}:")):
            return i
    return None
