"""The wrong options of a question: at random, what the classifier confuses, or what differs least."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ..data import ClassTable
from .attributes import class_attributes, option_text
from .questions import LETTERS, normalised

Difficulty = Literal["random", "hard", "near"]
"""Random classes; those that a classifier finds most probable beside the right one; those that differ in the fewest
attributes."""

DIFFICULTIES: tuple[Difficulty, ...] = get_args(Difficulty)

WRONG = len(LETTERS) - 1


class DistractorError(ValueError):
    """There are too few classes to ask a question about one."""


class Distractors:
    """Chooses the wrong options of questions about one data set's classes.

    Classes whose names read alike without their event are never options of one question.

    Args:
        classes: of the data set.

    Raises:
        DistractorError: fewer than four of them read differently.
    """

    def __init__(self, classes: ClassTable) -> None:
        self.texts = tuple(option_text(label) for label in classes.labels)
        self._same = np.unique([normalised(text) for text in self.texts], return_inverse=True)[1]
        if len(set(self._same)) <= WRONG:
            raise DistractorError(
                f"questions have {WRONG + 1} options, but only {len(set(self._same))} classes have names of their own"
            )
        attributes = [class_attributes(classes, i) for i in range(len(classes.labels))]
        self._distance = np.array(
            [[sum(a.get(k) != b.get(k) for k in a.keys() | b.keys()) for b in attributes] for a in attributes]
        )

    def wrong(
        self,
        difficulty: Difficulty,
        answer: int,
        rng: np.random.Generator,
        logits: NDArray[np.float32] | None = None,
        among: int = WRONG,
    ) -> list[int]:
        """Three classes that are not the answer.

        Args:
            difficulty: how they are chosen.
            answer: the right class.
            rng: what decides between equals, and all of ``random``.
            logits: a classifier's scores of the clip, (K,); needed by ``hard``.
            among: ``hard`` draws from so many of the most probable wrong classes; 3 takes exactly the highest.

        Raises:
            ValueError: ``hard`` without logits.
        """
        order = rng.permutation(len(self.texts))
        if difficulty == "near":
            order = order[np.argsort(self._distance[answer, order], kind="stable")]
        elif difficulty == "hard":
            if logits is None:
                raise ValueError("hard distractors are drawn from a classifier's scores: give logits")
            order = np.argsort(-logits, kind="stable")
        chosen: list[int] = []
        seen = {int(self._same[answer])}
        wanted = max(WRONG, among) if difficulty == "hard" else WRONG
        for candidate in order.tolist():
            if int(self._same[candidate]) not in seen:
                seen.add(int(self._same[candidate]))
                chosen.append(candidate)
            if len(chosen) == wanted:
                break
        return chosen if len(chosen) == WRONG else [chosen[i] for i in rng.choice(len(chosen), WRONG, replace=False)]

    def options(
        self, answer: int, wrong: Sequence[int], rng: np.random.Generator
    ) -> tuple[tuple[str, str, str, str], int]:
        """Texts of the answer and the wrong classes in random order, and the place of the answer."""
        order = rng.permutation(len(LETTERS)).tolist()
        classes = [answer, *wrong]
        a, b, c, d = (self.texts[classes[i]] for i in order)
        return (a, b, c, d), order.index(0)
