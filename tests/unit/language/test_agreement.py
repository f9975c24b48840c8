from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from sefar_serve.language.agreement import compare, named_label

LABELS = (
    "(FX) salto backward tucked",
    "(FX) double salto backward tucked",
    "(FX) split jump",
    "(FX) split jump with 1 turn",
    "(BB) split jump",
    "(BB) 1 turn on one leg",
)


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("The athlete shows salto backward tucked on the floor.", 0),
        ("The athlete shows double salto backward tucked on the floor.", 1),
        ("A SPLIT  jump with 1 turn!", 3),
        ("This is a split jump, done on the floor.", 2),
        ("1 turn on one leg", 5),
        ("The athlete shows a **split jump with 1 turn**.", 3),
        ("This is a “split jump” (on the floor).", 2),
        ("salto , backward - tucked", 0),
        ("a split jumper", None),
        ("salto forward tucked", None),
        ("", None),
    ],
)
def test_the_longest_label_in_a_text(text: str, label: int | None) -> None:
    assert named_label(text, LABELS) == label


def test_the_classifier_decides_between_labels_that_read_alike() -> None:
    assert named_label("a split jump", LABELS, prefer=4) == 4
    assert compare("a split jump", LABELS, best=4) == ("agree", 4)
    assert compare("a split jump", LABELS, best=2) == ("agree", 2)
    assert compare("a split jump", LABELS, best=3) == ("disagree", 2)


def test_a_label_without_words_matches_no_text() -> None:
    assert named_label("a split jump", ("(FX) —", "(FX) split jump")) == 1
    assert named_label("—", ("(FX) —",)) is None


@given(st.sampled_from(range(len(LABELS))), st.sampled_from(("{}", "**{}**", "“{}”", "({})", "- {}.", "`{}`,")))
def test_punctuation_around_a_name_is_ignored(label: int, about: str) -> None:
    assert compare(f"It is {about.format(LABELS[label][5:])} then", LABELS, label) == ("agree", label)


def test_a_text_that_names_nothing_is_not_judged() -> None:
    assert compare("two turns", LABELS, best=0) == (None, None)


words = st.text(alphabet="abc ", min_size=1).map(str.strip).filter(bool)


@given(st.lists(words, min_size=1, max_size=6), st.data())
def test_a_text_that_is_a_label_names_it_or_one_that_reads_alike(labels: list[str], data: st.DataObject) -> None:
    best = data.draw(st.integers(0, len(labels) - 1))
    assert compare(labels[best], labels, best) == ("agree", best)
