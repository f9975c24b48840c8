from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from sefar_training.adapter.distractors import DIFFICULTIES, DistractorError, Distractors
from sefar_training.data import ClassTable
from sefar_training.synthgym import CLASSES

SYNTHGYM = ClassTable(tuple(a.name for a in CLASSES), tuple(a.attributes for a in CLASSES))
TWINS = ClassTable(("(FX) split jump", "(BB) split jump", "(FX) leap", "(BB) turn", "(UB) kip"))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_the_four_options_have_different_texts(difficulty: str) -> None:
    distractors = Distractors(TWINS)
    logits = np.array([5, 4, 3, 2, 1], np.float32)
    for seed in range(20):
        wrong = distractors.wrong(difficulty, 0, rng(seed), logits)
        options, answer = distractors.options(0, wrong, rng(seed))
        assert options[answer] == "split jump"
        assert len(set(options)) == 4
        assert 1 not in wrong


def test_hard_options_are_the_most_probable_classes() -> None:
    distractors = Distractors(SYNTHGYM)
    logits = np.arange(36, dtype=np.float32)
    assert distractors.wrong("hard", 34, rng(), logits) == [35, 33, 32]
    assert distractors.confused_sets(np.stack([logits, -logits])) == [[35, 34, 33, 32], [0, 1, 2, 3]]
    # Classes that read alike are never options of one question.
    assert Distractors(TWINS).confused_sets(np.array([[5, 4, 3, 2, 1]], np.float32)) == [[0, 2, 3, 4]]
    with pytest.raises(ValueError, match="pass logits"):
        distractors.wrong("hard", 0, rng())


def test_near_options_differ_in_few_attributes() -> None:
    def distance(difficulty: str) -> float:
        distractors = Distractors(SYNTHGYM)
        found = []
        for action in CLASSES:
            for wrong in distractors.wrong(difficulty, action.index, rng(action.index)):
                other = CLASSES[wrong].attributes
                found.append(sum(other[name] != value for name, value in action.attributes.items()))
        return float(np.mean(found))

    assert distance("near") < 2 < 2.5 < distance("random")


def test_near_options_do_not_give_the_answer_away() -> None:
    """Every set of options comes equally often for each of its classes, so nothing can be learnt from the set."""
    distractors = Distractors(SYNTHGYM)
    sets: dict[frozenset[int], Counter[int]] = {}
    for answer in range(36):
        for seed in range(300):
            wrong = distractors.wrong("near", answer, rng(seed))
            sets.setdefault(frozenset([answer, *wrong]), Counter())[answer] += 1
    assert len(sets) > 20
    for answers in sets.values():
        assert len(answers) == 4
        assert max(answers.values()) - min(answers.values()) < 0.3 * sum(answers.values())


def test_random_ones_and_the_answers_place_are_drawn_evenly() -> None:
    distractors = Distractors(SYNTHGYM)
    places, drawn = [], set()
    for seed in range(200):
        wrong = distractors.wrong("random", 3, rng(seed))
        drawn.update(wrong)
        places.append(distractors.options(3, wrong, rng(seed))[1])
    assert drawn == set(range(36)) - {3}
    assert min(np.bincount(places, minlength=4)) > 30


def test_too_few_classes() -> None:
    with pytest.raises(DistractorError, match="only 3 different class names"):
        Distractors(ClassTable(("(FX) a", "(BB) a", "b", "c")))
