"""Multiple-choice questions in the authors' format: a JSON object with stem and options of a question in one string."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sefar_serve.atomic import atomic_file
from sefar_serve.errors import SefarError
from sefar_serve.language.choices import join_choices, split_choices

LETTERS = "ABCD"


class QuestionError(SefarError, ValueError):
    """A question cannot be read or written; the message names the question."""


class Question(BaseModel):
    """One question about one clip.

    Attributes:
        id: unique in its file.
        stem: the question itself, e.g. ``What gymnastics move is this athlete performing?``.
        options: the four texts to choose from.
        answer: number of the right option, 0 to 3.
        video: the clip: its name in a list of clips, or that name without folders and suffix.
        dataset: data set of the clip.
        answer_type: the authors' word for the kind of question.
        frame_length: frames of the clip; None if unknown.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    stem: str
    options: tuple[str, str, str, str]
    answer: int = Field(ge=0, lt=len(LETTERS))
    video: str
    dataset: str = ""
    answer_type: str = "what"
    frame_length: int | None = None

    @property
    def text(self) -> str:
        """Stem and options in one string, as in the prompt of a language model."""
        return join_choices(self.stem, self.options)

    @property
    def acceptable(self) -> frozenset[int]:
        """The options with the same text as the answer; all of them count as right."""
        texts = [normalised(option) for option in self.options]
        return frozenset(i for i, text in enumerate(texts) if text == texts[self.answer])

    @property
    def has_duplicates(self) -> bool:
        """Whether two options have the same text, which changes the chance of guessing right."""
        return len({normalised(option) for option in self.options}) < len(self.options)


class QuestionCounts(BaseModel):
    """What a file of questions contains.

    Attributes:
        questions: number of questions.
        duplicates: questions with duplicate options.
        duplicate_answers: questions whose right option is duplicated.
        letters: how often each letter is right.
        datasets: number of questions of each data set.
    """

    questions: int
    duplicates: int
    duplicate_answers: int
    letters: dict[str, int]
    datasets: dict[str, int]


def normalised(text: str) -> str:
    """A text for comparison: in lower case and with normalised white space."""
    return " ".join(text.casefold().split())


def parse_text(text: str) -> tuple[str, tuple[str, str, str, str]]:
    """Split a text into stem and options.

    Raises:
        QuestionError: it does not contain four options.
    """
    found = split_choices(text)
    if found is None:
        raise QuestionError(f"{text!r} does not end with options `A.… B.… C.… D.…`")
    stem, (a, b, c, d) = found
    return stem, (a, b, c, d)


def read_questions(path: Path) -> list[Question]:
    """Read a file of questions.

    Raises:
        QuestionError: it is not a JSON object of questions, or a question is malformed.
    """
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise QuestionError(f"{path} is not JSON: {error}") from error
    if not isinstance(table, dict):
        raise QuestionError(f"{path} is not a JSON object with question ids as keys")
    return [_question(name, fields, path) for name, fields in table.items()]


def _question(name: str, fields: Any, path: Path) -> Question:
    try:
        stem, options = parse_text(fields["question"])
        return Question(
            id=str(fields.get("question_id", name)),
            stem=stem,
            options=options,
            answer=LETTERS.index(fields["answer"]),
            video=fields["video"],
            dataset=fields.get("dataset", ""),
            answer_type=fields.get("answer_type", "what"),
            frame_length=fields.get("frame_length"),
        )
    except (KeyError, AttributeError, TypeError) as error:
        raise QuestionError(f"{path}, question {name}: question, answer and video must be strings ({error})") from error
    except (QuestionError, ValidationError, ValueError) as error:
        raise QuestionError(f"{path}, question {name}: {error}") from error


def write_questions(questions: Sequence[Question], path: Path) -> Path:
    """Write a file of questions atomically.

    Returns:
        The path.

    Raises:
        QuestionError: the format cannot represent a question, e.g. an option with `` B.`` in it; or an id is repeated.
    """
    table: dict[str, Mapping[str, Any]] = {}
    for question in questions:
        if question.id in table:
            raise QuestionError(f"the id {question.id} is used twice")
        if not _survives(question):
            raise QuestionError(
                f"question {question.id}: the format cannot represent {question.text!r}; remove line breaks and text "
                "that looks like the start of an option (` B.`) from stem and options"
            )
        table[question.id] = {
            "answer": LETTERS[question.answer],
            "question": question.text,
            "answer_type": question.answer_type,
            "question_id": question.id,
            "dataset": question.dataset,
            "video": question.video,
            **({} if question.frame_length is None else {"frame_length": question.frame_length}),
        }
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as new:
        new.write_text(json.dumps(table, indent=4, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def _survives(question: Question) -> bool:
    try:
        return parse_text(question.text) == (question.stem, question.options)
    except QuestionError:
        return False


def count_questions(questions: Sequence[Question]) -> QuestionCounts:
    """Count questions, duplicate options and right letters."""
    letters = Counter(question.answer for question in questions)
    return QuestionCounts(
        questions=len(questions),
        duplicates=sum(question.has_duplicates for question in questions),
        duplicate_answers=sum(len(question.acceptable) > 1 for question in questions),
        letters={letter: letters[i] for i, letter in enumerate(LETTERS)},
        datasets=dict(Counter(question.dataset for question in questions)),
    )
