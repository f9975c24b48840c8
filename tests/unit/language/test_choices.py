from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sefar_serve.language.choices import join_choices, split_choices


def test_the_authors_format() -> None:
    text = "What move is this? A.pike sole circle with 0.5 turn B.round-off, salto off C.split jump D.A. wolf jump"
    assert split_choices(text) == (
        "What move is this?",
        ("pike sole circle with 0.5 turn", "round-off, salto off", "split jump", "A. wolf jump"),
    )


def test_spaces_and_line_breaks() -> None:
    options = ("split jump", "wolf jump", "1 turn", "salto")
    assert split_choices("Which?\nA. split jump\nB. wolf jump\n C. 1 turn\nD. salto\n") == ("Which?", options)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "What is it?",
        "A.one B.two C.three",
        "A. B. C. D.",
        "A.one B. C.three D.four",
        "D.one C.two B.three A.four",
        "NBA.one B.two C.three D.four",
    ],
)
def test_other_texts_are_not_such_questions(text: str) -> None:
    assert split_choices(text) is None


def test_a_full_stop_in_the_stem() -> None:
    assert split_choices("Is it Simone A. Smith? A.a B.b C.c D.d") == ("Is it Simone A. Smith?", ("a", "b", "c", "d"))


def test_a_long_text_full_of_letters_is_read_at_once() -> None:
    # The authors' own expression would try each A with each B with each C: 10^15 combinations.
    assert split_choices("A. B. C. " * 100_000) is None


words = st.text(alphabet="abcABCD. ", min_size=1, max_size=12).map(str.strip).filter(bool)


@given(words, st.tuples(words, words, words, words))
def test_joining_and_splitting_agrees_with_the_authors_expression(stem: str, options: tuple[str, ...]) -> None:
    text = join_choices(stem, options)
    marks = re.findall(r"(?:(?<=\s)|^)[A-D]\.", text)
    if len(marks) == 4:  # none of the texts looks like an option itself
        found = re.search(r"(?:(?<=\s)|^)A\.(.*) B\.(.*) C\.(.*) D\.(.*)$", text)
        assert found is not None
        assert split_choices(text) == (stem, found.groups())
