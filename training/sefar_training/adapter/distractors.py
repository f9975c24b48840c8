"""The wrong options of a question: at random, what the classifier confuses, or what differs least.

Options can betray the answer: of four classes the one that the other three resemble is likely to be it, and a language
model that sees nothing learns to find it (it answered 86 % of such questions). So what a model is trained on, and what
it is asked beside the hardest questions, are sets of classes chosen without regard to which of them is right.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from sefar_serve.errors import SefarError

from ..data import ClassTable
from .attributes import class_attributes, option_text
from .questions import LETTERS, normalised

Difficulty = Literal["random", "hard", "near"]
"""Random classes; those that a classifier finds most probable on this very clip beside the right one; the others of a
group of four classes that differ in few attributes, whichever of them is right."""

DIFFICULTIES: tuple[Difficulty, ...] = get_args(Difficulty)

WRONG = len(LETTERS) - 1

PARTITIONS, TRIES = 16, 10
"""Ways to part the classes into groups, each the best of so many."""


class DistractorError(SefarError, ValueError):
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
        self, difficulty: Difficulty, answer: int, rng: np.random.Generator, logits: NDArray[np.float32] | None = None
    ) -> list[int]:
        """Three classes that are not the answer.

        Args:
            difficulty: how they are chosen.
            answer: the right class.
            rng: what ``random`` and ``near`` are drawn from.
            logits: a classifier's scores of the clip, (K,); needed by ``hard``.

        Raises:
            ValueError: ``hard`` without logits.
        """
        if difficulty == "near":
            groups = self._groups_of(answer)
            if groups:
                return [i for i in groups[int(rng.integers(len(groups)))] if i != answer]
        if difficulty == "hard":
            if logits is None:
                raise ValueError("hard distractors are drawn from a classifier's scores: give logits")
            order = np.argsort(-logits, kind="stable")
        else:
            order = rng.permutation(len(self.texts))
        return self._different(order.tolist(), WRONG, {int(self._same[answer])})

    def confused_sets(self, logits: NDArray[np.float32]) -> list[list[int]]:
        """For each clip the four classes that a classifier finds most probable, best first.

        Args:
            logits: its scores, (N,K).
        """
        return [self._different(row, WRONG + 1, set()) for row in np.argsort(-logits, axis=1, kind="stable").tolist()]

    def _different(self, candidates: Sequence[int], count: int, seen: set[int]) -> list[int]:
        """The first so many candidates that read differently."""
        chosen: list[int] = []
        for candidate in candidates:
            if len(chosen) < count and int(self._same[candidate]) not in seen:
                seen.add(int(self._same[candidate]))
                chosen.append(candidate)
        return chosen

    def _groups_of(self, answer: int) -> list[list[int]]:
        return [group for partition in self._partitions for group in partition if answer in group]

    @cached_property
    def _partitions(self) -> list[list[list[int]]]:
        rng = np.random.default_rng(0)
        return [
            min((self._partition(rng) for _ in range(TRIES)), key=lambda groups: sum(map(self._spread, groups)))
            for _ in range(PARTITIONS)
        ]

    def _partition(self, rng: np.random.Generator) -> list[list[int]]:
        """Part the classes into fours of small distance; a few may be left over."""
        left = rng.permutation(len(self.texts)).tolist()
        groups = []
        while len(left) > WRONG:
            nearest = sorted(left, key=self._distance[left[0]].__getitem__)
            group = self._different([left[0], *nearest], WRONG + 1, set())
            if len(group) <= WRONG:
                left.pop(0)
                continue
            groups.append(group)
            left = [i for i in left if i not in group]
        return groups

    def _spread(self, group: Sequence[int]) -> int:
        return int(self._distance[np.ix_(group, group)].sum())

    def options(
        self, answer: int, wrong: Sequence[int], rng: np.random.Generator
    ) -> tuple[tuple[str, str, str, str], int]:
        """Texts of the answer and the wrong classes in random order, and the place of the answer."""
        order = rng.permutation(len(LETTERS)).tolist()
        classes = [answer, *wrong]
        a, b, c, d = (self.texts[classes[i]] for i in order)
        return (a, b, c, d), order.index(0)
