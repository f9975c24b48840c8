"""The wording of prompts and questions, and of answers about single attributes."""

from __future__ import annotations

from collections.abc import Callable

from sefar_serve.language import CAPTION_PROMPT

from ..captions import PLACES
from .attributes import LABEL, Attributes

CAPTION_PROMPTS = (
    CAPTION_PROMPT,
    "What is the athlete doing?",
    "Describe this video.",
    "Write a caption for this clip.",
    "What happens in this video?",
    "Caption this.",
    "What do you see?",
    "Describe what the gymnast does in one sentence.",
)
"""Prompts for a caption; the first one is used in evaluation."""

STEMS = (
    "What gymnastics move is this athlete performing?",
    "Which action does the clip show?",
    "What is the athlete doing?",
    "Which of these is shown?",
)
"""Stems of multiple-choice questions; the first one is the authors' and is used in evaluation."""

LETTER_INSTRUCTION = "Answer with the letter of the right option only."
"""Added to a question in the mode ``letter``."""


def _count(value: str | float, one: str, several: str) -> str:
    number = float(value)
    if number == 0:
        return f"no {one}"
    return f"{number:g} {one if number == 1 else several}"


_ATTRIBUTE_QUESTIONS: dict[str, tuple[tuple[str, ...], Callable[[str | float], str]]] = {
    "event": (
        ("On which apparatus is this?", "Where does this take place?", "Which apparatus is used?"),
        lambda value: PLACES.get(str(value), str(value)),
    ),
    "direction": (
        ("In which direction does the gymnast go?", "Is it forward or backward?", "Which direction is this?"),
        lambda value: "no direction" if value == "none" else str(value),
    ),
    "position": (
        ("What is the position of the body?", "Which body position is shown?", "How is the body held?"),
        str,
    ),
    "twists": (
        ("How many turns are there?", "How many turns does the athlete make?", "How many twists?"),
        lambda value: _count(value, "turn", "turns"),
    ),
    "saltos": (
        ("How many saltos are there?", "How many saltos does the athlete make?", "Is there a salto?"),
        lambda value: _count(value, "salto", "saltos"),
    ),
}


def attribute_questions(attributes: Attributes) -> list[tuple[tuple[str, ...], str]]:
    """The questions about a class: for each attribute its wordings and the answer.

    Unknown attributes of other data sets are asked about by name.
    """
    asked = []
    for name, value in attributes.items():
        if name == LABEL:
            continue
        ways, answer = _ATTRIBUTE_QUESTIONS.get(name, ((f"What is the {name}?",), str))
        asked.append((ways, answer(value)))
    return asked
