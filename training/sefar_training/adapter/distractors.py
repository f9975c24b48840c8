"""The wrong options of a question: random classes, classes that the classifier confuses, or the most similar classes.

Options can give the answer away: if the other three options are chosen to resemble the right one, a language model that
sees nothing learns to spot it (it answered 86 % of such questions). Therefore training questions, and all but the
hard evaluation questions, use sets of classes that are chosen independently of which one is right.
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
"""``random``: random classes. ``hard``: the wrong classes that a classifier finds most probable for this clip.
``near``: the other classes of a fixed group of four that differ in few attributes."""

DIFFICULTIES: tuple[Difficulty, ...] = get_args(Difficulty)

WRONG = len(LETTERS) - 1

PARTITIONS, TRIES = 16, 10
"""Number of partitions of the classes into groups, each the best of this many random ones."""


class DistractorError(SefarError, ValueError):
    """There are too few classes for multiple-choice questions."""


class Distractors:
    """Chooses the wrong options of questions about the classes of a data set.

    Classes with the same name apart from the event are never options of the same question.

    Args:
        classes: classes of the data set.

    Raises:
        DistractorError: there are fewer than four different names.
    """

    def __init__(self, classes: ClassTable) -> None:
        self.texts = tuple(option_text(label) for label in classes.labels)
        self._same = np.unique([normalised(text) for text in self.texts], return_inverse=True)[1]
        if len(set(self._same)) <= WRONG:
            raise DistractorError(
                f"questions need {WRONG + 1} options, but there are only {len(set(self._same))} different class names"
            )
        attributes = [class_attributes(classes, i) for i in range(len(classes.labels))]
        self._distance = np.array(
            [[sum(a.get(k) != b.get(k) for k in a.keys() | b.keys()) for b in attributes] for a in attributes]
        )

    def wrong(
        self, difficulty: Difficulty, answer: int, rng: np.random.Generator, logits: NDArray[np.float32] | None = None
    ) -> list[int]:
        """Choose three wrong classes.

        Args:
            difficulty: how they are chosen.
            answer: the right class.
            rng: source of the draws of ``random`` and ``near``.
            logits: a classifier's scores for the clip, (K,); needed by ``hard``.

        Raises:
            ValueError: ``hard`` without logits.
        """
        if difficulty == "near":
            groups = self._groups_of(answer)
            if groups:
                return [i for i in groups[int(rng.integers(len(groups)))] if i != answer]
        if difficulty == "hard":
            if logits is None:
                raise ValueError("hard distractors need a classifier's scores; pass logits")
            order = np.argsort(-logits, kind="stable")
        else:
            order = rng.permutation(len(self.texts))
        return self._different(order.tolist(), WRONG, {int(self._same[answer])})

    def confused_sets(self, logits: NDArray[np.float32]) -> list[list[int]]:
        """For each clip the four classes that a classifier finds most probable, best first.

        Args:
            logits: the classifier's scores, (N,K).
        """
        return [self._different(row, WRONG + 1, set()) for row in np.argsort(-logits, axis=1, kind="stable").tolist()]

    def _different(self, candidates: Sequence[int], count: int, seen: set[int]) -> list[int]:
        """The first `count` candidates with different names."""
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
        """Divide the classes into groups of four similar ones; a few may be left over."""
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
        """The texts of the answer and the wrong classes in random order, and the position of the answer."""
        order = rng.permutation(len(LETTERS)).tolist()
        classes = [answer, *wrong]
        a, b, c, d = (self.texts[classes[i]] for i in order)
        return (a, b, c, d), order.index(0)
