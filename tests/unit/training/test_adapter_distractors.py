from __future__ import annotations

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
def test_four_options_that_all_read_differently(difficulty: str) -> None:
    distractors = Distractors(TWINS)
    logits = np.array([5, 4, 3, 2, 1], np.float32)
    for seed in range(20):
        wrong = distractors.wrong(difficulty, 0, rng(seed), logits)
        options, answer = distractors.options(0, wrong, rng(seed))
        assert options[answer] == "split jump"
        assert len(set(options)) == 4
        assert 1 not in wrong


def test_hard_ones_are_what_the_classifier_finds_likeliest() -> None:
    distractors = Distractors(SYNTHGYM)
    logits = np.arange(36, dtype=np.float32)
    assert distractors.wrong("hard", 34, rng(), logits) == [35, 33, 32]
    drawn = {i for seed in range(60) for i in distractors.wrong("hard", 34, rng(seed), logits, among=5)}
    assert drawn == {35, 33, 32, 31, 30}
    with pytest.raises(ValueError, match="give logits"):
        distractors.wrong("hard", 0, rng())


def test_near_ones_differ_in_the_fewest_attributes() -> None:
    distractors = Distractors(SYNTHGYM)
    tucked = next(a for a in CLASSES if a.name == "(FX) salto forward tucked")
    for seed in range(10):
        for wrong in distractors.wrong("near", tucked.index, rng(seed)):
            other = CLASSES[wrong].attributes
            assert sum(other[name] != value for name, value in tucked.attributes.items()) == 1
    # Five classes are one attribute away; which three are taken is drawn.
    assert len({i for seed in range(40) for i in distractors.wrong("near", tucked.index, rng(seed))}) == 5


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
    with pytest.raises(DistractorError, match="only 3 classes have names of their own"):
        Distractors(ClassTable(("(FX) a", "(BB) a", "b", "c")))
