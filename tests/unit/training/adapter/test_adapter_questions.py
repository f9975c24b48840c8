from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from sefar_serve.cli import app
from sefar_training.adapter.questions import (
    Question,
    QuestionError,
    count_questions,
    parse_text,
    read_questions,
    write_questions,
)

OFFICIAL = "official/qa_all99_5_train.json"


def question(**changes: object) -> Question:
    fields = {"id": "7", "stem": "Which?", "options": ("a", "b", "c", "d"), "answer": 2, "video": "clip"}
    return Question(**{**fields, **changes})


def test_the_authors_questions_parse(shared_data: Path) -> None:
    questions = read_questions(shared_data / OFFICIAL)
    counts = count_questions(questions)
    assert (counts.questions, counts.duplicates, counts.duplicate_answers) == (1316, 15, 6)
    assert counts.letters == {"A": 332, "B": 327, "C": 338, "D": 319}
    assert counts.datasets == {"finegym": 1316}
    assert {q.stem for q in questions} == {"What gymnastics move is this athlete performing?"}
    first = questions[0]
    assert first.options[first.answer] == "pike sole circle backward with 1 turn to handstand"
    assert first.options[3] == "round-off, flic-flac on, stretched salto backward off"
    # Options with full stops in them, which splitting on "." would cut.
    assert any("2.5 turn" in option for q in questions for option in q.options)


def test_the_authors_file_is_written_as_it_was(shared_data: Path, tmp_path: Path) -> None:
    official = shared_data / OFFICIAL
    written = write_questions(read_questions(official), tmp_path / "again.json")
    assert json.loads(written.read_text()) == json.loads(official.read_text())


def test_full_stops_inside_options() -> None:
    stem, options = parse_text("Turns? A.salto, 0.5 turn B.1.5 turn. C.A.B. D.vault no. 2")
    assert stem == "Turns?"
    assert options == ("salto, 0.5 turn", "1.5 turn.", "A.B.", "vault no. 2")


def test_either_of_two_equal_options_is_right() -> None:
    asked = question(options=("split jump", "wolf jump", "Split  jump", "leap"), answer=0)
    assert asked.acceptable == {0, 2} and asked.has_duplicates
    others = question(options=("split jump", "wolf jump", "Split  jump", "leap"), answer=1)
    assert others.acceptable == {1} and others.has_duplicates
    counts = count_questions([asked, others, question()])
    assert (counts.duplicates, counts.duplicate_answers) == (2, 1)


@given(
    stem=st.text(st.characters(codec="utf-8", exclude_characters="\n\r"), min_size=1),
    options=st.tuples(*[st.text(st.characters(codec="utf-8"), max_size=20)] * 4),
    answer=st.integers(0, 3),
)
def test_what_is_written_is_read_back_or_refused(
    tmp_path_factory: pytest.TempPathFactory, stem: str, options: tuple[str, str, str, str], answer: int
) -> None:
    asked = question(stem=stem, options=options, answer=answer)
    file = tmp_path_factory.getbasetemp() / "written.json"
    try:
        write_questions([asked], file)
    except QuestionError:
        assert parse_or_none(asked.text) != (stem, options)
    else:
        assert read_questions(file) == [asked]


def parse_or_none(text: str) -> object:
    try:
        return parse_text(text)
    except QuestionError:
        return None


def test_what_cannot_be_written_is_named_and_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(QuestionError, match="question 7: the format cannot represent"):
        write_questions([question(options=("a", "b B.b", "c", "d"))], tmp_path / "q.json")
    with pytest.raises(QuestionError, match="the id 7 is used twice"):
        write_questions([question(), question()], tmp_path / "q.json")
    assert list(tmp_path.iterdir()) == []


GOOD = {"question": "Which? A.a B.b C.c D.d", "answer": "A", "video": "v"}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "is not JSON"),
        ("[]", "is not a JSON object"),
        ({"x": {**GOOD, "question": "Which? A.a B.b C.c"}}, "question x: .*does not end with options"),
        ({"x": {**GOOD, "answer": "E"}}, "question x"),
        ({"x": {"question": GOOD["question"], "answer": "A"}}, "question x: question, answer and video must be"),
        ({"x": 3}, "question x: question, answer and video"),
        ({"x": {**GOOD, "frame_length": "many"}}, "question x"),
    ],
)
def test_malformed_files_are_named(tmp_path: Path, content: object, told: str) -> None:
    file = tmp_path / "q.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(QuestionError, match=told):
        read_questions(file)


def test_the_command_counts(tmp_path: Path) -> None:
    file = write_questions([question(), question(id="8", options=("a", "a", "b", "c"), answer=1)], tmp_path / "q.json")
    result = CliRunner().invoke(app, ["adapter", "questions", str(file)])
    assert result.exit_code == 0
    assert "2 questions (unnamed 2); right answers: A 0, B 1, C 1, D 0" in result.output
    assert "1 questions have duplicate options; in 1 of them" in result.output
    as_json = CliRunner().invoke(app, ["adapter", "questions", str(file), "--json"])
    assert json.loads(as_json.output)["letters"] == {"A": 0, "B": 1, "C": 1, "D": 0}
